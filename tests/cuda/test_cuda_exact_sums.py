"""Sums that are rounded once: those of math.fsum, compiled or not."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from adaptopt.cuda.exact_sums import DIGITS, add_exactly, rounded
from adaptopt.kernels.compile import inlinable

pytestmark = pytest.mark.quick

WAYS = {
    "python": (add_exactly, rounded),
    "compiled": tuple(njit(inlinable(f)) for f in (add_exactly, rounded)),
}
NUMBERS = st.floats(0.0, 2.0**1010)
NEAR = st.builds(math.ldexp, st.integers(0, 2**53), st.integers(-170, 0))
SMALL = st.floats(0.0, 1e-300)


def total(values, way):
    add, end = WAYS[way]
    digits = np.zeros(DIGITS, np.int64)
    for value in values:
        add(digits, value)
    return end(digits)


@pytest.mark.parametrize("way", WAYS)
@given(values=st.one_of([st.lists(kind, max_size=30) for kind in (NUMBERS, NEAR, SMALL)]))
@settings(max_examples=300, deadline=None)
def test_sums_are_those_of_fsum(way, values):
    assert total(values, way) == math.fsum(values)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "values",
    [
        [1.0, 2.0**-53],
        [1.0, 2.0**-53, 2.0**-120],
        [1.0 + 2.0**-52, 2.0**-53],
        [1.0 + 2.0**-52, 2.0**-53, 2.0**-1074],
        [2.0 - 2.0**-52, 2.0**-53],
        [5e-324, 5e-324],
        [2.0**-1022, 5e-324],
        [1.7e308, 1e292],
    ],
    ids=str,
)
def test_just_between_two_numbers(way, values):
    assert total(values, way) == math.fsum(values)


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_all_sizes(way):
    values = [math.ldexp(1.0 + 2.0**-52, e) for e in range(-1022, 1023, 10)]
    assert total(values, way) == math.fsum(values)
    assert total([], way) == 0.0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "values", [[1.7e308] * 2, [2.0**1023] * 4, [sys.float_info.max, 2.0**970]], ids=str
)
def test_beyond_the_largest_number_lies_infinity(way, values):
    assert total(values, way) == math.inf
