"""The minimisers' calls without a learning rate, each beside the optimum that it should reach."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import adaptopt as ao

from .demonstration import Problem


def without_a_rate(bag: Problem) -> Iterator[str]:
    """Run each of three minimisers once, and report what they reached, in a sentence each."""
    yield _a_function()
    yield _a_compiled_function()
    yield _a_finite_sum(bag)


def _a_function() -> str:
    """Fit a logistic regression whose columns differ a million times in scale."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    A, scales = rng.standard_normal((500, 6)), np.geomspace(1e-3, 1e3, 6)
    y = np.where(rng.random(500) < 1 / (1 + np.exp(-A.sum(axis=1))), 1.0, -1.0)
    scaled, start = ao.problems.Logistic(A * scales, y), np.zeros(6)
    res = ao.minimize(scaled, start)
    # The same functions of the rows, in coordinates that suit L-BFGS-B.
    optimum = minimize(
        ao.problems.Logistic(A, y), start, jac=True, method="L-BFGS-B", tol=1e-12
    ).fun
    return (
        f"minimize, logistic regression on columns of scale 0.001 to 1000: loss {res.fun:.10f} "
        f"after {res.nfev} evaluations. The optimum, by SciPy's L-BFGS-B on columns of scale 1, is "
        f"{optimum:.10f}."
    )


def _a_compiled_function() -> str:
    """Minimise Rosenbrock's function with no Python in the loop."""
    from numba import njit

    @njit
    def rosenbrock(x: Any, g: Any) -> Any:
        a, b = 1.0 - x[0], x[1] - x[0] * x[0]
        g[0], g[1] = -2.0 * a - 400.0 * x[0] * b, 200.0 * b
        return a * a + 100.0 * b * b

    x0 = np.array([-1.2, 1.0])
    ao.minimize(rosenbrock, x0)  # compiles
    start = time.perf_counter()
    res = ao.minimize(rosenbrock, x0)
    seconds = time.perf_counter() - start
    return (
        f"minimize, Rosenbrock's function, compiled: {res.fun:.1e} after {res.nfev} evaluations in "
        f"{1e3 * seconds:.2f} ms. The minimum is 0."
    )


def _a_finite_sum(bag: Problem) -> str:
    """Go through the rows of the bag of words once."""
    A, labels = bag.train
    problem = ao.problems.Logistic(A, 2.0 * labels - 1.0)
    x0 = np.zeros(A.shape[1])
    ao.minimize_finite_sum(problem, x0, None, epochs=1, rng=0)  # compiles
    start = time.perf_counter()
    res = ao.minimize_finite_sum(problem, x0, None, epochs=1, rng=0)
    seconds = time.perf_counter() - start
    held_out, accuracy = bag.evaluate(res.x[:, None], bag.held_out)
    return (
        f"minimize_finite_sum, the {len(labels)} training rows of the bag of words, one epoch in "
        f"{seconds:.2f} s: held-out loss {held_out:.4f}, accuracy {accuracy:.1%}. The best to be "
        "expected is what the true weights predict, above."
    )
