"""Backends for arrays on the host and on a CUDA device, with the same interface.

An optimizer or a run calls `backend_of` once, and passes the backend on. numba.cuda is not imported
before the first CUDA array.
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

# Number of elements from which a parameter's gradient gets its own kernel call. A call takes 1.5
# us, as long as copying this many float32 numbers next to those of the other parameters. On a CUDA
# device a copy takes a launch, as the call does.
WORTH_A_CALL = 16_384


class Kernel(Protocol):
    """A kernel over rows or coordinates."""

    @property
    def run(self) -> Callable[..., None]:
        """``run(elements, count, *arguments)`` runs the kernel, without waiting for a device."""

    @property
    def call(self) -> Callable[..., Callable[[], object]]:
        """``call(threads, elements, count, *arguments)`` returns a run as a single call."""


class Backend(Protocol):
    """The operations on arrays of the host or of a device.

    An argument ``near`` is an array on whose device a new one is to lie. Streams are those of a
    device; on the host the only stream is None.
    """

    name: str
    """The name of its arrays in messages."""
    is_asynchronous: bool
    """Whether calls return before their work ends."""
    worth_a_call: int
    """Number of elements from which a parameter's gradient gets its own kernel call."""

    # -- users' arrays -----------------------------------------------------------------------------

    def view(self, name: str, array: Array, writable: bool = False) -> Array:
        """Return the optimizer's view of an array, in its shape, or raise an error."""

    def flat_view(
        self,
        name: str,
        array: Array,
        like: Array = None,
        writable: bool = False,
        stream: Stream = None,
        near: Array = None,
    ) -> Array:
        """Return a one-dimensional view of an array, or raise an error if kernels cannot use it.

        Parameters
        ----------
        name : str
            The caller's name for the array.
        array : ndarray or CUDA array
            A C-contiguous, aligned array of any shape, with a dtype of parameters.
        like : object with ``dtype`` and ``shape``, optional
            Require its shape, and its dtype or that of its arithmetic.
        writable : bool
            Require a writable array.
        stream : object, optional
            The CUDA stream of later work on the array; see `cuda.arrays.view`.
        near : array, optional
            Require the device of this array. By default that of ``like``.
        """

    def integers(self, name: str, array: Array, stream: Stream) -> Array:
        """Return integers on the host, after waiting for a device."""

    def read_stream(self, stream: Stream) -> Stream:
        """Return Numba's stream for a stream of any library. The host rejects streams later.

        None stays None: each gradient then names its own stream.
        """

    def stream_for(self, stream: Stream) -> Stream:
        """Return the given stream, by default Numba's default stream."""

    def check_map(self, prox: Proximal) -> None:
        """Raise an error if the backend cannot apply a map."""

    # -- where arrays lie --------------------------------------------------------------------------

    def place(self, array: Array) -> str:
        """Return the name of the device of an array."""

    def address(self, array: Array) -> int:
        """Return the address of an array."""

    def overlap(self, a: Array, b: Array) -> bool:
        """Return whether two contiguous arrays share memory."""

    def is_same(self, array: Array, other: Array) -> bool:
        """Return whether two views on a device show the same numbers.

        On a device, an array of another library has a new view in each step. On the host the same
        array is the same object, and the comparison would take too long: the result is False.
        """

    def stream_of(self, array: Array) -> Stream:
        """Return the stream to which an array is bound."""

    def bound(self, array: Array, stream: Stream) -> Array:
        """Return a view of an array, bound to a stream."""

    def on_one_stream(self, a: Array, b: Array) -> bool:
        """Return whether two arrays are bound to the same stream."""

    def wait(self, array: Array) -> None:
        """Wait for all work on the device of an array."""

    # -- making and copying ------------------------------------------------------------------------

    def empty(self, n: int, dtype: DTypeLike, near: Array) -> Array:
        """Return a new flat array."""

    def fill(self, array: Array, value: float) -> None:
        """Write one number to all elements; for bfloat16 stored as uint16, its bits."""

    def filling(self, array: Array, value: float) -> Callable[[], object]:
        """Return `fill` as a single call, on the host of compiled code."""

    def copy(self, array: Array, values: Array) -> None:
        """Copy numbers of the same shape and dtype into an array, from its device or the host."""

    def duplicate(self, array: Array) -> Array:
        """Return a copy of a flat array on its device."""

    def from_host(self, array: np.ndarray, near: Array) -> Array:
        """Return a copy of a host array on the device of another; on the host, the array itself."""

    def to_host(self, array: Array) -> np.ndarray:
        """Return a copy on the host."""

    def widen(self, wide: Array, narrow: Array) -> None:
        """Copy 16-bit numbers into a float32 array."""

    def rounded(self, wide: Array, dtype: DType) -> Array:
        """Return a copy of a flat float64 array, rounded to float32 if requested."""

    def join(self, parts: Sequence[Array], out: Array) -> None:
        """Concatenate flat arrays in one array."""

    def spread(self, each: Array, out: Array) -> None:
        """Write each number to equally many adjacent elements."""

    def upload(self, near: Array) -> Callable[[tuple[np.ndarray, ...], Stream], tuple[Array, ...]]:
        """Return an object that copies up to three integer arrays from the host to the device."""

    def mirror(self, near: Array) -> Callable[[np.ndarray, int, Stream], Array]:
        """Return an object that copies a growing array, of which ``known`` numbers are sent."""

    # -- kernels -----------------------------------------------------------------------------------

    def is_finite(self, array: Array) -> bool:
        """Return whether all numbers of a flat array are finite. This waits for a device."""

    def sum_of_squares(self, g: Array, factor: float) -> float:
        """Return the sum of the squares of ``factor * g``, with the same bits on every device."""

    def average(self, new: Array, mean: Array, x: Array, weight: float) -> None:
        """Write to ``new`` the float64 mean with one more array, which has the given weight."""

    def feasible(self, prox: Proximal, flat: Array, shape: tuple[int, ...]) -> Array:
        """Return the flat point of a map's domain that is nearest to a point of a shape.

        On the host it is a new array. On a device it is the same array, and the map is separable.
        """

    def tying_map(
        self, prox: Proximal, shape: tuple[int, ...], layout: Layout, near: Array
    ) -> Callable[..., None]:
        """Return a function that applies a map that ties the coordinates of a parameter together.

        It is ``apply(stream, x, rates, copies, counts=None)``. On a device, ``counts`` may disable
        it.
        """

    def dense_step(self, functions: Functions, layout: Layout) -> Any:
        """Return the step of all coordinates; see `kernels.step.DenseStep`."""

    def rate_kernel(self, rate: ScalarFunction, layout: Layout) -> Callable[..., None]:
        """Return ``kernel(out, slots, coefs)``, which writes the effective rates."""

    def norm_kernel(self, residual: ScalarFunction, layout: Layout) -> Callable[..., float]:
        """Return ``kernel(x, g, prox_arrays, coefs, 0.0, nan)``: the norm of the residual."""

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
        """Return the kernel that applies missed steps to rows; see `kernels.idle.CatchUp`."""

    def row_sums(self, gradient: str, number: str) -> Kernel:
        """Return the kernel that sums gradients by row; see `kernels.batch_rows.RowSums`."""

    def prepare(self, kernel: Kernel, near: Array) -> None:
        """Compile a kernel, so that errors of a device appear before the first step."""


class _Host:
    """The host: arrays are NumPy's, and calls return when their kernels have ended."""

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
        like: Array = None,
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

    def integers(self, name: str, array: Array, stream: Stream) -> Array:
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
        self, prox: Proximal, shape: tuple[int, ...], layout: Layout, near: Array
    ) -> Callable[..., None]:
        def apply(
            stream: Stream,
            x: np.ndarray,
            rates: np.ndarray,
            copies: tuple[np.ndarray, ...],
            counts: None = None,
        ) -> None:
            here = x.view(layout.x)  # 16-bit floats are stored as uint16
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

    def prepare(self, kernel: Kernel, near: Array) -> None:
        pass


HOST: Backend = _Host()


def backend_of(array: Array) -> Backend:
    """Return the backend of an array."""
    if isinstance(array, np.ndarray) or not is_on_device(array):
        return HOST
    from .cuda.backend import DEVICE

    return DEVICE


def demand_host(name: str, array: object, why: str) -> None:
    """Raise an error for a CUDA array, which NumPy would silently copy to the host."""
    if is_on_device(array):
        raise TypeError(f"{name} is a CUDA array, expected one on the host: {why}")
