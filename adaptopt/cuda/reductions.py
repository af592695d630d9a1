"""Reductions on a device: the same bits in every run; sums of squares have those of the CPU."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from ..arrays import Array, Stream
from ..kernels.compile import array_type, inlinable, memoised, tuple_of
from ..kernels.reductions import BLOCK, LANES, to_bits
from ..kernels.step import READ, Layout
from ..kernels.tuples import gather
from ..scalar import ScalarFunction
from .arity import taking
from .launch import THREADS, DeviceKernel, cuda, device_of

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

WITHOUT_SIGN = np.int64(2**63 - 1)

# Sums of blocks above this may add up to infinity; 1e18 blocks below it do not.
LARGE = 1e290
# A smaller sum may lack squares that underflowed.
LEAST = 2.0**-960


# Conditions replace min and max of two integers, which Numba does not compile for CUDA.


def make_block_squares(read):
    """Sum the squares of ``factor * g`` in float64: a block of threads per block of the CPU.

    Each thread computes one lane, and the lanes are added in the CPU's order. So the sums have the
    same bits on every device. This is the only float64 arithmetic on float32 numbers.
    """

    def block_squares(g, factor, lanes):
        lane = uintp(cuda.threadIdx.x)
        start = uintp(uintp(cuda.blockIdx.x) * uintp(BLOCK))
        stop, size = uintp(start + uintp(BLOCK)), uintp(g.size)
        stop = stop if stop < size else size
        whole = uintp(start + uintp(uintp(stop - start) // uintp(LANES)) * uintp(LANES))
        mine = np.float64(0.0)
        for i in range(uintp(start + lane), whole, uintp(LANES)):
            value = factor * np.float64(read(g[i]))
            mine += value * value
        lanes[lane] = mine
        cuda.syncthreads()
        total = np.float64(0.0)
        if lane == uintp(0):  # the other threads return 0
            for k in range(LANES):
                total += lanes[k]
            for i in range(whole, stop):
                value = factor * np.float64(read(g[i]))
                total += value * value
        return total

    return block_squares


def make_device_squares(read):
    """Sum the squares of each block."""
    squares = inlinable(make_block_squares(read), True)

    def device_squares(g, factor, sums):
        lanes = cuda.shared.array(LANES, types.float64)
        total = squares(g, factor, lanes)
        if cuda.threadIdx.x == 0:
            sums[cuda.blockIdx.x] = total

    return device_squares


def make_wanted_squares(read):
    """Sum the squares of each block, if a number on the device requests it."""
    squares = inlinable(make_block_squares(read), True)

    def wanted_squares(g, factors, which, sums, counts, wanted, big, small):
        lanes = cuda.shared.array(LANES, types.float64)
        if counts[wanted] == 0:
            return
        total = squares(g, factors[which], lanes)
        if cuda.threadIdx.x == 0:
            sums[cuda.blockIdx.x] = total
            if not total < LARGE:
                counts[big] = 1  # all threads that write it write the same value
            if total < LEAST:
                counts[small] = 1

    return wanted_squares


@memoised
class WantedSquares(DeviceKernel):
    """``kernel(stream, g, factors, which, sums, counts, wanted, big, small)``, without waiting.

    If ``counts[wanted]`` is not 0, it writes the sums of the squares of ``factors[which] * g``, one
    per block. It sets ``counts[big]`` if a sum is too large to be added, and ``counts[small]`` if
    squares may have underflowed.
    """

    def __init__(self, form: str) -> None:
        wide, whole, one = types.float64[::1], types.int64[::1], types.int64
        kinds = (array_type(form), wide, one, wide, whole, one, one, one)
        super().__init__(make_wanted_squares, (READ[form],), kinds)

    def __call__(
        self, stream: Stream, g: Array, factors: Array, which: int, sums: Array, *rest: object
    ) -> None:
        """Start it."""
        if g.size:
            self.launch((sums.size, LANES), stream, g, factors, which, sums, *rest)


@memoised
class SumOfSquares(DeviceKernel):
    """The sum of the squares of an array's elements, in float64.

    Parameters
    ----------
    form : str
        Format of the array; see `Layout`.
    """

    def __init__(self, form: str) -> None:
        kinds = (array_type(form), types.float64, types.float64[::1])
        super().__init__(make_device_squares, (READ[form],), kinds)

    def __call__(self, g: Array, factor: float = 1.0) -> float:
        """Return the sum; it waits for the stream of ``g``."""
        if not g.size:
            return 0.0
        with device_of(g):
            sums = cuda.device_array(-(-g.size // BLOCK), np.float64, stream=g.stream)
            self.launch((sums.size, LANES), g.stream, g, factor, sums)
            # Added one after the other, as on the CPU.
            return float(np.cumsum(read_back(sums))[-1])


def make_device_norm(residual, read_x, read_g):
    """Find the largest absolute residual, and gradient or x, by comparing bits as integers."""

    def device_norm(x, g, prox_arrays, coefs, zero, largest):
        distances = cuda.shared.array(THREADS, types.int64)
        slopes = cuda.shared.array(THREADS, types.int64)
        thread = cuda.threadIdx.x
        distance, slope = to_bits(zero), to_bits(zero)
        for i in range(uintp(cuda.grid(1)), uintp(x.size), uintp(cuda.gridsize(1))):
            x_i, g_i = read_x(x[i]), read_g(g[i])
            # PTX may leave the sign of a NaN in abs, but its bits must exceed all others.
            slope_i, size_i = to_bits(abs(g_i)) & WITHOUT_SIGN, to_bits(abs(x_i)) & WITHOUT_SIGN
            slope_i = size_i if size_i > slope_i else slope_i
            residual_i = residual(x_i, g_i, *gather(prox_arrays, i), *coefs)
            distance_i = to_bits(abs(residual_i)) & WITHOUT_SIGN
            slope = slope_i if slope_i > slope else slope
            distance = distance_i if distance_i > distance else distance
        distances[thread] = distance
        slopes[thread] = slope
        cuda.syncthreads()
        if thread == 0:
            most, steepest = distances[0], slopes[0]
            for k in range(1, cuda.blockDim.x):
                most = distances[k] if distances[k] > most else most
                steepest = slopes[k] if slopes[k] > steepest else steepest
            # The order of the blocks does not change a maximum.
            cuda.atomic.max(largest, 0, most)
            cuda.atomic.max(largest, 1, steepest)

    return device_norm


@memoised
class NormKernel(DeviceKernel):
    """``kernel(x, g, prox_arrays, coefs, 0.0, nan)``: the largest distance from stationary.

    It is NaN if an entry of ``g`` or ``x`` is infinite or NaN.
    """

    def __init__(self, residual: ScalarFunction, layout: Layout) -> None:
        number = layout.number
        kinds = (
            array_type(layout.x),
            array_type(layout.gradient),
            tuple_of(number[::1], layout.prox_arrays),
            tuple_of(number, layout.coefs[3]),
            number,
            types.int64[::1],
        )
        residual = taking(residual, 2 + layout.prox_arrays + layout.coefs[3])
        parts = (residual, READ[layout.x], READ[layout.gradient])
        super().__init__(make_device_norm, parts, kinds)
        self._wide = number == types.float64

    def __call__(
        self,
        x: Array,
        g: Array,
        prox_arrays: Array,
        coefs: tuple[float, ...],
        zero: float,
        nan: float,
    ) -> float:
        """Return the norm, after waiting for the stream of ``g``."""
        if not x.size:
            return 0.0
        with device_of(g):
            largest = cuda.to_device(np.zeros(2, np.int64), stream=g.stream)
            self.start(x, g, prox_arrays, coefs, zero, largest)
            distance, slope = self.floats(read_back(largest))
        return distance if math.isfinite(slope) else nan

    def start(
        self,
        x: Array,
        g: Array,
        prox_arrays: Array,
        coefs: tuple[float, ...],
        zero: float,
        largest: Array,
    ) -> None:
        """Raise two integers on the device to the bits of the distance and the slope."""
        self.over(g.stream, x, g, prox_arrays, coefs, zero, largest)

    def floats(self, bits: np.ndarray) -> list[float]:
        """Return the numbers with these bits."""
        narrow = bits.astype(np.int64 if self._wide else np.int32)
        return narrow.view(np.float64 if self._wide else np.float32).tolist()  # type: ignore[no-any-return]


def read_back(array: Array) -> np.ndarray:
    """Return the numbers of a small array, after its stream has computed them."""
    values: np.ndarray = array.copy_to_host(stream=array.stream)
    if array.stream:
        array.stream.synchronize()
    return values
