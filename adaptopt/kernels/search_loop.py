"""The loops of searches in compiled calls: of one problem, and of the rows of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import NamedTuple

from numba import types

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
from .descent import DescentKinds, compile_quickly, row_of
from .search import make_search
from .search_numbers import (
    ACCEPTED,
    AGAIN,
    BEST_T,
    EVALUATE,
    GO,
    MOVED,
    NORM,
    PHASE,
    PREVIOUS_F,
    STEPS,
    F,
)
from .search_progress import has_converged, row_to_evaluate
from .stopping import reason

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


class SearchKinds(NamedTuple):
    """What a search is compiled for; see `DescentKinds`."""

    form: str
    slots: int
    prox_arrays: int
    hyper: tuple[type, ...]
    prox: int
    costs: int
    scalars: int


def search_types(kinds: SearchKinds) -> tuple[NumbaType, ...]:
    """Return Numba's types of the arguments of a search, after the value."""
    number, array = number_type(kinds.form), array_type(kinds.form)
    hyper = [types.boolean if kind is bool else types.float64 for kind in kinds.hyper]
    floats = types.float64[::1]
    return (
        *(number[:, ::1], number[:, ::1]),
        tuple_of(array, kinds.slots),
        *(array, array, array),
        tuple_of(array, kinds.prox_arrays),
        types.Tuple(hyper),
        types.float64,
        tuple_of(types.float64, kinds.prox),
        tuple_of(types.float64, kinds.costs),
        tuple_of(floats, kinds.scalars),
        floats,
        types.float64[:, :, ::1],
        types.float64[:, ::1],
        types.int64[::1],
        floats,
        *(types.float64, types.float64, types.float64, types.int64, number, number),
    )


@memoised
def search_kernel(functions: Parts, kinds: SearchKinds, threaded: bool) -> Kernel:
    """Compile the search of one method and proximal map; threads change no bit of it."""
    signature = types.int64(types.float64, *search_types(kinds))
    return compile_kernel(
        make_search, functions, signature, parallel=threaded, early=lambda *given: given[5].size
    )


def measures(parts: Sequence[object]) -> bool:
    """Tell whether a search, made of these, measures the gradient, which makes arrays."""
    return bool(parts[8])


# Why a call of the loop has returned, besides what ends a search: all steps were taken, all
# evaluations made; a test is met; the gradient has another shape.
DONE, LOOK, MISFIT = range(-1, -4, -1)


def make_search_loop(evaluate, stopped, threaded, *parts):
    """Compose the loop that evaluates and searches, as often as is asked for."""
    search, done_by = inlinable(make_search(*parts), True, bool(threaded)), inlinable(has_converged)
    row_of_trial = inlinable(row_to_evaluate)

    def loop(
        tests, most, most_calls, done, fun, jac, args, shaped, shaped_gradients, spare,
        points, gradients, slots, ranges, u, rates, prox_arrays, hyper, weight_decay, prox_coefs,
        cost_coefs, scalar_places, squares, terms, sums, counts, numbers, share, eps, rtol, chunks,
        zero, nan,
    ):  # fmt: skip
        last = counts[STEPS] + most
        while True:
            value = 0.0
            if counts[PHASE] != GO:
                if done[0] == most_calls:
                    return DONE
                row = row_of_trial(counts)
                done[0] += 1
                value, fits = evaluate(
                    fun, jac, shaped[row], (), shaped_gradients[row], spare, args
                )
                if not fits:
                    return MISFIT
            elif counts[STEPS] >= last or done[0] == most_calls:
                return DONE
            task = search(
                value, points, gradients, slots, ranges, u, rates, prox_arrays, hyper,
                weight_decay, prox_coefs, cost_coefs, scalar_places, squares, terms, sums, counts,
                numbers, share, eps, rtol, chunks, zero, nan,
            )  # fmt: skip
            if task == ACCEPTED:
                f, norm = numbers[F], numbers[NORM]
                if not (isfinite(f) and isfinite(norm)) or done_by(numbers, counts, rtol):
                    return LOOK
                since = counts[STEPS] - counts[BEST_T]
                if stopped(f, norm, numbers[PREVIOUS_F], numbers[MOVED], since, *tests):
                    return LOOK
            elif task != EVALUATE and task != AGAIN:
                return task

    return loop


@memoised
def search_loop(
    functions: Parts, kinds: SearchKinds, objective: DescentKinds, threaded: bool
) -> Kernel:
    """Compile the loop of one search and one form of objective."""
    number = number_type(kinds.form)
    shaped = [types.Array(number, objective.dimensions + more, "C") for more in (0, 1)]
    signature = types.int64(
        types.Tuple([types.float64] * 4 + [types.int64]),
        *(types.int64, types.int64, types.int64[::1]),
        *objective.objective,
        *(shaped[1], shaped[1], shaped[0]),
        *search_types(kinds),
    )
    evaluate, *search = functions
    parts = (evaluate, reason, int(threaded), *search)
    counted = objective.counted or measures(search) or threaded
    return compile_quickly(make_search_loop, parts, signature, False, counted)


def make_many_searches(*parts):
    """Compose at most ``most`` steps of each row ``lo <= r < hi`` that has not ended."""
    loop = inlinable(make_search_loop(*parts), True)

    def many(
        fun, jac, args, row_args, spare, tests, rtol, most, most_calls, done, points, gradients,
        slots, ranges, u, rates, prox_arrays, hyper, weight_decay, prox_coefs, cost_coefs,
        scalar_places, squares, terms, sums, counts, numbers, share, eps, zero, nan, limit, codes,
        ended, lo, hi,
    ):  # fmt: skip
        for r in range(lo, hi):
            if ended[r]:
                continue
            steps = min(most, limit - counts[r, STEPS])
            codes[r] = loop(
                tests, steps, most_calls, done[r], fun, jac, row_of(row_args, r) + args,
                points[r], gradients[r], spare, points[r], gradients[r], row_of(slots, r),
                ranges[r], u[r], rates[r], prox_arrays, hyper, weight_decay, prox_coefs, cost_coefs,
                row_of(scalar_places, r), squares, terms, sums, counts[r], numbers[r], share, eps,
                rtol, 1, zero, nan,
            )  # fmt: skip
            out = counts[r, STEPS] >= limit or done[r, 0] >= most_calls
            ended[r] = codes[r] != DONE or out

    return many


@memoised
def many_searches(
    functions: Parts, kinds: SearchKinds, objective: DescentKinds, row_args: NumbaType
) -> Kernel:
    """Compile the loop of searches for rows; see `many_kernel`."""
    number, array = number_type(kinds.form), array_type(kinds.form)
    rows, floats, whole = number[:, ::1], types.float64[:, ::1], types.int64[:, ::1]
    hyper = [types.boolean if kind is bool else types.float64 for kind in kinds.hyper]
    signature = types.void(
        *objective.objective,
        *(row_args, array),
        types.Tuple([types.float64] * 4 + [types.int64]),
        *(types.float64, types.int64, types.int64, whole),
        *(number[:, :, ::1], number[:, :, ::1]),
        tuple_of(rows, kinds.slots),
        *(rows, rows, rows),
        tuple_of(array, kinds.prox_arrays),
        types.Tuple(hyper),
        types.float64,
        tuple_of(types.float64, kinds.prox),
        tuple_of(types.float64, kinds.costs),
        tuple_of(floats, kinds.scalars),
        types.float64[::1],
        types.float64[:, :, ::1],
        types.float64[:, ::1],
        *(whole, floats, types.float64, types.float64, number, number),
        *(types.int64, types.int64[::1], types.boolean[::1], types.int64, types.int64),
    )
    evaluate, *search = functions
    parts = (evaluate, reason, 0, *search)
    counted = objective.counted or measures(search)
    return compile_quickly(make_many_searches, parts, signature, False, counted)
