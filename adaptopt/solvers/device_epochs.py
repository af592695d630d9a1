"""A run over batches of data on a CUDA device: the loop's operations there, which wait seldom."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import placement
from ..objectives.device_finite_sum import DeviceSum
from ..objectives.device_function import Value
from .device_gauge import Figures
from .epochs import EpochRun
from .judging import Standing


class DeviceEpochRun(EpochRun):
    """The same run; it waits for the device at looks, at the end of an epoch, and at its own."""

    total: DeviceSum  # type: ignore[assignment]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._figures = Figures(self.optimizer.plan(), self._flat, penalised=False)
        # The loss of the batch of the step begun last, and its rows.
        self._loss: tuple[Value, int] | None = None

    def _view(self) -> Any:
        return self.total.objective.flat

    def _evaluate(self, rows: np.ndarray) -> tuple[Any, Any]:
        return self.total.over(self.x, self.at.order, self.at.done, rows.size)

    def _shaped(self, g: Any) -> Any:
        return g.reshape(*self.x.shape).bind(g.stream)

    def _look(self, value: Value, g: Any) -> tuple[float, float]:
        sight = self._figures.read(value, g, None)
        if self._strange is None:
            self._strange = sight.strange
        return sight.f, sight.norm

    def _watch(self, value: Value, g: Any) -> None:
        self._figures.watch(value, g, self.t)

    def _after(self, value: Value, rows: int) -> Standing:
        self._loss = (value, rows)
        at = self.at
        return at._replace(done=at.done + rows, loss_rows=at.loss_rows + rows)

    def _count(self) -> None:
        if self._loss is not None:
            self._figures.count(*self._loss, self.t, self.at.loss_rows > 0)

    def _counted(self) -> Standing:
        losses, strange = self._figures.losses(self.t)
        if self._strange is None:
            self._strange = strange
        return self.at._replace(loss_sum=losses if self.at.loss_rows else 0.0)

    def _settled(self) -> Any:
        self._counted()
        return super()._settled()

    def _read(self, value: Any) -> float:
        read = Value.of(value, self._flat)
        return read.number if read.form is None else self._figures.number(read)

    def shown(self, flat: Any) -> Any:
        """Return a copy of a flat array, of the kind and shape of ``x0``."""
        return self.total.objective.shown(flat)

    def _penalty(self, x: Any) -> float:
        return self._figures.penalty(x)

    def restore(self, state: Any) -> None:
        """Go on from a state, or say why it does not fit."""
        super().restore(state)
        self._figures.begin(self.at.loss_sum)
        placement.wait(self._flat)
