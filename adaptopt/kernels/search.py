"""The search behind ``lr="auto"``: one rate for all coordinates, found from values and gradients.

A method's rule at ``lr = 1`` gives each coordinate a displacement ``u`` and a rate ``1 / D``. The
search steps to ``prox(x + alpha u)``. It takes ``alpha`` from the quotients of Barzilai & Borwein
(1988) in the metric D, chosen between as Frassoldati, Zanni & Zanghirati (2008) do (ABBmin), and
holds it by the non-monotone line search of Grippo, Lampariello & Lucidi (1986).

The search does not call the objective. It writes a trial point and returns `EVALUATE`; the caller
evaluates there and calls again. So the loop in Python and the compiled one do the same, to the bit.
"""

from __future__ import annotations

from math import isfinite

import numpy as np
from numba import prange, types

from .compile import inlinable
from .descent import make_measure
from .formats import unchanged
from .reductions import in_order, make_costs, make_norm
from .search_numbers import (
    ACCEPTED,
    AGAIN,
    ALPHA,
    ASKED,
    AT_REST,
    BEGUN_F,
    BEST,
    BEST_F,
    BEST_T,
    CLEAR,
    DOWNHILL,
    ENOUGH,
    EVALUATE,
    EVER,
    FAILED,
    FINITE,
    FIRST_F,
    FIRST_STEP,
    GO,
    HIGHEST,
    JUMPS,
    KEPT,
    KEPT_ALPHA,
    KEPT_MOVED,
    KEPT_NORM,
    MICRO,
    MOST_GROWTH,
    MOST_TRIALS,
    MOVED,
    MOVES,
    NORM,
    NOT_FINITE,
    ODD,
    PENALTY,
    PHASE,
    PREVIOUS,
    PROMISED,
    PROMISES,
    RANGE,
    RISE,
    ROUNDING,
    SCALE,
    SHRINKING,
    SINCE,
    SLOPE,
    SMALLEST_RANGE,
    START,
    STEEPEST,
    STEPS,
    STILL_MOVE,
    TRIAL,
    TRIAL_PENALTY,
    TRIALS,
    TRIED,
    TRIED_MOVE,
    F,
    T,
    X,
)
from .search_passes import (
    SUMS,
    along,
    has_several_units,
    largest_of,
    largest_size,
    make_reach,
    make_turn,
)
from .search_progress import (
    accept,
    accept_kept,
    compare_slopes,
    free_row,
    highest_value,
    keep_value,
    make_begin,
    make_empty,
    next_rate,
    note_rise,
    power_of_two_below,
    seems_to_converge,
)
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def make_search(
    carry, coefficients, decay_coefficients, decay, rule, prox, residual, cost, measures, ranged,
    momentum, initial, initial_scalars, penalised,
):  # fmt: skip
    """Compose the search for one method and map."""
    begin = inlinable(make_begin(initial, initial_scalars))
    scale_for, note = inlinable(power_of_two_below), inlinable(note_rise)
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    turn = inlinable(make_turn(decay, rule, residual, ranged, penalised), True)
    reach = inlinable(make_reach(prox), True)
    distance = inlinable(make_norm(residual, unchanged, unchanged), True)
    costs = inlinable(make_costs(cost, unchanged), True)
    empty = inlinable(make_empty(momentum, initial))
    has_momentum = any(momentum)
    decayed, measured = inlinable(decay), inlinable(make_measure(measures))
    decay_numbers = inlinable(decay_coefficients)
    compare = inlinable(compare_slopes)
    slope_at, size, top = inlinable(along), inlinable(largest_size), inlinable(largest_of)
    in_units = inlinable(has_several_units)
    total, rate_after = inlinable(in_order), inlinable(next_rate)
    push, highest, free = inlinable(keep_value), inlinable(highest_value), inlinable(free_row)
    step, step_kept = inlinable(accept), inlinable(accept_kept)
    seems = inlinable(seems_to_converge)

    def search(
        value, points, gradients, slots, ranges, u, rates, prox_arrays, hyper, weight_decay,
        prox_coefs, cost_coefs, scalar_places, squares, terms, sums, counts, numbers, share, eps,
        rtol, chunks, zero, nan,
    ):  # fmt: skip
        blocks = sums.shape[1]
        narrow_coefs, slopes = narrow(prox_coefs, zero), narrow(cost_coefs, zero)
        row, lr = counts[X], 1.0
        decay_coefs = narrow(decay_numbers(lr, weight_decay), zero)
        if counts[PHASE] == START:
            x, g = points[row], gradients[row]
            numbers[PENALTY] = costs(x, prox_arrays, cost_coefs)
            numbers[F] = numbers[BEST_F] = numbers[FIRST_F] = value + numbers[PENALTY]
            numbers[BEGUN_F] = np.inf
            numbers[NORM] = np.float64(distance(x, g, prox_arrays, slopes, zero, nan))
            push(numbers, counts, numbers[F])
            counts[PHASE] = GO
            return ACCEPTED
        first = counts[SINCE] == 0
        rounding = ROUNDING * eps * abs(numbers[F])
        ended, grown = -1, 0
        clear = min(CLEAR, MICRO / eps) * rounding
        if counts[PHASE] == TRIAL:
            tried = counts[TRIED]
            x, z, gz = points[row], points[tried], gradients[tried]
            f = value + numbers[TRIAL_PENALTY]
            norm = np.float64(distance(z, gz, prox_arrays, slopes, zero, nan))
            finite = isfinite(f) and isfinite(norm)
            counts[TRIALS] += 1
            counts[FINITE] = finite
            if finite:
                compare(numbers, counts, f, slope_at(x, z, gz, terms[0, 0]), rounding)
            again = counts[TRIALS] < MOST_TRIALS
            if finite and -numbers[PROMISED] > clear:
                steps = EVER if first else PROMISES  # it tells about the point, or about a step
                note(numbers, counts, (f - numbers[F]) / -numbers[PROMISED], steps)
            if first:
                lower = finite and f <= numbers[F] + ENOUGH * numbers[PROMISED]
                if lower and f < numbers[BEST_F]:
                    numbers[BEST_F] = f
                    counts[BEST], counts[KEPT] = tried, 1
                    numbers[KEPT_ALPHA], numbers[KEPT_MOVED] = numbers[ALPHA], numbers[MOVED]
                    numbers[KEPT_NORM] = norm
                    rise = numbers[TRIAL_PENALTY] - numbers[PENALTY]
                    enough = counts[SHRINKING] != 0 or slope_at(x, z, gz, terms[0, 0]) + rise >= 0.0
                    numbers[ALPHA] *= 10.0
                elif finite and f == numbers[F] and not counts[SHRINKING] | counts[KEPT]:
                    # Nothing at all has changed, as in a function that rounds: the step is short.
                    enough = False
                    numbers[ALPHA] *= 10.0
                    counts[SHRINKING] = counts[TRIALS] == MOST_GROWTH
                else:
                    enough = counts[KEPT] != 0
                    counts[SHRINKING] = 1
                    numbers[ALPHA] /= 10.0
                if counts[KEPT] and (enough or not again):
                    step_kept(numbers, counts, costs(points[counts[BEST]], prox_arrays, cost_coefs))
                    return ACCEPTED
            else:
                if finite and f < numbers[BEST_F]:
                    numbers[BEST_F] = f
                    counts[BEST], counts[BEST_T] = tried, counts[STEPS] + 1
                slack = ROUNDING * eps * abs(numbers[HIGHEST])
                if finite and f <= numbers[HIGHEST] + ENOUGH * numbers[PROMISED] + slack:
                    step(numbers, counts, tried, f, norm, numbers[TRIAL_PENALTY])
                    return ACCEPTED
                if finite:
                    a, b = numbers[SLOPE], slope_at(x, z, gz, terms[0, 0])
                    numbers[ALPHA] *= min(max(-a / (b - a), 0.1), 0.5) if b > a else 0.5
                else:
                    numbers[ALPHA] /= 10.0
            if not again or (first and -numbers[PROMISED] <= rounding):
                # A step that promises no more than rounding was tried to see whether f follows it.
                vague = first and -numbers[PROMISED] <= rounding and isfinite(numbers[BEGUN_F])
                counts[FINITE] = finite or vague
                ended = FAILED if finite else AT_REST if counts[FINITE] else NOT_FINITE
        elif numbers[NORM] == 0.0:
            return AT_REST
        elif seems(numbers, counts, rtol):
            ended = AT_REST  # if it has converged, it does so again with its memory emptied
        else:
            counts[T] += 1
            t = counts[T]
            z, gz = points[row], gradients[row]
            x, g = points[counts[PREVIOUS]], gradients[counts[PREVIOUS]]
            scalars, _, coefs = prepare(
                np.float64(t), lr, hyper, weight_decay, gather(scalar_places, 0),
                measured(gz, squares),
            )  # fmt: skip
            scatter(scalar_places, 0, narrow(scalars, 0.0), np.uint32(0))
            coefs = narrow(coefs, zero)
            if first:
                x, g = z, gz
                numbers[SCALE] = scale_for(size(gz), eps)
                counts[JUMPS] = 0
            numbers[RISE], numbers[TRIED_MOVE], counts[ODD] = np.inf, 0.0, 0
            square = share * (0.0 if first else numbers[MOVED] * numbers[MOVED])
            numbers[RANGE] = (1.0 - share) * numbers[RANGE] + square
            smallest = min(SMALLEST_RANGE, eps * eps) * numbers[RANGE]
            if first:  # all coordinates by as much, or each by its own size
                smallest = 1.0 if isfinite(numbers[BEGUN_F]) or not in_units(z) else -1.0
            narrow_share, keep_share, floor, scale = narrow(
                (share, 1.0 - share, smallest, numbers[SCALE]), zero
            )
            for c in prange(chunks):
                turn(
                    x, z, g, gz, slots, ranges, u, rates, prox_arrays, decay_coefs, coefs, slopes,
                    narrow_share, keep_share, floor, scale, zero, terms[c], sums,
                    c * blocks // chunks, (c + 1) * blocks // chunks,
                )  # fmt: skip
            largest = top(sums[SUMS - 1])
            if largest == 0.0:
                ended = AT_REST if numbers[NORM] == 0.0 else FAILED
            elif first:
                length = size(z)
                unit = length if 0.0 < length < 1.0 else max(length, 1.0)
                numbers[ALPHA] = FIRST_STEP * unit / largest
            else:
                numbers[ALPHA] = rate_after(
                    numbers, counts, total(sums[0]), total(sums[1]), total(sums[2])
                )
            numbers[HIGHEST] = highest(numbers, counts)
            counts[PHASE] = TRIAL
            counts[TRIALS] = counts[SHRINKING] = counts[KEPT] = counts[STEEPEST] = 0
            counts[FINITE] = 1
        x, g = points[row], gradients[row]
        while ended < 0:
            tried = free(row, counts[BEST])
            z = points[tried]
            alpha, still = narrow((numbers[ALPHA], STILL_MOVE * eps), zero)
            for c in prange(chunks):
                reach(
                    x, g, z, u, rates, prox_arrays, alpha, narrow_coefs, still, zero, terms[c],
                    sums, c * blocks // chunks, (c + 1) * blocks // chunks,
                )  # fmt: skip
            numbers[SLOPE], numbers[MOVED] = total(sums[0]), top(sums[SUMS - 1])
            counts[MOVES] = total(sums[2]) > 0.0
            numbers[TRIAL_PENALTY] = costs(z, prox_arrays, cost_coefs)
            numbers[PROMISED] = numbers[SLOPE] + numbers[TRIAL_PENALTY] - numbers[PENALTY]
            least = 0.0
            if has_momentum and not counts[STEEPEST]:
                least = -DOWNHILL * total(sums[1]) / numbers[ALPHA]
            vague = not -numbers[PROMISED] > clear
            if first and vague and counts[TRIALS] == 0 and grown < MOST_GROWTH:
                grown += 1
                numbers[ALPHA] *= 10.0
                continue
            if counts[TRIALS] == 0:
                numbers[ASKED] = numbers[PROMISED]
            if numbers[PROMISED] < least and numbers[MOVED] > 0.0:
                counts[TRIED] = tried
                return EVALUATE
            if counts[KEPT]:
                step_kept(numbers, counts, costs(points[counts[BEST]], prox_arrays, cost_coefs))
                return ACCEPTED
            if not has_momentum or counts[STEEPEST]:
                ended = FAILED
                break
            counts[STEEPEST] = 1
            empty(slots)
            for i in range(uintp(u.size)):
                u[i] = -decayed(x[i], g[i], *decay_coefs)[1] * rates[i]
        counts[PHASE] = GO
        stuck = (
            NOT_FINITE
            if not counts[FINITE]
            else FAILED
            if counts[ODD] or counts[JUMPS]
            else AT_REST
        )
        # State and rates may be of no use here: begin anew, unless that has brought nothing. Where
        # units seem to differ, the first step is relative, then equal, in case that they do not,
        # and at last relative again.
        gained = numbers[BEST_F] < numbers[BEGUN_F] - rounding
        last = not first and not gained
        if first or last:
            if not (isfinite(numbers[BEGUN_F]) and in_units(points[counts[BEST]])):
                return stuck if last or counts[TRIALS] else ended
            last = True
        begin(slots, ranges, scalar_places, counts, numbers)
        if last:
            numbers[BEGUN_F] = -np.inf
        best = points[counts[X]]
        numbers[PENALTY] = costs(best, prox_arrays, cost_coefs)
        numbers[NORM] = np.float64(
            distance(best, gradients[counts[X]], prox_arrays, slopes, zero, nan)
        )
        return AGAIN

    return search
