"""A run over the batches of a finite sum without a learning rate: a pilot first, then its rates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.in_units import name_in_units
from .distance import rates_at_one
from .epochs import EpochRun
from .pilot import FoundRate, Piloted
from .state import EpochState
from .stopping import NONFINITE, Stop, non_finite

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class PilotedRun(EpochRun):
    """An `EpochRun` whose learning rate is found.

    Parameters
    ----------
    found : FoundRate
        What finds it.
    *arguments
        Those of `EpochRun`.
    """

    advice = "The start may be the minimum up to noise; or jac is not the gradient of fun."

    def __init__(self, found: FoundRate, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._found = found
        # What the pilot has found and is still to be settled.
        self._piloted: Piloted | None = None
        self._measured_at = -1

    @property
    def _units(self) -> np.ndarray:
        """The units of the coordinates, which steps keep as their first slot."""
        units: np.ndarray = self.optimizer._plan().slots[0]
        return units

    def plan(self, steps: int) -> None:
        """Take in after how many steps the run ends."""
        self._found.last_step = self.t + steps

    def _prepare(self) -> Stop | None:
        """Run the pilot, if that is still to do; a run that has no steps begins where it ended."""
        if not math.isnan(self._found.distance):
            return None
        if self.t:  # of steps at a rate that was given: what they have summed has no units
            self._found.has_units = False
        omit = self.options.nan_policy == "omit"
        x, order = self._flat.copy(), self.position.order
        piloted = self._draws.during(self._found.pilot, x, self._start, order, omit)
        if piloted is None:
            if not self.t:
                self.total.objective.check_written(x, *self.total.rows.take(None, 0, 1))
            what = (
                "The objective or its gradient is not finite where the run begins, over the "
                f"{self._found.rows(order).size} rows of the pilot."
            )
            return non_finite(what, self.options.nan_policy) or Stop(NONFINITE, what)
        self._piloted = piloted
        self._settle()
        return None

    def _next_steps(self) -> int:
        """Let the next steps have the rate that is found for them; return how many they are."""
        left, steps = super()._next_steps(), self.batches.left(0)
        found, step = self._found, steps - left
        if self._measured_at < self.t and found.ends_at(self.t, step, steps):
            units = self._units.astype(np.float64) if found.has_units else None
            found.measure(self._flat, self._start, rates_at_one(self.optimizer), units)
            self._measured_at = self.t
        if not left:
            return 0
        segment = found.segment(self.t, step, steps)
        before, lr = found.lr, found.of(segment)
        if lr != before:
            self.optimizer.set(lr=lr)
            if self._calls is not None:
                self._calls.follow(self.optimizer.method)
        return min(segment.last - self.t, left)

    def _settle(self) -> None:
        if self._piloted is not None:
            better, self._found.distance, units = self._piloted
            if units is not None:
                self._units[:] = units
            if not self.t:
                self._backend.copy(self._flat, better)
                self._backend.copy(self._finite, self._flat)
            self._piloted = None
        super()._settle()

    def result(self, stop: Stop) -> OptimizeResult:
        """Evaluate all rows at the answer, and return the result, with the rate."""
        result = super().result(stop)
        result.lr = self._found.lr
        return result

    def state(self) -> EpochState:
        """Return all that is needed to go on exactly."""
        state, found = super().state(), self._found
        if not math.isnan(found.distance):
            state.distance = found.distance
        return state

    def restore(self, state: EpochState) -> None:
        """Go on from a state, or say why it does not fit."""
        super().restore(_in_units(state) if self._found.has_units else state)
        if state.distance is not None:
            self._found.distance = state.distance


def _in_units(state: EpochState) -> EpochState:
    """Return the state of a run at a given rate as that of one with units, which are all 1."""
    ((name, entry),) = state.optimizer["parameters"].items()
    if "unit" in entry["state"]:
        return state
    slots = {"unit": np.ones_like(entry["params"]), **entry["state"]}
    entry = {**entry, "method": name_in_units(entry["method"]), "state": slots}
    return replace(state, optimizer={**state.optimizer, "parameters": {name: entry}})
