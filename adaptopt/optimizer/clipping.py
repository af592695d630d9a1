"""Transformation of gradients before a step: loss scale, clipping, and when to skip.

``unit * factor`` divides by the loss scale and scales down a norm that is too large. It is the same
for all coordinates of a step. If float32 cannot represent it, or float64 only with few bits,
``unit`` is a power of two that leaves half of the exponent to ``factor``. ``limit`` clips each
coordinate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import frexp, isfinite, ldexp, nan
from numbers import Real

from ..scalar import ScalarFunction

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions have no one type.

# For each array, the sum of the squares of a factor times its elements.
Squares = Callable[[float], Sequence[float]]

# Factors for squares that overflow although the elements do not, and for squares that underflow.
DOWN, UP = 2.0**-700, 2.0**600
# A smaller sum of squares may lack some that underflowed.
SMALL = 2.0**-960


def as_given(g):
    """Return the gradient unchanged."""
    return g


def scaled(g, unit, factor):
    """Multiply by the factor from the loss scale and the global norm. Zero stays zero."""
    return factor * (unit * g) if g else g


def clipped(g, unit, factor, limit):
    """Scale, then clip to ``-limit <= g <= limit``. A NaN stays NaN."""
    g = scaled(g, unit, factor)
    g = -limit if g < -limit else g
    return limit if g > limit else g


# Exponents of factors by which float32 multiplies without loss.
COMFORTABLE = 100


def factors_for(norm, size, scale, limit):
    """Return ``unit`` and ``factor`` for gradients of the norm ``norm * size``, in float64.

    ``size`` is a power of two. Both are NaN if the norm is not finite.
    """
    factor, norm, power = 1.0 / scale, norm / scale, 0
    if not isfinite(norm):
        return nan, nan
    if norm * size > limit:
        # By fractions, because limit / norm itself may underflow.
        above, below = frexp(limit), frexp(norm)
        factor *= above[0] / below[0]
        power = above[1] - below[1] + 1 - frexp(size)[1]
    fraction, exponent = frexp(factor)
    exponent += power
    half = 0 if abs(exponent) <= COMFORTABLE else exponent // 2
    return ldexp(1.0, half), ldexp(fraction, exponent - half)


class Transformation:
    """The arguments of `Optimizer` with these names, and the scalar function for them.

    Attributes
    ----------
    function : callable
        The function that a kernel applies to each entry.
    count : int
        The number of its coefficients.
    """

    def __init__(self, clip_value: object, clip_norm: object, loss_scale: object) -> None:
        self._clip_value = _positive("clip_value", clip_value)
        self._clip_norm = _positive("clip_norm", clip_norm)
        self._loss_scale = _scale(loss_scale)
        self.function: ScalarFunction = as_given
        self.count = 0
        if self._clip_value is not None:
            self.function, self.count = clipped, 3
        elif self._clip_norm is not None or self._loss_scale is not None:
            self.function, self.count = scaled, 2

    @property
    def loss_scale(self) -> float | None:
        """The divisor of the gradients."""
        return self._loss_scale

    @loss_scale.setter
    def loss_scale(self, value: object) -> None:
        self._loss_scale = self.read_loss_scale(value)

    def read_loss_scale(self, value: object) -> float | None:
        """Return a checked loss scale."""
        if (value is None) != (self._loss_scale is None):
            raise ValueError(
                f"loss_scale is {value!r}, expected "
                + ("None" if self._loss_scale is None else "a number > 0")
                + f" because the optimizer was made with {self._loss_scale!r}"
            )
        return _scale(value)

    @property
    def looks(self) -> bool:
        """Whether the coefficients depend on the gradients."""
        return self._clip_norm is not None or self._loss_scale is not None

    @property
    def bounds(self) -> tuple[float, float]:
        """The arguments of the function of the norm: the loss scale and the largest norm."""
        return (
            1.0 if self._loss_scale is None else self._loss_scale,
            math.inf if self._clip_norm is None else self._clip_norm,
        )

    @property
    def limits(self) -> tuple[float, ...]:
        """The limit to which entries are clipped, if there is one."""
        return () if self._clip_value is None else (self._clip_value,)

    def coefficients(self, squares: Squares) -> tuple[float, ...] | None:
        """Return the function's coefficients for some gradients, or None if one is not finite.

        The gradients are read only if there is a loss scale or a largest norm. On a device, this
        waits. ``squares(factor)`` returns the sums of the squares of ``factor`` times the elements
        of each.
        """
        factors = 1.0, 1.0
        if self.looks:
            factors = factors_for(*_global_norm(squares), *self.bounds)
            if math.isnan(factors[1]):
                return None
        return (*factors, *self.limits)


def _global_norm(squares: Squares) -> tuple[float, float]:
    """Return the Euclidean norm of all elements as two factors, the second a power of two.

    It is the same for any number of threads and any order of arrays. It is not finite if an element
    is not.
    """
    found = total(squares(1.0))
    if found < SMALL:
        return math.sqrt(total(squares(UP))), 1.0 / UP
    if math.isfinite(found):
        return math.sqrt(found), 1.0
    return math.sqrt(total(squares(DOWN))), 1.0 / DOWN


def total(sums: Sequence[float]) -> float:
    """Return the sum of sums of squares, exact for any order."""
    try:
        return math.fsum(sums) if all(map(math.isfinite, sums)) else sum(sums)
    except OverflowError:
        return math.inf


def _scale(value: object) -> float | None:
    """Return a loss scale that is a valid divisor."""
    scale = _positive("loss_scale", value)
    if scale is not None and math.isinf(1.0 / scale):
        raise ValueError(f"loss_scale is {value!r}, expected at least 2**-1022")
    return scale


def _positive(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, expected a number > 0 or None")
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0 or None")
    return float(value)
