"""A mean loss over data: its value, its gradient, and batches of its rows."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, DType, Matrix, read_array
from ..kernels.loss import Loss
from ..kernels.matrix import Rows
from .reading import read_column, read_weights

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
    is_weighted : bool
        Whether a ``sample_weight`` other than ones was given.
    targets, weights : ndarray
        One entry per row, of the dtype of ``A``. The weights are the given ones divided by their
        mean, or ones if none are given.
    loss : Loss
        The scalar functions ``value(z, y, *params)`` and ``slope(z, y, *params)``, and ``params``.
    intercept : bool
        Whether the last entry of ``x`` is added to all predictions.
    n_features : int
        Length of ``x``, or of its first axis: the number of columns of ``A``, plus one for an
        intercept.
    convex : bool
        Whether the loss is known to be convex. A certificate of the minimum depends on it.
    """

    convex = False

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
        # Divided by their mean, weights that are all alike are ones again.
        given = 1.0 if sample_weight is None else np.asarray(sample_weight)
        self.is_weighted = bool(np.any(given != 1.0))

    def __call__(self, x: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient, which has the dtype of ``x``."""
        x, dtype = self._read_x(x)
        value, gradient = self._rows.value_and_gradient(x.reshape(-1))
        return value, gradient.reshape(x.shape).astype(dtype, copy=False)

    def value(self, x: ArrayLike) -> float:
        """Return the mean loss."""
        return self._rows.value(self._read_x(x)[0].reshape(-1))

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
        value, gradient, wrong = run(x.reshape(-1), np.ascontiguousarray(idx, np.intp))
        if wrong >= 0:
            raise ValueError(f"idx[{wrong}] is {idx[wrong]}, expected 0 <= row < {len(self)}")
        return value, gradient.reshape(x.shape).astype(dtype, copy=False)

    def with_weights(self, weights: ArrayLike) -> Problem:
        """Return the same problem with weights that are not divided by their mean.

        For rows that are a part of more data: over all parts, weights then mean the same.

        Parameters
        ----------
        weights : array_like
            A finite number >= 0 for each row.
        """
        column = read_column("weights", weights, self.A)
        if (column < 0).any():
            where = int(np.argmax(column < 0))
            raise ValueError(f"weights[{where}] is {column[where]}, expected at least 0")
        other = copy(self)
        vars(other)["weights"] = column
        return other

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse assignments, which would have no effect on the kernels."""
        given = name in vars(self) or name in ("b", "y", "sample_weight")
        if given and _is_own(self):
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

    def __sizeof__(self) -> int:
        """Return the bytes of the data, which `sys.getsizeof` and Dask ask for."""
        A = self.A
        parts = (A,) if isinstance(A, np.ndarray) else (A.data, A.indices, A.indptr)
        return object.__sizeof__(self) + sum(
            int(array.nbytes) for array in (*parts, self.targets, self.weights)
        )

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    @cached_property
    def _rows(self) -> Rows:
        n = self.n_features * max(1, self.loss.classes)
        return Rows(self.loss, self.A, self.targets, self.weights, n)

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

    @property
    def is_sparse(self) -> bool:
        """Whether the matrix is sparse."""
        return not isinstance(self.A, np.ndarray)

    @property
    def entries_per_row(self) -> float:
        """The mean number of entries that a row has in memory."""
        entries = self.A.nnz if self.is_sparse else self.A.size
        return float(entries) / len(self)

    def check_shape(self, name: str, x: Array) -> None:
        """Raise an error if a point has another shape."""
        if x.shape != (self.n_features,):
            more = " (one entry for each column, and the intercept)" if self.intercept else ""
            raise ValueError(f"{name} has shape {x.shape}, expected ({self.n_features},){more}")


def is_convex(fun: object) -> bool:
    """Return whether a function is a problem of this room that is known to be convex."""
    return isinstance(fun, Problem) and _is_own(fun) and fun.convex


def _is_own(problem: Problem) -> bool:
    """Return whether a problem's class is one of ours: a class derived from it may do anything."""
    return type(problem).__module__.rpartition(".")[0] == __package__
