"""CUDA arrays of users and of the library; imported with the first CUDA array."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Stream, check_kind, storage
from .launch import cuda, device_of
from .reductions import read_back

# The attributes with a stream's handle in CuPy and torch.
_HANDLES = ("ptr", "cuda_stream")
LEGACY = 1  # the default stream in CUDA's interface; Numba's is 0


def view(
    name: str, array: Array, like: Array, writable: bool, stream: Stream, near: Array = None
) -> Array:
    """Return Numba's view of an array of any library, bound to a stream, without waiting.

    Parameters
    ----------
    name : str
        What the caller calls the array.
    array : object
        An array with ``__cuda_array_interface__``: C-contiguous, of any shape, with a dtype of
        parameters.
    like : array or None
        Require the shape of this array, and its dtype or that of its arithmetic.
    writable : bool
        Require a writable array.
    stream : object or None
        The stream of later work on the array. By default that of the array's interface, otherwise
        Numba's default stream.
    near : array, optional
        Require the device of this array.
    """
    if like is None:  # an array on a device shows that there is a driver
        _demand_a_driver(name)
    interface = getattr(array, "__cuda_array_interface__", None)  # the simulator's have none
    if interface is not None and writable and interface["data"][1]:
        raise ValueError(f"{name} is read-only, expected a writable array: it is updated in place")
    seen = _seen(array)
    if seen.dtype.str in ("<V2", "|V2") and seen.dtype.name != "bfloat16":
        if importlib.util.find_spec("ml_dtypes") is None:
            raise ImportError(f"{name} is of bfloat16, which needs ml_dtypes")
        importlib.import_module("ml_dtypes")
        seen = seen.view("bfloat16")
    check_kind(name, seen, like)
    if not seen.is_c_contiguous():
        raise ValueError(
            f"{name} is not C-contiguous (strides {seen.strides}), expected a C-contiguous array"
        )
    if interface is not None and interface["data"][0] % seen.dtype.itemsize:
        raise ValueError(f"{name} is not aligned to its dtype, expected an aligned array")
    if near is not None and index_of(seen) != index_of(near):
        raise ValueError(
            f"{name} lies on CUDA device {index_of(seen)}, expected {index_of(near)} like params"
        )
    return seen if stream is None else seen.bind(read_stream(stream))


def _seen(array: Array) -> Array:
    """Return Numba's view of an array of any library."""
    if getattr(array, "__cuda_ndarray__", False):
        return array
    with cuda.gpus[_index(array)]:
        return cuda.as_cuda_array(array, sync=False)


def read_integers(name: str, array: Array, stream: Stream) -> np.ndarray:
    """Return a host copy of a few integers, after their stream has computed them."""
    _demand_a_driver(name)
    seen = _seen(array)
    if seen.dtype not in (np.int32, np.int64):
        raise TypeError(f"{name} have dtype {seen.dtype}, expected int32 or int64")
    if not seen.is_c_contiguous():
        raise ValueError(
            f"{name} are not C-contiguous (strides {seen.strides}), expected a C-contiguous array"
        )
    if not seen.size:
        return np.zeros(tuple(seen.shape), seen.dtype)
    with device_of(seen):
        return read_back(seen if stream is None else seen.bind(read_stream(stream)))


def read_stream(stream: Stream) -> Array:
    """Return Numba's stream for a stream of Numba, CuPy or torch, or for a handle."""
    if hasattr(stream, "auto_synchronize"):
        return stream
    handle = stream
    if hasattr(stream, "__cuda_stream__"):
        handle = stream.__cuda_stream__()[1]
    for name in _HANDLES:
        handle = getattr(stream, name, handle)
    if isinstance(handle, bool) or not isinstance(handle, int) or handle < 0:
        raise TypeError(
            f"stream is {stream!r}, expected a stream of Numba, CuPy or torch, or its handle"
        )
    return _external(handle) if handle else 0


@lru_cache(maxsize=64)
def _external(handle: int) -> Array:
    """Return one object per stream, because configuring launches for a new object takes long."""
    return cuda.external_stream(handle)


def handle_of(stream: Stream) -> Array:
    """Return the handle of a stream, which is the same for all objects that represent it."""
    handle = getattr(stream, "handle", None)
    if handle is not None:  # int(stream) is an enumeration's for some, and warns
        number = int(getattr(handle, "value", handle) or 0)
    elif hasattr(stream, "__int__"):
        number = int(stream)
    else:
        return stream
    return 0 if number == LEGACY else number  # both are the default stream


def join(stream: Stream, others: Iterable[Stream]) -> None:
    """Order later work on a stream after earlier work on others, without waiting on the host."""
    for other in others:
        event = cuda.event(timing=False)
        event.record(other)
        event.wait(stream)


def index_of(array: Array) -> int:
    """Return the number of the device on which a view lies."""
    memory = getattr(array, "gpu_data", None)
    return 0 if memory is None else int(memory.context.device.id)


def address(array: Array) -> int:
    """Return where a view starts in memory."""
    interface = getattr(array, "__cuda_array_interface__", None)  # the simulator's have none
    return int(array.ctypes.data if interface is None else interface["data"][0])


def _index(array: Array) -> int:
    """Return the number of the device on which an array of CuPy or torch lies."""
    device = getattr(array, "device", None)
    index = getattr(device, "id", getattr(device, "index", None))
    return index if isinstance(index, int) else 0


def flat_view(
    name: str,
    array: Array,
    like: Array = None,
    writable: bool = False,
    stream: Stream = None,
    near: Array = None,
) -> Array:
    """Return Numba's `view` of an array as one dimension, bound to its stream."""
    seen = view(name, array, like, writable, stream, near)
    return seen.reshape(seen.size).bind(seen.stream)


def empty(n: int, dtype: DTypeLike, near: Array) -> Array:
    """Return a new flat array on the device of another array, bound to its stream."""
    with device_of(near):
        return cuda.device_array(n, np.dtype(dtype)).bind(near.stream)


def moved(array: np.ndarray, near: Array) -> Array:
    """Return a copy of a host array on the device of another array, bound to its stream."""
    with device_of(near):
        return cuda.to_device(array, stream=near.stream).bind(near.stream)


def wait(array: Array) -> None:
    """Wait for all work on the device of an array."""
    with device_of(array):
        cuda.synchronize()


def on_host(array: Array) -> np.ndarray:
    """Return a host copy."""
    with device_of(array):
        return read_back(array)


def write(array: Array, values: Array) -> None:
    """Copy numbers of the same shape and dtype into an array, from the host or the device."""
    if array.size:
        with device_of(array):
            # As integers, because not every copying function knows bfloat16.
            bits: Array = storage(array)
            bits.copy_to_device(storage(values))


def rows_in_words(name: str, array: Array, near: Array) -> tuple[Array, int]:
    """Return an array as a flat array of the widest integers that divide its rows; and their count.

    Parameters
    ----------
    name : str
        What the caller calls the array.
    array : CUDA array
        A C-contiguous array with at least one dimension and any dtype.
    near : CUDA array
        Require the device of this array.
    """
    seen = array
    if not getattr(array, "__cuda_ndarray__", False):
        with cuda.gpus[_index(array)]:
            seen = cuda.as_cuda_array(array, sync=False)
    if not seen.is_c_contiguous():
        raise ValueError(
            f"{name} is not C-contiguous (strides {seen.strides}), expected a C-contiguous array"
        )
    if index_of(seen) != index_of(near):
        raise ValueError(
            f"{name} lies on CUDA device {index_of(seen)}, expected {index_of(near)} like x0"
        )
    row = seen.dtype.itemsize * math.prod(seen.shape[1:])
    start = address(seen)
    size = next(size for size in (8, 4, 2, 1) if row % size == 0 and start % size == 0)
    return seen.reshape(seen.size).view(np.dtype(f"u{size}")), row // size


def _demand_a_driver(name: str) -> None:
    """Raise an error that says what to install, if no device can be used."""
    if not cuda.is_available():
        raise RuntimeError(
            f"{name} is a CUDA array, but numba.cuda finds no CUDA driver that it can use: install "
            'NVIDIA\'s driver, and pip install "adaptopt[cuda]" (numba-cuda) for a recent one'
        )
