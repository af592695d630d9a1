"""lr="auto": the rate is searched for, with the same bits in Python and in compiled code."""

from dataclasses import dataclass

import numba
import numpy as np
import pytest
import scipy.optimize

import adaptopt as ao
from adaptopt.kernels import descent
from adaptopt.kernels import search_numbers as search
from adaptopt.kernels.compile import compile_kernel
from adaptopt.kernels.parallel import THREADED_FROM
from adaptopt.kernels.reductions import BLOCK
from adaptopt.kernels.search_loop import search_kernel, search_loop
from adaptopt.solvers.search import SearchParts, work_arrays
from adaptopt.solvers.search_state import SearchState


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[:-1] = -400 * a * (b - a * a) - 2 * (1 - a)
    g[1:] += 200 * (b - a * a)
    return float((100 * (b - a * a) ** 2 + (1 - a) ** 2).sum()), g


@numba.njit
def compiled_rosenbrock(x, g_out):
    f = 0.0
    g_out[:] = 0.0
    for i in range(x.size - 1):
        a, b = x[i], x[i + 1]
        g_out[i] += -400 * a * (b - a * a) - 2 * (1 - a)
        g_out[i + 1] += 200 * (b - a * a)
        f += 100 * (b - a * a) ** 2 + (1 - a) ** 2
    return f


def not_compiled(x):
    g = np.empty_like(x)
    return compiled_rosenbrock(x, g), g


def half(x, g, m, lr):
    m = (m + g) / (lr + lr) * lr
    return x - lr * m, lr, (m,)


@dataclass(frozen=True)
class Half(ao.Method):
    lr: float = 0.1
    slots = ("m",)
    rule = staticmethod(half)


START = np.array([-1.2, 1.0, -1.2, 1.0])
# Every family, with momentum and without, with measures and scalars.
AUTO = {
    "adagrad": ao.AdaGrad("auto"),
    "rmsprop": ao.RMSProp("auto"),
    "rmsprop with momentum": ao.RMSProp("auto", momentum=0.9, centered=True),
    "adam": ao.Adam("auto"),
    "nadam": ao.Nadam("auto"),
    "adadelta": ao.AdaDelta("auto"),
    "norm": ao.AdaGradNorm("auto"),
    "momentum": ao.Momentum("auto"),
}
MAPS = {"none": None, "l1": ao.L1(0.5), "box": ao.Box(-0.5, 2.0)}
# What is compiled here, each for seconds: the loop of the default, that of a user's rule within
# bounds, and that of many problems. Python runs what they are compared with.
USERS = {"method": Half("auto"), "prox": MAPS["box"]}


def same(a, b):
    assert (a.nit, a.nfev, a.message, a.fun) == (b.nit, b.nfev, b.message, b.fun)
    for name in ("x", "jac", "learning_rates"):
        np.testing.assert_array_equal(a[name], b[name])


def test_no_option_is_needed():
    res = ao.minimize(rosenbrock, START, jac=True)
    assert res.success
    np.testing.assert_allclose(res.x, 1.0, rtol=1e-5)
    assert res.nfev < 1000
    assert res.lr > 0


@pytest.mark.parametrize("name", AUTO)
def test_each_method_comes_near_the_minimum(name, in_python):
    res = ao.minimize(rosenbrock, START, jac=True, method=AUTO[name], options={"maxfev": 3000})
    assert res.fun < 1e-6 * rosenbrock(START)[0]


@pytest.mark.parametrize("method", [{}, USERS], ids=["default", "of the user"])
def test_the_compiled_loop_gives_the_bits_of_the_loop_in_python(method, request):
    given = {**method, "options": {"maxiter": 200}}
    ours = ao.minimize(compiled_rosenbrock, START, **given)
    request.getfixturevalue("in_python")
    same(ours, ao.minimize(not_compiled, START, jac=True, **given))


@pytest.mark.parametrize(("name", "prox"), [("adagrad", "l1"), ("adam", "box"), ("norm", "none")])
def test_its_kernel_gives_them_for_each_method_and_map(name, prox, in_python):
    given = {"method": AUTO[name], "prox": MAPS[prox], "options": {"maxiter": 200}}
    same(
        ao.minimize(compiled_rosenbrock, START, **given),
        ao.minimize(not_compiled, START, jac=True, **given),
    )


def test_many_problems_give_the_bits_of_one(request):
    X = np.random.default_rng(0).normal(size=(12, 4))
    many = ao.minimize_many(compiled_rosenbrock, X)
    request.getfixturevalue("in_python")
    for k, x in enumerate(X):
        one = ao.minimize(compiled_rosenbrock, x)
        assert (one.nit, one.message) == (many.nit[k], many.message[k])
        assert 0 <= one.nfev - many.nfev[k] <= 4  # that look nearby, once it has ended
        assert (one.x == many.x[k]).all()
        assert one.lr == many.lr[k]
        assert (one.learning_rates == many.learning_rates[k]).all()


@pytest.mark.parametrize("fun", [not_compiled, compiled_rosenbrock], ids=["python", "compiled"])
def test_a_run_goes_on_exactly(fun, tmp_path, in_python):
    given = {"jac": True if fun is not_compiled else None, "method": AUTO["adam"]}
    whole = ao.minimize(fun, START, **given, options={"maxiter": 60})
    part = ao.minimize(fun, START, **given, options={"maxiter": 23})
    part.state.save(tmp_path / "state.npz")
    rest = ao.minimize(fun, START, **given, options={"maxiter": 37}, state=tmp_path / "state.npz")
    assert part.nfev + rest.nfev == whole.nfev
    assert rest.fun == whole.fun
    np.testing.assert_array_equal(rest.x, whole.x)
    np.testing.assert_array_equal(rest.learning_rates, whole.learning_rates)


def test_a_budget_of_evaluations_may_end_within_a_search():
    whole = ao.minimize(rosenbrock, START, jac=True, options={"maxfev": 40})
    part = ao.minimize(rosenbrock, START, jac=True, options={"maxfev": 3})
    assert (part.status, part.nfev) == (2, 3)
    rest = ao.minimize(rosenbrock, START, jac=True, options={"maxfev": 37}, state=part.state)
    np.testing.assert_array_equal(rest.x, whole.x)


def test_an_error_in_the_objective_leaves_a_state_to_go_on_from():
    calls = []

    def fails(x):
        calls.append(1)
        if len(calls) == 30:
            raise ZeroDivisionError
        return rosenbrock(x)

    with pytest.raises(ZeroDivisionError) as caught:
        ao.minimize(fails, START, jac=True)
    rest = ao.minimize(rosenbrock, START, jac=True, state=caught.value.state)
    np.testing.assert_array_equal(rest.x, ao.minimize(rosenbrock, START, jac=True).x)


@pytest.mark.parametrize("power", [-30, 30])
def test_the_unit_of_the_objective_drops_out(power, in_python):
    def scaled(x):
        f, g = rosenbrock(x)
        return f * 2.0**power, g * 2.0**power

    res, plain = (ao.minimize(fun, START, jac=True) for fun in (scaled, rosenbrock))
    assert (res.nit, res.nfev, res.success) == (plain.nit, plain.nfev, plain.success)
    np.testing.assert_array_equal(res.x, plain.x)


def test_the_units_of_coordinates_nearly_drop_out():
    scale = 10.0 ** np.array([-3, 2])

    def scaled(y):
        f, g = rosenbrock(scale * y)
        return f, scale * g

    res = ao.minimize(scaled, START[:2] / scale, jac=True)
    assert res.success
    np.testing.assert_allclose(scale * res.x, 1.0, rtol=1e-4)


def test_it_finds_the_solution_of_the_lasso():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(60, 8)) * 10.0 ** rng.uniform(-2, 2, 8), rng.normal(size=60)
    problem, penalty = ao.problems.LeastSquares(A, b), ao.L1(0.05)
    res = ao.minimize(problem, np.zeros(8), prox=penalty)
    slow = ao.minimize(
        problem, res.x, method=ao.AdaGrad(0.01), prox=penalty, options={"gtol": 1e-12}
    )
    assert res.success
    assert res.fun == pytest.approx(slow.fun, rel=1e-9)
    assert ((res.x == 0) == (np.abs(slow.x) < 1e-12)).all()


def test_it_stays_where_the_objective_is_finite():
    def barrier(x):
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(x[0] - np.log(x[0])), 1 - 1 / x

    res = ao.minimize(barrier, [1e-3], jac=True)
    assert res.success
    assert res.x == pytest.approx(1.0, rel=1e-6)


def test_a_gradient_of_the_wrong_sign_is_no_success():
    res = ao.minimize(lambda x: (float(x @ x), -2 * x), [1.0, 2.0], jac=True)
    assert (res.success, res.status) == (False, 8)
    assert "not the gradient of fun" in res.message


def test_nothing_finite_near_the_start_ends_with_status_3():
    def lonely(x):
        return (1.0, np.ones(1)) if x[0] == 1.0 else (np.nan, np.ones(1))

    res = ao.minimize(lonely, [1.0], jac=True)
    assert (res.success, res.status, res.x) == (False, 3, 1.0)


def test_a_minimum_at_the_start_is_seen():
    res = ao.minimize(lambda x: (1.0, 0 * x), [1.0, 2.0], jac=True)
    assert (res.status, res.nit, res.nfev) == (0, 0, 5)  # two pairs of points are nearby


def test_an_absolute_test_holds_where_it_is_given():
    res = ao.minimize(rosenbrock, START, jac=True, tol=1e-2)
    assert "gtol" in res.message
    assert np.abs(res.jac).max() <= 1e-2


def test_bounds_and_fixed_variables_hold():
    res = ao.minimize(rosenbrock, START, jac=True, bounds=[(-2, 0.5), (None, None), (1, 1), (0, 2)])
    known = scipy.optimize.minimize(
        rosenbrock, START, jac=True, bounds=[(-2, 0.5), (None, None), (1, 1), (0, 2)]
    )
    assert res.success
    assert res.fun == pytest.approx(known.fun, rel=1e-6)
    assert res.x[2] == 1.0


def test_coupled_weight_decay_is_a_part_of_the_objective():
    method = ao.AdaGrad("auto", weight_decay=0.5)
    res = ao.minimize(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), [0.0], jac=True,
                      method=method)  # fmt: skip
    assert res.x == pytest.approx(6 / 2.5, rel=1e-6)


def test_float32_works_in_float32(in_python):
    res = ao.minimize(rosenbrock, START.astype(np.float32), jac=True)
    assert res.x.dtype == np.float32
    assert res.fun < 1e-4


def test_the_history_shows_the_rates():
    res = ao.minimize(
        rosenbrock, START, jac=True, options={"history": True, "history_rates": 1, "maxiter": 30}
    )
    quantiles = res.history["learning_rate_quantiles"]
    assert np.isfinite(quantiles[1:]).all()
    assert quantiles[-1, -1] == res.learning_rates.max()


def test_scipy_calls_it():
    res = scipy.optimize.minimize(rosenbrock, START, jac=True, method=ao.AdaGrad("auto"))
    np.testing.assert_array_equal(res.x, ao.minimize(rosenbrock, START, jac=True).x)


def test_a_rule_of_the_user_is_searched_too():
    res = ao.minimize(compiled_rosenbrock, START, **USERS, options={"maxfev": 5000})
    assert res.fun < 1e-3


def test_a_number_is_a_number():
    res = ao.minimize(rosenbrock, START, jac=True, method="adagrad",
                      options={"lr": 0.5, "maxiter": 20})  # fmt: skip
    given = ao.minimize(rosenbrock, START, jac=True, method=ao.AdaGrad(0.5),
                        options={"maxiter": 20})  # fmt: skip
    np.testing.assert_array_equal(res.x, given.x)


def test_threads_change_no_bit():
    n = 3 * BLOCK + 5
    rng = np.random.default_rng(0)
    plan = ao.Optimizer(np.zeros(n), ao.Adam(1.0))._plan()
    parts = SearchParts.of(plan)
    found = []
    for threads in (1, 2):
        state, slots = SearchState.before(np.linspace(-1, 1, n)), tuple(map(np.copy, plan.slots))
        kernel = search_kernel(parts.functions, parts.kinds, threads > 1)
        value, task = 1.0, search.EVALUATE
        rng = np.random.default_rng(0)
        scale = rng.uniform(0.1, 10, n)
        for _ in range(12):
            if task == search.EVALUATE:
                start = state.counts[search.PHASE] == search.START
                row = state.counts[search.X if start else search.TRIED]
                x = state.points[row]
                value, state.gradients[row] = float(scale @ (x * x)) / 2, scale * x
            task = kernel(
                value, state.points, state.gradients, slots, state.ranges, state.displacement,
                state.rates, (), parts.hyper, 0.0, (), (), (), *work_arrays(n, threads),
                state.counts, state.numbers, parts.share, parts.eps, 1e-10, threads, *parts.ends,
            )  # fmt: skip
        found.append((state, slots))
    for one, two in zip(vars(found[0][0]).values(), vars(found[1][0]).values(), strict=True):
        np.testing.assert_array_equal(one, two)


def search_with(method):
    return ao.minimize(rosenbrock, START, jac=True, method=method)


def refuse(run, words):
    with pytest.raises(ValueError, match=words):
        run()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: search_with(ao.AdaGradDA("auto")), "anew from sums"),
        (lambda: search_with(ao.FTRL("auto")), "anew from sums"),
        (lambda: search_with(ao.RowWiseAdaGrad("auto")), "share a rate"),
        (lambda: search_with(ao.AdamW("auto")), "gradient of no function"),
        (lambda: ao.AdaGrad("fast"), "'auto'"),
        (
            lambda: ao.minimize(rosenbrock, START, jac=True, method=ao.AdaGrad("auto"),
                                options={"check_every": 5}),
            "checks every step",
        ),
        (lambda: ao.Optimizer(np.zeros(2), ao.AdaGrad("auto")), "only minimisers find a rate"),
        (
            lambda: ao.minimize(rosenbrock, START, jac=True, prox=ao.Simplex(),
                                method=ao.AdaGrad("auto")),
            "ties coordinates",
        ),
        (
            lambda: ao.minimize(rosenbrock, START, jac=True, method=ao.AdaGrad(0.1),
                                options={"rtol": 1e-3}),
            "test of the search",
        ),
    ],
)  # fmt: skip
def test_where_there_is_no_search_it_is_said(run, words):
    refuse(run, words)


def test_by_name_what_has_no_search_keeps_its_rate():
    given = {"jac": True, "options": {"maxiter": 5}}
    for name, kind in (("adagradda", ao.AdaGradDA()), ("adamw", ao.AdamW())):
        by_name = ao.minimize(rosenbrock, START, method=name, **given)
        np.testing.assert_array_equal(
            by_name.x, ao.minimize(rosenbrock, START, method=kind, **given).x
        )


def cosh(x):
    return float(np.cosh(x - 1).sum()), np.sinh(x - 1)


def test_a_start_with_a_huge_value_is_not_taken_for_progress():
    res = ao.minimize(cosh, [300.0, -50.0], jac=True)
    assert res.success
    assert res.fun == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("unit", [1e-200, 1e160])
def test_squares_of_gradients_neither_overflow_nor_vanish(unit):
    res = ao.minimize(lambda x: (unit * float(x @ x), 2 * unit * x), [1.0, 2.0], jac=True)
    assert res.success
    assert abs(res.x).max() < 1e-6


def test_a_start_at_the_solution_is_seen():
    res = ao.minimize(lambda x: (float((x - 3) @ (x - 3)) + 1, 2 * (x - 3)), [3 + 1e-9], jac=True)
    assert res.success


def kinked(x):
    a, b = x[0] - 3, x[1] - x[0] - 1
    return abs(a) + 100 * abs(b), np.array([np.sign(a) - 100 * np.sign(b), 100 * np.sign(b)])


def partly_wrong(x):
    f, g = rosenbrock(x)
    return f, g * [1, -1]


@pytest.mark.parametrize(("fun", "x0"), [(kinked, [0.0, 10.1]), (partly_wrong, START[:2])])
def test_an_objective_that_does_not_follow_its_gradient_is_no_success(fun, x0, in_python):
    res = ao.minimize(fun, x0, jac=True)
    assert (res.success, res.status) == (False, 8)


def test_an_objective_without_a_bound_is_no_success():
    with np.errstate(over="ignore"):
        res = ao.minimize(lambda x: (-float(x @ x), -2 * x), [1.0, 2.0], jac=True)
    assert (res.success, res.status) == (False, 3)
    assert "unbounded" in res.message


@pytest.mark.parametrize("maxfev", [2, 4, 14, 150])
def test_all_loops_end_alike_within_a_step(maxfev, request):
    given = {"options": {"maxfev": maxfev}}
    loop = ao.minimize(compiled_rosenbrock, START, **USERS, **given)
    many = ao.minimize_many(compiled_rosenbrock, START[None], **given)
    request.getfixturevalue("in_python")
    same(loop, ao.minimize(not_compiled, START, jac=True, **USERS, **given))
    one = ao.minimize(not_compiled, START, jac=True, **given)
    same(one, ao.minimize(compiled_rosenbrock, START, **given))
    np.testing.assert_array_equal(many.x[0], one.x)
    np.testing.assert_array_equal(many.lr[0], one.lr)
    for res in (loop, one):
        assert np.isnan(res.lr) == (res.nit == 0)


def test_a_test_of_the_step_ends_many_problems():
    res = ao.minimize_many(compiled_rosenbrock, START[None], options={"xtol": 1e-3})
    assert res.success.all()
    assert "xtol" in res.message[0]


def test_all_iterates_are_returned_once():
    res = ao.minimize(cosh, [2.0], jac=True, options={"return_all": True})
    assert len(res.allvecs) == res.nit + 1


def depends_on_x(x, g, lr):
    return x - lr * x * g, lr, ()


@dataclass(frozen=True)
class Multiplicative(ao.Method):
    lr: float = 1e-2
    rule = staticmethod(depends_on_x)


def test_a_rule_whose_step_depends_on_x_is_refused():
    refuse(lambda: search_with(Multiplicative("auto")), "depend on x")


@pytest.mark.parametrize("method", ["adagrad", "rmsprop", "adam"])
def test_a_kink_above_the_minimum_is_no_success(method, in_python):
    """Steps become short where the gradient jumps, however far the minimum is."""
    rng = np.random.default_rng(0)
    for _ in range(6):
        A = rng.standard_normal((50, 5))
        b = A @ rng.standard_normal(5) + rng.standard_cauchy(50)

        def fun(x, A=A, b=b):
            r = A @ x - b
            return float(np.abs(r).mean()), A.T @ np.sign(r) / r.size

        least = least_absolute(A, b)
        res = ao.minimize(fun, np.zeros(5), jac=True, method=method)
        assert not res.success or res.fun - least < 1e-5 * least


def least_absolute(A, b):
    """Return the least mean absolute residual, by linear programming."""
    rows, columns = A.shape
    cost = np.concatenate([np.zeros(columns), np.full(2 * rows, 1 / rows)])
    equations = np.hstack([A, np.eye(rows), -np.eye(rows)])
    bounds = [(None, None)] * columns + [(0, None)] * (2 * rows)
    return scipy.optimize.linprog(cost, A_eq=equations, b_eq=b, bounds=bounds).fun


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gradient", [lambda x: 1 - x, lambda x: np.ones_like(x)])
def test_a_wrong_gradient_is_no_success(dtype, gradient):
    res = ao.minimize(
        lambda x: (float((x - 1) @ (x - 1)), gradient(x)), np.zeros(2, dtype), jac=True
    )
    assert not res.success


@pytest.mark.filterwarnings("error")
def test_a_compiled_search_of_many_variables_is_spread_over_threads(monkeypatch):
    made = []
    monkeypatch.setattr(
        descent, "compile_kernel", lambda *a, **k: made.append(compile_kernel(*a, **k)) or made[-1]
    )
    search_loop.cache_clear()
    before, results = numba.get_num_threads(), []
    try:
        for threads in (1, 2):
            numba.set_num_threads(min(threads, before))
            x0 = np.linspace(-1, 1, THREADED_FROM + BLOCK)
            results.append(ao.minimize(compiled_rosenbrock, x0, **USERS, options={"maxfev": 5}))
    finally:
        numba.set_num_threads(before)
    same(*results)
    in_threads = [bool(next(iter(kernel.overloads.values())).reload_init) for kernel in made]
    assert in_threads == [False, True][: len(made)]


@pytest.mark.parametrize("method", ["adagrad", "adam"])
@pytest.mark.parametrize("start", [[3.0, 5.0], [1.0, 5.0]])  # the gradient is 0 in one, or in both
def test_a_penalty_moves_variables_without_a_gradient(start, method):
    def fun(x):
        return (x[0] - 1) ** 2, np.array([2 * (x[0] - 1), 0.0])

    res = ao.minimize(fun, start, jac=True, method=method, prox=ao.L1(1.0))
    assert res.success
    np.testing.assert_allclose(res.x, [0.5, 0.0], atol=1e-4)


def test_a_first_step_that_changes_nothing_is_too_short():
    def fun(x):
        r = x - np.array([3.0, 40.0])
        return float(round(r @ r)), 2 * r

    res = ao.minimize(fun, [1.0, 1.0], jac=True)
    assert res.fun == 0.0


def test_a_run_to_zero_ends_once_steps_are_those_of_rounding():
    res = ao.minimize(rosenbrock, [0.4265431, 0.91798624], jac=True)
    assert res.success
    assert res.nfev < 200  # 2,750 evaluations, each of which lowered f a little


def test_an_objective_that_levels_off_far_away_is_solved_in_any_units():
    """A decaying oscillation over microseconds: steps of the size of the largest coordinate."""
    t, truth = np.linspace(0, 20e-6, 200), np.array([2.0, 6e-6, 2e6, 0.3])
    noise = 0.05 * np.random.default_rng(1).standard_normal(t.size)
    volts = truth[0] * np.exp(-t / truth[1]) * np.cos(truth[2] * t + truth[3]) + noise

    def fun(p):
        decay, phase = np.exp(-t / p[1]), p[2] * t + p[3]
        wave, slope = decay * np.cos(phase), -p[0] * decay * np.sin(phase)
        r = p[0] * wave - volts
        return r @ r, 2 * np.array(
            [r @ wave, p[0] * (r @ (wave * t)) / p[1] ** 2, r @ (slope * t), r @ slope]
        )

    res = ao.minimize(fun, [1.0, 4e-6, 1.9e6, 0.0], jac=True)
    assert res.status == 0, res.message
    np.testing.assert_allclose(res.x, truth, rtol=0.03)
