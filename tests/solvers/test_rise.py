"""Where no step lowers the objective, a smooth minimum is told from a kink or a wrong gradient."""

import re

import numpy as np
import pytest
import scipy.optimize

import adaptopt as ao

SCALE, WEIGHTS = 10 ** np.random.default_rng(0).uniform(-3, 3, 5), np.arange(1, 6)


def quartic(y):
    """A sum that goes to 0 so slowly that its last values say nothing about the slope."""
    r = SCALE * y - 1
    return float(WEIGHTS @ r**4), 4 * WEIGHTS * r**3 * SCALE


def with_kinks(x):
    a, b = x[0] - 3.0, x[1] - x[0] - 1.0
    return abs(a) + 100.0 * abs(b), np.array([np.sign(a) - 100 * np.sign(b), 100 * np.sign(b)])


def flipped(x):
    """A gradient with the wrong sign in one component."""
    r = x - np.array([1.0, 2.0])
    return float(r @ r), 2 * r * np.array([1.0, -1.0])


@pytest.mark.parametrize("bounds", [None, [(-1, None)] * 5])
def test_a_flat_minimum_is_one(bounds):
    res = ao.minimize(quartic, np.zeros(5), jac=True, bounds=bounds)
    assert res.success
    np.testing.assert_allclose(SCALE * res.x, 1.0, atol=1e-6)
    assert "rises on both sides" in res.message


def swapped(x):
    """Rosenbrock's function with the components of its gradient in the wrong order."""
    a, b = x[1] - x[0] ** 2, 1 - x[0]
    return 100 * a**2 + b**2, np.array([200 * a, -400 * x[0] * a - 2 * b])


def farthest(x):
    """Chebyshev's distance, where the gradient shows one of two edges."""
    r = x - np.array([1.0, 2.0])
    k = np.argmax(abs(r))
    return abs(r[k]), np.sign(r[k]) * np.eye(2)[k]


@pytest.mark.parametrize("fun", [swapped, farthest])
def test_no_success_is_believed_where_the_gradient_is_not_that_of_the_objective(fun):
    res = ao.minimize(fun, np.zeros(2), jac=True)
    assert not res.success
    assert re.search("not (that|the gradient) of fun", res.message)


def test_a_component_that_is_always_0_is_no_success():
    def fun(x):
        return (x[0] - 3) ** 2 + (x[1] - 3) ** 2, np.array([2 * (x[0] - 3), 0.0])

    res = ao.minimize(fun, np.zeros(2), jac=True)
    assert (res.status, res.success) == (8, False)
    assert "falls near x" in res.message


def test_a_saddle_is_no_success():
    def fun(x):
        return x[0] ** 2 - x[1] ** 2, np.array([2, -2]) * x

    res = ao.minimize(fun, [0.0, 0.0], jac=True)
    assert (res.status, res.nit) == (8, 0)


def test_trials_that_overflow_in_float32_are_no_failure():
    """Poisson regression: the last trials go far, as no near one promises more than rounding."""
    rng = np.random.default_rng(0)
    A = np.column_stack([np.ones(80), rng.standard_normal((80, 2))])
    counts = rng.poisson(np.exp(A @ [0.5, 0.3, -0.2])).astype(float)

    def fun(w):
        mean = np.exp(A @ w.astype(float))
        return float((mean - counts * (A @ w)).sum()), (A.T @ (mean - counts)).astype(w.dtype)

    with np.errstate(over="ignore", invalid="ignore"):
        res = ao.minimize(fun, np.zeros(3, np.float32), jac=True)
    assert res.success


@pytest.mark.parametrize("kind", ["2-point", "3-point"])
@pytest.mark.filterwarnings("ignore:no gradient was given")
def test_differences_are_accurate_enough_for_a_success(kind):
    res = ao.minimize(scipy.optimize.rosen, [-1.2, 1.0], jac=kind)
    assert res.success
    np.testing.assert_allclose(res.x, 1.0, atol=1e-4)


@pytest.mark.parametrize(("fun", "start"), [(with_kinks, [0.0, 10.1]), (flipped, [0.0, 0.0])])
def test_a_kink_and_a_wrong_gradient_are_none(fun, start):
    res = ao.minimize(fun, start, jac=True)
    assert (res.status, res.success) == (8, False)


@pytest.mark.parametrize("most", range(195, 225, 3))
def test_the_budget_is_that_of_all_evaluations(most):
    res = ao.minimize(quartic, np.zeros(5), jac=True, options={"maxfev": most})
    assert res.nfev <= most
