"""Where arrays lie: what the host and a CUDA device do differently, behind the same names.

An optimizer or a run asks `backend_of` once, and passes on what it gets. Nothing of numba.cuda is
imported before the first CUDA array is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from . import arrays
from .arrays import Array, DType, Stream, aligned, storage
from .cuda.libraries import is_on_device
from .kernels.averages import average_kernel
from .kernels.batch_rows import RowSums
from .kernels.idle import CatchUp
from .kernels.reductions import SumOfSquares, norm_kernel
from .kernels.step import DenseStep, Layout, rate_kernel
from .kernels.table import RowStep
from .prox.base import Proximal
from .scalar import ScalarFunction

Functions = tuple[ScalarFunction, ...]

# Elements from which a parameter's gradient is worth a kernel call of its own: a call costs 1.5 us,
# as much as copying so many float32 numbers next to those of the other parameters. On a CUDA device
# a copy costs a launch, as the call does.
WORTH_A_CALL = 16_384


class Kernel(Protocol):
    """A kernel over rows or coordinates."""

    @property
    def run(self) -> Callable[..., None]:
        """``run(elements, count, *arguments)`` runs it; a device is not waited for."""

    @property
    def call(self) -> Callable[..., Callable[[], object]]:
        """``call(threads, elements, count, *arguments)`` returns a run as one call."""


class Backend(Protocol):
    """What is done where arrays lie.

    Arguments called ``near`` are arrays beside which a new one is to lie. Streams are those of a
    device; on the host there is one, None.
    """

    name: str
    """What its arrays are called in messages."""
    is_asynchronous: bool
    """Whether it starts work without waiting for the result."""
    worth_a_call: int
    """Elements from which a parameter's gradient is worth a kernel call of its own."""

    # -- what users hand over ----------------------------------------------------------------------

    def view(self, name: str, array: Array, writable: bool = False) -> Array:
        """Return an array as the optimizer sees it, in its shape, or say why it cannot take it."""

    def flat_view(
        self,
        name: str,
        array: Array,
        like: Any = None,
        writable: bool = False,
        stream: Stream = None,
        near: Array = None,
    ) -> Array:
        """Return an array as one dimension, without a copy, or say why kernels cannot take it.

        Parameters
        ----------
        name : str
            What the caller calls the array.
        array : ndarray or CUDA array
            C-contiguous, aligned, of any shape and of one of the formats of parameters.
        like : object with ``dtype`` and ``shape``, optional
            Demand its shape, and its dtype or that of its arithmetic.
        writable : bool
            Demand an array that may be written to.
        stream : object, optional
            The CUDA stream on which to use it; see `cuda.arrays.view`.
        near : array, optional
            Demand the device of this one; by default that of ``like``.
        """

    def integers(self, name: str, array: Array, stream: Stream) -> Any:
        """Return whole numbers on the host; those on a device are waited for."""

    def read_stream(self, stream: Stream) -> Stream:
        """Return a device's stream as Numba's, from any library; that of the host is refused later.

        None stays None: each gradient then names its own.
        """

    def stream_for(self, stream: Stream) -> Stream:
        """Return the stream that is meant, by default Numba's default stream."""

    def check_map(self, prox: Proximal) -> None:
        """Refuse a map that the backend cannot apply."""

    # -- where arrays lie --------------------------------------------------------------------------

    def place(self, array: Array) -> str:
        """Say on which device an array lies."""

    def address(self, array: Array) -> int:
        """Return where an array starts in memory."""

    def overlap(self, a: Array, b: Array) -> bool:
        """Tell whether two contiguous arrays share memory."""

    def is_same(self, array: Array, other: Array) -> bool:
        """Tell whether two views on a device are of the same numbers.

        There is a new view of an array of another library in every step. On the host, where the
        same array is the same object, this costs too much: False.
        """

    def stream_of(self, array: Array) -> Stream:
        """Return the stream on which an array is used."""

    def bound(self, array: Array, stream: Stream) -> Array:
        """Return a view of an array that is used on a stream."""

    def on_one_stream(self, a: Array, b: Array) -> bool:
        """Tell whether two arrays are used on the same stream."""

    def wait(self, array: Array) -> None:
        """Wait for all work on the device of an array."""

    # -- making and copying ------------------------------------------------------------------------

    def empty(self, n: int, dtype: DTypeLike, near: Array) -> Array:
        """Return a new flat array."""

    def fill(self, array: Array, value: float) -> None:
        """Write one number everywhere; to bfloat16 in uint16, its bits."""

    def filling(self, array: Array, value: float) -> Callable[[], object]:
        """Return `fill` as one call, on the host of compiled code."""

    def copy(self, array: Array, values: Array) -> None:
        """Copy numbers of the same shape and dtype, from where an array lies or from the host."""

    def duplicate(self, array: Array) -> Array:
        """Return a copy of a flat array where it lies."""

    def from_host(self, array: np.ndarray, near: Array) -> Array:
        """Return a host array beside another one; on the host, it is the same."""

    def to_host(self, array: Array) -> np.ndarray:
        """Return a copy on the host."""

    def widen(self, wide: Array, narrow: Array) -> None:
        """Copy numbers of 16 bits into an array of float32."""

    def rounded(self, wide: Array, dtype: DType) -> Array:
        """Return a copy of a flat array of float64, rounded to float32 or kept."""

    def join(self, parts: Sequence[Array], out: Array) -> None:
        """Copy flat arrays into one, one after the other."""

    def spread(self, each: Array, out: Array) -> None:
        """Write each number to its equal share of places, side by side."""

    def upload(self, near: Array) -> Callable[[tuple[np.ndarray, ...], Stream], tuple[Array, ...]]:
        """Return what brings up to three arrays of whole numbers of the host to the device."""

    def mirror(self, near: Array) -> Callable[[np.ndarray, int, Stream], Array]:
        """Return what does so with an array that grows, of which so many numbers are known."""

    # -- kernels -----------------------------------------------------------------------------------

    def is_finite(self, array: Array) -> bool:
        """Tell whether all numbers of a flat array are finite; it waits for a device."""

    def sum_of_squares(self, g: Array, factor: float) -> float:
        """Return the sum of the squares of ``factor * g``, the same bits on every device."""

    def average(self, new: Array, mean: Array, x: Array, weight: float) -> None:
        """Write to ``new`` the mean, in float64, of one array more, which has so large a weight."""

    def feasible(self, prox: Proximal, flat: Array, shape: tuple[int, ...]) -> Array:
        """Return the flat point of a map's domain that is nearest to one of such a shape.

        It is a new array on the host; on a device, it is the same, and the map is a separable one.
        """

    def tying_map(
        self, prox: Any, shape: tuple[int, ...], layout: Layout, near: Array
    ) -> Callable[..., None]:
        """Return what applies a map that ties the coordinates of a parameter together.

        ``apply(stream, x, rates, copies, counts=None)``, unless ``counts`` on a device forbid it.
        """

    def dense_step(self, functions: Functions, layout: Layout) -> Any:
        """Return the step of all coordinates; see `kernels.step.DenseStep`."""

    def rate_kernel(self, rate: ScalarFunction, layout: Layout) -> Callable[..., None]:
        """Return ``kernel(out, slots, coefs)``, which writes every coordinate's effective rate."""

    def norm_kernel(self, residual: ScalarFunction, layout: Layout) -> Any:
        """Return ``kernel(x, g, prox_arrays, coefs, 0.0, nan)``: the distance from stationary."""

    def row_step(
        self,
        functions: Functions,
        late: Functions,
        along: ScalarFunction,
        layout: Layout,
        lazy: bool,
        shared: bool,
        fades: bool,
    ) -> Kernel:
        """Return the step of some rows of a table; see `kernels.table.RowStep`."""

    def catch_up(self, late: Functions, layout: Layout, shared: bool, fades: bool) -> Kernel:
        """Return what brings rows up to a step; see `kernels.idle.CatchUp`."""

    def row_sums(self, gradient: str, number: str) -> Kernel:
        """Return what sums the gradients of each row; see `kernels.batch_rows.RowSums`."""

    def prepare(self, kernel: Any, near: Array) -> None:
        """Compile a kernel, so that what a device lacks is said before the first step is taken."""


class _Host:
    """The host: arrays are NumPy's, and kernels have ended when they return."""

    name = "NumPy arrays"
    is_asynchronous = False
    worth_a_call = WORTH_A_CALL

    def view(self, name: str, array: Array, writable: bool = False) -> Array:
        arrays.flat_view(name, array, writable=writable)
        return np.asarray(array) if isinstance(array, np.matrix) else array

    def flat_view(
        self,
        name: str,
        array: Array,
        like: Any = None,
        writable: bool = False,
        stream: Stream = None,
        near: Array = None,
    ) -> Array:
        if is_on_device(array):
            raise TypeError(
                f"{name} is a CUDA array, expected a NumPy array like params: nothing is copied "
                "between host and device unasked"
            )
        if stream is not None:
            raise ValueError(f"stream is {stream!r} with {name} on the host, expected None")
        return arrays.flat_view(name, array, like, writable)

    def integers(self, name: str, array: Array, stream: Stream) -> Any:
        if is_on_device(array):
            raise TypeError(f"{name} are a CUDA array, expected integers on the host like params")
        return array

    def read_stream(self, stream: Stream) -> Stream:
        return stream

    def stream_for(self, stream: Stream) -> Stream:
        if stream is not None:
            raise ValueError(f"stream is {stream!r} with params on the host, expected None")
        return None

    def check_map(self, prox: Proximal) -> None:
        pass

    def place(self, array: Array) -> str:
        return "the host"

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def overlap(self, a: Array, b: Array) -> bool:
        return np.may_share_memory(a, b)

    def is_same(self, array: Array, other: Array) -> bool:
        return False

    def stream_of(self, array: Array) -> Stream:
        return None

    def bound(self, array: Array, stream: Stream) -> Array:
        return array

    def on_one_stream(self, a: Array, b: Array) -> bool:
        return True

    def wait(self, array: Array) -> None:
        pass

    def empty(self, n: int, dtype: DTypeLike, near: Array) -> Array:
        return aligned(n, dtype, near)

    def fill(self, array: Array, value: float) -> None:
        array.fill(value)

    def filling(self, array: Array, value: float) -> Callable[[], object]:
        return partial(np.ndarray.fill, array, value)

    def copy(self, array: Array, values: Array) -> None:
        np.copyto(array, values)

    def duplicate(self, array: Array) -> Array:
        return array.copy()

    def from_host(self, array: np.ndarray, near: Array) -> Array:
        return array

    def to_host(self, array: Array) -> np.ndarray:
        copied: np.ndarray = array.copy()
        return copied

    def widen(self, wide: Array, narrow: Array) -> None:
        wide[:] = narrow

    def rounded(self, wide: Array, dtype: DType) -> Array:
        with np.errstate(over="ignore"):
            return wide.astype(dtype)

    def join(self, parts: Sequence[Array], out: Array) -> None:
        np.concatenate(parts, out=out)

    def spread(self, each: Array, out: Array) -> None:
        out[:] = np.repeat(each, out.size // each.size)

    def upload(self, near: Array) -> Callable[[tuple[np.ndarray, ...], Stream], tuple[Array, ...]]:
        return lambda pieces, stream: pieces

    def mirror(self, near: Array) -> Callable[[np.ndarray, int, Stream], Array]:
        return lambda array, known, stream: array

    def is_finite(self, array: Array) -> bool:
        return bool(np.isfinite(array).all())

    def sum_of_squares(self, g: Array, factor: float) -> float:
        return SumOfSquares(g.dtype.name)(storage(g), factor)

    def average(self, new: Array, mean: Array, x: Array, weight: float) -> None:
        average_kernel(x.dtype.name)(new, mean, x, weight)

    def feasible(self, prox: Proximal, flat: Array, shape: tuple[int, ...]) -> Array:
        return prox.feasible(flat.reshape(shape)).reshape(-1)

    def tying_map(
        self, prox: Any, shape: tuple[int, ...], layout: Layout, near: Array
    ) -> Callable[..., None]:
        def apply(
            stream: Stream,
            x: np.ndarray,
            rates: np.ndarray,
            copies: tuple[np.ndarray, ...],
            counts: None = None,
        ) -> None:
            here = x.view(layout.x)  # 16-bit numbers lie in uint16
            point = here.astype(np.float64).reshape(shape)
            if np.isfinite(point).all() and point.size:
                here[:] = prox.solve(point, rates.reshape(shape)).ravel()
            for narrow, form in zip(copies, layout.copies, strict=True):
                narrow.view(form)[:] = here

        return apply

    dense_step = staticmethod(DenseStep)
    rate_kernel = staticmethod(rate_kernel)
    norm_kernel = staticmethod(norm_kernel)
    row_step = staticmethod(RowStep)
    catch_up = staticmethod(CatchUp)
    row_sums = staticmethod(RowSums)

    def prepare(self, kernel: Any, near: Array) -> None:
        pass


HOST: Backend = _Host()


def backend_of(array: Array) -> Backend:
    """Return what works where an array lies."""
    if isinstance(array, np.ndarray) or not is_on_device(array):
        return HOST
    from .cuda.backend import DEVICE

    return DEVICE


def demand_host(name: str, array: object, why: str) -> None:
    """Refuse a CUDA array, which NumPy would copy to the host unasked, and say why."""
    if is_on_device(array):
        raise TypeError(f"{name} is a CUDA array, expected one on the host: {why}")
