"""Products of a row of a matrix with a point, and sums of rows, for dense and CSR matrices.

``predict`` multiplies a row with ``x`` and adds the intercept, which is the last entry of ``x``
where ``x`` is longer than the row. ``add`` adds the row, times a slope and a weight, to a gradient.

A prediction is a number. For losses of several classes it is an array with a number for each; the
flat ``x`` then has that many numbers for each column, one after the other.
"""

from __future__ import annotations

from numba import types

from ..scalar import ScalarFunction
from .tuples import narrow

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Partial sums of a dense product, so that it takes SIMD. On 20,000 x 500 float32, the product and
# the row's part of the gradient: 64 lanes 7.8 ms, 16 lanes 10.6, 16 scalars 15.1; with additions
# that the compiler may reorder, and then does in its own way in every kernel, 7.2.
LANES = 64


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


# -- predictions of one number ---------------------------------------------------------------------


def make_predict(dot):
    """Compose the prediction of a row from its product with ``x``."""

    def predict(data, indices, first, stop, x, columns, work):
        z = dot(data, indices, first, stop, x, work)
        if columns < uintp(x.size):
            z += x[columns]
        return z

    return predict


def make_add(add_row):
    """Compose the addition of a row's part to a gradient of ``n`` entries."""

    def add(out, place, weight, slope, data, indices, first, stop, columns, n):
        # A slope of the user's may be a float64 or an integer.
        (s,) = narrow((weight * slope,), weight)
        add_row(out, place, s, data, indices, first, stop)
        if columns < n:
            out[place + columns] += s

    return add


# -- predictions of a number for each class --------------------------------------------------------


def make_predict_classes(column):
    """Compose the prediction of a row, which is written to ``z`` and returned."""

    def predict_classes(data, indices, first, stop, x, columns, z):
        classes, zero = uintp(z.size), x.dtype.type(0)
        place = uintp(columns * classes)
        has_intercept = place < uintp(x.size)
        for c in range(classes):
            z[c] = x[place + c] if has_intercept else zero
        for j in range(uintp(stop - first)):
            k = uintp(first + j)
            entry, place = data[k], uintp(column(indices, k, j) * classes)
            for c in range(classes):
                z[c] += entry * x[place + c]
        return z

    return predict_classes


def make_add_classes(column):
    """Compose the addition of a row's part; ``slope``, an array, is overwritten."""

    def add_classes(out, place, weight, slope, data, indices, first, stop, columns, n):
        classes = uintp(slope.size)
        for c in range(classes):
            slope[c] *= weight
        for j in range(uintp(stop - first)):
            k = uintp(first + j)
            entry, at = data[k], uintp(place + column(indices, k, j) * classes)
            for c in range(classes):
                out[at + c] += entry * slope[c]
        at = uintp(columns * classes)
        if at < n:
            for c in range(classes):
                out[place + at + c] += slope[c]

    return add_classes


# ``predict`` and ``add`` of each format: functions of their own, so that one kernel is found.
_dense_add, _sparse_add = make_add(dense_add), make_add(sparse_add)
NUMBER: dict[str, tuple[ScalarFunction, ScalarFunction]] = {
    "long": (make_predict(dense_dot), _dense_add),
    "short": (make_predict(short_dot), _dense_add),
    "sparse": (make_predict(sparse_dot), _sparse_add),
}
CLASSES: dict[str, tuple[ScalarFunction, ScalarFunction]] = {
    name: (make_predict_classes(column), make_add_classes(column))
    for name, column in (("dense", same_column), ("sparse", listed_column))
}
