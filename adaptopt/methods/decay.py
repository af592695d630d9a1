"""Weight decay, applied before the rule."""

from __future__ import annotations

from ..scalar import geometric

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def decoupled_decay_coefficients(lr, weight_decay):
    """Return the factor of a coordinate."""
    return (1.0 - lr * weight_decay,)


def decoupled_decay(x, g, keep):
    """Multiply the coordinate by ``keep = 1 - lr * weight_decay`` (Loshchilov & Hutter 2019)."""
    return keep * x, g


def coupled_decay_coefficients(lr, weight_decay):
    """Return the weight of the penalty."""
    return (weight_decay,)


def coupled_decay(x, g, weight_decay):
    """Add the gradient of ``weight_decay / 2 * x**2`` (L2 regularisation)."""
    return x, g + weight_decay * x


def no_decay_coefficients(lr, weight_decay):
    """Return nothing."""
    return ()


def no_decay(x, g):
    """Return the coordinate and its gradient unchanged."""
    return x, g


def stays(x, rate, keep):
    """Return the coordinate: what has a gradient has decayed before the rule."""
    return x


def decayed_repeatedly(k, x, rate, keep):
    """Decay k times by the factor ``keep``."""
    return x * geometric(keep, k)[0]
