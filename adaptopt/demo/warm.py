"""Compile common kernels ahead of use, for images of machines and clusters."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import adaptopt as ao

from ..kernels.early import at_once

METHODS = (ao.SGD(), ao.Momentum(), ao.AdaGrad(), ao.RMSProp(), ao.Adam())
DTYPES = ("float32", "float64")


def warm() -> int:
    """Compile the kernels of common calls, or load them if they are on the disk.

    Each call is made once, on a few numbers: what it needs is then stored where a later process
    finds it. Return the exit status.
    """
    jobs = _jobs()
    start = time.perf_counter()
    for k, (name, job) in enumerate(jobs.items(), 1):
        before = time.perf_counter()
        with at_once():
            job()
        seconds = time.perf_counter() - before
        print(f"[{k:2}/{len(jobs)}] {seconds:5.1f} s  {name}", flush=True)
    print(f"{len(jobs)} calls are ready, after {time.perf_counter() - start:.0f} s.")
    return 0


def _jobs() -> dict[str, Callable[[], object]]:
    """Return the calls by name."""
    jobs: dict[str, Callable[[], object]] = {}
    for dtype in DTYPES:
        for method in METHODS:
            jobs[f"a step of {type(method).__name__}, {dtype}"] = _step(method, dtype)
    for searched in ("adagrad", "rmsprop", "adam"):
        jobs[f"minimize with {searched}, its rate searched for"] = _descent(searched)
    for name in ("LeastSquares", "Logistic"):
        for layout in ("dense", "sparse"):
            jobs[f"minimize_finite_sum of {name}, {layout} rows"] = _epochs(name, layout)
    return jobs


def _step(method: ao.Method, dtype: str) -> Callable[[], object]:
    x = np.zeros(2, dtype)
    return lambda: ao.Optimizer(x, method).step(np.ones(2, dtype))


def _descent(method: str) -> Callable[[], object]:
    return lambda: ao.minimize(lambda x: (x @ x, 2 * x), np.ones(2), jac=True, method=method)


def _epochs(name: str, layout: str) -> Callable[[], object]:
    A, y = np.eye(4, 2), np.array([1.0, -1.0, 1.0, -1.0])

    def run() -> object:
        from scipy.sparse import csr_array

        problem = getattr(ao.problems, name)(csr_array(A) if layout == "sparse" else A, y)
        return ao.minimize_finite_sum(problem, np.zeros(2), None, epochs=1, rng=0)

    return run
