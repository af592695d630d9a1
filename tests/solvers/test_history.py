"""The course of a run, and the diagnosis of a dying learning rate."""

import re

import numpy as np
import pytest

import adaptopt as ao
from adaptopt.solvers.history import dying_rate


def hill(x):
    """A long slope of one steepness: |x - 100| for each coordinate, smoothed at the end."""
    d = x - 100.0
    return float(np.sqrt(d * d + 1).sum()), d / np.sqrt(d * d + 1)


def solve(method, maxiter=500, fun=hill, **options):
    options = {"maxiter": maxiter, **options}
    return ao.minimize(fun, np.zeros(4), jac=True, method=method, options=options)


def test_history_records_every_step():
    h = solve(ao.AdaGrad(1.0), 20, history=True, history_rates=True).history
    assert h["t"].tolist() == list(range(21))
    assert h["fun"].shape == h["gradient_norm"].shape == (21,)
    assert h["learning_rate_quantiles"].shape == (21, len(h["quantiles"]))


def test_history_records_every_so_many_steps_and_the_last():
    assert solve(ao.AdaGrad(1.0), 20, history=6).history["t"].tolist() == [0, 6, 12, 18, 20]


def test_quantiles_of_the_rates_come_every_so_many_records():
    h = solve(ao.AdaGrad(1.0), 20, history=2, history_rates=3).history
    assert h["t"].size == 11
    assert h["rates_t"].tolist() == [0, 6, 12, 18, 20]
    assert "rates_t" not in solve(ao.AdaGrad(1.0), 20, history=2).history


def test_there_is_no_history_without_the_option():
    assert solve(ao.AdaGrad(1.0), 3).history is None


def test_history_is_of_the_iterates():
    res = solve(ao.AdaGrad(1.0), 10, history=True, return_all=True)
    np.testing.assert_array_equal(res.history["fun"], [hill(x)[0] for x in res.allvecs])


def test_history_shows_adagrads_rates_fall():
    course = solve(ao.AdaGrad(1.0), 100, history=True, history_rates=True).history
    median = course["learning_rate_quantiles"][1:, 2]
    assert (np.diff(median) < 0).all()
    assert median[99] / median[0] == pytest.approx(0.1, rel=0.01)


def test_a_dying_rate_is_diagnosed_in_one_sentence_with_numbers():
    res = solve(ao.AdaGrad(1.0), 500)
    assert res.status == 1
    diagnosis = res.message.split("reached. ")[1]
    assert "effective learning rates have died" in diagnosis
    assert "after 500 steps their median is 0.045 of the first" in diagnosis
    assert "lr='auto'" in diagnosis
    assert diagnosis.count(". ") == 0


def test_rmsprop_is_the_way_out():
    died, lives = solve(ao.AdaGrad(1.0), 500), solve(ao.RMSProp(1.0), 500)
    assert "died" not in lives.message
    assert lives.fun < died.fun / 5


@pytest.mark.parametrize(
    ("method", "maxiter"),
    [
        (ao.AdaGrad(1.0), 50),  # the rates have not fallen far
        (ao.SGD(1e-3), 500),  # one rate, which never falls
        (ao.RMSProp(1e-3), 500),
        (ao.AdaGrad(ao.schedules.inverse_time(1.0, 1.0)), 50),  # the schedule fell, not the rates
    ],
)
def test_a_living_rate_is_not_diagnosed(method, maxiter):
    assert "died" not in solve(method, maxiter).message


@pytest.mark.parametrize(
    ("rate", "gradient", "died"),
    [(0.09, 0.5, True), (0.11, 0.5, False), (0.01, 2e-3, True), (0.01, 0.5e-3, False)],
)
def test_rates_die_below_a_tenth_while_the_gradient_stays_above_a_thousandth(rate, gradient, died):
    assert bool(dying_rate((2.0, 4.0), (2.0 * rate, 4.0 * gradient), 100)) == died


def test_the_diagnosis_goes_on_across_a_state():
    first = solve(ao.AdaGrad(1.0), 250)
    second = ao.minimize(
        hill, np.zeros(4), jac=True, method=ao.AdaGrad(1.0), options={"maxiter": 250},
        state=first.state,
    )  # fmt: skip
    assert (
        second.message.split("reached.")[1]
        == solve(ao.AdaGrad(1.0), 500).message.split("reached.")[1]
    )


def test_rates_of_what_has_seen_no_gradient_have_not_died():
    def half(x):
        g = 2 * x - 2
        g[1:] *= x[0] > 0.5  # a rate of lr / eps until then
        return float(x @ x), g

    res = ao.minimize(
        half, np.zeros(3), jac=True, method=ao.AdaGrad(0.1), options={"maxiter": 30, "gtol": None}
    )
    assert "died" not in res.message


@pytest.mark.parametrize(
    ("sign", "method", "words"),
    [
        (1, ao.SGD(lr=1e-4), "steps are too short.*lr='auto'"),
        (1, ao.AdaGradDA(lr=1e-4), "steps are too short; a larger rate goes on.$"),
        (-1, ao.AdaGrad(lr=0.1), "No iterate is below the start.*wrong sign; lr='auto'"),
        (1, ao.SGD(lr=0.99), "reached.$"),
    ],
)
def test_a_run_that_ends_unsolved_says_why(sign, method, words):
    def fun(x):
        return float((x - 3) @ (x - 3)), 2 * sign * (x - 3)

    res = ao.minimize(fun, np.zeros(2), jac=True, method=method, options={"maxiter": 20})
    assert re.search(words, res.message)
