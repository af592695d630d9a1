"""A method inside other people's front ends: SciPy's minimize and global optimisers, statsmodels.

SciPy hands a custom method the caller's own x0, raw bounds, a raw callback, jac=None for every name
of finite differences, and under jac=True a wrapper that remembers the last x whatever the args are.
"""

import numpy as np
import pytest
from scipy import optimize

import adaptopt as ao

METHOD = ao.AdaGrad(1.0)


def bowl(x, centre=3.0):
    d = np.asarray(x) - centre
    return float(d @ d), 2 * d


def value(x, centre=3.0):
    return bowl(x, centre)[0]


def gradient(x, centre=3.0):
    return bowl(x, centre)[1]


# -- scipy.optimize.minimize -----------------------------------------------------------------------


def test_both_front_ends_give_the_same_run():
    theirs = optimize.minimize(bowl, np.zeros(3), jac=True, method=METHOD)
    ours = ao.minimize(bowl, np.zeros(3), jac=True, method=METHOD)
    np.testing.assert_array_equal(theirs.x, ours.x)
    assert (theirs.nit, theirs.nfev, theirs.status) == (ours.nit, ours.nfev, ours.status)


def test_the_callers_x0_is_not_modified():
    x0 = np.zeros(3)
    optimize.minimize(bowl, x0, jac=True, method=METHOD)
    assert x0.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "bounds",
    [
        optimize.Bounds([0, 0], [1, 2]),
        [(0, 1), (None, 2)],
        np.array([[0, 1], [-np.inf, 2]]),
        ((0, 1), (0, 2)),
    ],
)
def test_raw_bounds_hold(bounds):
    res = optimize.minimize(bowl, np.zeros(2), jac=True, method=METHOD, bounds=bounds)
    assert res.success
    np.testing.assert_allclose(res.x, [1, 2])


def test_a_raw_callback_in_each_signature_sees_the_iterates():
    points, results = [], []
    options = {"maxiter": 3}
    optimize.minimize(
        bowl, np.zeros(2), jac=True, method=METHOD, callback=points.append, options=options
    )

    def callback(*, intermediate_result):
        results.append(intermediate_result)

    optimize.minimize(
        bowl, np.zeros(2), jac=True, method=METHOD, callback=callback, options=options
    )
    np.testing.assert_array_equal(points, [r.x for r in results])
    assert [r.nit for r in results] == [1, 2, 3]


def test_a_raw_callback_stops_the_run():
    def callback(xk):
        raise StopIteration

    res = optimize.minimize(bowl, np.zeros(2), jac=True, method=METHOD, callback=callback)
    assert (res.status, res.nit) == (99, 1)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point", "cs"])
def test_every_name_of_finite_differences_is_taken(jac):
    def f(x):
        return ((x - 3) ** 2).sum()

    with pytest.warns(RuntimeWarning, match="no gradient was given"):
        res = optimize.minimize(f, np.zeros(2), jac=jac, method=METHOD, options={"gtol": 1e-4})
    np.testing.assert_allclose(res.x, 3, atol=1e-3)


@pytest.mark.parametrize(("fun", "jac"), [(bowl, True), (value, gradient)])
def test_args_reach_function_and_gradient(fun, jac):
    res = optimize.minimize(fun, np.zeros(2), args=(5.0,), jac=jac, method=METHOD)
    np.testing.assert_allclose(res.x, 5, atol=1e-4)


def test_args_that_change_during_the_run_are_seen():
    """SciPy's wrapper for jac=True would answer from its memory of the same x."""
    noise = np.random.default_rng(0)
    seen = []

    def stochastic(x, rng):
        seen.append(rng.standard_normal())
        return float(x @ x) + seen[-1], 2 * x

    res = optimize.minimize(
        stochastic,
        np.ones(2),
        args=(noise,),
        jac=True,
        method=METHOD,
        options={"lr": 0.1, "maxiter": 9},
    )
    assert res.nfev == len(seen) == len(set(seen)) == 10


def test_tol_and_options_reach_the_method():
    res = optimize.minimize(
        bowl, np.zeros(2), jac=True, method=METHOD, tol=1e-2, options={"lr": 0.5}
    )
    assert 1e-5 < np.abs(res.jac).max() <= 1e-2


def test_unknown_options_are_scipys_warning():
    with pytest.warns(optimize.OptimizeWarning, match="Unknown solver options: eps_"):
        optimize.minimize(
            bowl, np.zeros(2), jac=True, method=METHOD, options={"eps_": 1, "maxiter": 1}
        )


def test_constraints_are_refused():
    with pytest.raises(ValueError, match="only bounds are supported"):
        optimize.minimize(
            bowl,
            np.zeros(2),
            jac=True,
            method=METHOD,
            constraints={"type": "eq", "fun": lambda x: x.sum()},
        )


def test_a_method_is_re_entrant():
    """One value, used by the objective of another run of its own."""

    def outer(x):
        inner = optimize.minimize(bowl, np.zeros(2), jac=True, method=METHOD)
        return bowl(x - 0 * inner.x)

    nested = optimize.minimize(outer, np.zeros(2), jac=True, method=METHOD, options={"maxiter": 9})
    plain = optimize.minimize(bowl, np.zeros(2), jac=True, method=METHOD, options={"maxiter": 9})
    np.testing.assert_array_equal(nested.x, plain.x)


def test_every_call_starts_afresh():
    first, second = (
        optimize.minimize(bowl, np.zeros(2), jac=True, method=METHOD) for _ in range(2)
    )
    assert first.nit == second.nit


# -- global optimisers -----------------------------------------------------------------------------


def ripples(x):
    """Many valleys; the deepest is at x = -0.195."""
    return np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0]


def ripples_and_slope(x):
    return ripples(x), np.array([-14.5 * np.sin(14.5 * x[0] - 0.3) + 2 * x[0] + 0.2])


def test_basinhopping_finds_the_deepest_valley():
    res = optimize.basinhopping(
        ripples_and_slope,
        [1.0],
        niter=60,
        rng=0,
        minimizer_kwargs={"method": ao.AdaGrad(0.05), "jac": True},
    )
    assert res.x[0] == pytest.approx(-0.195, abs=1e-3)
    assert res.lowest_optimization_result.success


@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_dual_annealing_polishes_with_the_method():
    def rastrigin(x):
        return float((x * x - 10 * np.cos(2 * np.pi * x) + 10).sum())

    res = optimize.dual_annealing(
        rastrigin,
        bounds=[(-5.12, 5.12)] * 2,
        rng=0,
        maxiter=100,
        minimizer_kwargs={
            "method": ao.AdaGrad(0.05),
            "options": {"gtol": 1e-4, "maxiter": 200},
            "bounds": [(-5.12, 5.12)] * 2,
        },
    )
    np.testing.assert_allclose(res.x, 0, atol=1e-4)


# -- statsmodels -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Method .* does not use Hessian:RuntimeWarning")
def test_statsmodels_fits_with_the_method_as_min_method():
    discrete = pytest.importorskip("statsmodels.discrete.discrete_model")
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(300), rng.standard_normal((300, 2)) * [1.0, 20.0]])
    labels = rng.random(300) < 1 / (1 + np.exp(-features @ [0.3, -1.0, 0.05]))
    model = discrete.Logit(labels.astype(float), features)
    newton = model.fit(disp=0)
    ours = model.fit(method="minimize", min_method=ao.AdaGrad(0.5), maxiter=5000, tol=1e-8, disp=0)
    assert ours.mle_retvals["converged"]
    np.testing.assert_allclose(ours.params, newton.params, rtol=1e-4)
