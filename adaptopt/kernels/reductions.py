"""Reductions over flat arrays: the stopping tests' norm, sums of squares, and penalties."""

from __future__ import annotations

import numpy as np
from numba import prange, types
from numba.extending import overload

from ..scalar import ScalarFunction
from .compile import (
    Kernel,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    tuple_of,
)
from .parallel import Loop
from .step import READ, Layout
from .tuples import gather

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Elements per block of a sum. Neither the blocks nor the sum depend on the number of threads. Each
# lane sums every 64th element of its block; fewer lanes were 3.5x slower.
BLOCK = 16_384
LANES = 64


def is_nonfinite(value):
    """Tell whether a number is infinite or NaN."""
    difference = value - value
    return difference != difference


# The largest of numbers that are not negative is found by their bits, as whole numbers: these have
# the same order, with infinity and then NaN above all others, and LLVM computes their maximum in
# vectors, which it does not for floats (10,000 entries took 10 us, and now 1).


def to_bits(v):
    """Return the bits of a number as a whole number of as many."""
    v = np.asarray(v)
    return v.view(np.int64 if v.dtype == np.float64 else np.int32)[()]


def from_bits(bits, like):
    """Return the number of the type of ``like`` that has these bits."""
    bits = np.asarray(bits)
    return np.asarray(like).dtype.type(bits.view(f"f{bits.itemsize}"))


@overload(to_bits, target="generic")
def _to_bits(v):
    if v == types.float64:
        return lambda v: np.float64(v).view(np.int64)
    return lambda v: np.float32(v).view(np.int32)


@overload(from_bits, target="generic")
def _from_bits(bits, like):
    if like == types.float64:
        return lambda bits, like: np.int64(bits).view(np.float64)
    return lambda bits, like: np.int32(bits).view(np.float32)


def make_norm(residual, read_x, read_g):
    """Return a kernel of the largest absolute residual; ``nan`` if g or x is not finite."""

    def norm(x, g, prox_arrays, coefs, zero, nan):
        largest = to_bits(zero)
        steepest = to_bits(zero)
        for i in range(uintp(x.size)):
            x_i, g_i = read_x(x[i]), read_g(g[i])
            steepest = max(steepest, to_bits(abs(g_i)), to_bits(abs(x_i)))
            distance = abs(residual(x_i, g_i, *gather(prox_arrays, i), *coefs))
            largest = max(largest, to_bits(distance))
        slope = from_bits(steepest, zero)
        return from_bits(largest, zero) if slope - slope == zero else nan

    return norm


def largest_move(x, before, zero):
    """Return the largest difference of two points, or NaN if one has a NaN."""
    largest = to_bits(zero)
    for i in range(uintp(x.size)):
        largest = max(largest, to_bits(abs(x[i] - before[i])))
    return from_bits(largest, zero)


@memoised
def norm_kernel(residual: ScalarFunction, layout: Layout) -> Kernel:
    """Return ``kernel(x, g, prox_arrays, coefs, 0.0, nan)``: the largest distance from stationary.

    It is NaN if an entry of ``g`` or ``x`` is infinite or NaN.
    """
    number = layout.number
    signature = number(
        array_type(layout.x),
        array_type(layout.gradient).copy(readonly=True),
        tuple_of(number[::1], layout.prox_arrays),
        tuple_of(number, layout.coefs[3]),
        number,
        number,
    )
    parts = (residual, READ[layout.x], READ[layout.gradient])
    return compile_kernel(make_norm, parts, signature)


def make_costs(cost, read_x):
    """Compose a coordinate's cost into the sum of all, in float64, in an order of its own."""

    def costs(x, prox_arrays, coefs):
        a, b, c, d = 0.0, 0.0, 0.0, 0.0
        fours = uintp(uintp(x.size) // uintp(4) * uintp(4))
        for i in range(uintp(0), fours, uintp(4)):
            j, k, m = uintp(i + uintp(1)), uintp(i + uintp(2)), uintp(i + uintp(3))
            a += cost(np.float64(read_x(x[i])), *gather(prox_arrays, i), *coefs)
            b += cost(np.float64(read_x(x[j])), *gather(prox_arrays, j), *coefs)
            c += cost(np.float64(read_x(x[k])), *gather(prox_arrays, k), *coefs)
            d += cost(np.float64(read_x(x[m])), *gather(prox_arrays, m), *coefs)
        for i in range(fours, uintp(x.size)):
            a += cost(np.float64(read_x(x[i])), *gather(prox_arrays, i), *coefs)
        return (a + b) + (c + d)

    return costs


@memoised
def cost_kernel(cost: ScalarFunction, layout: Layout) -> Kernel:
    """Return ``kernel(x, prox_arrays, coefs)``: the penalty of a proximal map."""
    signature = types.float64(
        array_type(layout.x),
        tuple_of(layout.number[::1], layout.prox_arrays),
        tuple_of(types.float64, layout.coefs[3]),
    )
    return compile_kernel(make_costs, (cost, READ[layout.x]), signature)


def make_squares_in_lanes(read):
    """Sum the squares of ``factor * g`` in float64, block by block."""

    def squares_in_lanes(g, factor, lanes, sums, lo, hi):
        for block in range(uintp(lo), uintp(hi)):
            start = uintp(block * uintp(BLOCK))
            stop = uintp(min(start + uintp(BLOCK), uintp(g.size)))
            rows = uintp((stop - start) // uintp(LANES))
            for lane in range(uintp(LANES)):
                lanes[lane] = 0.0
            for row in range(rows):
                first = uintp(start + row * uintp(LANES))
                for lane in range(uintp(LANES)):
                    value = factor * np.float64(read(g[first + lane]))
                    lanes[lane] += value * value
            total = 0.0
            for lane in range(uintp(LANES)):
                total += lanes[lane]
            for i in range(uintp(start + rows * uintp(LANES)), stop):
                value = factor * np.float64(read(g[i]))
                total += value * value
            sums[block] = total

    return squares_in_lanes


def make_squares(read):
    """Bring the lanes along: a kernel of many steps has them already."""
    squares_in_lanes = inlinable(make_squares_in_lanes(read))

    def squares(g, factor, sums, lo, hi):
        squares_in_lanes(g, factor, np.empty(LANES), sums, lo, hi)

    return squares


def make_squares_of_parts(read):
    """Sum the squares of parts of an array, of a block at most each: as of arrays by themselves."""
    squares_in_lanes = inlinable(make_squares_in_lanes(read))

    def squares_of_parts(g, starts, factor, sums):
        lanes = np.empty(LANES)
        for k in range(uintp(sums.size)):
            part = g[uintp(starts[k]) : uintp(starts[k + uintp(1)])]
            squares_in_lanes(part, factor, lanes, sums[k : k + uintp(1)], 0, 1)

    return squares_of_parts


def in_order(values):
    """Sum up from the first to the last, compiled or not."""
    total = 0.0
    for value in values:
        total += value
    return total


@memoised
def squares_of_parts(form: str) -> Kernel:
    """Return ``kernel(g, starts, factor, sums)``: part ``k`` begins at ``starts[k]``.

    Parts have at most `BLOCK` elements, so that their sums have the bits of `SumOfSquares`.
    """
    kinds = (array_type(form), types.int64[::1], types.float64, types.float64[::1])
    return compile_kernel(make_squares_of_parts, (READ[form],), types.void(*kinds))


def make_threaded_squares(read):
    """Split the blocks over the threads."""
    squares = inlinable(make_squares(read))

    def threaded_squares(g, factor, sums, n, chunks):
        for c in prange(chunks):
            squares(g, factor, sums, c * n // chunks, (c + 1) * n // chunks)

    return threaded_squares


@memoised
class SumOfSquares(Loop):
    """The sum of the squares of an array's elements, in float64.

    Parameters
    ----------
    form : str
        Format of the array; see `Layout`.
    """

    def __init__(self, form: str) -> None:
        super().__init__(
            make_squares,
            make_threaded_squares,
            (READ[form],),
            (array_type(form).copy(readonly=True), types.float64, types.float64[::1]),
        )

    def __call__(self, g: np.ndarray, factor: float = 1.0) -> float:
        """Return the sum; the same to the last bit for any number of threads."""
        sums = np.empty(-(-g.size // BLOCK))
        self.run(g.size, sums.size, g, factor, sums)
        return float(in_order(sums))
