"""Logistic regression with an L2 penalty, solved by each library to the same precision."""

import warnings
from itertools import product

import numpy as np
import scipy.optimize
from benchmarks.data import dense_rows, sparse_rows

import adaptopt as ao

from . import peers
from .timing import Entry, compare, repeated, single

TITLE = "A convex problem to a given precision"
THREADS = ("all",)
LAM = 1e-4
PRECISIONS = (1e-2, 1e-4)  # relative to the loss at zero minus the minimum
RATES = (0.03, 0.1, 0.3, 1.0)  # for batches
WHOLE_RATES = (0.3, 1.0, 3.0, 10.0)
EPOCHS = (1, 2, 4, 8, 16, 32)


class Problem:
    """A mean logistic loss and ``LAM / 2 * x**2``, with its minimum."""

    def __init__(self, A, y):
        self.loss = ao.problems.Logistic(A, y)
        self.n = self.loss.n_features
        res = scipy.optimize.minimize(
            self, np.zeros(self.n), jac=True, method="L-BFGS-B",
            options={"maxiter": 5_000, "maxfun": 40_000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30},
        )  # fmt: skip
        self.lowest = res.fun

    def __call__(self, x):
        f, g = self.loss(x)
        return f + LAM / 2 * (x @ x), g + LAM * x

    def target(self, precision):
        return self.lowest + precision * (np.log(2.0) - self.lowest)

    def solves(self, x, precision):
        return x is not None and self(x)[0] <= self.target(precision)


def fewest(p, precision, solve, efforts):
    """Return the smallest effort that suffices, or None."""
    return next((k for k in efforts if p.solves(solve(k), precision)), None)


def bisected(p, precision, solve, most):
    """Return the smallest effort up to ``most``, by bisection: more effort is never worse."""
    low, high = 0, 1
    while not p.solves(solve(high), precision):
        if high == most:
            return None
        low, high = high, min(4 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if p.solves(solve(middle), precision) else (middle, high)
    return high


def scipy_lbfgs(p, precision, quick):
    def solve(iterations, callback=None):
        return scipy.optimize.minimize(
            p, np.zeros(p.n), jac=True, method="L-BFGS-B", callback=callback,
            options={"maxiter": iterations, "maxfun": 40_000, "ftol": 0.0, "gtol": 0.0},
        )  # fmt: skip

    def stop(intermediate_result):
        if intermediate_result.fun <= p.target(precision):
            raise StopIteration

    res = solve(2_000, stop)
    if res.fun > p.target(precision):
        return None, "not within 2,000 iterations"
    return (lambda: solve(res.nit)), f"{res.nit} iterations"


def adagrad(p, precision, quick):
    """Use whole gradients, with the best rate of a grid."""
    best = None
    for lr in WHOLE_RATES:
        options = {"f_target": p.target(precision), "gtol": None, "maxiter": 500}
        method = ao.AdaGrad(lr)

        def solve(method=method, options=options):
            return ao.minimize(p, np.zeros(p.n), jac=True, method=method, options=options)

        res = solve()
        if res.status == 5 and (best is None or res.nit < best[1].nit):
            best = solve, res, lr
    if best is None:
        return None, "not within 500 steps"
    return best[0], f"{best[1].nit} steps, lr={best[2]}"


def stochastic(p, precision, quick):
    """Use batches of 32 rows, with the best rate of a grid, with and without an average."""
    best = None
    for lr, average in product(RATES, (None, "polynomial")):

        def solve(epochs, lr=lr, average=average):
            return ao.minimize_finite_sum(
                p.loss, np.zeros(p.n), None, method=ao.AdaGrad(lr), prox=ao.L2(LAM),
                batch_size=32, epochs=epochs, average=average, rng=0,
            ).x  # fmt: skip

        efforts = [k for k in EPOCHS if best is None or k < best[0]]
        epochs = fewest(p, precision, solve, efforts)
        if epochs is not None:
            best = epochs, solve, f"{epochs} epochs, lr={lr}" + (", averaged" if average else "")
    if best is None:
        return None, f"not within {EPOCHS[-1]} epochs"
    return (lambda: best[1](best[0])), best[2]


def logistic_regression(p, precision, quick):
    from sklearn.linear_model import LogisticRegression

    def solve(iterations):
        model = LogisticRegression(
            C=1 / (LAM * len(p.loss)), fit_intercept=False, solver="lbfgs", tol=1e-12,
            max_iter=iterations,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about stopping before its own precision
            return model.fit(p.loss.A, p.loss.targets).coef_.ravel().astype(np.float64)

    iterations = bisected(p, precision, solve, 1_000)
    if iterations is None:
        return None, "not within 1,000 iterations"
    return (lambda: solve(iterations)), f"{iterations} iterations"


def sgd_classifier(p, precision, quick):
    from sklearn.linear_model import SGDClassifier

    best = None
    rates = [("optimal", 0.0), *(("constant", lr) for lr in (0.001, 0.01, 0.1))]
    for (schedule, lr), average in product(rates, (False, True)):

        def solve(epochs, schedule=schedule, lr=lr, average=average):
            model = SGDClassifier(
                loss="log_loss", alpha=LAM, learning_rate=schedule, eta0=lr or 0.01,
                average=average, max_iter=epochs, tol=None, fit_intercept=False, random_state=0,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = model.fit(p.loss.A, p.loss.targets).coef_.ravel().astype(np.float64)
            return found if np.isfinite(found).all() else None

        efforts = [k for k in EPOCHS if best is None or k < best[0]]
        epochs = fewest(p, precision, solve, efforts)
        if epochs is not None:
            shown = schedule + (f" rate {lr}" if lr else "") + (", averaged" if average else "")
            best = epochs, solve, f"{epochs} epochs, {shown}"
    if best is None:
        return None, f"not within {EPOCHS[-1]} epochs"
    return (lambda: best[1](best[0])), best[2]


OURS = {"AdaGrad, batches of 32": stochastic, "AdaGrad, whole gradients": adagrad}
_SETTING = (
    "one thread for BLAS, which is faster than more; the fewest iterations that are enough are "
    "found before, and timed without tests"
)
PEERS = (
    peers.Peer(
        "SciPy L-BFGS-B",
        "scipy",
        f"jac=True on the same compiled function as ours; {_SETTING}",
        "scipy",
        scipy_lbfgs,
    ),
    peers.Peer(
        "LogisticRegression",
        "scikit-learn",
        f"solver='lbfgs', the same penalty; {_SETTING}",
        "sklearn.linear_model",
        logistic_regression,
    ),
    peers.Peer(
        "SGDClassifier",
        "scikit-learn",
        "the best of its optimal rate and three constant ones, averaged or not; epochs by powers "
        "of two, as ours",
        "sklearn.linear_model",
        sgd_classifier,
    ),
)


def run(plan):
    """Yield a comparison for every problem and precision."""
    few = plan.quick
    A, y = dense_rows(*((300, 10) if few else (10_000, 100)))
    scales = 10.0 ** np.random.default_rng(1).uniform(-1.5, 1.5, A.shape[1])
    S, labels = sparse_rows(*((300, 200, 10) if few else (10_000, 20_000, 40)))
    problems = {
        "dense, columns of one scale": (A.astype(np.float64), y),
        "dense, columns of scales 0.03 to 30": (A * scales, y),
        "sparse, columns of popularity 1/k": (S.astype(np.float64), labels),
    }
    for name, data in problems.items():
        p = Problem(*data)
        for precision in PRECISIONS[:1] if few else PRECISIONS:
            yield contest(name, p, precision, plan)


def contest(name, p, precision, plan):
    makers = {(ours, "ours"): make for ours, make in OURS.items()}
    for peer in PEERS:
        if peers.why_missing(peer.needs) is None:
            makers[peer.name, "peer"] = peer.make
    entries = []
    for (who, kind), make in makers.items():
        call, check = make(p, precision, plan.quick)
        entries.append(Entry(who, kind, call and repeated(call), None, check))
    mine = [e for e in entries if e.kind == "ours" and e.measure is not None]
    if mine:
        ours = min(mine, key=lambda entry: single(entry.measure)).name
        for entry in entries:
            entry.against = ours if entry.name != ours else None
    rows, columns = len(p.loss), p.n
    case = {"problem": name, "rows": rows, "columns": columns, "precision": precision}
    return compare(case, entries, plan.seconds / 2, least=3)


_CURVATURE = (
    "the problem is smooth and its gradients are exact, so a method that learns the curvature "
    "needs few"
)
REASONS = {
    "SciPy L-BFGS-B": _CURVATURE,
    "LogisticRegression": _CURVATURE,
    "SGDClassifier": "on columns of one scale a plain rate is enough, and it keeps no state",
}
