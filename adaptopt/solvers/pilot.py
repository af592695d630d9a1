"""The learning rate of a finite sum, if it is not given: found by a pilot and the way travelled.

AdaGrad's regret is least if its rate is the distance to the minimum over the root of 2, with the
coordinates weighted by the roots of their sums of squares (Duchi, Hazan & Singer 2011, theorem 5;
McMahan & Streeter 2010). A pilot on few rows estimates this distance, and the run corrects it: what
has been travelled since the start bounds it from below (Ivgi, Hinder & Carmon 2023).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..methods.adagrad import AdaGrad
from ..methods.base import Method
from ..objectives.batches import Batches
from ..objectives.finite_sum import FiniteSum
from ..prox.base import Proximal
from .gauge import is_finite
from .minimize import descend
from .searchable import refuse_auto, why_no_search, with_rate

SHARE = 0.7  # of the distance: the bound on the regret is least at 1 / sqrt(2)
STEPS = 5  # of the pilot
PART, FEWEST, MOST = 60, 32, 512  # its rows: a sixtieth of the data, but so few or many
BACK = 16  # times that the pilot's way is halved at most
LEAST = 1e-3  # of the largest coordinate: the distance if the pilot does not move
PIECES = 8  # of an epoch; in each the rate is constant
PLAYED = 4096  # steps after which a rate under gradients of 1 is taken for settled


def why_no_pilot(method: Method, prox: Any, x: Any, parallel: str | None) -> str | None:
    """Say with what no rate is found for a finite sum; None if one is."""
    if (why := why_no_search(method, prox, x)) is not None:
        return why
    if method.search_keeps_eps:
        return f"{method!r}, which finds the unit of its steps itself (its lr is 1)"
    if _is_proportional(method):
        return (
            f"{method!r}, whose steps grow with the gradients: AdaGradNorm is SGD with a rate that "
            "is found"
        )
    if parallel == "hogwild":
        return "parallel='hogwild', whose threads never stop to measure the way travelled"
    return None


def _is_proportional(method: Method) -> bool:
    """Tell whether steps are in proportion to gradients."""
    return _play(method, 1000.0, 1)[0] > 30.0 * _play(method, 1.0, 1)[0]


def _play(method: Method, g: float, steps: int) -> tuple[float, list[float]]:
    """Return the first displacement and the rates at ``lr = 1`` of steps along one gradient."""
    method = with_rate(replace(method, weight_decay=0.0), 1.0)
    initial = method.initial_state()
    slots = tuple(np.float64(initial.get(name, 0.0)) for name in method.slots)
    scalars, x, first = method.initial_scalars(), np.float64(0.0), math.nan
    rates = list[float]()
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            scalars = method.carried(t, scalars, (g * g,) * len(method.measures))
            coefs = method.coefficients_at(t, scalars)[1]
            x, rate, slots = method.rule(x, np.float64(g), *slots, *coefs)
            first = abs(float(x)) if t == 1 else first
            rates.append(float(rate))
    return first, rates


class Segment(NamedTuple):
    """Steps that share a rate: those after ``first``, up to ``last``."""

    first: int
    last: int

    @classmethod
    def around(cls, t: int, step: int, steps: int, pieces: int) -> Segment:
        """Return that of the step after ``t``, which is the step after ``step`` of an epoch.

        Segments end at powers of two, and at so many places of an epoch of ``steps``.
        """
        piece = -(-steps // pieces)
        power = 1 << t.bit_length() if t else 1
        last = min(power, t + min(piece - step % piece, steps - step))
        return cls(t - min(step % piece, t - power // 2), last)

    @property
    def middle(self) -> float:
        """The middle of its steps."""
        return 0.5 * (self.first + 1 + self.last)


class FoundRate:
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
    ) -> None:
        self._method, self._total, self._batches = with_rate(method, 1.0), total, batches
        self._prox = prox
        self._falls, self._stream = falls and not stream, stream
        self._rates: list[float] = []
        self.distance, self.last_step = math.nan, 0
        self.lr = math.nan

    @cached_property
    def pieces(self) -> int:
        """Parts of an epoch: as many as a look at all coordinates after each costs little."""
        size = int(self._total.objective.flat.size)
        matrix: Any = getattr(self._total.problem, "A", None)
        entries = int(getattr(matrix, "nnz", self._batches.n * size))
        return max(1, min(PIECES, entries // (2 * size)))

    @property
    def _follows_way(self) -> bool:
        """Whether the way travelled corrects the distance: of rates that only fall."""
        return self._method.rates_only_fall

    def _rate_at(self, t: float) -> float:
        """Return the method's rate at ``lr = 1`` after ``t`` gradients of 1, times sqrt(t)."""
        if self._follows_way:
            return 1.0
        if not self._rates:
            self._rates = _play(self._method, 1.0, PLAYED)[1]
        return math.sqrt(t) * self._rates[min(int(t), len(self._rates)) - 1]

    def of(self, segment: Segment) -> float:
        """Return the learning rate of a segment's steps."""
        t = segment.middle
        lr = SHARE * self.distance / self._rate_at(t)
        if self._falls:
            lr *= max(1.0 - (t - 1.0) / max(self.last_step, segment.last), 0.0)
        self.lr = lr
        return lr

    # -- the pilot ---------------------------------------------------------------------------------

    def pilot(
        self, x: np.ndarray, start: np.ndarray, order: np.ndarray | None, omit: bool
    ) -> tuple[np.ndarray, float] | None:
        """Return a better point, and its distance from the start.

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
        tuple or None
            None if the objective is not finite at ``x``.
        """
        rows = self.rows(order)
        if omit:
            values = [self._value_if_finite(x, rows[k : k + 1]) for k in range(rows.size)]
            rows = rows[[value is not None for value in values]]
        first = self._value_if_finite(x, rows) if rows.size else None
        if first is None:
            return None
        shape = self._total.objective.shape

        def mean(point: np.ndarray) -> tuple[Any, np.ndarray]:
            value, g = self._total.over(point.reshape(-1), rows, 0, rows.size)
            return value, g.reshape(shape)

        method = AdaGrad(lr="auto", weight_decay=self._method.weight_decay)  # type: ignore[arg-type]
        options = {"maxiter": STEPS, "rtol": None}
        found = descend(method, mean, x.reshape(shape), jac=True, prox=self._prox, options=options)
        better = found.x.reshape(-1)
        better, stretch = self._checked(better, x, first - found.fun, order)
        squares = found.state.optimizer["parameters"][""]["state"]["G"].reshape(-1)
        weights = np.sqrt(squares, dtype=np.float64)
        distance = stretch * self._distance(better, start, weights)
        if not distance > 0.0:
            distance = self._least(x)
        return better, distance

    def _checked(
        self, better: np.ndarray, x: np.ndarray, fall: float, order: np.ndarray | None
    ) -> tuple[np.ndarray, float]:
        """Return the end of the pilot, brought back if it does other rows harm.

        Few rows can have their minimum anywhere, or nowhere, if there are many columns. At the end
        others may not rise by more than ``fall``, that of the pilot's rows. The second number is by
        how much the way to the last point that did harm is longer.
        """
        others, stretch = self.rows(order, skip=True), 1.0
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

    def rows(self, order: np.ndarray | None, skip: bool = False) -> np.ndarray:
        """Return the rows of the pilot; with ``skip``, as many others, if there are so many."""
        n = self._total.n
        count = min(n, max(FEWEST, min(n // PART, MOST)))
        rows = np.linspace(0, n - 1, min(n, 2 * count)) if order is None else order[: 2 * count]
        rows = np.ascontiguousarray(rows, np.intp)
        if self._stream:
            first = np.arange(min(n, 2 * FEWEST), dtype=np.intp)
            return first[FEWEST:] if skip else first[:FEWEST]
        if order is None:  # every second one
            return rows[1::2] if skip else rows[::2]
        return rows[count:] if skip else rows[:count]

    @staticmethod
    def _least(x: np.ndarray) -> float:
        """Return a distance for runs that have not moved."""
        return LEAST * (float(np.abs(x).max(initial=0.0)) or 1.0)

    def _value_if_finite(self, x: np.ndarray, rows: np.ndarray) -> float | None:
        """Return the objective over rows; None if it or its gradient is not finite."""
        value, g = self._total.over(x, rows, 0, rows.size)
        return float(value) + self._penalty(x) if is_finite(float(value), g) else None

    def _penalty(self, x: np.ndarray) -> float:
        """Return what the map and the method add to the objective."""
        mapped = self._prox.penalty(x.reshape(self._total.objective.shape))
        return self._method.penalty_at(x) + float(mapped)

    # -- the way travelled -------------------------------------------------------------------------

    def _distance(self, x: np.ndarray, start: np.ndarray, weights: np.ndarray) -> float:
        """Return how far a point is from another, with weights of coordinates."""
        away = np.subtract(x, start, dtype=np.float64)
        away *= away
        if not self._method.slots:  # all coordinates share a rate
            return math.sqrt(float(away.sum()))
        total = float(weights.sum())
        return math.sqrt(float((weights * away).sum()) / total) if total > 0.0 else 0.0

    def segment(self, t: int, step: int, steps: int) -> Segment:
        """Return that of the step after ``t``, which is the step after ``step`` of an epoch."""
        if self._stream:
            return Segment(1 << t.bit_length() >> 1, 1 << t.bit_length())
        return Segment.around(t, step, steps, self.pieces)

    def ends_at(self, t: int, step: int, steps: int) -> bool:
        """Tell whether a segment ends at the step ``t``, the step ``step`` of an epoch."""
        ends = step == steps and not self._stream
        return ends or self.segment(t, step, steps).first == t

    def measure(self, x: np.ndarray, start: np.ndarray, rates: np.ndarray) -> None:
        """Take in how far the run has travelled, if its rates only fall."""
        if self._follows_way:
            way = self._weighed(x, start, rates)
            self.distance = max(self.distance, way) if math.isfinite(way) else self.distance

    def _weighed(self, x: np.ndarray, start: np.ndarray, rates: np.ndarray) -> float:
        """Return how far a point is from another, weighed by the effective rates' inverses."""
        with np.errstate(all="ignore"):
            weights = 1.0 / rates.reshape(-1).astype(np.float64)
        weights[~np.isfinite(weights)] = 0.0
        return self._distance(x, start, weights)


def check_pilot(method: Method, prox: Proximal, x: Any, parallel: str | None) -> None:
    """Raise if no rate is found for a finite sum."""
    if (why := why_no_pilot(method, prox, x, parallel)) is not None:
        refuse_auto(why)
