"""A search for the learning rate that noise ends: how the run goes on, and what it returns."""

from itertools import pairwise

import numba
import numpy as np
import pytest

import adaptopt as ao
from adaptopt.methods.in_units import in_units
from adaptopt.solvers.stopping import LINE_SEARCH, MAXFEV, MAXITER

SCALES = np.array([1.0, 30.0, 1000.0])
SOLUTION = np.array([1.0, -2.0, 0.5])
START = np.array([4.0, 4.0, 4.0])


def exact(x):
    away = x - SOLUTION
    return 1.0 + float(SCALES @ away**2), 2.0 * SCALES * away


class Noisy:
    """A quadratic whose values and gradients carry noise; an evaluation may be interrupted."""

    def __init__(self, seed=0, interrupt_at=None):
        self.rng, self.calls, self.interrupt_at = np.random.default_rng(seed), 0, interrupt_at

    def __call__(self, x):
        self.calls += 1
        if self.calls == self.interrupt_at:
            raise KeyboardInterrupt
        f, g = exact(x)
        noise = self.rng.standard_normal(1 + x.size)
        return f * (1.0 + 0.01 * noise[0]), g + noise[1:].astype(x.dtype)


def solve(fun=None, x0=START, **others):
    options = {"maxfev": 300, **others.pop("options", {})}
    return ao.minimize(fun or Noisy(), x0, jac=True, options=options, **others)


def away_from_the_minimum(x):
    return exact(x)[0] - 1.0


# -- which runs go on ------------------------------------------------------------------------------


def test_a_noisy_run_goes_on_and_says_so():
    res = solve()
    assert (res.status, res.success) == (MAXFEV, False)
    assert "Values are noisy" in res.message
    assert res.message.endswith("x is an average of the iterates since.")
    assert res.path == "search in Python loop: fun is a Python function, then " + (
        "Python loop: values are noisy"
    )
    assert 0.0 < res.lr < np.inf


def kinked(x):
    a, b = x[0] - 3.0, x[1] - x[0] - 1.0
    return abs(a) + 100.0 * abs(b), np.array([np.sign(a) - 100 * np.sign(b), 100 * np.sign(b)])


def test_a_kink_ends_the_run_after_it_is_evaluated_again(in_python):
    points = []

    def fun(x):
        points.append(x.copy())
        return kinked(x)

    res = ao.minimize(fun, np.array([0.0, 10.1]), jac=True)
    assert res.status == LINE_SEARCH
    assert res.path == "search in Python loop: fun is a Python function"
    assert res.nfev == len(points)
    assert sum(np.array_equal(a, b) for a, b in pairwise(points)) == 1
    assert res.state.failed is None


def test_differences_within_rounding_are_no_noise(in_python):
    rng = np.random.default_rng(0)

    def fun(x):
        f, g = kinked(x)
        return f * (1.0 + 1e-16 * rng.standard_normal()), g

    assert ao.minimize(fun, np.array([0.0, 10.1]), jac=True).status == LINE_SEARCH


def test_a_budget_without_another_evaluation_leaves_status_8(in_python):
    whole = solve()
    search = whole.nfev - whole.state.average_count  # about where it ends
    found = next(
        res
        for res in (solve(options={"maxfev": k}) for k in range(search - 5, search + 5))
        if res.status == 8
    )
    assert "noisy, or jac is not the gradient" in found.message


@pytest.mark.filterwarnings("ignore:no gradient was given")
def test_finite_differences_of_noise_are_refused():
    fun = Noisy()
    res = ao.minimize(lambda x: fun(x)[0], START, options={"maxfev": 2000})
    assert res.status == LINE_SEARCH
    assert "finite differences of noisy values" in res.message


def test_a_method_that_finds_its_unit_is_refused():
    res = solve(method="adadelta")
    assert res.status == LINE_SEARCH
    assert "AdaDelta, which finds the unit" in res.message


# -- what it returns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", ["adagrad", "adagradnorm", "rmsprop", "adam", "nadam", "sgd", "momentum"]
)
def test_every_method_comes_nearer_than_the_search(method, in_python):
    search, whole = [], []
    for seed in (0, 4, 5):  # the last one ends near the start
        res = solve(Noisy(seed), method=method, options={"maxfev": 1000})
        assert res.state.noise is not None
        search.append(away_from_the_minimum(res.state.noise.end))
        whole.append(away_from_the_minimum(res.x))
    assert np.mean(whole) < 0.5 * np.mean(search)


def test_the_answer_is_the_average_since_the_search():
    res = solve(options={"return_all": True})
    count = res.state.average_count
    t = np.arange(1, count + 1)
    mean = np.average(res.allvecs[-count:], axis=0, weights=t * (t + 1.0) * (t + 2.0))
    np.testing.assert_allclose(res.x, mean, rtol=1e-12)


def test_a_uniform_average_is_one_of_the_iterates_since():
    res = solve(average="uniform", options={"return_all": True})
    count = res.state.average_count
    assert count < res.nit
    np.testing.assert_allclose(res.x, np.mean(res.allvecs[-count:], axis=0), rtol=1e-12)


def test_an_average_that_is_worse_is_not_returned():
    fun, calls = Noisy(), []

    def rising(x):  # once the search has ended
        calls.append(1)
        f, g = fun(x)
        return f + 1e6 * (len(calls) > 250), g

    res = solve(rising)
    assert res.message.endswith("the average of the iterates since is no better.")
    np.testing.assert_array_equal(res.x, res.state.noise.end)
    assert res.fun == res.state.noise.again


def test_a_target_met_later_is_a_success():
    res = solve(Noisy(2), options={"f_target": 11_000.0})  # whose search ends near the start
    assert (res.status, res.success) == (5, True)
    assert res.state.noise.again > 13_000.0
    assert exact(res.x)[0] < 12_000.0


@pytest.mark.parametrize("most", [60, 61, 100])
def test_maxfev_holds(most):
    fun = Noisy()
    assert solve(fun, options={"maxfev": most}).nfev == fun.calls <= most


def test_maxiter_counts_the_steps_of_both():
    res = solve(options={"maxfev": None, "maxiter": 150})
    assert (res.status, res.nit) == (MAXITER, 150)
    assert res.state.noise.steps < 150


def test_units_of_coordinates_drop_out():
    units = np.array([2.0**-20, 1.0, 2.0**20])
    fun = Noisy()

    def scaled(z):
        f, g = fun(z * units)
        return f, g * units

    res = solve(scaled, START / units, options={"maxfev": 2000})
    assert res.state.noise is not None
    assert away_from_the_minimum(res.x * units) < 0.1


def test_bounds_and_penalties_hold(in_python):
    res = solve(bounds=[(0.0, 0.2), (-1.0, 5.0), (-1.0, 5.0)])
    assert res.state.noise is not None
    assert (res.x >= [0.0, -1.0, -1.0]).all()
    assert res.x[0] <= 0.2
    res = solve(prox=ao.L1(0.1))
    assert res.state.noise is not None
    assert away_from_the_minimum(res.x) < 0.2


def test_float32_is_kept(in_python):
    res = solve(x0=START.astype(np.float32))
    assert res.state.noise is not None
    assert res.x.dtype == res.learning_rates.dtype == np.float32


def test_compiled_functions_go_on_in_python(in_python):
    @numba.njit
    def fun(x, g_out, draws, place):
        f = 1.0
        for i in range(x.size):
            f += (i + 1.0) * (x[i] - 1.0) ** 2
            g_out[i] = 2.0 * (i + 1.0) * (x[i] - 1.0) + draws[place[0] + i]
        place[0] += x.size
        return f * (1.0 + 0.01 * draws[place[0]])

    draws = np.random.default_rng(0).standard_normal(10_000)
    args = (draws, np.zeros(1, np.int64))
    res = ao.minimize(fun, START, args, options={"maxfev": 500})
    assert res.path == "search in compiled loop, then Python loop: values are noisy"
    assert res.nfev == 500


def test_callbacks_and_history_see_every_step():
    steps = []
    res = solve(
        callback=lambda intermediate_result: steps.append(intermediate_result.nit),
        options={"history": True},
    )
    assert steps == list(range(1, res.nit + 1))
    np.testing.assert_array_equal(res.history["t"], np.arange(res.nit + 1))


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["adagrad", "adam", "momentum"])
def test_an_interrupt_loses_nothing(method, in_python):
    options = {"maxfev": None, "maxiter": 150}
    whole = solve(Noisy(4), method=method, options=options)
    begun = whole.nfev - whole.state.average_count
    assert whole.state.average_count > 40
    for call in {begun - 4, begun - 3, begun - 2, begun - 1, begun, begun + 1, begun + 9}:
        fun = Noisy(4, interrupt_at=call)
        with pytest.raises(KeyboardInterrupt) as error:
            solve(fun, method=method, options=options)
        state = error.value.state
        done = (
            state.search.steps if state.noise is None else state.noise.steps + (state.average_count)
        )
        rest = solve(fun, method=method, state=state, options={**options, "maxiter": 150 - done})
        np.testing.assert_array_equal(rest.x, whole.x)
        assert rest.lr == whole.lr


def test_a_state_goes_through_a_file(tmp_path):
    path = tmp_path / "state.npz"
    fun, other = Noisy(), Noisy()
    solve(fun).state.save(path)
    res = solve(fun, state=path)
    np.testing.assert_array_equal(res.x, solve(other, state=solve(other).state).x)
    assert res.state.noise.steps > 0


def test_other_bounds_begin_a_new_search():
    state = solve().state
    res = solve(exact, state=state, bounds=[(1.5, 5.0)] * 3)
    assert res.success
    assert res.state.noise is None


@pytest.mark.parametrize(
    ("name", "value"), [("end", np.zeros(2)), ("distance", -1.0), ("steps", -1)]
)
def test_a_forged_state_is_refused(name, value):
    state = solve().state
    setattr(state.noise, name, value)
    with pytest.raises(ValueError, match=f"state.noise.{name}"):
        solve(state=state)


# -- the method in units ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", [ao.AdaGrad(0.1), ao.RMSProp(0.1, momentum=0.9), ao.Adam(0.1)])
def test_a_method_in_units_is_the_method_in_other_units(method):
    units, x = np.array([2.0**-9, 1.0, 8.0]), START.copy()
    scaled = x / units
    one, other = ao.Optimizer(x, in_units(method)), ao.Optimizer(scaled, method)
    one.state["unit"][:] = units
    for _ in range(5):
        g = exact(x)[1]
        one.step(g)
        other.step(g * units)
    np.testing.assert_allclose(x, scaled * units, rtol=1e-14)
    np.testing.assert_allclose(one.learning_rates(), other.learning_rates() * units**2, rtol=1e-14)
