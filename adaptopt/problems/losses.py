"""The loss of one row, and its derivative with respect to the row's prediction.

A loss takes the prediction ``z`` of a row, its target ``y``, and parameters that are the same for
all rows. ``*_slope`` is its derivative with respect to ``z``. At a kink it is the subgradient of
least size.

Losses are plain functions without literals, as rules are: a bare ``1`` would make Numba compute
a float32 kernel in float64. So their constants are parameters. No exponential overflows, because
the only argument is ``-|y z|``.
"""

from __future__ import annotations

from math import exp, log1p

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Losses run on Python floats, in float32 kernels and in float64 kernels: they have no one type.


def squared(z, y, half):
    """Return half the square of the residual."""
    r = z - y
    return half * r * r


def squared_slope(z, y, half):
    """Return the residual."""
    return z - y


def huber(z, y, half, delta):
    """Huber (1964): half the square up to ``delta``, and its tangent beyond."""
    r = abs(z - y)
    return delta * (r - half * delta) if r > delta else half * r * r


def huber_slope(z, y, half, delta):
    """Return the residual, clipped to ``[-delta, delta]``."""
    r = z - y
    r = -delta if r < -delta else r
    return delta if r > delta else r


def logistic(z, y, zero, one):
    """Return minus the logarithm of the label's probability, ``1 / (1 + exp(-y z))``."""
    m = y * z
    return log1p(exp(-abs(m))) + (-m if m < zero else zero)


def logistic_slope(z, y, zero, one):
    """Return minus the label times the probability of the other label."""
    m = y * z
    e = exp(-abs(m))
    return -y * ((one if m < zero else e) / (one + e))


def hinge(z, y, zero, one):
    """Return one minus the margin ``y z``, or 0 if the margin is larger than one."""
    short = one - y * z
    return zero if short < zero else short


def hinge_slope(z, y, zero, one):
    """Return minus the label if the margin is below one, else 0."""
    return zero if one - y * z <= zero else -y


def squared_hinge(z, y, zero, half, one):
    """Return half the square of the hinge loss."""
    short = hinge(z, y, zero, one)
    return half * short * short


def squared_hinge_slope(z, y, zero, half, one):
    """Return minus the label times the hinge loss."""
    return -y * hinge(z, y, zero, one)
