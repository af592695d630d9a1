"""Proximal maps: the box, and how it is rounded."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptopt.prox.base import Box, NonNegative, clip, projected_gradient, round_inwards

pytestmark = pytest.mark.quick

finite = st.floats(-1e30, 1e30)


@given(finite, finite, finite)
def test_clip_is_the_nearest_point_of_the_interval(x, a, b):
    lo, hi = min(a, b), max(a, b)
    assert clip(x, 1.0, lo, hi) == min(max(x, lo), hi)


def test_clip_keeps_nan():
    assert math.isnan(clip(math.nan, 1.0, 0.0, 1.0))


@given(finite, finite, finite)
def test_float32_bounds_lie_within_the_given_ones(x, a, b):
    lo, hi = min(a, b), max(a, b)
    low, high = (float(v) for v in round_inwards(np.array(lo), np.array(hi), np.dtype(np.float32)))
    room = np.float64(np.float32(lo)) <= hi and np.float64(np.float32(hi)) >= lo
    if lo < hi and room and low != high:
        assert lo <= low <= high <= hi


def test_bounds_that_no_float32_lies_between_become_the_nearest():
    low, high = round_inwards(np.array(0.1), np.array(0.1), np.dtype(np.float32))
    assert low == high == np.float32(0.1)


@pytest.mark.parametrize(
    ("x", "g", "expected"),
    [
        (0.5, 0.2, 0.2),
        (0.5, 3.0, 0.5),
        (0.5, -3.0, -0.5),
        (0.0, 2.0, 0.0),
        (1.0, -2.0, 0.0),
        (0.0, -0.3, -0.3),
    ],
)
def test_the_projected_gradient_is_cut_short_at_the_walls(x, g, expected):
    assert projected_gradient(x, g, 0.0, 1.0) == expected


def test_non_negative_has_no_upper_bound():
    assert NonNegative().parameters((3,), np.dtype(np.float64)) == ((), (0.0, np.inf))


def test_one_array_bound_makes_both_arrays():
    walls, scalars = Box([0, -1], 5).parameters((2,), np.dtype(np.float64))
    assert scalars == ()
    assert [w.tolist() for w in walls] == [[0, -1], [5, 5]]
