"""Dual averaging and its kin, and AdaGrad by the norm: methods for convex problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from . import rules
from .method import Method

__all__ = ["FTRL", "AdaGradDA", "AdaGradNorm"]


@dataclass(frozen=True)
class AdaGradDA(Method):
    r"""Dual averaging with AdaGrad's rates: compute the point anew from the sum of all gradients.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        Greater than 0; the paper's delta.
    l1, l2 : float, default 0.0
        At least 0: the penalty ``l1 * abs(x) + l2 / 2 * x**2``. With ``l1``, a coordinate is
        exactly zero while its mean gradient is at most ``l1`` in size.

    Notes
    -----
    With :math:`z_t = \sum g_s`, :math:`G_t = \sum g_s^2` and :math:`H_t = \sqrt{G_t} + \epsilon`,

    .. math:: x_{t+1} = -\frac{S(\eta z_t, \eta t \lambda_1)}{H_t + \eta t \lambda_2},

    where S is soft thresholding. The point depends on the sum alone: **where the run started is
    forgotten**, and distances are measured from 0. So a schedule that falls to 0 brings the point
    to 0 too. The penalty belongs to the method, and `minimize` adds it to the value. A ``prox`` may
    keep the point in a set, such as a box; one with a penalty is refused, as each step would forget
    what it did. With ``l1`` or ``l2``, maps that tie coordinates together (`Simplex`, `L2Ball`) are
    refused too: their metric is that of a step without them.

    Decoupled weight decay is refused: the point is computed anew, so a decay of it is forgotten.

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
    rule = staticmethod(rules.adagrad_da)
    rate = staticmethod(rules.adagrad_da_rate)
    idle = staticmethod(rules.adagrad_da_idle)
    coefficients = staticmethod(rules.adagrad_da_coefficients)
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
        """Its own ``l1`` and ``l2``, and coupled weight decay."""
        l1, l2 = super().penalty
        return l1 + self.l1, l2 + self.l2

    @property
    def takes_tied_maps(self) -> bool:
        """Without penalties of its own."""
        return not (self.l1 or self.l2)


@dataclass(frozen=True)
class FTRL(Method):
    r"""Follow the regularised leader, proximal: dual averaging around the points of the past.

    Parameters
    ----------
    lr : float or callable, default 1e-1
        Learning rate, the paper's alpha; at least 1e-20, or a function of the step. In steps whose
        rate a schedule puts below that, the point rests.
    beta : float, default 1.0
        At least 0: what is added to the root of the sum of squared gradients.
    l1, l2 : float, default 0.0
        At least 0: the penalty ``l1 * abs(x) + l2 / 2 * x**2`` of the sum (not the mean) of the
        losses, as in the paper.

    Raises
    ------
    ValueError
        Also where ``beta`` and ``l2`` are both 0: a zero gradient would divide by zero. And for
        decoupled weight decay, as the next step would compute the point anew; when an optimizer is
        made, for the same reason, for a ``prox`` with a penalty. With ``l1`` or ``l2``, also for
        maps that tie coordinates together, such as `Simplex`.

    Notes
    -----
    With :math:`n_t = \sum g_s^2` and :math:`H_t = (\beta + \sqrt{n_t}) / \alpha`,

    .. math:: z_t = z_{t-1} + g_t - (H_t - H_{t-1}) x_t, \qquad
              x_{t+1} = -\frac{S(z_t, \lambda_1)}{H_t + \lambda_2}.

    :math:`H_0 = 0`, so the run starts from the given point; from 0, it is the paper's. With
    ``l1 = l2 = 0`` a step is AdaGrad's, with beta for eps.

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
    rule = staticmethod(rules.ftrl)
    rate = staticmethod(rules.ftrl_rate)
    coefficients = staticmethod(rules.ftrl_coefficients)
    carry = staticmethod(rules.ftrl_carry)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_decoupled(self)
        if not callable(self.lr) and self.lr < rules.FTRL_LEAST_LR:
            raise ValueError(
                f"FTRL.lr is {self.lr}, expected at least {rules.FTRL_LEAST_LR}: smaller ones "
                "count as 0"
            )
        if self.beta == 0 and self.l2 == 0:
            raise ValueError(
                "FTRL.beta is 0.0 with l2 0.0, expected one of them > 0: a zero gradient would "
                "divide by zero"
            )

    @property
    def takes_tied_maps(self) -> bool:
        """Without penalties of its own."""
        return not (self.l1 or self.l2)


@dataclass(frozen=True)
class AdaGradNorm(Method):
    r"""Divide the rate of all coordinates by the root of the sum of all squared gradient norms.

    Parameters
    ----------
    lr : float or callable, default 1e-1
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        At least 0.
    initial_accumulator : float, default 0.0
        What the sum starts at, at least 0; the paper's :math:`b_0^2`.

    Raises
    ------
    ValueError
        Also where ``eps`` and ``initial_accumulator`` are both 0, and for coupled weight decay,
        whose part of the gradient would not be in the norm.

    Notes
    -----
    .. math:: G_t = G_{t-1} + \|g_t\|^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{G_t} + \epsilon} g_t

    The norm is over all parameters of one group: those that share the method, the proximal map and
    the dtype, and do not lie in files. One scalar is kept, no slot: a step moves 12 bytes an
    element of float32, and reads the gradient once more for its norm.

    References
    ----------
    Ward, Wu & Bottou, "AdaGrad stepsizes: sharp convergence over nonconvex landscapes", ICML 2019,
    Algorithm 1. Streeter & McMahan, "Less regret via online conditioning", 2010, section 4.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.zeros(2)
    >>> opt = ao.Optimizer(x, ao.AdaGradNorm(lr=1.0))
    >>> opt.step(np.array([3.0, 4.0]))
    >>> x.round(6), opt.scalars
    (array([-0.6, -0.8]), {'G': 25.0})
    """

    lr: float | Callable[[int], float] = 1e-1
    eps: float = 1e-8
    initial_accumulator: float = 0.0
    scalars: ClassVar[Mapping[str, float]] = {"G": 0.0}
    measures = ("squared_norm",)
    rule = staticmethod(rules.sgd)
    rate = staticmethod(rules.sgd_rate)
    idle = staticmethod(rules.stays)
    idle_moves_x = False
    coefficients = staticmethod(rules.adagrad_norm_coefficients)
    carry = staticmethod(rules.adagrad_norm_carry)
    rates_only_fall = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps == 0 and self.initial_accumulator == 0:
            raise ValueError(
                "AdaGradNorm.eps is 0.0 with initial_accumulator 0.0, expected one of them > 0: a "
                "zero gradient would divide by zero"
            )
        if self.weight_decay and not self.decoupled:
            raise ValueError(
                f"AdaGradNorm.weight_decay is {self.weight_decay} with decoupled False, expected "
                "True: the norm is that of the gradient without the decay"
            )

    def initial_scalars(self) -> tuple[float, ...]:
        """Start the sum at ``initial_accumulator``."""
        return (self.initial_accumulator,)


def _refuse_decoupled(method: Method) -> None:
    """Raise for a decay of points that the next step computes anew, and so without it."""
    if method.decoupled and method.weight_decay:
        raise ValueError(
            f"{type(method).__name__}.decoupled is True with weight_decay {method.weight_decay}, "
            "expected False: the point is computed anew from sums of gradients, which forgets a "
            "decay of the point itself"
        )
