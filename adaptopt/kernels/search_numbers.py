"""The numbers that a search for the learning rate is made of: constants, and where they lie."""

from __future__ import annotations

from typing import NamedTuple

# What the caller does next: evaluate at the trial point; test the point that was accepted, and call
# again if the run goes on; call again at once; or end, because the objective does not follow its
# gradient, no step changes it by more than rounding, or no trial point was finite.
EVALUATE, ACCEPTED, AGAIN, FAILED, AT_REST, NOT_FINITE = range(6)

# What a call goes on with: the value at the start, a step from the point accepted, or a trial.
START, GO, TRIAL = range(3)

QUOTIENTS = 3  # Barzilai-Borwein quotients of which the smallest is taken
VALUES = 10  # values of the objective of which the largest is compared with
BITS_OF_EVER = 40
EVER = 2**BITS_OF_EVER
PROMISES = 10  # steps whose promised decreases must all be small for the run to have converged
SHORT = 0.7  # the shorter quotient is taken if it is below so many times the longer
ENOUGH = 1e-4  # share of the promised decrease that a trial must achieve
DOWNHILL = 0.1  # a displacement with momentum must promise so much of what its length in D is worth
FIRST_STEP = 1e-3  # the first step's length, relative to the largest coordinate
UNITS = 1e6  # if coordinates differ more in size at the start, the first step is relative to each
# Square of the smallest range of a coordinate, relative to the largest: at most; eps**2 in float64.
SMALLEST_RANGE = 1e-20
MOST_TRIALS = 60  # of a step
ROUNDING = 64.0  # units in the last place by which a value may rise by rounding alone
CLEAR, MICRO = 1e3, 1e-6  # a promised decrease tells something if it is so many times that
SHORT_MOVE = 1e-3  # steps to end with, relative to the longest
MOST_GROWTH = 20  # powers of ten by which a first step is longer if it promises less than rounding
STILL_MOVE = 4.0  # units in the last place of a coordinate by which rounding alone moves it
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
    odd: int = 0  # whether the last trial changed f otherwise than the slopes at its ends say
    moves: int = 1  # whether the last trial moves a coordinate by more than rounding
    still: int = 0  # accepted steps in a row that moved none


(
    T, PHASE, STEPS, TRIALS, X, PREVIOUS, TRIED, BEST, BEST_T, KNOWN_QUOTIENTS, KNOWN_VALUES,
    SHRINKING, KEPT, STEEPEST, FINITE, SINCE, JUMPS, ODD, MOVES, STILL,
) = range(20)  # fmt: skip

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
