"""AdaGrad: one learning rate for each coordinate, for each row, or for all coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from ..scalar import over, times
from .base import Method
from .momentum import sgd, sgd_rate, stays

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def adagrad_coefficients(t, lr, eps, initial_accumulator, eps_inside):
    """Place eps."""
    return (lr, eps, 0.0) if eps_inside else (lr, 0.0, eps)


def adagrad_rate(G, lr, eps_in, eps_out):
    """Return the effective rate of a coordinate whose squared gradients sum to ``G``."""
    return over(lr, sqrt(G + eps_in) + eps_out)


def adagrad(x, g, G, lr, eps_in, eps_out):
    """Duchi, Hazan & Singer (2011): divide by the root of all squared gradients so far."""
    G = G + g * g
    rate = adagrad_rate(G, lr, eps_in, eps_out)
    return x - times(rate, g), rate, (G,)


def adagrad_idle(k, x, G, *coefs):
    """Without a gradient, nothing changes."""
    return x, (G,)


def adagrad_bound(root: np.ndarray, metric: np.ndarray, diameters: np.ndarray, lr: float) -> float:
    """Return the bound on AdaGrad's regret, ``sum(D^2 H / (2 lr) + lr sqrt(G))``.

    Parameters
    ----------
    root : ndarray
        ``sqrt(G)``, the root of the sum of the squared gradients.
    metric : ndarray
        H, the divisor of the last step: ``root``, with eps and the initial accumulator.
    diameters : ndarray
        D, the largest distance to the comparator in each coordinate.
    lr : float
        The learning rate.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # from bounds near the largest number
        bound = float((diameters * diameters * metric / (2.0 * lr) + lr * root).sum())
    return math.inf if math.isnan(bound) else bound


@dataclass(frozen=True)
class AdaGrad(Method):
    r"""Divide each gradient by the root of the sum of its squares so far.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        At least 0. Prevents a division by zero for coordinates without gradients.
    initial_accumulator : float, default 0.0
        The initial value of the sum, at least 0.
    eps_inside : bool, default False
        Put eps under the root.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` and ``initial_accumulator`` are both 0: a zero
        gradient would divide by zero.

    See Also
    --------
    RMSProp : forgets old gradients, for problems in which AdaGrad's rates become too small.

    Notes
    -----
    .. math:: G_t = G_{t-1} + g_t^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{G_t} + \epsilon} g_t

    With ``eps_inside`` the rate is :math:`\eta / \sqrt{G_t + \epsilon}`. torch has eps outside the
    root (1e-10). optax and Keras have it inside (1e-7), and start the sum at 0.1. The effective
    rate :math:`\eta / \sqrt{G_t}` can only fall.

    With a proximal map, such as ``prox=L1(0.1)``, this is AdaGrad-COMID: composite mirror descent
    in AdaGrad's metric. The variant by dual averaging, AdaGrad-RDA, is `AdaGradDA`.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011), eq. 1 with the diagonal matrix of Figure 1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([1.0, 1.0])
    >>> opt = ao.Optimizer(x, ao.AdaGrad(lr=0.5))
    >>> opt.step(np.array([100.0, 0.01]))
    >>> x.round(3), opt.learning_rates().round(3)
    (array([0.5, 0.5]), array([5.e-03, 5.e+01]))
    """

    lr: float | Callable[[int], float] = 1e-2
    eps: float = 1e-8
    initial_accumulator: float = 0.0
    eps_inside: bool = False
    slots = ("G",)
    second_moments = ("G",)
    rule = staticmethod(adagrad)
    rate = staticmethod(adagrad_rate)
    idle = staticmethod(adagrad_idle)
    rests = rate_is_linear = True
    additive = True
    coefficients = staticmethod(adagrad_coefficients)
    rates_only_fall = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eps == 0 and self.initial_accumulator == 0:
            raise ValueError(
                "AdaGrad.eps is 0 with initial_accumulator 0, expected one of them > 0: "
                "a zero gradient would divide by zero"
            )

    def initial_state(self) -> dict[str, float]:
        """Start the sum at ``initial_accumulator``."""
        return {"G": self.initial_accumulator}

    def regret_bound(self, squared_gradients: np.ndarray, diameters: np.ndarray) -> float | None:
        """Return Duchi, Hazan & Singer's bound (theorem 5), or None with a schedule or decay."""
        if callable(self.lr) or self.weight_decay:
            return None
        inside, outside = (self.eps, 0.0) if self.eps_inside else (0.0, self.eps)
        metric = np.sqrt(squared_gradients + self.initial_accumulator + inside) + outside
        return adagrad_bound(np.sqrt(squared_gradients), metric, diameters, self.lr)


@dataclass(frozen=True)
class RowWiseAdaGrad(AdaGrad):
    r"""AdaGrad with one accumulator per row of a table: the sum of the row's mean squares.

    Parameters
    ----------
    lr, eps, initial_accumulator, eps_inside
        As for `AdaGrad`.

    See Also
    --------
    AdaGrad : has an accumulator for each coordinate.

    Notes
    -----
    For a row r of D coordinates,

    .. math:: G_{t,r} = G_{t-1,r} + \frac{1}{D} \sum_d g_{t,r,d}^2, \qquad
              x_{t+1,r} = x_{t,r} - \frac{\eta}{\sqrt{G_{t,r}} + \epsilon} g_{t,r}

    This is the formula of FBGEMM's row-wise AdaGrad, with eps outside the root. The state is D
    times smaller than that of `AdaGrad`. The rows of a one-dimensional array have one coordinate,
    so the method is then `AdaGrad`. The root of the mean is computed and squared again, which adds
    a rounding error.

    References
    ----------
    Mudigere et al., "Software-hardware co-design for fast and scalable training of deep learning
    recommendation models", ISCA 2022, which calls it row-wise sparse AdaGrad.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> table = np.zeros((3, 2))
    >>> opt = ao.Optimizer(table, ao.RowWiseAdaGrad(lr=1.0))
    >>> opt.step_rows([2], np.array([[7.0, 1.0]]))
    >>> table[2].round(3), opt.state["G"]
    (array([-1.4, -0.2]), array([ 0.,  0., 25.]))
    """

    rowwise = True

    def regret_bound(self, squared_gradients: np.ndarray, diameters: np.ndarray) -> float | None:
        """Return None: the bound needs an accumulator for each coordinate."""
        return None


def adagrad_norm_carry(t, lr, eps, initial_accumulator, G, squared_norm):
    """Sum the squared norms of the gradients."""
    return (G + squared_norm,)


def adagrad_norm_coefficients(t, lr, eps, initial_accumulator, G):
    """Ward, Wu & Bottou (2019), Algorithm 1: one AdaGrad rate, for a step like that of `sgd`."""
    return (lr / (sqrt(G) + eps),)


@dataclass(frozen=True)
class AdaGradNorm(Method):
    r"""Divide the rate of all coordinates by the root of the sum of squared gradient norms.

    Parameters
    ----------
    lr : float, callable or "auto", default 1e-1
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        At least 0.
    initial_accumulator : float, default 0.0
        The initial value of the sum, at least 0; the paper's :math:`b_0^2`.

    Raises
    ------
    ValueError
        If a value is out of range. Also if ``eps`` and ``initial_accumulator`` are both 0, and for
        coupled weight decay, because the norm would not include its part of the gradient.

    Notes
    -----
    .. math:: G_t = G_{t-1} + \|g_t\|^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{G_t} + \epsilon} g_t

    The norm is over all parameters of one group: those with equal method, proximal map and dtype
    that do not lie in files. The state is one number, without slots. A step moves 12 bytes per
    float32 element, and reads the gradient once more for its norm.

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
    rule = staticmethod(sgd)
    rate = staticmethod(sgd_rate)
    idle = staticmethod(stays)
    idle_moves_x = False
    coefficients = staticmethod(adagrad_norm_coefficients)
    carry = staticmethod(adagrad_norm_carry)
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
