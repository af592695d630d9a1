"""Read what a problem is made of: the matrix, targets, labels and weights of its rows."""

from __future__ import annotations

import math
import sys

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..arrays import UNMASKED, Matrix, check_csr, read_array, read_real


def read_matrix(A: Matrix, copy: bool | None = None) -> Matrix:
    """Return a matrix that the kernels can use, or raise an error.

    A dense matrix is returned as it is. A sparse one is brought to its canonical form: CSR, with
    sorted columns, each once in its row, without explicit zeros, and with int32 indices if they
    suffice. If it has this form, it is returned on the same arrays; otherwise a copy.

    Parameters
    ----------
    A : ndarray or sparse matrix
        The matrix.
    copy : bool, optional
        True: always copy. False: never; a CSR matrix takes the canonical form in place.
    """
    if copy not in (None, True, False):
        raise TypeError(f"copy is {copy!r}, expected None, True or False")
    # A sparse matrix exists only if scipy.sparse, whose import takes 0.15 s, is imported already.
    sparse = sys.modules.get("scipy.sparse")
    is_sparse = sparse is not None and sparse.issparse(A)
    if isinstance(A, np.ma.MaskedArray):
        raise TypeError(f"A is a MaskedArray, {UNMASKED}")
    if not is_sparse and not isinstance(A, np.ndarray):
        raise TypeError(
            f"A is a {type(A).__name__}, expected a NumPy array or a SciPy sparse array: "
            "use numpy.ascontiguousarray(A, numpy.float64)"
        )
    counts = is_sparse and A.dtype.kind in "biu"
    if not counts and (A.dtype.name not in ("float32", "float64") or not A.dtype.isnative):
        use = ": use A.astype(numpy.float64)" * (A.dtype.kind in "biuf")
        raise TypeError(f"A has dtype {A.dtype}, expected float32 or float64{use}")
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"A has shape {A.shape}, expected (rows, columns), neither of them 0")
    if is_sparse:
        A = canonical(A, copy)
        entries = A.data
    else:
        if not A.flags.aligned:
            raise ValueError(
                f"A is not aligned (its address is no multiple of {A.dtype.alignment}), expected "
                'an aligned array: use numpy.require(A, requirements=["C", "ALIGNED"])'
            )
        if not A.flags.c_contiguous:
            raise ValueError(
                f"A is not C-contiguous (strides {A.strides}), expected a C-contiguous array: "
                "use numpy.ascontiguousarray(A)"
            )
        entries = A = np.array(A, copy=bool(copy) or None)
    # numpy.isfinite would take a fourth of the memory of A. The minimum and maximum show any NaN.
    with np.errstate(invalid="ignore"):
        extremes = (entries.min(initial=0), entries.max(initial=0))
    for extreme in extremes:
        if not math.isfinite(extreme):
            raise ValueError(f"A holds {extreme}, expected finite numbers")
    return A


def canonical(A: Matrix, copy: bool | None) -> Matrix:
    """Return a sparse matrix in canonical form; see `read_matrix`."""
    number = A.dtype if A.dtype.kind == "f" else np.dtype(np.float64)
    if copy is False and not (A.format == "csr" and A.dtype == number):
        raise ValueError(
            f"copy is False with a matrix of format {A.format!r} and dtype {A.dtype}, expected CSR "
            "of float32 or float64: others cannot take the canonical form in place"
        )
    is_own = A.format != "csr"
    if is_own:
        _check_places(A)
        A = A.tocsr()
    _check_csr(A)
    fits = max(A.nnz, A.shape[1]) <= np.iinfo(np.int32).max
    arrays = (A.data, A.indices, A.indptr)
    kinds = (number, *(np.dtype(np.int32 if fits else np.int64),) * 2)
    is_ready = all(
        array.dtype == kind and array.flags.c_contiguous and array.flags.aligned
        for array, kind in zip(arrays, kinds, strict=True)
    )
    # SciPy keeps what it once found of an object, even if its arrays have changed since: the check
    # is made on a new one.
    new = type(A)(arrays, shape=A.shape, copy=False)
    is_ready = is_ready and new.has_canonical_format and np.count_nonzero(A.data) == A.data.size
    if is_ready and (is_own or not copy):
        return new
    if copy is not False:
        own = [
            np.array(array, kind, copy=not is_own or None)
            for array, kind in zip(arrays, kinds, strict=True)
        ]
        A = type(A)(tuple(own), shape=A.shape, copy=False)
    A.has_canonical_format = A.has_sorted_indices = False
    A.sum_duplicates()
    A.eliminate_zeros()
    A.indices, A.indptr = (array.astype(kinds[1], copy=False) for array in (A.indices, A.indptr))
    return A


def _check_places(A: Matrix) -> None:
    """Raise an error if SciPy would read or write outside the arrays when it makes CSR of them."""
    if A.format in ("csc", "bsr"):
        A.check_format(full_check=True)
    if A.format == "coo":
        for name, places, stop in zip(("row", "col"), A.coords, A.shape, strict=True):
            if places.size and not (places.min() >= 0 and places.max() < stop):
                raise ValueError(
                    f"A.{name} goes from {places.min()} to {places.max()}, expected "
                    f"0 <= {name} < {stop}"
                )


def _check_csr(A: Matrix) -> None:
    """Raise an error if a kernel would read outside the arrays."""
    indices, indptr = A.indices, A.indptr
    for name, array in (("data", A.data), ("indices", indices), ("indptr", indptr)):
        if array.ndim != 1:
            raise ValueError(f"A.{name} has shape {array.shape}, expected one dimension")
    for name, array in (("indices", indices), ("indptr", indptr)):
        if array.dtype.kind not in "iu":
            raise TypeError(f"A.{name} has dtype {array.dtype}, expected integers")
    if indices.size != A.data.size:
        raise ValueError(
            f"A has {A.data.size} entries and {indices.size} indices, expected as many"
        )
    check_csr("A", A)
    if indptr[-1] != indices.size:
        raise ValueError(
            f"A has {indices.size} entries, expected {indptr[-1]} like A.indptr[-1]: use A.prune()"
        )


def read_column(
    name: str, values: ArrayLike, A: Matrix, dtype: DTypeLike | None = None
) -> np.ndarray:
    """Return a copy of a finite number for each row of ``A``, in its dtype or the given one."""
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


def read_labels(y: ArrayLike, A: Matrix) -> np.ndarray:
    """Return the labels, after checking that they are -1 and +1."""
    given = read_array("y", y)
    if given.dtype.kind in "OSTU" and any(isinstance(label, str) for label in given.flat):
        raise TypeError(
            f"y has dtype {given.dtype}, expected real numbers -1 and +1: use "
            "numpy.where(y == label, 1, -1) with the label that is to be +1"
        )
    labels = read_column("y", y, A)
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


def read_weights(sample_weight: ArrayLike | None, A: Matrix) -> np.ndarray:
    """Return the weights of the rows divided by their mean, or ones if there are none."""
    if sample_weight is None:
        return np.ones(A.shape[0], A.dtype)
    weights = read_column("sample_weight", sample_weight, A, np.float64)
    if (weights < 0).any():
        where = int(np.argmax(weights < 0))
        raise ValueError(f"sample_weight[{where}] is {weights[where]}, expected at least 0")
    if not weights.any():
        raise ValueError("sample_weight is 0 for all rows, expected a positive weight")
    # A sum of weights near the largest float would overflow. A power of two rounds nothing.
    weights = np.ldexp(weights, -np.frexp(weights.max())[1])
    return np.asarray(weights / weights.mean(), A.dtype)
