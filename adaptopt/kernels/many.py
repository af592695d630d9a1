"""The loop of minimize over the rows of arrays, each a run of its own, in one call."""

from __future__ import annotations

from math import isfinite
from typing import Any

from numba import types
from numba.extending import overload

from .compile import array_type, inlinable, memoised, number_type, tuple_of
from .descent import DONE, LOOK, NORM, TAKEN, DescentKinds, F, T, compile_loop, make_descent

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


def row_of(arrays: tuple[Any, ...], r: Any) -> tuple[Any, ...]:
    """Return the entry ``r`` of each array: an array, or a number."""
    return tuple(array[r] for array in arrays)


@overload(row_of)
def _row_of(arrays, r):
    if len(arrays) == 0:
        return lambda arrays, r: ()
    return lambda arrays, r: (arrays[0][r],) + row_of(arrays[1:], r)


def make_many(*parts):
    """Compose at most ``most`` steps of each row ``lo <= r < hi`` that has not ended."""
    descent = inlinable(make_descent(*parts))

    def many(
        fun, jac, args, row_args, points, gradients, spare, slots, walls, rates, hyper,
        weight_decay, prox_coefs, cost_coefs, schedule, first, scalar_places, sums, tests, counts,
        numbers, nits, codes, ended, lo, hi, most, limit, omits, zero, nan,
    ):  # fmt: skip
        for r in range(lo, hi):
            if ended[r]:
                continue
            t = counts[r, T]
            steps, table = min(most, limit - nits[r]), schedule
            if first >= 0:  # the rates are those of the steps from ``first`` on
                steps, table = min(steps, schedule.size - (t - first)), schedule[t - first :]
            counts[r, TAKEN] = 0
            codes[r] = descent(
                fun, jac, row_of(row_args, r) + args, points[r], points[r], gradients[r],
                gradients[r], spare, row_of(slots, r), walls, row_of(rates, r), hyper,
                weight_decay, prox_coefs, cost_coefs, table, row_of(scalar_places, r), sums, (),
                tests, counts[r], numbers[r], steps, 1, zero, nan,
            )  # fmt: skip
            nits[r] += counts[r, TAKEN]
            left_out = (
                omits
                and codes[r] == LOOK
                and not (isfinite(numbers[r, F]) and isfinite(numbers[r, NORM]))
            )
            ended[r] = not (codes[r] == DONE or left_out) or nits[r] >= limit

    return many


@memoised
def many_kernel(functions: tuple[Any, ...], kinds: DescentKinds, row_args: Any) -> Any:
    """Compile the loop for rows; the arguments are those of `descent_kernel`.

    ``kinds`` are those of one row, and ``row_args`` is Numba's type of the tuple of arrays whose
    entries come before the arguments.
    """
    number, wall = number_type(kinds.form), array_type(kinds.form)
    rows, floats, whole = number[:, ::1], types.float64[:, ::1], types.int64[::1]
    hyper = [types.boolean if kind is bool else types.float64 for kind in kinds.hyper]
    signature = types.void(
        *kinds.objective,
        row_args,
        *(number[:, :, ::1], number[:, :, ::1], wall),
        tuple_of(rows, kinds.slots),
        tuple_of(wall, kinds.walls),
        tuple_of(rows, kinds.rates),
        types.Tuple(hyper),
        types.float64,
        *[tuple_of(types.float64, count) for count in (kinds.prox, kinds.costs)],
        *(types.float64[::1], types.int64),
        tuple_of(floats, kinds.scalars),
        types.float64[::1],
        types.Tuple([types.float64] * 4 + [types.int64]),
        *(types.int64[:, ::1], floats, whole, whole, types.boolean[::1]),
        *(types.int64, types.int64, types.int64, types.int64, types.boolean, number, number),
    )
    return compile_loop(make_many, functions, signature, kinds)
