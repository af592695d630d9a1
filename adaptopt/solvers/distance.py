"""The learning rate that follows from a distance: that travelled from the start of a run.

AdaGrad's regret is least if its rate is the distance to the minimum over the root of 2, with the
coordinates weighted by the roots of their sums of squares (Duchi, Hazan & Singer 2011, theorem 5;
McMahan & Streeter 2010). What has been travelled since the start bounds it from below (Ivgi, Hinder
& Carmon 2023).
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..methods.base import Method
from ..optimizer.optimizer import Optimizer
from .searchable import with_rate

SHARE = 0.7  # of the distance: the bound on the regret is least at 1 / sqrt(2)
LEAST = 1e-3  # of the largest coordinate: the distance if nothing has moved
PIECES = 8  # of an epoch, or of the steps between two powers of two; in each the rate is constant
PLAYED = 4096  # steps after which a rate under gradients of 1 is taken for settled
SETTLED = 256  # steps after which a momentum is


class Played(NamedTuple):
    """What a method does along one gradient at ``lr = 1``."""

    first: float
    last: float
    """How far the first and the last step go."""
    rates: list[float]


def play(method: Method, g: float, steps: int) -> Played:
    """Return the displacements and the rates at ``lr = 1`` of steps along one gradient."""
    method = with_rate(replace(method, weight_decay=0.0), 1.0)
    initial = method.initial_state()
    slots = tuple(np.float64(initial.get(name, 0.0)) for name in method.slots)
    scalars, x, first = method.initial_scalars(), np.float64(0.0), math.nan
    before, rates = x, list[float]()
    with np.errstate(all="ignore"):
        for t in range(1, steps + 1):
            scalars = method.carried(t, scalars, (g * g,) * len(method.measures))
            coefs = method.coefficients_at(t, scalars)[1]
            before = x
            x, rate, slots = method.rule(x, np.float64(g), *slots, *coefs)
            first = abs(float(x)) if t == 1 else first
            rates.append(float(rate))
        return Played(first, abs(float(x - before)), rates)


def is_proportional(method: Method) -> bool:
    """Tell whether steps are in proportion to gradients."""
    return play(method, 1000.0, 1).first > 30.0 * play(method, 1.0, 1).first


def least_distance(x: np.ndarray) -> float:
    """Return a distance for runs that have not moved."""
    return LEAST * (float(np.abs(x).max(initial=0.0)) or 1.0)


def rates_at_one(optimizer: Optimizer) -> np.ndarray:
    """Return the effective rates if ``lr`` were 1: they do not depend on where a run began."""
    plan = optimizer._plan()
    if plan.stored_rates:  # of a rule that names no rate: those of the last step
        stored: np.ndarray = optimizer.learning_rates()
        return stored
    # Not by changes of the optimizer: where rows are few they took most of an epoch.
    t, scalars = optimizer._position()
    at_one = plan._replace(method=with_rate(plan.method, 1.0))
    return at_one.rates_after(t, plan.slots, scalars, plan.x.size)


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

    @classmethod
    def without_epochs(cls, t: int) -> Segment:
        """Return that of the step after ``t``, if a power of two begins each epoch."""
        begun = 1 << t.bit_length() >> 1
        return cls.around(t, t - begun, max(begun, 1), PIECES)

    @property
    def middle(self) -> float:
        """The middle of its steps."""
        return 0.5 * (self.first + 1 + self.last)


class DistanceRate:
    """The learning rate of a method, from a distance.

    Parameters
    ----------
    method : Method
        With any learning rate.
    follows_way : bool
        Whether the way travelled corrects the distance.

    Attributes
    ----------
    distance : float
        The distance; NaN before it is known.
    lr : float
        The rate found last.
    """

    def __init__(self, method: Method, follows_way: bool) -> None:
        self._method, self._follows_way = with_rate(method, 1.0), follows_way
        self._rates: list[float] = []
        self.distance = self.lr = math.nan

    @cached_property
    def is_proportional(self) -> bool:
        """Whether steps are in proportion to gradients, so that the rate needs their squares."""
        return is_proportional(self._method)

    @cached_property
    def _gain(self) -> float:
        """How far a step goes at ``lr = 1`` along gradients of 1, once a momentum has settled."""
        return play(self._method, 1.0, SETTLED).last

    @property
    def _shares_rate(self) -> bool:
        """Whether all coordinates share a rate."""
        return not self._method.slots or self.is_proportional

    def _rate_at(self, t: float) -> float:
        """Return the method's rate at ``lr = 1`` after ``t`` gradients of 1, times sqrt(t)."""
        if self._method.rates_only_fall:
            return 1.0
        if not self._rates:
            self._rates = play(self._method, 1.0, PLAYED).rates
        return math.sqrt(t) * self._rates[min(int(t), len(self._rates)) - 1]

    def of(self, segment: Segment) -> float:
        """Return the learning rate of a segment's steps."""
        self.lr = SHARE * self.distance / self._rate_at(segment.middle)
        return self.lr

    def over_squares(self, squares: float) -> float:
        """Return the learning rate of steps in proportion to gradients, after so large ones."""
        self.lr = SHARE * self.distance / (self._gain * (math.sqrt(squares) or 1.0))
        return self.lr

    def between(self, x: np.ndarray, start: np.ndarray, weights: np.ndarray) -> float:
        """Return how far a point is from another, with weights of coordinates."""
        away = np.subtract(x, start, dtype=np.float64)
        away *= away
        if self._shares_rate:
            return math.sqrt(float(away.sum()))
        total = float(weights.sum())
        return math.sqrt(float((weights * away).sum()) / total) if total > 0.0 else 0.0

    def measure(
        self, x: np.ndarray, start: np.ndarray, rates: np.ndarray, units: np.ndarray | None = None
    ) -> None:
        """Take in how far the run has travelled, in units, if that corrects the distance."""
        if self._follows_way:
            way = self._weighed(x, start, rates, units)
            self.distance = max(self.distance, way) if math.isfinite(way) else self.distance

    def _weighed(
        self, x: np.ndarray, start: np.ndarray, rates: np.ndarray, units: np.ndarray | None
    ) -> float:
        """Return how far a point is from another, weighed by the effective rates' inverses."""
        with np.errstate(all="ignore"):
            weights = 1.0 / rates.reshape(-1).astype(np.float64)
            if units is not None:
                x, start = x / units, start / units
                weights *= units * units
        weights[~np.isfinite(weights)] = 0.0
        return self.between(x, start, weights)
