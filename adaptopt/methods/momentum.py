"""Gradient descent, without and with momentum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..scalar import ScalarFunction, geometric, times
from .base import Method

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def sgd_rate(lr):
    """Return the rate, which all coordinates share."""
    return lr


def sgd(x, g, lr):
    """Robbins & Monro (1951): step along the gradient."""
    return x - times(lr, g), lr, ()


def stays(k, x, *rest):
    """Without a gradient, nothing changes (no slots)."""
    return x, ()


@dataclass(frozen=True)
class SGD(Method):
    """Gradient descent: ``x -= lr * g``.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.

    Notes
    -----
    With a proximal map this is FOBOS, forward-backward splitting (Duchi & Singer 2009): mirror
    descent with a composite objective (COMID) in the Euclidean metric.

    References
    ----------
    Robbins & Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22
    (1951), eq. 6.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, -2.0])
    >>> ao.Optimizer(x, ao.SGD(lr=0.5)).step(np.array([1.0, -1.0]))
    >>> x
    array([ 0.5, -1.5])
    """

    lr: float | Callable[[int], float] = 1e-2
    rule = staticmethod(sgd)
    rate = staticmethod(sgd_rate)
    idle = staticmethod(stays)
    rests = rate_is_linear = True
    additive = True


def momentum_coefficients(t, lr, mu, nesterov, dampening, lr_inside):
    """Place the learning rate. The first gradient enters the buffer without dampening.

    Without momentum all gradients do, as in torch.
    """
    damped = 1.0 if mu == 0.0 else 1.0 - dampening
    share = 1.0 if t == 1 else damped
    lasting = damped * lr / (1.0 - mu)
    return (mu, share * lr, 1.0, lasting) if lr_inside else (mu, share, lr, lasting)


def momentum_rate(b, mu, lr_in, lr_out, lasting):
    """Return the common rate: that of a constant gradient, after the buffer has adapted to it."""
    return lasting


def heavy_ball(x, g, b, mu, lr_in, lr_out):
    """Add the gradient to the buffer, and step along the buffer."""
    b = mu * b + times(lr_in, g)
    return x - lr_out * b, b


def look_ahead(x, g, b, mu, lr_in, lr_out):
    """Add the gradient to the buffer, and step along the gradient and the decayed buffer."""
    push = times(lr_in, g)
    b = mu * b + push
    return x - lr_out * (push + mu * b), b


def momentum(x, g, b, mu, lr_in, lr_out, lasting):
    """Polyak (1964): the heavy-ball method."""
    x, b = heavy_ball(x, g, b, mu, lr_in, lr_out)
    return x, lasting, (b,)


def nesterov(x, g, b, mu, lr_in, lr_out, lasting):
    """Nesterov (1983) in the form of Sutskever et al. (2013)."""
    x, b = look_ahead(x, g, b, mu, lr_in, lr_out)
    return x, lasting, (b,)


def roll(k, x, b, mu, lr_out):
    """Take k steps along a buffer without new gradients: ``mu + mu**2 + ... + mu**k`` times it."""
    power, total = geometric(mu, k)
    return x - lr_out * (b * total), b * power


def momentum_idle(k, x, b, mu, lr_in, lr_out, lasting):
    """Take k steps without a gradient along the decaying buffer."""
    x, b = roll(k, x, b, mu, lr_out)
    return x, (b,)


def nesterov_idle(k, x, b, mu, lr_in, lr_out, lasting):
    """Take k steps without a gradient with Nesterov's momentum, one factor ``mu`` ahead."""
    x, b = roll(k, x, b, mu, mu * lr_out)
    return x, (b,)


@dataclass(frozen=True)
class Momentum(Method):
    """Gradient descent with momentum: ``b = momentum * b + g; x -= lr * b``.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    momentum : float, default 0.9
        Decay factor of the buffer per step, in [0, 1). The effective rate is that of a constant
        gradient, ``lr * (1 - dampening) / (1 - momentum)``. Proximal maps use it.
    nesterov : bool, default False
        Step along ``g + momentum * b`` instead of ``b``.
    dampening : float, default 0.0
        In [0, 1). Gradients enter the buffer multiplied by ``1 - dampening``. The first one is not
        multiplied, and without momentum none is, as in torch.
    lr_inside : bool, default False
        Put the learning rate inside the buffer, ``b = momentum * b + lr * g; x -= b``, as Keras
        does. The difference matters only if the rate varies.

    References
    ----------
    Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational
    Mathematics and Mathematical Physics 4 (1964), eq. 9. Nesterov, "A method for solving a convex
    programming problem with convergence rate O(1/k^2)", Soviet Mathematics Doklady 27 (1983), in
    the form of Sutskever et al., "On the importance of initialization and momentum in deep
    learning", ICML 2013, eq. 3-4.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0])
    >>> opt = ao.Optimizer(x, ao.Momentum(lr=0.1, momentum=0.5))
    >>> for _ in range(2):
    ...     opt.step(np.array([1.0]))
    >>> x, opt.state["b"]
    (array([0.75]), array([1.5]))
    """

    lr: float | Callable[[int], float] = 1e-2
    momentum: float = 0.9
    nesterov: bool = False
    dampening: float = 0.0
    lr_inside: bool = False
    slots = ("b",)
    rate = staticmethod(momentum_rate)
    coefficients = staticmethod(momentum_coefficients)

    @property
    def rule(self) -> ScalarFunction:
        """The heavy-ball or Nesterov's rule."""
        return nesterov if self.nesterov else momentum

    @property
    def idle(self) -> ScalarFunction:
        """The rule for steps without a gradient."""
        return nesterov_idle if self.nesterov else momentum_idle

    @property
    def state_name(self) -> str:
        """With the learning rate inside, the buffer holds steps instead of gradients."""
        return super().state_name + "(lr_inside=True)" * self.lr_inside

    @property
    def idle_needs_constant_lr(self) -> bool:
        """A rate outside the buffer also multiplies past gradients."""
        return not self.lr_inside

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"Momentum.nesterov is True with momentum {self.momentum} and dampening "
                f"{self.dampening}, expected momentum > 0 and dampening 0"
            )
