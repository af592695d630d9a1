"""Problems of regression: the targets are real numbers."""

from __future__ import annotations

import math
from numbers import Real

from numpy.typing import ArrayLike

from ..arrays import Matrix
from ..kernels.matrix import Loss
from . import losses
from .problem import Problem, Weights
from .reading import read_column, read_matrix


class LeastSquares(Problem):
    r"""Least squares: :math:`\ell(z, b) = \tfrac12 (z - b)^2`.

    Parameters
    ----------
    A : ndarray or scipy.sparse CSR array or matrix
        The rows: finite numbers, C-contiguous, float32 or float64. Indices of CSR are int32 or
        int64. They need not be sorted, and repeated entries are summed. The matrix is kept, not
        copied, so do not change it.
    b : array_like
        A finite number for each row. A copy of the dtype of ``A`` is kept.
    intercept : bool, default False
        Add the last entry of ``x`` to each prediction. ``x`` then has ``A.shape[1] + 1`` entries.
    sample_weight : array_like, optional
        Weights for the mean: a finite number >= 0 for each row, not all 0. Only their proportions
        matter. The weighted sum over a batch of k rows is divided by k times the mean weight of all
        rows, so that a run over batches reaches the minimum of the weighted mean.

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
        self, A: Matrix, b: ArrayLike, *, intercept: bool = False, sample_weight: Weights = None
    ) -> None:
        A = read_matrix(A)
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
    intercept, sample_weight
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
    ) -> None:
        if not isinstance(delta, Real):
            raise TypeError(f"delta is {delta!r}, expected a number")
        if not 0 < delta < math.inf:
            raise ValueError(f"delta is {delta!r}, expected 0 < delta < inf")
        A = read_matrix(A)
        loss = Loss(losses.huber, losses.huber_slope, (0.5, float(delta)))
        super().__init__(A, read_column("b", b, A), loss, intercept, sample_weight)
        self.delta = float(delta)
