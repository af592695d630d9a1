"""minimize: SciPy's contract, option by option."""

import pickle
import time

import numpy as np
import pytest
from numba import njit
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning, rosen, rosen_der

import adaptopt as ao
from adaptopt.solvers.added import added_to

SCALE = np.array([100.0, 1.0, 0.01])


def bowl(x, centre=3.0):
    d = x - centre
    return float(SCALE @ (d * d).ravel()) / 2, (SCALE * d.ravel()).reshape(x.shape)


def value(x, centre=3.0):
    return bowl(x, centre)[0]


def gradient(x, centre=3.0):
    return bowl(x, centre)[1]


def solve(fun=bowl, x0=(0.0, 0.0, 0.0), jac=True, method="adagrad", options=None, **others):
    options = {"lr": 1.0, **(options or {})}
    return ao.minimize(fun, x0, jac=jac, method=method, options=options, **others)


# -- the objective and its gradient ----------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [ao.AdaGrad(1.0), ao.SGD(0.015), ao.Momentum(0.002), ao.RMSProp(1e-2, centered=True)],
    ids=lambda m: type(m).__name__,
)
def test_every_method_minimises_a_convex_problem(method):
    res = ao.minimize(
        bowl, np.zeros(3), jac=True, method=method, options={"gtol": 1e-2, "maxiter": 100_000}
    )
    assert res.success, res.message
    np.testing.assert_allclose(res.x, 3, atol=1.01)


def test_the_arguments_are_in_scipys_order():
    res = ao.minimize(
        value, [0.0, 0.0, 0.0], (2.0,), ao.AdaGrad(1.0), gradient,
        None, None, None, (), 1e-6, None, {"maxiter": 5000},
    )  # fmt: skip
    assert res.success
    np.testing.assert_allclose(res.x, 2, atol=1e-3)


def test_jac_true_and_a_separate_jac_give_the_same_run():
    pair, separate = solve(), solve(value, jac=gradient)
    assert pair.nit == separate.nit
    np.testing.assert_array_equal(pair.x, separate.x)


@pytest.mark.parametrize("jac", [None, False, "2-point", "3-point", "cs"])
def test_finite_differences_come_near_the_gradient_and_warn_of_their_cost(jac):
    def f(x):
        return (SCALE * (x - 3) ** 2).sum() / 2

    with pytest.warns(RuntimeWarning, match=r"each step costs \d+ evaluations"):
        res = solve(f, jac=jac, options={"gtol": 1e-4})
    assert res.success
    np.testing.assert_allclose(res.x, 3, atol=2e-2)


@pytest.mark.parametrize("jac", ["2-point", "3-point"])
@pytest.mark.parametrize("start", [[2e-6, 550e-9, 1e-8], [1e-9, -1e-10, 1e-12]])
@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_steps_of_differences_follow_the_size_of_small_variables(start, jac):
    """Of a peak in metres, with a width below the usual step; and of others, not small at all."""
    at = np.linspace(500e-9, 600e-9, 50)

    def peak(p):
        return p[0] * np.exp(-(((at - p[1]) / p[2]) ** 2) / 2)

    true = [3e-6, 548e-9, 8e-9]
    if start[0] == 1e-9:
        true, peak = [1.0, 2.0, 3.0], np.array
    res = ao.minimize(lambda p: float(((peak(p) - peak(true)) ** 2).sum()), start, jac=jac)
    np.testing.assert_allclose(res.x, true, rtol=1e-4)


@pytest.mark.parametrize("guess", [[2000, 552e-9, 1e-8, 50], [2500, 545e-9, 9e-9, 80]])
def test_variables_of_several_units(guess):
    rng, at = np.random.default_rng(0), np.linspace(500e-9, 600e-9, 200)
    counts = 3000 * np.exp(-(((at - 548e-9) / 8e-9) ** 2) / 2) + rng.normal(100, 50, 200)

    def misfit(p):
        z = (at - p[1]) / p[2]
        bell = np.exp(-(z**2) / 2)
        slopes = np.array([bell, p[0] * bell * z / p[2], p[0] * bell * z**2 / p[2], 0 * at + 1])
        r = p[0] * bell + p[3] - counts
        return r @ r / 2, slopes @ r

    res = ao.minimize(misfit, guess, jac=True)
    assert res.success
    np.testing.assert_allclose(res.x, [2995.58, 547.973e-9, 8.03713e-9, 98.871], rtol=1e-5)


@pytest.mark.parametrize("start", [[100, 1e-12, 1, 1], [1e4, 1e-9, 0, 0]])
def test_one_small_variable_of_the_same_unit_does_not_stay_small(start):
    A, b = np.array([1, 10, 100, 1e3]), np.array([1, 2, -3, 4e3])
    res = ao.minimize(lambda x: (A @ (x * x) / 2 - b @ x, A * x - b), start, jac=True)
    np.testing.assert_allclose(res.x, b / A, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_a_run_by_differences_of_small_variables_goes_on_exactly():
    def bowl(x):
        return float(((1e9 * x - [1, 2]) ** 4).sum() + 1e18 * x @ x)

    def run(steps, start=(3e-9, 1e-9), state=None):
        return ao.minimize(bowl, start, state=state, options={"maxiter": steps})

    np.testing.assert_array_equal(run(3, [0.0, 0.0], run(3).state).x, run(6).x)


def test_finite_differences_are_counted():
    with pytest.warns(RuntimeWarning, match="costs 4 evaluations"):
        res = solve(value, jac="2-point", options={"maxiter": 10})
    assert (res.nit, res.njev, res.nfev) == (10, 11, 44)


def test_fd_method_chooses_the_differences():
    with pytest.warns(RuntimeWarning, match="costs 7 evaluations of fun for 3-point"):
        solve(value, jac=None, options={"maxiter": 1, "fd_method": "3-point"})


def test_finite_differences_in_float32_are_central_and_warn_that_they_are_rough():
    def f(x):
        return float(((x.astype(float) - 3) ** 2).sum())

    with pytest.warns(RuntimeWarning, match="costs 5 .* 3-point finite differences. In float32"):
        res = solve(f, np.zeros(2, np.float32), None)
    assert abs(2 * (res.x - 3)).max() <= 2e-5
    with pytest.warns(RuntimeWarning, match="2-point finite differences. In float32"):
        solve(f, np.zeros(2, np.float32), "2-point", options={"maxiter": 1})


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_finite_differences_stay_within_the_bounds():
    seen = []

    def f(x):
        seen.append(x.copy())
        return value(x)

    solve(f, jac=None, bounds=[(0, 1), (2, 2), (-1, 0)], options={"maxiter": 20})
    seen = np.array(seen)
    assert (seen >= [0, 2, -1]).all()
    assert (seen <= [1, 2, 0]).all()


def test_args_need_not_be_a_tuple():
    np.testing.assert_allclose(solve(args=2.0).x[0], 2, atol=1e-3)


def test_the_objective_gets_a_copy_of_its_own():
    seen = []

    def f(x):
        seen.append(x)
        result = bowl(x)
        x[:] = np.nan
        return result

    res = solve(f, options={"maxiter": 5})
    assert np.isfinite(res.x).all()
    assert len({id(x) for x in seen}) == len(seen)


def test_a_gradient_may_live_in_one_buffer():
    buffer = np.empty(3)

    def f(x):
        f_x, g = bowl(x)
        buffer[:] = g
        return f_x, buffer

    res = solve(f, options={"maxiter": 50})
    np.testing.assert_array_equal(res.jac, gradient(res.x))


# -- x0 --------------------------------------------------------------------------------------------


def test_x0_is_not_modified():
    x0 = np.zeros(3)
    solve(x0=x0)
    assert x0.tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(3,), (3, 1), (1, 3, 1)])
def test_the_shape_of_x0_is_kept(shape):
    shapes = set()

    def f(x):
        shapes.add(x.shape)
        return bowl(x)

    res = solve(f, x0=np.zeros(shape))
    assert shapes == {shape}
    assert {a.shape for a in (res.x, res.jac, res.learning_rates)} == {shape}


@pytest.mark.parametrize(
    ("given", "kept"),
    [(np.float32, np.float32), (np.float64, np.float64), (np.int32, np.float64), (bool, float)],
)
def test_the_dtype_of_x0_is_kept(given, kept):
    dtypes = set()

    def f(x):
        dtypes.add(x.dtype)
        return bowl(x)

    res = solve(f, x0=np.zeros(3, given), options={"maxiter": 3})
    assert dtypes == {np.dtype(kept)}
    assert {a.dtype for a in (res.x, res.jac, res.learning_rates)} == dtypes


def test_a_fortran_ordered_x0_is_taken():
    x0 = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    res = ao.minimize(
        lambda x: ((x * x).sum(), 2 * x), x0, jac=True, options={"lr": 1.0, "maxiter": 1}
    )
    np.testing.assert_allclose(res.state.x, x0 - np.sign(x0), atol=1e-7)


# -- bounds ----------------------------------------------------------------------------------------

BOUNDS = [
    Bounds([0, 0, 0], [1, 2, np.inf]),
    [(0, 1), (0, 2), (0, None)],
    np.array([[0, 1], [0, 2], [0, np.inf]]),
    ((0, 1), (0, 2), (0, float("inf"))),
]


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_hold_at_every_point_and_are_met(bounds, dtype):
    seen = []

    def f(x):
        seen.append(x.copy())
        return bowl(x)

    res = solve(f, x0=np.array([-5, 5, 9], dtype), bounds=bounds, options={"gtol": 1e-3})
    assert res.success
    np.testing.assert_allclose(res.x, [1, 2, 3], atol=0.11)
    assert (np.array(seen) >= 0).all()
    assert (np.array(seen) <= [1, 2, np.inf]).all()


def test_equal_bounds_freeze_an_element():
    res = solve(bounds=[(None, None), (0.25, 0.25), (None, None)])
    assert res.x[1] == 0.25
    assert res.success


def test_bounds_that_fix_every_element_take_one_evaluation():
    res = solve(bounds=[(1, 1), (2, 2), (3, 3)], options={"gtol": None})
    assert (res.success, res.nfev, res.x.tolist()) == (True, 1, [1, 2, 3])
    assert res.message == "All independent variables were fixed by bounds."


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_finite_differences_leave_fixed_elements_out_and_say_so():
    res = solve(value, jac=None, bounds=[(0, 9), (1, 1), (0, 9)], options={"maxiter": 3})
    assert np.isnan(res.jac).tolist() == [False, True, False]


def test_the_gradient_of_one_variable_may_be_a_scalar():
    res = ao.minimize(
        lambda x: (x[0] - 2) ** 2, [0.0], jac=lambda x: 2 * (x[0] - 2), options={"lr": 1.0}
    )
    assert res.success
    assert res.x == pytest.approx([2.0], abs=1e-5)


def test_scalar_bounds_are_for_all():
    np.testing.assert_allclose(solve(bounds=Bounds(0, 1)).x, 1, atol=1e-6)


def test_float32_points_respect_float64_bounds():
    """The float32 number next to 0.1 lies above it."""
    res = solve(x0=np.zeros(3, np.float32), bounds=[(0, 0.1)] * 3)
    assert (res.x.astype(np.float64) <= 0.1).all()


def test_bounds_of_a_matrix_are_in_its_flat_order():
    res = solve(x0=np.zeros((3, 1)), bounds=[(0, 1), (0, 2), (0, 2.5)])
    np.testing.assert_allclose(res.x.ravel(), [1, 2, 2.5], atol=1e-6)


# -- stopping --------------------------------------------------------------------------------------


def test_gtol_is_a_convergence():
    res = solve(options={"gtol": 1e-3})
    assert (res.status, res.success) == (0, True)
    assert np.abs(res.jac).max() <= 1e-3
    assert "gtol" in res.message


def test_tol_stands_for_gtol():
    assert solve(tol=1e-2).nit == solve(options={"gtol": 1e-2}).nit


def test_a_stationary_x0_takes_no_step():
    res = solve(x0=[3.0, 3.0, 3.0])
    assert (res.nit, res.nfev, res.status) == (0, 1, 0)
    assert np.isnan(res.learning_rates).all()


def test_ftol_is_a_convergence():
    res = solve(options={"ftol": 1e-4, "gtol": None})
    assert (res.status, res.success) == (0, True)
    assert "ftol" in res.message


def test_xtol_is_a_convergence():
    res = solve(options={"xtol": 1e-3, "gtol": None})
    assert (res.status, res.success) == (0, True)
    assert "xtol" in res.message


def test_maxiter_is_no_success():
    res = solve(options={"maxiter": 7})
    assert (res.nit, res.status, res.success) == (7, 1, False)


def test_maxiter_zero_evaluates_once():
    res = solve(options={"maxiter": 0})
    assert (res.nit, res.nfev, res.status, res.fun) == (0, 1, 1, value(np.zeros(3)))


def test_maxfev_is_never_exceeded():
    res = solve(options={"maxfev": 7})
    assert (res.nfev, res.status, res.success) == (7, 2, False)


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_maxfev_counts_finite_differences():
    res = solve(value, jac=None, options={"maxfev": 30})
    assert res.nfev == 28
    assert res.status == 2


def test_maxtime_ends_a_slow_run():
    def slow(x):
        time.sleep(0.02)
        return bowl(x)

    res = solve(slow, options={"maxtime": 0.1})
    assert (res.status, res.success) == (4, False)
    assert res.nit < 100


def test_f_target_is_a_success():
    res = solve(options={"f_target": 1.0})
    assert (res.status, res.success) == (5, True)
    assert res.fun <= 1.0


def test_patience_ends_a_run_that_does_not_improve():
    res = ao.minimize(bowl, np.zeros(3), jac=True, method=ao.SGD(0.03), options={"patience": 25})
    assert (res.status, res.success) == (6, False)
    assert res.nit == 25


def test_what_is_converged_is_what_is_returned():
    """The value is flat, or rounded; the gradient is not."""
    res = ao.minimize(lambda x: (0.0, x - 3), np.zeros(2), jac=True, method=ao.AdaGrad(1.0))
    assert res.success
    assert abs(res.jac).max() <= 1e-5
    np.testing.assert_allclose(res.x, 3, atol=1e-4)
    assert (
        res.success
        == ao.minimize(
            lambda x: (0.0, x - 3), np.zeros(2), jac=True, method=ao.AdaGrad(1.0), state=res.state
        ).success
    )


def hill(x):
    """Flat far away, where it is not lowest."""
    f = -np.exp(-x @ x)
    return f, -2 * x * f


@pytest.mark.parametrize("tests", [{}, {"gtol": None, "ftol": 1e-8}, {"gtol": None, "xtol": 1e-8}])
def test_a_flat_place_above_the_best_is_no_success(tests, in_python):
    res = ao.minimize(hill, [0.5], jac=True, method=ao.AdaGrad(10.0), options=tests)
    assert (res.status, res.success) == (7, False)
    assert "Stalled above the best: " in res.message
    assert "is of step 0: x is that iterate" in res.message
    assert (res.x[0], res.fun) == (0.5, hill(np.array([0.5]))[0])
    many = ao.minimize_many(njit(flat_in_place), [[0.5]], method=ao.AdaGrad(10.0), options=tests)
    assert (many.status[0], many.message[0]) == (7, res.message)
    assert many.x[0, 0] == 0.5


def flat_in_place(x, g_out):
    f = -np.exp(-x[0] * x[0])
    g_out[0] = -2 * x[0] * f
    return f


def test_a_value_of_float32_that_is_rounded_is_converged_at_what_is_returned():
    successes = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        A, b = rng.standard_normal((30, 4)).astype("f4"), rng.standard_normal(30).astype("f4")
        p = ao.problems.LeastSquares(A, b)
        res = ao.minimize(p, np.zeros(4, "f4"), jac=True, method=ao.AdaGrad(1.0))
        assert abs(res.jac).max() <= 1e-5 or not res.success
        successes += res.success
    assert successes > 15


def test_a_stationary_point_that_its_gradient_explains_is_a_success():
    """A steep coordinate made an earlier iterate lower, whose gradient is larger."""
    scale = np.array([1e4, 1.0])
    path = iter([(1e-4, 0.0), (0.0, 9e-6)])

    def f(x):
        u = np.array(next(path))
        return float(scale @ (u * u)) / 2, scale * u

    res = ao.minimize(f, np.zeros(2), jac=True, method=ao.SGD(1e-2))
    assert res.success
    assert abs(res.jac).max() == 9e-6


def test_an_iterate_that_is_not_finite_is_not_the_best():
    def f(x):
        return np.exp(-x[0]), -np.exp(-x)

    res = ao.minimize(f, [-700.0], jac=True, method=ao.SGD(lr=1e10))
    assert (res.status, res.x[0]) == (3, -700.0)
    assert "The iterate of step 1 has a non-finite entry. x is the best" in res.message


# -- weight decay ----------------------------------------------------------------------------------


@pytest.mark.parametrize("x0", [0.0, 3.0])
def test_coupled_weight_decay_is_a_penalty(x0):
    """(x - 3)^2 + x^2 / 2 is lowest at 2, where it is 3."""

    def f(x):
        return float((x - 3) @ (x - 3)), 2 * (x - 3)

    for options in ({}, {"gtol": None, "f_target": 3.0001}, {"gtol": None, "ftol": 1e-12}):
        res = ao.minimize(f, [x0], jac=True, method=ao.Adam(0.5, weight_decay=1), options=options)
        assert res.success
        assert res.x[0] == pytest.approx(2, abs=1e-2)
        assert res.fun == pytest.approx(3, abs=2e-4)
        assert res.jac[0] == 2 * (res.x[0] - 3)


def test_the_penalty_of_dual_averaging_is_a_part_of_the_value():
    """(x - 1)^2 + |x| + x^2 / 2: 2 (x - 1) + 1 + x = 0 at 1 / 3."""

    def f(x):
        return float((x - 1) @ (x - 1)), 2 * (x - 1)

    method = ao.AdaGradDA(1.0, l1=1.0, l2=1.0)
    res = ao.minimize(f, [2.0], jac=True, method=method, options={"gtol": 1e-2})
    assert res.success
    assert res.x[0] == pytest.approx(1 / 3, abs=1e-2)
    assert res.fun == pytest.approx(4 / 9 + 1 / 3 + 1 / 18, abs=1e-3)


def test_a_map_that_ties_coordinates_has_the_decay_in_its_value_and_gradient():
    def f(x):
        return float((x - 3) @ (x - 3)), 2 * (x - 3)

    method, prox = ao.AdaGrad(1.0, weight_decay=2.0), ao.L2Ball(10.0)
    res = ao.minimize(f, np.zeros(2), jac=True, method=method, prox=prox)
    assert res.success
    np.testing.assert_allclose(res.x, 1.5, atol=1e-4)
    assert res.fun == pytest.approx(9.0)


def test_decoupled_decay_has_no_objective_so_that_the_last_iterate_is_returned():
    def f(x):
        return float((x - 3) @ (x - 3)), 2 * (x - 3)

    method = ao.SGD(0.1, weight_decay=1.0, decoupled=True)
    for x0 in (0.0, 3.0):
        res = ao.minimize(f, [x0], jac=True, method=method, options={"maxiter": 500})
        assert (res.status, res.x[0]) == (1, pytest.approx(2))
        assert "gtol is not tested, and x is the last iterate" in res.message
        assert res.x[0] == res.state.x[0]
        res = ao.minimize(f, [x0], jac=True, method=method, options={"xtol": 1e-9})
        assert (res.status, res.x[0]) == (0, pytest.approx(2))


def test_a_schedule_is_asked_from_the_first_step_on():
    asked = []

    def lr(t):
        asked.append(t)
        return 1.0

    for bounds in (None, [(1, 1)] * 3):
        solve(x0=np.ones(3), method=ao.AdaGrad(), options={"lr": lr, "maxiter": 0}, bounds=bounds)
        solve(x0=np.ones(3), method=ao.AdaGrad(), options={"lr": lr, "maxiter": 2}, bounds=bounds)
    assert min(asked) == 1


def test_the_best_iterate_is_returned():
    """At this rate the steps overshoot; the first is the best."""
    seen = []

    def f(x):
        seen.append((bowl(x)[0], x.copy()))
        return bowl(x)

    res = ao.minimize(f, np.zeros(3), jac=True, method="rmsprop", options={"lr": 5.0, "maxiter": 9})
    best = min(seen, key=lambda pair: pair[0])
    assert res.fun == best[0]
    np.testing.assert_array_equal(res.x, best[1])
    np.testing.assert_array_equal(res.jac, gradient(best[1]))


# -- values that are not finite --------------------------------------------------------------------


def cliff(bad):
    """A line that falls, with a bad value beyond x = 2."""

    def f(x):
        return (bad if x[0] > 2 else -x[0]), np.array([-1.0])

    return f


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_value_never_ends_in_success(bad):
    res = ao.minimize(cliff(bad), [0.0], jac=True, method=ao.SGD(0.3), options={"f_target": -99})
    assert (res.status, res.success) == (3, False)
    assert res.x[0] == pytest.approx(1.8)
    assert res.fun == pytest.approx(-1.8)
    assert "step 7" in res.message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_gradient_never_ends_in_success(bad):
    def f(x):
        return -x[0], np.array([-1.0, bad if x[0] > 2 else 0.0])

    res = ao.minimize(f, [0.0, 0.0], jac=True, method=ao.SGD(0.3))
    assert (res.status, res.success) == (3, False)
    assert res.x[0] == pytest.approx(1.8)


def test_a_bad_start_is_status_3():
    res = ao.minimize(lambda x: (np.nan, x), [1.0], jac=True)
    assert (res.status, res.success, res.nit) == (3, False, 0)
    assert res.x.tolist() == [1.0]


def test_nan_policy_raise():
    with pytest.raises(FloatingPointError, match="step 7"):
        ao.minimize(
            cliff(np.nan), [0.0], jac=True, method=ao.SGD(0.3), options={"nan_policy": "raise"}
        )


def test_nan_policy_omit_leaves_the_step_out():
    calls = []

    def noisy(x):
        calls.append(1)
        f, g = bowl(x)
        return (np.nan if len(calls) % 3 == 0 else f), g

    res = solve(noisy, options={"nan_policy": "omit"})
    assert res.success
    assert res.state.t < res.nit


# -- callbacks -------------------------------------------------------------------------------------


def test_a_callback_of_xk_sees_every_iterate():
    seen = []
    res = solve(callback=lambda xk: seen.append(xk), options={"maxiter": 5, "return_all": True})
    np.testing.assert_array_equal(seen, res.allvecs[1:])


def test_a_callback_of_an_intermediate_result_sees_value_and_counts():
    seen = []

    def callback(*, intermediate_result):
        seen.append(intermediate_result)

    solve(callback=callback, options={"maxiter": 3})
    assert all(isinstance(r, OptimizeResult) for r in seen)
    assert [(r.nit, r.nfev) for r in seen] == [(1, 2), (2, 3), (3, 4)]
    assert all(r.fun == value(r.x) for r in seen)


def test_callback_every():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result.nit)

    solve(callback=callback, options={"maxiter": 7, "callback_every": 3})
    assert seen == [3, 6]


def test_stop_iteration_ends_the_run():
    def callback(xk):
        if xk[0] > 1.5:
            raise StopIteration

    res = solve(callback=callback)
    assert (res.status, res.success) == (99, False)
    assert res.x[0] > 1.5
    assert res.nit < 5


def test_a_builtin_callback_gets_xk():
    seen = []
    solve(callback=seen.append, options={"maxiter": 2})
    assert [x.shape for x in seen] == [(3,), (3,)]


# -- options ---------------------------------------------------------------------------------------


def test_options_override_hyperparameters():
    by_option = solve(method=ao.AdaGrad(9.0), options={"lr": 0.5, "eps": 1e-3, "maxiter": 5})
    by_method = ao.minimize(
        bowl, [0, 0, 0], jac=True, method=ao.AdaGrad(0.5, 1e-3), options={"maxiter": 5}
    )
    np.testing.assert_array_equal(by_option.x, by_method.x)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "rmsprop", "AdaGrad"])
def test_methods_have_names(name):
    assert solve(method=name, options={"lr": 1e-3, "maxiter": 2}).nit == 2


def test_an_unknown_option_is_a_warning_with_a_hint():
    with pytest.warns(OptimizeWarning, match="Unknown solver options: maxitr.*'maxiter'"):
        solve(options={"maxitr": 5})


@pytest.mark.parametrize("name", ["hess", "hessp"])
def test_hessians_are_a_warning(name):
    with pytest.warns(RuntimeWarning, match=f"does not use Hessian information .{name}."):
        solve(options={"maxiter": 1}, **{name: lambda x: x})


def test_disp_prints_a_summary(capsys):
    res = solve(options={"disp": True})
    out = capsys.readouterr().out
    assert res.message in out
    assert f"Function evaluations: {res.nfev}" in out


def test_disp_warns_where_there_is_no_success(capsys):
    with pytest.warns(OptimizeWarning, match="maxiter=2"):
        solve(options={"disp": True, "maxiter": 2})
    assert "Function evaluations: 3" in capsys.readouterr().out


def test_nothing_is_printed_without_disp(capsys):
    solve()
    assert capsys.readouterr().out == ""


def test_return_all_keeps_the_iterates():
    res = solve(options={"maxiter": 4, "return_all": True})
    assert len(res.allvecs) == 5
    np.testing.assert_array_equal(res.allvecs[-1], res.state.x)


def test_progress_shows_a_bar(capsys):
    solve(progress=True, options={"maxiter": 3})
    assert "AdaGrad" in capsys.readouterr().err


def test_learning_rates_are_those_of_the_last_step():
    res = solve(options={"maxiter": 5})
    np.testing.assert_array_equal(res.learning_rates, 1.0 / (np.sqrt(res.state.slots["G"]) + 1e-8))


def test_a_numba_objective_is_a_callable(in_python):
    import numba

    @numba.njit
    def f(x):
        return ((x - 1) ** 2).sum(), 2 * (x - 1)

    np.testing.assert_allclose(
        ao.minimize(f, [0.0, 5.0], jac=True, options={"lr": 1}).x, 1, atol=1e-5
    )


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("split", [0, 1, 17])
def test_a_run_in_two_parts_is_the_run_in_one(method, dtype, split, in_python):
    def f(x):
        f_x, g = bowl(x)
        return f_x / 100, g / 100

    def go(n, **others):
        x0 = np.array([0, 1, 2], dtype)
        return ao.minimize(f, x0, jac=True, method=method, options={"maxiter": n}, **others)

    whole = go(40)
    first = go(split)
    second = go(40 - split, state=pickle.loads(pickle.dumps(first.state)))
    assert second.fun == whole.fun
    for key in ("x", "jac", "learning_rates"):
        np.testing.assert_array_equal(second[key], whole[key])
    assert second.state.t == whole.state.t
    assert first.nfev + second.nfev == whole.nfev
    for name, slot in whole.state.slots.items():
        np.testing.assert_array_equal(second.state.slots[name], slot)


@pytest.mark.parametrize("options", [{"ftol": 1e-4}, {"xtol": 1e-3}, {"patience": 5}])
def test_stopping_tests_go_on_across_a_state(options):
    options = {**options, "gtol": None, "lr": 1.0}
    method = ao.RMSProp() if "patience" in options else ao.AdaGrad()
    whole = ao.minimize(bowl, np.zeros(3), jac=True, method=method, options=options)
    assert whole.status in (0, 6)
    part = ao.minimize(
        bowl, np.zeros(3), jac=True, method=method,
        options={**options, "maxiter": whole.nit - 1},
    )  # fmt: skip
    rest = ao.minimize(
        bowl, np.zeros(3), jac=True, method=method, options=options, state=part.state
    )
    assert (rest.nit, rest.status) == (1, whole.status)
    np.testing.assert_array_equal(rest.x, whole.x)


def test_a_state_is_not_modified_by_going_on():
    state = solve(options={"maxiter": 5}).state
    before = pickle.dumps(state)
    solve(state=state, options={"maxiter": 5})
    assert pickle.dumps(state) == before


def half_square(x):
    return float((x - 3) @ (x - 3)) / 2, x - 3


@pytest.mark.parametrize(
    ("others", "x", "fun"),
    [
        ({"bounds": [(0, 1)] * 2}, 1.0, 4.0),
        ({"prox": ao.L1(1.0)}, 2.0, 5.0),
        ({"prox": ao.L1(1.0), "bounds": [(0, 1)] * 2}, 1.0, 6.0),
        ({"options": {"weight_decay": 1.0}}, 1.5, 4.5),
    ],
)
def test_a_state_under_other_bounds_or_penalties_forgets_their_values(tmp_path, others, x, fun):
    def go(fun=half_square, **more):
        return ao.minimize(fun, np.zeros(2), jac=True, method=ao.AdaGrad(1.0), **more)

    seen = []

    def watched(x):
        seen.append(x)
        return half_square(x)

    go().state.save(tmp_path / "run.npz")
    res = go(watched, state=tmp_path / "run.npz", **others)
    assert res.success
    np.testing.assert_allclose(res.x, x, atol=1e-4)
    assert res.fun == pytest.approx(fun, rel=1e-8)
    if "bounds" in others:
        assert np.max(seen) <= 1


def test_a_run_of_the_same_penalties_written_otherwise_is_the_same_run():
    def go(n, **others):
        return ao.minimize(
            half_square, np.zeros(2), jac=True, method=ao.AdaGrad(1.0), options={"maxiter": n},
            **others,
        )  # fmt: skip

    first = go(3, prox=ao.L1(1.0), bounds=[(0, 1)] * 2)
    rest = go(3, prox=ao.L1([1.0, 1.0]), bounds=[(0.0, np.float32(1))] * 2, state=first.state)
    assert rest.nfev == rest.nit  # what was known at the start is not evaluated again


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_arrives_as_itself_with_the_state_so_far(error):
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) == 21:
            raise error("at the 21st evaluation")
        return bowl(x)

    with pytest.raises(error, match="21st") as caught:
        solve(f)
    state = caught.value.state
    np.testing.assert_array_equal(state.x, solve(options={"maxiter": 20}).state.x)
    resumed = solve(state=state, options={"maxiter": 30})
    np.testing.assert_array_equal(resumed.x, solve(options={"maxiter": 50}).x)


def test_an_exception_of_the_callback_carries_the_state():
    def callback(xk):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full") as caught:
        solve(callback=callback)
    assert caught.value.state.t == 1


def test_rosenbrock_is_minimised():
    res = ao.minimize(
        rosen, np.zeros(4), jac=rosen_der, method="momentum",
        options={"lr": 5e-4, "nesterov": True},
    )  # fmt: skip
    assert res.success, res.message
    np.testing.assert_allclose(res.x, 1, atol=1e-4)


# -- looks at every so many'th step ----------------------------------------------------------------


@pytest.mark.parametrize("every", [2, 3, 7])
def test_what_is_looked_at_less_often_takes_the_same_steps(every):
    options = {"gtol": None, "maxiter": 25, "return_all": True}
    often, seldom = solve(options=options), solve(options={**options, "check_every": every})
    looked_at = [0, *range(every, 25, every), 25]
    np.testing.assert_array_equal(seldom.allvecs, [often.allvecs[t] for t in looked_at])
    assert (seldom.nit, seldom.nfev) == (25, 26)


@pytest.mark.parametrize(
    ("test", "status"),
    [({"gtol": 1.0}, 0), ({"ftol": 1e-3}, 0), ({"xtol": 0.01}, 0), ({"f_target": 1.0}, 5)],
    ids=["gtol", "ftol", "xtol", "f_target"],
)
def test_a_run_ends_at_the_first_look_that_a_test_is_met_at(test, status):
    """The tests are those of single steps, wherever they are looked at."""
    options = {"gtol": None, "maxiter": 500, **test}
    often, seldom = solve(options=options), solve(options={**options, "check_every": 4})
    assert often.status == seldom.status == status
    assert often.nit <= seldom.nit < often.nit + 4
    assert seldom.nit % 4 == 0


def test_the_best_iterate_is_the_best_of_those_looked_at():
    values = iter([9.0, 1.0, 5.0, 4.0, 6.0, 7.0, 8.0])
    res = solve(lambda x: (next(values), np.ones(3)), options={"maxiter": 6, "check_every": 3})
    assert res.fun == 4.0


@pytest.mark.parametrize("sick", ["value", "gradient"])
def test_what_is_not_finite_between_looks_ends_the_run_at_the_next(sick):
    calls = []

    def fun(x):
        calls.append(0)
        f, g = bowl(np.nan_to_num(x))
        if len(calls) == 6:
            return (np.nan, g) if sick == "value" else (f, np.array([np.inf, 0.0, 0.0]))
        return f, g

    res = solve(fun, options={"check_every": 4}, bounds=[(-5, 5)] * 3)
    assert (res.status, res.success, res.nit) == (3, False, 8)
    assert "not finite at step 5. x is the best finite iterate, of step 4." in res.message
    again = solve(fun, options={"check_every": 4}, bounds=[(-5, 5)] * 3, state=res.state)
    assert (again.status, again.nit) == (3, 0)


def test_callbacks_come_with_the_next_look():
    seen = []
    solve(
        options={"maxiter": 20, "check_every": 4, "callback_every": 6, "gtol": None},
        callback=lambda intermediate_result: seen.append(intermediate_result.nit),
    )
    assert seen == [8, 12, 20]


def test_a_state_goes_on_between_looks():
    straight = solve(options={"maxiter": 20, "check_every": 5, "gtol": None})
    first = solve(options={"maxiter": 7, "check_every": 5, "gtol": None})
    rest = solve(options={"maxiter": 13, "check_every": 5, "gtol": None}, state=first.state)
    np.testing.assert_array_equal(rest.state.x, straight.state.x)


def test_steps_are_left_out_only_where_all_are_looked_at():
    with pytest.raises(ValueError, match=r"'check_every'\] is 2 with nan_policy 'omit', expected"):
        solve(options={"check_every": 2, "nan_policy": "omit"})


def test_states_on_the_disk_know_the_penalties_that_they_are_of():
    """The digest in files that exist: a state with another one is not gone on from exactly."""
    assert added_to(ao.SGD(1.9), ao.L1(0.05).within(ao.Box(-1.0, 1.0))) == "f5e0a378be1aa256"
