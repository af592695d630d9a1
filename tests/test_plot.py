"""Plots: what their panels hold, and what they refuse."""

import sys

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

import adaptopt as ao

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(scope="module")
def res():
    options = {"history": True, "history_rates": 5}
    return ao.minimize(rosen, [-1.2, 1.0], jac=rosen_der, options=options)


@pytest.fixture
def ax():
    from matplotlib import pyplot

    yield pyplot.figure().add_subplot()
    pyplot.close("all")


def test_a_history_has_a_panel_for_each_quantity(res, ax):
    loss, gradient, rates = ao.plot.history(res).figure.axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), res.history["fun"])
    np.testing.assert_array_equal(gradient.lines[0].get_ydata(), res.history["gradient_norm"])
    median = res.history["learning_rate_quantiles"][:, 2]
    np.testing.assert_array_equal(rates.lines[0].get_ydata(), median)
    assert loss.get_yscale() == "log"


def test_given_axes_take_the_loss_alone(res, ax):
    assert ao.plot.history(res, ax) is ax
    assert ax.figure.axes == [ax]


def test_losses_below_zero_have_a_linear_scale(ax):
    res = ao.minimize(lambda x: x @ x - 1, [1.0], jac=lambda x: 2 * x, options={"history": True})
    assert ao.plot.history(res, ax).get_yscale() == "linear"


def test_rates_are_sorted_a_curve_for_each_parameter(ax):
    opt = ao.Optimizer({"w": np.zeros(3), "b": np.zeros(1)}, ao.AdaGrad(lr=0.1))
    opt.step({"w": np.array([4.0, 1.0, 2.0]), "b": np.ones(1)})
    w, b = ao.plot.rates(opt, ax).lines
    np.testing.assert_allclose(w.get_ydata(), [0.025, 0.05, 0.1])
    assert (w.get_label(), b.get_label()) == ("w", "b")


def test_results_have_rates_too(res, ax):
    (line,) = ao.plot.rates(res, ax).lines
    np.testing.assert_array_equal(line.get_ydata(), np.sort(res.learning_rates))


def test_the_regret_is_the_trackers_course(ax):
    tracker = ao.regret.Tracker(ao.Box(-1, 1))
    for g in np.random.default_rng(0).standard_normal((50, 2)):
        tracker.play(np.zeros(2), 0.0, g)
    linearised, root = ao.plot.regret(tracker, ax).lines
    np.testing.assert_array_equal(linearised.get_ydata(), tracker.course()["linearised"])
    assert root.get_ydata()[-1] == linearised.get_ydata()[-1]


@pytest.mark.parametrize(
    ("plot", "given", "error", "message"),
    [
        ("history", 3, TypeError, "res is 3, expected a result with a history"),
        ("rates", 3, TypeError, "opt is 3, expected an Optimizer"),
        ("rates", ao.Optimizer(np.zeros(1), ao.Adam()), ValueError, "that has taken a step"),
        ("regret", 3, TypeError, "tracker is 3, expected a regret.Tracker"),
        ("regret", ao.regret.Tracker(), ValueError, "no round"),
    ],
)
def test_what_cannot_be_plotted_is_an_error(plot, given, error, message):
    with pytest.raises(error, match=message):
        getattr(ao.plot, plot)(given)


def test_a_result_without_a_history_says_how_to_get_one(ax):
    res = ao.minimize(rosen, [1.0, 1.0], jac=rosen_der)
    with pytest.raises(ValueError, match=r"options=\{'history': True\}"):
        ao.plot.history(res)


def test_without_matplotlib_the_extra_is_named(res, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"adaptopt\[plot\]"):
        ao.plot.history(res)
