"""What is done to a gradient before the rule sees it, in the same pass: scalar functions.

``factor`` divides by the loss scale and cuts the global norm short; it is the same for all
coordinates of a step. ``limit`` clips each coordinate.
"""

from __future__ import annotations

from math import isfinite, nan

__all__ = ["as_given", "clipped", "factor_for", "scaled"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Like rules, they have no one type.


def as_given(g):
    """Leave the gradient as it is."""
    return g


def scaled(g, factor):
    """Multiply by what the loss scale and the global norm ask for."""
    return factor * g


def clipped(g, factor, limit):
    """Scale, then clip to ``-limit <= g <= limit``. A NaN stays a NaN."""
    g = factor * g
    g = -limit if g < -limit else g
    return limit if g > limit else g


def factor_for(norm, scale, limit):
    """Return the factor for gradients of a norm, NaN where that is not finite; in float64."""
    factor, norm = 1.0 / scale, norm / scale
    if not isfinite(norm):
        return nan
    return factor * (limit / norm) if norm > limit else factor
