"""Read users' gradients: dense arrays, or rows of a table."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from ..arrays import FORMATS, Array, DType, Stream, check_csr, compute_dtype
from ..kernels.batch_rows import Coalesced, coalesce
from ..placement import HOST, Backend
from .table import RowGradient

LAZY = ("exact", "touched")

# `coalesce` stores a row and its position in the batch in one word.
MOST_ROWS = 2**32

# The gradient of one parameter: flat and dense, of some rows, or None for no step.
Gradient = np.ndarray | RowGradient | None


def is_sparse(gradient: object) -> bool:
    """Return whether a gradient is a pair (rows, grads) or a sparse matrix."""
    if isinstance(gradient, np.ndarray):
        return False
    return isinstance(gradient, tuple) or _is_matrix(gradient)


def _is_matrix(gradient: object) -> bool:
    """Return whether an object is a sparse matrix of SciPy or CuPy, or a sparse torch tensor."""
    if hasattr(gradient, "format") and hasattr(gradient, "tocsr"):
        return True
    marks = ("is_sparse", "is_sparse_csr")
    return any(getattr(gradient, mark, False) is True for mark in marks)


class _Like(NamedTuple):
    dtype: DType
    shape: tuple[int, ...]


def read_row_gradient(
    name: str, given: Array, params: Array, backend: Backend, stream: Stream = None
) -> RowGradient:
    """Return the checked gradient of a pair (rows, grads) or a CSR matrix, with sorted rows."""
    if params.ndim == 0:
        raise ValueError(f"{name} is sparse, expected an array for params without rows")
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"{name} is a tuple of {len(given)}, expected a pair (rows, grads)")
        rows, values = given
    elif backend is not HOST or getattr(given, "format", None) != "csr":
        way = ": of a sparse tensor g, after g = g.coalesce(), g.indices()[0] and g.values()"
        if hasattr(given, "tocsr"):
            way = ", or a CSR matrix: use its tocsr()" if backend is HOST else ""
        raise TypeError(
            f"{name} is a {type(given).__module__.partition('.')[0]} {type(given).__name__}, "
            f"expected a pair (rows, grads) of whole rows for {backend.name}{way}"
        )
    else:
        rows, values = _rows_of_csr(name, given, params)
    places = _read_integers(f"rows of {name}", rows, backend, stream)
    like = _Like(_dtype_like(name, values, params), (places.size, *params.shape[1:]))
    flat = backend.flat_view(name, values, like=like, stream=stream, near=params)
    if backend.overlap(flat, params):
        raise ValueError(
            f"{name} overlaps params, expected an array of its own: entries would be read after "
            "they were updated"
        )
    found = _coalesce(f"rows of {name}", places, params.shape[0])
    return RowGradient(found.rows, found.order, found.starts, flat)


def _dtype_like(name: str, values: Array, params: Array) -> DType:
    """Return the required dtype: that of params, or a 16-bit one, which all params accept."""
    form = str(getattr(values, "dtype", "")).removeprefix("torch.")
    dtype: DType = params.dtype
    if form not in FORMATS[:2] or dtype.itemsize == 2:
        return dtype
    if form == "bfloat16":
        if find_spec("ml_dtypes") is None:
            raise ImportError(f"{name} is of bfloat16, which needs ml_dtypes")
        import_module("ml_dtypes")  # which registers its name with NumPy
    return np.dtype(form)


def read_rows(
    name: str, rows: object, params: Array, backend: Backend, stream: Stream = None
) -> np.ndarray:
    """Return checked, distinct rows of a parameter in order."""
    count = params.shape[0] if params.ndim else 0
    return _coalesce(name, _read_integers(name, rows, backend, stream), count).rows


def _coalesce(name: str, places: np.ndarray, count: int) -> Coalesced:
    if count > MOST_ROWS:
        raise ValueError(f"{name}: params have {count} rows, expected at most {MOST_ROWS}")
    found = coalesce(places, count)
    if isinstance(found, int):
        raise ValueError(
            f"{name}: entry {found} is {places[found]}, expected a row in [0, {count})"
        )
    return found


def _read_integers(name: str, rows: object, backend: Backend, stream: Stream) -> np.ndarray:
    if isinstance(rows, np.ma.MaskedArray):
        raise TypeError(f"{name} are a MaskedArray, expected integers without a mask")
    rows = backend.integers(name, rows, stream)
    array = np.asarray(rows)
    if array.size == 0 and not isinstance(rows, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype not in (np.int32, np.int64):
        raise TypeError(f"{name} have dtype {array.dtype}, expected int32 or int64")
    if array.ndim != 1:
        raise ValueError(f"{name} have shape {array.shape}, expected one dimension")
    return np.ascontiguousarray(array)


def _rows_of_csr(name: str, given: Array, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a CSR matrix that are not empty, and their contents."""
    if isinstance(given.data, np.ma.MaskedArray):
        raise TypeError(f"{name} has masked entries, expected a matrix without a mask")
    if given.shape != params.shape:
        raise ValueError(f"{name} has shape {given.shape}, expected {params.shape} like params")
    if given.ndim != 2:
        raise ValueError(
            f"{name} is a sparse array of shape {given.shape}, expected a CSR matrix of two "
            "dimensions: use its toarray()"
        )
    if given.dtype not in (params.dtype, compute_dtype(params.dtype)):
        raise TypeError(
            f"{name} has dtype {given.dtype}, expected {compute_dtype(params.dtype)} like params"
        )
    check_csr(name, given)
    rows = np.flatnonzero(np.diff(given.indptr)).astype(np.int64)
    return rows, given[rows].toarray()
