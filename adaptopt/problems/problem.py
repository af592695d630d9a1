"""A mean loss over data: its value, its gradient, and batches of its rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from numbers import Real
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, DType, Matrix, read_array
from ..kernels.matrix import Loss, Rows
from . import losses
from .reading import read_column, read_labels, read_matrix, read_weights

Weights: TypeAlias = ArrayLike | None
# A pass over rows: of a point and numbers of rows, the loss, gradient, and place of a wrong number.
_Run: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray, int]]


class Problem:
    """A mean loss over the rows of a matrix.

    Parameters
    ----------
    A : ndarray or CSR
        Matrix of the rows.
    targets : ndarray
        One entry per row, of the dtype of ``A``.
    loss : Loss
        The loss of a row, as a function of its prediction and target.
    intercept : bool
        Whether the last entry of ``x`` is added to all predictions.
    sample_weight : array_like, optional
        Weights of the rows.

    Attributes
    ----------
    A : ndarray or CSR
        The given matrix.
    targets, weights : ndarray
        One entry per row, of the dtype of ``A``. The weights are the given ones divided by their
        mean, or ones if none are given.
    loss : Loss
        The scalar functions ``value(z, y, *params)`` and ``slope(z, y, *params)``, and ``params``.
    intercept : bool
        Whether the last entry of ``x`` is added to all predictions.
    n_features : int
        Length of ``x``: the number of columns of ``A``, plus one for an intercept.
    """

    def __init__(
        self, A: Matrix, targets: np.ndarray, loss: Loss, intercept: bool, sample_weight: Weights
    ) -> None:
        self.A = A
        self.targets = targets
        self.loss = loss
        if not isinstance(intercept, bool | np.bool_) and intercept not in (0, 1):
            raise TypeError(f"intercept is {intercept!r}, expected True or False")
        self.intercept = bool(intercept)
        self.n_features = int(A.shape[1]) + self.intercept
        self.weights = read_weights(sample_weight, A)

    def __call__(self, x: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient, which has the dtype of ``x``."""
        x, dtype = self._read_x(x)
        value, gradient = self._rows.value_and_gradient(x)
        return value, gradient.astype(dtype, copy=False)

    def value(self, x: ArrayLike) -> float:
        """Return the mean loss."""
        return self._rows.value(self._read_x(x)[0])

    def batch(self, x: ArrayLike, idx: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean of ``w * loss`` over some rows, and its gradient.

        ``w`` is the weight of a row, divided by the mean weight of all rows. So the expected value
        is ``p(x)`` for random batches of any size. Time and memory depend only on these rows and
        the size of ``x``.

        Parameters
        ----------
        x : ndarray
            A point.
        idx : array_like of int
            Row numbers, counted from 0. A row that occurs twice counts twice.
        """
        return self._batch(x, idx, self._rows.batch)

    def shared_batch(self, x: ArrayLike, idx: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the result of `batch`, computed by several threads if there are many rows.

        The rows are then summed in blocks. The result has the same bits for any number of threads,
        and differs from that of `batch` only by rounding.
        """
        return self._batch(x, idx, self._rows.shared_batch)

    def shares(self, rows: int) -> bool:
        """Return whether `shared_batch` sums this number of rows in blocks."""
        return self._rows.block_count(rows) > 1

    def _batch(self, x: ArrayLike, idx: ArrayLike, run: _Run) -> tuple[float, np.ndarray]:
        x, dtype = self._read_x(x)
        idx = read_array("idx", idx)
        if idx.ndim != 1 or idx.size == 0:
            raise ValueError(f"idx has shape {idx.shape}, expected (k,) with k > 0")
        if idx.dtype.kind not in "iu":
            hint = "; use numpy.flatnonzero(mask)" if idx.dtype.kind == "b" else ""
            raise TypeError(f"idx has dtype {idx.dtype}, expected integers{hint}")
        value, gradient, wrong = run(x, np.ascontiguousarray(idx, np.intp))
        if wrong >= 0:
            raise ValueError(f"idx[{wrong}] is {idx[wrong]}, expected 0 <= row < {len(self)}")
        return value, gradient.astype(dtype, copy=False)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse assignments, which would have no effect on the kernels."""
        given = name in vars(self) or name in ("b", "y", "sample_weight")
        if given and type(self).__module__ == __name__:
            kind = type(self).__name__
            raise AttributeError(f"{kind}.{name} cannot be assigned to, expected a new {kind}(...)")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.targets.size

    def __repr__(self) -> str:
        rows, columns = self.A.shape
        kind = "dense" if isinstance(self.A, np.ndarray) else "CSR"
        intercept = ", intercept=True" if self.intercept else ""
        name = type(self).__name__
        return f"<{name}: {rows} x {columns} {kind} {self.A.dtype}{intercept}>"

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.loss, self.A, self.targets, self.weights, self.n_features)

    def _read_x(self, x: ArrayLike) -> tuple[np.ndarray, DType]:
        """Return ``x`` in the form that the kernels take, and its original dtype."""
        if type(x) is not np.ndarray or not x.dtype.isnative:
            x = read_array("x", x)
        if x.dtype.name not in ("float32", "float64"):
            raise TypeError(
                f"x has dtype {x.dtype}, expected float32 or float64: use numpy.asarray(x, float)"
            )
        self.check_shape("x", x)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(x, self.A.dtype), x.dtype

    def check_shape(self, name: str, x: Array) -> None:
        """Raise an error if a point has another shape."""
        if x.shape != (self.n_features,):
            more = " (one entry for each column, and the intercept)" if self.intercept else ""
            raise ValueError(f"{name} has shape {x.shape}, expected ({self.n_features},){more}")


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


class Logistic(Problem):
    r"""Logistic regression: :math:`\ell(z, y) = \log(1 + \exp(-y z))`.

    Parameters
    ----------
    A
        As for `LeastSquares`.
    y : array_like
        A label -1 or +1 for each row.
    intercept, sample_weight
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y / (1 + \exp(y z))`. Both are computed from
    :math:`\exp(-|y z|)`, which does not overflow.

    If a hyperplane separates the two labels there is no minimum: ``x`` grows without bound.

    References
    ----------
    D. R. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical
    Society B 20(2), 1958, pp. 215-242.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Logistic(np.array([[1.0], [2.0]]), [-1, 1])
    >>> value, gradient = p(np.zeros(1))
    >>> print(round(value, 6), gradient)
    0.693147 [-0.25]
    """

    def __init__(
        self, A: Matrix, y: ArrayLike, *, intercept: bool = False, sample_weight: Weights = None
    ) -> None:
        A = read_matrix(A)
        loss = Loss(losses.logistic, losses.logistic_slope, (0.0, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


class Hinge(Problem):
    r"""The loss of support vector machines: :math:`\ell(z, y) = \max(0, 1 - y z)`.

    Parameters
    ----------
    A, y, intercept, sample_weight
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y` if :math:`y z < 1`, else 0. So the gradient is a subgradient
    at the kinks, and does not vanish near the minimum.

    References
    ----------
    C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20(3), 1995, pp. 273-297.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Hinge(np.array([[1.0], [2.0]]), [-1, 1])
    >>> p(np.array([0.25]))
    (0.875, array([-0.5]))
    """

    def __init__(
        self, A: Matrix, y: ArrayLike, *, intercept: bool = False, sample_weight: Weights = None
    ) -> None:
        A = read_matrix(A)
        loss = Loss(losses.hinge, losses.hinge_slope, (0.0, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


class SquaredHinge(Problem):
    r"""A smooth hinge loss: :math:`\ell(z, y) = \tfrac12 \max(0, 1 - y z)^2`.

    Parameters
    ----------
    A, y, intercept, sample_weight
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y \max(0, 1 - y z)`. The squared hinge of Liblinear and
    scikit-learn is twice this loss: it lacks the factor :math:`\tfrac12`.

    References
    ----------
    K.-W. Chang, C.-J. Hsieh and C.-J. Lin, "Coordinate descent method for large-scale L2-loss
    linear support vector machines", Journal of Machine Learning Research 9, 2008, pp. 1369-1398.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.SquaredHinge(np.array([[1.0], [2.0]]), [-1, 1])
    >>> p(np.zeros(1))
    (0.5, array([-0.5]))
    """

    def __init__(
        self, A: Matrix, y: ArrayLike, *, intercept: bool = False, sample_weight: Weights = None
    ) -> None:
        A = read_matrix(A)
        loss = Loss(losses.squared_hinge, losses.squared_hinge_slope, (0.0, 0.5, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


def is_convex(fun: object) -> bool:
    """Return whether a function is one of these problems, which are convex."""
    return type(fun).__module__ == __name__ and isinstance(fun, Problem)
