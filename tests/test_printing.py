"""What results, methods, optimizers and trackers print as."""

import inspect
import pickle

import numpy as np
import pytest
from scipy.optimize import OptimizeResult

import adaptopt as ao

pytestmark = pytest.mark.quick


def square(x):
    return x @ x, 2 * x


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        (ao.Adam(), "Adam()"),
        (ao.AdamW(weight_decay=1e-2), "AdamW()"),
        (ao.RMSProp(0.1, momentum=0.5, weight_decay=0.2),
         "RMSProp(lr=0.1, momentum=0.5, weight_decay=0.2)"),
        (ao.AdaGrad("auto"), "AdaGrad(lr='auto')"),
    ],
)  # fmt: skip
def test_methods_print_without_their_defaults(method, shown):
    assert repr(method) == shown
    assert eval(shown, vars(ao)) == method


def test_results_print_without_empty_fields_or_a_whole_history():
    res = ao.minimize(square, np.ones(2), jac=True, options={"history": True})
    lines = str(res)
    assert "None" not in lines
    assert f"{len(res.history['t'])} records of t, fun, gradient_norm" in lines
    assert "<DescentState: step" in lines
    assert res.certificate is None


def test_results_are_scipys_and_can_be_pickled():
    res = ao.minimize(square, np.ones(2), jac=True)
    assert isinstance(res, OptimizeResult)
    assert pickle.loads(pickle.dumps(res)).fun == res.fun


def test_optimizers_print_as_one_line():
    opt = ao.Optimizer(np.zeros((2, 3), np.float32), ao.Adam(0.1))
    assert repr(opt) == "<Optimizer: step 0, float32 (2, 3) by Adam(lr=0.1)>"
    opt = ao.Optimizer({name: np.zeros(1) for name in "abcdef"}, ao.SGD())
    assert repr(opt).startswith("<Optimizer: step 0, a: float64 (1,) by SGD(), b: ")
    assert repr(opt).endswith(", and 2 more>")


def test_trackers_print_as_one_line():
    tracker = ao.regret.Tracker()
    assert repr(tracker) == "<Tracker: no rounds>"
    tracker.play(np.zeros(3), 2.0, np.ones(3))
    assert repr(tracker) == "<Tracker: 1 rounds, points of shape (3,), mean loss 2>"


def test_methods_show_the_arguments_that_they_take():
    assert str(inspect.signature(ao.SGD)) == (
        "(lr: 'float | Callable[[int], float]' = 0.01, *, weight_decay: 'float' = 0.0, "
        "decoupled: 'bool' = False) -> None"
    )
    assert list(inspect.signature(ao.SGD()).parameters)[:2] == ["fun", "x0"]
