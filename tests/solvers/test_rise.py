"""Where no step lowers the objective, a smooth minimum is told from a kink or a wrong gradient."""

import numpy as np
import pytest

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


@pytest.mark.parametrize(("fun", "start"), [(with_kinks, [0.0, 10.1]), (flipped, [0.0, 0.0])])
def test_a_kink_and_a_wrong_gradient_are_none(fun, start):
    res = ao.minimize(fun, start, jac=True)
    assert (res.status, res.success) == (8, False)


@pytest.mark.parametrize("most", range(195, 225, 3))
def test_the_budget_is_that_of_all_evaluations(most):
    res = ao.minimize(quartic, np.zeros(5), jac=True, options={"maxfev": most})
    assert res.nfev <= most
