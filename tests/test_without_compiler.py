"""NUMBA_DISABLE_JIT=1, for debuggers and to measure coverage: the same results, slowly."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from methods_table import KERNELS, METHODS
from numba import njit
from scipy import sparse

import adaptopt as ao

A = np.linspace(-1.0, 1.0, 24).reshape(8, 3) ** 2
METHOD = ao.AdaGrad(0.5)


@njit
def bowl(x, g_out, centre):
    f = 0.0
    for i in range(x.size):
        g_out[i] = x[i] - centre
        f += g_out[i] ** 2 / 2
    return f


@njit
def pair(x, centre):
    g = np.empty_like(x)
    return bowl(x, g, centre), g


def results():
    """Return what runs of all kinds come to, by name."""
    found = {}
    for name in KERNELS:
        x = np.ones(3, np.float32)
        opt = ao.Optimizer(x, METHODS[name])
        opt.step(np.full(3, 0.5, np.float32))
        found[name] = x
    for fun, jac in ((bowl, None), (pair, True), (bowl.__name__, True)):
        fun = (lambda x, c: (float((x - c) @ (x - c)) / 2, x - c)) if fun == "bowl" else fun
        options = {"maxiter": 9}
        res = ao.minimize(fun, np.zeros(3), (1.0,), jac=jac, method=METHOD, options=options)
        found[f"minimize {len(found)}"] = res.x
    for M in (A, sparse.csr_matrix(A)):
        problem = ao.problems.LeastSquares(M, np.ones(8))
        res = ao.minimize_finite_sum(
            *(problem, np.zeros(3), None), method=METHOD, epochs=2, batch_size=2, rng=0
        )
        found[type(M).__name__] = res.x
    return {name: np.asarray(x, float).tolist() for name, x in found.items()}


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_plain_python_comes_to_the_same():
    ran = run("import json, test_without_compiler as t; print(json.dumps(t.results()))")
    assert ran.returncode == 0, ran.stderr
    expected = results()
    found = json.loads(ran.stdout)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    "call",
    [
        "ao.minimize_many(t.bowl, t.A, (1.0,))",
        "ao.minimize_finite_sum(ao.problems.LeastSquares(t.sparse.csr_matrix(t.A), [1.0] * 8),"
        " t.A[0], None, method=t.METHOD, parallel='hogwild')",
    ],
    ids=["minimize_many", "hogwild"],
)
def test_what_runs_in_threads_says_that_it_needs_a_compiler(call):
    ran = run(f"import adaptopt as ao, test_without_compiler as t; {call}")
    assert "RuntimeError: NUMBA_DISABLE_JIT is set, expected 0" in ran.stderr.splitlines()[-1]
