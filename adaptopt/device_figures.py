"""The figures of a run on a CUDA device: computed there, and read back together at a look."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from . import placement
from .device_objective import Value
from .groups import Group
from .kernels import cuda_looks as looks
from .kernels.cuda_launch import device_of
from .kernels.cuda_reductions import read_back
from .proximal import Proximal

__all__ = ["Figures", "Sight"]


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
    group : Group
        Of the iterate.
    flat : CUDA array
        The flat iterate, bound to the stream to work on.
    """

    def __init__(self, group: Group, flat: Any) -> None:
        prox, layout = group.prox, group._layout
        self._group, self._flat = group, flat
        self._norm = group._kernels.norm_kernel(group._residual, layout)
        blank = np.zeros(looks.FIGURES, np.int64)
        blank[looks.STRANGE] = looks.NEVER
        blank[[looks.VALUE, looks.PREVIOUS]] = np.float64(np.nan).view(np.int64)
        self._blank, self._kept = (placement.moved(blank, flat) for _ in range(2))
        self._move = looks.move_kernel(layout.x)
        costly = prox.cost is not Proximal.cost
        self._costs = looks.costs_kernel(prox.cost, layout) if costly else None
        blocks = looks.costs_size(flat.size)[0] if costly else 0
        self._sums = placement.empty(blocks, np.float64, flat)
        self._strange: int | None = None

    def watch(self, value: Value, g: Any, t: int) -> None:
        """Have the device remember step ``t`` where the value or the gradient is not finite."""
        looks.watch(value.form, value.number, g, t, self._kept)

    def remember(self, value: Value) -> None:
        """Have the device keep the value at the iterate, for the next look."""
        self._write(value, looks.PREVIOUS)

    def _write(self, value: Value, place: int) -> None:
        flat = self._flat
        with device_of(flat):
            if self._costs is not None and flat.size:
                part = self._group._whole
                self._costs.launch(
                    looks.costs_size(flat.size),
                    *(flat.stream, part.x, part.walls, self._group._prox_coefs, self._sums),
                )
            kernel = looks.value_kernel(value.form)
            kernel.launch((1, 1), flat.stream, value.number, self._sums, self._kept, place)

    def strange(self) -> int | None:
        """Return the first strange step since the last look; this waits for the device."""
        with device_of(self._flat):
            step = int(read_back(self._kept)[looks.STRANGE])
        return None if step == looks.NEVER else step

    def read(self, value: Value | None, g: Any, previous_x: Any) -> Sight:
        """Measure the iterate and return what there is to see; this waits for the device."""
        group, flat, kept = self._group, self._flat, self._kept
        self._norm.start(
            *(flat, g, group._whole.walls, group._prox_coefs, 0.0, kept[: looks.SLOPE + 1])
        )
        if previous_x is not None:
            self._move.start(
                *(flat, flat, (previous_x,), (), 0.0, kept[looks.MOVED : looks.MOVED + 2])
            )
        if value is not None:
            self._write(value, looks.VALUE)
        with device_of(flat):
            figures = read_back(kept)
            placement.copy(kept, self._blank)
        distance, slope, moved = self._norm.floats(figures[: looks.MOVED + 1])
        f, previous_f = figures[[looks.VALUE, looks.PREVIOUS]].view(np.float64).tolist()
        strange = int(figures[looks.STRANGE])
        return Sight(
            f,
            distance if math.isfinite(slope) else math.nan,
            math.nan if previous_x is None else moved,
            previous_f,
            None if strange == looks.NEVER else strange,
        )
