"""Which rows are in a batch, each once and in order, and where in the batch each of them stands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from .compile import compile_kernel

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp, uint64 = types.uintp, types.uint64

# Bits of a row's number that one pass sorts by: a counter for each of 2,048 values fits in the L1
# cache beside what is sorted.
DIGIT = 11


class Coalesced(NamedTuple):
    """The distinct rows of a batch.

    Attributes
    ----------
    rows : ndarray
        In increasing order.
    order : ndarray
        Places in the batch: first those of the first row, in their order, then of the second.
    starts : ndarray
        Where in ``order`` each row starts; one more at the end.
    """

    rows: np.ndarray
    order: np.ndarray
    starts: np.ndarray


def make_coalesce(digit):
    """Sort places by row: a radix sort, stable, so that sums of repeated rows have one order."""

    # A row and its place lie in one word, the row above.
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
_kernels: dict[str, object] = {}


def _kernel(integer: str):
    """Return the kernel for row numbers of a dtype, compiled when it is first wanted."""
    if integer not in _kernels:
        given = getattr(types, integer)[::1].copy(readonly=True)
        signature = types.int64(
            given, types.int64, _words, _words, _places, _places, _places, _places
        )
        _kernels[integer] = compile_kernel(make_coalesce, (DIGIT,), signature, counted=False)
    return _kernels[integer]


def coalesce(rows: np.ndarray, limit: int) -> Coalesced | int:
    """Return the distinct rows of a batch, or the place of one that is not in [0, limit).

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
    found = _kernel(rows.dtype.name)(
        rows, limit, words[0], words[1], counts, distinct, order, starts
    )
    if found < 0:
        return -1 - int(found)
    return Coalesced(distinct[:found], order, starts[: found + 1])
