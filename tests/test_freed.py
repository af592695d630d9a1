"""What a run has held is freed when it ends, without the search for cycles of references."""

import gc
import weakref

import numpy as np
import pytest
import scipy.sparse

import adaptopt as ao

X0 = np.zeros(3)


def problem(kind=np.array):
    A = np.random.default_rng(0).standard_normal((8, 3))
    return ao.problems.LeastSquares(kind(A), A @ np.ones(3))


def step(p):
    ao.Optimizer(p.A, ao.AdaGrad(0.1)).step(np.ones_like(p.A))


RUNS = {
    "a step": step,
    "a search": lambda p: ao.minimize(p, X0),
    "steps of a method": lambda p: ao.minimize(
        p, X0, method=ao.AdaGrad(0.1), options={"maxiter": 5}
    ),
    "steps along a Python function": lambda p: ao.minimize(
        lambda x: p(x), X0, jac=True, method=ao.AdaGrad(lambda t: 0.1), options={"maxiter": 5}
    ),
    "finite differences": lambda p: ao.minimize(
        lambda x: p.value(x), X0, method=ao.AdaGrad(0.1), options={"maxiter": 5}
    ),
    "epochs": lambda p: ao.minimize_finite_sum(p, X0, None, method=ao.AdaGrad(0.1), epochs=1),
    "epochs with a schedule": lambda p: ao.minimize_finite_sum(
        p, X0, None, method=ao.AdaGrad(lambda t: 0.1), epochs=1
    ),
    "epochs with a rate that is found": lambda p: ao.minimize_finite_sum(p, X0, None, epochs=1),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, np.array) for name in RUNS), ("epochs", scipy.sparse.csr_array)],
)
@pytest.mark.filterwarnings("ignore:no gradient was given:RuntimeWarning")
def test_data_are_freed_when_a_run_ends(name, kind):
    RUNS[name](problem(kind))  # compiled before: what the compiler leaves behind is not ours
    p = problem(kind)
    held = weakref.ref(p), weakref.ref(p.A)
    gc.disable()
    try:
        RUNS[name](p)
        del p
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()
