"""CUDA arrays of CuPy, torch and Numba, handled with the functions of these libraries."""

from __future__ import annotations

import sys

import numpy as np

from ..arrays import Array


def is_on_device(array: object) -> bool:
    """Return whether an array is a CUDA array; those of the simulator have another attribute."""
    if isinstance(array, np.ndarray):
        return False
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def copied(name: str, array: Array, values: Array = None) -> Array:
    """Return a C-contiguous copy as an array of the same library: torch, CuPy, otherwise Numba.

    It has at least one dimension. With ``values``, a device array of the same size, the copy holds
    these values instead. ``name`` is the array's name in error messages.
    """
    from .arrays import empty, flat_view, write  # imports numba.cuda

    if getattr(array, "__cuda_ndarray__", False) or not _copies(array):
        seen = flat_view(name, array)
        new = empty(seen.size, seen.dtype, seen)
        write(new, seen if values is None else values)
        return new.reshape(*array.shape).bind(seen.stream) if len(array.shape) else new
    # torch's own copy would keep the strides.
    is_torch = hasattr(array, "clone")
    new = detached(array).contiguous().clone() if is_torch else array.copy()
    if values is not None:
        write(flat_view(name, new, stream=current_stream(new)), values)
    return new.reshape(1) if not len(array.shape) else new


def _copies(array: Array) -> bool:
    return hasattr(array, "clone") or hasattr(array, "copy")


def seen_as(array: Array, like: Array) -> Array:
    """Return a Numba array as an array of another's library, CuPy or torch, without a copy."""
    name = type(like).__module__.partition(".")[0]
    library = sys.modules.get(name)
    if name == "cupy" and library is not None:
        return library.asarray(array)
    if name == "torch" and library is not None:
        return library.as_tensor(array, device=like.device)
    return array


def detached(array: Array) -> Array:
    """Return a torch tensor detached from its graph, and other arrays unchanged."""
    return array.detach() if hasattr(array, "detach") else array


def current_stream(array: Array) -> Array:
    """Return torch's current stream for an array of torch, whose interface does not name it.

    For other arrays return None, because their ``__cuda_array_interface__`` names the stream.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        return None
    return torch.cuda.current_stream(array.device)


def dtype_of(array: Array) -> Array:
    """Return the NumPy dtype of a CUDA array."""
    interface = getattr(detached(array), "__cuda_array_interface__", None)
    return np.dtype(array.dtype if interface is None else interface["typestr"])
