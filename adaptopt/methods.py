"""The optimizers as values: frozen dataclasses that name a rule and hold its hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from . import rules
from .method import Method

__all__ = [
    "SGD",
    "AMSGrad",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Momentum",
    "Nadam",
    "RMSProp",
    "RowWiseAdaGrad",
]


@dataclass(frozen=True)
class SGD(Method):
    """Gradient descent: ``x -= lr * g``.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.

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
    rule = staticmethod(rules.sgd)
    rate = staticmethod(rules.sgd_rate)
    idle = staticmethod(rules.stays)
    rests = True
    additive = True


@dataclass(frozen=True)
class Momentum(Method):
    """Gradient descent with momentum: ``b = momentum * b + g; x -= lr * b``.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    momentum : float, default 0.9
        What is kept of the buffer at each step, in [0, 1). The effective rate, that of a gradient
        that lasts, is ``lr * (1 - dampening) / (1 - momentum)``: proximal maps are applied at it.
    nesterov : bool, default False
        Step along ``g + momentum * b`` instead of ``b``.
    dampening : float, default 0.0
        In [0, 1). The gradient enters the buffer times ``1 - dampening``; the first one enters
        whole, and without momentum all do, as in torch.
    lr_inside : bool, default False
        Put the learning rate inside the buffer, ``b = momentum * b + lr * g; x -= b``, as Keras
        does. It differs only where the rate varies.

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
    rate = staticmethod(rules.momentum_rate)
    coefficients = staticmethod(rules.momentum_coefficients)

    @property
    def rule(self) -> Callable[..., Any]:
        """Heavy ball or Nesterov."""
        return rules.nesterov if self.nesterov else rules.momentum

    @property
    def idle(self) -> Callable[..., Any]:
        """The ball rolls on."""
        return rules.nesterov_idle if self.nesterov else rules.momentum_idle

    @property
    def state_name(self) -> str:
        """With the learning rate inside, the buffer holds steps instead of gradients."""
        return super().state_name + "(lr_inside=True)" * self.lr_inside

    @property
    def idle_needs_constant_lr(self) -> bool:
        """Inside the buffer, past rates are past."""
        return not self.lr_inside

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"Momentum.nesterov is True with momentum {self.momentum} and dampening "
                f"{self.dampening}, expected momentum > 0 and dampening 0"
            )


def adagrad_bound(root: Any, metric: Any, diameters: Any, lr: float) -> float:
    """Return what AdaGrad's regret is at most, ``sum(D^2 H / (2 lr) + lr sqrt(G))``.

    Parameters
    ----------
    root : ndarray
        ``sqrt(G)``, of the sum of the squared gradients.
    metric : ndarray
        H, what the last step was divided by: ``root``, but for eps and a first accumulator.
    diameters : ndarray
        D, how far the comparator was at most, in each coordinate.
    lr : float
        The learning rate.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # of bounds near the largest number
        bound = float((diameters * diameters * metric / (2.0 * lr) + lr * root).sum())
    return math.inf if math.isnan(bound) else bound


@dataclass(frozen=True)
class AdaGrad(Method):
    r"""Divide each gradient by the root of the sum of all its squares so far.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    eps : float, default 1e-8
        At least 0; keeps a coordinate without gradients from dividing by zero.
    initial_accumulator : float, default 0.0
        What the sum starts at, at least 0.
    eps_inside : bool, default False
        Put eps under the root.

    Raises
    ------
    ValueError
        Also where ``eps`` and ``initial_accumulator`` are both 0: a zero gradient would divide by
        zero.

    See Also
    --------
    RMSProp : forgets the distant past, where AdaGrad's rates die.

    Notes
    -----
    .. math:: G_t = G_{t-1} + g_t^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{G_t} + \epsilon} g_t

    or, with ``eps_inside``, :math:`\eta / \sqrt{G_t + \epsilon}`. torch has eps outside (1e-10);
    optax and Keras have it inside (1e-7) and start at 0.1. The effective rate
    :math:`\eta / \sqrt{G_t}` can only fall.

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
    rule = staticmethod(rules.adagrad)
    rate = staticmethod(rules.adagrad_rate)
    idle = staticmethod(rules.adagrad_idle)
    rests = True
    additive = True
    coefficients = staticmethod(rules.adagrad_coefficients)
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

    def regret_bound(self, squared_gradients: Any, diameters: Any) -> float | None:
        """Return Duchi, Hazan & Singer's bound (theorem 5); None under a schedule or decay."""
        if callable(self.lr) or self.weight_decay:
            return None
        inside, outside = (self.eps, 0.0) if self.eps_inside else (0.0, self.eps)
        metric = np.sqrt(squared_gradients + self.initial_accumulator + inside) + outside
        return adagrad_bound(np.sqrt(squared_gradients), metric, diameters, self.lr)


@dataclass(frozen=True)
class RowWiseAdaGrad(AdaGrad):
    r"""AdaGrad with one accumulator for each row of a table: the mean of the row's squares.

    Parameters
    ----------
    lr, eps, initial_accumulator, eps_inside
        As for `AdaGrad`.

    See Also
    --------
    AdaGrad : with an accumulator for each coordinate.

    Notes
    -----
    For a row r of D coordinates,

    .. math:: G_{t,r} = G_{t-1,r} + \frac{1}{D} \sum_d g_{t,r,d}^2, \qquad
              x_{t+1,r} = x_{t,r} - \frac{\eta}{\sqrt{G_{t,r}} + \epsilon} g_{t,r}

    This is the formula of FBGEMM's row-wise AdaGrad, with eps outside the root. The state is D
    times smaller. An array of one dimension has rows of one coordinate, which is `AdaGrad`. The
    root of the mean is taken and squared again, which rounds once more.

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

    def regret_bound(self, squared_gradients: Any, diameters: Any) -> float | None:
        """Return None: the bound is that of an accumulator for each coordinate."""
        return None


# Rule and idle form: without momentum, with a heavy ball, with Nesterov's; the centered ones below.
_RMSPROP: tuple[tuple[tuple[Callable[..., Any], Callable[..., Any]], ...], ...] = (
    (
        (rules.rmsprop, rules.rmsprop_idle),
        (rules.rmsprop_momentum, rules.rmsprop_momentum_idle),
        (rules.rmsprop_nesterov, rules.rmsprop_nesterov_idle),
    ),
    (
        (rules.rmsprop_centered, rules.rmsprop_centered_idle),
        (rules.rmsprop_centered_momentum, rules.rmsprop_centered_momentum_idle),
        (rules.rmsprop_centered_nesterov, rules.rmsprop_centered_nesterov_idle),
    ),
)


@dataclass(frozen=True)
class RMSProp(Method):
    r"""Divide each gradient by the root of a running mean of its squares.

    Parameters
    ----------
    lr : float or callable, default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    rho : float, default 0.9
        What is kept of the running mean at each step, in [0, 1): a memory of about
        ``1 / (1 - rho)`` steps.
    eps : float, default 1e-8
        At least 0; keeps a coordinate without gradients from dividing by zero.
    momentum : float, default 0.0
        In [0, 1). Above 0, collect the scaled gradients in a buffer and step along it; effective
        rates, at which proximal maps are applied, are then ``1 / (1 - momentum)`` times larger.
    centered : bool, default False
        Divide by the running standard deviation instead: subtract the square of the running mean.
    eps_inside : bool, default False
        Put eps under the root.
    nesterov : bool, default False
        Nesterov's form of the momentum, which must be above 0.
    lr_inside : bool, default False
        Put the learning rate inside the momentum buffer, as optax, Keras and TensorFlow do; torch
        has it outside. It differs only where the rate varies.
    initial_accumulator : float, default 0.0
        What the running mean starts at, at least 0. TensorFlow 1 starts at 1.

    Raises
    ------
    ValueError
        Also where ``eps`` is 0 and the running mean may be: a zero gradient would divide by zero.

    See Also
    --------
    AdaGrad : never forgets, which is right for convex and sparse problems.

    Notes
    -----
    .. math:: E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{E_t} + \epsilon} g_t

    or, with ``eps_inside``, :math:`\eta / \sqrt{E_t + \epsilon}`. With momentum, the scaled
    gradient enters a buffer b. Centered, the root is of :math:`V_t = E_t - m_t^2` with the running
    mean m of the gradients, kept in the form
    :math:`V_t = \rho V_{t-1} + \rho (1 - \rho) (g_t - m_{t-1})^2`, which rounding cannot make
    negative. The slots are E, or V and m; and b with momentum.

    optax's ``bias_correction`` is not an option here: it is Adam with ``beta1=0``.

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
    rate = staticmethod(rules.rmsprop_rate)
    coefficients = staticmethod(rules.rmsprop_coefficients)

    @property
    def slots(self) -> tuple[str, ...]:
        """E, or V and m where centered; and b with momentum."""
        return (("V", "m") if self.centered else ("E",)) + (("b",) if self.momentum else ())

    @property
    def second_moments(self) -> tuple[str, ...]:
        """E, or V where centered."""
        return self.slots[:1]

    @property
    def state_name(self) -> str:
        """With the learning rate inside, the buffer holds steps instead of gradients."""
        return super().state_name + "(lr_inside=True)" * (self.momentum > 0 and self.lr_inside)

    @property
    def rule(self) -> Callable[..., Any]:
        """One of six: centered or not, without momentum, with a heavy ball, with Nesterov's."""
        return self._functions[0]

    @property
    def idle(self) -> Callable[..., Any]:
        """What fades, and what rolls on."""
        return self._functions[1]

    @property
    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return _RMSPROP[self.centered][2 if self.nesterov else 1 if self.momentum else 0]

    @property
    def idle_moves_x(self) -> bool:
        """Only the ball moves it."""
        return self.momentum > 0

    @property
    def idle_needs_constant_lr(self) -> bool:
        """Inside the buffer, past rates are past."""
        return self.momentum > 0 and not self.lr_inside

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


@dataclass(frozen=True)
class AdaDelta(Method):
    r"""Step by the root mean square of the last steps over that of the last gradients.

    Parameters
    ----------
    lr : float or callable, default 1.0
        Factor on each step, greater than 0, or a function of the step, counted from 1. The formula
        is meant to go without one.
    rho : float, default 0.9
        What is kept of both running means at each step, in [0, 1).
    eps : float, default 1e-6
        Greater than 0. It is also what the first steps grow from: they are about ``sqrt(eps)``.

    See Also
    --------
    RMSProp : with a learning rate in the place of the steps' root mean square.

    Notes
    -----
    .. math:: E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \qquad
              u_t = \frac{\sqrt{D_{t-1} + \epsilon}}{\sqrt{E_t + \epsilon}} g_t, \qquad
              D_t = \rho D_{t-1} + (1 - \rho) u_t^2, \qquad
              x_{t+1} = x_t - \eta u_t

    The learning rate is outside D, as in torch, optax and Keras, whose formulas are all the same;
    Keras has rho 0.95, eps 1e-7 and lr 1e-3 by default. The slots are E and D. The effective rate
    depends on the last D, so every step writes it down.

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
    rule = staticmethod(rules.adadelta)
    coefficients = staticmethod(rules.adadelta_coefficients)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_zero(self, "eps")


@dataclass(frozen=True)
class Adam(Method):
    r"""Divide the running mean of the gradients by the root of that of their squares.

    Parameters
    ----------
    lr : float or callable, default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        What is kept of the mean at each step, in [0, 1).
    beta2 : float, default 0.999
        What is kept of the mean of the squares at each step, in [0, 1).
    eps : float, default 1e-8
        At least 0; keeps a coordinate without gradients from dividing by zero.
    eps_hat : bool, default False
        Add eps to the root before the root is corrected for its start at zero.
    eps_root : float, default 0.0
        At least 0. Added to the corrected mean of the squares, under the root.

    Raises
    ------
    ValueError
        Also where ``eps`` and ``eps_root`` are both 0: a zero gradient would divide by zero.

    See Also
    --------
    AdamW : with decoupled weight decay.
    AMSGrad : never forgets a large gradient.

    Notes
    -----
    .. math:: m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
              v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2

    .. math:: \hat m_t = \frac{m_t}{1 - \beta_1^t}, \qquad
              \hat v_t = \frac{v_t}{1 - \beta_2^t}, \qquad
              x_{t+1} = x_t - \frac{\eta}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon} \hat m_t

    This is the paper's Algorithm 1 and torch's. Keras and TensorFlow take the form below it in
    the paper, :math:`\eta \sqrt{1 - \beta_2^t} / (1 - \beta_1^t) \cdot m_t / (\sqrt{v_t} +
    \hat\epsilon)`, which ``eps_hat`` gives: eps counts for more in the first steps. ``eps_root`` is
    optax's. The effective rate is what multiplies :math:`\hat m_t`.

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
    rule = staticmethod(rules.adam)
    rate = staticmethod(rules.adam_rate)
    coefficients = staticmethod(rules.adam_coefficients)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_zero(self, "eps", "eps_root")


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
        With False it is `Adam` with the coupled decay.

    Notes
    -----
    The decay is multiplied by the learning rate, as in torch (1e-2), optax (1e-4) and Keras (4e-3);
    in the paper only by the schedule's factor on it.

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


@dataclass(frozen=True)
class Adamax(Method):
    r"""Divide the running mean of the gradients by a fading maximum of their magnitudes.

    Parameters
    ----------
    lr : float or callable, default 2e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        What is kept of the mean at each step, in [0, 1).
    beta2 : float, default 0.999
        What is kept of the maximum at each step, in [0, 1).
    eps : float, default 1e-8
        Greater than 0; keeps a coordinate without gradients from dividing by zero.
    eps_inside : bool, default True
        Put eps inside the maximum, with the magnitude of the gradient. Otherwise it is added to the
        maximum where that divides.

    See Also
    --------
    Adam : with the root of a running mean of squares in the place of the maximum.

    Notes
    -----
    .. math:: m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \qquad
              u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \qquad
              x_{t+1} = x_t - \frac{\eta}{1 - \beta_1^t} \frac{m_t}{u_t}

    This is the formula of torch and optax. Keras has eps outside, :math:`u_t + \epsilon` (1e-7),
    and a rate of 1e-3; the paper has no eps. The effective rate is :math:`\eta / u_t`.

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
    rule = staticmethod(rules.adamax)
    rate = staticmethod(rules.adamax_rate)
    coefficients = staticmethod(rules.adamax_coefficients)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_zero(self, "eps")


@dataclass(frozen=True)
class Nadam(Method):
    r"""Adam with Nesterov's momentum: step along the mean as the next gradient will find it.

    Parameters
    ----------
    lr : float or callable, default 2e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        What is kept of the mean at each step, and what the momentum rises to, in [0, 1).
    beta2 : float, default 0.999
        What is kept of the mean of the squares at each step, in [0, 1).
    eps : float, default 1e-8
        At least 0; keeps a coordinate without gradients from dividing by zero.
    momentum_decay : float, default 4e-3
        At least 0: how fast the momentum rises from half of ``beta1`` to all of it. From 1e3 on it
        is ``beta1`` from the first step.
    eps_root : float, default 0.0
        At least 0. Added to the corrected mean of the squares, under the root.

    Raises
    ------
    ValueError
        Also where ``eps`` and ``eps_root`` are both 0: a zero gradient would divide by zero.

    See Also
    --------
    Adam : without the look ahead.

    Notes
    -----
    With m, v and :math:`\hat v` as for `Adam`, the momentum :math:`\mu_t = \beta_1 (1 - 0.5 \cdot
    0.96^{t \psi})` of the schedule with :math:`\psi` = ``momentum_decay``, and the product
    :math:`M_t = \mu_1 \cdots \mu_t` of all momenta so far,

    .. math:: x_{t+1} = x_t - \frac{\eta}{\sqrt{\hat v_t + \epsilon_{root}} + \epsilon} \left(
              \frac{\mu_{t+1}}{1 - M_t \mu_{t+1}} m_t + \frac{1 - \mu_t}{1 - M_t} g_t \right)

    This is torch's formula, which leaves out a factor :math:`\beta_2` that the paper has in
    :math:`\hat v`. Keras has the paper's schedule, ``momentum_decay=1``. optax has a constant
    momentum, ``momentum_decay=1e3``: :math:`0.96^{1000} / 2` is less than the rounding of 1. The
    product is the one entry of ``Optimizer.scalars``.

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
    rule = staticmethod(rules.nadam)
    rate = staticmethod(rules.adam_rate)
    carry = staticmethod(rules.nadam_carry)
    coefficients = staticmethod(rules.nadam_coefficients)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_zero(self, "eps", "eps_root")


@dataclass(frozen=True)
class AMSGrad(Method):
    r"""Adam with the largest mean of the squares so far in the place of the last.

    Parameters
    ----------
    lr : float or callable, default 1e-3
        Learning rate, greater than 0, or a function of the step, counted from 1.
    beta1 : float, default 0.9
        What is kept of the mean at each step, in [0, 1).
    beta2 : float, default 0.999
        What is kept of the mean of the squares at each step, in [0, 1).
    eps : float, default 1e-8
        At least 0; keeps a coordinate without gradients from dividing by zero.
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
        Also where ``eps`` and ``eps_root`` are both 0: a zero gradient would divide by zero.

    See Also
    --------
    Adam : forgets, and need not converge where rare gradients are the large ones.

    Notes
    -----
    With m, v and :math:`\hat m` as for `Adam`,

    .. math:: v^{max}_t = \max(v^{max}_{t-1}, v_t), \qquad
              x_{t+1} = x_t - \frac{\eta}
              {\sqrt{v^{max}_t / (1 - \beta_2^t) + \epsilon_{root}} + \epsilon} \hat m_t

    or, with ``corrected_max``, :math:`v^{max}_t = \max(v^{max}_{t-1}, v_t / (1 - \beta_2^t))`
    without the later correction. torch has the first form, Keras too, with ``eps_hat``; optax has
    the second. The paper has no corrections, ``bias_correction=False``, and no eps; with either of
    these two and a constant learning rate, the effective rate can only fall.

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
    rule = staticmethod(rules.amsgrad)
    rate = staticmethod(rules.amsgrad_rate)
    coefficients = staticmethod(rules.amsgrad_coefficients)

    @property
    def state_name(self) -> str:
        """The maximum is that of corrected means, or of means as they are."""
        corrects = self.corrected_max and self.bias_correction
        return super().state_name + "(corrected_max=True)" * corrects

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_zero(self, "eps", "eps_root")


def _refuse_zero(method: Method, *names: str) -> None:
    """Raise where all of the terms that keep a denominator above zero are zero."""
    if any(getattr(method, name) for name in names):
        return
    others = "".join(f" with {name} 0.0" for name in names[1:])
    expected = f"expected {'one of them' if others else names[0]} > 0"
    raise ValueError(
        f"{type(method).__name__}.{names[0]} is 0.0{others}, {expected}: "
        "a zero gradient would divide by zero"
    )
