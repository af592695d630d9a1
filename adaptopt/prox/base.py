"""Proximal maps, which the kernel of a step applies after the gradient step.

``prox(x, rate, *parameters)`` is a scalar function like a rule. It minimises
``penalty(u) + (u - x)**2 / (2 * rate)`` over u. Here ``rate`` is the effective learning rate of the
coordinate in this step. So a step minimises the linearised objective plus the penalty in the
diagonal metric of the step (Duchi, Hazan & Singer 2011, eq. 4). A parameter is a scalar for all
coordinates, or an array with one number for each.

This file has the base class of all maps, and bounds. The projection onto an interval may follow
any map that acts on single coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import DType, read_real
from ..scalar import ScalarFunction
from ..scalar import clip as clip_number

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The scalar functions here are maths, as rules are: they have no one type, and no literals.

Parameters = tuple[tuple[np.ndarray, ...], tuple[float, ...]]


# -- scalar functions ------------------------------------------------------------------------------


def nothing(x, rate):
    """Leave the point unchanged."""
    return x


def clip(x, rate, lo, hi):
    """Project onto the interval [lo, hi]."""
    return clip_number(x, lo, hi)


@cache
def then_clip(prox):
    """Return a map followed by the projection onto [lo, hi], which is exact in one dimension."""

    def bounded(x, rate, lo, hi, *rest):
        return clip(prox(x, rate, *rest), rate, lo, hi)

    return bounded


# The effect of k applications in sequence, at a constant rate, from a point within the bounds.


def nothing_repeated(k, x, rate):
    """Leave the point unchanged."""
    return x


def clip_repeated(k, x, rate, lo, hi):
    """Project once."""
    return clip_number(x, lo, hi)


@cache
def then_clip_repeated(repeat):
    """Return a repeated map followed by the projection onto [lo, hi]."""

    def bounded(k, x, rate, lo, hi, *rest):
        return clip_number(repeat(k, x, rate, *rest), lo, hi)

    return bounded


# The residual of optimality: the subgradient nearest to zero.


def gradient(x, g):
    """Return the gradient, which is the residual without a penalty."""
    return g


def projected_gradient(x, g, lo, hi):
    """Return the gradient, limited so that ``x - g`` stays within [lo, hi]."""
    return clip_number(g, x - hi, x - lo)


@cache
def cut_short(residual):
    """Return a residual, limited so that ``x`` minus it stays within [lo, hi]."""

    def bounded(x, g, lo, hi, *rest):
        return projected_gradient(x, residual(x, g, *rest), lo, hi)

    return bounded


# The penalty of a coordinate, computed in float64.


def no_cost(x, *parameters):
    """Return 0: there is no penalty."""
    return 0.0


@cache
def cost_within(cost):
    """Return a cost that ignores the bounds, which come before its parameters."""

    def bounded(x, lo, hi, *rest):
        return cost(x, *rest)

    return bounded


# -- proximal maps as objects ----------------------------------------------------------------------


class Proximal:
    """The base class of all proximal maps. An instance of this class changes nothing.

    A subclass names scalar functions, which get the `parameters` of a map, and declares its
    properties.

    Attributes
    ----------
    prox : callable
        ``prox(x, rate, *parameters) -> x``, the map of one coordinate.
    repeat : callable
        ``repeat(k, x, rate, *parameters) -> x``: ``k`` maps in sequence, from a feasible point.
    repeat_sums : bool
        Whether maps at several rates come to ``repeat(1, x, sum of the rates, *parameters)``.
    residual : callable
        ``residual(x, g, *parameters)``: the subgradient of the objective nearest to zero.
    cost : callable
        ``cost(x, *parameters)``: the penalty of one coordinate.
    is_separable : bool
        Whether the kernel of the step maps each coordinate alone. Other maps have `solve`.
    is_projection : bool
        Whether ``prox`` only restricts coordinates to a set, and leaves feasible ones unchanged.
    has_penalty : bool
        Whether the map adds a penalty to the objective, not only a constraint. By default a class
        with a ``cost`` or ``penalty`` of its own does, and is no projection.
    """

    prox: ScalarFunction = staticmethod(nothing)
    residual: ScalarFunction = staticmethod(gradient)
    repeat: ScalarFunction = staticmethod(nothing_repeated)
    repeat_sums: bool = False
    cost: ScalarFunction = staticmethod(no_cost)
    is_separable: bool = True
    is_projection: bool = True
    has_penalty: bool = False

    def __init_subclass__(cls, **options: object) -> None:
        """Take a map with a cost of its own for one with a penalty, unless it says otherwise."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if "cost" in own or "penalty" in own:
            cls.has_penalty = own.get("has_penalty", True)
            cls.is_projection = own.get("is_projection", False)

    def __eq__(self, other: object) -> bool:
        """Return whether two maps have the same class and the same parameters."""
        if type(self) is not type(other):
            return NotImplemented
        mine, others = vars(self), vars(other)
        return mine.keys() == others.keys() and all(
            _same(value, others[name]) for name, value in mine.items()
        )

    def __hash__(self) -> int:
        return hash((type(self), *[v for v in vars(self).values() if isinstance(v, float)]))

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return the last arguments of the scalar functions: flat arrays, and scalars."""
        return (), ()

    @property
    def has_device_kernel(self) -> bool:
        """Whether the map can be applied to arrays of a CUDA device."""
        return True

    def penalty(self, x: np.ndarray) -> float:
        """Return the penalty: the sum of the costs of all coordinates."""
        if not self.has_penalty:
            return 0.0
        arrays, scalars = self.parameters(x.shape, np.dtype(np.float64))
        return float(np.sum(self.cost(x.reshape(-1).astype(np.float64), *arrays, *scalars)))

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return a new array: the point of the domain that is nearest to ``x``."""
        return np.array(x)

    def within(self, box: Box) -> Proximal:
        """Return this map, followed by the projection onto bounds."""
        return _Bounded(self, box)

    def domain(self) -> Domain | None:
        """Return the map as bounds and an elastic net, or None if it is something else."""
        return Domain() if type(self) is Proximal else None

    def solve(self, x: np.ndarray, rates: np.ndarray) -> np.ndarray:
        """Return the map of a whole array at the rates of its coordinates, if not separable."""
        raise NotImplementedError


def _same(a: object, b: object) -> bool:
    """Return whether two parameters of a map are equal: numbers, arrays, or tuples of them."""
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a is b or bool(np.array_equal(a, b))  # type: ignore[arg-type]


def flat(name: str, value: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """Return a flat array with one number for each coordinate of parameters of a shape."""
    try:
        return np.broadcast_to(value, shape).flatten()
    except ValueError:
        raise ValueError(
            f"{name} have shape {np.shape(value)}, expected a shape that broadcasts to {shape} "
            "like the parameters"
        ) from None


# -- bounds ----------------------------------------------------------------------------------------


class Domain(NamedTuple):
    """Bounds ``lo <= x <= hi`` and the penalty ``l1 * abs(x) + l2 / 2 * x**2``, by coordinate."""

    lo: float | np.ndarray = -np.inf
    hi: float | np.ndarray = np.inf
    l1: float = 0.0
    l2: float = 0.0

    @property
    def is_bounded(self) -> bool:
        """Whether all bounds are finite."""
        return bool(np.isfinite(self.lo).all() and np.isfinite(self.hi).all())

    def plus(self, l1: float, l2: float) -> Domain:
        """Return the domain with one more penalty."""
        return self._replace(l1=self.l1 + l1, l2=self.l2 + l2)

    def flat(self, shape: tuple[int, ...]) -> Domain:
        """Return the domain with bounds as flat arrays, for points of a shape."""
        lo, hi = (np.broadcast_to(bound, shape).flatten() for bound in (self.lo, self.hi))
        return self._replace(lo=lo, hi=hi)


@dataclass(frozen=True, eq=False)
class Box(Proximal):
    """Projection onto the box ``lo <= x <= hi``: each coordinate is clipped after each step.

    Parameters
    ----------
    lo, hi : float or array_like
        Lower and upper bounds: numbers, or arrays that broadcast to the shape of the parameters.
        An infinite bound is none. A coordinate with ``lo == hi`` is fixed.

    Raises
    ------
    ValueError
        If ``lo > hi``, if a bound is NaN, or if ``lo`` is +inf or ``hi`` is -inf.

    Notes
    -----
    Clipping is the projection in every diagonal metric, so it is right for methods with a learning
    rate for each coordinate. Bounds are rounded inwards to the dtype of the parameters.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(3)
    >>> opt = ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.Box(-0.5, [0.1, 0.2, 9.0]))
    >>> opt.step(np.array([-1.0, 1.0, -1.0]))
    >>> x
    array([ 0.1, -0.5,  1. ])
    """

    lo: Any  # given as array_like; kept as float64 arrays
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
        """Clip ``x`` in place to the bounds, rounded to its dtype as in a step."""
        arrays, scalars = self.parameters(x.shape, x.dtype)
        lo, hi = scalars or (wall.reshape(x.shape) for wall in arrays)
        np.clip(x, lo, hi, out=x)

    def domain(self) -> Domain | None:
        """Return the bounds."""
        return Domain(self.lo, self.hi)

    def leaves_free(self) -> bool:
        """Return whether the bounds leave at least one coordinate free."""
        return bool((self.lo < self.hi).any())

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return the bounds, rounded inwards: as scalars if both are, otherwise as flat arrays."""
        lo, hi = round_inwards(self.lo, self.hi, dtype)
        if lo.ndim == 0:
            return (), (float(lo), float(hi))
        return tuple(flat("bounds", bound, shape) for bound in (lo, hi)), ()

    def feasible(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` clipped to the bounds."""
        lo, hi = round_inwards(self.lo, self.hi, x.dtype)
        clipped: np.ndarray = np.clip(x, lo, hi)
        return clipped


class _Bounded(Proximal):
    """A separable map, followed by the projection onto bounds: exact for one coordinate."""

    def __init__(self, first: Proximal, box: Box) -> None:
        self._first, self._box = first, box
        self.prox = then_clip(first.prox)
        self.residual = cut_short(first.residual)
        self.repeat = then_clip_repeated(first.repeat)
        self.cost = cost_within(first.cost)

    # Properties: states keep a digest of what an instance holds, and know each other by it.
    @property
    def is_projection(self) -> bool:  # type: ignore[override]
        """Whether the first map is a projection."""
        return self._first.is_projection

    @property
    def has_penalty(self) -> bool:  # type: ignore[override]
        """Whether the first map has a penalty."""
        return self._first.has_penalty

    @property
    def repeat_sums(self) -> bool:  # type: ignore[override]
        """Whether the first map's repetitions sum their rates."""
        return self._first.repeat_sums

    def __reduce__(self) -> tuple[type[_Bounded], tuple[Proximal, Box]]:
        return _Bounded, (self._first, self._box)

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return bounds, then the map's parameters: all as arrays if one of them is an array."""
        arrays, scalars = zip(
            *[part.parameters(shape, dtype) for part in (self._box, self._first)], strict=True
        )
        if not any(arrays):
            return (), scalars[0] + scalars[1]
        n = int(np.prod(shape))
        # Only the constants may stay scalars, which come after the arrays.
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
    """Projection onto ``x >= 0``: a `Box` without an upper bound.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> ao.Optimizer(x, ao.SGD(lr=1.0), prox=ao.NonNegative()).step(np.array([0.25, 3.0]))
    >>> x
    array([0.75, 0.  ])
    """
    return Box(0.0, np.inf)


def round_inwards(lo: np.ndarray, hi: np.ndarray, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    """Round bounds to ``dtype``, inwards, so that the rounded bounds imply the given ones.

    If no number of the dtype lies between the bounds, both become the nearest one. Bounds beyond
    all finite numbers of the dtype raise an error.
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
