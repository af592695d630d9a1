"""Runs over batches of data on a device: gather rows, add losses, average iterates."""

from __future__ import annotations

import numpy as np
from numba import types

from ..arrays import Array
from ..kernels.averages import moved
from ..kernels.compile import array_type, memoised
from ..kernels.reductions import from_bits, to_bits
from ..kernels.step import READ
from .launch import THREADS, WARP, DeviceKernel, cuda, device_of, launch_size
from .looks import LOSSES, value_of

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def make_gather_rows():
    """Copy rows by their numbers. Neighbouring threads copy neighbouring words of a row."""

    # Not range, which computes its length with a division for each row.
    def device_gather(out, data, order, start, rows, width):
        side, below = uintp(cuda.blockDim.x), uintp(cuda.gridDim.x * cuda.blockDim.y)
        k = uintp(cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y)
        while k < uintp(rows):
            source = uintp(uintp(order[uintp(uintp(start) + k)]) * uintp(width))
            target = uintp(k * uintp(width))
            j = uintp(cuda.threadIdx.x)
            while j < uintp(width):
                out[uintp(target + j)] = data[uintp(source + j)]
                j = uintp(j + side)
            k = uintp(k + below)

    return device_gather


@memoised
def gather_kernel(words: str) -> DeviceKernel:
    """Return ``kernel(out, data, order, start, rows, width)`` for words of unsigned numbers."""
    kind = array_type(words)
    return DeviceKernel(
        make_gather_rows, (), (kind, kind, types.int64[::1], types.int64, types.int64, types.int64)
    )


def gather_size(rows: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return the blocks and threads that gather: in the direction of a row, and across rows."""
    side = min(WARP, 1 << max(width - 1, 0).bit_length())
    below = THREADS // side
    blocks, _ = launch_size(rows * side)
    return min(blocks, -(-rows // below)), (side, below)


def gather_rows(out: Array, data: Array, order: Array, start: int, rows: int, width: int) -> None:
    """Write the rows ``order[start:start + rows]``, of ``width`` words, to the start of ``out``."""
    if rows and width:
        with device_of(out):
            gather_kernel(out.dtype.name).launch(
                *(gather_size(rows, width), out.stream, out, data, order, start, rows, width)
            )


def make_count(read_value):
    """Add a batch's loss, times its rows, to a sum. Write the result to the other of two places.

    The old sum is that of step ``t - 1``, the new one of step ``t``. Repeating it changes nothing.
    """

    def device_count(value, rows, t, goes_on, figures):
        zero = np.float64(0.0)
        before = from_bits(figures[LOSSES + (t + 1) % 2], zero) if goes_on else zero
        figures[LOSSES + t % 2] = to_bits(before + np.float64(read_value(value)) * rows)

    return device_count


@memoised
def count_kernel(form: str | None) -> DeviceKernel:
    """Return ``kernel(value, rows, t, goes_on, figures)``, for one thread."""
    read, kind = value_of(form, types.float64)
    numbers = (types.float64, types.int64, types.boolean)
    return DeviceKernel(make_count, (read,), (kind, *numbers, types.int64[::1]))


def make_accumulate(read_g):
    """Add an array, times a number, to a sum in float64."""

    def device_accumulate(total, g, factor):
        for i in range(uintp(cuda.grid(1)), uintp(total.size), uintp(cuda.gridsize(1))):
            total[i] += np.float64(read_g(g[i])) * factor

    return device_accumulate


@memoised
def accumulate_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(total, g, factor)`` for the format of ``g``."""
    kinds = (types.float64[::1], array_type(form), types.float64)
    return DeviceKernel(make_accumulate, (READ[form],), kinds)


def accumulate(total: Array, g: Array, factor: float) -> None:
    """Add ``factor * g`` to a sum in float64."""
    accumulate_kernel(g.dtype.name).over(g.stream, total, g, factor)


def make_divide():
    """Divide all elements by a number."""

    def device_divide(total, count):
        for i in range(uintp(cuda.grid(1)), uintp(total.size), uintp(cuda.gridsize(1))):
            total[i] = total[i] / count

    return device_divide


@memoised
def divide_kernel() -> DeviceKernel:
    """Return ``kernel(total, count)``."""
    return DeviceKernel(make_divide, (), (types.float64[::1], types.float64))


def divide(total: Array, count: float) -> None:
    """Divide a float64 array by a number."""
    divide_kernel().over(total.stream, total, count)


def make_average(moved):
    """Return a kernel that writes the mean with one more array, next to the old mean."""

    def device_average(new, mean, x, weight):
        for i in range(uintp(cuda.grid(1)), uintp(new.size), uintp(cuda.gridsize(1))):
            new[i] = moved(mean[i], np.float64(x[i]), weight)

    return device_average


@memoised
def average_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(new, mean, x, weight)`` for arrays ``x`` of a format."""
    means = types.float64[::1]
    return DeviceKernel(make_average, (moved,), (means, means, array_type(form), types.float64))


def average(new: Array, mean: Array, x: Array, weight: float) -> None:
    """Write the mean with one more array."""
    average_kernel(x.dtype.name).over(x.stream, new, mean, x, weight)
