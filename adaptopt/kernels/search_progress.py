"""What a search for the learning rate keeps up between its steps, and when it has converged."""

from __future__ import annotations

from math import frexp, ldexp

import numpy as np

from .search_numbers import (
    ALPHA,
    ASKED,
    BEGUN_F,
    BEST,
    BEST_F,
    BEST_T,
    BITS_OF_EVER,
    EVER,
    FIRST_F,
    FIRST_MOVE,
    FIRST_PROMISE,
    FIRST_QUOTIENT,
    FIRST_VALUE,
    GO,
    JUMPS,
    KEPT,
    KEPT_ALPHA,
    KEPT_MOVED,
    KEPT_NORM,
    KNOWN_QUOTIENTS,
    KNOWN_VALUES,
    LONGEST_MOVE,
    MOVED,
    MOVES,
    NORM,
    ODD,
    OF_VALUE,
    PENALTY,
    PHASE,
    PREVIOUS,
    PREVIOUS_F,
    PROMISES,
    QUOTIENTS,
    RANGE,
    RISE,
    SHORT,
    SHORT_MOVE,
    SINCE,
    SLOPE,
    START,
    STEPS,
    STILL,
    TRIAL_PENALTY,
    TRIED,
    TRIED_MOVE,
    VALUES,
    F,
    T,
    X,
)

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


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


def falls_on(numbers, counts, rtol):
    """Tell whether the last step is enough to say that what is promised is not small."""
    newest = numbers[FIRST_PROMISE + (counts[STEPS] - 1) % PROMISES]
    return newest > rtol * (numbers[FIRST_F] - numbers[BEST_F])


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

    A start with a huge value makes any later decrease small: it must be small beside the objective
    too, and to begin anew must have brought little, as steps become short where the gradient jumps.
    Or the objective goes to 0, and decrease and steps are small since the search began anew, or
    the last steps moved no coordinate by more than rounding.
    """
    if falls_on(numbers, counts, rtol) or numbers[BEGUN_F] == np.inf:
        return False
    if not promise_left(numbers, counts) <= rtol:
        return False
    if counts[STILL] >= PROMISES:
        return True
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
    if falls_on(numbers, counts, rtol):
        return False
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
    counts[STILL] = 0 if counts[MOVES] else counts[STILL] + 1
    counts[JUMPS] = max(counts[JUMPS] - 1, 0)
    counts[PHASE], counts[KEPT] = GO, 0
    numbers[PREVIOUS_F], numbers[F], numbers[NORM] = numbers[F], f, norm
    numbers[PENALTY] = penalty
    keep_value(numbers, counts, f)


def accept_kept(numbers, counts, penalty):
    """Step to the best of the first step's trials."""
    numbers[ALPHA], numbers[MOVED] = numbers[KEPT_ALPHA], numbers[KEPT_MOVED]
    counts[BEST_T], counts[MOVES] = counts[STEPS] + 1, 1
    accept(numbers, counts, counts[BEST], numbers[BEST_F], numbers[KEPT_NORM], penalty)


def power_of_two_below(value, eps):
    """Return the power of two by which a number is brought to 0.5 to 1; 1 for zero."""
    most = 1000 if eps < 1e-10 else 100
    return ldexp(1.0, -min(max(frexp(value)[1], -most), most)) if value > 0.0 else 1.0


def note_rise(numbers, counts, rise, steps):
    """Take in by how much a trial rose over what it promised to fall.

    If a step is shortened, that falls with it, unless the gradient jumps, is noisy, or is wrong,
    which is remembered for so many steps. If it is remembered for ever, three trials in a row that
    fall are needed to forget it: far from a minimum, an objective that levels off looks the same.
    """
    if numbers[MOVED] <= 0.5 * numbers[TRIED_MOVE]:
        if rise > 0.0 and rise >= 0.5 * numbers[RISE]:
            counts[JUMPS] = max(counts[JUMPS], steps)
        elif steps == EVER:
            counts[JUMPS] >>= BITS_OF_EVER // 3 + 1
    numbers[RISE], numbers[TRIED_MOVE] = rise, numbers[MOVED]


def compare_slopes(numbers, counts, f, slope, rounding):
    """Compare a trial's change of f with the slopes at its ends, if it is more than rounding."""
    change = f - numbers[F] - (numbers[TRIAL_PENALTY] - numbers[PENALTY])
    if abs(change) > rounding:
        counts[ODD] = abs(change - 0.5 * (numbers[SLOPE] + slope)) > 0.3 * abs(change)


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
        counts[T] = counts[STILL] = counts[SINCE] = counts[KNOWN_QUOTIENTS] = counts[
            KNOWN_VALUES
        ] = 0
        numbers[F] = numbers[BEGUN_F] = numbers[BEST_F]
        numbers[RANGE] = numbers[LONGEST_MOVE] = 0.0
        counts[PHASE] = GO
        keep_value(numbers, counts, numbers[F])

    return begin
