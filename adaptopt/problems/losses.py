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


def modified_huber(z, y, zero, one, two, four):
    """Zhang (2004): the square of the hinge loss, and its tangent from a margin of -1 down."""
    short = hinge(z, y, zero, one)
    return four * (short - one) if short > two else short * short


def modified_huber_slope(z, y, zero, one, two, four):
    """Return minus twice the label times the hinge loss, which counts at most two."""
    short = hinge(z, y, zero, one)
    return -y * two * (two if short > two else short)


def poisson(z, y):
    """Return minus the log-likelihood of a count of mean ``exp(z)``, without ``log(y!)``."""
    return exp(z) - y * z


def poisson_slope(z, y):
    """Return the mean less the count."""
    return exp(z) - y


def pinball(z, y, zero, quantile, rest):
    """Koenker & Bassett (1978): the residual, weighted by the side of the target it is on."""
    return quantile * (y - z) if y > z else rest * (z - y)


def pinball_slope(z, y, zero, quantile, rest):
    """Return minus the quantile below the target, one minus the quantile above it, 0 at it."""
    return -quantile if y > z else (rest if z > y else zero)


def epsilon_insensitive(z, y, zero, one, epsilon):
    """Return by how much the residual exceeds ``epsilon`` in size, or 0."""
    excess = abs(z - y) - epsilon
    return zero if excess < zero else excess


def epsilon_insensitive_slope(z, y, zero, one, epsilon):
    """Return the sign of the residual, or 0 if its size is at most ``epsilon``."""
    r = z - y
    return one if r > epsilon else (-one if r < -epsilon else zero)


def softmax(z, y, zero, one):
    """Return minus the logarithm of the probability of class ``y``; make ``z`` the probabilities.

    ``z`` holds a number for each class. The probabilities are ``exp(z)`` divided by their sum.
    """
    label, top = int(y), 0
    for c in range(len(z)):
        if z[c] > z[top]:
            top = c
    highest = z[top]
    short, others = highest - z[label], zero
    for c in range(len(z)):
        z[c] = exp(z[c] - highest)
        if c != top:
            others += z[c]
    for c in range(len(z)):
        z[c] /= one + others
    return log1p(others) + short


def softmax_slope(p, y, zero, one):
    """Return the probabilities that `softmax` has made of ``z``, less one for the label."""
    p[int(y)] -= one
    return p
