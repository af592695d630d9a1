"""The learning rate of a finite sum, if it is not given: found by a pilot and the way travelled.

A pilot on few rows estimates the distance to the minimum, from which the rate follows, and the run
corrects it by what it has travelled since the start.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Array, Matrix
from ..methods.adagrad import AdaGrad
from ..methods.base import Method
from ..objectives.batches import Batches
from ..objectives.finite_sum import FiniteSum
from ..problems.problem import Problem
from ..prox.base import Proximal
from .distance import PIECES, DistanceRate, Segment, is_proportional, least_distance
from .gauge import is_finite
from .minimize import descend
from .searchable import refuse_auto, why_no_search
from .units import SAMPLE, Sizes, seen_later, sizes_of, units_of

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

STEPS = 5  # of the pilot
PART, FEWEST, MOST = 60, 32, 512  # its rows: a sixtieth of the data, but so few or many
BACK = 16  # times that the pilot's way is halved at most
LEAST_LIVE = 1.0 / 32  # share of rows with gradients: for fewer, no more are taken


class Piloted(NamedTuple):
    """What a pilot has found."""

    x: np.ndarray
    """A better point."""
    distance: float
    """Its distance from the start, in units if there are some."""
    units: np.ndarray | None
    """The units of the coordinates, for methods that have them."""


def why_no_pilot(method: Method, prox: object, x: Array, parallel: str | None) -> str | None:
    """Say with what no rate is found for a finite sum; None if one is."""
    if (why := why_no_search(method, prox, x)) is not None:
        return why
    if method.search_keeps_eps:
        return f"{method!r}, which finds the unit of its steps itself (its lr is 1)"
    if is_proportional(method):
        return (
            f"{method!r}, whose steps grow with the gradients: AdaGradNorm is SGD with a rate that "
            "is found"
        )
    if parallel == "hogwild":
        return "parallel='hogwild', whose threads never stop to measure the way travelled"
    return None


class FoundRate(DistanceRate):
    """The rate of a run, found.

    Parameters
    ----------
    method : Method
        With ``lr="auto"``.
    total : FiniteSum
        The objective, without penalties.
    batches : Batches
        How its rows are cut.
    prox : Proximal
        The map of the run.
    stream : bool
        Whether the rows are a part of a stream: nothing may depend on where the part ends.
    falls : bool
        Whether the rate falls linearly to 0 at the last step, for runs that return the last
        iterate (Defazio, Cutkosky, Mehta & Mishchenko 2023).
    has_units : bool
        Whether the steps are those of a method `in_units`, so that coordinates get units.

    Attributes
    ----------
    distance : float
        The distance estimated; NaN before the pilot.
    last_step : int
        The last step of the run, where the rate falls to 0.
    """

    def __init__(
        self,
        method: Method,
        total: FiniteSum,
        batches: Batches,
        prox: Proximal,
        falls: bool,
        stream: bool = False,
        has_units: bool = False,
    ) -> None:
        super().__init__(method, follows_way=method.rates_only_fall)
        self.has_units = has_units
        self._total, self._batches, self._prox = total, batches, prox
        self._falls, self._stream = falls and not stream, stream
        self.last_step = 0

    @cached_property
    def pieces(self) -> int:
        """Parts of an epoch: as many as a look at all coordinates after each costs little."""
        size = int(self._total.objective.flat.size)
        matrix: Matrix = getattr(self._total.problem, "A", None)
        entries = int(getattr(matrix, "nnz", self._batches.n * size))
        return max(1, min(PIECES, entries // max(2 * size, 1)))

    def of(self, segment: Segment) -> float:
        """Return the learning rate of a segment's steps."""
        lr = super().of(segment)
        if self._falls:
            left = 1.0 - (segment.middle - 1.0) / max(self.last_step, segment.last)
            self.lr = lr = lr * max(left, 0.0)
        return lr

    # -- the pilot ---------------------------------------------------------------------------------

    def pilot(
        self, x: np.ndarray, start: np.ndarray, order: np.ndarray | None, omit: bool
    ) -> Piloted | None:
        """Return a better point, its distance from the start, and the units of coordinates.

        Parameters
        ----------
        x, start : ndarray
            Where the pilot begins, and the start of the run, flat.
        order : ndarray or None
            The order of the first epoch. The pilot takes the first rows of it, or rows at equal
            distances of the data as they are.
        omit : bool
            Whether rows that are not finite at ``x`` are left out.

        Returns
        -------
        Piloted or None
            None if the objective is not finite at ``x``.
        """
        sizes, times = None, 1.0
        if self.has_units:
            sizes = self._sizes(x, order)
            times = 1.0 / max(sizes.live, LEAST_LIVE)  # rows without a gradient do not count
        while True:
            rows, others = (self.rows(order, times, skip) for skip in (False, True))
            if omit:
                values = [self._value_if_finite(x, rows[k : k + 1]) for k in range(rows.size)]
                rows = rows[[value is not None for value in values]]
            if not rows.size:
                return None
            begun, g = self._total.over(x, rows, 0, rows.size)
            if not is_finite(float(begun), g):
                return None
            if g.any() or self._stream or rows.size + others.size >= self._total.n:
                break
            times *= 4.0
        first, g = float(begun) + self._penalty(x), g.copy()
        units = None if sizes is None else units_of(sizes)
        found = self._search(x, rows, (begun, g), units)
        differ = units is not None and units.max(initial=0.0) > units.min(initial=np.inf)
        if sizes is not None and differ and not sizes.of_columns:
            # Gradients are small for short columns, and for small targets, which want no long way.
            other = self._search(x, rows, (begun, g), None)
            if not found.fun <= other.fun:
                found, sizes, units = other, None, np.ones(x.size)
        better = found.x.reshape(-1).astype(x.dtype)
        better, stretch = self._checked(better, x, first - found.fun, others)
        squares = found.state.optimizer["parameters"][""]["state"]["G"].reshape(-1)
        weights = np.sqrt(squares, dtype=np.float64)
        if units is None:
            distance = stretch * self.between(better, start, weights)
        else:
            unseen = sizes is not None and not (sizes.of_columns or sizes.counts.all())
            if sizes is not None and unseen and np.any(better != x):
                units = units_of(seen_later(sizes, self._sizes(better, order)))
            distance = stretch * self.between(better / units, start / units, weights * units)
        if not distance > 0.0:
            distance = least_distance(x)
        return Piloted(better, distance, units)

    def _search(
        self,
        x: np.ndarray,
        rows: np.ndarray,
        begun: tuple[Any, np.ndarray],
        units: np.ndarray | None,
    ) -> OptimizeResult:
        """Take the steps of the pilot over some rows, where ``begun`` is known."""
        shape, known = self._total.objective.shape, [begun]
        problem, dtype = self._total.problem, x.dtype
        if isinstance(problem, Problem) and problem.A.dtype == np.float32:
            dtype = problem.A.dtype  # values are no more exact than the data

        def mean(point: np.ndarray) -> tuple[Any, np.ndarray]:
            if known:
                value, g = known.pop()
            else:
                value, g = self._total.over(point.reshape(-1), rows, 0, rows.size)
            return value, g.reshape(shape).astype(dtype)

        return descend(
            AdaGrad(lr="auto", weight_decay=self._method.weight_decay),  # type: ignore[arg-type]
            mean,
            x.reshape(shape).astype(dtype),
            jac=True,
            prox=self._prox,
            options={"maxiter": STEPS, "rtol": None},
            units=units,
        )

    def _checked(
        self, better: np.ndarray, x: np.ndarray, fall: float, others: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Return the end of the pilot, brought back if it does other rows harm.

        Few rows can have their minimum anywhere, or nowhere, if there are many columns. At the end
        others may not rise by more than ``fall``, that of the pilot's rows. The second number is by
        how much the way to the last point that did harm is longer.
        """
        stretch = 1.0
        if not others.size:
            return better, stretch

        def value(point: np.ndarray) -> float:
            return float(self._total.over(point, others, 0, others.size)[0]) + self._penalty(point)

        most = value(x) + fall
        for _ in range(BACK):
            if not value(better) > most:  # NaN, too, says nothing
                break
            better, stretch = x + (better - x) * x.dtype.type(0.5), 2.0
        return better, stretch

    def _sizes(self, x: np.ndarray, order: np.ndarray | None) -> Sizes:
        """Return the sizes of the gradients of rows at a point."""
        rows, most = self.rows(order), 4 * self.rows(order).size
        if not self._stream:
            n = self._total.n
            rows = np.linspace(0, n - 1, min(n, SAMPLE)) if order is None else order[:SAMPLE]
            rows = np.ascontiguousarray(rows, np.intp)
        return sizes_of(self._total, x, rows, most, order is None)

    def rows(self, order: np.ndarray | None, times: float = 1.0, skip: bool = False) -> np.ndarray:
        """Return the rows of the pilot, or some times as many.

        With ``skip`` they are as many others, if there are so many.
        """
        n = self._total.n
        count = min(n, int(times * max(FEWEST, min(n // PART, MOST))))
        rows = np.linspace(0, n - 1, min(n, 2 * count)) if order is None else order[: 2 * count]
        rows = np.ascontiguousarray(rows, np.intp)
        if self._stream:
            first = np.arange(min(n, 2 * FEWEST), dtype=np.intp)
            return first[FEWEST:] if skip else first[:FEWEST]
        if order is None:  # every second one
            return rows[1::2] if skip else rows[::2]
        return rows[count:] if skip else rows[:count]

    def _value_if_finite(self, x: np.ndarray, rows: np.ndarray) -> float | None:
        """Return the objective over rows; None if it or its gradient is not finite."""
        value, g = self._total.over(x, rows, 0, rows.size)
        return float(value) + self._penalty(x) if is_finite(float(value), g) else None

    def _penalty(self, x: np.ndarray) -> float:
        """Return what the map and the method add to the objective."""
        mapped = self._prox.penalty(x.reshape(self._total.objective.shape))
        return self._method.penalty_at(x) + float(mapped)

    # -- the way travelled -------------------------------------------------------------------------

    def segment(self, t: int, step: int, steps: int) -> Segment:
        """Return that of the step after ``t``, which is the step after ``step`` of an epoch."""
        if self._stream:
            return Segment(1 << t.bit_length() >> 1, 1 << t.bit_length())
        return Segment.around(t, step, steps, self.pieces)

    def ends_at(self, t: int, step: int, steps: int) -> bool:
        """Tell whether a segment ends at the step ``t``, the step ``step`` of an epoch."""
        ends = step == steps and not self._stream
        return ends or self.segment(t, step, steps).first == t


def check_pilot(method: Method, prox: Proximal, x: Array, parallel: str | None) -> None:
    """Raise if no rate is found for a finite sum."""
    if (why := why_no_pilot(method, prox, x, parallel)) is not None:
        refuse_auto(why)
