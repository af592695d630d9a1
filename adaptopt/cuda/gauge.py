"""Measurements of a run on a CUDA device, which stay there until a check reads them all at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays import Array
from ..kernels.plan import Plan
from ..kernels.stopping import Measurement
from . import batches, looks
from .arrays import empty, moved, write
from .launch import device_of
from .reductions import NormKernel, read_back


class Value(NamedTuple):
    """The value of an objective: a number, or a device array that holds it."""

    number: float | Array
    form: str | None
    """The format of the array, or None."""


class DeviceGauge:
    """Measures the iterates of a run without waiting for the device between checks.

    It has the methods of `solvers.gauge.Gauge`.

    Parameters
    ----------
    plan : Plan
        The plan of the steps.
    flat : CUDA array
        The flat iterate, bound to the stream to work on.
    penalised : bool
        Whether values include the penalty at the iterate.
    """

    def __init__(self, plan: Plan, flat: Array, penalised: bool) -> None:
        penalty = plan.penalty
        self._plan, self._flat = plan, flat
        self._point = flat if penalised else None
        self._norm = NormKernel(penalty.residual, penalty.layout)
        blank = np.zeros(looks.FIGURES, np.int64)
        blank[looks.NONFINITE] = looks.NEVER
        blank[[looks.VALUE, looks.PREVIOUS]] = np.float64(np.nan).view(np.int64)
        self._blank, self._kept = (moved(blank, flat) for _ in range(2))
        self._move = looks.move_kernel(plan.layout.x)
        self._costs, blocks = None, 0
        if not penalty.is_zero:
            self._costs = looks.costs_kernel(penalty.cost, penalty.layout)
            blocks = looks.costs_size(flat.size)[0]
        self._sums = empty(blocks, np.float64, flat)
        self.nonfinite: int | None = None
        # The value that no check has read; the loss to count, and its rows.
        self._value: Value | None = None
        self._loss: tuple[Value, int] | None = None

    @property
    def pending(self) -> bool:
        """Whether the last value has not been read."""
        return self._value is not None

    def value(self, returned: Value) -> float:
        """Record the value at the iterate. Return NaN: it is unknown until the next check."""
        self._value = returned
        return math.nan

    def watch(self, f: float, g: Array, t: int) -> None:
        """Have the device record step ``t`` if the value or the gradient is not finite."""
        assert self._value is not None
        looks.watch(self._value.form, self._value.number, g, t, self._kept)

    def leave(self) -> None:
        """Have the device keep the value of the iterate before a step."""
        if self._value is not None:
            self._write(self._value, looks.PREVIOUS, self._point)

    def measure(self, f: float, g: Array, previous_x: Array | None) -> Measurement:
        """Measure the iterate. This waits for the device."""
        plan, flat, kept, value = self._plan, self._flat, self._kept, self._value
        self._norm.start(
            *(flat, g, plan.prox_arrays, plan.penalty.coefs, 0.0, kept[: looks.SLOPE + 1])
        )
        if previous_x is not None:
            self._move.start(
                *(flat, flat, (previous_x,), (), 0.0, kept[looks.MOVED : looks.MOVED + 2])
            )
        if value is not None:
            self._write(value, looks.VALUE, self._point)
        figures = self._read()
        with device_of(flat):
            write(kept[: looks.NONFINITE], self._blank[: looks.NONFINITE])
        distance, slope, farthest = self._norm.floats(figures[: looks.MOVED + 1])
        found, previous_f = figures[[looks.VALUE, looks.PREVIOUS]].view(np.float64).tolist()
        return Measurement(
            f if value is None else found,
            distance if math.isfinite(slope) else math.nan,
            math.nan if previous_x is None else farthest,
            previous_f,
        )

    def settle(self) -> None:
        """Mark the last value as read."""
        self._value = None

    def update(self) -> None:
        """Read whether a value since the last check was not finite. This waits for the device."""
        self._read()

    def add(self, loss_sum: float, returned: Value, rows: int) -> float:
        """Record the loss of a batch, for `count` to add. Return the current sum."""
        self._loss = (returned, rows)
        return loss_sum

    def count(self, t: int, goes_on: bool) -> None:
        """Add the last recorded loss to the sum of losses, which is then that of step ``t``.

        Start a new sum with it unless the sum continues. Repeating a step does not change the sum.
        """
        if self._loss is None:
            return
        value, rows = self._loss
        with device_of(self._flat):
            batches.count_kernel(value.form).launch(
                *((1, 1), self._flat.stream, value.number, rows, t, goes_on, self._kept)
            )

    def begin(self, loss_sum: float) -> None:
        """Continue from a sum of losses."""
        bits = np.full(2, loss_sum).view(np.int64)
        write(self._kept[looks.LOSSES : looks.LOSSES + 2], bits)

    def losses(self, loss_sum: float, rows: int, t: int) -> float:
        """Return the sum of the losses at step ``t``. This waits for the device."""
        losses = self._read()[looks.LOSSES :].view(np.float64)
        return float(losses[t % 2]) if rows else 0.0

    def penalty(self, x: Array) -> float:
        """Return the penalty at a point. This waits for the device."""
        return 0.0 if self._costs is None else self.number(Value(0.0, None), x)

    def number(self, returned: Value, x: Array | None = None) -> float:
        """Return a value, with the penalty at a point if one is given."""
        if returned.form is None and x is None:
            return float(returned.number)
        self._write(returned, looks.VALUE, x)
        with device_of(self._flat):
            return float(read_back(self._kept)[looks.VALUE : looks.PREVIOUS].view(np.float64)[0])

    def _write(self, value: Value, place: int, x: Array | None) -> None:
        """Have the device store a value, with the penalty at a point if one is given."""
        stream = self._flat.stream
        sums = self._sums[:0]
        with device_of(self._flat):
            if self._costs is not None and x is not None and x.size:
                sums = self._sums
                arrays, coefs = self._plan.prox_arrays, self._plan.penalty.coefs
                size = looks.costs_size(x.size)
                self._costs.launch(size, stream, x, arrays, coefs, sums)
            kernel = looks.value_kernel(value.form)
            kernel.launch((1, 1), stream, value.number, sums, self._kept, place)

    def _read(self) -> np.ndarray:
        """Read all measurements, after the device has computed them."""
        with device_of(self._flat):
            figures = read_back(self._kept)
        step = int(figures[looks.NONFINITE])
        if self.nonfinite is None and step != looks.NEVER:
            self.nonfinite = step
        return figures
