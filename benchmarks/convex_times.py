# ruff: noqa: E402
"""Time to a relative gap of 1e-2, 1e-4 and 1e-6 with L1 and elastic net, nothing tuned.

``python benchmarks/convex_times.py [dense] [words]`` prints a table of milliseconds for each case:
processor time, on one thread, so that other programs do not count. The gap is that of the penalised
objective, relative to the gap at 0. Every solver runs with its defaults, except that its stopping
rule is off, for a growing number of passes or steps. The time is that of the first number that
reaches the gap: a median of three runs, with those of all solvers in turn. A bracketed number of
seconds says how long a solver has run without reaching it.
"""

import os
import sys
import time
import warnings

# Before the libraries are imported, which read it.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import skglm
from scipy import sparse
from sklearn import linear_model

import adaptopt as ao

ROWS, ROUNDS, MOST = 4000, 3, 0.4  # MOST: seconds after which a solver has no larger budget
GAPS = (1e-2, 1e-4, 1e-6)
PASSES = (1, 2, 3, 5, 8, 13, 20, 35, 60, 100, 200, 400, 800, 1600, 3200)


def dense(rng, standardised):
    """Return 100 columns whose scales span three decades, or that are scaled to 1."""
    A = rng.standard_normal((ROWS, 100)) + rng.standard_normal((ROWS, 1))
    return A / A.std(0) if standardised else A * 10.0 ** rng.uniform(-1.5, 1.5, 100)


def words(rng, standardised):
    """Return counts of 40 words a row, of 10,000 by a power law, or these scaled to 1."""
    often = 1.0 / np.arange(1, 10_001)
    drawn = rng.choice(often.size, (ROWS, 40), p=often / often.sum())
    A = sparse.csr_array((np.ones(drawn.size), (np.repeat(np.arange(ROWS), 40), drawn.ravel())),
                         shape=(ROWS, often.size))  # fmt: skip
    A.sum_duplicates()
    mean, square = (np.asarray(B.mean(0)).ravel() for B in (A, A.power(2)))
    deviation = np.sqrt(square - mean**2)
    scale = 1 / np.where(deviation > 0, deviation, 1.0)
    A = sparse.csr_array(A.multiply(scale[None, :])) if standardised else A
    A.indices, A.indptr = A.indices.astype(np.int32), A.indptr.astype(np.int32)  # for saga
    return A


class Case:
    """A loss over rows and an elastic net; ``l1`` is a twentieth of what makes all zero."""

    def __init__(self, loss, make, standardised, ratio):
        rng = np.random.default_rng(0)
        A, self.loss, self.ratio = make(rng, standardised), loss, ratio
        square = A.power(2) if sparse.issparse(A) else A * A
        size = np.sqrt(np.asarray(square.mean(0)).ravel())
        z = A @ (rng.standard_normal(A.shape[1]) / np.where(size > 0, size, 1.0))
        z = 2 * (z - z.mean()) / z.std()
        self.A = A
        if loss == "logistic":
            self.y = np.where(z + rng.logistic(size=ROWS) > 0, 1.0, -1.0)
            self.p = ao.problems.Logistic(A, self.y)
        else:
            self.y = z + rng.standard_normal(ROWS)
            self.p = ao.problems.LeastSquares(A, self.y)
        self.alpha = np.abs(self.p(np.zeros(A.shape[1]))[1]).max() / 20 / ratio
        self.l1, self.l2 = self.alpha * ratio, self.alpha * (1 - ratio)
        self.prox = ao.ElasticNet(self.l1, self.l2) if ratio < 1 else ao.L1(self.l1)

    def value(self, x):
        """Return the objective."""
        return self.p.value(x) + self.l1 * np.abs(x).sum() + self.l2 / 2 * (x @ x)

    def solvers(self):
        """Return by name what takes a number of passes, or of steps, and returns a point."""
        A, y, x0 = self.A, self.y, np.zeros(self.A.shape[1])
        common = {"fit_intercept": False}
        free = {"alpha": self.alpha, "l1_ratio": self.ratio, **common}
        steps = {"gtol": None, "ftol": None, "xtol": None}

        def fit(model):
            return np.ravel(model.fit(A, y).coef_)

        sgd = {"penalty": "elasticnet", "tol": None, "random_state": 0, **free}
        found = {
            "ours, epochs": lambda k: (
                ao.minimize_finite_sum(self.p, x0, None, prox=self.prox, epochs=k, rng=0).x
            ),
            "ours, minimize": lambda k: (
                ao.minimize(self.p, x0, prox=self.prox, options={"maxiter": 5 * k, **steps}).x
            ),
        }
        if self.loss == "logistic":
            given = {"C": 1 / (ROWS * self.alpha), "tol": 1e-14, "random_state": 0, **common}
            regression = linear_model.LogisticRegression
            found["saga"] = lambda k: fit(
                regression(solver="saga", l1_ratio=self.ratio, max_iter=k, **given)
            )
            found["SGD"] = lambda k: fit(
                linear_model.SGDClassifier(loss="log_loss", max_iter=k, **sgd)
            )
            if self.ratio == 1:
                found["liblinear"] = lambda k: fit(
                    regression(solver="liblinear", l1_ratio=1.0, max_iter=k, **given)
                )
            found["skglm"] = lambda k: fit(
                skglm.SparseLogisticRegression(max_iter=k, tol=1e-14, **free)
            )
        else:
            found["SGD"] = lambda k: fit(linear_model.SGDRegressor(max_iter=k, **sgd))
            found["coord. descent"] = lambda k: fit(
                linear_model.ElasticNet(max_iter=k, tol=1e-14, **free)
            )
            found["skglm"] = lambda k: fit(skglm.ElasticNet(max_iter=k, tol=1e-14, **free))
        return found


def measure(case):
    """Return for each solver the seconds to each gap, or minus those that did not reach it."""
    solvers, zero, spent, values = case.solvers(), case.value(np.zeros(case.A.shape[1])), {}, {}
    for name, solve in solvers.items():
        solve(1)
        values[name] = []
        for k in PASSES:
            start = time.process_time()
            values[name].append(case.value(solve(k)))
            spent[name] = time.process_time() - start
            if spent[name] > MOST:
                break
    exact = case.value(solvers["skglm"](200))
    best = min(exact, *(min(found) for found in values.values()))
    reached = {
        (name, gap): next(
            (k for k, f in zip(PASSES, found, strict=False) if f - best <= gap * (zero - best)),
            None,
        )
        for name, found in values.items()
        for gap in GAPS
    }
    times = {(name, k): [] for (name, _), k in reached.items() if k}
    for _ in range(ROUNDS):
        for name, k in times:
            start = time.process_time()
            solvers[name](k)
            times[name, k].append(time.process_time() - start)

    def seconds(name, gap):
        k = reached[name, gap]
        return float(np.median(times[name, k])) if k else -spent[name]

    return {name: [seconds(name, gap) for gap in GAPS] for name in solvers}


def main():
    """Print the table of each case."""
    warnings.simplefilter("ignore")
    kinds = [make for make in (dense, words) if make.__name__ in (sys.argv[1:] or "dense words")]
    for loss in ("logistic", "least squares"):
        for ratio, penalty in ((1.0, "L1"), (0.5, "elastic net")):
            for make in kinds:
                for standardised in (False, True):
                    case = Case(loss, make, standardised, ratio)
                    rows = "sparse" if make is words else "dense"
                    what = "standardised" if standardised else "raw"
                    print(f"\n{loss}, {penalty}, {rows}, {what}", flush=True)
                    for name, seconds in measure(case).items():
                        shown = (f"{1e3 * s:8.1f}" if s > 0 else f"[{-s:4.1f} s]" for s in seconds)
                        print(f"    {name:15}", *(f"{text:>10}" for text in shown), flush=True)


if __name__ == "__main__":
    main()
