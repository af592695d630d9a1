"""Whether an objective rises around a point as it does around a smooth minimum."""

from __future__ import annotations

import math

import numpy as np

from .search import SearchRun
from .stopping import ROUNDING

NEAREST, FARTHER, MOST = 4096.0, 10.0, 16  # units in the last place, factor and number of distances
CLEAR = 1e4  # times rounding: a rise that tells something
FLAT = 2e-3  # of the rise: what the gradient may say of one side more than of the other
EVEN = 0.5  # of the rise: by how much both sides may differ
GROWTH = 30.0  # times the rise: that at the next distance, 100 for a parabola, and 10 at a kink


def rises_around(run: SearchRun) -> bool:
    """Tell whether the objective rises on both sides of the best point, and as its gradient says.

    Along the last displacement, points are taken in pairs, farther and farther, until values are
    clearly above that of the best one. There the rise must be even, and large beside the slope:
    then the slope promises less than rounding. Farther on it must grow as that of a parabola does,
    at least. Where the gradient jumps, or is not that of the objective, the slope is as large as
    the rise, or the rise grows with the distance alone.
    """
    m, objective, plan = run.monitor, run.objective, run.plan
    x, g = m.best_x.astype(np.float64), m.best_jac.astype(np.float64)
    eps = float(np.finfo(m.best_x.dtype).eps)
    rounding = ROUNDING * eps * abs(m.best_fun)
    if not math.isfinite(m.best_fun):
        return False
    along = run.displacement.astype(np.float64)
    if plan.prox.has_penalty:  # it may have a kink at 0
        along[x == 0.0] = 0.0
    largest, size = np.abs(along).max(initial=0.0), np.abs(x).max(initial=0.0)
    if not (0.0 < largest < math.inf):
        return False
    along *= NEAREST * eps * (size or 1.0) / largest

    def is_outside(z: np.ndarray) -> np.ndarray:
        """Tell which coordinates are outside the map's domain."""
        outside: np.ndarray = plan.prox.feasible(z.reshape(plan.shape)).reshape(-1) != z
        return outside

    def values_at(z: np.ndarray) -> tuple[float, float]:
        """Return the objective at a point, and what penalties have in it."""
        penalty = run.gauge.penalty(z)
        value = objective.value(z) if objective.cost > 1 else objective(z)[0]
        return run.gauge.number(value) + penalty, penalty

    before: float | None = None
    for _ in range(MOST):
        left = m.evaluations_left(objective.nfev)
        if left is not None and left < 2:
            return False
        ahead, behind = ((x + way).astype(m.best_x.dtype) for way in (along, -along))
        outside = is_outside(ahead) | is_outside(behind)
        if outside.any():
            along[outside] = 0.0
            continue
        (above, p_above), (below, p_below) = values_at(ahead), values_at(behind)
        rises = above - m.best_fun, below - m.best_fun
        if not (math.isfinite(sum(rises)) and min(rises) >= -rounding):
            return False
        rise, odd = 0.5 * (rises[0] + rises[1]), 0.5 * (rises[0] - rises[1])
        if before is not None:
            return rise >= GROWTH * before
        if rise > CLEAR * rounding:
            way = np.subtract(ahead, behind, dtype=np.float64)
            slope = 0.5 * (float(g @ way) + p_above - p_below)
            if not (abs(slope) <= FLAT * rise and abs(odd) <= EVEN * rise):
                return False
            before = rise
        along *= FARTHER
    return False
