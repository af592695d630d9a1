"""The loop of minimize in compiled calls: evaluate, check, step, for a given number of steps.

No step copies points. Three rows hold points: a step goes from the current one to a row that is
neither current nor best. Two rows hold gradients. The loop records its position before it calls the
objective, so that a run can continue after an exception.
"""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numba import prange, types
from numba.core.errors import NumbaError
from numba.extending import overload

from .certificate import count_nothing, make_count
from .compile import (
    Kernel,
    Make,
    NumbaType,
    Parts,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
    tuple_of,
)
from .formats import keep, unchanged
from .reductions import in_order, largest_move, make_costs, make_norm, make_squares
from .step import make_coordinate
from .stopping import reason
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Reasons for which a call returns: all steps are taken; a value is not finite or a stopping test is
# met, which Python handles; the gradient has another shape.
DONE, LOOK, MISFIT = 0, 1, 2


class Counts(NamedTuple):
    """Whole numbers of a run, as they lie in the array that the kernel keeps up."""

    t: int  # steps of the optimizer
    taken: int = 0  # steps in this call, those that were left out too
    calls: int = 0  # evaluations in this call
    known: int = 0  # whether value and gradient at the current point are
    current: int = 0  # rows of points
    best: int = 1
    previous: int = 2
    gradient: int = 0  # rows of gradients
    best_gradient: int = 1
    best_t: int = 0


class Numbers(NamedTuple):
    """Other numbers of a run, likewise."""

    f: float
    norm: float
    previous_f: float
    best_f: float
    moved: float = np.nan


# Where they lie.
T, TAKEN, CALLS, KNOWN, CURRENT, BEST, PREVIOUS, GRADIENT, BEST_GRADIENT, BEST_T = range(10)
F, NORM, PREVIOUS_F, BEST_F, MOVED = range(5)


def make_move(decay, rule, prox):
    """Return the step of `Optimizer`, from one row to another instead of in place."""
    coordinate = inlinable(
        make_coordinate(unchanged, decay, rule, prox, keep, keep, unchanged), True
    )

    def move(x, g, out, slots, prox_arrays, rates, decay_coefs, coefs, prox_coefs, lo, hi):
        for i in range(uintp(lo), uintp(hi)):
            coordinate(
                i, x[i], g[i], gather(slots, i), out, slots, prox_arrays, rates, (), np.uint32(0),
                (), decay_coefs, coefs, prox_coefs,
            )  # fmt: skip

    return move


def nothing_measured(g, sums):
    """Return what a method gets that measures nothing."""
    return ()


def make_measure(measures):
    """Return what computes a method's measures of the gradient."""
    if not measures:
        return nothing_measured
    squares, total = inlinable(make_squares(unchanged)), inlinable(in_order)

    def measure(g, sums):
        squares(g, 1.0, sums, 0, sums.size)
        return (total(sums),)

    return measure


def make_descent(
    evaluate, carry, coefficients, decay_coefficients, decay, rule, prox, residual, cost, stopped,
    measures, remembers,
):  # fmt: skip
    """Compose the loop."""
    count = inlinable(make_count() if remembers else count_nothing)
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    move = inlinable(make_move(decay, rule, prox))
    distance = inlinable(make_norm(residual, unchanged, unchanged))
    costs = inlinable(make_costs(cost, unchanged))
    measure = inlinable(make_measure(measures))
    farthest = inlinable(largest_move)

    def descent(
        fun, jac, args, points, flat, gradients, flat_gradients, spare, slots, prox_arrays, rates,
        hyper, weight_decay, prox_coefs, cost_coefs, schedule, scalar_places, sums, memory, tests,
        counts, numbers, most, chunks, zero, nan,
    ):  # fmt: skip
        n = flat.shape[1]
        first = t = counts[T]
        taken = 0
        known = counts[KNOWN] != 0
        current, best, previous = counts[CURRENT], counts[BEST], counts[PREVIOUS]
        row, best_row, best_t = counts[GRADIENT], counts[BEST_GRADIENT], counts[BEST_T]
        f, norm = numbers[F], numbers[NORM]
        previous_f, best_f = numbers[PREVIOUS_F], numbers[BEST_F]
        scalars = gather(scalar_places, 0)
        narrow_coefs, slopes = narrow(prox_coefs, zero), narrow(cost_coefs, zero)
        while True:
            if not known:
                row = 1 - best_row
                counts[CALLS] += 1
                value, fits = evaluate(fun, jac, points[current], (), gradients[row], spare, args)
                if not fits:
                    return MISFIT
                x, g = flat[current], flat_gradients[row]
                f = value + costs(x, prox_arrays, cost_coefs)
                norm = np.float64(distance(x, g, prox_arrays, slopes, zero, nan))
                known = True
                counts[KNOWN], counts[GRADIENT] = 1, row
                numbers[F], numbers[NORM] = f, norm
                if not (isfinite(f) and isfinite(norm)):
                    return LOOK
                count(x, g, f, memory)
                if f < best_f:
                    best_f, best, best_row, best_t = f, current, row, t
                    numbers[BEST_F] = f
                    counts[BEST], counts[BEST_GRADIENT], counts[BEST_T] = current, row, t
                moved = np.float64(nan)
                if tests[3] >= 0.0:
                    moved = np.float64(farthest(x, flat[previous], zero))
                    numbers[MOVED] = moved
                if stopped(f, norm, previous_f, moved, t - best_t, *tests):
                    return LOOK
            if taken == most:
                return DONE
            taken += 1
            known = False
            counts[TAKEN], counts[KNOWN] = taken, 0
            if isfinite(f) and isfinite(norm):
                lr = schedule[min(t - first, schedule.size - 1)]
                t += 1
                x, g = flat[current], flat_gradients[row]
                new, decay_coefs, coefs = prepare(
                    np.float64(t), lr, hyper, weight_decay, scalars, measure(g, sums)
                )
                scalars = narrow(new, 0.0)
                scatter(scalar_places, 0, scalars, np.uint32(0))
                decay_coefs, coefs = narrow(decay_coefs, zero), narrow(coefs, zero)
                previous, previous_f = current, f
                current = 3 - current - best if current != best else (current + 1) % 3
                for c in prange(chunks):
                    move(
                        x, g, flat[current], slots, prox_arrays, rates, decay_coefs, coefs,
                        narrow_coefs, c * n // chunks, (c + 1) * n // chunks,
                    )  # fmt: skip
                counts[T], counts[CURRENT], counts[PREVIOUS] = t, current, previous
                numbers[PREVIOUS_F] = f

    return descent


class DescentKinds(NamedTuple):
    """The types for which a loop is compiled, and the numbers of its arguments."""

    form: str  # of the numbers
    dimensions: int  # of the point
    objective: tuple[NumbaType, ...]  # types of both functions and of their arguments
    slots: int
    prox_arrays: int
    rates: int
    hyper: tuple[type, ...]  # those after lr: bool or float
    prox: int
    costs: int  # numbers that the cost and the residual take
    scalars: int
    counted: bool  # whether evaluating makes arrays for certain
    memory: int = 0  # arrays of the memory of a certificate


@memoised
def descent_kernel(functions: Parts, kinds: DescentKinds, threaded: bool) -> Kernel:
    """Compile the loop of one method and proximal map.

    Parameters
    ----------
    functions : tuple
        How to evaluate; a method's carry, coefficients, coefficients of the decay, decay and rule;
        the map, the residual and the cost; and how many things the method measures.
    kinds : DescentKinds
        What to compile it for.
    threaded : bool
        Whether the coordinates of a step are spread over threads; the result is the same.
    """
    number, array = number_type(kinds.form), array_type(kinds.form)
    shaped = [types.Array(number, kinds.dimensions + more, "C") for more in (0, 1)]
    hyper = [types.boolean if kind is bool else types.float64 for kind in kinds.hyper]
    floats = types.float64[::1]
    signature = types.int64(
        *kinds.objective,
        *(shaped[1], number[:, ::1], shaped[1], number[:, ::1], shaped[0]),
        *[tuple_of(array, count) for count in (kinds.slots, kinds.prox_arrays, kinds.rates)],
        types.Tuple(hyper),
        types.float64,
        *[tuple_of(types.float64, count) for count in (kinds.prox, kinds.costs)],
        floats,
        tuple_of(floats, kinds.scalars),
        floats,
        tuple_of(floats, kinds.memory),
        types.Tuple([types.float64] * 4 + [types.int64]),
        types.int64[::1],
        floats,
        *(types.int64, types.int64, number, number),
    )
    return compile_loop(make_descent, functions, signature, kinds, threaded)


def compile_loop(
    make: Make,
    functions: Parts,
    signature: NumbaType,
    kinds: DescentKinds,
    threaded: bool = False,
) -> Kernel:
    """Compile the loop of a method for one form of objective."""
    parts = (*functions[:-1], reason, functions[-1], int(kinds.memory > 0))
    counted = kinds.counted or bool(functions[-1])
    return compile_quickly(make, parts, signature, threaded, counted)


def compile_quickly(
    make: Make, parts: Parts, signature: NumbaType, threaded: bool, counted: bool
) -> Kernel:
    """Compile a loop, without reference counts if nothing in it makes arrays."""
    if not (counted or threaded):
        try:
            return compile_kernel(make, parts, signature, counted=False)
        except NumbaError:
            pass  # An objective that is a part of the loop makes arrays.
    return compile_kernel(make, parts, signature, parallel=threaded)


# -- many runs at once -----------------------------------------------------------------------------


def row_of(arrays: tuple[np.ndarray, ...], r: int | np.integer) -> tuple[Any, ...]:
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
        fun, jac, args, row_args, points, gradients, spare, slots, prox_arrays, rates, hyper,
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
                gradients[r], spare, row_of(slots, r), prox_arrays, row_of(rates, r), hyper,
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
def many_kernel(functions: Parts, kinds: DescentKinds, row_args: NumbaType) -> Kernel:
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
        tuple_of(wall, kinds.prox_arrays),
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
