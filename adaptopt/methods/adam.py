"""Adam and its variants: momentum and scaling combined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from math import sqrt
from typing import ClassVar

from ..scalar import over, times
from .base import Method
from .rmsprop import scaled_rate, second_moment

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def correction(beta, t):
    """Return the factor that corrects a running mean over t steps for its start at zero."""
    return 1.0 / (1.0 - beta**t)


def uncorrected(lr, c2, eps_root, eps):
    """Return ``lr, eps_in, eps_out`` for the rate ``lr / (sqrt(v + eps_in) + eps_out)``.

    Here ``v`` is not corrected. A corrected ``v`` would overflow in float32 if the first gradient
    is 2e19 or more.
    """
    return lr / sqrt(c2), eps_root / c2, eps / sqrt(c2)


def running_mean(g, m, beta, one_minus_beta):
    """Average the gradients."""
    return beta * m + one_minus_beta * g


def adam_coefficients(t, lr, beta1, beta2, eps, eps_hat, eps_root):
    """Correct both means for their start at zero. eps-hat is added before the correction."""
    c1, c2 = correction(beta1, t), correction(beta2, t)
    lr, eps_in, eps_out = uncorrected(lr, c2, eps_root, eps * sqrt(c2) if eps_hat else eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c1, eps_in, eps_out


def adam_rate(m, v, lr, *rest):
    """Return the effective rate of a coordinate with second moment ``v``; also for Nadam."""
    eps_in, eps_out = rest[-2:]
    return scaled_rate(v, eps_in, eps_out, lr)


def adam(x, g, m, v, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c1, eps_in, eps_out):
    """Kingma & Ba (2015), Algorithm 1."""
    m = running_mean(g, m, beta1, one_minus_beta1)
    v = second_moment(g, v, beta2, one_minus_beta2)
    rate = scaled_rate(v, eps_in, eps_out, lr)
    return x - times(rate, c1 * m), rate, (m, v)


@dataclass(frozen=True)
class Adam(Method):
    r"""Divide the running mean of the gradients by the root of the running mean of their squares.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        Decay factor of the mean per step, in [0, 1).
    beta2 : float, default 0.999
        Decay factor of the mean of the squares per step, in [0, 1).
    eps : float, default 1e-8
        At least 0. Prevents a division by zero for coordinates without gradients.
    eps_hat : bool, default False
        Add eps to the root before the root is corrected for its start at zero.
    eps_root : float, default 0.0
        At least 0. Added to the corrected mean of the squares, under the root.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` and ``eps_root`` are both 0: a zero gradient
        would divide by zero.

    See Also
    --------
    AdamW : has decoupled weight decay.
    AMSGrad : never forgets a large gradient.

    Notes
    -----
    .. math:: m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
              v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2

    .. math:: \hat m_t = \frac{m_t}{1 - \beta_1^t}, \qquad
              \hat v_t = \frac{v_t}{1 - \beta_2^t}, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon} \hat m_t

    This is Algorithm 1 of the paper, and torch's form. Keras and TensorFlow use the form that the
    paper gives below it, :math:`\eta \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \cdot m_t / (\sqrt{v_t}
    + \hat\epsilon)`. ``eps_hat`` selects it; eps then has more effect in the first steps.
    ``eps_root`` is an option of optax. The effective rate is the factor of :math:`\hat m_t`.

    References
    ----------
    Kingma & Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 1; for
    ``eps_hat``, the last paragraph of section 2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.Adam(lr=0.1))
    >>> opt.step(np.array([100.0, -0.01]))
    >>> x.round(3)
    array([0.9, 1.1])
    """

    lr: float | Callable[[int], float] = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_hat: bool = False
    eps_root: float = 0.0
    slots = ("m", "v")
    second_moments: ClassVar[tuple[str, ...]] = ("v",)
    rule = staticmethod(adam)
    rate = staticmethod(adam_rate)
    coefficients = staticmethod(adam_coefficients)

    @property
    def range_decay(self) -> float:
        """Forget steps sooner than others do: measured best of 0.9 to 0.999."""
        return 0.97

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_positive("eps", "eps_root")


@dataclass(frozen=True)
class AdamW(Adam):
    r"""Adam with decoupled weight decay, ``x *= 1 - lr * weight_decay`` before each step.

    Parameters
    ----------
    lr, beta1, beta2, eps, eps_hat, eps_root
        As for `Adam`.
    weight_decay : float, default 1e-2
        At least 0.
    decoupled : bool, default True
        False gives `Adam` with coupled decay.

    Notes
    -----
    The decay is multiplied by the learning rate, as in torch (1e-2), optax (1e-4) and Keras (4e-3).
    In the paper it is multiplied only by the schedule's factor.

    References
    ----------
    Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, Algorithm 2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.AdamW(lr=0.1, weight_decay=0.5))
    >>> opt.step(np.array([100.0, 0.0]))
    >>> x.round(3)
    array([0.85, 0.95])
    """

    _: KW_ONLY
    weight_decay: float = 1e-2
    decoupled: bool = True


def adamax_coefficients(t, lr, beta1, beta2, eps, eps_inside):
    """Correct the mean for its start at zero, and place eps: inside or outside the maximum."""
    eps_in, eps_out = (eps, 0.0) if eps_inside else (0.0, eps)
    return lr, beta1, 1.0 - beta1, beta2, correction(beta1, t), eps_in, eps_out


def adamax_rate(m, u, lr, *rest):
    """Return the effective rate of a coordinate whose decaying maximum is ``u``."""
    return over(lr, u + rest[-1])


def adamax(x, g, m, u, lr, beta1, one_minus_beta1, beta2, c1, eps_in, eps_out):
    """Kingma & Ba (2015), Algorithm 2: Adam with a decaying maximum in place of the root."""
    m = running_mean(g, m, beta1, one_minus_beta1)
    faded, size = beta2 * u, abs(g) + eps_in
    # If g is NaN the comparison is false and u becomes NaN. m stays NaN, and so does x.
    u = faded if faded > size else size
    rate = over(lr, u + eps_out)
    return x - times(rate, c1 * m), rate, (m, u)


@dataclass(frozen=True)
class Adamax(Method):
    r"""Divide the running mean of the gradients by a decaying maximum of their magnitudes.

    Parameters
    ----------
    lr : float, callable or "auto", default 2e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        Decay factor of the mean per step, in [0, 1).
    beta2 : float, default 0.999
        Decay factor of the maximum per step, in [0, 1).
    eps : float, default 1e-8
        Greater than 0. Prevents a division by zero for coordinates without gradients.
    eps_inside : bool, default True
        Add eps to the magnitude of the gradient, inside the maximum. Otherwise add it to the
        maximum in the denominator.

    See Also
    --------
    Adam : has the root of a running mean of squares in place of the maximum.

    Notes
    -----
    .. math:: m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
              u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \qquad
              x_{t+1} = x_t - \frac{\eta}{1 - \beta_1^t} \frac{m_t}{u_t}

    This is the formula of torch and optax. Keras has eps outside, :math:`u_t + \epsilon` (1e-7),
    and a rate of 1e-3. The paper has no eps. The effective rate is :math:`\eta / u_t`.

    References
    ----------
    Kingma & Ba, "Adam: A method for stochastic optimization", ICLR 2015, Algorithm 2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.Adamax(lr=0.1, beta2=0.5))
    >>> for g in (100.0, 1.0):
    ...     opt.step(np.array([g, -g]))
    >>> opt.state["u"]
    array([50., 50.])
    """

    lr: float | Callable[[int], float] = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_inside: bool = True
    slots = ("m", "u")
    second_moments = ("u",)
    rule = staticmethod(adamax)
    rate = staticmethod(adamax_rate)
    coefficients = staticmethod(adamax_coefficients)

    @property
    def range_decay(self) -> float:
        """Forget steps sooner than others do: measured best of 0.9 to 0.999."""
        return 0.97

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_positive("eps")


def amsgrad_coefficients(
    t, lr, beta1, beta2, eps, eps_hat, eps_root, corrected_max, bias_correction
):
    """Correct v before its maximum, or the maximum itself: one of the two factors is one."""
    c1, c2 = (correction(beta1, t), correction(beta2, t)) if bias_correction else (1.0, 1.0)
    before, after = (c2, 1.0) if corrected_max else (1.0, c2)
    lr, eps_in, eps_out = uncorrected(lr, after, eps_root, eps * sqrt(c2) if eps_hat else eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c1, before, eps_in, eps_out


def amsgrad_rate(m, v, v_max, lr, *rest):
    """Return the effective rate of a coordinate whose largest second moment is ``v_max``."""
    eps_in, eps_out = rest[-2:]
    return scaled_rate(v_max, eps_in, eps_out, lr)


def amsgrad(
    x, g, m, v, v_max,
    lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c1, before, eps_in, eps_out,
):  # fmt: skip
    """Reddi, Kale & Kumar (2018), Algorithm 2: Adam that never forgets a large gradient."""
    m = running_mean(g, m, beta1, one_minus_beta1)
    v = second_moment(g, v, beta2, one_minus_beta2)
    v_now = before * v
    # If v is NaN the comparison is false and v_max becomes NaN. v stays NaN.
    v_max = v_max if v_max > v_now else v_now
    rate = scaled_rate(v_max, eps_in, eps_out, lr)
    return x - times(rate, c1 * m), rate, (m, v, v_max)


@dataclass(frozen=True)
class AMSGrad(Method):
    r"""Adam with the largest running mean of the squares so far instead of the current one.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        Decay factor of the mean per step, in [0, 1).
    beta2 : float, default 0.999
        Decay factor of the mean of the squares per step, in [0, 1).
    eps : float, default 1e-8
        At least 0. Prevents a division by zero for coordinates without gradients.
    eps_hat : bool, default False
        Add eps to the root before the root is corrected for its start at zero.
    eps_root : float, default 0.0
        At least 0. Added to the corrected maximum, under the root.
    corrected_max : bool, default False
        Take the maximum of the corrected means instead of correcting the maximum.
    bias_correction : bool, default True
        Correct both means for their start at zero.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` and ``eps_root`` are both 0: a zero gradient
        would divide by zero.

    See Also
    --------
    Adam : forgets, and may not converge if large gradients are rare.

    Notes
    -----
    With m, v and :math:`\hat m` as for `Adam`,

    .. math:: v^{max}_t = \max(v^{max}_{t-1}, v_t), \qquad
              x_{t+1} = x_t - \frac{\eta}
              {\sqrt{v^{max}_t / (1 - \beta_2^t) + \epsilon_{root}} + \epsilon} \hat m_t

    With ``corrected_max``, :math:`v^{max}_t = \max(v^{max}_{t-1}, v_t / (1 - \beta_2^t))`, without
    the later correction. torch uses the first form, and so does Keras, with ``eps_hat``. optax uses
    the second. The paper has no eps and no corrections (``bias_correction=False``). With
    ``corrected_max`` or without corrections, and with a constant learning rate, the effective rate
    can only fall.

    References
    ----------
    Reddi, Kale & Kumar, "On the convergence of Adam and beyond", ICLR 2018, Algorithm 2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(1)
    >>> opt = ao.Optimizer(x, ao.AMSGrad(lr=0.1, beta2=0.5))
    >>> for g in (4.0, 0.0, 0.0):
    ...     opt.step(np.array([g]))
    >>> opt.state["v"], opt.state["v_max"]
    (array([2.]), array([8.]))
    """

    lr: float | Callable[[int], float] = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    eps_hat: bool = False
    eps_root: float = 0.0
    corrected_max: bool = False
    bias_correction: bool = True
    slots = ("m", "v", "v_max")
    second_moments = ("v", "v_max")
    rule = staticmethod(amsgrad)
    rate = staticmethod(amsgrad_rate)
    coefficients = staticmethod(amsgrad_coefficients)

    @property
    def state_name(self) -> str:
        """The maximum is that of corrected or of uncorrected means."""
        corrects = self.corrected_max and self.bias_correction
        return super().state_name + "(corrected_max=True)" * corrects

    @property
    def range_decay(self) -> float:
        """Forget steps sooner than others do: measured best of 0.9 to 0.999."""
        return 0.97

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_positive("eps", "eps_root")
