"""The mathematics: one scalar function per optimizer, read like the paper's formula.

A rule takes one coordinate ``x``, its gradient ``g``, its state and the coefficients of the step;
it returns the new ``x``, the effective learning rate of the coordinate, and the new state.
``*_rate`` is that rate as a function of the new state. ``*_coefficients`` holds what is the same
for all coordinates of a step; it is evaluated once per step, in float64.

Rules are plain functions without literals: a bare ``1`` or ``2.0`` would make Numba compute a
float32 kernel in float64.

``eps_in`` and ``eps_out`` are the two places of eps, inside and outside the root; one of them is
zero. ``lr_in`` and ``lr_out`` are the two places of the learning rate, inside and outside the
momentum buffer; one of them is one. Adding zero and multiplying by one are exact.
"""

from __future__ import annotations

from math import sqrt

__all__ = [
    "adagrad",
    "adagrad_coefficients",
    "adagrad_rate",
    "coupled_decay",
    "decoupled_decay",
    "momentum",
    "momentum_coefficients",
    "momentum_rate",
    "nesterov",
    "no_decay",
    "rmsprop",
    "rmsprop_centered",
    "rmsprop_centered_momentum",
    "rmsprop_centered_nesterov",
    "rmsprop_coefficients",
    "rmsprop_momentum",
    "rmsprop_nesterov",
    "rmsprop_rate",
    "sgd",
    "sgd_rate",
]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Rules run on Python floats, in float32 kernels and in float64 kernels: they have no one type.


# -- weight decay: what happens to (x, g) before the rule ------------------------------------------


def no_decay(x, g):
    """Leave the coordinate and its gradient as they are."""
    return x, g


def coupled_decay(x, g, weight_decay):
    """Add the gradient of ``weight_decay / 2 * x**2`` (L2 regularisation)."""
    return x, g + weight_decay * x


def decoupled_decay(x, g, keep):
    """Shrink the coordinate itself, ``keep = 1 - lr * weight_decay`` (Loshchilov & Hutter 2019)."""
    return keep * x, g


# -- plain gradient descent ------------------------------------------------------------------------


def sgd_rate(lr):
    """One rate for all."""
    return lr


def sgd(x, g, lr):
    """Robbins & Monro (1951)."""
    return x - lr * g, lr, ()


# -- momentum --------------------------------------------------------------------------------------


def momentum_coefficients(t, lr, mu, nesterov, dampening, lr_inside):
    """Place the learning rate; the first buffer is the gradient itself, whatever the dampening."""
    share = 1.0 if t == 1 else 1.0 - dampening
    return (mu, share * lr, 1.0) if lr_inside else (mu, share, lr)


def momentum_rate(b, mu, lr_in, lr_out):
    """One rate for all."""
    return lr_in * lr_out


def _heavy_ball(x, g, b, mu, lr_in, lr_out):
    b = mu * b + lr_in * g
    return x - lr_out * b, b


def _look_ahead(x, g, b, mu, lr_in, lr_out):
    push = lr_in * g
    b = mu * b + push
    return x - lr_out * (push + mu * b), b


def momentum(x, g, b, mu, lr_in, lr_out):
    """Polyak (1964): a heavy ball."""
    x, b = _heavy_ball(x, g, b, mu, lr_in, lr_out)
    return x, lr_in * lr_out, (b,)


def nesterov(x, g, b, mu, lr_in, lr_out):
    """Nesterov (1983) in the form of Sutskever et al. (2013): look one push ahead."""
    x, b = _look_ahead(x, g, b, mu, lr_in, lr_out)
    return x, lr_in * lr_out, (b,)


# -- AdaGrad ---------------------------------------------------------------------------------------


def adagrad_coefficients(t, lr, eps, initial_accumulator, eps_inside):
    """Place eps."""
    return (lr, eps, 0.0) if eps_inside else (lr, 0.0, eps)


def adagrad_rate(G, lr, eps_in, eps_out):
    """Effective rate of a coordinate whose squared gradients sum to ``G``."""
    return lr / (sqrt(G + eps_in) + eps_out)


def adagrad(x, g, G, lr, eps_in, eps_out):
    """Duchi, Hazan & Singer (2011): divide by the root of all squared gradients so far."""
    G = G + g * g
    rate = adagrad_rate(G, lr, eps_in, eps_out)
    return x - rate * g, rate, (G,)


# -- RMSProp ---------------------------------------------------------------------------------------


def rmsprop_coefficients(
    t, lr, rho, eps, mu, centered, eps_inside, nesterov, lr_inside, initial_accumulator
):
    """Place eps and the learning rate; average with weights that sum to one."""
    eps_in, eps_out = (eps, 0.0) if eps_inside else (0.0, eps)
    lr_in, lr_out = (lr, 1.0) if lr_inside else (1.0, lr)
    return rho, 1.0 - rho, mu, eps_in, eps_out, lr_in, lr_out


def _second_moment(g, E, rho, one_minus_rho):
    return rho * E + one_minus_rho * g * g


def _variance(g, V, m, rho, one_minus_rho):
    """``V = E - m**2`` in a form that is never negative, and the running mean ``m``."""
    d = g - m
    return rho * (V + one_minus_rho * d * d), rho * m + one_minus_rho * g


def _scale(E, eps_in, eps_out, lr_in):
    """Return what a gradient is multiplied by before it is stepped along or collected."""
    return lr_in / (sqrt(E + eps_in) + eps_out)


def rmsprop_rate(E, *rest):
    """Effective rate of a coordinate whose running second moment (or variance) is ``E``."""
    eps_in, eps_out, lr_in, lr_out = rest[-4:]
    return lr_out * _scale(E, eps_in, eps_out, lr_in)


def rmsprop(x, g, E, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out):
    """Tieleman & Hinton (2012): AdaGrad that forgets the distant past."""
    E = _second_moment(g, E, rho, one_minus_rho)
    rate = lr_out * _scale(E, eps_in, eps_out, lr_in)
    return x - rate * g, rate, (E,)


def rmsprop_momentum(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out):
    """RMSProp whose scaled gradients are collected in a heavy ball."""
    E = _second_moment(g, E, rho, one_minus_rho)
    scale = _scale(E, eps_in, eps_out, lr_in)
    x, b = _heavy_ball(x, g, b, mu, scale, lr_out)
    return x, lr_out * scale, (E, b)


def rmsprop_nesterov(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out):
    """RMSProp whose scaled gradients are collected in Nesterov's momentum."""
    E = _second_moment(g, E, rho, one_minus_rho)
    scale = _scale(E, eps_in, eps_out, lr_in)
    x, b = _look_ahead(x, g, b, mu, scale, lr_out)
    return x, lr_out * scale, (E, b)


def rmsprop_centered(x, g, V, m, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out):
    """Graves (2013), eq. 38-45: divide by the running standard deviation."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    rate = lr_out * _scale(V, eps_in, eps_out, lr_in)
    return x - rate * g, rate, (V, m)


def rmsprop_centered_momentum(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out
):
    """Graves (2013), eq. 38-45, whole: centered, with a heavy ball."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = _scale(V, eps_in, eps_out, lr_in)
    x, b = _heavy_ball(x, g, b, mu, scale, lr_out)
    return x, lr_out * scale, (V, m, b)


def rmsprop_centered_nesterov(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out
):
    """Centered RMSProp with Nesterov's momentum."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = _scale(V, eps_in, eps_out, lr_in)
    x, b = _look_ahead(x, g, b, mu, scale, lr_out)
    return x, lr_out * scale, (V, m, b)
