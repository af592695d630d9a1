"""Problems of regression: the targets are real numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Matrix
from ..kernels.loss import Loss
from . import losses
from .problem import Problem, Weights
from .reading import read_column, read_matrix


class LeastSquares(Problem):
    r"""Least squares: :math:`\ell(z, b) = \tfrac12 (z - b)^2`.

    Parameters
    ----------
    A : ndarray, or scipy.sparse array or matrix
        The rows: finite numbers, C-contiguous, float32 or float64. A sparse matrix may have any
        format and order, repeated entries, explicit zeros, and counts of an integer dtype, which
        become float64. See ``copy``.
    b : array_like
        A finite number for each row. A copy of the dtype of ``A`` is kept.
    intercept : bool, default False
        Add the last entry of ``x`` to each prediction. ``x`` then has ``A.shape[1] + 1`` entries.
    sample_weight : array_like, optional
        Weights for the mean: a finite number >= 0 for each row, not all 0. Only their proportions
        matter. The weighted sum over a batch of k rows is divided by k times the mean weight of all
        rows, so that a run over batches reaches the minimum of the weighted mean.
    copy : bool, optional
        None: keep the arrays of a dense matrix, and of a sparse one in canonical form: CSR with
        sorted columns, each once in its row, no explicit zeros, and int32 indices if they suffice.
        Do not change the entries of these arrays. Bring any other sparse matrix to this form once,
        in a copy. The copy needs at most as much memory again (12 bytes per entry of float64), and
        later edits of ``A`` do not reach it. True: keep a copy in any case. False: keep no copy,
        and change a CSR matrix to the canonical form in place.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    ``p(x)`` returns the mean loss, a float, and its gradient

    .. math:: \nabla p(x) = \frac{\sum_i w_i (a_i^T x - b_i) a_i}{\sum_i w_i}.

    ``x`` may have another dtype than ``A``. It is converted to the dtype of ``A``, and the gradient
    back to that of ``x``.

    References
    ----------
    A. Bjorck, "Numerical Methods for Least Squares Problems", SIAM, 1996.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.LeastSquares(np.array([[1.0, 0.0], [0.0, 2.0]]), [1.0, 4.0])
    >>> p(np.zeros(2))
    (4.25, array([-0.5, -4. ]))
    >>> p.batch(np.zeros(2), [0])
    (0.5, array([-1.,  0.]))
    >>> ao.minimize(p, np.zeros(2), jac=True, method=ao.AdaGrad(lr=1.0)).x.round(3)
    array([1., 2.])
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        b: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        loss = Loss(losses.squared, losses.squared_slope, (0.5,))
        super().__init__(A, read_column("b", b, A), loss, intercept, sample_weight)


class Huber(Problem):
    r"""Robust regression: quadratic for small residuals, linear for large ones.

    .. math:: \ell(z, b) = \begin{cases} \tfrac12 r^2 & |r| \le \delta \\
        \delta (|r| - \tfrac12 \delta) & \text{otherwise} \end{cases}, \qquad r = z - b.

    Parameters
    ----------
    A, b
        As for `LeastSquares`.
    delta : float, default 1.0
        Greater than 0, in the units of ``b``: rows with larger residuals count as outliers.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is the residual clipped to :math:`[-\delta, \delta]`.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics
    35(1), 1964, pp. 73-101.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Huber(np.array([[1.0], [1.0]]), [0.5, -9.0])
    >>> p(np.zeros(1))
    (4.3125, array([0.25]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        b: ArrayLike,
        delta: float = 1.0,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        delta = _read_number("delta", delta, "0 < delta < inf", lambda d: 0 < d < math.inf)
        A = read_matrix(A, copy)
        loss = Loss(losses.huber, losses.huber_slope, (0.5, delta))
        super().__init__(A, read_column("b", b, A), loss, intercept, sample_weight)
        self.delta = delta


class Poisson(Problem):
    r"""Poisson regression of counts, with the logarithm as link: :math:`\ell(z, y) = e^z - y z`.

    Parameters
    ----------
    A
        As for `LeastSquares`.
    y : array_like
        A count for each row: a finite number >= 0, not necessarily an integer. For a rate, give the
        count divided by the exposure, and the exposure as ``sample_weight``.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    A row predicts the mean :math:`e^z`. The loss is minus the log-likelihood without
    :math:`\log y!`, and its slope is :math:`e^z - y`. It is half the deviance but for a constant.
    The slope grows without bound, so a step that goes too far can overflow: beyond :math:`z = 88`
    in float32, and 709 in float64. A run that meets this ends with status 3. Scale the columns of
    ``A``, or let the learning rate be searched for, as `adaptopt.minimize` does by default.

    References
    ----------
    P. McCullagh and J. A. Nelder, "Generalized Linear Models", 2nd edition, Chapman & Hall, 1989,
    section 6.2.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Poisson(np.array([[1.0], [1.0]]), [1, 3])
    >>> p(np.zeros(1))
    (1.0, array([-1.]))
    >>> ao.minimize(p, np.zeros(1)).x.round(4)  # the logarithm of the mean
    array([0.6931])
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        counts = read_column("y", y, A)
        if (counts < 0).any():
            where = int(np.argmax(counts < 0))
            raise ValueError(f"y[{where}] is {counts[where]}, expected a count of at least 0")
        loss = Loss(losses.poisson, losses.poisson_slope, ())
        super().__init__(A, counts, loss, intercept, sample_weight)


class Quantile(Problem):
    r"""Quantile regression, by the pinball loss.

    .. math:: \ell(z, b) = \begin{cases} q \, (b - z) & z < b \\
        (1 - q) \, (z - b) & \text{otherwise} \end{cases}

    Parameters
    ----------
    A, b
        As for `LeastSquares`.
    quantile : float, default 0.5
        The share :math:`q` of the targets that is to lie below the predictions, 0 < q < 1. 0.5 is
        the median: half of the absolute error.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-q` below the target, :math:`1 - q` above it, and 0 at it. The
    gradient is a subgradient at the kinks, and does not vanish near the minimum: use a schedule
    that lets the learning rate fall, such as `schedules.exponential`.

    References
    ----------
    R. Koenker and G. Bassett, "Regression quantiles", Econometrica 46(1), 1978, pp. 33-50.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Quantile(np.ones((2, 1)), [1.0, -3.0], quantile=0.75)
    >>> p(np.zeros(1))
    (0.75, array([-0.25]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        b: ArrayLike,
        quantile: float = 0.5,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        quantile = _read_number("quantile", quantile, "0 < quantile < 1", lambda q: 0 < q < 1)
        A = read_matrix(A, copy)
        loss = Loss(losses.pinball, losses.pinball_slope, (0.0, quantile, 1.0 - quantile))
        super().__init__(A, read_column("b", b, A), loss, intercept, sample_weight)
        self.quantile = quantile


class EpsilonInsensitive(Problem):
    r"""The loss of support vector regression: :math:`\ell(z, b) = \max(0, |z - b| - \epsilon)`.

    Parameters
    ----------
    A, b
        As for `LeastSquares`.
    epsilon : float, default 0.1
        At least 0 and finite, in the units of ``b``: smaller residuals cost nothing. 0 is the
        absolute error.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is the sign of the residual, or 0 if its size is at most
    :math:`\epsilon`. As for `Quantile`, the gradient does not vanish near the minimum.

    References
    ----------
    A. J. Smola and B. Scholkopf, "A tutorial on support vector regression", Statistics and
    Computing 14(3), 2004, pp. 199-222, eq. 4.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.EpsilonInsensitive(np.ones((2, 1)), [0.0625, -3.0], epsilon=0.5)
    >>> p(np.zeros(1))
    (1.25, array([0.5]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        b: ArrayLike,
        epsilon: float = 0.1,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        epsilon = _read_number(
            "epsilon", epsilon, "0 <= epsilon < inf", lambda e: 0 <= e < math.inf
        )
        A = read_matrix(A, copy)
        slope = losses.epsilon_insensitive_slope
        loss = Loss(losses.epsilon_insensitive, slope, (0.0, 1.0, epsilon))
        super().__init__(A, read_column("b", b, A), loss, intercept, sample_weight)
        self.epsilon = epsilon


def _read_number(
    name: str, value: object, expected: str, is_valid: Callable[[float], bool]
) -> float:
    """Return a parameter of a loss, if it is a number of the range."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not is_valid(float(value)):
        raise ValueError(f"{name} is {value!r}, expected {expected}")
    return float(value)
