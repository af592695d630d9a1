"""What is done to a gradient before the rule sees it, in the same pass: scalar functions.

``factor`` divides by the loss scale and cuts the global norm short; it is the same for all
coordinates of a step. ``limit`` clips each coordinate.
"""

from __future__ import annotations

__all__ = ["as_given", "clipped", "scaled"]

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
