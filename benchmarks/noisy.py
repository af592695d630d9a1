"""How far `minimize` gets with noise: 29 problems, with the steps after the search and without.

    python benchmarks/noisy.py [METHOD ...]

The problems are those of `untuned.py`, as they stand and with each coordinate multiplied by
10**U(-3, 3). Every value, and every entry of a gradient, is multiplied by 1 + 0.01 N(0, 1). Printed
is the share of runs that end near the minimum, by the exact objective at `res.x`: within 0.1, 0.01
and 0.001 of the gap at the start. "search" is where the search for the rate ended, which `res.x`
would be without the steps that follow it. A success is false if a run on the exact function falls
from its end by more than 0.001 of the gap.
"""

import sys
import warnings
from functools import cache

import numpy as np
import scipy.optimize
from untuned import MOST, SOLVERS, lbfgsb_without_tolerances, problems

import adaptopt as ao

NOISE, SEEDS, BUDGETS, GAPS = 0.01, 3, (1000, 10_000), (1e-1, 1e-2, 1e-3)


def solve(problem, fun, x0, method, most):
    """Return the result of a run within so many evaluations."""
    bounds = problem.bounds and scipy.optimize.Bounds(
        *(np.broadcast_to(b, x0.shape) for b in problem.bounds)
    )
    prox = ao.L1(problem.l1) if np.any(problem.l1) else None
    options = {"maxiter": None, "maxfev": most}
    return ao.minimize(fun, x0, jac=True, method=method, bounds=bounds, prox=prox, options=options)


def run(problem, method, most, seed):
    """Return a run with noise."""
    rng = np.random.default_rng(seed)

    def noisy(x):
        f, g = problem.fun(x)
        draws = 1.0 + NOISE * rng.standard_normal(1 + x.size)
        return f * draws[0], g * draws[1:]

    return solve(problem, noisy, problem.x0, method, most)


@cache
def minima():
    """Return the best value known of each problem."""
    solvers = (SOLVERS["adaptopt, no option"], lbfgsb_without_tolerances)
    return [min(min(solve(problem, 5 * MOST)) for solve in solvers) for problem in problems()]


def measure(method, most, kind):
    """Return the gaps where searches and runs ended, relative to the start; and false successes."""
    rng, gaps, false = np.random.default_rng(0), [], 0
    for problem, best in zip(problems(), minima(), strict=True):
        scale = 10 ** rng.uniform(-3, 3, problem.x0.size)
        if kind == "rescaled":
            problem = problem.scaled(scale)
        whole = problem.value(problem.x0) - best
        for seed in range(SEEDS):
            res = run(problem, method, most, seed)
            noise = res.state.noise
            ends = (res.x if noise is None else noise.end, res.x)
            gaps.append([(problem.value(x) - best) / whole for x in ends])
            if res.success:
                on = solve(problem, problem.fun, res.x, method, MOST)
                false += problem.value(res.x) - problem.value(on.x) > 1e-3 * whole
    return np.nan_to_num(gaps, nan=np.inf), false


def main():
    """Print the table."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for method in sys.argv[1:] or ["adagrad"]:
            print(f"{method}: share of runs within {GAPS} of the gap at the start (%)")
            for kind in ("plain", "rescaled"):
                for most in BUDGETS:
                    gaps, false = measure(method, most, kind)
                    for name, ends in zip(("search", "run"), gaps.T, strict=True):
                        shares = [100 * np.mean(ends <= gap) for gap in GAPS]
                        shown = "".join(f"{share:8.0f}" for share in shares)
                        print(f"{kind:9s} {most:6d} evaluations, {name:7s}{shown}")
                    print(f"    false successes: {false} of {len(gaps)}", flush=True)


if __name__ == "__main__":
    main()
