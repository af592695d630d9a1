"""The rows of a batch: distinct and in order, with the sums of their gradients."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange, types

from .compile import (
    Kernel,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
)
from .parallel import Loop
from .step import READ
from .tuples import narrow

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp, uint64 = types.uintp, types.uint64

# Bits of a row number by which one pass sorts. The counters for 2,048 values fit in the L1 cache
# together with the data.
DIGIT = 11


class Coalesced(NamedTuple):
    """The distinct rows of a batch.

    Attributes
    ----------
    rows : ndarray
        In increasing order.
    order : ndarray
        Positions in the batch: first those of the first row, in their order, then of the second.
    starts : ndarray
        Start of each row in ``order``, and the end of the last one.
    """

    rows: np.ndarray
    order: np.ndarray
    starts: np.ndarray


def make_coalesce(digit):
    """Sort positions by row. The sort is stable, so sums of repeated rows have a fixed order."""

    # A word holds a row and its position, the row in the upper bits.
    def coalesce(given, limit, keys, others, counts, rows, order, starts):
        n = uintp(given.size)
        increasing = True
        before = np.int64(-1)
        for p in range(n):
            row = np.int64(given[p])
            if row < 0 or row >= limit:
                return np.int64(-1) - np.int64(p)
            increasing = increasing and row > before
            before = row
        if increasing:
            for p in range(n):
                rows[p] = given[p]
                order[p] = p
                starts[p] = p
            starts[n] = n
            return np.int64(n)
        for p in range(n):
            keys[p] = uint64(given[p]) << uint64(32) | uint64(p)
        bits = 0
        while (limit - 1) >> bits > 0:
            bits += 1
        passes = max(1, -(-bits // digit))
        width = -(-bits // passes)
        mask = uint64((1 << width) - 1)
        for turn in range(passes):
            shift = uint64(32 + turn * width)
            for c in range(uintp(mask) + uintp(1)):
                counts[c] = 0
            for p in range(n):
                counts[uintp(keys[p] >> shift & mask)] += 1
            total = np.int64(0)
            for c in range(uintp(mask) + uintp(1)):
                here = counts[c]
                counts[c] = total
                total += here
            for p in range(n):
                c = uintp(keys[p] >> shift & mask)
                others[uintp(counts[c])] = keys[p]
                counts[c] += 1
            keys, others = others, keys
        found = uintp(0)
        low = uint64((1 << 32) - 1)
        before = np.int64(-1)
        for p in range(n):
            row = np.int64(keys[p] >> uint64(32))
            order[p] = np.int64(keys[p] & low)
            if row != before:
                rows[found] = row
                starts[found] = p
                found += uintp(1)
                before = row
        starts[found] = n
        return np.int64(found)

    return coalesce


_places = types.int64[::1]
_words = types.uint64[::1]


@memoised
def coalesce_kernel(integer: str) -> Kernel:
    """Return the kernel for row numbers of a dtype."""
    given = getattr(types, integer)[::1].copy(readonly=True)
    signature = types.int64(given, types.int64, _words, _words, _places, _places, _places, _places)
    return compile_kernel(make_coalesce, (DIGIT,), signature, counted=False)


def coalesce(rows: np.ndarray, limit: int) -> Coalesced | int:
    """Return the distinct rows of a batch, or the position of one outside [0, limit).

    Parameters
    ----------
    rows : ndarray of int32 or int64
        Less than 2**32 of them.
    limit : int
        At most 2**31.
    """
    n = rows.size
    words = np.empty((2, n), np.uint64)
    places = np.empty(3 * n + 1 + (1 << DIGIT), np.int64)
    counts, distinct, order, starts = np.split(places, np.cumsum([1 << DIGIT, n, n]))
    found = coalesce_kernel(rows.dtype.name)(
        rows, limit, words[0], words[1], counts, distinct, order, starts
    )
    if found < 0:
        return -1 - int(found)
    return Coalesced(distinct[:found], order, starts[: found + 1])


# -- sums ------------------------------------------------------------------------------------------


def make_summed(read):
    """Compose the sum of a row's gradients, in the order of their places."""

    def summed(g, order, first, stop, width, out, start):
        place = uintp(uintp(order[first]) * width)
        for j in range(width):
            out[start + j] = read(g[place + j])
        for q in range(first + uintp(1), stop):
            place = uintp(uintp(order[q]) * width)
            for j in range(width):
                out[start + j] += read(g[place + j])

    return summed


def make_sum_at(read):
    """Compose that sum for one coordinate of the row, as a number of the table's arithmetic."""

    def sum_at(g, order, first, stop, width, j, like):
        (total,) = narrow((read(g[uintp(uintp(uintp(order[first]) * width) + j)]),), like)
        for q in range(uintp(first + uintp(1)), stop):
            total += read(g[uintp(uintp(uintp(order[q]) * width) + j)])
        return total

    return sum_at


def share_of(starts, count, c, chunks):
    """Return the first row of a chunk's share, by how many gradients and rows there are to read."""
    if starts.size == 0:
        return c * count // chunks
    least = c * (starts[count] + 3 * count) // chunks
    lo, hi = 0, count
    while lo < hi:
        middle = (lo + hi) // 2
        if starts[middle] + 3 * middle < least:
            lo = middle + 1
        else:
            hi = middle
    return lo


def make_sums(read):
    """Compose the sums of the gradients of the rows lo <= u < hi of a batch."""
    summed = inlinable(make_summed(read), True)

    def sums(g, order, starts, width, out, lo, hi):
        for u in range(uintp(lo), uintp(hi)):
            summed(
                g, order, uintp(starts[u]), uintp(starts[u + uintp(1)]), width, out,
                uintp(u * width),
            )  # fmt: skip

    return sums


def make_threaded_sums(read):
    """Split the rows over the threads."""
    sums, share = inlinable(make_sums(read)), inlinable(share_of)

    def threaded_sums(g, order, starts, width, out, count, chunks):
        for c in prange(chunks):
            sums(
                g, order, starts, width, out,
                share(starts, count, c, chunks), share(starts, count, c + 1, chunks),
            )  # fmt: skip

    return threaded_sums


@memoised
class RowSums(Loop):
    """The sums of the gradients of each row of a batch, in the order of their places.

    Parameters
    ----------
    gradient : str
        Format of the gradients; see `Layout`.
    number : str
        That of the sums.
    """

    def __init__(self, gradient: str, number: str) -> None:
        places = types.int64[::1]
        super().__init__(
            make_sums,
            make_threaded_sums,
            (READ[gradient],),
            (
                array_type(gradient).copy(readonly=True),
                places,
                places,
                types.uintp,
                number_type(number)[::1],
            ),
            counted=False,
        )
