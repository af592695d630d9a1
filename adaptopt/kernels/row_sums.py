"""The sum of the gradients of each row of a batch, and how rows are shared among threads."""

from __future__ import annotations

from numba import prange, types

from .compile import array_type, inlinable, memoised, number_type
from .loops import Loop
from .per_step import narrow
from .step import READ

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


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
