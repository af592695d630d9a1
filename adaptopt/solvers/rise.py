"""How an objective changes around the end of a search: as at a minimum, and as its gradient says.

Points are taken in pairs, on both sides of the best one. Of the two changes of the objective there,
the half sum is the rise, and the half difference the slope times the distance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .search import SearchRun
from .stopping import ROUNDING

NEAREST, FARTHER, MOST = 4096.0, 10.0, 16  # units in the last place, factor and number of distances
OF_DIFFERENCES = 1e3  # times the step of finite differences: nearer, their error is a slope
CLEAR = 1e4  # times rounding: a change that tells something
FLAT = 2e-3  # of the rise: what the gradient may say of one side more than of the other
EVEN = 0.5  # of the rise: by how much both sides may differ
GROWTH = 30.0  # times the rise: that at the next distance, 100 for a parabola, and 10 at a kink
NEARBY = 1e-4  # of the size of each coordinate
LEFT = 1e-6  # of the fall of the objective: so much less nearby is more than a search leaves
STEEP = 1e-4  # of the first gradient: a smaller one needs no proof that it is that of fun
LIKE = 0.3  # of slope and rise: by how much the objective may change otherwise than the slope says
SCALES = (1.0, 1e2, 1e4)  # distances, of which one has to agree


class Pair(NamedTuple):
    """What a pair of points tells."""

    rise: float
    odd: float
    """Half the difference of the changes."""
    slope: float
    """The same, as the gradient says."""
    least: float
    """The smaller change."""


class Sides:
    """Evaluates pairs of points around the best one of a search, along a direction.

    Attributes
    ----------
    eps, rounding : float
        Of the dtype; and by how much a value may change by rounding alone.
    """

    def __init__(self, run: SearchRun, along: np.ndarray) -> None:
        self._run, self._m = run, run.monitor
        self._x = self._m.best_x.astype(np.float64)
        self._g = self._m.best_jac.astype(np.float64)
        self._along = along.astype(np.float64)
        self._along[~np.isfinite(self._along)] = 0.0
        if run.plan.prox.has_penalty:  # it may have a kink at 0
            self._along[self._x == 0.0] = 0.0
        self.eps = float(np.finfo(self._m.best_x.dtype).eps)
        self.rounding = ROUNDING * self.eps * abs(self._m.best_fun)

    @property
    def length(self) -> float:
        """The largest entry of the direction."""
        return float(np.abs(self._along).max(initial=0.0))

    @property
    def size(self) -> float:
        """The largest entry of the point; 1 if it is 0."""
        return float(np.abs(self._x).max(initial=0.0)) or 1.0

    def slope(self) -> float:
        """Return the slope along the direction, without that of penalties."""
        return float(self._g @ self._along)

    def at(self, distance: float) -> Pair | None:
        """Return what the pair at a distance tells; None without a budget, or a finite value."""
        run, m, x = self._run, self._m, self._x
        while self.length:
            way = distance * self._along
            ahead, behind = ((x + s).astype(m.best_x.dtype) for s in (way, -way))
            outside = self._is_outside(ahead) | self._is_outside(behind)
            if not outside.any():
                break
            self._along[outside] = 0.0
        left = m.evaluations_left(run.objective.nfev)
        if not self.length or (left is not None and left < 2):
            return None
        (above, p_above), (below, p_below) = self._value(ahead), self._value(behind)
        a, b = above - m.best_fun, below - m.best_fun
        if not math.isfinite(a + b):
            return None
        way = np.subtract(ahead, behind, dtype=np.float64)
        slope = 0.5 * (float(self._g @ way) + p_above - p_below)
        return Pair(0.5 * (a + b), 0.5 * (a - b), slope, min(a, b))

    def _is_outside(self, x: np.ndarray) -> np.ndarray:
        """Tell which coordinates are outside the domain of the map."""
        plan = self._run.plan
        outside: np.ndarray = plan.prox.feasible(x.reshape(plan.shape)).reshape(-1) != x
        return outside

    def _value(self, x: np.ndarray) -> tuple[float, float]:
        """Return the objective at a point, and what penalties have in it."""
        run, objective = self._run, self._run.objective
        penalty = run.gauge.penalty(x)
        value = objective.value(x) if objective.cost > 1 else objective(x)[0]
        return run.gauge.number(value) + penalty, penalty


def rises_around(run: SearchRun) -> bool:
    """Tell whether the objective rises on both sides of the best point, and as its gradient says.

    Along the last displacement, points are taken farther and farther, until values are clearly
    above that of the best one. There the rise must be even, and large beside the slope: then the
    slope promises less than rounding. Farther on it must grow as that of a parabola does, at least.
    Where the gradient jumps, or is not that of the objective, the slope is as large as the rise, or
    the rise grows with the distance alone.
    """
    sides = Sides(run, run.displacement)
    if not (math.isfinite(run.monitor.best_fun) and sides.length):
        return False
    exact = run.objective.cost == 1
    nearest = NEAREST * sides.eps if exact else OF_DIFFERENCES * math.sqrt(sides.eps)
    distance, before = nearest * sides.size / sides.length, math.nan
    for _ in range(MOST):
        pair = sides.at(distance)
        if pair is None or pair.least < -sides.rounding:
            return False
        if not math.isnan(before):
            return pair.rise >= GROWTH * before
        if pair.rise > CLEAR * sides.rounding:
            if not (abs(pair.slope) <= FLAT * pair.rise and abs(pair.odd) <= EVEN * pair.rise):
                return False
            before = pair.rise
        distance *= FARTHER
    return False


def falls_nearby(run: SearchRun) -> bool:
    """Tell whether the objective falls at points near the best one, by more than is left to gain.

    Each coordinate moves by a small share of its size, all to one side or in turns. What the
    gradient leaves out, so that it is 0 at a wrong point, shows there, and so does a saddle.
    """
    m = run.monitor
    size = np.abs(m.best_x, dtype=np.float64)
    size[size == 0.0] = float(size.max(initial=0.0)) or 1.0
    number = np.arange(size.size)
    size *= 0.5 + 0.5 * (number % 3)  # along equal moves the slopes of a saddle may cancel
    turns = np.where(number % 2, -size, size)
    fallen = max(run.first_fun - m.best_fun, 0.0)
    for along in (size, turns) if size.size > 1 else (size,):
        sides = Sides(run, along)
        pair = sides.at(NEARBY) if sides.length else None
        if pair is not None and pair.least < -max(sides.rounding, LEFT * fallen):
            return True
    return False


def follows_gradient(run: SearchRun) -> bool:
    """Tell whether the objective changes around the best point as its gradient says.

    It is tried down the gradient, in the metric of the rates, where the slope promises clearly more
    than rounding, and farther. A small gradient is trusted.
    """
    if not run.norm > STEEP * run.first_norm:
        return True
    m = run.monitor
    sides = Sides(run, -run.rates.astype(np.float64) * m.best_jac)
    slope = sides.slope()
    if not slope < 0.0:
        return True
    distance = CLEAR * sides.rounding / -slope
    distance = max(distance, NEAREST * sides.eps * sides.size / sides.length)
    for scale in SCALES:
        pair = sides.at(scale * distance)
        if pair is None:
            return True  # nothing is known
        if abs(pair.odd - pair.slope) <= LIKE * (abs(pair.slope) + abs(pair.rise)):
            return True
    return False
