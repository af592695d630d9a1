"""RMSProp and AdaDelta: scaling by the root of a running mean of squares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

from ..scalar import ScalarFunction, geometric, over, root, times
from .base import Method
from .momentum import heavy_ball, look_ahead, roll

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def rmsprop_coefficients(
    t, lr, rho, eps, mu, centered, eps_inside, nesterov, lr_inside, initial_accumulator
):
    """Place eps and the learning rate, and weight the mean so that the weights sum to one."""
    eps_in, eps_out = (eps, 0.0) if eps_inside else (0.0, eps)
    lr_in, lr_out = (lr, 1.0) if lr_inside else (1.0, lr)
    return rho, 1.0 - rho, mu, eps_in, eps_out, lr_in, lr_out, 1.0 / (1.0 - mu)


def second_moment(g, E, rho, one_minus_rho):
    """Average the squares of the gradients."""
    return rho * E + one_minus_rho * g * g


def _variance(g, V, m, rho, one_minus_rho):
    """Return ``V = E - m**2``, in a form that is never negative, and the running mean ``m``."""
    d = g - m
    return rho * (V + one_minus_rho * d * d), rho * m + one_minus_rho * g


def scaled_rate(E, eps_in, eps_out, lr_in):
    """Return the factor of a gradient before it is used in a step or added to the buffer."""
    return over(lr_in, sqrt(E + eps_in) + eps_out)


def rmsprop_rate(E, *rest):
    """Return the effective rate of a coordinate with second moment (or variance) ``E``."""
    eps_in, eps_out, lr_in, lr_out, gain = rest[-5:]
    return times(scaled_rate(E, eps_in, eps_out, lr_in), lr_out) * gain


def rmsprop(x, g, E, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """Tieleman & Hinton (2012): AdaGrad with a running mean instead of a sum."""
    E = second_moment(g, E, rho, one_minus_rho)
    rate = times(scaled_rate(E, eps_in, eps_out, lr_in), lr_out)
    return x - times(rate, g), rate, (E,)


def rmsprop_idle(k, x, E, rho, *rest):
    """In k steps without a gradient, ``E`` decays and ``x`` stays unchanged."""
    return x, (E * geometric(rho, k)[0],)


def _fade_variance(k, V, m, rho):
    """Return the variance and mean of gradients of which the last k were zero."""
    power = geometric(rho, k)[0]
    faded = power * m
    return power * (V + m * (m - faded)), faded


def rmsprop_momentum_idle(k, x, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """In k steps without a gradient, ``E`` decays and ``x`` follows the buffer."""
    x, b = roll(k, x, b, mu, lr_out)
    return x, (E * geometric(rho, k)[0], b)


def rmsprop_nesterov_idle(k, x, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """In k steps without a gradient, ``E`` decays and ``x`` follows Nesterov's buffer."""
    x, b = roll(k, x, b, mu, mu * lr_out)
    return x, (E * geometric(rho, k)[0], b)


def rmsprop_centered_idle(k, x, V, m, rho, *rest):
    """In k steps without a gradient, variance and mean decay and ``x`` stays unchanged."""
    return x, _fade_variance(k, V, m, rho)


def rmsprop_centered_momentum_idle(
    k, x, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """In k steps without a gradient, variance and mean decay and ``x`` follows the buffer."""
    x, b = roll(k, x, b, mu, lr_out)
    V, m = _fade_variance(k, V, m, rho)
    return x, (V, m, b)


def rmsprop_centered_nesterov_idle(
    k, x, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """In k steps without a gradient, variance and mean decay, ``x`` follows Nesterov's buffer."""
    x, b = roll(k, x, b, mu, mu * lr_out)
    V, m = _fade_variance(k, V, m, rho)
    return x, (V, m, b)


def rmsprop_momentum(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """RMSProp with the scaled gradients in a heavy-ball buffer."""
    E = second_moment(g, E, rho, one_minus_rho)
    scale = scaled_rate(E, eps_in, eps_out, lr_in)
    x, b = heavy_ball(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (E, b)


def rmsprop_nesterov(x, g, E, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """RMSProp with the scaled gradients in Nesterov's momentum."""
    E = second_moment(g, E, rho, one_minus_rho)
    scale = scaled_rate(E, eps_in, eps_out, lr_in)
    x, b = look_ahead(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (E, b)


def rmsprop_centered(x, g, V, m, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain):
    """Graves (2013), eq. 38-45: divide by the running standard deviation."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    rate = times(scaled_rate(V, eps_in, eps_out, lr_in), lr_out)
    return x - times(rate, g), rate, (V, m)


def rmsprop_centered_momentum(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Graves (2013), eq. 38-45, complete: centered, with heavy-ball momentum."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = scaled_rate(V, eps_in, eps_out, lr_in)
    x, b = heavy_ball(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (V, m, b)


def rmsprop_centered_nesterov(
    x, g, V, m, b, rho, one_minus_rho, mu, eps_in, eps_out, lr_in, lr_out, gain
):
    """Centered RMSProp with Nesterov's momentum."""
    V, m = _variance(g, V, m, rho, one_minus_rho)
    scale = scaled_rate(V, eps_in, eps_out, lr_in)
    x, b = look_ahead(x, g, b, mu, scale, lr_out)
    return x, times(scale, lr_out) * gain, (V, m, b)


# Rule and idle form: without momentum, with heavy ball, with Nesterov's; below them the centered.
_RMSPROP: tuple[tuple[tuple[ScalarFunction, ScalarFunction], ...], ...] = (
    (
        (rmsprop, rmsprop_idle),
        (rmsprop_momentum, rmsprop_momentum_idle),
        (rmsprop_nesterov, rmsprop_nesterov_idle),
    ),
    (
        (rmsprop_centered, rmsprop_centered_idle),
        (rmsprop_centered_momentum, rmsprop_centered_momentum_idle),
        (rmsprop_centered_nesterov, rmsprop_centered_nesterov_idle),
    ),
)


@dataclass(frozen=True)
class RMSProp(Method):
    r"""Divide each gradient by the root of a running mean of its squares.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    rho : float, default 0.9
        Decay factor of the running mean per step, in [0, 1). The memory is about ``1 / (1 - rho)``
        steps.
    eps : float, default 1e-8
        At least 0. Prevents a division by zero for coordinates without gradients.
    momentum : float, default 0.0
        In [0, 1). If positive, the scaled gradients enter a buffer, and steps follow the buffer.
        The effective rates, which proximal maps use, are then ``1 / (1 - momentum)`` times larger.
    centered : bool, default False
        Divide by the running standard deviation: subtract the square of the running mean.
    eps_inside : bool, default False
        Put eps under the root.
    nesterov : bool, default False
        Use Nesterov's form of the momentum, which must be greater than 0.
    lr_inside : bool, default False
        Put the learning rate inside the momentum buffer, as optax, Keras and TensorFlow do. torch
        has it outside. The difference matters only if the rate varies.
    initial_accumulator : float, default 0.0
        The initial value of the running mean, at least 0. TensorFlow 1 starts at 1.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` is 0 and the running mean can be 0: a zero
        gradient would divide by zero.

    See Also
    --------
    AdaGrad : never forgets, which suits convex and sparse problems.

    Notes
    -----
    .. math:: E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{E_t} + \epsilon} g_t

    With ``eps_inside`` the rate is :math:`\eta / \sqrt{E_t + \epsilon}`. With momentum, the scaled
    gradient enters a buffer b. If centered, the root is that of :math:`V_t = E_t - m_t^2`, with the
    running mean m of the gradients. It is computed as
    :math:`V_t = \rho V_{t-1} + \rho (1 - \rho) (g_t - m_{t-1})^2`, which rounding cannot make
    negative. The slots are E, or V and m if centered; and b with momentum.

    For optax's ``bias_correction``, use Adam with ``beta1=0``.

    References
    ----------
    Tieleman & Hinton, "Lecture 6.5: rmsprop", COURSERA: Neural Networks for Machine Learning, 2012.
    Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850 (2013),
    eq. 38-45, for the centered form.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.RMSProp(lr=0.1, rho=0.75))
    >>> opt.step(np.array([100.0, 0.01]))
    >>> x.round(3)
    array([0.8, 0.8])
    """

    lr: float | Callable[[int], float] = 1e-3
    rho: float = 0.9
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    eps_inside: bool = False
    nesterov: bool = False
    lr_inside: bool = False
    initial_accumulator: float = 0.0
    rate = staticmethod(rmsprop_rate)
    coefficients = staticmethod(rmsprop_coefficients)

    @property
    def slots(self) -> tuple[str, ...]:
        """E, or V and m if centered; and b with momentum."""
        return (("V", "m") if self.centered else ("E",)) + (("b",) if self.momentum else ())

    @property
    def second_moments(self) -> tuple[str, ...]:
        """E, or V if centered."""
        return self.slots[:1]

    @property
    def state_name(self) -> str:
        """With the learning rate inside, the buffer holds steps instead of gradients."""
        return super().state_name + "(lr_inside=True)" * (self.momentum > 0 and self.lr_inside)

    @property
    def rule(self) -> ScalarFunction:
        """One of six rules: centered or not; without momentum, with heavy ball, with Nesterov's."""
        return self._functions[0]

    @property
    def idle(self) -> ScalarFunction:
        """The form for steps without a gradient."""
        return self._functions[1]

    @property
    def _functions(self) -> tuple[ScalarFunction, ScalarFunction]:
        return _RMSPROP[self.centered][2 if self.nesterov else 1 if self.momentum else 0]

    @property
    def idle_moves_x(self) -> bool:
        """Only momentum moves it."""
        return self.momentum > 0

    @property
    def idle_needs_constant_lr(self) -> bool:
        """A rate outside the buffer also multiplies past gradients."""
        return self.momentum > 0 and not self.lr_inside

    @property
    def range_decay(self) -> float:
        """Average squared steps as squared gradients are."""
        return self.rho

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("RMSProp.nesterov is True with momentum 0.0, expected momentum > 0")
        if self.eps == 0 and (self.initial_accumulator == 0 or self.rho == 0):
            raise ValueError(
                f"RMSProp.eps is 0 with initial_accumulator {self.initial_accumulator} and rho "
                f"{self.rho}, expected eps > 0: a zero gradient would divide by zero"
            )

    def initial_state(self) -> dict[str, float]:
        """Start the running mean (or variance) at ``initial_accumulator``."""
        return {self.slots[0]: self.initial_accumulator}


def adadelta_coefficients(t, lr, rho, eps):
    """Weight the means so that the weights sum to one."""
    return lr, rho, 1.0 - rho, eps


def adadelta(x, g, E, D, lr, rho, one_minus_rho, eps):
    """Zeiler (2012), Algorithm 1: scale by the root mean square of past steps, in units of x."""
    E = second_moment(g, E, rho, one_minus_rho)
    # Two roots, because D / E can underflow in float32 when the quotient of the roots does not.
    scale = root(D + eps) / root(E + eps)
    u = times(scale, g)
    D = second_moment(u, D, rho, one_minus_rho)
    return x - lr * u, times(scale, lr), (E, D)


@dataclass(frozen=True)
class AdaDelta(Method):
    r"""Scale gradients by the root mean square of past steps over that of past gradients.

    Parameters
    ----------
    lr : float, callable or "auto", default 1.0
        Factor of each step, greater than 0, or a function of the step, counted from 1. The original
        formula has no such factor.
    rho : float, default 0.9
        Decay factor of both running means per step, in [0, 1).
    eps : float, default 1e-6
        Greater than 0. It sets the size of the first steps, about ``sqrt(eps)``.

    See Also
    --------
    RMSProp : has a learning rate in place of the root mean square of the steps.

    Notes
    -----
    .. math:: E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \qquad
              u_t = \frac{\sqrt{D_{t-1} + \epsilon}}{\sqrt{E_t + \epsilon}} g_t, \qquad
              D_t = \rho D_{t-1} + (1 - \rho) u_t^2, \qquad
              x_{t+1} = x_t - \eta u_t

    D does not contain the learning rate, as in torch, optax and Keras, whose formulas are the same.
    Keras has the defaults rho 0.95, eps 1e-7 and lr 1e-3. The slots are E and D. The effective rate
    depends on the previous D, so each step stores the rates.

    References
    ----------
    Zeiler, "ADADELTA: An adaptive learning rate method", arXiv:1212.5701 (2012), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.AdaDelta(rho=0.75, eps=1e-4))
    >>> opt.step(np.array([100.0, 1.0]))
    >>> x.round(3)
    array([0.98, 0.98])
    """

    lr: float | Callable[[int], float] = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    slots = ("E", "D")
    second_moments = ("E", "D")
    rule = staticmethod(adadelta)
    coefficients = staticmethod(adadelta_coefficients)

    search_keeps_eps = True  # the steps grow from it

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_positive("eps")
