"""Dual averaging and FTRL: each step computes x from sums of gradients, with exact zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from ..scalar import over, soft
from .base import Method

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def adagrad_da_coefficients(t, lr, eps, l1, l2):
    """Let the penalties grow with the number of gradients in the sum."""
    return lr, eps, lr * t * l1, lr * t * l2


def adagrad_da_rate(z, G, lr, eps, *penalties):
    """Return the effective rate of a coordinate whose squared gradients sum to ``G``."""
    return over(lr, sqrt(G) + eps)


def _averaged(z, H, lr, threshold, weight):
    return -soft(lr * z, threshold) / (H + weight)


def adagrad_da(x, g, z, G, lr, eps, threshold, weight):
    """Duchi, Hazan & Singer (2011), eq. 3: minimise the mean linear loss, penalty and distance."""
    z = z + g
    G = G + g * g
    H = sqrt(G) + eps
    return _averaged(z, H, lr, threshold, weight), over(lr, H), (z, G)


def adagrad_da_idle(k, x, z, G, lr, eps, threshold, weight):
    """Compute the point again: without gradients, the penalties of the sum still grow."""
    return _averaged(z, sqrt(G) + eps, lr, threshold, weight), (z, G)


def _refuse_decoupled(method: Method) -> None:
    """Refuse decoupled decay, because each step computes the point without it."""
    if method.decoupled and method.weight_decay:
        raise ValueError(
            f"{type(method).__name__}.decoupled is True with weight_decay {method.weight_decay}, "
            "expected False: the point is computed anew from sums of gradients, which forgets a "
            "decay of the point itself"
        )


@dataclass(frozen=True)
class AdaGradDA(Method):
    r"""Dual averaging with AdaGrad's rates: each step computes the point from sums of gradients.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        Greater than 0. The paper's delta.
    l1, l2 : float, default 0.0
        Weights, at least 0, of the penalty ``l1 * abs(x) + l2 / 2 * x**2``. With ``l1``, a
        coordinate is exactly zero while its mean gradient is at most ``l1`` in size.

    Notes
    -----
    The literature calls it AdaGrad-RDA: regularised dual averaging (RDA, Xiao 2010) in AdaGrad's
    metric. With :math:`z_t = \sum g_s`, :math:`G_t = \sum g_s^2` and
    :math:`H_t = \sqrt{G_t} + \epsilon`,

    .. math:: x_{t+1} = -\frac{S(\eta z_t, \eta t \lambda_1)}{H_t + \eta t \lambda_2},

    where S is soft thresholding. The point depends only on the sums. **It does not depend on the
    starting point**: distances are measured from 0. So a schedule that falls to 0 moves the point
    to 0. The penalty belongs to the method, and `minimize` adds it to the value. A ``prox`` may
    restrict the point to a set, such as a box. A ``prox`` with a penalty raises an error, because
    each step would discard its effect. With ``l1`` or ``l2``, so do maps that tie coordinates
    together (`Simplex`, `L2Ball`), because their metric is that of a step without penalties.

    Decoupled weight decay raises an error, because each step would discard it too.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011), eq. 3 and section 5.1. Xiao, "Dual averaging methods for
    regularized stochastic learning and online optimization", JMLR 11 (2010), eq. 10.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(2)
    >>> opt = ao.Optimizer(x, ao.AdaGradDA(lr=0.5, l1=0.1))
    >>> opt.step(np.array([1.0, 0.05]))
    >>> x
    array([-0.45, -0.  ])
    """

    lr: float | Callable[[int], float] = 1e-2
    eps: float = 1e-8
    l1: float = 0.0
    l2: float = 0.0
    from_sums = True
    slots = ("z", "G")
    second_moments = ("G",)
    rule = staticmethod(adagrad_da)
    rate = staticmethod(adagrad_da_rate)
    idle = staticmethod(adagrad_da_idle)
    coefficients = staticmethod(adagrad_da_coefficients)
    idle_needs_constant_lr = False
    rates_only_fall = True
    additive = True

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_decoupled(self)
        if self.eps == 0:
            raise ValueError(
                "AdaGradDA.eps is 0.0, expected eps > 0: a zero gradient would divide by zero"
            )

    @property
    def penalty(self) -> tuple[float, float]:
        """The method's ``l1`` and ``l2``, and coupled weight decay."""
        l1, l2 = super().penalty
        return l1 + self.l1, l2 + self.l2


# A smaller rate counts as 0: its inverse, times a root or a point, would overflow in float32.
FTRL_LEAST_LR = 1e-20


def ftrl_carry(t, lr, beta, l1, l2, previous, current):
    """Return the inverse rates of the previous step (0 before the first) and of this step.

    A rate that counts as 0 leaves the last inverse unchanged.
    """
    return current, 1.0 / lr if lr >= FTRL_LEAST_LR else current


def ftrl_coefficients(t, lr, beta, l1, l2, previous, current):
    """Return the rate, the two inverse rates, and the hyperparameters."""
    return lr if lr >= FTRL_LEAST_LR else 0.0, previous, current, beta, l1, l2


def ftrl_rate(z, n, lr, previous, current, beta, *penalties):
    """Return the effective rate of a coordinate whose squared gradients sum to ``n``."""
    return over(lr, beta + sqrt(n))


def ftrl(x, g, z, n, lr, previous, current, beta, l1, l2):
    """McMahan et al. (2013), Algorithm 1: the sum of gradients, minus the pull of past points.

    At rate 0 the point does not move, as in the limit, and no gradient enters ``z``.
    """
    H_before = (beta + sqrt(n)) * previous
    n = n + g * g
    root = beta + sqrt(n)
    H = root * current
    z = z + (g if lr else lr) - (H - H_before) * x
    return -soft(z, l1) / (H + l2) if lr else x, over(lr, root), (z, n)


def ftrl_idle(k, x, z, n, lr, previous, current, beta, l1, l2):
    """Leave the point, and let ``z`` follow the rate: ``x`` stays the minimiser at each rate.

    Only the first step moves the point without a gradient, if there are penalties. A coordinate
    that has not taken it has ``z`` 0.
    """
    H = (beta + sqrt(n)) * current
    begun = z if z else -H * x
    moved = -soft(begun, l1) / (H + l2) if H else x
    x, z = (x, z) if z else (moved, begun)
    follows = -x * (H + l2) - (l1 if x > l2 - l2 else -l1)
    return x, (follows if x and current != previous else z, n)


@dataclass(frozen=True)
class FTRL(Method):
    r"""Follow the regularised leader (proximal): dual averaging centred at the past points.

    Parameters
    ----------
    lr : float or callable, default 1e-1
        Learning rate, the paper's alpha: at least 1e-20, or a function of the step. If a schedule
        gives a smaller rate, the point does not move in that step.
    beta : float, default 1.0
        A number at least 0, added to the root of the sum of squared gradients.
    l1, l2 : float, default 0.0
        Weights, at least 0, of the penalty ``l1 * abs(x) + l2 / 2 * x**2``. It is added to the sum
        of the losses, not to their mean, as in the paper.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``beta`` and ``l2`` are both 0: a zero gradient would
        divide by zero. Also for decoupled weight decay, because each step would discard it. For the
        same reason an `Optimizer` does not accept a ``prox`` with a penalty. With ``l1`` or ``l2``
        it does not accept maps that tie coordinates together, such as `Simplex`.

    Notes
    -----
    The literature calls it FTRL-Proximal. With :math:`n_t = \sum g_s^2` and
    :math:`H_t = (\beta + \sqrt{n_t}) / \alpha`,

    .. math:: z_t = z_{t-1} + g_t - (H_t - H_{t-1}) x_t, \qquad
              x_{t+1} = -\frac{S(z_t, \lambda_1)}{H_t + \lambda_2}.

    Because :math:`H_0 = 0`, the run starts at the given point. If that is 0, this is the paper's
    algorithm. With ``l1 = l2 = 0`` the steps are those of AdaGrad, with beta as eps.

    `AdaGradDA` adds its penalty to the mean of the losses. So after T steps ``FTRL(l1=T * l1)`` and
    ``AdaGradDA(l1=l1)`` weigh the same penalty against the same losses.

    References
    ----------
    McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, Algorithm 1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(2)
    >>> opt = ao.Optimizer(x, ao.FTRL(lr=0.5, l1=0.1))
    >>> opt.step(np.array([1.0, 0.05]))
    >>> x
    array([-0.225, -0.   ])
    """

    lr: float | Callable[[int], float] = 1e-1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    from_sums = True
    slots = ("z", "n")
    second_moments = ("n",)
    scalars: ClassVar[Mapping[str, float]] = {"previous": 0.0, "current": 0.0}
    rule = staticmethod(ftrl)
    rate = staticmethod(ftrl_rate)
    coefficients = staticmethod(ftrl_coefficients)
    carry = staticmethod(ftrl_carry)
    idle = staticmethod(ftrl_idle)

    @property
    def idle_needs_constant_lr(self) -> bool:
        """The first step with penalties moves coordinates without a gradient, at its own rate."""
        return bool(self.l1 or self.l2)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_decoupled(self)
        if isinstance(self.lr, float) and self.lr < FTRL_LEAST_LR:
            raise ValueError(
                f"FTRL.lr is {self.lr}, expected at least {FTRL_LEAST_LR}: smaller ones count as 0"
            )
        if self.beta == 0 and self.l2 == 0:
            raise ValueError(
                "FTRL.beta is 0.0 with l2 0.0, expected one of them > 0: a zero gradient would "
                "divide by zero"
            )
