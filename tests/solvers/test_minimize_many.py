"""minimize_many: each row is the run of minimize, whatever the threads."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from methods_table import METHODS, in_turn, takes
from numba import njit

import adaptopt as ao

STARTS = np.random.default_rng(0).standard_normal((40, 5))


@njit
def valley(x, g_out):
    """Rosenbrock's function."""
    f = 0.0
    g_out[:] = 0.0
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        f += 100.0 * a * a + b * b
        g_out[i] -= 400.0 * a * x[i] + 2.0 * b
        g_out[i + 1] = 200.0 * a
    return f


@njit
def bowl(x, g_out, weights, centre, scale):
    f = 0.0
    for i in range(x.size):
        g_out[i] = scale * weights[i] * (x[i] - centre)
        f += scale * weights[i] * (x[i] - centre) ** 2 / 2
    return f


@pytest.fixture(params=[1, 2, 3])
def threads(request, monkeypatch):
    monkeypatch.setattr("adaptopt.solvers.many.get_num_threads", lambda: request.param)


def assert_rows_are_runs(many, run):
    """Demand that each row has the bits of ``run(i)``."""
    for i in range(len(many.x)):
        one = run(i)
        for key in ("x", "jac", "learning_rates"):
            np.testing.assert_array_equal(many[key][i], one[key], err_msg=key)
            assert many[key].dtype == one[key].dtype
        for key in ("fun", "nit", "nfev", "njev", "status", "success"):
            np.testing.assert_equal(many[key][i], one[key], err_msg=key)
        assert one.message.startswith(many.message[i])  # minimize may say why it ended unsolved


OPTIONS = {
    "gtol": {"gtol": 1e-2, "maxiter": 400},
    "maxiter": {"maxiter": 37},
    "maxiter 0": {"maxiter": 0},
    "maxfev": {"maxfev": 23},
    "xtol": {"xtol": 1e-3, "gtol": None},
    "patience": {"patience": 5},
    "f_target": {"f_target": 1.0, "maxiter": 200},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_row_is_a_run_of_its_own(options, threads):
    many = ao.minimize_many(valley, STARTS, method=ao.AdaGrad(0.5), options=options)
    assert_rows_are_runs(
        many, lambda i: ao.minimize(valley, STARTS[i], method=ao.AdaGrad(0.5), options=options)
    )


@pytest.mark.parametrize(
    ("name", "dtype"),
    in_turn(["adam", "nadam", "rmsprop-schedule", "ftrl", "momentum"], [np.float32, np.float64]),
)
def test_other_methods_and_maps_do_the_same(name, dtype, request):
    if name != "adam":
        request.getfixturevalue("in_python")
    X, others = STARTS[:9].astype(dtype), {"bounds": [(-1.0, 0.5)] * 5}
    if takes(name, ao.L1(0.1)):
        others["prox"] = ao.L1(0.1)
    method, options = METHODS[name], {"maxiter": 90, "lr": METHODS[name].lr}
    if name == "momentum":
        options["lr"] = 1e-3
    many = ao.minimize_many(valley, X, method=method, options=options, **others)
    request.getfixturevalue("in_python")
    assert_rows_are_runs(
        many, lambda i: ao.minimize(valley, X[i], method=method, options=options, **others)
    )


def test_methods_that_measure_do_the_same(in_python):
    many = ao.minimize_many(valley, STARTS, method=ao.AdaGradNorm(0.1), options={"maxiter": 50})
    assert_rows_are_runs(
        many,
        lambda i: ao.minimize(
            valley, STARTS[i], method=ao.AdaGradNorm(0.1), options={"maxiter": 50}
        ),
    )


def test_row_args_come_before_args(request):
    rng = np.random.default_rng(1)
    weights, centres = rng.random((40, 5)), np.arange(40)
    many = ao.minimize_many(
        bowl, STARTS, (0.5,), ao.AdaGrad(), options={"maxiter": 99}, row_args=(weights, centres)
    )
    request.getfixturevalue("in_python")
    assert_rows_are_runs(
        many,
        lambda i: ao.minimize(
            bowl, STARTS[i], (weights[i], centres[i], 0.5), ao.AdaGrad(), options={"maxiter": 99}
        ),
    )


def test_a_pair_may_be_returned(in_python):
    @njit
    def pair(x, centre):
        return ((x - centre) ** 2).sum() / 2, x - centre

    many = ao.minimize_many(pair, STARTS, (3.0,), ao.AdaGrad(1.0))
    np.testing.assert_allclose(many.x, 3.0, atol=1e-4)


@pytest.mark.parametrize("policy", ["stop", "omit"])
def test_what_is_not_finite_ends_one_run_only(policy, in_python):
    @njit
    def cliff(x, g_out, calls):
        calls[0] += 1
        g_out[:] = -1.0
        return np.nan if calls[0] % 7 == 0 else -x[0]

    options = {"nan_policy": policy, "maxiter": 30, "lr": 0.1}
    many = ao.minimize_many(cliff, STARTS, options=options, row_args=(np.zeros((40, 1)),))
    assert_rows_are_runs(
        many, lambda i: ao.minimize(cliff, STARTS[i], (np.zeros(1),), options=options)
    )


def test_nan_policy_raise():
    @njit
    def bad(x, g_out):
        g_out[:] = 1.0
        return np.nan

    with pytest.raises(FloatingPointError, match="at step 0"):
        ao.minimize_many(bad, STARTS, options={"nan_policy": "raise", "lr": 0.1})


def test_an_exception_arrives_as_itself(threads):
    @njit
    def failing(x, g_out, weights, i, scale):  # of the types of bowl, whose kernel takes it too
        if i == 17:
            raise ZeroDivisionError("in problem", 17)
        return bowl(x, g_out, weights, 0.0, scale)

    given = {"method": ao.AdaGrad(), "row_args": (np.ones((40, 5)), np.arange(40))}
    with pytest.raises(ZeroDivisionError) as caught:
        ao.minimize_many(failing, STARTS, (0.5,), **given)
    assert caught.value.args == ("in problem", 17)


@njit
def endless(x, g_out):
    g_out[:] = 1.0
    return 0.0


def test_ctrl_c_is_seen(threads):
    options = {"maxiter": None}
    ao.minimize_many(endless, STARTS, method=ao.AdaGrad(), options={"maxiter": 1})
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    start = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ao.minimize_many(endless, STARTS, method=ao.AdaGrad(), options=options)
    assert time.perf_counter() - start < 2
    timer.join()


def test_maxtime_is_that_of_all(threads):
    start = time.perf_counter()
    res = ao.minimize_many(
        endless, STARTS, method=ao.AdaGrad(), options={"maxiter": None, "maxtime": 0.3}
    )
    assert time.perf_counter() - start < 2
    assert (res.status == 4).all()
    assert (res.nfev >= 1).all()


def test_a_bad_rate_is_refused_at_its_step():
    method = ao.AdaGrad(lambda t: 0.5 if t < 38 else -1.0)
    with pytest.raises(ValueError, match=r"lr\(38\) is -1.0, expected a finite number >= 0"):
        ao.minimize_many(endless, STARTS, method=method)


@pytest.mark.parametrize("gtol", [1e-5, None])
def test_bounds_that_fix_everything_take_one_evaluation(gtol, in_python):
    others = {"bounds": [(1, 1)] * 5, "options": {"gtol": gtol}}
    many = ao.minimize_many(valley, STARTS, **others)
    assert (many.nfev == 1).all()
    assert_rows_are_runs(many, lambda i: ao.minimize(valley, STARTS[i], **others))


def test_the_threads_look_up_no_addresses(monkeypatch):
    """That takes a lock of llvmlite, which an interrupt leaves taken."""
    expected = ao.minimize_many(valley, STARTS, method=ao.AdaGrad(), options={"maxiter": 5})

    def refuse(*arguments):
        raise AssertionError("a kernel looked up the address of a function")

    for name in ("_get_wrapper_address", "_get_jit_address"):
        monkeypatch.setattr(f"numba.experimental.function_type.{name}", refuse)
    many = ao.minimize_many(valley, STARTS, method=ao.AdaGrad(), options={"maxiter": 5})
    np.testing.assert_array_equal(many.x, expected.x)


def test_a_problem_without_a_gradient_warns_of_nothing(in_python):
    """The median of its rates is that of nothing; filters of warnings are those of all threads."""
    options = {"gtol": None, "maxiter": 10}
    many = ao.minimize_many(
        bowl, STARTS, (np.zeros(5), 0.0, 1.0), method=ao.AdaGrad(), options=options
    )
    assert (many.nit == 10).all()


def test_the_starts_are_not_modified():
    X = STARTS.copy()
    ao.minimize_many(valley, X, method=ao.AdaGrad(), options={"maxiter": 5})
    np.testing.assert_array_equal(X, STARTS)


ERRORS = {
    "not compiled": (lambda: ao.minimize_many(lambda x, g: 0.0, STARTS), TypeError, "numba.njit"),
    "shape": (lambda: ao.minimize_many(valley, STARTS[0]), ValueError, r"expected \(m, n\)"),
    "no rows": (lambda: ao.minimize_many(valley, STARTS[:0]), ValueError, "X0 has no rows"),
    "dtype": (lambda: ao.minimize_many(valley, STARTS + 0j), TypeError, "X0 has dtype complex"),
    "nan": (
        lambda: ao.minimize_many(valley, np.full((2, 2), np.nan)),
        ValueError,
        r"X0\[0, 0\] is nan, expected finite numbers",
    ),
    "row_args": (
        lambda: ao.minimize_many(valley, STARTS, row_args=(np.zeros(3),)),
        ValueError,
        r"row_args\[0\] has shape \(3,\), expected 40 entries",
    ),
    "history": (
        lambda: ao.minimize_many(valley, STARTS, options={"history": True}),
        ValueError,
        r"options\['history'\] is 1, expected False",
    ),
    "check_every": (
        lambda: ao.minimize_many(valley, STARTS, options={"check_every": 5}),
        ValueError,
        r"options\['check_every'\] is 5, expected 1: the compiled loop looks at every step",
    ),
    "prox": (
        lambda: ao.minimize_many(valley, STARTS, prox=ao.Simplex()),
        ValueError,
        "expected a method of numbers and a separable map",
    ),
    "gradient": (
        lambda: ao.minimize_many(njit(lambda x: (0.0, x[1:])), STARTS, method=ao.AdaGrad()),
        ValueError,
        r"the gradient has shape \(4,\), expected \(5,\)",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_was_expected(call, error, words, in_python):
    with pytest.raises(error, match=words):
        call()


def test_problems_whose_bounds_fix_all_variables_take_one_evaluation_each(in_python):
    res = ao.minimize_many(fixed_bowl, np.ones((3, 2)), bounds=[(1, 1)] * 2, options={"gtol": None})
    assert res.success.all()
    assert (res.nit.max(), res.nfev.max()) == (0, 1)


@njit
def fixed_bowl(x, g_out):
    f = 0.0
    for i in range(x.size):
        g_out[i] = x[i]
        f += x[i] * x[i] / 2
    return f


def test_coupled_decay_counts_and_after_decoupled_decay_the_last_iterate_is_returned(in_python):
    starts, options = np.array([[0.5, 1.0], [0.0, 0.0]]), {"maxiter": 40}
    for decoupled in (False, True):
        method = ao.SGD(0.1, weight_decay=1.0, decoupled=decoupled)
        many = ao.minimize_many(fixed_bowl, starts, method=method, options=options)
        for k, x0 in enumerate(starts):
            one = ao.minimize(fixed_bowl, x0, method=method, options=options)
            np.testing.assert_array_equal(many.x[k], one.x)
            assert many.fun[k] == one.fun
