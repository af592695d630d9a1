"""Many steps over batches of rows in one call: evaluate, check, step along the dense gradient.

The loop consists of the same functions as the loop in Python: the evaluation of a batch, the
preparation of a step (`make_prepare`), the step itself (`make_step`) and the running mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types

from ..scalar import ScalarFunction
from .averages import moved, weight_of
from .certificate import count_nothing, make_count
from .compile import (
    Kernel,
    NumbaType,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
    number_type,
    tuple_of,
)
from .matrix import Kind, Rows, make_batch, misplaced
from .reductions import BLOCK, in_order, is_nonfinite, make_squares_in_lanes
from .reductions import LANES as SQUARES_LANES
from .rounds import MEMORY
from .step import READ, Layout, make_step, step_parts, step_types
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


# -- parts of the loop -----------------------------------------------------------------------------


def make_evaluate_rows(*parts):
    """Compose the mean loss of some rows of a matrix, and its gradient, which is dense."""
    batch = make_batch(*parts)

    def evaluate_rows(fun, jac, x, rows, g, spare, args):
        data, indices, indptr, targets, weights, params, columns, _, work = args
        loss, _ = batch(
            data, indices, indptr, x, targets, weights, params, columns, rows[0], g, work
        )
        return loss, True

    return evaluate_rows


def make_evaluate_cast_rows(*parts):
    """Compose the same for ``x`` of another dtype than the rows: both are converted at each batch.

    So a problem does when it is called from Python.
    """
    batch = make_batch(*parts)

    def evaluate_cast_rows(fun, jac, x, rows, g, spare, args):
        data, indices, indptr, targets, weights, params, columns, _, work, point, slope = args
        for i in range(uintp(x.size)):
            point[i] = x[i]
        loss, _ = batch(
            data, indices, indptr, point, targets, weights, params, columns, rows[0], slope, work
        )
        for i in range(uintp(x.size)):
            g[i] = slope[i]
        return loss, True

    return evaluate_cast_rows


@memoised
def cleared(evaluate: ScalarFunction) -> ScalarFunction:
    """Have a function that writes its gradient find NaN there, as it does when called from Python.

    So an entry that it does not write is noticed.
    """
    evaluate = inlinable(evaluate)

    def evaluate_cleared(fun, jac, x, rows, g, spare, args):
        for i in range(g.size):
            g.flat[i] = np.nan
        return evaluate(fun, jac, x, rows, g, spare, args)

    return evaluate_cleared


def no_measure(g, lanes, sums):
    """Measure nothing of a gradient."""
    return ()


def make_squared_norm(read):
    """Compose the sum of the squares of a gradient."""
    squares, total = make_squares_in_lanes(read), in_order

    def squared_norm(g, lanes, sums):
        squares(g, 1.0, lanes, sums, 0, sums.size)
        return (total(sums),)

    return squared_norm


# -- the loop --------------------------------------------------------------------------------------


def make_dense_epoch(
    evaluate, is_nonfinite, measure, carry, coefficients, decay_coefficients, moved, weight_of,
    play, *step_parts,
):  # fmt: skip
    """Compose the steps over batches of rows, from ``order[0]`` on.

    It returns False if a gradient has another shape than ``x``.
    """
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    step = inlinable(make_step(*step_parts))
    play = inlinable(play)

    def dense_epoch(
        fun, jac, args, order, batch, point, slope, spare, rates, hyper, weight_decay, prox_coefs,
        x, g, slots, prox_arrays, written, scalars, previous, lanes, sums, mean, eta, averaged, t,
        losses, taken, memory, like,
    ):  # fmt: skip
        done, first = 0, taken[0]
        n = uintp(x.size)
        while done < order.size:
            end = min(done + batch, order.size)
            loss, fits = evaluate(fun, jac, point, (order[done:end],), slope, spare, args)
            if not fits:
                return False
            # Python's loop stops where the residual of a finite gradient overflows, too, as
            # g + l2 * x may near the largest float. Here it goes on until a loss overflows.
            nonfinite = False
            for i in range(n):
                nonfinite |= is_nonfinite(g[i])
            if nonfinite or is_nonfinite(loss):
                losses[0] = loss
                break
            play(x, g, loss, memory)
            for i in range(n):
                previous[i] = x[i]
            lr = rates[min(taken[0] - first, rates.size - 1)]
            new, decay_coefs, coefs = prepare(
                np.float64(t + taken[0] + 1), lr, hyper, weight_decay, gather(scalars, 0),
                measure(g, lanes, sums),
            )  # fmt: skip
            scatter(scalars, 0, narrow(new, 0.0), np.uint32(0))
            step(
                x, g, slots, prox_arrays, written, (), (), (), narrow(decay_coefs, like),
                narrow(coefs, like), prox_coefs, 0, n,
            )  # fmt: skip
            if mean.size:
                weight = weight_of(np.float64(averaged + taken[0] + 1), eta)
                for i in range(n):
                    mean[i] = moved(mean[i], x[i], weight)
            losses[0] = loss
            losses[1] += loss * (end - done)
            taken[0] += 1
            taken[1] += end - done
            done = end
        return True

    return dense_epoch


# -- what it is compiled for -----------------------------------------------------------------------


class Evaluation(NamedTuple):
    """How a batch is evaluated: `CompiledFunction` says what ``function`` takes and returns."""

    function: ScalarFunction
    given: tuple[object, object, tuple[object, ...]]
    """``fun``, ``jac`` and ``args``."""
    types: tuple[NumbaType, ...]
    """Numba's types of these."""
    counted: bool
    """Whether it makes arrays."""
    flat: bool
    """Whether it takes points as flat arrays."""


class MethodParts(NamedTuple):
    """The functions and types of a method's steps."""

    carry: ScalarFunction
    coefficients: ScalarFunction
    decay_coefficients: ScalarFunction
    hyper: tuple[type, ...]
    """Types of the hyperparameters after ``lr``."""
    scalars: int
    measures: int
    """Whether the squared norm is measured."""


@memoised
def _evaluate_rows(kind: Kind, casts: bool) -> ScalarFunction:
    """Return one function for a kind of rows, so that one kernel is found for it."""
    make = make_evaluate_cast_rows if casts else make_evaluate_rows
    evaluate: ScalarFunction = make(*kind.parts, misplaced)
    return evaluate


def over_rows(rows: Rows, x: np.ndarray) -> Evaluation:
    """Return how a batch of the rows of a matrix is evaluated at ``x``."""
    kind, casts = rows.kind, x.dtype.name != rows.kind.form
    data, indices, indptr, _, *rest = kind.given  # without x
    work = [np.empty(n, kind.form) for n in (rows.rest[-1], *(x.size,) * 2 * casts)]
    kinds = types.Tuple([data, indices, indptr, *rest, *[array_type(kind.form)] * len(work)])
    args = (*rows.matrix, *rows.rest, *work)
    return Evaluation(
        *(_evaluate_rows(kind, casts), (None, None, args), (types.none, types.none, kinds)),
        counted=False,
        flat=True,
    )


def work_arrays(n: int, measures: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the measures of a gradient of ``n`` entries need."""
    return np.empty(SQUARES_LANES * measures), np.empty(-(-n // BLOCK) * measures)


# What is done with a round of online play, by whether there is online play.
_COUNT = (count_nothing, make_count())


@memoised
def dense_epoch(
    evaluate: ScalarFunction,
    kinds: tuple[NumbaType, ...],
    counted: bool,
    dimensions: int,
    method: MethodParts,
    functions: tuple[ScalarFunction, ...],
    layout: Layout,
    plays: bool,
) -> Kernel:
    """Compile the steps of one method and proximal map over batches that one function evaluates.

    Parameters
    ----------
    evaluate, kinds, counted
        Of an `Evaluation`: its function and types, and whether it makes arrays.
    dimensions : int
        Of ``x`` as it sees it.
    method : MethodParts
        What the method computes once a step.
    functions, layout
        As for `DenseStep`.
    plays : bool
        Whether batches are rounds of online play, which are added to sums.
    """
    number = layout.number
    x, _, slots, prox_arrays, rates, _, _, _, _, _, prox_coefs = step_types(layout)
    form = layout.x
    shaped = types.Array(number_type(form), dimensions, "C")
    point = shaped.copy(readonly=True)
    measure = make_squared_norm(READ[layout.gradient]) if method.measures else no_measure
    hyper = types.Tuple([types.boolean if kind is bool else types.float64 for kind in method.hyper])
    wide = types.float64[::1]
    parts = (
        evaluate, is_nonfinite, measure, method.carry, method.coefficients,
        method.decay_coefficients, moved, weight_of, _COUNT[plays], *step_parts(functions, layout),
    )  # fmt: skip
    signature = types.boolean(
        *kinds, types.intp[::1], types.int64, point, shaped, shaped, wide, hyper, types.float64,
        prox_coefs, x, array_type(form), slots, prox_arrays, rates, tuple_of(wide, method.scalars),
        array_type(form), wide, wide, wide, types.float64, types.int64, types.int64,
        wide, types.int64[::1], MEMORY, number,
    )  # fmt: skip
    return compile_kernel(make_dense_epoch, parts, signature, counted=counted)
