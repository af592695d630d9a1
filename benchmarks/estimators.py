"""Our linear models beside scikit-learn's, all at default settings: test score, objective, time.

    python benchmarks/estimators.py

The objective is the mean training loss of our model with its penalty, at the coefficients of each
model with the same loss. Scores of models with a seed are means over three seeds. The text-like
data are generated: word frequencies by Zipf's law, rows of length 1. Kernels are compiled, or
loaded, before the clock starts.
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
    """Return name, whether it is regression, and the four parts of each data set."""
    cancer = train_test_split(*load_breast_cancer(return_X_y=True), test_size=0.3, random_state=0)
    yield "breast cancer, raw", False, cancer
    scaler = StandardScaler().fit(cancer[0])
    scaled = [scaler.transform(part) for part in cancer[:2]]
    yield "breast cancer, standardised", False, (*scaled, *cancer[2:])
    digits = train_test_split(*load_digits(return_X_y=True), test_size=0.3, random_state=0)
    yield "digits", False, digits
    yield "15,000 x 47,236 CSR", False, train_test_split(*text(), test_size=0.3, random_state=0)
    diabetes = train_test_split(*load_diabetes(return_X_y=True), test_size=0.3, random_state=0)
    yield "diabetes", True, diabetes


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
        return r @ r / 2 / n + 1e-4 / 2 * (coef**2).sum()
    if "hinge" in name or name == "SGDClassifier" or (len(coef) > 1 and "SGD" in name):
        return np.nan
    z = X @ coef.T + model.intercept_
    z = np.hstack([np.zeros_like(z), z]) if len(coef) == 1 else z
    top = z.max(axis=1)
    losses = top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(n), y]
    return losses.mean() + (coef**2).sum() / 8 / n


def main():
    """Print the table."""
    warnings.simplefilter("ignore")
    for name, regression, (train, test, y, held) in data():
        print(name)
        for kind, make in models(regression).items():
            if kind.startswith("skglm") and len(np.unique(y)) > 2:
                continue
            if kind.startswith("Linear"):
                make(0).fit(train, y)
            scores, times = [], []
            for seed in range(3):
                start = time.perf_counter()
                model = make(seed).fit(train, y)
                times.append(time.perf_counter() - start)
                scores.append(model.score(test, held))
            value = objective(kind, model, train, y, regression)
            print(
                f"  {kind:32s} score {np.mean(scores):7.4f} "
                f"({min(scores):.4f} to {max(scores):.4f})"
                f"  objective {value:10.5g}  {min(times):8.3f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
