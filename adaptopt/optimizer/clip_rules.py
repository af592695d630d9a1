"""What is done to a gradient before the rule sees it, in the same pass: scalar functions.

``unit * factor`` divides by the loss scale and cuts the global norm short; it is the same for all
coordinates of a step. It may be a number that float32 does not hold, or float64 only in few bits:
then ``unit`` is a power of two that leaves to ``factor`` the other half of the way. ``limit`` clips
each coordinate.
"""

from __future__ import annotations

from math import frexp, isfinite, ldexp, nan

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Like rules, they have no one type.


def as_given(g):
    """Leave the gradient as it is."""
    return g


def scaled(g, unit, factor):
    """Multiply by what the loss scale and the global norm ask for. Zero stays zero."""
    return factor * (unit * g) if g else g


def clipped(g, unit, factor, limit):
    """Scale, then clip to ``-limit <= g <= limit``. A NaN stays a NaN."""
    g = scaled(g, unit, factor)
    g = -limit if g < -limit else g
    return limit if g > limit else g


# Exponents of factors that float32 multiplies by without a loss.
COMFORTABLE = 100


def factors_for(norm, size, scale, limit):
    """Return ``unit`` and ``factor`` for gradients of the norm ``norm * size``, in float64.

    ``size`` is a power of two. Both are NaN if the norm is not finite.
    """
    factor, norm, power = 1.0 / scale, norm / scale, 0
    if not isfinite(norm):
        return nan, nan
    if norm * size > limit:
        # By fractions, as limit / norm itself may vanish.
        above, below = frexp(limit), frexp(norm)
        factor *= above[0] / below[0]
        power = above[1] - below[1] + 1 - frexp(size)[1]
    fraction, exponent = frexp(factor)
    exponent += power
    half = 0 if abs(exponent) <= COMFORTABLE else exponent // 2
    return ldexp(1.0, half), ldexp(fraction, exponent - half)
