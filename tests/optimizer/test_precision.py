"""Low precision: 16-bit parameters, gradients and accumulators around float32 arithmetic."""

import functools
import hashlib

import ml_dtypes
import numba
import numpy as np
import pytest
from host_code import dense_step, functions, multiplies_vectors
from methods_table import EACH_SHAPE, KERNELS, METHODS, in_turn

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM

BFLOAT16, FLOAT16, FLOAT32 = (np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32))
NARROW = [FLOAT16, BFLOAT16]


def data(dtype, n=200, steps=5, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n).astype(dtype) for _ in range(steps + 1)]


def run(x, gs, method, **options):
    opt = ao.Optimizer(x, method, **options)
    for g in gs:
        opt.step(g)
    return opt


# -- numbers beyond a dtype ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: ao.Optimizer(x, ao.AdaGrad(initial_accumulator=1e39)), "initial_accumulator"),
        (lambda x: ao.Optimizer(x, ao.SGD(lr=1e39)), "lr"),
        (lambda x: ao.Optimizer(x, ao.SGD(weight_decay=1e-50)), "weight_decay"),
        (lambda x: ao.Optimizer(x, ao.SGD(), clip_value=1e-50), "clip_value"),
        (lambda x: ao.Optimizer(x, ao.SGD(), ao.L1(1e39)), "L1"),
        (lambda x: ao.Optimizer(x, ao.SGD(), ao.ElasticNet(0.1, [1e39])), "ElasticNet"),
        (lambda x: ao.Optimizer(x, ao.SGD(), ao.Box(1e39, 2e39)), "bounds are"),
        (lambda x: ao.Optimizer(x, ao.SGD(), ao.Simplex(1e39)), "Simplex.total"),
    ],
)
def test_numbers_that_float32_does_not_hold_are_refused(make, name):
    with pytest.raises(ValueError, match=rf"{name}.*1e[+]?(39|-50).*expected"):
        make(np.zeros(1, np.float32))
    make(np.zeros(1))


@pytest.mark.parametrize("method", [ao.Adam(0.1), ao.AMSGrad(0.1), ao.Nadam(0.1)], ids=str)
@pytest.mark.parametrize("g", [1e19, 2e19, 1e20])
def test_a_large_first_gradient_moves_by_the_rate(method, g, in_python):
    x, wide = np.ones(1, np.float32), np.ones(1)
    run(x, [np.array([g], np.float32)], method)
    run(wide, [np.array([g])], method)
    np.testing.assert_allclose(x, wide, rtol=1e-6)


# -- 16-bit parameters and gradients ---------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), in_turn(KERNELS, NARROW))
def test_state_and_rates_are_float32(name, dtype, in_python):
    x, g, *_ = data(dtype)
    opt = run(x, [g], METHODS[name])
    assert x.dtype == dtype
    assert {a.dtype for a in (opt.learning_rates(), *opt.state.values())} == {FLOAT32}


@pytest.mark.parametrize(("name", "dtype"), in_turn(KERNELS, NARROW))
def test_a_step_is_the_float32_step_rounded(name, dtype, request):
    if name not in EACH_SHAPE:
        request.getfixturevalue("in_python")
    x, g, *_ = data(dtype)
    wide = x.astype(np.float32)
    run(wide, [g.astype(np.float32)], METHODS[name])
    run(x, [g], METHODS[name])
    np.testing.assert_array_equal(x, wide.astype(dtype))


@pytest.mark.parametrize("dtype", NARROW)
def test_float32_gradients_are_taken(dtype, request):
    if dtype != FLOAT16:
        request.getfixturevalue("in_python")
    x, g, *_ = data(dtype)
    y = x.copy()
    run(x, [g], ao.AdaGrad(0.1))
    run(y, [g.astype(np.float32)], ao.AdaGrad(0.1))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", NARROW)
def test_bounds_hold_in_the_narrow_format(dtype, in_python):
    x, *gs = data(dtype)
    for rounding in ("nearest", "stochastic"):
        run(x, gs, ao.AdaGrad(1.0), prox=ao.Box(-0.1, 0.1), rounding=rounding)
        assert np.abs(x.astype(np.float64)).max() <= 0.1


@pytest.mark.parametrize("dtype", NARROW)
def test_gradient_norm_reads_narrow_arrays(dtype):
    opt = ao.Optimizer(np.zeros(3, dtype), ao.SGD())
    assert opt.gradient_norm(np.array([1, -4, 2], dtype)) == 4
    assert np.isnan(opt.gradient_norm(np.array([1, np.inf, 2], dtype)))


@pytest.mark.parametrize("dtype", NARROW)
def test_the_loss_scale_is_divided_out_in_float32(dtype, request):
    """What is below the smallest float16 number after the division is not lost."""
    if dtype != FLOAT16:
        request.getfixturevalue("in_python")
    x = np.zeros(1, dtype)
    opt = ao.Optimizer(x, ao.SGD(1e6), loss_scale=1024.0)
    opt.step(np.array([1e-5], dtype))
    assert float(x[0]) == pytest.approx(-1e6 * 1e-5 / 1024, rel=1e-2)


@pytest.mark.parametrize(
    ("dtype", "rounding"), [(FLOAT16, "nearest"), (BFLOAT16, "stochastic")], ids=str
)
def test_threads_and_position_do_not_matter(dtype, rounding):
    x, *gs = data(dtype, THREADED_FROM + 99, 2)
    before = numba.get_num_threads()
    digests = set()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            y = x.copy()
            opt = run(y, gs, ao.RMSProp(0.1), rounding=rounding, state_dtype="bfloat16")
            digests.add(hashlib.sha256(y.tobytes() + opt.state["E"].tobytes()).digest())
    finally:
        numba.set_num_threads(before)
    assert len(digests) == 1


# -- what other libraries get wrong ----------------------------------------------------------------


@pytest.mark.parametrize("method", [ao.AdaGrad(), ao.RMSProp()])
@pytest.mark.parametrize("dtype", NARROW)
def test_a_zero_gradient_with_a_tiny_eps_is_no_nan(method, dtype, request):
    """In float16, eps = 1e-8 is 0, and 0 / (sqrt(0) + eps) is NaN."""
    if isinstance(method, ao.RMSProp):
        request.getfixturevalue("in_python")
    x = np.ones(3, dtype)
    run(x, [np.zeros(3, dtype)], method)
    assert x.tolist() == [1, 1, 1]


def test_a_gradient_of_300_does_not_stop_a_float16_parameter():
    """In float16 its square is infinite, and the rate 0 for ever."""
    x = np.zeros(1, np.float16)
    opt = run(x, [np.full(1, 300, np.float16)] * 2, ao.AdaGrad(1.0))
    assert np.isfinite(opt.state["G"]).all()
    assert x[0] == pytest.approx(-1.707, rel=1e-3)


def test_a_float32_sum_of_ones_does_not_stick_at_256():
    x = np.zeros(1, BFLOAT16)
    opt = run(x, [np.ones(1, BFLOAT16)] * 1000, ao.AdaGrad())
    assert opt.state["G"][0] == 1000


def test_a_bfloat16_sum_of_ones_does_not_stick_at_256():
    """Rounded to nearest, 256 + 1 is 256; stochastically, it is right on average."""
    x = np.zeros(2000, np.float32)
    opt = run(x, [np.ones(2000, np.float32)] * 1000, ao.AdaGrad(), state_dtype="bfloat16")
    assert opt.state["G"].astype(np.float64).mean() == pytest.approx(1000, rel=0.01)


def test_centered_rmsprop_stays_finite_under_constant_gradients():
    x = np.zeros(64, BFLOAT16)
    run(x, [np.full(64, 0.1, BFLOAT16)] * 500, ao.RMSProp(1e-4, centered=True))
    assert np.isfinite(x.astype(np.float32)).all()


# -- stochastic rounding ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NARROW)
def test_steps_below_half_a_unit_are_lost_to_nearest_and_kept_on_average(dtype):
    n, step = 4000, np.finfo(np.float16).eps / 8 if dtype == FLOAT16 else 2.0**-10
    g = np.ones(n, dtype)
    still, moved = np.ones(n, dtype), np.ones(n, dtype)
    run(still, [g] * 100, ao.SGD(step))
    run(moved, [g] * 100, ao.SGD(step), rounding="stochastic", seed=1)
    # Below 1 the numbers lie twice as close, and half a unit is a quarter of that above.
    assert (still == 1).all() or dtype == FLOAT16
    assert moved.astype(np.float64).mean() == pytest.approx(1 - 100 * step, rel=2e-3)


def test_the_seed_decides():
    x, *gs = data(BFLOAT16)
    outcomes = []
    for seed in (0, 0, 1):
        y = x.copy()
        run(y, gs, ao.AdaGrad(0.1), rounding="stochastic", seed=seed)
        outcomes.append(y.tobytes())
    assert outcomes[0] == outcomes[1] != outcomes[2]


def test_every_step_draws_anew():
    x = np.zeros(1000, np.float32)
    opt = ao.Optimizer(x, ao.AdaGrad(), state_dtype="bfloat16")
    rises = []
    for _ in range(2):
        opt.state["G"][:] = 256
        opt.step(np.ones(1000, np.float32))
        rises.append(opt.state["G"] > 256)
    assert 0.3 < (rises[0] == rises[1]).mean() < 0.7 + 0.3
    assert (rises[0] != rises[1]).any()


# -- master copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), in_turn(EACH_SHAPE, NARROW))
def test_parameters_with_a_master_are_the_float32_run_rounded(name, dtype, in_python):
    method = METHODS[name]
    x, *gs = data(dtype)
    wide = x.astype(np.float32)
    run(wide, [g.astype(np.float32) for g in gs], method)
    run(x, gs, method, master=True)
    np.testing.assert_array_equal(x, wide.astype(dtype))


# -- bfloat16 accumulators -------------------------------------------------------------------------

ACCUMULATORS = [ao.AdaGrad(0.1), ao.RMSProp(0.1), ao.RMSProp(0.1, centered=True, momentum=0.9)]


@pytest.mark.parametrize("method", ACCUMULATORS, ids=str)
def test_accumulators_are_narrow_and_the_rest_is_not(method):
    opt = ao.Optimizer(np.ones(4, np.float32), method, state_dtype="bfloat16")
    for name, slot in opt.state.items():
        assert slot.dtype == (BFLOAT16 if name in method.second_moments else FLOAT32)


@pytest.mark.parametrize("method", ACCUMULATORS, ids=str)
def test_a_run_with_narrow_accumulators_stays_near_the_wide_one(method):
    x, *gs = data(np.float32, 3000, 100)
    y = x.copy()
    run(x, gs, method, state_dtype=ml_dtypes.bfloat16)
    run(y, gs, method)
    # Rates are off by up to 2**-9, steps by as much; they add up like a random walk at worst.
    assert np.abs(x - y).mean() < 0.02 * np.abs(y).mean()


def test_the_initial_accumulator_is_narrow_too():
    opt = ao.Optimizer(
        np.ones(2, np.float32), ao.AdaGrad(initial_accumulator=0.5), state_dtype="bfloat16"
    )
    assert opt.state["G"].tolist() == [0.5, 0.5]


# -- kernels ---------------------------------------------------------------------------------------


CODE = [
    (BFLOAT16, {}),
    (BFLOAT16, {"rounding": "stochastic"}),
    (BFLOAT16, {"master": True}),
    (FLOAT16, {}),
    (FLOAT16, {"rounding": "stochastic"}),
    (FLOAT32, {"state_dtype": "bfloat16"}),
]


@functools.cache
def compiled(method, dtype, **options):
    """Return the method's step: two tests look at the code of each."""
    return dense_step(method, dtype, **options).serial


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(("dtype", "options"), CODE)
def test_narrow_steps_compute_in_float32_vectors(dtype, options):
    kernel = compiled(ao.AdaGrad(), dtype, **options)
    assert "double" not in "\n".join(functions(kernel))
    assert multiplies_vectors(kernel, FLOAT32)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("method", "dtype", "options", "wide"),
    [
        (ao.AdaGrad(), FLOAT32, {}, False),
        (ao.AdaGrad(), FLOAT32, {"state_dtype": "bfloat16"}, True),
        (ao.AdaGrad(), BFLOAT16, {}, True),
        (ao.AdaGrad(), BFLOAT16, {"master": True}, True),
        (ao.AdaGrad(), BFLOAT16, {"state_dtype": "bfloat16"}, False),
        (ao.AdaGrad(), FLOAT16, {}, False),
        (ao.Adam(), FLOAT32, {}, True),
    ],
)
def test_wide_vectors_are_asked_for_where_they_pay(method, dtype, options, wide):
    (code,) = compiled(method, dtype, **options).inspect_llvm().values()
    assert ('"prefer-vector-width"="512"' in code) == wide


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"state_dtype": "float16"}, ValueError, "state_dtype is 'float16', expected None or"),
        ({"state_dtype": 3}, ValueError, "state_dtype is 3, expected None or 'bfloat16'"),
        ({"rounding": "up"}, ValueError, "rounding is 'up', expected one of nearest, stochastic"),
        ({"rounding": "stochastic"}, ValueError, "rounding is .* expected float16 or bfloat16"),
        ({"master": True}, ValueError, "master is True with .* expected float16 or bfloat16"),
        ({"master": "yes"}, TypeError, "master is 'yes', expected True or False"),
        ({"seed": -1}, ValueError, "seed is -1, expected a whole number >= 0"),
        ({"seed": 1.5}, TypeError, "seed is 1.5, expected a whole number >= 0"),
    ],
)
def test_options_that_make_no_sense(options, error, words):
    with pytest.raises(error, match=words):
        ao.Optimizer(np.ones(2, np.float32), ao.AdaGrad(), **options)


def test_narrow_state_of_float64_parameters_is_refused():
    with pytest.raises(ValueError, match="state_dtype is 'bfloat16' with parameters of float64"):
        ao.Optimizer(np.ones(2), ao.AdaGrad(), state_dtype="bfloat16")


def test_narrow_state_without_accumulators_is_refused():
    with pytest.raises(ValueError, match="state_dtype is 'bfloat16' with Momentum, expected"):
        ao.Optimizer(np.ones(2, np.float32), ao.Momentum(), state_dtype="bfloat16")


def test_gradients_of_another_narrow_format_are_refused():
    opt = ao.Optimizer(np.ones(2, BFLOAT16), ao.AdaGrad())
    with pytest.raises(TypeError, match="grads has dtype float16, expected bfloat16 or float32"):
        opt.step(np.ones(2, np.float16))
