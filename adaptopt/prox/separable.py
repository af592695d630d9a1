"""Penalties of each coordinate alone, which make coordinates zero or small."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..arrays import DType, read_real
from ..scalar import geometric, soft, times
from .base import Domain, Parameters, Proximal, flat

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions have no one type and no literals, as rules have none.


# -- scalar functions: the map, k maps in sequence, the subgradient nearest to zero, the cost ------


def soft_threshold(x, rate, l1):
    """Move by ``rate * l1`` towards zero, and no further."""
    return soft(x, times(rate, l1))


def shrink(x, rate, l2, one):
    """Divide by ``1 + rate * l2``."""
    return x / (one + times(rate, l2))


def soft_threshold_and_shrink(x, rate, l1, l2, one):
    """Soft-threshold, then shrink."""
    return shrink(soft_threshold(x, rate, l1), rate, l2, one)


def soft_threshold_repeated(k, x, rate, l1):
    """Move by ``k * rate * l1`` towards zero."""
    return soft(x, times(k * rate, l1))


def shrink_repeated(k, x, rate, l2, one):
    """Divide by ``(1 + rate * l2)**k``."""
    return x * geometric(shrink(one, rate, l2, one), k)[0]


def elastic_repeated(k, x, rate, l1, l2, one):
    """Shrink k times, each time after a soft threshold."""
    power, total = geometric(shrink(one, rate, l2, one), k)
    return soft(power * x, times(times(rate, l1), total))


def l1_gradient(x, g, l1):
    """Add the penalty ``l1 * abs(x)``: at zero, each slope from -l1 to l1 is a subgradient."""
    zero = l1 - l1
    slope = l1 if x > zero else -l1
    return soft(g, l1) if x == zero else g + slope


def l1_gradients(x, g, l1):
    """Compute `l1_gradient` for arrays."""
    return np.where(x == 0, g - np.clip(g, -l1, l1), g + l1 * np.sign(x))


def l2_gradient(x, g, l2, one):
    """Add the penalty ``l2 / 2 * x**2``."""
    return g + l2 * x


def elastic_gradient(x, g, l1, l2, one):
    """Add both penalties."""
    return l1_gradient(x, g + l2 * x, l1)


def l1_cost(x, l1):
    """Return ``l1 * abs(x)``."""
    return l1 * abs(x)


def l2_cost(x, l2, one):
    """Return ``l2 / 2 * x**2``."""
    return 0.5 * l2 * x * x


def elastic_cost(x, l1, l2, one):
    """Return the sum of both penalties."""
    return l1_cost(x, l1) + l2_cost(x, l2, one)


# A method's own penalty, such as weight decay, in addition to that of the map: l1, l2 come last.


@cache
def with_penalty(residual):
    """Return the residual of an objective with one more penalty, whose l1 and l2 come last."""

    def penalised(x, g, *rest):
        return residual(x, l1_gradient(x, g + rest[-1] * x, rest[-2]), *rest[:-2])

    return penalised


@cache
def cost_with_penalty(cost):
    """Return the cost with one more penalty, whose l1 and l2 come last."""

    def penalised(x, *rest):
        return cost(x, *rest[:-2]) + (rest[-2] * abs(x) + 0.5 * rest[-1] * x * x)

    return penalised


# -- maps ------------------------------------------------------------------------------------------


class _Penalty(Proximal):
    """A penalty of each coordinate, whose fields are weights: numbers or arrays, at least 0."""

    is_projection = False
    has_penalty = True
    # Constant arguments of the scalar functions, after the fields.
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            array = read_real(f"{type(self).__name__}.{name}", value).astype(np.float64)
            if not ((array >= 0) & np.isfinite(array)).all():
                raise ValueError(
                    f"{type(self).__name__}.{name} is {value!r}, expected finite numbers >= 0"
                )
            object.__setattr__(self, name, array if array.ndim else float(array))

    def parameters(self, shape: tuple[int, ...], dtype: DType) -> Parameters:
        """Return the fields, as scalars if all are, else as flat arrays; and the constants."""
        values = tuple(vars(self).values())
        if all(np.ndim(value) == 0 for value in values):
            return (), (*values, *self.constants)
        return tuple(flat(type(self).__name__, value, shape) for value in values), self.constants

    def domain(self) -> Domain | None:
        """Return the penalty, or None if it differs between coordinates."""
        l1, l2 = self._weights
        return Domain(l1=l1, l2=l2) if isinstance(l1, float) and isinstance(l2, float) else None

    @property
    def _weights(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """``l1`` and ``l2`` of the elastic net."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class L1(_Penalty):
    r"""The penalty ``lam * sum(abs(x))`` (lasso), which makes coordinates exactly zero.

    Parameters
    ----------
    lam : float or array_like
        Weight of the penalty, at least 0; an array broadcasts to the shape of the parameters.

    Notes
    -----
    After each step, soft thresholding moves a coordinate by ``rate * lam`` towards zero, but not
    beyond:

    .. math:: x \leftarrow \mathrm{sign}(x) \max(|x| - r \lambda, 0),

    with :math:`r` the effective learning rate of the coordinate.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011), section 5.1.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> res = ao.minimize(lambda x: ((x - 1) @ (x - 1) / 2, x - 1), [3.0, -2.0], jac=True,
    ...                   method="adagrad", prox=ao.L1([0.25, 2.0]), options={"lr": 1.0})
    >>> res.x.round(4), round(res.fun, 4)
    (array([0.75, 0.  ]), 0.7188)
    """

    lam: Any  # given as array_like; kept as a float or float64 array
    prox = staticmethod(soft_threshold)
    residual = staticmethod(l1_gradient)
    repeat = staticmethod(soft_threshold_repeated)
    repeat_sums = True
    cost = staticmethod(l1_cost)

    @property
    def _weights(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        return self.lam, 0.0


@dataclass(frozen=True, eq=False)
class L2(_Penalty):
    r"""The penalty ``lam / 2 * sum(x**2)`` (ridge), which makes coordinates smaller.

    Parameters
    ----------
    lam : float or array_like
        Weight of the penalty, at least 0; an array broadcasts to the shape of the parameters.

    Notes
    -----
    After each step, a coordinate is divided:

    .. math:: x \leftarrow \frac{x}{1 + r \lambda},

    with :math:`r` its effective learning rate. Unlike ``weight_decay``, which adds the gradient of
    the penalty, the penalty does not enter the method's accumulators.

    References
    ----------
    Duchi & Singer, "Efficient online and batch learning using forward backward splitting", JMLR 10
    (2009), section 5.2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0])
    >>> ao.Optimizer(x, ao.SGD(lr=0.5), prox=ao.L2(1.0)).step(np.zeros(1))
    >>> x
    array([2.])
    """

    lam: Any  # given as array_like; kept as a float or float64 array
    prox = staticmethod(shrink)
    residual = staticmethod(l2_gradient)
    repeat = staticmethod(shrink_repeated)
    cost = staticmethod(l2_cost)
    constants = (1.0,)

    @property
    def _weights(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        return 0.0, self.lam


@dataclass(frozen=True, eq=False)
class ElasticNet(_Penalty):
    """The elastic net: the penalty ``l1 * sum(abs(x)) + l2 / 2 * sum(x**2)``.

    Parameters
    ----------
    l1, l2 : float or array_like
        Weights of the penalty, at least 0; arrays broadcast to the shape of the parameters.

    Notes
    -----
    After each step, a coordinate is moved towards zero as by `L1`, then divided as by `L2`.

    References
    ----------
    Zou & Hastie, "Regularization and variable selection via the elastic net", Journal of the Royal
    Statistical Society B 67 (2005), eq. 3.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> x = np.array([3.0, 0.1])
    >>> ao.Optimizer(x, ao.SGD(lr=0.5), prox=ao.ElasticNet(1.0, 0.5)).step(np.zeros(2))
    >>> x
    array([2., 0.])
    """

    l1: Any  # given as array_like; kept as floats or float64 arrays
    l2: Any
    prox = staticmethod(soft_threshold_and_shrink)
    residual = staticmethod(elastic_gradient)
    repeat = staticmethod(elastic_repeated)
    cost = staticmethod(elastic_cost)
    constants = (1.0,)

    @property
    def _weights(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        return self.l1, self.l2
