"""Epochs over sparse rows on several threads without locks: what each adds is written by it alone.

Threads that step on the same arrays lose each other's additions, and pass the popular cache lines
to and fro: on two cores that was 0.4 times the serial speed, and 0.9 times without the 4,096 most
popular of 47,000 columns. So every thread steps on its own copy, and writes down elsewhere what it
has added to each number since the start. Every so often it takes in what the others have written
there. A number has one writer, so no addition is lost, and none has to be atomic.
"""

from __future__ import annotations

from numba import prange, types
from numba.extending import overload

from .compile import compile_kernel, inlinable, memoised
from .sparse_epoch import LAZY, PROX, SparseEpoch, make_sparse_epoch
from .tuples import gather

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Coordinates that are exchanged in one go: a cache line of float32.
BLOCK = 16
# Entries of a thread's counters: no two threads write to one cache line, or to two neighbours.
PAD = 16


def parts_of(table, thread, arrays, q):
    """Return ``table[thread, q], table[thread, q + 1], ...``, one for each of ``arrays``."""
    return tuple(table[thread, q + k] for k in range(len(arrays)))


@overload(parts_of, target="generic")
def _parts_of(table, thread, arrays, q):
    if len(arrays) == 0:
        return lambda table, thread, arrays, q: ()
    return lambda table, thread, arrays, q: (
        (table[thread, q],) + parts_of(table, thread, arrays[1:], q + 1)
    )


def make_exchange(prox):
    """Compose the exchange of blocks between a thread's copy and what the others have added.

    ``own[thread]`` is what a thread has added to each number, ``seen`` what a thread's copy has
    besides that: the number at the start, and what others had added when it looked.
    """

    def exchange(thread, whole, copy, seen, own, prox_arrays, prox_coefs, blocks, like):
        numbers, n = copy.shape
        for q in range(uintp(numbers)):
            for b in range(uintp(blocks.size)):
                first = uintp(blocks[b] * uintp(BLOCK))
                stop = uintp(min(first + uintp(BLOCK), uintp(n)))
                for j in range(first, stop):
                    mine = copy[q, j] - seen[q, j]
                    own[thread, q, j] = mine
                    copy[q, j] = mine
                    seen[q, j] = whole[q][j]
                for other in range(uintp(own.shape[0])):
                    if other != uintp(thread):
                        for j in range(first, stop):
                            seen[q, j] += own[other, q, j]
                for j in range(first, stop):
                    copy[q, j] += seen[q, j]
        for b in range(uintp(blocks.size)):
            first = uintp(blocks[b] * uintp(BLOCK))
            for j in range(first, uintp(min(first + uintp(BLOCK), uintp(n)))):
                copy[0, j] = prox(copy[0, j], like - like, *gather(prox_arrays, j), *prox_coefs)

    return exchange


def make_worker(*parts):
    """Compose one thread's part of an epoch: some rows, then an exchange, and so on."""
    sparse_epoch = inlinable(make_sparse_epoch(*parts))
    exchange, lazy = inlinable(make_exchange(parts[PROX])), parts[LAZY]

    def worker(
        k, every, blocks, counts, whole, copy, seen, own, taken, last, g, touched, slots,
        data, indices, indptr, targets, weights, params, order, batch, rates, hyper, prox_coefs,
        prox_arrays, row, row_slots, row_prox_arrays, row_last, intercept, t, losses, steps, like,
    ):  # fmt: skip
        for q in range(uintp(copy.shape[0])):
            for j in range(uintp(copy.shape[1])):
                copy[q, j] = whole[q][j]
                seen[q, j] = whole[q][j]
        if lazy:
            # Not t: where x follows from the slots it is computed anew, as the merge left it a sum.
            for j in range(uintp(last.size)):
                last[j] = max(t - 1, 0)
        done, exchanges = 0, 0
        while done < order.size:
            others = 0
            for other in range(taken.shape[0]):
                if other != k:
                    others += taken[other, 0]
            end = min(done + every, order.size)
            sparse_epoch(
                data, indices, indptr, targets, weights, params, order[done:end], batch,
                rates[min(others, rates.size - 1) :], hyper, prox_coefs, copy[0], slots,
                prox_arrays,
                last, g, touched, row, row_slots, row_prox_arrays, row_last, intercept, t + others,
                losses, steps, rates[:0], last[:0], 0, 0.0, 0.0, (), (), 0, (), copy[0, :0],
                rates[:0], last[:0], (rates[:0], rates[:0], rates[:0]), rates[:0], 0, like,
            )  # fmt: skip
            taken[k, 0] = steps[0]
            if steps[1] != end:
                break
            done = end
            # Blocks are in the order of their popularity: each exchange takes the popular ones,
            # every second one a level more, every fourth two, like the marks of a ruler.
            exchanges += 1
            level = 0
            while level + 1 < counts.size and not (exchanges >> level) & 1:
                level += 1
            exchange(
                k, whole, copy, seen, own, prox_arrays, prox_coefs, blocks[: counts[level]], like
            )
        for q in range(uintp(copy.shape[0])):
            for j in range(uintp(copy.shape[1])):
                own[k, q, j] = copy[q, j] - seen[q, j]

    return worker


def make_merge(prox):
    """Compose what adds the threads' parts to the numbers at the start, and clears them."""

    def merge(whole, own, prox_arrays, prox_coefs, lo, hi, like):
        threads, numbers = own.shape[0], own.shape[1]
        zero = like - like
        for q in range(uintp(numbers)):
            for k in range(uintp(threads)):
                for j in range(uintp(lo), uintp(hi)):
                    whole[q][j] += own[k, q, j]
                    own[k, q, j] = zero
        for j in range(uintp(lo), uintp(hi)):
            whole[0][j] = prox(whole[0][j], zero, *gather(prox_arrays, j), *prox_coefs)

    return merge


def make_hogwild(*parts):
    """Compose an epoch of all threads."""
    worker, merge = inlinable(make_worker(*parts)), inlinable(make_merge(parts[PROX]))

    def hogwild(
        every, blocks, counts, whole, copies, seen, own, taken, lasts, gs, touched, slots, ends,
        data, indices, indptr, targets, weights, params, order, batch, rates, hyper, prox_coefs,
        prox_arrays, rows, row_lasts, intercept, t, losses, steps, like,
    ):  # fmt: skip
        threads, n = taken.shape[0], whole[0].size
        for k in prange(threads):
            worker(
                k, every, blocks, counts, whole, copies[k], seen[k], own, taken, lasts[k], gs[k],
                touched[k], parts_of(copies, k, slots, 1), data, indices, indptr, targets, weights,
                params, order[ends[k] : ends[k + 1]], batch, rates, hyper, prox_coefs, prox_arrays,
                rows[k, 0], parts_of(rows, k, slots, 1), parts_of(rows, k, prox_arrays,
                1 + len(slots)),
                row_lasts[k], intercept, t, losses[k], steps[k], like,
            )  # fmt: skip
        for k in prange(threads):
            merge(
                whole, own, prox_arrays, prox_coefs, k * n // threads, (k + 1) * n // threads, like
            )

    return hogwild


@memoised
class SharedEpoch:
    """The kernel of a `SparseEpoch` on several threads.

    Parameters
    ----------
    serial : SparseEpoch
        What each thread does between exchanges.
    """

    def __init__(self, serial: SparseEpoch) -> None:
        given = serial.arguments
        number, slots, prox_arrays = given[-1], given[12], given[13]
        table, stack = types.Array(number, 2, "C"), types.Array(number, 3, "C")
        whole = types.UniTuple(number[::1], 1 + len(slots))
        counters = types.Array(types.int64, 2, "C")
        places = types.intp[::1]
        self.run = compile_kernel(
            make_hogwild,
            serial.parts,
            types.void(
                types.int64,
                places,
                places,
                whole,
                stack,
                stack,
                stack,
                counters,
                counters,
                table,
                types.Array(types.intp, 2, "C"),
                slots,
                places,
                *given[:11],
                prox_arrays,
                stack,
                counters,
                types.int64,
                types.int64,
                types.Array(types.float64, 2, "C"),
                counters,
                number,
            ),
            parallel=True,
            counted=False,
        )
