"""Runs over parts of a stream of rows, each from the state of the one before."""

import numpy as np
import pytest

import adaptopt as ao

RNG = np.random.default_rng(0)
A = RNG.standard_normal((300, 5))
Y = np.where(A[:, 0] + RNG.logistic(size=300) > 0, 1.0, -1.0)


def over(parts, method="adagrad", **options):
    res, first = None, 0
    for n in parts:
        p = ao.problems.Logistic(A[first : first + n], Y[first : first + n], intercept=True)
        state = None if res is None else res.state.for_rows(n)
        res = ao.minimize_finite_sum(
            p, np.zeros(6), None, method=method, batch_size=1, epochs=1, shuffle=False, state=state,
            average="last", options={"stream": True, **options},
        )  # fmt: skip
        first += n
    return res


@pytest.mark.parametrize("parts", [(64, 236), (100, 1, 99, 100), (128, 128, 44)])
def test_parts_do_what_one_run_does(parts):
    np.testing.assert_array_equal(over(parts).x, over((300,)).x)


def test_parts_go_on_with_a_given_rate_from_the_first_row():
    parts = over((1, 2, 297), method=ao.RMSProp(0.01)).x
    np.testing.assert_array_equal(parts, over((300,), method=ao.RMSProp(0.01)).x)


def test_nothing_is_evaluated_at_the_end():
    res = over((300,), method=ao.AdaGrad(0.5))
    assert res.nfev == 300
    assert np.isnan(res.fun)
    assert np.isnan(res.jac).all()
    assert res.success


def test_a_run_that_has_met_nan_stays_so():
    state = over((300,)).state
    state.loss_sum = np.nan
    assert np.isnan(state.for_rows(3).loss_sum)


def test_rows_are_counted():
    with pytest.raises(ValueError, match="n is 0, expected a whole number >= 1"):
        over((300,)).state.for_rows(0)


def test_weights_of_a_part_are_not_divided_by_their_mean():
    p = ao.problems.Logistic(A, Y).with_weights(np.full(300, 2.0))
    value, gradient = ao.problems.Logistic(A, Y)(np.ones(5))
    np.testing.assert_allclose(p(np.ones(5))[0], 2 * value)
    np.testing.assert_allclose(p(np.ones(5))[1], 2 * gradient)


def test_weights_of_a_part_are_checked():
    with pytest.raises(ValueError, match=r"weights\[1\] is -1.0, expected at least 0"):
        ao.problems.Logistic(A[:2], Y[:2]).with_weights([1.0, -1.0])
