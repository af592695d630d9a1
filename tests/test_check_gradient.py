"""check_gradient: right gradients agree, whatever the scale; wrong ones are found, and where."""

import numba
import numpy as np
import pytest

import adaptopt as ao

X = np.random.default_rng(0).standard_normal(12)


def with_error(where, factor=1.01):
    """Return a function of the wrong gradient at one place."""

    def fun(x):
        gradient = x * x * x
        value = float(gradient.reshape(-1) @ x.reshape(-1)) / 4
        gradient.reshape(-1)[where] *= factor
        return value, gradient

    return fun


@pytest.mark.parametrize("shape", [(12,), (3, 4)])
def test_the_wrong_coordinate_is_found(shape):
    found = ao.check_gradient(with_error(7), X.reshape(shape))
    assert not found.ok
    assert found.worst == (7 if shape == (12,) else (1, 3))
    assert found.error == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert found.gradient == pytest.approx(1.01 * X[7] ** 3)
    assert found.difference == pytest.approx(X[7] ** 3, rel=1e-3)
    assert "DIFFERS, largest relative error 0.0099 at x[" in repr(found)


def test_the_wrong_one_of_many_coordinates_is_found_in_few_evaluations():
    x = np.random.default_rng(1).standard_normal(20_000)
    found = ao.check_gradient(with_error(15_926, 2.0), x)
    assert (found.worst, found.ok) == (15_926, False)
    assert found.error == pytest.approx(0.5, rel=1e-3)
    assert found.nfev < 2000
    assert ao.check_gradient(with_error(0, 1.0), x).ok


def test_every_coordinate_is_checked_when_asked():
    x = np.append(np.ones(400), 1e-2)
    assert ao.check_gradient(with_error(400, 1.001), x).ok
    assert ao.check_gradient(with_error(400, 1.001), x, every=True).worst == 400


@pytest.mark.parametrize(
    ("fun", "x"),
    [
        (lambda x: (np.abs(x).sum(), np.sign(x)), X * 1e-4),
        (lambda x: (np.exp(300 * x).sum(), 300 * np.exp(300 * x)), X),
        (lambda x: (np.log(x).sum(), 1 / x), [1e-12, 1.0]),
        (lambda x: ((x**2).sum() + 1e8, 2 * x), X),
        (lambda x: (1e-200 * (x**2).sum(), 2e-200 * x), 1e9 * X),
        (lambda x: (np.cos(x).sum(), -np.sin(x)), np.zeros(3)),
    ],
    ids=["kinks nearby", "overflow nearby", "scales", "large value", "tiny value", "zero"],
)
def test_a_right_gradient_agrees_at_any_scale(fun, x):
    assert ao.check_gradient(fun, x).ok


def test_it_takes_what_minimize_takes():
    @numba.njit
    def writes(x, g_out, c):
        f = 0.0
        for i in range(x.size):
            g_out[i] = x[i] - c
            f += (x[i] - c) ** 2 / 2
        return f

    def value(x, c):
        return ((x - c) ** 2).sum() / 2

    for fun, jac in ((writes, None), (writes, True), (value, lambda x, c: x - c)):
        assert ao.check_gradient(fun, X, (2.0,), jac).ok
    assert not ao.check_gradient(value, X, (2.0,), lambda x, c: x + c).ok


def test_a_gradient_with_nan_differs():
    found = ao.check_gradient(lambda x: (x @ x, np.where(x > 1, np.nan, 2 * x)), [0.0, 2.0])
    assert (found.ok, found.worst, found.error) == (False, 1, np.inf)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((with_error(0), X, (), "2-point"), ValueError, "jac is '2-point', expected a callable"),
        ((lambda x: x @ x, X), TypeError, r"expected a pair \(value, gradient\)"),
        ((lambda x: (np.nan, x), X), ValueError, r"fun\(x\) is nan, expected a finite value"),
        ((with_error(0), []), ValueError, r"x has shape \(0,\), expected at least one element"),
        ((with_error(0), [np.inf]), ValueError, "x.* is inf, expected finite numbers"),
    ],
)
def test_what_cannot_be_checked_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        ao.check_gradient(*arguments)


def test_the_tolerance_is_a_number_between_zero_and_one():
    with pytest.raises(ValueError, match="tolerance is 1, expected 0 < tolerance < 1"):
        ao.check_gradient(with_error(0), X, tolerance=1)
    assert ao.check_gradient(with_error(0), X, tolerance=0.1).ok


def test_what_rounding_hides_is_not_called_right():
    res = ao.check_gradient(lambda x: (float(x @ x) + 1e14, -2 * x), [0.5, 0.64])
    assert not res.ok
    assert res.hidden == 2
    assert "CANNOT TELL" in repr(res)


def test_a_coordinate_that_rounding_hides_is_counted():
    weights = np.array([1e12, 1e-12])
    res = ao.check_gradient(lambda x: (float(weights @ (x * x)), 2 * weights * x), [0.5, 0.64])
    assert res.ok
    assert res.hidden == 1
    assert "(1 hidden by rounding errors of fun)" in repr(res)
