"""Nadam: Adam with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..scalar import times
from .adam import adam_rate, correction, running_mean, uncorrected
from .base import Method
from .rmsprop import scaled_rate, second_moment

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def _nadam_momentum(t, beta1, momentum_decay):
    return beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))


def nadam_carry(t, lr, beta1, beta2, eps, momentum_decay, eps_root, mu_product):
    """Return the product of the momenta of all steps so far."""
    return (mu_product * _nadam_momentum(t, beta1, momentum_decay),)


def nadam_coefficients(t, lr, beta1, beta2, eps, momentum_decay, eps_root, mu_product):
    """Weight the mean by the momentum of the next step, the gradient by one minus that of this."""
    mu = _nadam_momentum(t, beta1, momentum_decay)
    mu_next = _nadam_momentum(t + 1, beta1, momentum_decay)
    c_m, c_g = mu_next / (1.0 - mu_product * mu_next), (1.0 - mu) / (1.0 - mu_product)
    lr, eps_in, eps_out = uncorrected(lr, correction(beta2, t), eps_root, eps)
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, c_m, c_g, eps_in, eps_out


def nadam(
    x, g, m, v, lr, beta1, one_minus_beta1, beta2, one_minus_beta2, c_m, c_g, eps_in, eps_out
):
    """Dozat (2016), Algorithm 2: Adam with Nesterov's momentum."""
    m = running_mean(g, m, beta1, one_minus_beta1)
    v = second_moment(g, v, beta2, one_minus_beta2)
    rate = scaled_rate(v, eps_in, eps_out, lr)
    return x - times(rate, c_m * m + c_g * g), rate, (m, v)


@dataclass(frozen=True)
class Nadam(Method):
    r"""Adam with Nesterov's momentum: apply the momentum of the next step in advance.

    Parameters
    ----------
    lr : float, callable or "auto", default 2e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        Decay factor of the mean per step, and the final value of the momentum, in [0, 1).
    beta2 : float, default 0.999
        Decay factor of the mean of the squares per step, in [0, 1).
    eps : float, default 1e-8
        At least 0. Prevents a division by zero for coordinates without gradients.
    momentum_decay : float, default 4e-3
        How fast the momentum rises from half of ``beta1`` to ``beta1``, at least 0. For 1e3 and
        above it is ``beta1`` from the first step.
    eps_root : float, default 0.0
        At least 0. Added to the corrected mean of the squares, under the root.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` and ``eps_root`` are both 0: a zero gradient
        would divide by zero.

    See Also
    --------
    Adam : has plain momentum.

    Notes
    -----
    With m, v and :math:`\hat v` as for `Adam`, the momentum :math:`\mu_t = \beta_1 (1 - 0.5 \cdot
    0.96^{t \psi})` of the schedule with :math:`\psi` = ``momentum_decay``, and the product
    :math:`M_t = \mu_1 \cdots \mu_t` of all momenta so far,

    .. math:: x_{t+1} = x_t - \frac{\eta}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon} \left(
              \frac{\mu_{t+1}}{1 - M_t \mu_{t+1}} m_t + \frac{1 - \mu_t}{1 - M_t} g_t \right)

    This is torch's formula. It lacks a factor :math:`\beta_2` that the paper has in :math:`\hat v`.
    Keras uses the paper's schedule, ``momentum_decay=1``. optax uses a constant momentum, which is
    ``momentum_decay=1e3``: :math:`0.96^{1000} / 2` is smaller than the rounding error of 1. The
    product :math:`M_t` is the only entry of ``Optimizer.scalars``.

    References
    ----------
    Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop, Algorithm 2; the
    schedule is that of its experiments.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0])
    >>> opt = ao.Optimizer(x, ao.Nadam(lr=0.1, beta1=0.5, momentum_decay=1e3))
    >>> for _ in range(2):
    ...     opt.step(np.array([1.0]))
    >>> x.round(3), opt.scalars
    (array([0.757]), {'mu_product': 0.25})
    """

    lr: float | Callable[[int], float] = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 4e-3
    eps_root: float = 0.0
    slots = ("m", "v")
    second_moments = ("v",)
    scalars: ClassVar[Mapping[str, float]] = {"mu_product": 1.0}
    rule = staticmethod(nadam)
    rate = staticmethod(adam_rate)
    carry = staticmethod(nadam_carry)
    coefficients = staticmethod(nadam_coefficients)

    @property
    def range_decay(self) -> float:
        """Forget steps sooner than others do: measured best of 0.9 to 0.999."""
        return 0.97

    def __post_init__(self) -> None:
        super().__post_init__()
        self._demand_positive("eps", "eps_root")
