"""How often `minimize` says "converged" with a gradient that is not that of the objective.

    python benchmarks/wrong_gradients.py

The smooth problems of `untuned.py` are given eight wrong gradients each. A success is false if a
run with the right gradient falls from its end by more than 0.01 of the gap at the start. The same
is counted without the looks at points nearby.
"""

import warnings
from unittest import mock

import numpy as np
from untuned import problems

import adaptopt as ao
from adaptopt.solvers import noise

MOST = 3000


def wrong(rng, n):
    """Return changes of a gradient of n entries."""
    direction, shift = rng.standard_normal(n), 1e-3 * rng.standard_normal(n)
    last, first = (np.arange(n) == k for k in (n - 1, 0))
    return [
        lambda g: -g,
        lambda g: 3 * g,
        lambda g: np.where(first, 0.5 * g, g),
        lambda g: np.where(last, -g, g),
        lambda g: g[::-1].copy(),
        lambda g: g + shift,
        lambda g: g + 1e-3 * np.linalg.norm(g) * direction,
        lambda g: g * np.linspace(0.1, 1.0, n),
    ]


def solve(fun, x0):
    return ao.minimize(fun, x0, jac=True, options={"maxfev": MOST})


def count():
    """Return how many runs there are, how many succeed, and how many of these are false."""
    rng, runs, successes, false = np.random.default_rng(0), 0, 0, 0
    for problem in problems():
        if np.any(problem.l1) or problem.bounds:
            continue
        whole = problem.value(problem.x0) - solve(problem.fun, problem.x0).fun
        for change in wrong(rng, problem.x0.size):

            def fun(x, given=problem.fun, change=change):
                f, g = given(x)
                return f, change(g)

            res = solve(fun, problem.x0)
            runs, successes = runs + 1, successes + res.success
            if res.success:
                on = solve(problem.fun, res.x)
                false += problem.value(res.x) - problem.value(on.x) > 0.01 * whole
    return runs, successes, false


def main():
    """Print both counts."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        shown = "{} runs, {} successes, of which {} false"
        print(shown.format(*count()))
        with mock.patch.object(noise, "why_not_converged", return_value=None):
            print("without the looks at points nearby:", shown.format(*count()))


if __name__ == "__main__":
    main()
