"""What holds for every method and any numbers: Hypothesis looks for those for which it does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from methods_table import KERNELS, METHODS, STILL, in_turn

import adaptopt as ao

DTYPES = [np.float32, np.float64]


def numbers(dtype, shape):
    """Finite numbers, zeros and subnormal ones among them, whose squares are finite too."""
    return arrays(dtype, shape, elements=st.floats(-(2.0**50), 2.0**50, width=32))


@st.composite
def problems(draw, dtype, least=1):
    """A start and two gradients of the same length."""
    n = draw(st.integers(least, 40))
    return [draw(numbers(dtype, n)) for _ in range(3)]


def run(method, x, gs):
    x = x.copy()
    opt = ao.Optimizer(x, method)
    for g in gs:
        opt.step(np.ascontiguousarray(g))
    return [x, *opt.state.values(), opt.learning_rates()]


@pytest.mark.parametrize(("name", "dtype"), in_turn(STILL, DTYPES))
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_zero_gradient_moves_nothing_where_slots_are_zero(name, dtype, data):
    x = data.draw(numbers(dtype, data.draw(st.integers(1, 40))))
    after, *_ = run(METHODS[name], x, [np.zeros_like(x)] * 2)
    np.testing.assert_array_equal(after, x)


@pytest.mark.parametrize(("name", "dtype"), in_turn(KERNELS, DTYPES))
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_permuting_the_elements_commutes_with_a_step(name, dtype, data):
    x, *gs = data.draw(problems(dtype))
    order = np.array(data.draw(st.permutations(range(x.size))))
    plain = run(METHODS[name], x, gs)
    permuted = run(METHODS[name], x[order], [g[order] for g in gs])
    for a, b in zip(plain, permuted, strict=True):
        np.testing.assert_array_equal(a[order], b)


@pytest.mark.parametrize(("name", "dtype"), in_turn(KERNELS, DTYPES))
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_coordinate_does_not_see_the_others(name, dtype, data):
    """So its place in a vector, in its tail and in the array do not matter."""
    x, *gs = data.draw(problems(dtype, least=2))
    start = data.draw(st.integers(0, x.size - 1))
    stop = data.draw(st.integers(start + 1, x.size))
    whole = run(METHODS[name], x, gs)
    part = run(METHODS[name], x[start:stop], [g[start:stop] for g in gs])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[start:stop], b)
