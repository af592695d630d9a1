"""Proximal maps: what is done to a point after the gradient step, in the same pass.

``prox(x, rate, *parameters)`` is a scalar function like a rule. Its parameters may be scalars, one
for all coordinates, or arrays, one for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Box", "NonNegative", "Proximal"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The scalar functions here are maths like rules.py: they have no one type.


def nothing(x, rate):
    """Leave the point where it is."""
    return x


def clip(x, rate, lo, hi):
    """Project onto the interval [lo, hi]. A NaN stays a NaN."""
    x = lo if x < lo else x
    return hi if x > hi else x


def gradient(x, g):
    """How far ``x`` is from stationary without constraints: the gradient."""
    return g


def projected_gradient(x, g, lo, hi):
    """How far ``x`` is from stationary on [lo, hi]: the gradient, cut short at the walls."""
    return clip(g, g, x - hi, x - lo)


class Proximal:
    """What every proximal map has: a scalar function, its parameters, its stationarity measure."""

    prox: Callable[..., Any] = staticmethod(nothing)
    residual: Callable[..., Any] = staticmethod(gradient)

    def parameters(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        """Return flat arrays, one entry for each coordinate, and scalars, in this order."""
        return (), ()

    def penalty(self, x: np.ndarray) -> float:
        """Return what the map adds to the objective at ``x``: 0 for a projection."""
        return 0.0


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

    def __post_init__(self) -> None:
        lo, hi = np.asarray(self.lo, np.float64), np.asarray(self.hi, np.float64)
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

    def leaves_free(self) -> bool:
        """Tell whether there is a coordinate that the bounds do not fix."""
        return bool((self.lo < self.hi).any())

    def parameters(
        self, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[tuple[np.ndarray, ...], tuple[float, ...]]:
        """Return the bounds, rounded inwards: scalars where both are, else flat arrays."""
        lo, hi = round_inwards(self.lo, self.hi, dtype)
        if lo.ndim == 0:
            return (), (float(lo), float(hi))
        try:
            return tuple(np.broadcast_to(bound, shape).flatten() for bound in (lo, hi)), ()
        except ValueError:
            raise ValueError(
                f"bounds have shape {lo.shape}, expected a shape that broadcasts to {shape} "
                "like the parameters"
            ) from None


def NonNegative() -> Box:  # noqa: N802, it stands for a class of problems
    """Projection onto ``x >= 0``."""
    return Box(0.0, np.inf)


def round_inwards(
    lo: np.ndarray, hi: np.ndarray, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Round bounds to ``dtype`` so that what respects the rounded ones respects the given ones.

    Where no number of the dtype lies between them, both become the nearest one.
    """
    lo, hi = np.broadcast_arrays(lo, hi)
    with np.errstate(over="ignore"):
        low, high = lo.astype(dtype), hi.astype(dtype)
        inner_low = np.where(low < lo, np.nextafter(low, dtype.type(np.inf)), low)
        inner_high = np.where(high > hi, np.nextafter(high, dtype.type(-np.inf)), high)
    crossed = inner_low > inner_high
    return np.where(crossed, low, inner_low), np.where(crossed, low, inner_high)
