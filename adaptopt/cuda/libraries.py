"""CUDA arrays of other libraries, by what they can do themselves: CuPy's, torch's, Numba's own."""

from __future__ import annotations

import sys

import numpy as np

from ..arrays import Array


def is_on_device(array: object) -> bool:
    """Tell whether an array is a CUDA array; the simulator's have another mark."""
    if isinstance(array, np.ndarray):
        return False
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def copied(name: str, array: Array, values: Array = None) -> Array:
    """Return a C-contiguous copy of the array's own kind: of torch, of CuPy, else of Numba.

    It has at least one dimension. With ``values``, an array of the device of as many numbers, these
    are in it instead; ``name`` is what error messages call the array.
    """
    from .arrays import empty, flat_view, write  # imports numba.cuda

    if getattr(array, "__cuda_ndarray__", False) or not _copies(array):
        seen = flat_view(name, array)
        new = empty(seen.size, seen.dtype, seen)
        write(new, seen if values is None else values)
        return new.reshape(*array.shape).bind(seen.stream) if len(array.shape) else new
    # torch's own copy keeps the strides that there are.
    is_torch = hasattr(array, "clone")
    new = detached(array).contiguous().clone() if is_torch else array.copy()
    if values is not None:
        write(flat_view(name, new, stream=current_stream(new)), values)
    return new.reshape(1) if not len(array.shape) else new


def _copies(array: Array) -> bool:
    return hasattr(array, "clone") or hasattr(array, "copy")


def seen_as(array: Array, like: Array) -> Array:
    """Return an array of Numba's as one of another's library, CuPy or torch; no copy."""
    name = type(like).__module__.partition(".")[0]
    library = sys.modules.get(name)
    if name == "cupy" and library is not None:
        return library.asarray(array)
    if name == "torch" and library is not None:
        return library.as_tensor(array, device=like.device)
    return array


def detached(array: Array) -> Array:
    """Return what shares a torch tensor's memory, but no graph; others as they are."""
    return array.detach() if hasattr(array, "detach") else array


def current_stream(array: Array) -> Array:
    """Return the stream on which torch works, where the array is torch's: it does not say so.

    For all others it is None: what there is to know is in ``__cuda_array_interface__``.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(array, torch.Tensor):
        return None
    return torch.cuda.current_stream(array.device)


def dtype_of(array: Array) -> Array:
    """Return NumPy's dtype of the numbers in a CUDA array."""
    interface = getattr(detached(array), "__cuda_array_interface__", None)
    return np.dtype(array.dtype if interface is None else interface["typestr"])
