"""The optimizers as values: frozen dataclasses that name a rule and hold its hyperparameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import rules
from .method import Method

__all__ = ["SGD", "AdaGrad", "Momentum", "RMSProp"]


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


@dataclass(frozen=True)
class Momentum(Method):
    """Gradient descent with momentum: ``b = momentum * b + g; x -= lr * b``.

    Parameters
    ----------
    lr : float or callable, default 1e-2
        Learning rate, greater than 0, or a function of the step, counted from 1.
    momentum : float, default 0.9
        What is kept of the buffer at each step, in [0, 1).
    nesterov : bool, default False
        Step along ``g + momentum * b`` instead of ``b``.
    dampening : float, default 0.0
        In [0, 1). The gradient enters the buffer times ``1 - dampening``; the first one enters
        whole, as in torch.
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"Momentum.nesterov is True with momentum {self.momentum} and dampening "
                f"{self.dampening}, expected momentum > 0 and dampening 0"
            )


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
    rule = staticmethod(rules.adagrad)
    rate = staticmethod(rules.adagrad_rate)
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
        In [0, 1). Above 0, collect the scaled gradients in a buffer and step along it.
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
    def rule(self) -> Callable[..., Any]:
        """One of six: centered or not, without momentum, with a heavy ball, with Nesterov's."""
        plain, heavy_ball, nesterov = (
            (
                rules.rmsprop_centered,
                rules.rmsprop_centered_momentum,
                rules.rmsprop_centered_nesterov,
            )
            if self.centered
            else (rules.rmsprop, rules.rmsprop_momentum, rules.rmsprop_nesterov)
        )
        return nesterov if self.nesterov else heavy_ball if self.momentum else plain

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
