"""Time until the objective is within 1e-6 of its minimum, beside SciPy's L-BFGS-B.

``python benchmarks/time_to_solution.py`` takes some minutes. Both solvers get the same function,
compiled by Numba, with nothing tuned. The gap is relative to that at the start. Ours ends at it by
``f_target``; SciPy's by ``maxfun``, the number of evaluations after which it is there, with its
tolerances off: so neither looks for more, and neither is stopped by a test of ours in Python. Times
are medians of runs in turn. At the end, 1,000 starts of Rosenbrock's function by `minimize_many`,
and in a loop over SciPy's.
"""

import statistics
import time

import numpy as np
from numba import njit
from scipy.optimize import minimize

import adaptopt as ao

GAP, TURNS, MOST = 1e-6, 7, 20_000


@njit
def rosenbrock(x, g):
    f = 0.0
    g[:] = 0
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] ** 2, 1 - x[i]
        f += 100 * a**2 + b**2
        g[i] -= 400 * x[i] * a + 2 * b
        g[i + 1] += 200 * a
    return f


@njit
def dixon_price(x, g):
    f = (x[0] - 1) ** 2
    g[:] = 0
    g[0] = 2 * (x[0] - 1)
    for i in range(1, x.size):
        a = 2 * x[i] ** 2 - x[i - 1]
        f += (i + 1) * a**2
        g[i] += (i + 1) * 8 * x[i] * a
        g[i - 1] -= (i + 1) * 2 * a
    return f


@njit
def broyden_tridiagonal(x, g):
    n = x.size
    f = 0.0
    g[:] = 0
    for i in range(n):
        before, after = x[i - 1] if i else 0.0, x[i + 1] if i + 1 < n else 0.0
        r = (3 - 2 * x[i]) * x[i] - before - 2 * after + 1
        f += r**2
        g[i] += 2 * r * (3 - 4 * x[i])
        if i:
            g[i - 1] -= 2 * r
        if i + 1 < n:
            g[i + 1] -= 4 * r
    return f


@njit
def quartic(x, g):
    f = 0.0
    for i in range(x.size):
        f += (i + 1) * x[i] ** 4 + x[i] ** 2
        g[i] = 4 * (i + 1) * x[i] ** 3 + 2 * x[i]
    return f


@njit
def ellipsoid(x, g):
    f = 0.0
    for i in range(x.size):
        curvature = 1e3 ** (i / max(1, x.size - 1))
        f += curvature * (x[i] - 1) ** 2 / 2
        g[i] = curvature * (x[i] - 1)
    return f


@njit
def robust_line(x, g):
    """Fit x to a wave with outliers, each entry by the root of 1 + r**2, and its neighbours."""
    f = 0.0
    g[:] = 0
    for i in range(x.size):
        r = x[i] - np.sin(0.3 * i) - (5.0 if i % 7 == 3 else 0.0)
        f += np.sqrt(1 + r**2)
        g[i] += r / np.sqrt(1 + r**2)
        if i:
            d = x[i] - x[i - 1]
            f += 2 * d**2
            g[i] += 4 * d
            g[i - 1] -= 4 * d
    return f


STARTS = {
    rosenbrock: lambda n: np.where(np.arange(n) % 2, 1.0, -1.2),
    dixon_price: np.ones,
    broyden_tridiagonal: lambda n: -np.ones(n),
    quartic: np.ones,
    ellipsoid: np.zeros,
    robust_line: np.zeros,
}


def for_scipy(fun):
    @njit
    def both(x):
        g = np.empty_like(x)
        return fun(x, g), g

    return both


def lbfgsb(both, x0, most):
    options = {"maxfun": most, "maxiter": most, "ftol": 0, "gtol": 0}
    return minimize(both, x0, jac=True, method="L-BFGS-B", options=options)


def evaluations(both, x0, target):
    """Return after how many evaluations SciPy's is within the gap, or None."""
    values = []

    def recorded(x):
        f, g = both(x)
        values.append(f)
        return f, g

    lbfgsb(recorded, x0, MOST)
    below = np.flatnonzero(np.array(values) <= target)
    return int(below[0]) + 1 if below.size else None


def ours(fun, x0, target):
    return ao.minimize(fun, x0, options={"f_target": target, "maxfev": MOST, "rtol": None})


def in_turns(*calls):
    """Return the median seconds of each call."""
    taken = [[] for _ in calls]
    for _ in range(TURNS):
        for call, times in zip(calls, taken, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def main():
    for n in (2, 10, 100, 1000):
        gains = []
        for fun, start in STARTS.items():
            x0, both = start(n).astype(float), for_scipy(fun)
            f0 = both(x0)[0]
            found = ao.minimize(fun, x0, options={"maxfev": MOST, "rtol": 1e-15}).fun
            least = np.nanmin([lbfgsb(both, x0, MOST).fun, found])  # SciPy's can end at a NaN
            target = least + GAP * (f0 - least)
            theirs, res = evaluations(both, x0, target), ours(fun, x0, target)
            name = f"n = {n}, {fun.__name__}"
            if theirs is None or res.status != 5:
                print(f"{name}: not solved by {'SciPy' if theirs is None else 'ours'}", flush=True)
                continue
            us, them = in_turns(
                lambda fun=fun, x0=x0, target=target: ours(fun, x0, target),
                lambda both=both, x0=x0, theirs=theirs: lbfgsb(both, x0, theirs),
            )
            gains.append(them / us)
            print(
                f"{name}: {1e6 * us:.0f} us, {res.nfev} evaluations; SciPy {1e6 * them:.0f} us, "
                f"{theirs}: {them / us:.1f} times",
                flush=True,
            )
        print(f"n = {n}: median {statistics.median(gains):.1f} times", flush=True)
    starts = np.random.default_rng(0).uniform(-2, 2, (1000, 2))
    both = for_scipy(rosenbrock)
    many, loop = in_turns(
        lambda: ao.minimize_many(rosenbrock, starts),
        lambda: [minimize(both, x0, jac=True, method="L-BFGS-B") for x0 in starts],
    )
    res = ao.minimize_many(rosenbrock, starts)
    print(
        f"1,000 starts: {1e3 * many:.1f} ms, {np.mean(res.fun < GAP):.0%} within {GAP:g}; SciPy's "
        f"loop {1e3 * loop:.0f} ms: {loop / many:.0f} times"
    )


if __name__ == "__main__":
    main()
