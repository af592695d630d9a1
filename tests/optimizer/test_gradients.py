"""What is done to gradients in the same pass: loss scale, clipping by norm and by value."""

import math

import numba
import numpy as np
import pytest

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
from adaptopt.kernels.reductions import BLOCK, SumOfSquares


def stepped(g, **options):
    """Return what SGD with rate 1 subtracts."""
    x = np.zeros_like(g)
    ao.Optimizer(x, ao.SGD(1.0), **options).step(g)
    return -x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_clipped(dtype):
    g = np.array([-3, -1, 0.5, 2], dtype)
    assert stepped(g, clip_value=1.0).tolist() == [-1, -1, 0.5, 1]


def test_a_large_norm_is_scaled_down():
    assert stepped(np.array([3.0, 4.0]), clip_norm=1.0) == pytest.approx(np.array([0.6, 0.8]))


def test_a_small_norm_is_left_alone():
    g = np.array([0.3, 0.4])
    np.testing.assert_array_equal(stepped(g, clip_norm=1.0), g)


def test_the_norm_is_over_all_parameters():
    opt = ao.Optimizer({"a": np.zeros(1), "b": np.zeros(1, np.float32)}, ao.SGD(1.0), clip_norm=1.0)
    opt.step({"a": np.array([3.0]), "b": np.array([4.0], np.float32)})
    assert [opt.params["a"][0], opt.params["b"][0]] == pytest.approx([-0.6, -0.8])


def test_the_loss_scale_divides():
    assert stepped(np.array([8.0, -4.0]), loss_scale=4.0).tolist() == [2, -1]


def test_the_norm_is_that_of_the_unscaled_gradient():
    g = np.array([3.0, 4.0])
    unscaled = stepped(g, clip_norm=1.0)
    np.testing.assert_allclose(stepped(1024 * g, clip_norm=1.0, loss_scale=1024.0), unscaled)


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-170, 1.0, 1e170, 1.7e308])
@pytest.mark.parametrize("limit", [1e-300, 1e-180, 1e-5, 1e8])
def test_the_norm_is_that_of_gradients_of_any_size(size, limit):
    g = np.full(4, size)
    expected = g if size <= limit / 2 else np.full(4, limit / 2)
    np.testing.assert_allclose(stepped(g, clip_norm=limit), expected, rtol=1e-14)


def test_a_factor_too_small_for_float32_is_applied_in_two():
    g = np.full(40_000, 3e38, np.float32)
    np.testing.assert_allclose(stepped(g, clip_norm=1e-3), 5e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("power", [-300, -140, -130, 130, 140, 300])
def test_loss_scales_beyond_float32_divide(dtype, power):
    g = np.array([0.0, 1.0], dtype)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.array([0.0, 2.0**-power]).astype(dtype)
    assert stepped(g, loss_scale=2.0**power).tolist() == expected.tolist()


def test_a_loss_scale_without_an_inverse_is_refused():
    with pytest.raises(ValueError, match=r"loss_scale is 1e-310, expected at least 2\*\*-1022"):
        ao.Optimizer(np.zeros(1), ao.SGD(1.0), loss_scale=1e-310)


def test_values_are_clipped_last():
    g = stepped(np.array([30.0, 40.0]), clip_norm=1.0, clip_value=0.7, loss_scale=10.0)
    assert g == pytest.approx(np.array([0.6, 0.7]))


def test_transformations_come_before_weight_decay():
    x = np.array([10.0])
    ao.Optimizer(x, ao.SGD(1.0, weight_decay=0.5), clip_value=1.0).step(np.array([100.0]))
    assert x[0] == 10 - (1 + 0.5 * 10)


@pytest.mark.parametrize("option", [{"loss_scale": 8.0}, {"clip_norm": 1.0}])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_gradient_that_is_not_finite_skips_the_step_and_says_so(option, bad, dtype):
    x = np.ones(3, dtype)
    opt = ao.Optimizer(x, ao.Adam(0.1), **option)
    opt.step(np.ones(3, dtype))
    before = opt.state_dict()["parameters"][""]
    with pytest.warns(RuntimeWarning, match="step 2 was skipped: a gradient is not finite"):
        opt.step(np.array([1, bad, 1], dtype))
    assert (opt.t, opt.skipped) == (1, 1)
    after = opt.state_dict()["parameters"][""]
    np.testing.assert_array_equal(after["params"], before["params"])
    for slot, array in before["state"].items():
        np.testing.assert_array_equal(after["state"][slot], array)


def test_one_bad_parameter_skips_the_step_of_all():
    opt = ao.Optimizer({"a": np.ones(2), "b": np.ones(2)}, ao.SGD(), loss_scale=2.0)
    with pytest.warns(RuntimeWarning, match=r"loss_scale is 2"):
        opt.step({"a": np.ones(2), "b": np.full(2, np.inf)})
    assert opt.params["a"].tolist() == [1, 1]


def test_the_loss_scale_may_be_changed_between_steps():
    x = np.zeros(1)
    opt = ao.Optimizer(x, ao.SGD(1.0), loss_scale=4.0)
    opt.loss_scale = 2.0
    opt.step(np.ones(1))
    assert x[0] == -0.5


def test_squares_that_overflow_are_no_bad_gradient():
    g = stepped(np.array([3e200, 4e200]), clip_norm=1.0)
    assert g == pytest.approx(np.array([0.6, 0.8]))


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 77])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_sum_of_squares_is_the_sum_of_squares(n, dtype):
    g = np.random.default_rng(n).standard_normal(n).astype(dtype)
    expected = math.fsum((g.astype(np.float64) ** 2).tolist())
    assert SumOfSquares(dtype)(g) == pytest.approx(expected, rel=1e-14)


def test_the_norm_has_the_same_bits_on_any_number_of_threads():
    g = np.random.default_rng(0).standard_normal(THREADED_FROM + 12345).astype(np.float32)
    squares = SumOfSquares("float32")
    before = numba.get_num_threads()
    sums = set()
    try:
        for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
            numba.set_num_threads(threads)
            sums.add(squares(g))
    finally:
        numba.set_num_threads(before)
    assert len(sums) == 1


def test_the_norm_does_not_depend_on_the_alignment():
    g = np.random.default_rng(0).standard_normal(3 * BLOCK).astype(np.float32)
    room = np.empty(g.size + 40, np.float32)
    squares, sums = SumOfSquares("float32"), set()
    for start in range(40):
        place = room[start : start + g.size]
        place[:] = g
        sums.add(squares(place))
    assert len(sums) == 1


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip_value", "clip_norm", "loss_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_an_option_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} is .*, expected a finite number > 0 or None"):
        ao.Optimizer(np.ones(2), ao.SGD(), **{name: value})


@pytest.mark.parametrize("name", ["clip_value", "clip_norm", "loss_scale"])
@pytest.mark.parametrize("value", ["1", True, [1.0]])
def test_an_option_that_is_no_number(name, value):
    with pytest.raises(TypeError, match=f"{name} is .*, expected a number > 0 or None"):
        ao.Optimizer(np.ones(2), ao.SGD(), **{name: value})


def test_a_loss_scale_where_there_was_none():
    opt = ao.Optimizer(np.ones(2), ao.SGD())
    with pytest.raises(ValueError, match=r"loss_scale is 2.0, expected None"):
        opt.loss_scale = 2.0
