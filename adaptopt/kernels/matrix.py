"""Mean losses over the rows of a matrix, dense or CSR, and their gradients.

The prediction of a row is its product with ``x``, plus the last entry of ``x`` where ``x`` is
longer than the row: the intercept. A loss is the row's weight times a scalar function of prediction
and target; the gradient is the sum of the rows, each times the slope of its loss.

With several classes, a prediction has a number for each, and so has each row of ``x``; see
`products`.
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
from .contents import plain
from .loss import Loss
from .parallel import Loop
from .products import CLASSES, LANES, NUMBER, dense_entries, sparse_entries

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Rows are summed in blocks, at least so many rows and so many times the length of x entries each,
# so that to clear and to add up the blocks' gradients costs little. The blocks do not depend on
# the number of threads, so neither do the sums. There are 2**k of them, to share out evenly.
ROWS = 128
ENTRIES = 4
TILE = 512  # coordinates whose parts are added up in one go
NO_INDICES = np.empty(0, np.int32)


# -- all rows --------------------------------------------------------------------------------------


def make_rows(value, slope, predict, entries, add):
    """Sum blocks of the rows ``order``: losses, and parts of the gradient unless it is empty."""

    def rows(
        data, indices, indptr, x, targets, weights, params, columns, width, order, starts, partials,
        losses, lo, hi,
    ):  # fmt: skip
        n, columns = uintp(x.size), uintp(columns)
        work = np.empty(width, x.dtype)
        for block in range(uintp(lo), uintp(hi)):
            place = uintp(block * n)
            if partials.size:
                for k in range(n):
                    partials[place + k] = 0
            total = 0.0
            for r in range(uintp(starts[block]), uintp(starts[block + uintp(1)])):
                i = uintp(order[r])
                first, stop = entries(indptr, i, columns)
                z = predict(data, indices, first, stop, x, columns, work)
                total += weights[i] * value(z, targets[i], *params)
                if partials.size:
                    s = slope(z, targets[i], *params)
                    add(partials, place, weights[i], s, data, indices, first, stop, columns, n)
            losses[block] = total

    return rows


def make_threaded_rows(*parts):
    """Split the blocks evenly over the threads."""
    rows = inlinable(make_rows(*parts))

    def threaded_rows(
        data, indices, indptr, x, targets, weights, params, columns, width, order, starts, partials,
        losses, count, chunks,
    ):  # fmt: skip
        for c in prange(chunks):
            lo, hi = c * count // chunks, (c + 1) * count // chunks
            rows(
                data, indices, indptr, x, targets, weights, params, columns, width, order, starts,
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


def make_batch(value, slope, predict, entries, add, misplaced):
    """Write the gradient of the mean loss of some rows; return it, and what `misplaced` found.

    The sum is divided by their number, not by their weights. The mean weight of all rows is 1, so
    the mean over random batches is that over all rows.
    """

    def batch(data, indices, indptr, x, targets, weights, params, columns, idx, gradient, work):
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
            z = predict(data, indices, first, stop, x, columns, work)
            loss += weights[i] * value(z, targets[i], *params)
            s, weight = slope(z, targets[i], *params), scale * weights[i]
            add(gradient, uintp(0), weight, s, data, indices, first, stop, columns, n)
        return mean * loss, wrong

    return batch


def make_single_batch(*parts):
    """Bring the array to work in along: a kernel of many batches has it already."""
    batch = inlinable(make_batch(*parts))

    def single_batch(
        data, indices, indptr, x, targets, weights, params, columns, width, idx, gradient
    ):
        work = np.empty(width, x.dtype)
        return batch(
            data, indices, indptr, x, targets, weights, params, columns, idx, gradient, work
        )

    return single_batch


# -- kernels and the arrays they are for -----------------------------------------------------------


def read(form: str) -> NumbaType:
    """Return Numba's type of a flat array that is only read."""
    return array_type(form).copy(readonly=True)


class Kind(NamedTuple):
    """What the kernels are compiled for."""

    value: ScalarFunction
    slope: ScalarFunction
    predict: ScalarFunction
    add: ScalarFunction
    params: int  # parameters of value and slope
    form: str  # of all numbers
    indices: str | None  # of CSR; None for a dense matrix

    @property
    def given(self) -> tuple[NumbaType, ...]:
        """Numba's types of the matrix, x, targets, weights, parameters, columns and width."""
        numbers, indices = read(self.form), read(self.indices or NO_INDICES.dtype.name)
        params = tuple_of(number_type(self.form), self.params)
        return (
            *(numbers, indices, indices, numbers, numbers, numbers, params),
            *(types.intp, types.intp),
        )

    @property
    def parts(self) -> Parts:
        """The scalar functions of the loss, and what depends on the format of the matrix."""
        entries = sparse_entries if self.indices else dense_entries
        return self.value, self.slope, self.predict, entries, self.add


def kind_of(loss: Loss, columns: int, form: str, indices: str | None) -> Kind:
    """Return what the kernels are compiled for, of a loss over rows of so many columns."""
    if loss.classes:
        predict, add = CLASSES["sparse" if indices else "dense"]
    else:
        predict, add = NUMBER["sparse" if indices else "short" if columns < LANES else "long"]
    return Kind(plain(loss.value), plain(loss.slope), predict, add, len(loss.params), form, indices)


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
        Length of ``x``: a row of the matrix, and the intercept where there is one; times the
        number of classes where there are classes.

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
        self.kind = kind_of(loss, columns, A.dtype.name, index)
        if index is None:
            self.matrix: tuple[np.ndarray, ...] = (A.reshape(-1), NO_INDICES, NO_INDICES)
            self._work = np.full(rows, columns)
        else:
            self.matrix = (A.data, A.indices, A.indptr)
            self._work = np.diff(A.indptr) + 1
        self._work *= max(1, loss.classes)
        self.rest = (targets, weights, loss.params, columns, loss.classes or LANES)
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
