"""A CUDA device as a backend. `placement.Backend` describes the operations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..arrays import Array, DType, Stream, storage
from ..kernels.step import Layout
from ..prox.base import Proximal
from . import arrays, batches, looks, maps, reductions, step, table
from .launch import device_of
from .libraries import is_on_device
from .uploads import Mirror, Upload


class _Device:
    """A CUDA device: arrays are Numba's views, and calls return before their kernels end."""

    name = "CUDA arrays"
    is_asynchronous = True
    worth_a_call = 0

    def view(self, name: str, array: Array, writable: bool = False) -> Array:
        flat = arrays.flat_view(name, array, writable=writable)
        return flat.reshape(*array.shape) if tuple(array.shape) else flat.reshape(())

    def flat_view(
        self,
        name: str,
        array: Array,
        like: Array = None,
        writable: bool = False,
        stream: Stream = None,
        near: Array = None,
    ) -> Array:
        if not is_on_device(array):
            raise TypeError(
                f"{name} is a NumPy array, expected a CUDA array like params: nothing is copied "
                "between host and device unasked"
            )
        return arrays.flat_view(name, array, like, writable, stream, like if near is None else near)

    def integers(self, name: str, array: Array, stream: Stream) -> Array:
        return arrays.read_integers(name, array, stream) if is_on_device(array) else array

    def read_stream(self, stream: Stream) -> Stream:
        return None if stream is None else arrays.read_stream(stream)

    def stream_for(self, stream: Stream) -> Stream:
        return 0 if stream is None else arrays.read_stream(stream)

    def check_map(self, prox: Proximal) -> None:
        if not prox.has_device_kernel:
            raise ValueError(
                f"prox is a {type(prox).__name__} with CUDA arrays, expected a map of each "
                "coordinate alone or one with terms, advance and result: others run on the host"
            )

    def place(self, array: Array) -> str:
        return f"CUDA device {arrays.index_of(array)}"

    def address(self, array: Array) -> int:
        return arrays.address(array)

    def overlap(self, a: Array, b: Array) -> bool:
        start, other = arrays.address(a), arrays.address(b)
        return bool(start < other + b.nbytes and other < start + a.nbytes)

    def is_same(self, array: Array, other: Array) -> bool:
        return array.dtype == other.dtype and arrays.address(array) == arrays.address(other)

    def stream_of(self, array: Array) -> Stream:
        stream: Stream = array.stream
        return stream

    def bound(self, array: Array, stream: Stream) -> Array:
        return array if stream is None else array.bind(stream)

    def on_one_stream(self, a: Array, b: Array) -> bool:
        return a.stream is b.stream or arrays.handle_of(a.stream) == arrays.handle_of(b.stream)

    wait = staticmethod(arrays.wait)
    empty = staticmethod(arrays.empty)
    fill = staticmethod(step.fill)

    def filling(self, array: Array, value: float) -> Callable[[], object]:
        return partial(step.fill, array, value)

    copy = staticmethod(arrays.write)

    def duplicate(self, array: Array) -> Array:
        new = arrays.empty(array.size, array.dtype, array)
        arrays.write(new, array)
        return new

    from_host = staticmethod(arrays.moved)
    to_host = staticmethod(arrays.on_host)

    def widen(self, wide: Array, narrow: Array) -> None:
        step.widen(wide, storage(narrow), narrow.dtype.name)

    def rounded(self, wide: Array, dtype: DType) -> Array:
        new = arrays.empty(wide.size, dtype, wide)
        step.narrow(new, wide)
        return new

    def join(self, parts: Sequence[Array], out: Array) -> None:
        start = 0
        for part in parts:
            arrays.write(out[start : start + part.size], part)
            start += part.size

    spread = staticmethod(step.spread)
    upload = staticmethod(Upload)
    mirror = staticmethod(Mirror)

    def is_finite(self, array: Array) -> bool:
        # A factor so small that no square overflows.
        return math.isfinite(self.sum_of_squares(array, 2.0**-700))

    def sum_of_squares(self, g: Array, factor: float) -> float:
        return reductions.SumOfSquares(g.dtype.name)(storage(g), factor)

    average = staticmethod(batches.average)

    def feasible(self, prox: Proximal, flat: Array, shape: tuple[int, ...]) -> Array:
        if type(prox).feasible is not Proximal.feasible:
            given, scalars = prox.parameters(shape, flat.dtype)
            prox_arrays = tuple(arrays.moved(wall.astype(flat.dtype), flat) for wall in given)
            looks.project(prox.prox, flat, prox_arrays, scalars)
        return flat

    def tying_map(
        self, prox: Any, shape: tuple[int, ...], layout: Layout, near: Array
    ) -> Callable[..., None]:
        functions = (prox.alone, prox.terms, prox.advance, prox.result)
        n = math.prod(shape)
        members, starts = prox.tied(n)
        most = prox.most_steps(n)
        return maps.TyingMap(
            functions, prox.start, prox.number, members, starts, most, layout, near
        )

    dense_step = staticmethod(step.DenseStep)
    rate_kernel = staticmethod(step.RateKernel)
    norm_kernel = staticmethod(reductions.NormKernel)
    row_step = staticmethod(table.RowStep)
    catch_up = staticmethod(table.CatchUp)
    row_sums = staticmethod(table.RowSums)

    def prepare(self, kernel: Any, near: Array) -> None:
        with device_of(near):
            kernel.compiled  # noqa: B018  (compiles)


DEVICE = _Device()
