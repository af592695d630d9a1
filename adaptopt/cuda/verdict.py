"""Decisions of the device: whether a step is taken, and with which coefficients.

Both depend on the gradients, through norms, or on the number of steps taken, for which the host
would have to wait. So one thread computes them in float64, as the host otherwise does, and writes
them to arrays that the step reads.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import types

from ..kernels.compile import array_type, inlinable, memoised, tuple_of
from ..kernels.formats import step_key
from ..kernels.tuples import make_prepare
from ..methods.base import Method
from ..scalar import ScalarFunction
from .arity import taking
from .exact_sums import DIGITS, add_exactly, rounded
from .launch import DeviceKernel, cuda
from .reductions import LEAST

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return"

uintp = types.uintp

# The integers on the device: whether the step is taken; the numbers of steps taken and skipped; the
# last skipped step; the key of the step's random bits; whether a sum of squares is so large that it
# may have overflowed, or so small that squares may have underflowed; and a number that is never 0.
GO, T, SKIPPED, LAST, KEY, BIG, SMALL, ALWAYS = range(8)
COUNTS = 8

# Factors of gradients before squaring. The second is for squares that overflow although the
# elements do not, the third for squares that underflow. Then follow the results of the verdict for
# the step: the product of two factors, and the factors.
TRIED = (1.0, 2.0**-700, 2.0**600)
FOUND = 3
FACTORS = FOUND + 3

# A warp fetches this many sums of blocks at a time for the thread that adds them.
FETCHERS = 32
FETCHED = 256


def make_total():
    """Add sums of blocks as the host does: in order within an array, exactly over arrays."""

    def total(sums, ends, first, last, fetched, digits):
        # In the first thread only. The result is rough if an array's sum is not finite.
        thread = cuda.threadIdx.x
        rough, nonfinite = 0.0, False
        cuda.syncthreads()  # the first thread may still be reading the digits of the previous sum
        for k in range(thread, DIGITS, FETCHERS):
            digits[k] = 0
        cuda.syncthreads()
        for k in range(first, last):
            here = 0.0
            for start in range(ends[k], ends[k + 1], FETCHED):
                size = ends[k + 1] - start
                size = FETCHED if size > FETCHED else size
                for j in range(thread, size, FETCHERS):
                    fetched[j] = sums[start + j]
                cuda.syncthreads()
                if thread == 0:
                    for j in range(size):
                        here += fetched[j]
                cuda.syncthreads()
            rough += here
            if not math.isfinite(here):
                nonfinite = True
            elif thread == 0:
                add_exactly(digits, here)
        return rough if nonfinite or thread != 0 else rounded(digits)

    return total


def make_verdict(factors_for):
    """Decide whether a step is taken, by the norm of all gradients, and count it."""
    total = inlinable(make_total(), True)
    key_of = inlinable(step_key, True)

    def verdict(sums, again, larger, ends, scale, limit, seed, factors, counts):
        fetched = cuda.shared.array(FETCHED, types.float64)
        digits = cuda.shared.array(DIGITS, types.int64)
        last = ends.size - 1
        first_try = total(sums, ends, 0, last, fetched, digits)
        second_try = first_try
        if counts[BIG] != 0:
            second_try = total(again, ends, 0, last, fetched, digits)
        third_try = first_try
        if counts[SMALL] != 0:
            third_try = total(larger, ends, 0, last, fetched, digits)
        if cuda.threadIdx.x != 0:
            return
        found, tried = second_try, factors[1]
        if math.isfinite(first_try):
            found, tried = first_try, factors[0]
            if counts[SMALL] != 0 and first_try < LEAST:
                found, tried = third_try, factors[2]
        unit, factor = factors_for(math.sqrt(found), 1.0 / tried, scale, limit)
        if math.isnan(factor):
            counts[GO] = 0
            counts[SKIPPED] += 1
            counts[LAST] = counts[T] + 1
        else:
            counts[GO] = 1
            counts[T] += 1
            counts[KEY] = key_of(int(seed), int(counts[T]))
            factors[FOUND] = unit * factor
            factors[FOUND + 1] = unit
            factors[FOUND + 2] = factor
        counts[BIG] = 0
        counts[SMALL] = 0

    return verdict


@memoised
class Verdict(DeviceKernel):
    """``kernel(sums, again, larger, ends, scale, limit, seed, factors, counts)``, in one block.

    Parameters
    ----------
    factors_for : callable
        ``factors_for(norm, size, scale, limit)`` returns the two factors of the gradients, NaN for
        a step that is not taken.
    """

    def __init__(self, factors_for: ScalarFunction) -> None:
        wide, whole = types.float64[::1], types.int64[::1]
        number = types.float64
        kinds = (wide, wide, wide, whole, number, number, types.int64, wide, whole)
        super().__init__(make_verdict, (factors_for,), kinds)


# -- numbers in arrays -----------------------------------------------------------------------------


@cache
def reading(count: int) -> ScalarFunction:
    """Return ``read(array, first)``, which returns a tuple of ``count`` numbers."""
    if count == 0:
        return lambda array, first: ()
    rest = inlinable(reading(count - 1), True)
    return lambda array, first: (array[first],) + rest(array, first + 1)


@cache
def writing(count: int) -> ScalarFunction:
    """Return ``write(array, first, values)`` for a tuple of ``count`` numbers."""
    if count == 0:
        return _write_nothing
    rest = inlinable(writing(count - 1), True)

    def write(array, first, values):
        array[first] = values[0]
        rest(array, first + 1, values[1:])

    return write


def _write_nothing(array, first, values):
    """End the recursion."""


def make_measure(count):
    """Return the measures for ``carry``: the squared norm of the group's gradients, or nothing."""
    if not count:
        return lambda sums, ends, first, last: ()
    total = inlinable(make_total(), True)

    def measure(sums, ends, first, last):
        fetched = cuda.shared.array(FETCHED, types.float64)
        digits = cuda.shared.array(DIGITS, types.int64)
        return (total(sums, ends, first, last, fetched, digits),)

    return measure


def given(factors, limits):
    """Return the coefficients of the transformation of gradients."""
    return (factors[FOUND + 1], factors[FOUND + 2]) + limits


def given_nothing(factors, limits):
    """Return nothing: gradients are used unchanged."""
    return ()


def make_coefficients(
    prepare, measure, read_scalars, write_scalars, transformed, write_transform, write_decay,
    write_coefs, transforms, decays,
):  # fmt: skip
    """Return a kernel that computes the coefficients of one step by a method's functions."""
    coefs_at = transforms + decays

    def coefficients(
        sums, ends, first, last, counts, factors, rates, start, hyper, weight_decay, limits,
        scalars, numbers,
    ):  # fmt: skip
        if counts[GO] == 0:
            return
        measured = measure(sums, ends, first, last)
        if cuda.threadIdx.x != 0:
            return
        t = counts[T]
        place = t - start if rates.size > 1 else 0
        new, decay, coefs = prepare(
            np.float64(t), rates[place], hyper, weight_decay, read_scalars(scalars, 0), measured
        )
        write_scalars(scalars, 0, new)
        write_transform(numbers, 0, transformed(factors, limits))
        write_decay(numbers, transforms, decay)
        write_coefs(numbers, coefs_at, coefs)

    return coefficients


class Coefficients(DeviceKernel):
    """The new scalars and coefficients for one step of a group, in one block.

    ``kernel(sums, ends, first, last, counts, factors, rates, start, hyper, weight_decay, limits,
    scalars, numbers)`` writes the last two. ``rates`` holds the learning rates of the steps from
    ``start`` on, or one rate for all steps.

    Parameters
    ----------
    method : Method
        The method of the group.
    form : str
        Format of the arithmetic.
    transforms, decays, coefs : int
        Numbers of coefficients of the transformation of gradients, the decay and the rule.
    """

    def __init__(self, method: Method, form: str, transforms: int, decays: int, coefs: int) -> None:
        hyper = method.numbers_after_lr
        assert hyper is not None
        count, scalars, measured = 2 + len(hyper), len(method.scalars), len(method.measures)
        prepare = make_prepare(
            taking(method.carry, count + scalars + measured),
            taking(method.coefficients, count + scalars),
            taking(method.decay_coefficients, 2),
        )
        parts = (
            *(prepare, make_measure(measured), reading(scalars), writing(scalars)),
            *(given if transforms else given_nothing, writing(transforms)),
            *(writing(decays), writing(coefs), transforms, decays),
        )
        wide, whole, one = types.float64[::1], types.int64[::1], types.float64
        kinds = (
            *(wide, whole, types.int64, types.int64, whole, wide, wide, types.int64),
            types.Tuple([types.boolean if isinstance(v, bool) else one for v in hyper]),
            *(one, tuple_of(one, max(transforms - 2, 0)), wide, array_type(form)),
        )
        super().__init__(make_coefficients, parts, kinds)
