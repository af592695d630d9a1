"""The figures of a run on a CUDA device: computed there, and read back together at a look."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .. import placement
from ..cuda import batches as cuda_epochs
from ..cuda import looks
from ..cuda.launch import device_of
from ..cuda.reductions import read_back
from ..kernels.plan import Plan
from ..objectives.device_function import Value


class Sight(NamedTuple):
    """What a look finds."""

    f: float
    """The value, with the penalty; NaN where none was given."""
    norm: float
    """Largest distance of a coordinate from stationary; NaN where the gradient is not finite."""
    moved: float
    """Largest move of a coordinate since the iterate before; NaN where there is none."""
    previous_f: float
    """The value that was remembered last; NaN where none was."""
    strange: int | None
    """The first step whose value or gradient was seen not to be finite."""


class Figures:
    """What is known on the device about the iterates since the last look.

    Parameters
    ----------
    plan : Plan
        What the steps of the iterate are made of.
    flat : CUDA array
        The flat iterate, bound to the stream to work on.
    penalised : bool
        Whether values come with the penalty at the iterate.
    """

    def __init__(self, plan: Plan, flat: Any, penalised: bool) -> None:
        penalty = plan.penalty
        self._plan, self._flat = plan, flat
        self._point = flat if penalised else None
        self._norm = placement.kernels_for(flat).norm_kernel(penalty.residual, penalty.layout)
        blank = np.zeros(looks.FIGURES, np.int64)
        blank[looks.STRANGE] = looks.NEVER
        blank[[looks.VALUE, looks.PREVIOUS]] = np.float64(np.nan).view(np.int64)
        self._blank, self._kept = (placement.moved(blank, flat) for _ in range(2))
        self._move = looks.move_kernel(plan.layout.x)
        self._costs, blocks = None, 0
        if not penalty.is_zero:
            self._costs = looks.costs_kernel(penalty.cost, penalty.layout)
            blocks = looks.costs_size(flat.size)[0]
        self._sums = placement.empty(blocks, np.float64, flat)

    def watch(self, value: Value, g: Any, t: int) -> None:
        """Have the device remember step ``t`` where the value or the gradient is not finite."""
        looks.watch(value.form, value.number, g, t, self._kept)

    def remember(self, value: Value) -> None:
        """Have the device keep the value at the iterate, for the next look."""
        self._write(value, looks.PREVIOUS, self._point)

    def _write(self, value: Value, place: int, x: Any = None) -> None:
        """Have a value kept, with the penalty at a point where there is one."""
        stream = self._flat.stream
        sums = self._sums[:0]
        with device_of(self._flat):
            if self._costs is not None and x is not None and x.size:
                sums = self._sums
                walls, coefs = self._plan.prox_arrays, self._plan.penalty.coefs
                size = looks.costs_size(x.size)
                self._costs.launch(size, stream, x, walls, coefs, sums)
            kernel = looks.value_kernel(value.form)
            kernel.launch((1, 1), stream, value.number, sums, self._kept, place)

    def strange(self) -> int | None:
        """Return the first strange step since the last look; this waits for the device."""
        with device_of(self._flat):
            return _step(read_back(self._kept))

    def count(self, value: Value, rows: int, t: int, goes_on: bool) -> None:
        """Add a batch's loss to the sum of losses, which is then that of step ``t``.

        It begins with this one unless it goes on. Done again for the same step it is the same.
        """
        with device_of(self._flat):
            cuda_epochs.count_kernel(value.form).launch(
                *((1, 1), self._flat.stream, value.number, rows, t, goes_on, self._kept)
            )

    def begin(self, losses: float) -> None:
        """Go on from a sum of losses."""
        bits = np.full(2, losses).view(np.int64)
        placement.copy(self._kept[looks.LOSSES : looks.LOSSES + 2], bits)

    def losses(self, t: int) -> tuple[float, int | None]:
        """Return the sum of losses at step ``t``, and the first strange step so far.

        This waits for the device.
        """
        with device_of(self._flat):
            figures = read_back(self._kept)
        losses = figures[looks.LOSSES :].view(np.float64)
        return float(losses[t % 2]), _step(figures)

    def penalty(self, x: Any) -> float:
        """Return the penalty at another point; this waits for the device."""
        return 0.0 if self._costs is None else self.number(Value(0.0, None), x)

    def number(self, value: Value, x: Any = None) -> float:
        """Return a value, with the penalty at a point; this waits for the device."""
        self._write(value, looks.VALUE, x)
        with device_of(self._flat):
            return float(read_back(self._kept)[looks.VALUE : looks.PREVIOUS].view(np.float64)[0])

    def read(self, value: Value | None, g: Any, previous_x: Any) -> Sight:
        """Measure the iterate and return what there is to see; this waits for the device."""
        plan, flat, kept = self._plan, self._flat, self._kept
        self._norm.start(
            *(flat, g, plan.prox_arrays, plan.penalty.coefs, 0.0, kept[: looks.SLOPE + 1])
        )
        if previous_x is not None:
            self._move.start(
                *(flat, flat, (previous_x,), (), 0.0, kept[looks.MOVED : looks.MOVED + 2])
            )
        if value is not None:
            self._write(value, looks.VALUE, self._point)
        with device_of(flat):
            figures = read_back(kept)
            placement.copy(kept[: looks.STRANGE], self._blank[: looks.STRANGE])
        distance, slope, moved = self._norm.floats(figures[: looks.MOVED + 1])
        f, previous_f = figures[[looks.VALUE, looks.PREVIOUS]].view(np.float64).tolist()
        return Sight(
            f,
            distance if math.isfinite(slope) else math.nan,
            math.nan if previous_x is None else moved,
            previous_f,
            _step(figures),
        )


def _step(figures: np.ndarray) -> int | None:
    """Return the first strange step."""
    step = int(figures[looks.STRANGE])
    return None if step == looks.NEVER else step
