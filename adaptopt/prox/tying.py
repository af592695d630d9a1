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

from ..arrays import read_array, read_real
from .separable import Box, Parameters, Proximal, check_fits

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The functions of numbers have no one type.

# Newton's method on a concave increasing function rises to the root in some ten steps.
NEWTON_STEPS = 100

# Rates are kept so far from 0, where the largest is about 1: quotients by them are finite.
LEAST_RATE = 1e-200

# Splits a float64 number into two of half as many bits, whose products are exact (Dekker 1971).
HALVES = 2.0**27 + 1.0


def newton_step(norm, slope, bound):
    """Step towards ``norm == bound``, by ``1 / norm``, which is concave and nearly linear."""
    return (norm / bound - 1.0) * norm**2 / slope


def rise(theta, norm, slope, bound):
    """Return the next multiplier, where the norm is still too large."""
    return theta + newton_step(norm, slope, bound) if norm > bound else theta


# -- functions of a map: those of arrays and of numbers, on any device -----------------------------

# The multiplier is at least what each coordinate alone asks for. From there on no coordinate is
# larger than the bound on all: squares do not overflow, and sums do not cancel.


def simplex_alone(v, r, total):
    """Return the multiplier that leaves ``total`` of a coordinate, or the number just below."""
    tau = (v - total) / r
    return tau - 4e-16 * abs(tau)


def simplex_terms(v, r, tau, total):
    """Sum up what is positive."""
    u = v - tau * r
    return (u, r) if u > 0.0 else (0.0, 0.0)


def simplex_advance(tau, u, r, total):
    """Michelot (1986): the multiplier for which those that are positive sum up to ``total``."""
    return tau + (u - total) / r if r > 0.0 else tau


def simplex_result(v, r, tau, a, total):
    """Return what is positive, else 0; the sum is right for certain."""
    u = v - tau * r
    return u * (total / a) if u > 0.0 else 0.0


def ball_alone(v, r, radius):
    """Return the multiplier that brings a coordinate to the sphere."""
    return (abs(v) / radius - 1.0) / r


def ball_shrunk(v, r, theta):
    """Shrink a coordinate."""
    return v / (1.0 + theta * r)


def ball_slope(u, r, theta):
    """Return what a coordinate adds to the slope of the squared norm."""
    return u**2 * r / (1.0 + theta * r)


def ball_terms(v, r, theta, radius):
    """Sum up squares and slopes, in units of the radius."""
    u = ball_shrunk(v, r, theta) / radius
    return u * u, ball_slope(u, r, theta)


def ball_advance(theta, squares, slope, radius):
    """Step towards the sphere."""
    return rise(theta, sqrt(squares), slope, 1.0)


def ball_result(v, r, theta, squares, radius):
    """Return the coordinate, on the sphere for certain."""
    u, norm = ball_shrunk(v, r, theta), sqrt(squares)
    return u / norm if norm > 1.0 else u


def group_alone(v, r, lam):
    """Return the norm that is left of a coordinate."""
    return abs(v) - lam * r


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
    return v * (s / (s + lam * r))


def anything(v, r, number):
    """Return a bound for roots of which none is known."""
    return -math.inf


# -- maps ------------------------------------------------------------------------------------------


class NonSeparable(Proximal):
    """A proximal map that is applied after the kernel, with the rates that it has written down.

    A CUDA device solves it by what ties the coordinates of a group, one number ``theta`` each. It
    rises from ``start``, at most ``most_steps(size)`` times, to the root of a function of two sums:

    ``alone(v, r, number) -> theta``
        A number that the root is not below, by one coordinate: ``theta`` starts at the largest.
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
    alone: Callable[..., Any] = staticmethod(anything)
    terms: Callable[..., Any] | None = None
    advance: Callable[..., Any] | None = None
    result: Callable[..., Any] | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to change a map: equality and hash go by its parameters."""
        if name in vars(self):
            kind = type(self).__name__
            raise AttributeError(f"{kind}.{name} cannot be assigned to, expected a new {kind}(...)")
        super().__setattr__(name, value)

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
    In the metric of the rates :math:`r`: :math:`x = [v - \tau r]_+`. Newton's method finds
    :math:`\tau` from below, each time among the coordinates that are still positive (Michelot,
    Journal of Optimization Theory and Applications 50 (1986), for equal rates). It is kept in two
    float64 numbers, as the point may be many orders of magnitude larger than its total.

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
    alone = staticmethod(simplex_alone)
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

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return nothing, if ``dtype`` has such a total."""
        check_fits("Simplex.total", self.total, dtype)
        return (), ()

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        if not x.size:
            return x
        r = _metric(rates)
        # A power of two, for numbers near the largest: sums and products of halves stay finite.
        unit = -math.frexp(max(float(np.max(np.abs(x))), self.total))[1]
        v, total = np.ldexp(x.ravel().astype(np.float64), unit), math.ldexp(self.total, unit)
        tau, rest, before = float(np.max((v - total) / r)), 0.0, None
        for _ in range(self.most_steps(v.size) + 1):
            u = _above(v, r, tau, rest)
            positive = u > 0.0
            if not positive.any():  # rounding of tau hides the largest
                positive = u / r == np.max(u / r)
            rest += (float(u[positive].sum()) - total) / float(r[positive].sum())
            tau, rest = tau + rest, rest - ((tau + rest) - tau)
            if before is not None and (positive == before).all():
                break
            before = positive
        u = np.maximum(_above(v, r, tau, rest), 0.0)
        if not u.any():  # total is nothing beside the point
            u = positive * r
        projected: np.ndarray = (u * (self.total / float(u.sum()))).reshape(x.shape)
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

    alone = staticmethod(ball_alone)
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
        v, r = x.astype(np.float64), _metric(rates).reshape(x.shape)
        # Newton's method on 1 / norm - 1 / radius, which is nearly linear in theta and concave.
        with np.errstate(over="ignore"):
            theta = float(np.max(ball_alone(v, r, self.radius), initial=0.0))
        for _ in range(NEWTON_STEPS):
            u = ball_shrunk(v, r, theta) / self.radius
            norm = float(np.linalg.norm(u))
            if norm <= 1.0:
                break
            step = newton_step(norm, float(np.sum(ball_slope(u, r, theta))), 1.0)
            theta += step
            if step <= 1e-15 * theta:
                break
        if theta == 0.0:
            return x
        u = ball_shrunk(v, r, theta)
        projected: np.ndarray = u / max(1.0, float(np.linalg.norm(u / self.radius)))
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
        A label for each element of the array, or a sequence with the flat indices of each group;
        elements in no group are not penalised. Groups do not overlap. Labels are a flat sequence,
        or a NumPy array of the shape of the parameters; every label is that of a group, -1 too.

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

    alone = staticmethod(group_alone)
    terms = staticmethod(group_terms)
    advance = staticmethod(group_advance)
    result = staticmethod(group_result)

    def __init__(self, lam: float, groups: Any) -> None:
        if not (np.isfinite(lam) and lam >= 0):
            raise ValueError(f"GroupL2.lam is {lam!r}, expected a finite number >= 0")
        self.lam = float(lam)
        self.groups, self._labels = _read_groups(groups)
        # Of labels that are no flat array.
        self._shape = np.shape(groups) if self._labels is not None and np.ndim(groups) > 1 else None

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
        v, r = x.flatten().astype(np.float64), rates.ravel()
        self._check(v.size)
        if self.lam == 0:
            return x
        labels, members, count = self.groups
        with np.errstate(over="ignore"):
            weights = np.maximum(self.lam * r[members].astype(np.float64), np.finfo(float).tiny)
        vm = v[members]
        # The norm s of what is left is the root of norm(v / (s + lam r)) = 1. One over that norm is
        # concave in s, so Newton's method rises to the root from below.
        s = np.zeros(count)
        np.maximum.at(s, labels, np.abs(vm) - weights)
        scale = np.zeros(count)  # of s, whose inverse may underflow
        np.maximum.at(scale, labels, np.abs(vm))
        for _ in range(NEWTON_STEPS):
            denominators = s[labels] + weights
            w = vm / denominators
            norm = _norms(w, labels, count)
            slope = _sums(w**2 * (scale[labels] / denominators), labels, count)
            alive = norm > 1.0
            step = np.where(alive, newton_step(norm, np.where(alive, slope, 1.0), 1.0), 0.0) * scale
            s += step
            if (step <= 1e-15 * s).all():
                break
        v[members] = vm * (s[labels] / (s[labels] + weights))
        return v.reshape(x.shape)

    def penalty(self, x: np.ndarray) -> float:
        """Return ``lam`` times the sum of the groups' norms."""
        labels, members, count = self.groups
        self._check(x.size)
        values = x.ravel()[members].astype(np.float64)
        unit = float(np.max(np.abs(values), initial=0.0))
        if not 0.0 < unit < math.inf:
            return self.lam * unit
        return self.lam * unit * float(_norms(values / unit, labels, count).sum())

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return nothing, if the groups fit the shape."""
        self._check(int(np.prod(shape)))
        if self._shape is not None and self._shape != tuple(shape):
            raise ValueError(
                f"GroupL2.groups is an array of shape {self._shape}, expected labels of the shape "
                f"{tuple(shape)} of the parameters; as flat indices of each group, pass "
                "groups.tolist()"
            )
        return (), ()

    def _check(self, size: int) -> None:
        if self._labels is not None and self._labels != size:
            raise ValueError(
                f"GroupL2.groups has {self._labels} labels, expected {size}: one for each element "
                "of the parameters"
            )
        members = self.groups[1]
        if members.size and int(members.max()) >= size:
            raise ValueError(
                f"GroupL2.groups has index {int(members.max())}, expected less than {size}, the "
                "size of the parameters"
            )


def _read_groups(groups: Any) -> tuple[tuple[np.ndarray, np.ndarray, int], int | None]:
    """Return the label of each member, its flat index and how many groups there are.

    And how many labels were given, if groups were given by labels.
    """
    count = None
    if isinstance(groups, Sequence) and groups and np.ndim(groups[0]) == 1:
        parts = [read_array("GroupL2.groups", part) for part in groups]
    else:
        labels = read_array("GroupL2.groups", groups)
        if labels.dtype.kind not in "iu":
            raise TypeError(f"GroupL2.groups has dtype {labels.dtype}, expected integers")
        flat = labels.ravel()
        count = flat.size
        if labels.ndim > 1 and count > 1 and np.unique(flat).size == count:
            raise ValueError(
                f"GroupL2.groups is an array of shape {labels.shape} with another label for each "
                "element, expected equal labels in a group; as flat indices of each group, pass "
                "groups.tolist()"
            )
        parts = [np.flatnonzero(flat == label) for label in np.unique(flat)]
    if any(part.dtype.kind not in "iu" for part in parts if part.size):
        raise TypeError("GroupL2.groups holds numbers that are not integers, expected flat indices")
    members = np.concatenate([part.astype(np.intp) for part in parts])
    if count is None and not members.size:
        raise ValueError("GroupL2.groups has only empty groups, expected flat indices of elements")
    if members.size and (members.min() < 0 or np.unique(members).size != members.size):
        raise ValueError(
            "GroupL2.groups overlap or have negative indices, expected each index at most once"
        )
    labels = np.repeat(np.arange(len(parts)), [part.size for part in parts])
    return (labels, members, len(parts)), count


def _metric(rates: np.ndarray) -> np.ndarray:
    """Return flat rates with about 1 for the largest, none of them 0 or infinite."""
    r = rates.flatten().astype(np.float64)
    infinite = np.isinf(r)
    if infinite.any():
        r[infinite] = min(1e100 * float(np.max(r[~infinite], initial=1e-100)), np.finfo(float).max)
    scaled = np.ldexp(r, -math.frexp(float(np.max(r, initial=0.0)))[1])
    return np.maximum(scaled, LEAST_RATE)


def _above(v: np.ndarray, r: np.ndarray, tau: float, rest: float) -> np.ndarray:
    """Return ``v - (tau + rest) * r``, to its last digits though ``v`` is much larger."""
    product = tau * r
    high, a_high = HALVES * r, HALVES * tau
    high, a_high = high - (high - r), a_high - (a_high - tau)
    low, a_low = r - high, tau - a_high
    lost = ((a_high * high - product) + a_high * low + a_low * high) + a_low * low
    above: np.ndarray = ((v - product) - lost) - rest * r
    return above


def _sums(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(labels, values, count)


def _norms(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    norms: np.ndarray = np.sqrt(_sums(values**2, labels, count))
    return norms


def _positive(name: str, value: float) -> float:
    number = read_real(name, value)
    if number.ndim or not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return float(number)
