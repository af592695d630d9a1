"""The search behind ``lr="auto"``: one rate for all coordinates, found from values and gradients.

A method's rule at ``lr = 1`` gives each coordinate a displacement ``u`` and a rate ``1 / D``. The
search steps to ``prox(x + alpha u)``. It takes ``alpha`` from the quotients of Barzilai & Borwein
(1988) in the metric D, chosen between as Frassoldati, Zanni & Zanghirati (2008) do (ABBmin), and
holds it by the non-monotone line search of Grippo, Lampariello & Lucidi (1986).

The search does not call the objective. It writes a trial point and returns `EVALUATE`; the caller
evaluates there and calls again. So the loop in Python and the compiled one do the same, to the bit.
"""

from __future__ import annotations

from math import frexp, isfinite, ldexp
from typing import NamedTuple

import numpy as np
from numba import prange, types

from .compile import inlinable
from .descent import make_measure
from .formats import unchanged
from .reductions import in_order, make_costs, make_norm
from .search_passes import SUMS, along, largest_of, largest_size, make_reach, make_turn
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# What the caller does next: evaluate at the trial point; test the point that was accepted, and call
# again if the run goes on; call again at once; or end, because the objective does not follow its
# gradient, no step changes it by more than rounding, or no trial point was finite.
EVALUATE, ACCEPTED, AGAIN, FAILED, AT_REST, NOT_FINITE = range(6)

# What a call goes on with: the value at the start, a step from the point accepted, or a trial.
START, GO, TRIAL = range(3)

QUOTIENTS = 3  # Barzilai-Borwein quotients of which the smallest is taken
VALUES = 10  # values of the objective of which the largest is compared with
EVER = 2**40  # steps
PROMISES = 10  # steps whose promised decreases must all be small for the run to have converged
SHORT = 0.7  # the shorter quotient is taken if it is below so many times the longer
ENOUGH = 1e-4  # share of the promised decrease that a trial must achieve
DOWNHILL = 0.1  # a displacement with momentum must promise so much of what its length in D is worth
FIRST_STEP = 1e-3  # the first step's length, relative to the largest coordinate
SMALLEST_RANGE = 1e-20  # square of the smallest range of a coordinate, relative to the largest
MOST_TRIALS = 60  # of a step
ROUNDING = 64.0  # units in the last place by which a value may rise by rounding alone
CLEAR = 1e3  # a promised decrease tells something if it is so many times that
SHORT_MOVE = 1e-3  # steps to end with, relative to the longest
MOST_GROWTH = 20  # powers of ten by which a first step is longer if it promises less than rounding
OF_VALUE = 100.0  # times rtol: decreases to end with, relative to the size of the objective


class SearchCounts(NamedTuple):
    """Whole numbers of a search, as they lie in the array that the kernel keeps up."""

    t: int = 0  # directions computed
    phase: int = START
    steps: int = 0  # accepted
    trials: int = 0  # of this step
    x: int = 0  # rows of points and of gradients
    previous: int = 2
    trial: int = 1
    best: int = 0
    best_t: int = 0
    quotients: int = 0  # known
    values: int = 0  # known
    shrinking: int = 0  # whether the first step is too long
    kept: int = 0  # whether the best point is the best of the first step's trials
    steepest: int = 0  # whether the displacement of this step goes without momentum
    finite: int = 1  # whether the last trial was
    since: int = 0  # steps accepted since the search began, or began anew
    jumps: int = 0  # for how many steps more f is known not to follow its gradient


(
    T, PHASE, STEPS, TRIALS, X, PREVIOUS, TRIED, BEST, BEST_T, KNOWN_QUOTIENTS, KNOWN_VALUES,
    SHRINKING, KEPT, STEEPEST, FINITE, SINCE, JUMPS,
) = range(17)  # fmt: skip

# Other numbers of a search. `F`, `NORM` and `PENALTY` are those of the accepted point, `SLOPE` and
# `PROMISED` what the gradient and the objective's model say of the step, `ASKED` what they said of
# its first trial, `RANGE` the square of the largest range. `RISE` is by how much the last trial
# rose, over what it promised to fall, and `TRIED_MOVE` how far it was; `BEGUN_F` is the value at
# which the search began anew, `LONGEST_MOVE` the longest step since, and `SCALE` the power of two
# by which rules see gradients near 1 in size. Then come quotients, values, promises and moves.
(
    ALPHA, F, NORM, PENALTY, PREVIOUS_F, BEST_F, HIGHEST, SLOPE, PROMISED, TRIAL_PENALTY,
    ASKED, MOVED, KEPT_ALPHA, KEPT_MOVED, KEPT_NORM, RANGE, FIRST_F, RISE, TRIED_MOVE, BEGUN_F,
    SCALE, LONGEST_MOVE, FIRST_QUOTIENT,
) = range(23)  # fmt: skip
FIRST_VALUE = FIRST_QUOTIENT + QUOTIENTS
FIRST_PROMISE = FIRST_VALUE + VALUES
FIRST_MOVE = FIRST_PROMISE + PROMISES
NUMBERS = FIRST_MOVE + PROMISES


def next_rate(numbers, counts, sy, sds, ydy):
    """Return the rate by ABBmin; ten times the last one if the function curves down."""
    if not sy > 0.0:
        return numbers[ALPHA] * 10.0
    longer, shorter = sds / sy, (sy / ydy if ydy > 0.0 else np.inf)
    numbers[FIRST_QUOTIENT + counts[KNOWN_QUOTIENTS] % QUOTIENTS] = shorter
    counts[KNOWN_QUOTIENTS] += 1
    if not shorter < SHORT * longer:
        return longer
    for k in range(min(counts[KNOWN_QUOTIENTS], QUOTIENTS)):
        shorter = min(shorter, numbers[FIRST_QUOTIENT + k])
    return shorter


def keep_value(numbers, counts, f):
    """Remember a value of the objective among the last ones."""
    numbers[FIRST_VALUE + counts[KNOWN_VALUES] % VALUES] = f
    counts[KNOWN_VALUES] += 1


def promise_left(numbers, counts):
    """Return the largest decrease of the last steps, promised or made, over the decrease so far.

    It is infinite before so many steps. The unit of the objective and those of the coordinates drop
    out.
    """
    fallen = numbers[FIRST_F] - numbers[BEST_F]
    largest = largest_decrease(numbers, counts)
    return largest / fallen if fallen > 0.0 else np.inf


def largest_decrease(numbers, counts):
    """Return the largest decrease of the last steps, promised or made; infinity before them."""
    if counts[SINCE] < PROMISES:
        return np.inf
    largest = 0.0
    for k in range(PROMISES):
        largest = max(largest, numbers[FIRST_PROMISE + k])
    return largest


def has_converged(numbers, counts, rtol):
    """Tell whether a search that has begun anew has converged.

    A start with a huge value makes any later decrease small. So the decrease must be small beside
    the objective too, and to begin anew must have brought little: where the gradient jumps, steps
    become short far from the minimum. Or, if the objective goes to 0, the decrease must be small
    beside what it has fallen since the search began anew, and the steps must have become short.
    """
    if not promise_left(numbers, counts) <= rtol or numbers[BEGUN_F] == np.inf:
        return False
    largest, longest = largest_decrease(numbers, counts), 0.0
    small = OF_VALUE * rtol * abs(numbers[BEST_F])
    if largest <= small and numbers[BEGUN_F] - numbers[BEST_F] <= OF_VALUE * small:
        return True
    for k in range(PROMISES):
        longest = max(longest, numbers[FIRST_MOVE + k])
    since = numbers[BEGUN_F] - numbers[BEST_F]
    return largest <= rtol * since and longest <= SHORT_MOVE * numbers[LONGEST_MOVE]


def seems_to_converge(numbers, counts, rtol):
    """Tell whether a search should begin anew, to see whether it has converged."""
    if not promise_left(numbers, counts) <= rtol:
        return False
    since, largest = numbers[BEGUN_F] - numbers[BEST_F], largest_decrease(numbers, counts)
    if since == np.inf or largest <= rtol * since:
        return True
    small = OF_VALUE * rtol * abs(numbers[BEST_F])
    return largest <= small and since > OF_VALUE * small


def highest_value(numbers, counts):
    """Return the largest of the last values."""
    highest = numbers[FIRST_VALUE]
    for k in range(min(counts[KNOWN_VALUES], VALUES)):
        highest = max(highest, numbers[FIRST_VALUE + k])
    return highest


def row_to_evaluate(counts):
    """Return the row of the point at which the objective is to be evaluated."""
    return counts[X] if counts[PHASE] == START else counts[TRIED]


def free_row(a, b):
    """Return a row that is neither of two."""
    return 3 - a - b if a != b else (a + 1) % 3


def make_empty(momentum, initial):
    """Compose what empties the slots that hold momentum."""

    def empty(slots):
        for k in range(len(slots)):
            if momentum[k]:
                slots[k].fill(initial[k])

    def nothing(slots):
        pass

    return empty if any(momentum) else nothing


def accept(numbers, counts, row, f, norm, penalty):
    """Step to a row."""
    counts[PREVIOUS], counts[X] = counts[X], row
    fall = max(-numbers[ASKED], numbers[F] - f)
    numbers[FIRST_PROMISE + counts[STEPS] % PROMISES] = fall
    numbers[FIRST_MOVE + counts[STEPS] % PROMISES] = numbers[MOVED]
    numbers[LONGEST_MOVE] = max(numbers[LONGEST_MOVE], numbers[MOVED])
    counts[STEPS] += 1
    counts[SINCE] += 1
    counts[JUMPS] = max(counts[JUMPS] - 1, 0)
    counts[PHASE], counts[KEPT] = GO, 0
    numbers[PREVIOUS_F], numbers[F], numbers[NORM] = numbers[F], f, norm
    numbers[PENALTY] = penalty
    keep_value(numbers, counts, f)


def accept_kept(numbers, counts, penalty):
    """Step to the best of the first step's trials."""
    numbers[ALPHA], numbers[MOVED] = numbers[KEPT_ALPHA], numbers[KEPT_MOVED]
    counts[BEST_T] = counts[STEPS] + 1
    accept(numbers, counts, counts[BEST], numbers[BEST_F], numbers[KEPT_NORM], penalty)


def power_of_two_below(value, eps):
    """Return the power of two by which a number is brought to 0.5 to 1; 1 for zero."""
    most = 1000 if eps < 1e-10 else 100
    return ldexp(1.0, -min(max(frexp(value)[1], -most), most)) if value > 0.0 else 1.0


def note_rise(numbers, counts, rise, steps):
    """Take in by how much a trial rose over what it promised to fall.

    If a step is shortened, that falls with it where the objective follows its gradient. It does not
    where the gradient jumps, is noisy, or is wrong; this is remembered for so many steps.
    """
    shorter = numbers[MOVED] <= 0.5 * numbers[TRIED_MOVE]
    if shorter and rise > 0.0 and rise >= 0.5 * numbers[RISE]:
        counts[JUMPS] = max(counts[JUMPS], steps)
    numbers[RISE], numbers[TRIED_MOVE] = rise, numbers[MOVED]


def make_begin(initial, initial_scalars):
    """Compose what brings a search to its best point, with all else forgotten."""

    def begin(slots, ranges, scalar_places, counts, numbers):
        if initial:
            for k in range(len(slots)):
                slots[k].fill(initial[k])
        if initial_scalars:
            for k in range(len(scalar_places)):
                scalar_places[k][0] = initial_scalars[k]
        ranges.fill(0)
        counts[X] = counts[BEST]
        counts[T] = counts[SINCE] = counts[KNOWN_QUOTIENTS] = counts[KNOWN_VALUES] = 0
        numbers[F] = numbers[BEGUN_F] = numbers[BEST_F]
        numbers[RANGE] = numbers[LONGEST_MOVE] = 0.0
        counts[PHASE] = GO
        keep_value(numbers, counts, numbers[F])

    return begin


def make_search(
    carry, coefficients, decay_coefficients, decay, rule, prox, residual, cost, measures, ranged,
    momentum, initial, initial_scalars,
):  # fmt: skip
    """Compose the search for one method and map."""
    begin = inlinable(make_begin(initial, initial_scalars))
    scale_for, note = inlinable(power_of_two_below), inlinable(note_rise)
    prepare = inlinable(make_prepare(carry, coefficients, decay_coefficients))
    turn = inlinable(make_turn(decay, rule, ranged))
    reach = inlinable(make_reach(prox))
    distance = inlinable(make_norm(residual, unchanged, unchanged))
    costs = inlinable(make_costs(cost, unchanged))
    empty = inlinable(make_empty(momentum, initial))
    has_momentum = any(momentum)
    decayed, measured = inlinable(decay), inlinable(make_measure(measures))
    decay_numbers = inlinable(decay_coefficients)
    slope_at, size, top = inlinable(along), inlinable(largest_size), inlinable(largest_of)
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
        if counts[PHASE] == TRIAL:
            tried = counts[TRIED]
            x, z, gz = points[row], points[tried], gradients[tried]
            f = value + numbers[TRIAL_PENALTY]
            norm = np.float64(distance(z, gz, prox_arrays, slopes, zero, nan))
            finite = isfinite(f) and isfinite(norm)
            counts[TRIALS] += 1
            counts[FINITE] = finite
            again = counts[TRIALS] < MOST_TRIALS
            if finite and -numbers[PROMISED] > CLEAR * rounding:
                # Where the search begins it tells about the point; later, about a step.
                steps = EVER if first else PROMISES
                note(numbers, counts, (f - numbers[F]) / -numbers[PROMISED], steps)
            if first:
                lower = finite and f <= numbers[F] + ENOUGH * numbers[PROMISED]
                if lower and f < numbers[BEST_F]:
                    numbers[BEST_F] = f
                    counts[BEST], counts[KEPT] = tried, 1
                    numbers[KEPT_ALPHA], numbers[KEPT_MOVED] = numbers[ALPHA], numbers[MOVED]
                    numbers[KEPT_NORM] = norm
                    rise = numbers[TRIAL_PENALTY] - numbers[PENALTY]
                    enough = counts[SHRINKING] != 0 or slope_at(x, z, gz) + rise >= 0.0
                    numbers[ALPHA] *= 10.0
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
                    a, b = numbers[SLOPE], slope_at(x, z, gz)
                    numbers[ALPHA] *= min(max(-a / (b - a), 0.1), 0.5) if b > a else 0.5
                else:
                    numbers[ALPHA] /= 10.0
            if not again or (first and -numbers[PROMISED] <= rounding):
                ended = FAILED if finite else NOT_FINITE
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
            numbers[RISE], numbers[TRIED_MOVE] = np.inf, 0.0
            square = 0.0 if first else numbers[MOVED] * numbers[MOVED]
            numbers[RANGE] = (1.0 - share) * numbers[RANGE] + share * square
            smallest = 1.0 if first else SMALLEST_RANGE * numbers[RANGE]
            narrow_share, keep_share, floor, scale = narrow(
                (share, 1.0 - share, smallest, numbers[SCALE]), zero
            )
            for c in prange(chunks):
                turn(
                    x, z, g, gz, slots, ranges, u, rates, decay_coefs, coefs, narrow_share,
                    keep_share, floor, scale, zero, terms[c], sums, c * blocks // chunks,
                    (c + 1) * blocks // chunks,
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
            (alpha,) = narrow((numbers[ALPHA],), zero)
            for c in prange(chunks):
                reach(
                    x, g, z, u, rates, prox_arrays, alpha, narrow_coefs, zero, terms[c], sums,
                    c * blocks // chunks, (c + 1) * blocks // chunks,
                )  # fmt: skip
            numbers[SLOPE], numbers[MOVED] = total(sums[0]), top(sums[SUMS - 1])
            numbers[TRIAL_PENALTY] = costs(z, prox_arrays, cost_coefs)
            numbers[PROMISED] = numbers[SLOPE] + numbers[TRIAL_PENALTY] - numbers[PENALTY]
            least = 0.0
            if has_momentum and not counts[STEEPEST]:
                least = -DOWNHILL * total(sums[1]) / numbers[ALPHA]
            vague = not -numbers[PROMISED] > CLEAR * rounding
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
        stuck = NOT_FINITE if not counts[FINITE] else FAILED if counts[JUMPS] else AT_REST
        if first:
            return stuck if counts[TRIALS] else ended
        # Not every failure is an end: state and rates may be of no use here, far from where they
        # are from. Begin anew at the best point, unless that has brought nothing.
        if not numbers[BEST_F] < numbers[BEGUN_F] - rounding:
            return stuck
        begin(slots, ranges, scalar_places, counts, numbers)
        best = points[counts[X]]
        numbers[PENALTY] = costs(best, prox_arrays, cost_coefs)
        numbers[NORM] = np.float64(
            distance(best, gradients[counts[X]], prox_arrays, slopes, zero, nan)
        )
        return AGAIN

    return search
