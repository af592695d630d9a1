"""Trajectories of torch, optax and Keras: the options that match each of them, to 1e-12.

The golden files and what is in them come from ``golden/make.py``.
"""

from pathlib import Path

import numpy as np
import pytest

import adaptopt as ao

GOLDEN = Path(__file__).parent / "golden"

# These are the numbers of golden/make.py.
LR = ao.schedules.inverse_time(0.1, decay=0.01)
# torch's lr_decay divides the rate, which falls already.
LR_DECAYED = ao.schedules.inverse_time(LR, decay=0.02)
EPS = 1e-2

CASES = {
    "torch": {
        "sgd": ao.SGD(LR),
        "sgd-weight-decay": ao.SGD(LR, weight_decay=0.1),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9),
        "sgd-dampening": ao.Momentum(LR, momentum=0.9, dampening=0.3),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True),
        "sgd-momentum-weight-decay": ao.Momentum(LR, momentum=0.9, weight_decay=0.1),
        "sgd-maximize": ao.SGD(LR),
        "adagrad": ao.AdaGrad(LR, EPS),
        "adagrad-lr-decay": ao.AdaGrad(LR_DECAYED, EPS),
        "adagrad-initial": ao.AdaGrad(LR, EPS, initial_accumulator=0.5),
        "adagrad-weight-decay": ao.AdaGrad(LR, EPS, weight_decay=0.1),
        "adagrad-maximize": ao.AdaGrad(LR, EPS),
        "adagrad-all": ao.AdaGrad(LR_DECAYED, EPS, initial_accumulator=0.5, weight_decay=0.1),
        "rmsprop": ao.RMSProp(LR, 0.99, EPS),
        "rmsprop-alpha-0.9": ao.RMSProp(LR, 0.9, EPS),
        "rmsprop-weight-decay": ao.RMSProp(LR, 0.99, EPS, weight_decay=0.1),
        "rmsprop-momentum": ao.RMSProp(LR, 0.99, EPS, momentum=0.9),
        "rmsprop-centered": ao.RMSProp(LR, 0.99, EPS, centered=True),
        "rmsprop-centered-momentum": ao.RMSProp(LR, 0.99, EPS, momentum=0.9, centered=True),
        "rmsprop-momentum-weight-decay": ao.RMSProp(LR, 0.99, EPS, momentum=0.9, weight_decay=0.1),
        "rmsprop-maximize": ao.RMSProp(LR, 0.99, EPS),
        "rmsprop-all": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, centered=True, weight_decay=0.1),
    },
    "optax": {
        "sgd": ao.SGD(LR),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True),
        "adagrad": ao.AdaGrad(LR, EPS, initial_accumulator=0.1, eps_inside=True),
        "adagrad-initial-0": ao.AdaGrad(LR, EPS, eps_inside=True),
        "adagrad-initial-2": ao.AdaGrad(LR, EPS, initial_accumulator=2.0, eps_inside=True),
        "adagrad-weight-decay": ao.AdaGrad(
            LR, EPS, initial_accumulator=0.1, eps_inside=True, weight_decay=0.1
        ),
        "rmsprop": ao.RMSProp(LR, 0.9, EPS, eps_inside=True),
        "rmsprop-eps-outside": ao.RMSProp(LR, 0.9, EPS),
        "rmsprop-initial": ao.RMSProp(LR, 0.9, EPS, eps_inside=True, initial_accumulator=1.0),
        "rmsprop-centered": ao.RMSProp(LR, 0.9, EPS, centered=True, eps_inside=True),
        "rmsprop-momentum": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True),
        "rmsprop-nesterov": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True, nesterov=True
        ),
        "rmsprop-centered-momentum": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, centered=True, eps_inside=True, lr_inside=True
        ),
    },
    "keras": {
        "sgd": ao.SGD(LR),
        "sgd-momentum": ao.Momentum(LR, momentum=0.9, lr_inside=True),
        "sgd-nesterov": ao.Momentum(LR, momentum=0.9, nesterov=True, lr_inside=True),
        "sgd-weight-decay": ao.SGD(LR, weight_decay=0.1, decoupled=True),
        "sgd-momentum-weight-decay": ao.Momentum(
            LR, momentum=0.9, lr_inside=True, weight_decay=0.1, decoupled=True
        ),
        "adagrad": ao.AdaGrad(LR, EPS, initial_accumulator=0.1, eps_inside=True),
        "adagrad-initial": ao.AdaGrad(LR, EPS, initial_accumulator=0.5, eps_inside=True),
        "adagrad-weight-decay": ao.AdaGrad(
            LR, EPS, initial_accumulator=0.1, eps_inside=True, weight_decay=0.1, decoupled=True
        ),
        "rmsprop": ao.RMSProp(LR, 0.9, EPS, eps_inside=True),
        "rmsprop-momentum": ao.RMSProp(LR, 0.9, EPS, momentum=0.9, eps_inside=True, lr_inside=True),
        "rmsprop-centered": ao.RMSProp(LR, 0.9, EPS, centered=True, eps_inside=True),
        "rmsprop-centered-momentum": ao.RMSProp(
            LR, 0.9, EPS, momentum=0.9, centered=True, eps_inside=True, lr_inside=True
        ),
        "rmsprop-weight-decay": ao.RMSProp(
            LR, 0.9, EPS, eps_inside=True, weight_decay=0.1, decoupled=True
        ),
    },
}
# To maximize is to step along the gradients turned round.
MAXIMIZED = {"sgd-maximize", "adagrad-maximize", "adagrad-all", "rmsprop-maximize", "rmsprop-all"}

ROWS = [
    pytest.param(library, case, method, id=f"{library}-{case}")
    for library, cases in CASES.items()
    for case, method in cases.items()
]


@pytest.fixture(scope="module")
def golden():
    """Contents of every file, by its name."""
    contents = {}
    for name in ("problem", *CASES):
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
            contents[name] = dict(file)
    return contents


@pytest.mark.parametrize(("library", "case", "method"), ROWS)
def test_trajectory_is_the_librarys(golden, library, case, method):
    problem = golden["problem"]
    x = problem["x0"].copy()
    opt = ao.Optimizer(x, method)
    trajectory = []
    for g in problem["gradients"]:
        opt.step(-g if case in MAXIMIZED else g)
        if opt.t in problem["steps"]:
            trajectory.append(x.copy())
    np.testing.assert_allclose(trajectory, golden[library][case], rtol=1e-12, atol=0)


@pytest.mark.parametrize("library", CASES)
def test_every_golden_case_has_a_row(golden, library):
    assert set(golden[library]) - {"versions"} == set(CASES[library])
