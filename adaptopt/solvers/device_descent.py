"""A run of minimize on a CUDA device: the loop's operations there, which wait at looks only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import placement
from ..objectives.device_function import DeviceObjective, Value
from ..optimizer.optimizer import Optimizer
from .descent import DescentRun, Evaluated
from .device_gauge import Figures
from .monitor import Monitor


class DeviceRun(DescentRun):
    """The same run; from one look to the next it starts kernels, and waits for none."""

    objective: DeviceObjective  # type: ignore[assignment]

    def __init__(
        self, optimizer: Optimizer, objective: DeviceObjective, monitor: Monitor, every: int
    ) -> None:
        super().__init__(optimizer, objective, monitor, None, every)  # type: ignore[arg-type]
        self._flat = objective.flat
        self._figures = Figures(self._plan, self._flat, penalised=True)
        # What the objective returned, while nobody has looked at it: then it is in ``f``.
        self._value: Value | None = None

    def _evaluate(self) -> None:
        self._value, g = self.objective(self.x)
        self.at = Evaluated(self.t, math.nan, g)

    def _watch(self) -> None:
        assert self._value is not None
        self._figures.watch(self._value, self.g, self.t)

    def _look(self) -> float:
        m, value = self.monitor, self._value
        sight = self._figures.read(value, self.at.g, m.previous_x)
        self.norm = sight.norm
        if value is not None:
            self.at, self._value = self.at._replace(f=sight.f), None
        if not math.isnan(sight.previous_f):
            m.previous_fun = sight.previous_f
        if self._strange is None:
            self._strange = sight.strange
        return sight.moved

    def _leave(self) -> None:
        super()._leave()
        if self._value is not None:
            self._figures.remember(self._value)

    def _shaped(self, g: Any) -> Any:
        return g.reshape(*self.x.shape).bind(g.stream)

    def _median_rate(self) -> float:
        return math.nan  # it would take sorting all rates

    def _known(self) -> tuple[float, np.ndarray | None]:
        if self.g is not None and self._value is not None:
            self._look()
        elif self._strange is None:
            self._strange = self._figures.strange()
        return super()._known()

    def restore(self, state: Any) -> None:
        """Go on from a state, or say why it does not fit."""
        super().restore(state)
        placement.wait(self._flat)

    def shown(self, flat: Any) -> Any:
        """Return a copy of a flat array, of the kind and shape of ``x0``."""
        return self.objective.shown(flat)
