"""Rounds of online play along sparse gradients: sums at the cost of the entries of a gradient."""

from __future__ import annotations

import numpy as np
from numba import types

from .certificate import LANES
from .compile import (
    Kernel,
    array_type,
    compile_kernel,
    memoised,
)

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# What a kernel of many steps does with rounds: nothing, add gradients, or add the points too.
NONE, GRADIENTS, POINTS = range(3)

# What the sums of a coordinate are in one array, so that an entry of a gradient costs one cache
# line: sums of gradients, of their squares and of points, and up to which round points are in it.
# An array for each took twice as long.
SUM, SQUARES, MOVED, SINCE = range(4)
FIELDS = 4


def make_play(plays):
    """Compose what adds one coordinate of a round to the sums.

    It takes and returns the scalar sums of the round over coordinates. Without a gradient a
    coordinate has stayed where it is.
    """

    def play(rounds, j, x_j, g_j, terms):
        sums, origin, totals = rounds[0], rounds[1], rounds[2]
        x, g = np.float64(x_j), np.float64(g_j)
        place = j * uintp(FIELDS)
        step = x - origin[j]
        sums[place + uintp(SUM)] += g
        sums[place + uintp(SQUARES)] += g * g
        if plays == POINTS:
            now = totals[4] + 1.0
            k = now - sums[place + uintp(SINCE)]
            sums[place + uintp(SINCE)] = now
            sums[place + uintp(MOVED)] += k * step
            return terms[0] + g * step, terms[1] + k * abs(x), terms[2] + k * (x * x)
        return terms[0] + g * step, terms[1], terms[2]

    return play


def end_round(rounds, loss, terms):
    """Add the scalar sums of a round, and count it."""
    totals = rounds[2]
    totals[0] += terms[0]
    totals[1] += terms[1]
    totals[2] += terms[2]
    totals[3] += loss
    totals[4] += 1.0


def make_settle():
    """Compose what adds the points of all coordinates that have stayed where they are."""

    def settle(x, rounds):
        sums, origin, totals = rounds[0], rounds[1], rounds[2]
        absolute, squares, now = 0.0, 0.0, totals[4]
        for j in range(uintp(x.size)):
            place = j * uintp(FIELDS)
            k, x_j = now - sums[place + uintp(SINCE)], np.float64(x[j])
            sums[place + uintp(SINCE)] = now
            sums[place + uintp(MOVED)] += k * (x_j - origin[j])
            absolute += k * abs(x_j)
            squares += k * (x_j * x_j)
        totals[1] += absolute
        totals[2] += squares

    return settle


def make_play_entries():
    """Compose a round whose gradient has few entries, without its point."""

    def play_entries(x, columns, values, loss, memory):
        linear = 0.0
        for c in range(uintp(columns.size)):
            j, g = uintp(columns[c]), values[c]
            memory[2][j] += g
            memory[3][j] += g * g
            linear += g * (np.float64(x[j]) - memory[0][j])
        memory[5][0] += linear
        memory[5][3] += loss
        memory[5][4] += 1.0

    return play_entries


def make_worst():
    """Compose the least inner product of the sum of gradients with ``u - origin`` in a box.

    Without a gradient a coordinate does not count, so that its bounds may be infinite.
    """

    def worst(gradient_sum, origin, lo, hi, lanes):
        n = uintp(gradient_sum.size)
        for lane in range(uintp(2 * LANES)):
            lanes[lane] = 0.0
        for start in range(uintp((n + uintp(LANES - 1)) // uintp(LANES))):
            first = uintp(start * uintp(LANES))
            for lane in range(uintp(min(uintp(LANES), n - first))):
                z = gradient_sum[first + lane]
                # A choice without a branch, whose way no processor could predict.
                u = lo[first + lane] if z > 0.0 else hi[first + lane]
                u = u if z != 0.0 else origin[first + lane]
                lanes[lane] += z * (u - origin[first + lane])
                lanes[uintp(LANES) + lane] += u - u
        total = 0.0
        for lane in range(uintp(LANES)):
            total += lanes[lane] + lanes[uintp(LANES) + lane]
        return total

    return worst


_WIDE = types.float64[::1]
# An array that may be one number, broadcast.
_BROADCAST = types.Array(types.float64, 1, "A", readonly=True)
# The sums of coordinates, the first point, and scalar sums like those of `certificate`.
ROUNDS = types.Tuple([_WIDE, _BROADCAST, _WIDE])
# The arrays of `certificate.make_count`.
MEMORY = types.UniTuple(_WIDE, 6)


@memoised
def play_entries(form: str) -> Kernel:
    """Return ``kernel(x, columns, values, loss, memory)`` for points of a format."""
    fixed = array_type(form).copy(readonly=True)
    signature = types.void(fixed, types.intp[::1], _WIDE, types.float64, MEMORY)
    return compile_kernel(make_play_entries, (), signature)


@memoised
def settle_points(form: str) -> Kernel:
    """Return ``kernel(x, rounds)`` for points of a format."""
    signature = types.void(array_type(form).copy(readonly=True), ROUNDS)
    return compile_kernel(make_settle, (), signature)


@memoised
def worst_in_box() -> Kernel:
    """Return ``kernel(gradient_sum, origin, lo, hi, lanes)``; it is NaN where that is infinite."""
    fixed = _WIDE.copy(readonly=True)
    return compile_kernel(make_worst, (), types.float64(_BROADCAST, fixed, fixed, fixed, _WIDE))
