"""Checks of arrays, made once, before any kernel gets them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

# An array on the host or on a CUDA device. Numba's device arrays have no types to name.
Array: TypeAlias = Any
# A stream of a CUDA device, of any library or its handle; None on the host.
Stream: TypeAlias = Any
DType: TypeAlias = "np.dtype[Any]"
# A two-dimensional array, or a sparse matrix of SciPy, which has no types to name.
Matrix: TypeAlias = Any
# A function of the user's that takes an array first: a number, an array or a pair is returned.
UserFunction: TypeAlias = Callable[..., Any]

# The dtypes of parameters, by name: bfloat16 is from ml_dtypes, which may not be installed.
FORMATS = ("float16", "bfloat16", "float32", "float64")

# The end of every message about a masked array.
UNMASKED = "expected an array without a mask: use its filled(value), or leave masked entries out"


def compute_dtype(dtype: DType) -> DType:
    """Return the dtype of the arithmetic and of the state: float64 for float64, else float32."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def read_array(name: str, value: ArrayLike) -> np.ndarray:
    """Return a user's array as a NumPy array in native byte order.

    It is copied only if necessary. A torch tensor is detached from its graph.

    Parameters
    ----------
    name : str
        The caller's name for it.
    value : array_like
        Any array except a masked one, because NumPy would use the numbers under the mask.
    """
    parts = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise TypeError(f"{name} is a MaskedArray, {UNMASKED}")
    if hasattr(value, "detach"):
        value = value.detach()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is no array ({error}), expected one whose rows have as many entries each"
        ) from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def read_real(name: str, value: ArrayLike, expected: str = "real numbers") -> np.ndarray:
    """Return a user's array of real numbers, or raise an error that says how to convert it."""
    array = read_array(name, value)
    if array.dtype.kind in "biuf" or array.dtype.name == "bfloat16":
        return array
    if array.dtype != object:
        raise TypeError(f"{name} has dtype {array.dtype}, expected {expected}")
    if hasattr(value, "toarray"):
        raise TypeError(f"{name} is sparse, expected a dense array: use its toarray()")
    if not array.ndim:
        raise TypeError(f"{name} is {value!r:.60}, expected an array of {expected}")
    raise TypeError(
        f"{name} has dtype object, expected {expected}: use numpy.asarray(..., float), once every "
        "entry is a number"
    )


def check_csr(name: str, matrix: Matrix) -> None:
    """Raise an error if a CSR matrix has pointers or columns outside its arrays.

    SciPy accepts such matrices, and reads or writes outside the arrays.
    """
    rows, columns = (1, *matrix.shape)[-2:]
    indices, indptr = matrix.indices, matrix.indptr
    if indptr.size != rows + 1 or indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
        raise ValueError(
            f"{name}.indptr is no row pointer, expected {rows + 1} numbers from 0 on that do not "
            "fall"
        )
    stop = indptr[-1]
    if stop > min(indices.size, matrix.data.size):
        raise ValueError(
            f"{name} has {matrix.data.size} entries and {indices.size} indices, expected at least "
            f"{stop} like {name}.indptr[-1]"
        )
    used = indices[:stop]
    if used.size and not (used.min() >= 0 and used.max() < columns):
        raise ValueError(
            f"{name}.indices goes from {used.min()} to {used.max()}, expected 0 <= column < "
            f"{columns}"
        )


def flat_view(
    name: str, array: Array, like: np.ndarray | None = None, writable: bool = False
) -> np.ndarray:
    """Return a one-dimensional view of an array, or raise an error if kernels cannot use it.

    Parameters
    ----------
    name : str
        The caller's name for the array.
    array : ndarray
        A C-contiguous, aligned array of any shape and of one of the `FORMATS`.
    like : ndarray, optional
        Require the shape of this array, and its dtype or that of its arithmetic.
    writable : bool
        Require a writable array.
    """
    if like is not None and not isinstance(array, np.ndarray) and hasattr(array, "__array__"):
        array = _as_numpy(name, array)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a MaskedArray, {UNMASKED}")
    if not isinstance(array, np.ndarray):
        dtype = "" if like is None else f", {like.dtype.name}"
        raise TypeError(
            f"{name} is a {type(array).__name__}, expected a NumPy array: use "
            f"numpy.asarray(...{dtype})"
        )
    if like is None or array.dtype != like.dtype or array.shape != like.shape:
        check_kind(name, array, like)
    flags = array.flags
    if not flags.c_contiguous:
        raise ValueError(
            f"{name} is not C-contiguous (strides {array.strides}), expected a C-contiguous array: "
            "strided access is 8 times slower; use numpy.ascontiguousarray"
        )
    if not flags.aligned:
        raise ValueError(f"{name} is not aligned to its dtype, expected an aligned array")
    if writable and not flags.writeable:
        raise ValueError(f"{name} is read-only, expected a writable array: it is updated in place")
    return np.asarray(array).reshape(-1)


def check_kind(name: str, array: Array, like: Array = None) -> None:
    """Raise an error if kernels cannot use the dtype or the shape, on the host or a device."""
    if like is None:
        if array.dtype.name not in FORMATS or not array.dtype.isnative:
            raise TypeError(f"{name} has dtype {array.dtype}, expected {_either(FORMATS)}")
    elif array.dtype != like.dtype or array.shape != like.shape:
        if array.dtype not in (like.dtype, compute_dtype(like.dtype)):
            dtypes = dict.fromkeys((like.dtype.name, compute_dtype(like.dtype).name))
            raise TypeError(
                f"{name} has dtype {array.dtype}, expected {_either(dtypes)} like params: use its "
                f"astype({like.dtype.name!r})"
            )
        if array.shape != like.shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {like.shape} like params")


def _as_numpy(name: str, array: Array) -> np.ndarray:
    """Return an array of another library as a NumPy array, in the same memory if possible."""
    try:
        return np.asarray(array.detach() if hasattr(array, "detach") else array)
    except TypeError as error:
        raise TypeError(
            f"{name} is a {type(array).__name__} that NumPy cannot read ({error}), expected one of "
            "another dtype, such as float32"
        ) from None


def storage(array: np.ndarray) -> np.ndarray:
    """Return the array in the form that kernels take: 16-bit floats as uint16."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def aligned(n: int, dtype: DTypeLike, like: np.ndarray | None = None) -> np.ndarray:
    """Return a flat array with a start that is a multiple of 64 bytes, or aligned like ``like``.

    SIMD vectors of ``like`` and of the array then cross cache lines at the same elements. This is
    1.05 to 1.5 times as fast as another alignment.
    """
    dtype = np.dtype(dtype)
    offset = 0 if like is None or like.dtype.itemsize != dtype.itemsize else like.ctypes.data
    buffer = np.empty(n * dtype.itemsize + 64, np.uint8)
    start = (offset - buffer.ctypes.data) % 64
    return buffer[start : start + n * dtype.itemsize].view(dtype)


def check_fits(name: str, value: ArrayLike, dtype: DType) -> None:
    """Raise if a finite number, or an entry of an array, becomes infinite or 0 in a dtype."""
    if isinstance(value, float) and dtype == np.float64:
        return
    given = np.asarray(value)
    with np.errstate(over="ignore", under="ignore"):
        held = given.astype(dtype)
    wrong = np.isfinite(given) & (np.isinf(held) | ((held == 0) & (given != 0)))
    if wrong.any():
        finfo: Any = np.finfo
        if dtype.name == "bfloat16":  # NumPy does not know it
            finfo = importlib.import_module("ml_dtypes").finfo
        limits = finfo(dtype)
        first = np.atleast_1d(wrong).argmax()
        number, kept = given.reshape(-1)[first], held.reshape(-1)[first]
        expected = f"at most {limits.max}" if kept else f"at least {limits.smallest_subnormal}"
        raise ValueError(f"{name} is {number}, which is {kept:g} in {dtype}, expected {expected}")


def _either(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def read_point(name: str, value: ArrayLike) -> np.ndarray:
    """Return an array of float32 or float64; integers become float64."""
    expected = "float32, float64 or integers"
    array = read_real(name, value, expected)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected {expected}: use {name}.astype(numpy.float64)"
        )
    return array


def new_point(name: str, value: ArrayLike) -> np.ndarray:
    """Return a writable copy of finite numbers, float32 or float64, of at least one dimension."""
    array = np.array(np.atleast_1d(read_point(name, value)), order="C", copy=True, subok=False)
    demand_finite(name, array)
    return array


def demand_finite(name: str, x: np.ndarray) -> None:
    """Raise if a number is infinite or NaN, and say which one."""
    if not np.isfinite(x).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"{name}{list(where)} is {x[where]}, expected finite numbers")
