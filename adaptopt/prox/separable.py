"""Proximal maps: what is done to a point after the gradient step, in the same pass.

``prox(x, rate, *parameters)`` is a scalar function like a rule: it minimises
``penalty(u) + (u - x)**2 / (2 * rate)`` over u, where ``rate`` is the effective learning rate of
the coordinate in this step. So a step minimises the linearised objective plus the penalty in the
step's own diagonal metric (Duchi, Hazan & Singer 2011, eq. 4). Parameters may be scalars, one for
all coordinates, or arrays, one for each.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..arrays import read_real
from ..scalar import clip as clip_number
from ..scalar import geometric, soft, times

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The scalar functions here are maths, as rules are: they have no one type, and no literals.

Parameters = tuple[tuple[np.ndarray, ...], tuple[float, ...]]


# -- scalar functions ------------------------------------------------------------------------------


def nothing(x, rate):
    """Leave the point where it is."""
    return x


def clip(x, rate, lo, hi):
    """Project onto the interval [lo, hi]."""
    return clip_number(x, lo, hi)


def soft_threshold(x, rate, l1):
    """Move by ``rate * l1`` towards zero, and no further."""
    return soft(x, times(rate, l1))


def shrink(x, rate, l2, one):
    """Divide by ``1 + rate * l2``."""
    return x / (one + times(rate, l2))


def soft_threshold_and_shrink(x, rate, l1, l2, one):
    """First the one, then the other."""
    return shrink(soft_threshold(x, rate, l1), rate, l2, one)


@cache
def then_clip(prox):
    """Return a proximal map, then the projection onto [lo, hi]: exact in one dimension."""

    def bounded(x, rate, lo, hi, *rest):
        return clip(prox(x, rate, *rest), rate, lo, hi)

    return bounded


# What k applications in a row come to, at one rate and from a point that respects the bounds.


def nothing_repeated(k, x, rate):
    """Leave the point where it is."""
    return x


def clip_repeated(k, x, rate, lo, hi):
    """Project once."""
    return clip_number(x, lo, hi)


def soft_threshold_repeated(k, x, rate, l1):
    """Move by ``k * rate * l1`` towards zero."""
    return soft(x, times(k * rate, l1))


def shrink_repeated(k, x, rate, l2, one):
    """Divide by ``(1 + rate * l2)**k``."""
    return x * geometric(shrink(one, rate, l2, one), k)[0]


def elastic_repeated(k, x, rate, l1, l2, one):
    """Shrink k times, and meanwhile move towards zero by less and less."""
    power, total = geometric(shrink(one, rate, l2, one), k)
    return soft(power * x, times(times(rate, l1), total))


@cache
def then_clip_repeated(repeat):
    """Return a repeated map, then the projection onto [lo, hi]."""

    def bounded(k, x, rate, lo, hi, *rest):
        return clip_number(repeat(k, x, rate, *rest), lo, hi)

    return bounded


# How far a point is from stationary: the subgradient that is nearest to zero.


def gradient(x, g):
    """Without a penalty: the gradient."""
    return g


def projected_gradient(x, g, lo, hi):
    """On [lo, hi]: the gradient, cut short at the walls."""
    return clip_number(g, x - hi, x - lo)


def l1_gradient(x, g, l1):
    """With ``l1 * abs(x)``: at zero, every slope from -l1 to l1 is a subgradient."""
    zero = l1 - l1
    slope = l1 if x > zero else -l1
    return soft(g, l1) if x == zero else g + slope


def l1_gradients(x, g, l1):
    """Do the same for arrays."""
    return np.where(x == 0, g - np.clip(g, -l1, l1), g + l1 * np.sign(x))


def l2_gradient(x, g, l2, one):
    """With ``l2 / 2 * x**2``."""
    return g + l2 * x


def elastic_gradient(x, g, l1, l2, one):
    """With both."""
    return l1_gradient(x, g + l2 * x, l1)


@cache
def cut_short(residual):
    """Return a measure, cut short at the walls lo and hi."""

    def bounded(x, g, lo, hi, *rest):
        return projected_gradient(x, residual(x, g, *rest), lo, hi)

    return bounded


@cache
def with_penalty(residual):
    """Return a measure of what has a penalty more, whose l1 and l2 follow the parameters."""

    def penalised(x, g, *rest):
        return residual(x, l1_gradient(x, g + rest[-1] * x, rest[-2]), *rest[:-2])

    return penalised


# What a coordinate adds to the objective, computed in float64.


def no_cost(x, *parameters):
    """Without a penalty: nothing."""
    return 0.0


def l1_cost(x, l1):
    """Return ``l1 * abs(x)``."""
    return l1 * abs(x)


def l2_cost(x, l2, one):
    """Return ``l2 / 2 * x**2``."""
    return 0.5 * l2 * x * x


def elastic_cost(x, l1, l2, one):
    """Return the sum of both."""
    return l1_cost(x, l1) + l2_cost(x, l2, one)


@cache
def cost_with_penalty(cost):
    """Return the cost with a penalty more, whose l1 and l2 follow the parameters."""

    def penalised(x, *rest):
        return cost(x, *rest[:-2]) + (rest[-2] * abs(x) + 0.5 * rest[-1] * x * x)

    return penalised


@cache
def cost_within(cost):
    """Return a cost whose parameters follow the walls lo and hi."""

    def bounded(x, lo, hi, *rest):
        return cost(x, *rest)

    return bounded


# -- proximal maps as values -----------------------------------------------------------------------


class Proximal:
    """What every proximal map has; without a subclass it does nothing."""

    prox: Callable[..., Any] = staticmethod(nothing)
    residual: Callable[..., Any] = staticmethod(gradient)
    repeat: Callable[..., Any] = staticmethod(nothing_repeated)
    cost: Callable[..., Any] = staticmethod(no_cost)
    # Whether each coordinate has a map of its own, which the kernel applies; see `nonseparable`.
    is_separable: bool = True

    def __eq__(self, other: object) -> bool:
        """Tell whether two maps are of one kind and have the same parameters."""
        if type(self) is not type(other):
            return NotImplemented
        mine, others = vars(self), vars(other)
        return mine.keys() == others.keys() and all(
            _same(value, others[name]) for name, value in mine.items()
        )

    def __hash__(self) -> int:
        return hash((type(self), *[v for v in vars(self).values() if isinstance(v, float)]))

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return flat arrays, one entry for each coordinate, and scalars, in this order."""
        return (), ()

    @property
    def is_projection(self) -> bool:
        """Whether it leaves a point within the bounds where it is, at any rate."""
        return self.prox in (nothing, clip)

    @property
    def has_penalty(self) -> bool:
        """Whether it adds to the objective, beyond keeping the point in a set."""
        return self.cost is not no_cost or type(self).penalty is not Proximal.penalty

    def penalty(self, x: np.ndarray) -> float:
        """Return what is added to the objective: the costs of all coordinates."""
        if self.cost is no_cost:
            return 0.0
        arrays, scalars = self.parameters(x.shape, np.dtype(np.float64))
        return float(np.sum(self.cost(x.reshape(-1).astype(np.float64), *arrays, *scalars)))

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return the point of the domain that is nearest to ``x``, as a new array."""
        return np.array(x)

    def within(self, box: Box) -> Proximal:
        """Return this map with bounds."""
        return _Bounded(self, box)

    def domain(self) -> Domain | None:
        """Return what the map stands for where that is bounds and an elastic net, else None."""
        return Domain() if type(self) is Proximal else None

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Apply the map to whole arrays, where it is not separable."""
        raise NotImplementedError


def _same(a: Any, b: Any) -> bool:
    """Tell whether two parameters of a map are equal: numbers, arrays, or tuples of them."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or bool(np.array_equal(a, b))


class _Separable(Proximal):
    """A map whose fields are numbers or arrays at least 0."""

    # What the scalar function takes after the fields.
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            array = read_real(f"{type(self).__name__}.{name}", value).astype(np.float64)
            if not ((array >= 0) & np.isfinite(array)).all():
                raise ValueError(
                    f"{type(self).__name__}.{name} is {value!r}, expected finite numbers >= 0"
                )
            object.__setattr__(self, name, array if array.ndim else float(array))

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return the fields: as scalars where all are, else as flat arrays; and the constants."""
        values = tuple(vars(self).values())
        if all(np.ndim(value) == 0 for value in values):
            return (), (*values, *self.constants)
        return tuple(_flat(type(self).__name__, value, shape) for value in values), self.constants


class Domain(NamedTuple):
    """Bounds, and ``l1 * abs(x) + l2 / 2 * x**2`` of every coordinate."""

    lo: Any = -np.inf
    hi: Any = np.inf
    l1: float = 0.0
    l2: float = 0.0

    @property
    def is_bounded(self) -> bool:
        """Whether all bounds are finite."""
        return bool(np.isfinite(self.lo).all() and np.isfinite(self.hi).all())

    def penalised(self, l1: Any, l2: Any) -> Domain | None:
        """Return it with a penalty; None where that differs from coordinate to coordinate."""
        return None if np.ndim(l1) or np.ndim(l2) else self._replace(l1=l1, l2=l2)

    def plus(self, l1: float, l2: float) -> Domain:
        """Return it with one penalty more."""
        return self._replace(l1=self.l1 + l1, l2=self.l2 + l2)

    def flat(self, shape: tuple[int, ...]) -> Domain:
        """Return it with flat arrays of bounds for points of a shape."""
        lo, hi = (np.broadcast_to(bound, shape).flatten() for bound in (self.lo, self.hi))
        return self._replace(lo=lo, hi=hi)


@dataclass(frozen=True, eq=False)
class L1(_Separable):
    """The penalty ``lam * abs(x)``, which makes coordinates exactly zero.

    Parameters
    ----------
    lam : float or array_like
        At least 0; an array broadcasts to the shape of the parameters.

    Notes
    -----
    The step's point is moved by ``rate * lam`` towards zero, and no further (soft thresholding).

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011), section 5.1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> res = ao.minimize(lambda x: ((x - 1) @ (x - 1) / 2, x - 1), [3.0, -2.0], jac=True,
    ...                   method="adagrad", prox=ao.L1([0.25, 2.0]), options={"lr": 1.0})
    >>> res.x.round(4), round(res.fun, 4)
    (array([0.75, 0.  ]), 0.7188)
    """

    lam: Any
    prox = staticmethod(soft_threshold)
    residual = staticmethod(l1_gradient)
    repeat = staticmethod(soft_threshold_repeated)
    cost = staticmethod(l1_cost)

    def domain(self) -> Domain | None:
        """Return the penalty."""
        return Domain().penalised(self.lam, 0.0)


@dataclass(frozen=True, eq=False)
class L2(_Separable):
    """The penalty ``lam / 2 * x**2``.

    Parameters
    ----------
    lam : float or array_like
        At least 0; an array broadcasts to the shape of the parameters.

    Notes
    -----
    The step's point is divided by ``1 + rate * lam``. Unlike ``weight_decay``, which adds the
    penalty's gradient, it does not enter the method's accumulators.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0])
    >>> ao.Optimizer(x, ao.SGD(lr=0.5), prox=ao.L2(1.0)).step(np.zeros(1))
    >>> x
    array([2.])
    """

    lam: Any
    prox = staticmethod(shrink)
    residual = staticmethod(l2_gradient)
    repeat = staticmethod(shrink_repeated)
    cost = staticmethod(l2_cost)
    constants = (1.0,)

    def domain(self) -> Domain | None:
        """Return the penalty."""
        return Domain().penalised(0.0, self.lam)


@dataclass(frozen=True, eq=False)
class ElasticNet(_Separable):
    """The penalty ``l1 * abs(x) + l2 / 2 * x**2`` (Zou & Hastie 2005).

    Parameters
    ----------
    l1, l2 : float or array_like
        At least 0; arrays broadcast to the shape of the parameters.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0, 0.1])
    >>> ao.Optimizer(x, ao.SGD(lr=0.5), prox=ao.ElasticNet(1.0, 0.5)).step(np.zeros(2))
    >>> x
    array([2., 0.])
    """

    l1: Any
    l2: Any
    prox = staticmethod(soft_threshold_and_shrink)
    residual = staticmethod(elastic_gradient)
    repeat = staticmethod(elastic_repeated)
    cost = staticmethod(elastic_cost)
    constants = (1.0,)

    def domain(self) -> Domain | None:
        """Return the penalty."""
        return Domain().penalised(self.l1, self.l2)


@dataclass(frozen=True, eq=False)
class Box(Proximal):
    """Projection onto ``lo <= x <= hi``.

    Parameters
    ----------
    lo, hi : float or array_like
        Bounds, scalars or anything that broadcasts to the shape of the parameters; infinite where
        there is no bound. Where ``lo == hi`` the coordinate is frozen.

    Raises
    ------
    ValueError
        Where ``lo > hi``, a bound is NaN, ``lo`` is +inf or ``hi`` is -inf.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(3)
    >>> opt = ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.Box(-0.5, [0.1, 0.2, 9.0]))
    >>> opt.step(np.array([-1.0, 1.0, -1.0]))
    >>> x
    array([ 0.1, -0.5,  1. ])
    """

    lo: Any
    hi: Any
    prox = staticmethod(clip)
    residual = staticmethod(projected_gradient)
    repeat = staticmethod(clip_repeated)

    def __post_init__(self) -> None:
        lo, hi = (
            read_real(f"Box.{name}", value).astype(np.float64) for name, value in vars(self).items()
        )
        try:
            wrong = ~(lo <= hi) | (lo == np.inf) | (hi == -np.inf)
        except ValueError:
            raise ValueError(
                f"lower bounds of shape {lo.shape} and upper bounds of shape {hi.shape} "
                "do not broadcast together"
            ) from None
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            low, high = (float(np.broadcast_to(bound, wrong.shape)[where]) for bound in (lo, hi))
            raise ValueError(
                f"bounds{list(where) if where else ''} is ({low}, {high}), expected lower "
                "<= upper, neither NaN, not on one side of everything."
                + " An upper bound is less than the corresponding lower bound."
                * (low > high)
            )
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)

    def project(self, x: np.ndarray) -> None:
        """Clip ``x``, in place, to the bounds as a step in its dtype respects them."""
        arrays, scalars = self.parameters(x.shape, x.dtype)
        lo, hi = scalars or (wall.reshape(x.shape) for wall in arrays)
        np.clip(x, lo, hi, out=x)

    def domain(self) -> Domain | None:
        """Return the bounds."""
        return Domain(self.lo, self.hi)

    def leaves_free(self) -> bool:
        """Tell whether there is a coordinate that the bounds do not fix."""
        return bool((self.lo < self.hi).any())

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return the bounds, rounded inwards: scalars where both are, else flat arrays."""
        lo, hi = round_inwards(self.lo, self.hi, dtype)
        if lo.ndim == 0:
            return (), (float(lo), float(hi))
        return tuple(_flat("bounds", bound, shape) for bound in (lo, hi)), ()

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` clipped to the bounds."""
        lo, hi = round_inwards(self.lo, self.hi, x.dtype)
        clipped: np.ndarray = np.clip(x, lo, hi)
        return clipped


class _Bounded(Proximal):
    """A separable map, then a projection onto bounds."""

    def __init__(self, first: Proximal, box: Box) -> None:
        self._first, self._box = first, box
        self.prox = then_clip(first.prox)
        self.residual = cut_short(first.residual)
        self.repeat = then_clip_repeated(first.repeat)
        self.cost = cost_within(first.cost)

    @property
    def has_penalty(self) -> bool:
        """Whether the first map has one."""
        return self._first.has_penalty

    def __reduce__(self) -> tuple[Any, ...]:
        return _Bounded, (self._first, self._box)

    def parameters(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Parameters:
        """Return the bounds, then the parameters of the map: all as arrays where one of them is."""
        arrays, scalars = zip(
            *[part.parameters(shape, dtype) for part in (self._box, self._first)], strict=True
        )
        if not any(arrays):
            return (), scalars[0] + scalars[1]
        n = int(np.prod(shape))
        # Those that stay scalars come after the arrays; only constants may.
        fields = len(scalars[1]) - len(getattr(self._first, "constants", ()))
        columns = [
            *arrays[0],
            *[np.full(n, value) for value in scalars[0]],
            *arrays[1],
            *[np.full(n, value) for value in scalars[1][:fields]],
        ]
        return tuple(columns), scalars[1][fields:]

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return a point that respects the bounds."""
        return self._box.feasible(self._first.feasible(x))

    def domain(self) -> Domain | None:
        """Return the bounds and the penalty."""
        first = self._first.domain()
        return None if first is None else first._replace(lo=self._box.lo, hi=self._box.hi)


def NonNegative() -> Box:  # noqa: N802, it stands for a class of problems
    """Projection onto ``x >= 0``."""
    return Box(0.0, np.inf)


def _flat(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.broadcast_to(value, shape).flatten()
    except ValueError:
        raise ValueError(
            f"{name} have shape {np.shape(value)}, expected a shape that broadcasts to {shape} "
            "like the parameters"
        ) from None


def round_inwards(
    lo: np.ndarray, hi: np.ndarray, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Round bounds to ``dtype`` so that what respects the rounded ones respects the given ones.

    Where no number of the dtype lies between them, both become the nearest one. Bounds beyond all
    its finite numbers are refused.
    """
    lo, hi = np.broadcast_arrays(lo, hi)
    with np.errstate(over="ignore"):
        low, high = lo.astype(dtype), hi.astype(dtype)
        inner_low = np.where(low < lo, np.nextafter(low, dtype.type(np.inf)), low)
        inner_high = np.where(high > hi, np.nextafter(high, dtype.type(-np.inf)), high)
    crossed = inner_low > inner_high
    inner_low, inner_high = np.where(crossed, low, inner_low), np.where(crossed, low, inner_high)
    beyond = (inner_low == np.inf) | (inner_high == -np.inf)
    if beyond.any():
        where = np.atleast_1d(beyond).argmax()
        raise ValueError(
            f"bounds are ({lo.reshape(-1)[where]}, {hi.reshape(-1)[where]}), expected finite "
            f"numbers of {dtype} between them"
        )
    return inner_low, inner_high


def check_fits(name: str, value: Any, dtype: np.dtype[Any]) -> None:
    """Raise for a finite number, or one in an array, that is infinite or vanishes in a dtype."""
    given = np.asarray(value)
    with np.errstate(over="ignore", under="ignore"):
        held = given.astype(dtype)
    wrong = np.isfinite(given) & (np.isinf(held) | ((held == 0) & (given != 0)))
    if wrong.any():
        finfo: Any = np.finfo
        if dtype.name == "bfloat16":  # of which NumPy does not know
            finfo = importlib.import_module("ml_dtypes").finfo
        limits = finfo(dtype)
        first = np.atleast_1d(wrong).argmax()
        number, kept = given.reshape(-1)[first], held.reshape(-1)[first]
        expected = f"at most {limits.max}" if kept else f"at least {limits.smallest_subnormal}"
        raise ValueError(f"{name} is {number}, which is {kept:g} in {dtype}, expected {expected}")
