"""How near the losses of `adaptopt.problems` come to scikit-learn's solvers, on its data sets.

    python benchmarks/losses.py

prints, for each loss, scikit-learn's objective, ours, and the relative difference. Softmax is
compared over full batches, and over epochs by the share of rows that it classifies correctly.
"""

from __future__ import annotations

import time

import numpy as np
from sklearn import datasets, linear_model
from sklearn.svm import LinearSVR

import adaptopt as ao


def show(name: str, theirs: float, ours: float, seconds: float) -> None:
    gap = (ours - theirs) / abs(theirs)
    print(f"{name:32} {theirs:16.10f} {ours:16.10f} {gap:9.1e} {seconds:6.1f} s")


def falling(steps: int) -> dict[str, object]:
    """Return arguments of `minimize`: a rate that falls by 1e-9 over all steps, for kinks."""
    schedule = ao.schedules.exponential(100.0, 1e-9 ** (1 / steps))
    return {"method": ao.SGD(lr=schedule), "options": {"maxiter": steps, "gtol": None}}


def compare(name: str, p: ao.problems.Problem, best: np.ndarray, l2: float, **how: object) -> None:
    """Minimise a problem from 0, and compare with scikit-learn's point."""
    prox = ao.L2(l2) if l2 else None
    x0 = np.zeros(getattr(p, "shape", p.n_features))
    start = time.perf_counter()
    res = ao.minimize(p, x0, jac=True, prox=prox, **how)
    show(name, p.value(best) + l2 / 2 * (best**2).sum(), res.fun, time.perf_counter() - start)


def main() -> None:
    A, b = datasets.load_diabetes(return_X_y=True)
    A, b = np.ascontiguousarray((A - A.mean(0)) / A.std(0)), b - b.mean()
    counts = np.random.default_rng(0).poisson(np.exp(0.3 * A[:, :3].sum(1)))

    fit = linear_model.PoissonRegressor(alpha=0, tol=1e-12, max_iter=10_000).fit(A, counts)
    p = ao.problems.Poisson(A, counts, intercept=True)
    compare("Poisson", p, np.append(fit.coef_, fit.intercept_), 0)

    for quantile in (0.5, 0.8):
        fit = linear_model.QuantileRegressor(quantile=quantile, alpha=0, solver="highs").fit(A, b)
        p = ao.problems.Quantile(A, b, quantile, intercept=True)
        best = np.append(fit.coef_, fit.intercept_)
        compare(f"Quantile {quantile}", p, best, 0, **falling(200_000))

    for epsilon in (0.0, 5.0):
        svr = LinearSVR(C=1.0, epsilon=epsilon, fit_intercept=False, tol=1e-12, max_iter=10**7)
        p = ao.problems.EpsilonInsensitive(A, b, epsilon)
        best = svr.fit(A, b).coef_
        compare(f"EpsilonInsensitive {epsilon}", p, best, 1 / len(b), **falling(50_000))

    D, y = datasets.load_digits(return_X_y=True)
    D, l2 = np.ascontiguousarray(D / 16), 1 / len(y)
    softmax = linear_model.LogisticRegression(fit_intercept=False, tol=1e-12, max_iter=20_000)
    softmax.fit(D, y)
    p = ao.problems.Multinomial(D, y)
    compare("Multinomial, full batches", p, softmax.coef_.T, l2)
    start = time.perf_counter()
    res = ao.minimize_finite_sum(
        *(p, np.zeros(p.shape), None),
        method=ao.AdaGrad(0.3), prox=ao.L2(l2), batch_size=10, epochs=20, rng=0,
    )  # fmt: skip
    right = float(((D @ res.x).argmax(1) == y).mean())
    show("Multinomial, epochs: accuracy", softmax.score(D, y), right, time.perf_counter() - start)


if __name__ == "__main__":
    main()
