"""Proximal maps that tie coordinates together, in the metric of the step's rates.

A Euclidean projection after an adaptive step solves another problem, and the method loses its
guarantee. These maps minimise ``penalty(u) + sum((u - x)**2 / (2 * rates))``, which is the right
problem. All arithmetic is float64.
"""

from __future__ import annotations

import math
from math import sqrt

import numpy as np

from ..arrays import DType, check_fits, read_real
from ..scalar import ScalarFunction
from .base import Box, Parameters, Proximal

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions have no one type.

# Newton's method on a concave increasing function reaches the root from below in about ten steps.
NEWTON_STEPS = 100

# The least rate, relative to a largest of about 1: quotients by rates are then finite.
LEAST_RATE = 1e-200

# Splits a float64 number into two with half as many bits, whose products are exact (Dekker 1971).
HALVES = 2.0**27 + 1.0


def newton_step(norm, slope, bound):
    """Return Newton's step for ``1 / norm == 1 / bound``: 1 / norm is concave and nearly linear."""
    return (norm / bound - 1.0) * norm**2 / slope


def rise(theta, norm, slope, bound):
    """Return the next multiplier if the norm is still too large."""
    return theta + newton_step(norm, slope, bound) if norm > bound else theta


# -- scalar functions of the maps, for the host and for devices ------------------------------------

# The iteration starts at the largest multiplier that any single coordinate needs. From there on no
# coordinate exceeds the common bound, so that squares do not overflow and sums do not cancel.


def simplex_alone(v, r, total):
    """Return the multiplier that reduces a coordinate to ``total``, rounded down."""
    tau = (v - total) / r
    return tau - 4e-16 * abs(tau)


def simplex_terms(v, r, tau, total):
    """Return a coordinate and its rate if the coordinate is positive, else zeros."""
    u = v - tau * r
    return (u, r) if u > 0.0 else (0.0, 0.0)


def simplex_advance(tau, u, r, total):
    """Michelot (1986): the multiplier for which the positive coordinates sum to ``total``."""
    return tau + (u - total) / r if r > 0.0 else tau


def simplex_result(v, r, tau, a, total):
    """Return the positive part, scaled so that the sum is exactly ``total``."""
    u = v - tau * r
    return u * (total / a) if u > 0.0 else 0.0


def ball_alone(v, r, radius):
    """Return the multiplier that brings a coordinate to the sphere."""
    return (abs(v) / radius - 1.0) / r


def ball_shrunk(v, r, theta):
    """Shrink a coordinate."""
    return v / (1.0 + theta * r)


def ball_slope(u, r, theta):
    """Return the contribution of a coordinate to the slope of the squared norm."""
    return u**2 * r / (1.0 + theta * r)


def ball_terms(v, r, theta, radius):
    """Return a coordinate's square and slope, in units of the radius."""
    u = ball_shrunk(v, r, theta) / radius
    return u * u, ball_slope(u, r, theta)


def ball_advance(theta, squares, slope, radius):
    """Return the next multiplier, closer to the sphere."""
    return rise(theta, sqrt(squares), slope, 1.0)


def ball_result(v, r, theta, squares, radius):
    """Return the coordinate, scaled so that the point is within the ball."""
    u, norm = ball_shrunk(v, r, theta), sqrt(squares)
    return u / norm if norm > 1.0 else u


def anything(v, r, number):
    """Return minus infinity: no bound for the root is known."""
    return -math.inf


# -- maps ------------------------------------------------------------------------------------------


class NonSeparable(Proximal):
    """A proximal map that ties coordinates together.

    The kernel of the step stores the coordinates' rates, and `solve` maps the array afterwards. A
    CUDA device has a kernel for maps with one multiplier ``theta`` for each group of tied
    coordinates. It rises from ``start``, in at most ``most_steps(size)`` steps, to the root of a
    function of two sums over the group:

    ``alone(v, r, number) -> theta``
        A lower bound of the root, from one coordinate; ``theta`` starts at the largest.
    ``terms(v, r, theta, number) -> (a, b)``
        The contributions of a coordinate to the two sums.
    ``advance(theta, a, b, number) -> theta``
        The next multiplier; at the root, it does not rise.
    ``result(v, r, theta, a, number) -> x``
        The coordinate after the map.

    ``number`` is the map's parameter, and ``tied(size)`` returns which coordinates are tied.
    """

    is_separable = False
    start = 0.0
    alone: ScalarFunction = staticmethod(anything)
    terms: ScalarFunction | None = None
    advance: ScalarFunction | None = None
    result: ScalarFunction | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse to change a map, because equality and hash depend on its parameters."""
        if name in vars(self):
            kind = type(self).__name__
            raise AttributeError(f"{kind}.{name} cannot be assigned to, expected a new {kind}(...)")
        super().__setattr__(name, value)

    @property
    def has_device_kernel(self) -> bool:
        """Whether the map has the functions above."""
        return self.terms is not None

    @property
    def number(self) -> float:
        """The parameter of the map, which the functions take last."""
        raise NotImplementedError

    def most_steps(self, size: int) -> int:
        """Return the largest number of times that ``theta`` rises."""
        return NEWTON_STEPS

    def tied(self, size: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the coordinates by group, None for all of them, and where each group starts."""
        return None, np.array([0, size], np.int64)

    def within(self, box: Box) -> Proximal:
        """Raise an error: one projection after the other is not the projection onto both."""
        raise ValueError(
            f"bounds are given with {type(self).__name__}, expected one of them: clipping after "
            "a map that ties coordinates together is not the projection onto both"
        )


class Simplex(NonSeparable):
    r"""Projection onto the simplex ``x >= 0, sum(x) == total``, over the whole array.

    Parameters
    ----------
    total : float, default 1.0
        Sum of all coordinates, greater than 0.

    Notes
    -----
    With :math:`r` the effective learning rates of the step, the point :math:`v` becomes

    .. math:: x_i = \max(v_i - \tau r_i, 0), \qquad \sum_i x_i = \text{total},

    which is the projection in the metric of these rates, not the Euclidean one. Newton's method
    approaches :math:`\tau` from below. Each step uses the coordinates that are still positive. Two
    float64 numbers hold :math:`\tau`, because the point may be many orders of magnitude larger than
    its total.

    References
    ----------
    Michelot, "A finite algorithm for finding the projection of a point onto the canonical simplex
    of R^n", Journal of Optimization Theory and Applications 50 (1986), for equal rates.

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
        """The sum of all coordinates."""
        return self.total

    def most_steps(self, size: int) -> int:
        """Return the largest number of steps: each leaves at least one positive coordinate less."""
        return size + 1

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return no parameters, after checking that ``dtype`` can represent the total."""
        check_fits("Simplex.total", self.total, dtype)
        return (), ()

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the projection."""
        if not x.size:
            return x
        r = _metric(rates)
        # Scale by a power of two, so that sums and products stay finite for the largest numbers.
        unit = -math.frexp(max(float(np.max(np.abs(x))), self.total))[1]
        v, total = np.ldexp(x.ravel().astype(np.float64), unit), math.ldexp(self.total, unit)
        tau, rest, before = float(np.max((v - total) / r)), 0.0, None
        for _ in range(self.most_steps(v.size) + 1):
            u = _above(v, r, tau, rest)
            positive = u > 0.0
            if not positive.any():  # tau was rounded up beyond the largest
                positive = u / r == np.max(u / r)
            rest += (float(u[positive].sum()) - total) / float(r[positive].sum())
            tau, rest = tau + rest, rest - ((tau + rest) - tau)
            if before is not None and (positive == before).all():
                break
            before = positive
        u = np.maximum(_above(v, r, tau, rest), 0.0)
        if not u.any():  # total is negligible relative to the point
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
        Largest Euclidean norm of the array, greater than 0.

    Notes
    -----
    With :math:`r` the effective learning rates of the step, a point :math:`v` outside becomes

    .. math:: x_i = \frac{v_i}{1 + \theta r_i}, \qquad \|x\|_2 = \text{radius},

    which is the projection in the metric of these rates. Newton's method finds :math:`\theta`.

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


def _metric(rates: np.ndarray) -> np.ndarray:
    """Return flat rates, scaled so that the largest is about 1 and none is 0 or infinite."""
    r = rates.flatten().astype(np.float64)
    infinite = np.isinf(r)
    if infinite.any():
        r[infinite] = min(1e100 * float(np.max(r[~infinite], initial=1e-100)), np.finfo(float).max)
    scaled = np.ldexp(r, -math.frexp(float(np.max(r, initial=0.0)))[1])
    return np.maximum(scaled, LEAST_RATE)


def _above(v: np.ndarray, r: np.ndarray, tau: float, rest: float) -> np.ndarray:
    """Return ``v - (tau + rest) * r``, accurate to the last digits even if ``v`` is much larger."""
    product = tau * r
    high, a_high = HALVES * r, HALVES * tau
    high, a_high = high - (high - r), a_high - (a_high - tau)
    low, a_low = r - high, tau - a_high
    lost = ((a_high * high - product) + a_high * low + a_low * high) + a_low * low
    above: np.ndarray = ((v - product) - lost) - rest * r
    return above


def _positive(name: str, value: float) -> float:
    number = read_real(name, value)
    if number.ndim or not (np.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return float(number)
