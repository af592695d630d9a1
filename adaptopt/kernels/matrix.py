"""Mean losses over the rows of a matrix, dense or CSR, and their gradients.

The prediction of a row is its product with ``x``, plus the last entry of ``x`` where ``x`` is
longer than the row: the intercept. A loss is the row's weight times a scalar function of prediction
and target; the gradient is the sum of the rows, each times the slope of its loss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange, types

from ..arrays import Matrix
from ..scalar import ScalarFunction
from .compile import (
    Kernel,
    NumbaType,
    Parts,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
    tuple_of,
)
from .parallel import Loop

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Rows are summed in blocks, at least so many rows and so many times the length of x entries each,
# so that to clear and to add up the blocks' gradients costs little. The blocks do not depend on
# the number of threads, so neither do the sums. There are 2**k of them, to share out evenly.
ROWS = 128
ENTRIES = 4
TILE = 512  # coordinates whose parts are added up in one go
# Partial sums of a dense product, so that it takes SIMD. On 20,000 x 500 float32, the product and
# the row's part of the gradient: 64 lanes 7.8 ms, 16 lanes 10.6, 16 scalars 15.1; with additions
# that the compiler may reorder, and then does in its own way in every kernel, 7.2.
LANES = 64

NO_INDICES = np.empty(0, np.int32)


# -- products --------------------------------------------------------------------------------------


def dense_dot(data, indices, first, stop, x, lanes):
    """Multiply a dense row, ``data[first:stop]``, with ``x``."""
    columns = uintp(stop - first)
    for lane in range(uintp(LANES)):
        lanes[lane] = 0
    rounds = uintp(columns // uintp(LANES))
    for i in range(rounds):
        k = uintp(i * uintp(LANES))
        for lane in range(uintp(LANES)):
            lanes[lane] += data[first + k + lane] * x[k + lane]
    k = uintp(rounds * uintp(LANES))
    for lane in range(uintp(columns - k)):
        lanes[lane] += data[first + k + lane] * x[k + lane]
    half = uintp(LANES // 2)
    while half >= uintp(8):
        for lane in range(half):
            lanes[lane] += lanes[half + lane]
        half = uintp(half // uintp(2))
    even = (lanes[0] + lanes[2]) + (lanes[4] + lanes[6])
    return even + ((lanes[1] + lanes[3]) + (lanes[5] + lanes[7]))


def make_short_dot(column):
    """Multiply a row of CSR with ``x``, or a dense row too short for lanes.

    One function that branched between `dense_dot` and this took 20 ns a row more, for both.
    """

    def short_dot(data, indices, first, stop, x, lanes):
        zero = x.dtype.type(0)
        a, b, c, d = zero, zero, zero, zero
        rounds = uintp((stop - first) // uintp(4))
        # No range with a step: it divides, which took 20 ns a row.
        for i in range(rounds):
            j = uintp(i * uintp(4))
            k = uintp(first + j)
            a += data[k] * x[column(indices, k, j)]
            b += data[k + uintp(1)] * x[column(indices, k + uintp(1), j + uintp(1))]
            c += data[k + uintp(2)] * x[column(indices, k + uintp(2), j + uintp(2))]
            d += data[k + uintp(3)] * x[column(indices, k + uintp(3), j + uintp(3))]
        for j in range(uintp(rounds * uintp(4)), uintp(stop - first)):
            k = uintp(first + j)
            a += data[k] * x[column(indices, k, j)]
        return (a + b) + (c + d)

    return short_dot


def same_column(indices, k, j):
    """Return the column of the entry ``j`` of a dense row."""
    return j


def listed_column(indices, k, j):
    """Return the column of the entry ``k`` of a CSR matrix."""
    return uintp(indices[k])


short_dot, sparse_dot = make_short_dot(same_column), make_short_dot(listed_column)


# -- what differs between dense and CSR rows -------------------------------------------------------

# A dense matrix comes with empty arrays ``indices`` and ``indptr``.


def dense_entries(indptr, i, columns):
    """Return where the entries of the row ``i`` start and stop."""
    first = uintp(i * columns)
    return first, uintp(first + columns)


def sparse_entries(indptr, i, columns):
    """Do the same for CSR."""
    return uintp(indptr[i]), uintp(indptr[i + uintp(1)])


def dense_add(out, place, s, data, indices, first, stop):
    """Add a row, times ``s``, to ``out`` from ``place`` on."""
    for k in range(uintp(stop - first)):
        out[place + k] += s * data[first + k]


def sparse_add(out, place, s, data, indices, first, stop):
    """Do the same for CSR."""
    for k in range(first, stop):
        out[place + uintp(indices[k])] += s * data[k]


# -- all rows --------------------------------------------------------------------------------------


def make_rows(value, slope, dot, entries, add):
    """Sum blocks of the rows ``order``: losses, and parts of the gradient unless it is empty."""

    def rows(
        data, indices, indptr, x, targets, weights, params, columns, order, starts, partials,
        losses, lo, hi,
    ):  # fmt: skip
        n, columns = uintp(x.size), uintp(columns)
        lanes = np.empty(LANES, x.dtype)
        for block in range(uintp(lo), uintp(hi)):
            place = uintp(block * n)
            if partials.size:
                for k in range(n):
                    partials[place + k] = 0
            total = 0.0
            for r in range(uintp(starts[block]), uintp(starts[block + uintp(1)])):
                i = uintp(order[r])
                first, stop = entries(indptr, i, columns)
                z = dot(data, indices, first, stop, x, lanes)
                if columns < n:
                    z += x[columns]
                total += weights[i] * value(z, targets[i], *params)
                if partials.size:
                    s = weights[i] * slope(z, targets[i], *params)
                    add(partials, place, s, data, indices, first, stop)
                    if columns < n:
                        partials[place + columns] += s
            losses[block] = total

    return rows


def make_threaded_rows(*parts):
    """Split the blocks evenly over the threads."""
    rows = inlinable(make_rows(*parts))

    def threaded_rows(
        data, indices, indptr, x, targets, weights, params, columns, order, starts, partials,
        losses, count, chunks,
    ):  # fmt: skip
        for c in prange(chunks):
            lo, hi = c * count // chunks, (c + 1) * count // chunks
            rows(
                data, indices, indptr, x, targets, weights, params, columns, order, starts,
                partials, losses, lo, hi,
            )  # fmt: skip

    return threaded_rows


def make_gather():
    """Add up the blocks' parts of the gradient in float64, a tile of coordinates at a time."""

    def gather(partials, scale, gradient, lo, hi):
        n = uintp(gradient.size)
        blocks = uintp(uintp(partials.size) // n)
        sums = np.empty(TILE)
        for tile in range(uintp(lo), uintp(hi)):
            start = uintp(tile * uintp(TILE))
            width = uintp(min(uintp(TILE), n - start))
            for k in range(width):
                sums[k] = 0.0
            for block in range(blocks):
                place = uintp(block * n + start)
                for k in range(width):
                    sums[k] += partials[place + k]
            for k in range(width):
                gradient[start + k] = scale * sums[k]

    return gather


def make_threaded_gather():
    """Split the tiles evenly over the threads."""
    gather = inlinable(make_gather())

    def threaded_gather(partials, scale, gradient, count, chunks):
        for c in prange(chunks):
            gather(partials, scale, gradient, c * count // chunks, (c + 1) * count // chunks)

    return threaded_gather


# -- a batch of rows -------------------------------------------------------------------------------


def misplaced(idx, rows):
    """Return the first place in ``idx`` of a number that is none of a row, or -1."""
    for k in range(uintp(idx.size)):
        if uintp(idx[k]) >= uintp(rows):
            return np.intp(k)
    return np.intp(-1)


def make_batch(value, slope, dot, entries, add, misplaced):
    """Write the gradient of the mean loss of some rows; return it, and what `misplaced` found.

    The sum is divided by their number, not by their weights. The mean weight of all rows is 1, so
    the mean over random batches is that over all rows.
    """

    def batch(data, indices, indptr, x, targets, weights, params, columns, idx, gradient, lanes):
        wrong = misplaced(idx, targets.size)
        if wrong >= 0:
            return 0.0, wrong
        n, columns = uintp(x.size), uintp(columns)
        mean = 1 / np.float64(idx.size)
        scale = x.dtype.type(mean)
        for k in range(n):
            gradient[k] = 0
        loss = 0.0
        for r in range(uintp(idx.size)):
            i = uintp(idx[r])
            first, stop = entries(indptr, i, columns)
            z = dot(data, indices, first, stop, x, lanes)
            if columns < n:
                z += x[columns]
            loss += weights[i] * value(z, targets[i], *params)
            s = scale * weights[i] * slope(z, targets[i], *params)
            add(gradient, uintp(0), s, data, indices, first, stop)
            if columns < n:
                gradient[columns] += s
        return mean * loss, wrong

    return batch


def make_single_batch(*parts):
    """Bring the lanes along: a kernel of many batches has them already."""
    batch = inlinable(make_batch(*parts))

    def single_batch(data, indices, indptr, x, targets, weights, params, columns, idx, gradient):
        lanes = np.empty(LANES, x.dtype)
        return batch(
            data, indices, indptr, x, targets, weights, params, columns, idx, gradient, lanes
        )

    return single_batch


# -- kernels and the arrays they are for -----------------------------------------------------------


def read(form: str) -> NumbaType:
    """Return Numba's type of a flat array that is only read."""
    return array_type(form).copy(readonly=True)


class Loss(NamedTuple):
    """A loss: ``value(z, y, *params)``, and ``slope(z, y, *params)``, its derivative by ``z``."""

    value: ScalarFunction
    slope: ScalarFunction
    params: tuple[float, ...]


class Kind(NamedTuple):
    """What the kernels are compiled for."""

    value: ScalarFunction
    slope: ScalarFunction
    dot: ScalarFunction
    params: int  # parameters of value and slope
    form: str  # of all numbers
    indices: str | None  # of CSR; None for a dense matrix

    @property
    def given(self) -> tuple[NumbaType, ...]:
        """Numba's types of the matrix, x, targets, weights, parameters and number of columns."""
        numbers, indices = read(self.form), read(self.indices or NO_INDICES.dtype.name)
        params = tuple_of(number_type(self.form), self.params)
        return numbers, indices, indices, numbers, numbers, numbers, params, types.intp

    @property
    def parts(self) -> Parts:
        """The scalar functions of the loss, and what depends on the format of the matrix."""
        by_format = (sparse_entries, sparse_add) if self.indices else (dense_entries, dense_add)
        return self.value, self.slope, self.dot, *by_format


class Blocks(NamedTuple):
    """How rows are cut into blocks: where each starts, the entries in all, one over the rows."""

    starts: np.ndarray
    work: int
    scale: float


@memoised
def rows_pass(kind: Kind) -> Loop:
    """Return the pass over blocks of rows."""
    written = (array_type(kind.form), types.float64[::1])
    arguments = (*kind.given, read("intp"), read("intp"), *written)
    return Loop(make_rows, make_threaded_rows, kind.parts, arguments)


@memoised
def gather_pass(form: str) -> Loop:
    """Return the pass that adds up the blocks' parts of the gradient."""
    arguments = (read(form), types.float64, array_type(form))
    return Loop(make_gather, make_threaded_gather, (), arguments)


@memoised
def batch_kernel(kind: Kind) -> Kernel:
    """Return the pass over some rows."""
    result = types.Tuple([types.float64, types.intp])
    signature = result(*kind.given, read("intp"), array_type(kind.form))
    return compile_kernel(make_single_batch, (*kind.parts, misplaced), signature)


class Rows:
    """The mean loss over the rows of a matrix, and its gradient.

    Both are the same to the last bit for any number of threads. The losses are summed in float64;
    the gradient is summed in the dtype of the matrix within a block, and in float64 over blocks.

    Parameters
    ----------
    loss : Loss
        Scalar functions and their parameters.
    A : ndarray or CSR
        The matrix, float32 or float64. An array is C-contiguous.
    targets, weights : ndarray
        One entry a row, of the dtype of ``A``; the mean of the weights is 1.
    n : int
        Length of ``x``: one more than that of a row where there is an intercept.

    Attributes
    ----------
    kind : Kind
        What the kernels are compiled for.
    matrix, rest : tuple
        What they take before and after ``x``.
    """

    def __init__(
        self, loss: Loss, A: Matrix, targets: np.ndarray, weights: np.ndarray, n: int
    ) -> None:
        rows, columns = A.shape
        self._n = n
        index = None if isinstance(A, np.ndarray) else A.indices.dtype.name
        dense = short_dot if columns < LANES else dense_dot
        dot = sparse_dot if index else dense
        self.kind = Kind(loss.value, loss.slope, dot, len(loss.params), A.dtype.name, index)
        if index is None:
            self.matrix: tuple[np.ndarray, ...] = (A.reshape(-1), NO_INDICES, NO_INDICES)
            self._work = np.full(rows, columns)
        else:
            self.matrix = (A.data, A.indices, A.indptr)
            self._work = np.diff(A.indptr) + 1
        self.rest = (targets, weights, loss.params, columns)
        self._order = np.arange(rows)
        self._mean_work = max(1, int(self._work.sum()) // max(1, rows))
        self._total = self._blocks_of(self._order)

    def value(self, x: np.ndarray) -> float:
        """Return the mean loss."""
        return self._pass(x, np.empty(0, x.dtype), self._order, self._total)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss and its gradient."""
        return self._sum(x, self._order, self._total)

    def batch(self, x: np.ndarray, idx: np.ndarray) -> tuple[float, np.ndarray, int]:
        """Return loss and gradient over some rows, and where in ``idx`` is none of them, or -1."""
        gradient = np.empty_like(x)
        kernel = batch_kernel(self.kind)
        value, wrong = kernel(*self.matrix, x, *self.rest, idx, gradient)
        return value, gradient, wrong

    def shared_batch(self, x: np.ndarray, idx: np.ndarray) -> tuple[float, np.ndarray, int]:
        """Return the same, summed by blocks, which threads share where there is enough to do."""
        if self.block_count(idx.size) < 2 or not self._holds(idx):
            return self.batch(x, idx)
        return *self._sum(x, idx, self._blocks_of(idx)), -1

    def block_count(self, rows: int) -> int:
        """Return in how many blocks so many rows are summed, by their number alone."""
        count: int = max(1, min(rows // ROWS, rows * self._mean_work // (ENTRIES * self._n)))
        return 1 << (count.bit_length() - 1)

    def _holds(self, idx: np.ndarray) -> bool:
        return int(idx.min()) >= 0 and int(idx.max()) < self._order.size

    def _blocks_of(self, order: np.ndarray) -> Blocks:
        """Cut rows into blocks of equal work."""
        work = np.concatenate([[0], np.cumsum(self._work[order])])
        count = self.block_count(order.size)
        bounds = np.arange(count + 1) * (work[-1] / count)
        starts = np.searchsorted(work, bounds).astype(np.intp)
        return Blocks(starts, int(work[-1]), 1.0 / order.size)

    def _sum(self, x: np.ndarray, order: np.ndarray, blocks: Blocks) -> tuple[float, np.ndarray]:
        partials = np.empty((blocks.starts.size - 1) * self._n, x.dtype)
        value = self._pass(x, partials, order, blocks)
        gradient = np.empty_like(x)
        tiles = -(-self._n // TILE)
        gather_pass(x.dtype.name).run(partials.size, tiles, partials, blocks.scale, gradient)
        return value, gradient

    def _pass(
        self, x: np.ndarray, partials: np.ndarray, order: np.ndarray, blocks: Blocks
    ) -> float:
        losses = np.empty(blocks.starts.size - 1)
        arguments = (*self.matrix, x, *self.rest, order, blocks.starts, partials, losses)
        rows_pass(self.kind).run(blocks.work, losses.size, *arguments)
        return float(blocks.scale * losses.sum())
