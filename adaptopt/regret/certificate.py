"""Certificates of optimality: bounds on ``f(x) - min f`` from sums over the points evaluated."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from ..kernels.certificate import LANES, count_kernel
from ..kernels.rounds import play_entries, worst_in_box
from ..prox.base import Domain


@dataclass(eq=False)
class Sums:
    """Sums over all rounds, in float64, from which regret and certificates follow.

    Attributes
    ----------
    origin : ndarray, flat
        The first point. Points are measured from it, so that sums lose no digits if it is far from
        zero.
    moved : ndarray, flat
        Sum of ``x - origin``.
    gradient_sum, squared_gradients : ndarray, flat
        Sums of ``g`` (z) and of ``g * g`` (AdaGrad's G).
    totals : ndarray, shape (5,)
        Sums over rounds and coordinates of ``g * (x - origin)``, ``abs(x)`` and ``x * x`` (any
        elastic net follows from the last two); the sum of ``f``; and the number of rounds.
    """

    origin: np.ndarray
    moved: np.ndarray
    gradient_sum: np.ndarray
    squared_gradients: np.ndarray
    totals: np.ndarray

    @classmethod
    def before(cls, x: np.ndarray) -> Sums:
        """Return the sums before the first round, whose point is ``x``."""
        moved, z, G = np.zeros((3, x.size))
        return cls(x.astype(np.float64).reshape(-1), moved, z, G, np.zeros(5))

    def add(self, x: np.ndarray, f: float, g: np.ndarray) -> None:
        """Add a round. If interrupted, it is added completely or not at all."""
        form = "float32" if x.dtype == g.dtype == np.float32 else "float64"
        x, g = (np.ascontiguousarray(array, form).reshape(-1) for array in (x, g))
        count_kernel(form)(x, g, f, self.memory(np.empty(3 * LANES)))

    def add_entries(self, x: np.ndarray, f: float, columns: np.ndarray, g: np.ndarray) -> None:
        """Add a round whose gradient has few entries, without its point."""
        kernel = play_entries("float32" if x.dtype == np.float32 else "float64")
        kernel(x.reshape(-1), columns, g, f, self.memory(np.empty(0)))

    def memory(self, lanes: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the arrays to which a kernel adds a round."""
        for name in ("moved", "gradient_sum", "squared_gradients"):
            setattr(self, name, np.ascontiguousarray(getattr(self, name)))
        sums = self.origin, self.moved, self.gradient_sum, self.squared_gradients
        return *sums, lanes, self.totals

    @property
    def linear(self) -> float:
        """Sum of ``<g, x - origin>``."""
        return float(self.totals[0])

    @property
    def loss(self) -> float:
        """Sum of ``f``."""
        return float(self.totals[3])

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return int(self.totals[4])

    @property
    def has_points(self) -> bool:
        """Whether the points of all rounds are in the sums."""
        return not math.isnan(float(self.totals[1]))

    def leave_out_points(self) -> None:
        """Sum no points from now on, so that the sums of points say nothing."""
        self.totals[1:3] = math.nan

    def copy(self) -> Sums:
        """Return a copy with its own arrays."""
        return deepcopy(self)

    def average(self) -> np.ndarray:
        """Return the mean of the points."""
        average: np.ndarray = self.origin + self.moved / self.rounds
        return average

    def linearised_regret(self, u: np.ndarray) -> float:
        """Return the sum of ``<g, x - u>``."""
        return self.linear - float((self.gradient_sum * (u - self.origin)).sum())

    def worst_regret(self, domain: Domain) -> float:
        """Return the largest linearised regret over a domain; its penalty is added to each loss."""
        z, weight, (lo, hi, l1, l2) = self.gradient_sum, self.rounds, domain
        if not (l1 or l2):
            return self._worst_linear(lo, hi)
        _, absolute, squares, _, _ = self.totals.tolist()
        u = _best_response(z, lo, hi, weight * l1, weight * l2)
        if not np.isfinite(u).all():
            return math.inf
        with np.errstate(over="ignore", invalid="ignore"):  # from bounds near the largest number
            penalty = l1 * (absolute - weight * float(np.abs(u).sum()))
            penalty += 0.5 * l2 * (squares - weight * float((u * u).sum()))
            regret = self.linearised_regret(u) + penalty
        return math.inf if math.isnan(regret) else regret

    def _worst_linear(self, lo: float | np.ndarray, hi: float | np.ndarray) -> float:
        """Return the largest regret without a penalty: only coordinates with a gradient count."""
        z, origin = self.gradient_sum, self.origin
        low, high = (
            bound if np.shape(bound) == origin.shape else np.full(origin.shape, bound)
            for bound in (lo, hi)
        )
        least = worst_in_box()(z, origin, low, high, np.empty(2 * LANES))
        regret = self.linear - least
        return math.inf if math.isnan(regret) else regret


def gap(x: np.ndarray, f: float, g: np.ndarray, domain: Domain) -> float:
    """Return a bound on ``f(x) - min f`` over a domain, for a convex function and the penalty.

    It is the largest regret of one round played at ``x``: the Frank-Wolfe gap (Frank & Wolfe 1956).
    """
    sums = Sums.before(x)
    sums.add(x, f, g)
    return sums.worst_regret(domain)


def _best_response(
    z: np.ndarray, lo: float | np.ndarray, hi: float | np.ndarray, l1: float, l2: float
) -> np.ndarray:
    """Minimise ``z u + l1 |u| + l2 u^2 / 2`` over ``lo <= u <= hi`` for each coordinate.

    In one dimension the constrained minimiser of a convex function is the clipped unconstrained
    one. If there is no unconstrained minimiser, it counts as infinite.
    """
    downhill = np.sign(z) * np.maximum(np.abs(z) - l1, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        u = np.divide(-downhill, l2, out=np.zeros_like(z), where=downhill != 0)
    clipped: np.ndarray = np.clip(u, lo, hi)
    return clipped
