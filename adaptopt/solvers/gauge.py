"""What a check of a run measures: the host computes at once, a device defers to the next check."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from ..arrays import Array
from ..kernels.stopping import Measurement
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer

if TYPE_CHECKING:
    from ..cuda.gauge import Value

# What an objective returned: a number, or where it lies on a device.
Returned: TypeAlias = "float | Value"


class Gauge(Protocol):
    """Measures the iterates of a run.

    Attributes
    ----------
    nonfinite : int or None
        The first step whose value or gradient is known not to be finite.
    pending : bool
        Whether the value taken in last has not been read.
    """

    nonfinite: int | None

    @property
    def pending(self) -> bool:
        """Whether the value taken in last has not been read."""

    def value(self, returned: Any) -> float:
        """Take in the value at the iterate; return it with the penalty, NaN if it is deferred."""

    def watch(self, f: float, g: Array, t: int) -> None:
        """Remember step ``t`` if the value taken in last, or the gradient, is not finite."""

    def leave(self) -> None:
        """Keep the value of the iterate that a step leaves."""

    def measure(self, f: float, g: Array, previous_x: Array | None) -> Measurement:
        """Measure the iterate of value ``f``, if that is known, and gradient ``g``."""

    def settle(self) -> None:
        """Forget the value taken in last: it has been read."""

    def update(self) -> None:
        """Learn whether anything since the last check was not finite."""

    def add(self, loss_sum: float, returned: Any, rows: int) -> float:
        """Return a sum of losses with that of a batch of so many rows."""

    def count(self, t: int, goes_on: bool) -> None:
        """Add up what `add` has deferred, for step ``t``; this may be repeated."""

    def begin(self, loss_sum: float) -> None:
        """Go on from a sum of losses."""

    def losses(self, loss_sum: float, rows: int, t: int) -> float:
        """Return the sum of the losses of so many rows at step ``t``, with those deferred."""

    def penalty(self, x: Array) -> float:
        """Return what the map and the method add to the objective at a flat point."""

    def number(self, returned: Any) -> float:
        """Return what a function returned as a number."""


class HostGauge:
    """Measures at once; see `Gauge`."""

    pending = False

    def __init__(self, optimizer: Optimizer, penalised: bool) -> None:
        self._optimizer, self._penalised = optimizer, penalised
        self._plan = optimizer._plan()
        self.nonfinite: int | None = None

    def value(self, returned: float) -> float:
        """Return the value, with the penalty."""
        return returned + self._plan.penalty_at_x() if self._penalised else returned

    def watch(self, f: float, g: np.ndarray, t: int) -> None:
        """Remember step ``t`` if its value or gradient is not finite."""
        if self.nonfinite is None and not is_finite(f, g):
            self.nonfinite = t

    def leave(self) -> None:
        """Do nothing: values are known at once."""

    def measure(self, f: float, g: np.ndarray, previous_x: np.ndarray | None) -> Measurement:
        """Measure the iterate."""
        moved, x = math.nan, self._plan.x
        norm = float(self._optimizer.gradient_norm(g.reshape(self._plan.shape)))
        if previous_x is not None:
            moved = float(np.max(np.abs(x - previous_x)))
        return Measurement(f, norm, moved, math.nan)

    def settle(self) -> None:
        """Do nothing: no value is kept."""

    def update(self) -> None:
        """Do nothing: all is known."""

    def add(self, loss_sum: float, returned: float, rows: int) -> float:
        """Return the sum with the loss of a batch."""
        return loss_sum + returned * rows

    def count(self, t: int, goes_on: bool) -> None:
        """Do nothing: no loss was deferred."""

    def begin(self, loss_sum: float) -> None:
        """Do nothing: the sum is handed over each time."""

    def losses(self, loss_sum: float, rows: int, t: int) -> float:
        """Return the sum as it is."""
        return loss_sum

    def penalty(self, x: np.ndarray) -> float:
        """Return what the map and the method add to the objective at a flat point."""
        plan = self._plan
        with np.errstate(over="ignore", invalid="ignore"):
            own = plan.method.penalty_at(x)
            return own + float(plan.prox.penalty(x.reshape(plan.shape)))

    def number(self, returned: float) -> float:
        """Return the number as it is."""
        return returned


def gauge_of(optimizer: Optimizer, objective: Objective, penalised: bool) -> Gauge:
    """Return what measures a run where its iterate lies.

    With ``penalised``, values are those of the objective with the penalty at the iterate.
    """
    if not objective.on_device:
        return HostGauge(optimizer, penalised)
    from ..cuda.gauge import DeviceGauge

    return DeviceGauge(optimizer._plan(), objective.flat, penalised)


def is_finite(f: float, g: np.ndarray) -> bool:
    """Tell whether a value and its gradient are finite."""
    return math.isfinite(f) and bool(np.isfinite(g).all())
