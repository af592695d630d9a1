"""A mean loss over data: its value, its gradient, and batches of its rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from ..arrays import UNMASKED, check_csr, read_array, read_real
from ..kernels.matrix import Loss, Rows
from . import losses


class Problem:
    """A mean loss over the rows of a matrix; see the losses for what they have in common.

    Parameters
    ----------
    A : ndarray or CSR
        Matrix of the rows.
    targets : ndarray
        One entry a row, of the dtype of ``A``.
    loss : Loss
        What a row costs, by its prediction and target.
    intercept : bool
        Whether the last entry of ``x`` is added to all predictions.
    sample_weight : array_like, optional
        Weights of the rows.

    Attributes
    ----------
    A : ndarray or CSR
        The matrix given.
    targets, weights : ndarray
        One entry a row, of the dtype of ``A``. The weights are those given, divided by their mean;
        without any they are ones.
    loss : Loss
        The scalar functions ``value(z, y, *params)`` and ``slope(z, y, *params)``, and ``params``.
    intercept : bool
        Whether the last entry of ``x`` is added to all predictions.
    n_features : int
        Length of ``x``: the columns of ``A``, and one more with an intercept.
    """

    def __init__(
        self, A: Any, targets: np.ndarray, loss: Loss, intercept: bool, sample_weight: Any
    ) -> None:
        self.A = A
        self.targets = targets
        self.loss = loss
        if not isinstance(intercept, bool | np.bool_) and intercept not in (0, 1):
            raise TypeError(f"intercept is {intercept!r}, expected True or False")
        self.intercept = bool(intercept)
        self.n_features = int(A.shape[1]) + self.intercept
        self.weights = _read_weights(sample_weight, A)

    def __call__(self, x: Any) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient, of the dtype of ``x``."""
        x, dtype = self._read_x(x)
        value, gradient = self._rows.value_and_gradient(x)
        return value, gradient.astype(dtype, copy=False)

    def value(self, x: Any) -> float:
        """Return the mean loss."""
        return self._rows.value(self._read_x(x)[0])

    def batch(self, x: Any, idx: Any) -> tuple[float, np.ndarray]:
        """Return the mean of ``w * loss`` over some rows, and its gradient.

        ``w`` is a row's weight, divided by the mean weight of all rows. So the mean over random
        batches is ``p(x)``, whatever their size. Time and memory are those of these rows and of
        one array like ``x``.

        Parameters
        ----------
        x : ndarray
            A point.
        idx : array_like of int
            Numbers of rows, from 0 on; a row that is named twice counts twice.
        """
        return self._batch(x, idx, self._rows.batch)

    def shared_batch(self, x: Any, idx: Any) -> tuple[float, np.ndarray]:
        """Return what `batch` returns, with the rows shared among threads where they are many.

        They are summed in blocks then: the result is the same to the last bit for any number of
        threads, and that of `batch` but for rounding.
        """
        return self._batch(x, idx, self._rows.shared_batch)

    def shares(self, rows: int) -> bool:
        """Tell whether `shared_batch` sums so many rows in blocks."""
        return self._rows.block_count(rows) > 1

    def _batch(self, x: Any, idx: Any, run: Callable[..., Any]) -> tuple[float, np.ndarray]:
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would have no effect: kernels have what they were made with."""
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.loss, self.A, self.targets, self.weights, self.n_features)

    def _read_x(self, x: Any) -> tuple[np.ndarray, np.dtype[Any]]:
        """Return ``x`` as the kernels take it, and its dtype."""
        if type(x) is not np.ndarray or not x.dtype.isnative:
            x = read_array("x", x)
        if x.dtype.name not in ("float32", "float64"):
            raise TypeError(
                f"x has dtype {x.dtype}, expected float32 or float64: use numpy.asarray(x, float)"
            )
        self.check_shape("x", x)
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(x, self.A.dtype), x.dtype

    def check_shape(self, name: str, x: Any) -> None:
        """Refuse a point of another shape."""
        if x.shape != (self.n_features,):
            more = " (one entry for each column, and the intercept)" if self.intercept else ""
            raise ValueError(f"{name} has shape {x.shape}, expected ({self.n_features},){more}")


class LeastSquares(Problem):
    r"""Least squares: :math:`\ell(z, b) = \tfrac12 (z - b)^2`.

    Parameters
    ----------
    A : ndarray or scipy.sparse CSR array or matrix
        Rows of numbers: C-contiguous, float32 or float64, finite. Indices of CSR are int32 or
        int64; they need not be sorted, and entries at the same place count as their sum. It is
        kept, not copied; do not change it.
    b : array_like
        A finite number for each row. A copy is kept, of the dtype of ``A``.
    intercept : bool, default False
        Add the last entry of ``x`` to every prediction: ``x`` then has ``A.shape[1] + 1`` entries.
    sample_weight : array_like, optional
        A finite weight at least 0 for each row, not all 0. The mean is weighted by them; only their
        proportions matter. A batch of k rows is divided by k times the mean weight of all rows, so
        that a run over batches comes to the minimum of the weighted mean.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as said above.

    Notes
    -----
    ``p(x)`` returns the mean loss, a float, and its gradient

    .. math:: \nabla p(x) = \frac{\sum_i w_i (a_i^T x - b_i) a_i}{\sum_i w_i}.

    ``x`` may be of another dtype than ``A``: it is converted to that, and the gradient back.

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
        self, A: Any, b: Any, *, intercept: bool = False, sample_weight: Any = None
    ) -> None:
        A = _read_matrix(A)
        loss = Loss(losses.squared, losses.squared_slope, (0.5,))
        super().__init__(A, _read_column("b", b, A), loss, intercept, sample_weight)


class Huber(Problem):
    r"""Robust regression: squares near zero, absolute values far from it.

    .. math:: \ell(z, b) = \begin{cases} \tfrac12 r^2 & |r| \le \delta \\
        \delta (|r| - \tfrac12 \delta) & \text{otherwise} \end{cases}, \qquad r = z - b.

    Parameters
    ----------
    A, b
        As for `LeastSquares`.
    delta : float, default 1.0
        Greater than 0, in the units of ``b``: the residual from which rows count as outliers.
    intercept, sample_weight
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as said above.

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
        A: Any,
        b: Any,
        delta: float = 1.0,
        *,
        intercept: bool = False,
        sample_weight: Any = None,
    ) -> None:
        if not isinstance(delta, Real):
            raise TypeError(f"delta is {delta!r}, expected a number")
        if not 0 < delta < math.inf:
            raise ValueError(f"delta is {delta!r}, expected 0 < delta < inf")
        A = _read_matrix(A)
        loss = Loss(losses.huber, losses.huber_slope, (0.5, float(delta)))
        super().__init__(A, _read_column("b", b, A), loss, intercept, sample_weight)
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
        Where an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y / (1 + \exp(y z))`. Both are computed from
    :math:`\exp(-|y z|)`, which does not overflow.

    Of two labels that a hyperplane separates there is no best ``x``: it grows without end.

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
        self, A: Any, y: Any, *, intercept: bool = False, sample_weight: Any = None
    ) -> None:
        A = _read_matrix(A)
        loss = Loss(losses.logistic, losses.logistic_slope, (0.0, 1.0))
        super().__init__(A, _read_labels(y, A), loss, intercept, sample_weight)


class Hinge(Problem):
    r"""The loss of support vector machines: :math:`\ell(z, y) = \max(0, 1 - y z)`.

    Parameters
    ----------
    A, y, intercept, sample_weight
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y` where :math:`y z < 1`, else 0. So the gradient is a
    subgradient in the kinks, and it does not go to zero near the minimum.

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
        self, A: Any, y: Any, *, intercept: bool = False, sample_weight: Any = None
    ) -> None:
        A = _read_matrix(A)
        loss = Loss(losses.hinge, losses.hinge_slope, (0.0, 1.0))
        super().__init__(A, _read_labels(y, A), loss, intercept, sample_weight)


class SquaredHinge(Problem):
    r"""A smooth hinge loss: :math:`\ell(z, y) = \tfrac12 \max(0, 1 - y z)^2`.

    Parameters
    ----------
    A, y, intercept, sample_weight
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        Where an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y \max(0, 1 - y z)`. Liblinear's and scikit-learn's squared
    hinge is twice this: it lacks the factor :math:`\tfrac12`.

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
        self, A: Any, y: Any, *, intercept: bool = False, sample_weight: Any = None
    ) -> None:
        A = _read_matrix(A)
        loss = Loss(losses.squared_hinge, losses.squared_hinge_slope, (0.0, 0.5, 1.0))
        super().__init__(A, _read_labels(y, A), loss, intercept, sample_weight)


# -- what the arguments must be --------------------------------------------------------------------


def _read_matrix(A: Any) -> Any:
    """Return the matrix as it is, or say why the kernels cannot take it."""
    # Whoever holds a sparse matrix has imported scipy.sparse, which takes 0.15 s.
    sparse = sys.modules.get("scipy.sparse")
    is_sparse = sparse is not None and sparse.issparse(A)
    if is_sparse and A.format != "csr":
        raise TypeError(f"A is a sparse matrix of format {A.format!r}, expected CSR: use A.tocsr()")
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(f"A is a MaskedArray, {UNMASKED}")
    if not is_sparse and not isinstance(A, np.ndarray):
        raise TypeError(
            f"A is a {type(A).__name__}, expected a NumPy array or a SciPy CSR array: "
            "use numpy.ascontiguousarray(A, numpy.float64)"
        )
    if A.dtype.name not in ("float32", "float64") or not A.dtype.isnative:
        use = ": use A.astype(numpy.float64)" * (A.dtype.kind in "biuf")
        raise TypeError(f"A has dtype {A.dtype}, expected float32 or float64{use}")
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"A has shape {A.shape}, expected (rows, columns), neither of them 0")
    if is_sparse:
        _check_csr(A)
        entries = A.data
    else:
        if not (A.flags.c_contiguous and A.flags.aligned):
            raise ValueError(
                f"A is not C-contiguous (strides {A.strides}), expected a C-contiguous array: "
                "use numpy.ascontiguousarray(A)"
            )
        entries = A = np.asarray(A)
    # No numpy.isfinite, which takes a fourth of the memory of A: a NaN is least and greatest.
    with np.errstate(invalid="ignore"):
        extremes = (entries.min(initial=0), entries.max(initial=0))
    for extreme in extremes:
        if not math.isfinite(extreme):
            raise ValueError(f"A holds {extreme}, expected finite numbers")
    return A


def is_convex(fun: Any) -> bool:
    """Tell whether a function is one of these problems, which are convex; of others none knows."""
    return type(fun).__module__ == __name__ and isinstance(fun, Problem)


def _check_csr(A: Any) -> None:
    """Refuse what would have a kernel read beside the arrays."""
    indices, indptr = A.indices, A.indptr
    if indices.dtype != indptr.dtype or indices.dtype.name not in ("int32", "int64"):
        raise TypeError(
            f"A has indices of dtype {indices.dtype} and indptr of {indptr.dtype}, expected "
            "int32 or int64, the same for both"
        )
    for name, array in (("data", A.data), ("indices", indices), ("indptr", indptr)):
        if array.ndim != 1 or not (array.flags.c_contiguous and array.flags.aligned):
            raise ValueError(
                f"A.{name} has shape {array.shape} and strides {array.strides}, expected a "
                "contiguous array of one dimension: use A.copy()"
            )
    if indices.size != A.data.size:
        raise ValueError(
            f"A has {A.data.size} entries and {indices.size} indices, expected as many"
        )
    check_csr("A", A)
    if indptr[-1] != indices.size:
        raise ValueError(
            f"A has {indices.size} entries, expected {indptr[-1]} like A.indptr[-1]: use A.prune()"
        )


def _read_column(name: str, values: Any, A: Any, dtype: Any = None) -> np.ndarray:
    """Return a finite number for each row of ``A``, of its dtype or another, as a copy."""
    given = read_real(name, values)
    if given.shape != (A.shape[0],):
        ravel = f", use numpy.ravel({name})" if given.size == A.shape[0] > 1 else ""
        raise ValueError(
            f"{name} has shape {given.shape}, expected ({A.shape[0]},): one for each row of A"
            + ravel
        )
    with np.errstate(over="ignore"):
        column = np.array(given, dtype or A.dtype, order="C")
    if not np.isfinite(column).all():
        where = int(np.argmin(np.isfinite(column)))
        raise ValueError(f"{name}[{where}] is {given[where]}, expected a finite {column.dtype}")
    return column


def _read_labels(y: Any, A: Any) -> np.ndarray:
    """Return the labels, -1 and +1 only."""
    given = read_array("y", y)
    if given.dtype.kind in "OSTU" and any(isinstance(label, str) for label in given.flat):
        raise TypeError(
            f"y has dtype {given.dtype}, expected real numbers -1 and +1: use "
            "numpy.where(y == label, 1, -1) with the label that is to be +1"
        )
    labels = _read_column("y", y, A)
    if not np.isin(labels, (-1, 1)).all():
        found = np.unique(given)
        shown = ", ".join(str(value) for value in found[:4]) + ", ..." * (found.size > 4)
        hint = ""
        if set(found.tolist()) <= {0, 1} and given.dtype.kind != "u":
            hint = ": use 2 * y - 1"
        elif found.size == 2:
            hint = f": use numpy.where(y == {found[1]}, 1, -1)"
        raise ValueError(f"y holds {shown}, expected -1 and +1 only{hint}")
    return labels


def _read_weights(sample_weight: Any, A: Any) -> np.ndarray:
    """Return the weights of the rows, divided by their mean; ones where there are none."""
    if sample_weight is None:
        return np.ones(A.shape[0], A.dtype)
    weights = _read_column("sample_weight", sample_weight, A, np.float64)
    if (weights < 0).any():
        where = int(np.argmax(weights < 0))
        raise ValueError(f"sample_weight[{where}] is {weights[where]}, expected at least 0")
    if not weights.any():
        raise ValueError("sample_weight is 0 for all rows, expected a positive weight")
    # A sum of weights near the largest float would overflow. A power of two rounds nothing.
    weights = np.ldexp(weights, -np.frexp(weights.max())[1])
    return np.asarray(weights / weights.mean(), A.dtype)
