"""Where arrays lie: the few operations that `Optimizer` needs, on the host and on a CUDA device.

The array decides. Nothing of CUDA is imported before the first CUDA array is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from . import arrays
from .arrays import aligned, storage
from .kernels.averages import average_kernel
from .kernels.idle import CatchUp
from .kernels.reductions import SumOfSquares, norm_kernel
from .kernels.row_sums import RowSums
from .kernels.step import DenseStep, rate_kernel
from .kernels.table import RowStep
from .prox.separable import Proximal


class Kernels(NamedTuple):
    """What makes the kernels of a group: each takes scalar functions and a `Layout`."""

    dense_step: Callable[..., Any]
    rate_kernel: Callable[..., Any]
    norm_kernel: Callable[..., Any]
    row_step: Callable[..., Any]
    catch_up: Callable[..., Any]
    row_sums: Callable[..., Any]
    # On a device only: see `deferral`, and what applies maps that tie coordinates together.
    decided_step: Callable[..., Any] | None = None
    tying_map: Callable[..., Any] | None = None


class Sent(NamedTuple):
    """What brings numbers of the host to where a table lies: there, they stay what they are.

    ``places(arrays, stream)`` returns whole numbers as the kernels take them;
    ``growing(array, known, stream)`` does so with an array of which ``known`` numbers are known.
    """

    places: Callable[..., Any]
    growing: Callable[..., Any]


def is_on_device(array: Any) -> bool:
    """Tell whether an array is a CUDA array; the simulator's have another mark."""
    if isinstance(array, np.ndarray):
        return False
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


def flat_view(
    name: str,
    array: Any,
    like: Any = None,
    writable: bool = False,
    stream: Any = None,
    near: Any = None,
) -> Any:
    """Return the array as one dimension, without a copy, or say why the kernels cannot take it.

    Parameters
    ----------
    name : str
        What the caller calls the array.
    array : ndarray or CUDA array
        C-contiguous, aligned, of any shape and of one of the formats of parameters.
    like : ndarray or CUDA array, optional
        Demand this array's place and shape, and its dtype or that of its arithmetic.
    writable : bool
        Demand an array that may be written to.
    stream : object, optional
        The CUDA stream on which to use it; see `device.view`.
    near : ndarray or CUDA array, optional
        Demand this array's place; by default that of ``like``.
    """
    near = like if near is None else near
    if stream is None and isinstance(array, np.ndarray) and isinstance(like, np.ndarray):
        return arrays.flat_view(name, array, like, writable)  # the short way of a step
    there = is_on_device(array)
    if near is not None and there != is_on_device(near):
        kinds = ("a NumPy array", "a CUDA array")
        raise TypeError(
            f"{name} is {kinds[there]}, expected {kinds[not there]} like params: nothing is "
            "copied between host and device unasked"
        )
    if there:
        return _device().flat_view(name, array, like, writable, stream, near)
    if stream is not None:
        raise ValueError(f"stream is {stream!r} with {name} on the host, expected None")
    return arrays.flat_view(name, array, like, writable)


def demand_host(name: str, array: Any, why: str) -> None:
    """Refuse a CUDA array, which NumPy would copy to the host unasked, and say why."""
    if is_on_device(array):
        raise TypeError(f"{name} is a CUDA array, expected one on the host: {why}")


def kernels_for(array: Any) -> Kernels:
    """Return what makes the kernels that run where an array lies."""
    return _device_kernels() if is_on_device(array) else _HOST


_HOST = Kernels(DenseStep, rate_kernel, norm_kernel, RowStep, CatchUp, RowSums)


@cache
def _device_kernels() -> Kernels:
    device = _device()
    return Kernels(
        dense_step=device.DenseStep,
        rate_kernel=device.RateKernel,
        norm_kernel=device.NormKernel,
        row_step=device.RowStep,
        catch_up=device.CatchUp,
        row_sums=device.RowSums,
        decided_step=device.DecidedStep,
        tying_map=device.TyingMap,
    )


def sent_beside(near: Any) -> Sent:
    """Return what brings numbers of the host to where an array lies, for one table."""
    if is_on_device(near):
        return Sent(_device().Upload(near), _device().Mirror(near))
    return Sent(lambda arrays, stream: arrays, lambda array, known, stream: array)


def prepare(kernel: Any, near: Any) -> None:
    """Compile a kernel, so that what a device lacks is said before the first step is taken."""
    if is_on_device(near):
        with _device().device_of(near):
            kernel.compiled  # noqa: B018  (compiles)


def on_one_stream(a: Any, b: Any) -> bool:
    """Tell whether two arrays are used on one stream; those of the host are."""
    if isinstance(a, np.ndarray):
        return True
    handle_of = _device().handle_of
    return bool(a.stream is b.stream or handle_of(a.stream) == handle_of(b.stream))


def read_stream(stream: Any, near: Any) -> Any:
    """Return Numba's stream for that of any library, where arrays lie on a device."""
    return _device().read_stream(stream) if is_on_device(near) else stream


def empty(n: int, dtype: Any, near: Any) -> Any:
    """Return a flat array beside another."""
    if is_on_device(near):
        return _device().empty(n, dtype, near)
    return aligned(n, dtype, near)


def fill(array: Any, value: Any) -> None:
    """Write one number everywhere; where bfloat16 lies as uint16, its pattern."""
    if is_on_device(array):
        _device().fill(array, value)
    else:
        array.fill(value)


def filling(array: Any, value: Any) -> Callable[[], object]:
    """Return what writes one number everywhere: on the host, one call of compiled code."""
    return partial(_device().fill if is_on_device(array) else np.ndarray.fill, array, value)


def copy(array: Any, values: Any) -> None:
    """Copy numbers of the same shape and dtype into an array, from where it lies or the host."""
    if is_on_device(array):
        _device().write(array, values)
    else:
        np.copyto(array, values)


def widen(wide: Any, narrow: Any) -> None:
    """Copy numbers of 16 bits into an array of float32."""
    if is_on_device(wide):
        _device().widen(wide, storage(narrow), narrow.dtype.name)
    else:
        wide[:] = narrow


def join(parts: Sequence[Any], out: Any) -> None:
    """Copy flat arrays into one, one after the other."""
    if not is_on_device(out):
        np.concatenate(parts, out=out)
        return
    start = 0
    for part in parts:
        if part.size:
            _device().write(out[start : start + part.size], part)
        start += part.size


def spread(each: Any, out: Any) -> None:
    """Write each number to as many places of an array, side by side, as there are for it."""
    if is_on_device(out):
        _device().spread(each, out)
    else:
        out[:] = np.repeat(each, out.size // each.size)


def stream_of(array: Any) -> Any:
    """Return the stream of a view on a device; None on the host."""
    return array.stream if is_on_device(array) else None


def stream_for(stream: Any, near: Any) -> Any:
    """Return the stream that is meant, by default Numba's default stream; None on the host."""
    if is_on_device(near):
        return 0 if stream is None else _device().read_stream(stream)
    if stream is not None:
        raise ValueError(f"stream is {stream!r} with params on the host, expected None")
    return None


def bound(array: Any, stream: Any) -> Any:
    """Return a view of an array that is used on a stream; on the host, the array."""
    return array if stream is None else array.bind(stream)


def read_integers(name: str, array: Any, stream: Any) -> np.ndarray:
    """Return the whole numbers of a CUDA array on the host; it waits for them."""
    numbers: np.ndarray = _device().read_integers(name, array, stream)
    return numbers


def moved(array: np.ndarray, near: Any) -> Any:
    """Return an array of the host where another one lies."""
    return _device().moved(array, near) if is_on_device(near) else array


def on_host(array: Any) -> np.ndarray:
    """Return a copy on the host."""
    copied: np.ndarray = _device().on_host(array) if is_on_device(array) else array.copy()
    return copied


def wait(array: Any) -> None:
    """Wait for the device on which an array lies."""
    if is_on_device(array):
        _device().wait(array)


def duplicate(array: Any) -> Any:
    """Return a copy of a flat array where it lies."""
    if not is_on_device(array):
        return array.copy()
    new = empty(array.size, array.dtype, array)
    copy(new, array)
    return new


def narrowed(wide: Any, dtype: Any) -> Any:
    """Return a copy of a flat array of float64, rounded to float32 or kept."""
    if not is_on_device(wide):
        with np.errstate(over="ignore"):
            return wide.astype(dtype)
    new = empty(wide.size, dtype, wide)
    _device().narrow(new, wide)
    return new


def is_finite(array: Any) -> bool:
    """Tell whether all numbers of a flat array are finite; it waits for a device."""
    if is_on_device(array):
        # So small a factor that no square overflows.
        return math.isfinite(sum_of_squares(array, 2.0**-700))
    return bool(np.isfinite(array).all())


def average(new: Any, mean: Any, x: Any, weight: float) -> None:
    """Write to ``new`` the mean, in float64, of one array more, which has so large a weight."""
    if is_on_device(x):
        _device().average(new, mean, x, weight)
    else:
        average_kernel(x.dtype.name)(new, mean, x, weight)


def address(array: Any) -> int:
    """Return where the array starts in memory."""
    interface = getattr(array, "__cuda_array_interface__", None)
    return int(array.ctypes.data if interface is None else interface["data"][0])


def overlap(a: Any, b: Any) -> bool:
    """Tell whether two contiguous arrays share memory."""
    if isinstance(a, np.ndarray):
        shared: bool = np.may_share_memory(a, b)
        return shared
    start, other = address(a), address(b)
    return bool(start < other + b.nbytes and other < start + a.nbytes)


def is_same(array: Any, other: Any) -> bool:
    """Tell whether two views of a device are of the same numbers; on the host that costs too much.

    There is a new view of an array of another library in every step.
    """
    return is_on_device(array) and array.dtype == other.dtype and address(array) == address(other)


def sum_of_squares(g: Any, factor: float) -> float:
    """Return the sum of the squares of ``factor * g``, the same bits on every device."""
    if is_on_device(g):
        return float(_device().SumOfSquares(g.dtype.name)(storage(g), factor))
    return SumOfSquares(g.dtype.name)(storage(g), factor)


def feasible(prox: Proximal, flat: Any, shape: tuple[int, ...]) -> Any:
    """Return the flat point of a map's domain that is nearest to one of such a shape.

    It is a new array on the host; on a device, it is the same, and the map is a separable one.
    """
    if not is_on_device(flat):
        return prox.feasible(flat.reshape(shape)).reshape(-1)
    if type(prox).feasible is not Proximal.feasible:
        arrays, scalars = prox.parameters(shape, flat.dtype)
        walls = tuple(moved(wall.astype(flat.dtype), flat) for wall in arrays)
        _device().project(prox.prox, flat, walls, scalars)
    return flat


def index_of(array: Any) -> int | None:
    """Return the number of the CUDA device on which a view lies; None on the host."""
    return _device().index_of(array) if is_on_device(array) else None


@cache
def _device() -> Any:
    from .cuda import backend as device

    return device
