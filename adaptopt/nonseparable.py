"""Proximal maps that tie coordinates together, in the metric of the step's own rates.

A Euclidean projection after an adaptive step solves another problem and loses the method's
guarantee. These solve the right one: they minimise ``penalty(u) + sum((u - x)**2 / (2 * rates))``.
All arithmetic is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import numpy as np

from .proximal import Box, Proximal

__all__ = ["GroupL2", "L2Ball", "NonSeparable", "Simplex"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The functions of numbers have no one type.

# Newton's method on a concave increasing function rises to the root in some ten steps.
NEWTON_STEPS = 100


def newton_step(norm, slope, bound):
    """Step towards ``norm == bound``, by ``1 / norm``, which is concave and nearly linear."""
    return (norm / bound - 1.0) * norm**2 / slope


def rise(theta, norm, slope, bound):
    """Return the next multiplier, where the norm is still too large."""
    return theta + newton_step(norm, slope, bound) if norm > bound else theta


# -- functions of a map: those of arrays and of numbers, on any device -----------------------------


def simplex_terms(v, r, tau, total):
    """Sum up what is positive."""
    return (v, r) if v - tau * r > 0.0 else (0.0, 0.0)


def simplex_advance(tau, v, r, total):
    """Michelot (1986): the multiplier for which those that are positive sum up to ``total``."""
    return (v - total) / r if r > 0.0 else tau


def simplex_result(v, r, tau, a, total):
    """Return what is positive, else 0."""
    u = v - tau * r
    return u if u > 0.0 else 0.0


def ball_shrunk(v, r, theta):
    """Shrink a coordinate."""
    return v / (1.0 + theta * r)


def ball_slope(u, r, theta):
    """Return what a coordinate adds to the slope of the squared norm."""
    return u**2 * r / (1.0 + theta * r)


def ball_terms(v, r, theta, radius):
    """Sum up squares and slopes."""
    u = ball_shrunk(v, r, theta)
    return u * u, ball_slope(u, r, theta)


def ball_advance(theta, squares, slope, radius):
    """Step towards the sphere."""
    return rise(theta, sqrt(squares), slope, radius)


def ball_result(v, r, theta, squares, radius):
    """Return the coordinate, on the sphere for certain."""
    u, norm = ball_shrunk(v, r, theta), sqrt(squares)
    return u * (radius / norm) if norm > radius else u


def group_terms(v, r, s, lam):
    """Sum up squares and slopes."""
    denominator = s + lam * r
    w = v / denominator
    return w * w, w**2 / denominator


def group_advance(s, squares, slope, lam):
    """Step towards the norm of what is left; a group with too small a one stays at 0."""
    return rise(s, sqrt(squares), slope, 1.0)


def group_result(v, r, s, squares, lam):
    """Shrink a coordinate."""
    return v * s / (s + lam * r)


# -- maps ------------------------------------------------------------------------------------------


class NonSeparable(Proximal):
    """A proximal map that is applied after the kernel, with the rates that it has written down.

    A CUDA device solves it by what ties the coordinates of a group, one number ``theta`` each. It
    rises from ``start``, at most ``most_steps(size)`` times, to the root of a function of two sums:

    ``terms(v, r, theta, number) -> (a, b)``
        What a coordinate adds to the sums.
    ``advance(theta, a, b, number) -> theta``
        The next one; at the root, it does not rise.
    ``result(v, r, theta, a, number) -> x``
        The coordinate after the map.

    ``number`` is the map's parameter, and ``tied(size)`` says which coordinates are tied.
    """

    is_separable = False
    start = 0.0
    terms: Callable[..., Any] | None = None
    advance: Callable[..., Any] | None = None
    result: Callable[..., Any] | None = None

    @property
    def number(self) -> float:
        """What the functions take last."""
        raise NotImplementedError

    def most_steps(self, size: int) -> int:
        """Return how often ``theta`` rises at most."""
        return NEWTON_STEPS

    def tied(self, size: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the members of all groups, None for all coordinates, and where each starts."""
        return None, np.array([0, size], np.int64)

    def within(self, box: Box) -> Proximal:
        """Refuse: the projection onto both is not one after the other."""
        raise ValueError(
            f"bounds are given with {type(self).__name__}, expected one of them: clipping after "
            "a map that ties coordinates together is not the projection onto both"
        )


class Simplex(NonSeparable):
    r"""Projection onto the simplex ``x >= 0, sum(x) == total``, over the whole array.

    Parameters
    ----------
    total : float, default 1.0
        Greater than 0.

    Notes
    -----
    In the metric of the rates :math:`r`: :math:`x = [v - \tau r]_+`, with :math:`\tau` by sorting
    :math:`v / r` (Duchi, Shalev-Shwartz, Singer & Chandra, ICML 2008, Figure 1, for equal rates).

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> costs = np.array([3.0, 1.0, 2.0])
    >>> res = ao.minimize(lambda x: (costs @ x, costs), np.ones(3) / 3, jac=True,
    ...                   method="adagrad", prox=ao.Simplex(), options={"lr": 1.0})
    >>> res.x
    array([0., 1., 0.])
    """

    start = -math.inf
    terms = staticmethod(simplex_terms)
    advance = staticmethod(simplex_advance)
    result = staticmethod(simplex_result)

    def __init__(self, total: float = 1.0) -> None:
        self.total = _positive("Simplex.total", total)

    @property
    def number(self) -> float:
        """What the coordinates sum up to."""
        return self.total

    def most_steps(self, size: int) -> int:
        """Return how often the multiplier rises: each time one coordinate less is positive."""
        return size + 1

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        v, r = x.ravel(), rates.ravel()
        order = np.argsort(-(v / r), kind="stable")
        tau = (np.cumsum(v[order]) - self.total) / np.cumsum(r[order])
        last = np.flatnonzero(v[order] / r[order] > tau)[-1]
        projected: np.ndarray = np.maximum(x - tau[last] * rates, 0.0)
        return projected

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest point of the simplex."""
        nearest = self.solve(x.astype(np.float64), np.ones(x.shape))
        return nearest.astype(x.dtype)


class L2Ball(NonSeparable):
    r"""Projection onto the ball ``sqrt(sum(x**2)) <= radius``, over the whole array.

    Parameters
    ----------
    radius : float
        Greater than 0.

    Notes
    -----
    In the metric of the rates :math:`r`: :math:`x = v / (1 + \theta r)`, with :math:`\theta` the
    root of :math:`\|x\| = \text{radius}`.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([0.0, 0.0])
    >>> ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.L2Ball(5.0)).step(np.array([-6.0, -8.0]))
    >>> x.round(6)
    array([3., 4.])
    """

    terms = staticmethod(ball_terms)
    advance = staticmethod(ball_advance)
    result = staticmethod(ball_result)

    def __init__(self, radius: float) -> None:
        self.radius = _positive("L2Ball.radius", radius)

    @property
    def number(self) -> float:
        """The radius."""
        return self.radius

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        if np.linalg.norm(x) <= self.radius:
            return x
        # Newton's method on 1 / norm - 1 / radius, which is nearly linear in theta and concave.
        theta = 0.0
        for _ in range(NEWTON_STEPS):
            u = ball_shrunk(x, rates, theta)
            slope = np.sum(ball_slope(u, rates, theta))
            step = newton_step(np.linalg.norm(u), slope, self.radius)
            theta += step
            if step <= 1e-15 * theta:
                break
        u = ball_shrunk(x, rates, theta)
        projected: np.ndarray = u * min(1.0, self.radius / float(np.linalg.norm(u)))
        return projected

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return the nearest point of the ball."""
        nearest = self.solve(x.astype(np.float64), np.ones(x.shape))
        return nearest.astype(x.dtype)


class GroupL2(NonSeparable):
    r"""The penalty ``lam * sum over groups of sqrt(sum(x**2))``, which makes whole groups zero.

    Parameters
    ----------
    lam : float
        At least 0.
    groups : array_like of int or sequence of arrays of int
        A label for each element of the array (flat order), or the flat indices of each group;
        elements in no group are not penalised. Groups do not overlap.

    Notes
    -----
    Group lasso (Yuan & Lin 2006). In the metric of the rates :math:`r` a group becomes 0 where
    :math:`\|v / r\| \le \lambda`, else :math:`v / (1 + \lambda r / s)` with :math:`s` its own
    norm, the root of :math:`\|v / (s + \lambda r)\| = 1`.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0, 4.0, 0.1, 0.1])
    >>> opt = ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.GroupL2(1.0, [0, 0, 1, 1]))
    >>> opt.step(np.zeros(4))
    >>> x.round(6)
    array([2.4, 3.2, 0. , 0. ])
    """

    terms = staticmethod(group_terms)
    advance = staticmethod(group_advance)
    result = staticmethod(group_result)

    def __init__(self, lam: float, groups: Any) -> None:
        if not (np.isfinite(lam) and lam >= 0):
            raise ValueError(f"GroupL2.lam is {lam!r}, expected a finite number >= 0")
        self.lam = float(lam)
        self.groups = _read_groups(groups)

    @property
    def number(self) -> float:
        """The weight of the penalty."""
        return self.lam

    def tied(self, size: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the members of all groups, and where each starts; none without a penalty."""
        self._check(size)
        labels, members, count = self.groups
        if self.lam == 0:
            return members, np.zeros(1, np.int64)
        return members, np.searchsorted(labels, np.arange(count + 1))

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the minimiser."""
        v, r = x.flatten(), rates.ravel()
        self._check(v.size)
        if self.lam == 0:
            return x
        labels, members, count = self.groups
        vm, weights = v[members], self.lam * r[members]
        alive = _norms(vm / weights, labels, count) > 1.0
        # The norm s of what is left is the root of norm(v / (s + lam r)) = 1. One over that norm is
        # concave in s, so Newton's method rises to the root from 0.
        s = np.zeros(count)
        for _ in range(NEWTON_STEPS):
            denominators = s[labels] + weights
            w = vm / denominators
            norm = _norms(w, labels, count)
            slope = np.where(alive, _sums(w**2 / denominators, labels, count), 1.0)
            step = np.where(alive, newton_step(norm, slope, 1.0), 0.0)
            s += step
            if (step <= 1e-15 * s).all():
                break
        v[members] = vm * s[labels] / (s[labels] + weights)
        return v.reshape(x.shape)

    def penalty(self, x: np.ndarray) -> float:
        """Return ``lam`` times the sum of the groups' norms."""
        labels, members, count = self.groups
        self._check(x.size)
        values = x.ravel()[members].astype(np.float64)
        return self.lam * float(_norms(values, labels, count).sum())

    def _check(self, size: int) -> None:
        members = self.groups[1]
        if members.size and int(members.max()) >= size:
            raise ValueError(
                f"GroupL2.groups has index {int(members.max())}, expected less than {size}, the "
                "size of the parameters"
            )


def _read_groups(groups: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the label of each member, its flat index, and how many groups there are."""
    if isinstance(groups, Sequence) and groups and np.ndim(groups[0]) == 1:
        parts = [np.asarray(part) for part in groups]
    else:
        labels = np.asarray(groups)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"GroupL2.groups has dtype {labels.dtype}, expected integers")
        flat = labels.ravel()
        parts = [np.flatnonzero(flat == label) for label in np.unique(flat)]
    if any(part.dtype.kind not in "iu" for part in parts if part.size):
        raise TypeError("GroupL2.groups holds numbers that are not integers, expected flat indices")
    members = np.concatenate([part.astype(np.intp) for part in parts])
    if members.size and (members.min() < 0 or np.unique(members).size != members.size):
        raise ValueError(
            "GroupL2.groups overlap or have negative indices, expected each index at most once"
        )
    labels = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    return labels, members, len(parts)


def _sums(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, values, count)


def _norms(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    norms: np.ndarray = np.sqrt(_sums(values**2, labels, count))
    return norms


def _positive(name: str, value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return float(value)
