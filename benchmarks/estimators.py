"""Our linear models beside scikit-learn's, all at default settings: test score, objective, time.

    python benchmarks/estimators.py

The objective is the mean training loss of our model with its penalty, at the coefficients of each
model with the same loss. Ten splits into 70 % and 30 % (five of the sparse data); scores of models
that draw numbers are means over three seeds in each split. "behind SGD" is the mean score of the
default SGD model less that of a model: its mean over splits, and the largest. The text-like data
are generated: word frequencies by Zipf's law, rows of length 1. Kernels are compiled, or loaded,
before the clock starts. The strength of our penalty was chosen on other data, by ``penalty.py``.
"""

import time
import warnings

import numpy as np
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import Lasso, LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from adaptopt.estimators import LinearClassifier, LinearRegressor


def text(rows=15_000, columns=47_236, words=60, seed=0):
    """Return a CSR matrix like RCV1's, and labels of a sparse linear model with noise."""
    rng = np.random.default_rng(seed)
    often = 1.0 / np.arange(1, columns + 1)
    which = rng.choice(columns, (rows, words), p=often / often.sum()).astype(np.int32)
    starts = np.arange(0, which.size + 1, words, dtype=np.int32)
    entries = rng.exponential(size=which.size) * np.log1p(which.ravel())
    A = scipy.sparse.csr_array((entries, which.ravel(), starts), (rows, columns))
    A.sum_duplicates()
    A = scipy.sparse.csr_array(A / np.sqrt((A * A).sum(axis=1))[:, None])
    z = A @ (rng.standard_normal(columns) * (np.arange(columns) < 3_000))
    return A, (z + 0.3 * z.std() * rng.standard_normal(rows) > np.median(z)).astype(int)


def data():
    """Return name, whether it is regression, rows, targets, and whether to standardise them."""
    cancer = load_breast_cancer(return_X_y=True)
    yield "breast cancer, raw", False, *cancer, False
    yield "breast cancer, standardised", False, *cancer, True
    yield "digits", False, *load_digits(return_X_y=True), False
    yield "diabetes", True, *load_diabetes(return_X_y=True), False
    yield "15,000 x 47,236 CSR", False, *text(), False


def split(X, y, standardise, seed):
    """Return rows and targets to train on, and to test on."""
    train, test, y, held = train_test_split(X, y, test_size=0.3, random_state=seed)
    if standardise:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    return train, y, test, held


def models(regression):
    """Return what makes a model of a seed."""
    if regression:
        return {
            "LinearRegressor": lambda k: LinearRegressor(random_state=k),
            "SGDRegressor": lambda k: SGDRegressor(random_state=k),
            "Lasso": lambda k: Lasso(),
        }
    made = {
        "LinearClassifier": lambda k: LinearClassifier(random_state=k),
        "LinearClassifier, hinge": lambda k: LinearClassifier("hinge", random_state=k),
        "SGDClassifier": lambda k: SGDClassifier(random_state=k),
        "SGDClassifier, log_loss": lambda k: SGDClassifier("log_loss", random_state=k),
        "LogisticRegression, lbfgs": lambda k: LogisticRegression(),
        "LogisticRegression, saga": lambda k: LogisticRegression(solver="saga", random_state=k),
    }
    try:
        from skglm import SparseLogisticRegression
    except ImportError:
        return made
    return made | {"skglm SparseLogisticRegression": lambda k: SparseLogisticRegression()}


def objective(name, model, X, y, regression):
    """Return our objective at a model's coefficients; NaN if it has another loss or shape."""
    n, coef = X.shape[0], np.atleast_2d(model.coef_)
    if regression:
        r = model.predict(X) - y
        return r @ r / 2 / n + (coef**2).sum() / 512 / n
    if "hinge" in name or name == "SGDClassifier" or (len(coef) > 1 and "SGD" in name):
        return np.nan
    z = X @ coef.T + model.intercept_
    z = np.hstack([np.zeros_like(z), z]) if len(coef) == 1 else z
    top = z.max(axis=1)
    losses = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(n), y]
    return losses.mean() + (coef**2).sum() / 8 / n


def compare(regression, splits):
    """Return scores (a row each split), objectives and times of each model."""
    found = {}
    for kind, make in models(regression).items():
        if kind.startswith("skglm") and len(np.unique(splits[0][1])) > 2:
            continue
        seeds = range(3 if "SGD" in kind or "saga" in kind else 1)
        scores, values, times = [], [], []
        if not kind.startswith("SGD"):
            make(0).fit(*splits[0][:2])
        for train, y, test, held in splits:
            score = []
            for seed in seeds:
                start = time.perf_counter()
                model = make(seed).fit(train, y)
                times.append(time.perf_counter() - start)
                score.append(model.score(test, held))
            scores.append(np.mean(score))
            values.append(objective(kind, model, train, y, regression))
        found[kind] = np.array(scores), np.mean(values), np.median(times)
    return found


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    for name, regression, X, y, standardise in data():
        splits = [split(X, y, standardise, k) for k in range(5 if "CSR" in name else 10)]
        found = compare(regression, splits)
        sgd = found["SGDRegressor" if regression else "SGDClassifier"][0]
        print(name)
        for kind, (scores, value, seconds) in found.items():
            behind = 100 * (sgd - scores)
            print(
                f"  {kind:32s} score {scores.mean():7.4f}, worst {scores.min():7.4f}"
                f"  behind SGD {behind.mean():6.2f}, worst {behind.max():6.2f} points"
                f"  objective {value:10.5g}  {seconds:7.3f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
