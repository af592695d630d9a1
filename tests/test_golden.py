"""Trajectories of torch, optax, Keras and TensorFlow 1: the options that match each, to 1e-12.

The golden files and what is in them come from ``golden/make.py``; TensorFlow 1's are those of a
transcription of its formulas.
"""

import numpy as np
import pytest
from golden_cases import CASES, GOLDEN

import adaptopt as ao

pytestmark = pytest.mark.quick

# To maximize is to step along the gradients turned round.
ALL_MAXIMIZED = {"adagrad-all", "rmsprop-all", "amsgrad-all"}

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
        opt.step(-g if case.endswith("maximize") or case in ALL_MAXIMIZED else g)
        if opt.t in problem["steps"]:
            trajectory.append(x.copy())
    np.testing.assert_allclose(trajectory, golden[library][case], rtol=1e-12, atol=0)


@pytest.mark.parametrize("library", CASES)
def test_every_golden_case_has_a_row(golden, library):
    assert set(golden[library]) - {"versions"} == set(CASES[library])
