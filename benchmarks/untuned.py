"""How far solvers get with no option given: data and performance profiles.

Run ``python benchmarks/untuned.py [PICTURE]`` (some minutes; needs the extra "demo"). Every problem
is solved as it stands and with each coordinate multiplied by 10**U(-3, 3). A problem is solved when
the gap to the best value known has fallen to 1e-3 or 1e-6 of that at the start. All evaluations
count, each of value and gradient. The best value known is the least that two of the solvers find in
5,000 evaluations.

The picture's data profiles (More & Wild 2009) show the share of problems solved over evaluations,
its performance profiles (Dolan & More 2002) that over the quotient of evaluations and those of the
solver that needs fewest, problem by problem.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import NamedTuple

import numpy as np
import scipy.optimize
import sklearn.datasets

import adaptopt as ao

MOST = 1000
GAPS = (1e-3, 1e-6)


class Problem(NamedTuple):
    """A function with its gradient, a start, an L1 penalty and bounds."""

    name: str
    fun: object
    x0: np.ndarray
    l1: float | np.ndarray = 0.0
    bounds: tuple | None = None

    def scaled(self, scale):
        def fun(y):
            f, g = self.fun(scale * y)
            return f, scale * g

        bounds = self.bounds and tuple(np.broadcast_to(b, scale.shape) / scale for b in self.bounds)
        return Problem(self.name, fun, self.x0 / scale, self.l1 * scale, bounds)

    def value(self, x):
        return self.fun(x)[0] + float(np.sum(self.l1 * np.abs(x)))


# -- problems --------------------------------------------------------------------------------------


def residuals(make):
    """Return the sum of squares of residuals, from what gives them and their Jacobian."""

    def fun(x):
        r, J = make(x)
        return float(r @ r), 2 * J.T @ r

    return fun


def rosenbrock(x):
    a, b = x[:-1], x[1:]
    g = np.zeros_like(x)
    g[:-1] = -400 * a * (b - a * a) - 2 * (1 - a)
    g[1:] += 200 * (b - a * a)
    return float(np.sum(100 * (b - a * a) ** 2 + (1 - a) ** 2)), g


@residuals
def powell_singular(x):
    a, b, c, d = x
    r = np.array([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])
    J = np.array([
        [1, 10, 0, 0],
        [0, 0, 5**0.5, -(5**0.5)],
        [0, 2 * (b - 2 * c), -4 * (b - 2 * c), 0],
        [2 * 10**0.5 * (a - d), 0, 0, -2 * 10**0.5 * (a - d)],
    ])  # fmt: skip
    return r, J


@residuals
def wood(x):
    a, b, c, d = x
    s = 90**0.5
    r = [10 * (b - a * a), 1 - a, s * (d - c * c), 1 - c, 10**0.5 * (b + d - 2), (b - d) / 10**0.5]
    J = [
        [-20 * a, 10, 0, 0],
        [-1, 0, 0, 0],
        [0, 0, -2 * s * c, s],
        [0, 0, -1, 0],
        [0, 10**0.5, 0, 10**0.5],
        [0, 10**-0.5, 0, -(10**-0.5)],
    ]
    return np.array(r), np.array(J)


@residuals
def beale(x):
    powers = x[1] ** np.arange(1, 4)
    slopes = np.arange(1, 4) * x[1] ** np.arange(3)
    r = np.array([1.5, 2.25, 2.625]) - x[0] * (1 - powers)
    return r, np.column_stack([powers - 1, x[0] * slopes])


@residuals
def brown_dennis(x):
    t = np.arange(1, 21) / 5
    u, v = x[0] + t * x[1] - np.exp(t), x[2] + np.sin(t) * x[3] - np.cos(t)
    J = 2 * np.column_stack([u, t * u, v, np.sin(t) * v])
    return u * u + v * v, J


@residuals
def brown_badly_scaled(x):
    r = np.array([x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2])
    return r, np.array([[1, 0], [0, 1], [x[1], x[0]]])


@residuals
def broyden_tridiagonal(x):
    n = x.size
    padded = np.concatenate([[0], x, [0]])
    r = (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1
    return r, np.diag(3 - 4 * x) - np.eye(n, k=-1) - 2 * np.eye(n, k=1)


def quartic(x):
    weights = np.arange(1, x.size + 1)
    return float(weights @ (x - 1) ** 4), 4 * weights * (x - 1) ** 3


def zakharov(x):
    k = np.arange(1, x.size + 1) / 2
    s = k @ x
    return float(x @ x + s**2 + s**4), 2 * x + (2 * s + 4 * s**3) * k


def quadratic(condition, rotated, n=30):
    rng = np.random.default_rng(condition)
    H = np.diag(np.logspace(0, np.log10(condition), n))
    if rotated:
        Q = np.linalg.qr(rng.normal(size=(n, n)))[0]
        H = Q @ H @ Q.T
    solution = rng.normal(size=n)
    return lambda x: (0.5 * float((x - solution) @ H @ (x - solution)), H @ (x - solution))


def fit(problem):
    return lambda x: problem(x)


def standardised(X):
    return np.column_stack([(X - X.mean(0)) / (X.std(0) + 1e-12), np.ones(len(X))])


def with_ones(X):
    return np.column_stack([X, np.ones(len(X))])


def problems():
    """Return the problems."""
    found = [
        Problem("Rosenbrock 2", rosenbrock, np.array([-1.2, 1.0])),
        Problem("Rosenbrock 20", rosenbrock, np.tile([-1.2, 1.0], 10)),
        Problem("Powell singular", powell_singular, np.array([3.0, -1, 0, 1])),
        Problem("Wood", wood, np.array([-3.0, -1, -3, -1])),
        Problem("Beale", beale, np.array([1.0, 1])),
        Problem("Brown-Dennis", brown_dennis, np.array([25.0, 5, -5, -1])),
        Problem("Brown badly scaled", brown_badly_scaled, np.array([1.0, 1])),
        Problem("Broyden tridiagonal", broyden_tridiagonal, -np.ones(40)),
        Problem("quartic", quartic, np.zeros(20)),
        Problem("Zakharov", zakharov, np.linspace(-5, 10, 10)),
        Problem("Rosenbrock 5 in a box", rosenbrock, np.array([-1.2, 1, -1.2, 1, -1.2]),
                bounds=(-2.0, 0.8)),
    ]  # fmt: skip
    for condition in (1e2, 1e4, 1e6):
        for rotated in (True, False):
            name = f"quadratic {condition:.0e} {'rotated' if rotated else 'diagonal'}"
            found.append(Problem(name, quadratic(int(condition), rotated), np.zeros(30)))
    diabetes = sklearn.datasets.load_diabetes(scaled=False)
    cancer, wine = sklearn.datasets.load_breast_cancer(), sklearn.datasets.load_wine()
    signs = 2.0 * cancer.target - 1
    kinds = np.where(wine.target == 1, 1.0, -1.0)
    for how, change in (("raw", with_ones), ("standardised", standardised)):
        A = change(diabetes.data)
        p = ao.problems
        found += [
            Problem(f"least squares {how}", p.LeastSquares(A, diabetes.target),
                    np.zeros(A.shape[1])),
            Problem(f"Huber {how}", p.Huber(A, diabetes.target, 30.0), np.zeros(A.shape[1])),
            Problem(f"lasso {how}", p.LeastSquares(A, diabetes.target), np.zeros(A.shape[1]),
                    l1=1.0),
            Problem(f"logistic {how}", p.Logistic(change(wine.data), kinds), np.zeros(14), l1=1e-3),
            Problem(f"sparse logistic {how}", p.Logistic(change(cancer.data), signs),
                    np.zeros(31), l1=1e-2),
            Problem(f"logistic in a box {how}", p.Logistic(change(cancer.data), signs),
                    np.zeros(31), bounds=(-0.5, 0.5)),
        ]  # fmt: skip
    return found


# -- solvers ---------------------------------------------------------------------------------------


class Counted:
    """A problem whose best value so far is recorded at every evaluation."""

    def __init__(self, problem, most):
        self.problem, self.most, self.values = problem, most, []

    def __call__(self, x):
        if len(self.values) >= self.most:
            raise StopIteration
        f, g = self.problem.fun(np.asarray(x))
        total = f + float(np.sum(self.problem.l1 * np.abs(x)))
        before = self.values[-1] if self.values else np.inf
        self.values.append(min(before, total) if np.isfinite(total) else before)
        return f, g


def adaptopt_solver(method, **options):
    def solve(problem, most):
        fun = Counted(problem, most)
        bounds = problem.bounds and scipy.optimize.Bounds(
            *(np.broadcast_to(b, problem.x0.shape) for b in problem.bounds)
        )
        prox = ao.L1(problem.l1) if np.any(problem.l1) else None
        with contextlib.suppress(StopIteration):
            ao.minimize(fun, problem.x0, jac=True, method=method, bounds=bounds, prox=prox,
                        options={"maxiter": None, "maxfev": most, **options})  # fmt: skip
        return fun.values

    return solve


def lbfgsb(problem, most, **options):
    """Solve as SciPy does; an L1 penalty splits each variable into two that are at least zero."""
    fun, n = Counted(problem, most), problem.x0.size
    bounds = problem.bounds and [tuple(np.broadcast_to(b, n)[i] for b in problem.bounds)
                                 for i in range(n)]  # fmt: skip
    target, x0 = fun, problem.x0
    if np.any(problem.l1):
        bounds = [(0, None)] * (2 * n)
        x0 = np.concatenate([np.maximum(x0, 0), np.maximum(-x0, 0)])

        def target(z):
            f, g = fun(z[:n] - z[n:])
            penalty = np.broadcast_to(problem.l1, n)
            return f + float(penalty @ (z[:n] + z[n:])), np.concatenate([g + penalty, penalty - g])

    with contextlib.suppress(StopIteration):
        scipy.optimize.minimize(target, x0, jac=True, method="L-BFGS-B", bounds=bounds,
                                options={"maxfun": most, "maxiter": most, **options})  # fmt: skip
    return fun.values


def lbfgsb_without_tolerances(problem, most):
    return lbfgsb(problem, most, ftol=0.0, gtol=0.0)


SOLVERS = {
    "adaptopt, no option": adaptopt_solver(None),
    "adaptopt, RMSProp": adaptopt_solver("rmsprop"),
    "adaptopt, Adam": adaptopt_solver("adam"),
    "AdaGrad(lr=0.01)": adaptopt_solver(ao.AdaGrad()),
    "L-BFGS-B, no option": lbfgsb,
    "L-BFGS-B, tolerances 0": lbfgsb_without_tolerances,
}


def measure():
    """Return, by kind and solver, the evaluations that each problem took for each gap."""
    rng = np.random.default_rng(0)
    taken = {}
    for problem in problems():
        best = min(
            min(solve(problem, 5 * MOST), default=np.inf)
            for solve in (SOLVERS["adaptopt, no option"], lbfgsb_without_tolerances)
        )
        start = problem.value(problem.x0)
        scale = 10 ** rng.uniform(-3, 3, problem.x0.size)
        for kind, given in (("plain", problem), ("rescaled", problem.scaled(scale))):
            for name, solve in SOLVERS.items():
                values = np.array(solve(given, MOST))
                for gap in GAPS:
                    there = np.flatnonzero(values - best <= gap * (start - best))
                    count = there[0] + 1 if there.size else np.inf
                    taken.setdefault((kind, gap, name), []).append(count)
    return {key: np.array(counts) for key, counts in taken.items()}


def draw(taken, path):
    """Draw data profiles above, and performance profiles below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.6), sharey=True, sharex="row")
    evaluations = np.unique(np.geomspace(1, MOST, 200).astype(int))
    times = np.geomspace(1, 100, 200)
    for column, kind in enumerate(("plain", "rescaled")):
        data, performance = axes[:, column]
        fewest = np.min([taken[kind, 1e-6, name] for name in SOLVERS], axis=0)
        for name in SOLVERS:
            counts, width = taken[kind, 1e-6, name], 2 if "no option" in name else 1
            share = [100 * np.mean(counts <= k) for k in evaluations]
            data.plot(evaluations, share, label=name, lw=width)
            share = [100 * np.mean(np.isfinite(counts) & (counts <= k * fewest)) for k in times]
            performance.plot(times, share, lw=width)
        data.set(xscale="log", xlabel="evaluations of f and its gradient", ylim=(0, 100))
        data.set_title({"plain": "as they stand", "rescaled": "coordinates rescaled"}[kind])
        performance.set(xscale="log", xlabel="evaluations over those of the quickest solver")
    for axis in axes[:, 0]:
        axis.set_ylabel("problems solved to 1e-6 (%)")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    """Measure, print the table, draw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = measure()
    count = len(next(iter(taken.values())))
    print(f"{count} problems, solved within {MOST} evaluations (%)")
    print(f"{'':24s}  plain 1e-3  1e-6   rescaled 1e-3  1e-6")
    for name in SOLVERS:
        shares = [
            100 * np.mean(np.isfinite(taken[kind, gap, name]))
            for kind in ("plain", "rescaled")
            for gap in GAPS
        ]
        print(f"{name:24s} {shares[0]:10.0f} {shares[1]:6.0f} {shares[2]:14.0f} {shares[3]:6.0f}")
    if len(sys.argv) > 1:
        draw(taken, sys.argv[1])


if __name__ == "__main__":
    main()
