"""The search behind ``lr="auto"``: one rate for all coordinates, found from values and gradients.

A method's rule at ``lr = 1`` gives each coordinate a displacement ``u`` and a rate ``1 / D``. The
search steps to ``prox(x + alpha u)``. It takes ``alpha`` from the quotients of Barzilai & Borwein
(1988) in the metric D, chosen between as Frassoldati, Zanni & Zanghirati (2008) do (ABBmin), and
holds it by the non-monotone line search of Grippo, Lampariello & Lucidi (1986).

The search does not call the objective. It writes a trial point and returns `EVALUATE`; the caller
evaluates there and calls again. So the loop in Python and the compiled one do the same, to the bit.
"""

from __future__ import annotations

from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numba import prange, types

from .compile import inlinable
from .descent import make_measure
from .formats import unchanged
from .reductions import BLOCK, from_bits, in_order, make_costs, make_norm, to_bits
from .tuples import gather, make_prepare, narrow, scatter

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# What the caller does next: evaluate at the trial point; test the point that was accepted, and call
# again if the run goes on; or end, because no step along the search direction lowers the objective,
# there is no direction, or no trial point was finite.
EVALUATE, ACCEPTED, FAILED, AT_REST, NOT_FINITE = range(5)

# What a call goes on with: the value at the start, a step from the point accepted, or a trial.
START, GO, TRIAL = range(3)

QUOTIENTS = 3  # Barzilai-Borwein quotients of which the smallest is taken
VALUES = 10  # values of the objective of which the largest is compared with
PROMISES = 10  # steps whose promised decreases must all be small for the run to have converged
SHORT = 0.7  # the shorter quotient is taken if it is below so many times the longer
ENOUGH = 1e-4  # share of the promised decrease that a trial must achieve
DOWNHILL = 0.1  # a displacement with momentum must promise so much of what its length in D is worth
FIRST_STEP = 1e-3  # the first step's length, relative to the largest coordinate
SMALLEST_RANGE = 1e-20  # square of the smallest range of a coordinate, relative to the largest
MOST_TRIALS = 60  # of a step
ROUNDING = 64.0  # units in the last place by which a value may rise by rounding alone


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


(
    T, PHASE, STEPS, TRIALS, X, PREVIOUS, TRIED, BEST, BEST_T, KNOWN_QUOTIENTS, KNOWN_VALUES,
    SHRINKING, KEPT, STEEPEST, FINITE,
) = range(15)  # fmt: skip

# Other numbers of a search. `F`, `NORM` and `PENALTY` are those of the accepted point, `SLOPE` and
# `PROMISED` what the gradient and the objective's model say of the step, `ASKED` what they said of
# its first trial, `RANGE` the square of the largest range.
(
    ALPHA, F, NORM, PENALTY, PREVIOUS_F, BEST_F, HIGHEST, SLOPE, PROMISED, TRIAL_PENALTY,
    ASKED, MOVED, KEPT_ALPHA, KEPT_MOVED, KEPT_NORM, KEPT_PROMISED, RANGE, FIRST_F, FIRST_QUOTIENT,
) = range(19)  # fmt: skip
FIRST_VALUE = FIRST_QUOTIENT + QUOTIENTS
FIRST_PROMISE = FIRST_VALUE + VALUES
NUMBERS = FIRST_PROMISE + PROMISES

# Sums of a block, the last of them a maximum; and how many terms are computed before they are
# added up.
SUMS = 4
TILE = 512
LANES = 16


def make_turn(decay, rule, ranged):
    """Compose the pass at a new point: state, displacement and rates.

    Its sums are ``s y``, ``s D s``, ``y y / D``, of the step and the change of gradient that led
    there, and the largest ``abs(u)``. Before the first step, the point before is the same.
    """
    add = inlinable(add_terms)

    def turn(
        x, z, g, gz, slots, ranges, u, rates, decay_coefs, coefs, share, keep, floor, zero, terms,
        sums, lo, hi,
    ):  # fmt: skip
        for block in range(uintp(lo), uintp(hi)):
            sums[:, block] = 0.0
            end = uintp(min((block + uintp(1)) * uintp(BLOCK), uintp(z.size)))
            for start in range(uintp(block * uintp(BLOCK)), end, uintp(TILE)):
                stop = uintp(min(start + uintp(TILE), end))
                for i in range(start, stop):
                    z_i, q = decay(z[i], gz[i], *decay_coefs)
                    half, rate, new = rule(zero, q, *gather(slots, i), *coefs)
                    scatter(slots, i, new, np.uint32(0))
                    # A coordinate that has seen no gradient has no finite rate: it stays.
                    known = half - half == zero and rate - rate == zero and rate > zero
                    half, rate = half if known else zero, rate if known else zero
                    s = z_i - x[i]
                    y = q - decay(x[i], g[i], *decay_coefs)[1]
                    if ranged:
                        square = keep * ranges[i] + share * s * s
                        ranges[i] = square
                        reach = sqrt(max(square, floor))
                        half, rate = half * reach, rate * reach
                    u[i], rates[i] = half, rate
                    k = uintp(i - start)
                    terms[0, k] = np.float64(s) * np.float64(y)
                    terms[1, k] = np.float64(s * s / rate if rate > zero else zero)
                    terms[2, k] = np.float64(y * y * rate)
                    terms[3, k] = np.float64(abs(half))
                add(terms, uintp(stop - start), sums, block)

    return turn


def make_reach(prox):
    """Compose the pass that writes a trial point; its sums are ``g s``, ``s D s`` and the move."""
    add = inlinable(add_terms)

    def reach(x, g, z, u, rates, prox_arrays, alpha, prox_coefs, zero, terms, sums, lo, hi):
        for block in range(uintp(lo), uintp(hi)):
            sums[:, block] = 0.0
            end = uintp(min((block + uintp(1)) * uintp(BLOCK), uintp(z.size)))
            for start in range(uintp(block * uintp(BLOCK)), end, uintp(TILE)):
                stop = uintp(min(start + uintp(TILE), end))
                for i in range(start, stop):
                    z_i = prox(
                        x[i] + alpha * u[i], alpha * rates[i], *gather(prox_arrays, i), *prox_coefs
                    )
                    z[i] = z_i
                    s = z_i - x[i]
                    k = uintp(i - start)
                    terms[0, k] = np.float64(g[i]) * np.float64(s)
                    terms[1, k] = np.float64(s * s / rates[i] if rates[i] > zero else zero)
                    terms[2, k] = 0.0
                    terms[3, k] = np.float64(abs(s))
                add(terms, uintp(stop - start), sums, block)

    return reach


def add_terms(terms, count, sums, block):
    """Add the terms of a tile to the sums of its block, in lanes."""
    full = uintp(count // uintp(LANES) * uintp(LANES))
    lanes = terms[:, TILE:]
    for k in range(uintp(SUMS - 1)):
        for lane in range(uintp(LANES)):
            lanes[k, lane] = 0.0
        for first in range(uintp(0), full, uintp(LANES)):
            for lane in range(uintp(LANES)):
                lanes[k, lane] += terms[k, first + lane]
        total = 0.0
        for lane in range(uintp(LANES)):
            total += lanes[k, lane]
        for i in range(full, count):
            total += terms[k, i]
        sums[k, block] += total
    largest = to_bits(sums[SUMS - 1, block])
    for i in range(count):
        largest = max(largest, to_bits(terms[SUMS - 1, i]))
    sums[SUMS - 1, block] = from_bits(largest, sums[SUMS - 1, block])


def along(x, z, gz):
    """Return the slope at the trial point along the step."""
    total = 0.0
    for i in range(uintp(x.size)):
        total += np.float64(gz[i]) * (np.float64(z[i]) - np.float64(x[i]))
    return total


def largest_of(values):
    """Return the largest of some numbers, at least 0."""
    largest = 0.0
    for value in values:
        largest = max(largest, value)
    return largest


def largest_size(x):
    """Return the largest absolute coordinate."""
    largest = 0.0
    for i in range(uintp(x.size)):
        largest = max(largest, np.float64(abs(x[i])))
    return largest


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
    """Return the largest decrease that one of the last steps promised, over the decrease so far.

    It is infinite before so many steps. Both the unit of the objective and those of the coordinates
    drop out of it.
    """
    if counts[STEPS] < PROMISES:
        return np.inf
    largest = 0.0
    for k in range(PROMISES):
        largest = max(largest, numbers[FIRST_PROMISE + k])
    fallen = numbers[FIRST_F] - numbers[BEST_F]
    return largest / fallen if fallen > 0.0 else np.inf


def highest_value(numbers, counts):
    """Return the largest of the last values."""
    highest = numbers[FIRST_VALUE]
    for k in range(min(counts[KNOWN_VALUES], VALUES)):
        highest = max(highest, numbers[FIRST_VALUE + k])
    return highest


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
    numbers[FIRST_PROMISE + counts[STEPS] % PROMISES] = -numbers[PROMISED]
    counts[STEPS] += 1
    counts[PHASE], counts[KEPT] = GO, 0
    numbers[PREVIOUS_F], numbers[F], numbers[NORM] = numbers[F], f, norm
    numbers[PENALTY] = penalty
    keep_value(numbers, counts, f)


def accept_kept(numbers, counts, penalty):
    """Step to the best of the first step's trials."""
    numbers[ALPHA], numbers[MOVED] = numbers[KEPT_ALPHA], numbers[KEPT_MOVED]
    numbers[PROMISED] = numbers[KEPT_PROMISED]
    counts[BEST_T] = 1
    accept(numbers, counts, counts[BEST], numbers[BEST_F], numbers[KEPT_NORM], penalty)


def make_search(
    carry, coefficients, decay_coefficients, decay, rule, prox, residual, cost, measures, ranged,
    momentum, initial,
):  # fmt: skip
    """Compose the search for one method and map."""
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

    def search(
        value, points, gradients, slots, ranges, u, rates, prox_arrays, hyper, weight_decay,
        prox_coefs, cost_coefs, scalar_places, squares, terms, sums, counts, numbers, share, eps,
        chunks, zero, nan,
    ):  # fmt: skip
        blocks = sums.shape[1]
        narrow_coefs, slopes = narrow(prox_coefs, zero), narrow(cost_coefs, zero)
        row, lr = counts[X], 1.0
        decay_coefs = narrow(decay_numbers(lr, weight_decay), zero)
        if counts[PHASE] == START:
            x, g = points[row], gradients[row]
            numbers[PENALTY] = costs(x, prox_arrays, cost_coefs)
            numbers[F] = numbers[BEST_F] = numbers[FIRST_F] = value + numbers[PENALTY]
            numbers[NORM] = np.float64(distance(x, g, prox_arrays, slopes, zero, nan))
            push(numbers, counts, numbers[F])
            counts[PHASE] = GO
            return ACCEPTED
        first = counts[STEPS] == 0
        if counts[PHASE] == TRIAL:
            tried = counts[TRIED]
            x, z, gz = points[row], points[tried], gradients[tried]
            f = value + numbers[TRIAL_PENALTY]
            norm = np.float64(distance(z, gz, prox_arrays, slopes, zero, nan))
            finite = isfinite(f) and isfinite(norm)
            counts[TRIALS] += 1
            counts[FINITE] = finite
            again = counts[TRIALS] < MOST_TRIALS
            if first:
                lower = finite and f <= numbers[F] + ENOUGH * numbers[PROMISED]
                if lower and f < numbers[BEST_F]:
                    numbers[BEST_F] = f
                    counts[BEST], counts[KEPT] = tried, 1
                    numbers[KEPT_ALPHA], numbers[KEPT_MOVED] = numbers[ALPHA], numbers[MOVED]
                    numbers[KEPT_NORM], numbers[KEPT_PROMISED] = norm, numbers[PROMISED]
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
            if not again:
                return FAILED if finite else NOT_FINITE
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
            square = numbers[MOVED] * numbers[MOVED]
            numbers[RANGE] = (1.0 - share) * numbers[RANGE] + share * square
            smallest = 1.0 if first else SMALLEST_RANGE * numbers[RANGE]
            narrow_share, keep_share, floor = narrow((share, 1.0 - share, smallest), zero)
            for c in prange(chunks):
                turn(
                    x, z, g, gz, slots, ranges, u, rates, decay_coefs, coefs, narrow_share,
                    keep_share, floor, zero, terms[c], sums, c * blocks // chunks,
                    (c + 1) * blocks // chunks,
                )  # fmt: skip
            largest = top(sums[SUMS - 1])
            if largest == 0.0:
                return AT_REST
            if first:
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
        x, g = points[row], gradients[row]
        while True:
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
            if counts[TRIALS] == 0:
                numbers[ASKED] = numbers[PROMISED]
            if numbers[PROMISED] < least and numbers[MOVED] > 0.0:
                counts[TRIED] = tried
                return EVALUATE
            if counts[KEPT]:
                step_kept(numbers, counts, costs(points[counts[BEST]], prox_arrays, cost_coefs))
                return ACCEPTED
            if not has_momentum or counts[STEEPEST]:
                if counts[TRIALS] == 0 and numbers[MOVED] == 0.0:
                    return AT_REST
                return FAILED if counts[FINITE] else NOT_FINITE
            counts[STEEPEST] = 1
            empty(slots)
            for i in range(uintp(u.size)):
                u[i] = -decayed(x[i], g[i], *decay_coefs)[1] * rates[i]

    return search
