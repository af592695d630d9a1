"""Choose the strength of ``l2="auto"`` by cross-validation, on data that no table reports.

    python benchmarks/penalty.py [loss ...]

A rule says what ``l2`` times the number of rows is: a number ``k``, ``k`` times the mean squared
length of the rows, the same of centred rows, or ``k`` times the number of rows. Each data set is
scored by five folds (accuracy, or R^2) at powers of 4 of ``l2 * n``, and a rule gets the score of
the power that is nearest. What it is behind the best of all there is its loss on a data set; the
rule with the least mean loss wins. The data are scikit-learn's generators, its bundled sets that
``estimators.py`` does not report, and generated texts of other seeds and sizes, and another law.
"""

import sys
import time
import warnings
from functools import cache, partial

import numpy as np
import scipy.sparse
from estimators import text
from sklearn.datasets import (
    load_iris,
    load_linnerud,
    load_wine,
    make_classification,
    make_friedman1,
    make_regression,
)
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adaptopt.estimators import LinearClassifier, LinearRegressor

BASE = 4.0


def topics(rows, columns, length, seed, classes=4):
    """Return tf-idf rows of texts whose topics each have their own word frequencies."""
    rng = np.random.default_rng(seed)
    often = 1.0 / np.arange(1, columns + 1)
    chances = often * np.exp(0.5 * rng.standard_normal((classes, columns)))
    chances /= chances.sum(axis=1, keepdims=True)
    y = rng.integers(classes, size=rows)
    counts = np.array([rng.multinomial(length, chances[k]) for k in y])
    return TfidfTransformer().fit_transform(scipy.sparse.csr_array(counts)), y


def units(X, seed):
    """Return columns in units from 0.01 to 1,000."""
    return X * 10.0 ** np.random.default_rng(seed).uniform(-2, 3, X.shape[1])


def classification():
    """Return data by name, and whether columns are standardised."""
    made = {
        "300 x 20": make_classification(300, 20, n_informative=5, flip_y=0.1, random_state=1),
        "1,000 x 50": make_classification(
            1000, 50, n_informative=10, flip_y=0.05, class_sep=0.7, random_state=2
        ),
        "200 x 500": make_classification(200, 500, n_informative=20, random_state=3),
        "600 x 100, 3 classes": make_classification(
            600, 100, n_informative=15, n_classes=3, random_state=4
        ),
        "2,000 x 10, noise": make_classification(2000, 10, flip_y=0.3, random_state=5),
    }
    X, y = make_classification(500, 30, n_informative=8, random_state=6)
    return {
        "wine, raw": (*load_wine(return_X_y=True), False),
        "wine": (*load_wine(return_X_y=True), True),
        "iris, raw": (*load_iris(return_X_y=True), False),
        "iris": (*load_iris(return_X_y=True), True),
        **{name: (*data, False) for name, data in made.items()},
        "500 x 30, units": (units(X, 7), y, False),
        "text 2,000 x 5,000": (*text(2000, 5000, 60, seed=11), False),
        "text 1,000 x 20,000": (*text(1000, 20_000, 40, seed=12), False),
        "text 6,000 x 30,000": (*text(6000, 30_000, 60, seed=13), False),
        "topics 800 x 2,000": (*topics(800, 2000, 40, seed=14), False),
        "topics 2,000 x 4,000": (*topics(2000, 4000, 25, seed=15), False),
    }


def regression():
    """Return data likewise."""
    linnerud, targets = load_linnerud(return_X_y=True)
    made = {
        "100 x 10": make_regression(100, 10, noise=20.0, random_state=1),
        "80 x 60": make_regression(80, 60, n_informative=20, noise=50.0, random_state=2),
        "100 x 200": make_regression(100, 200, n_informative=10, noise=10.0, random_state=3),
        "low rank": make_regression(
            150, 40, n_informative=40, effective_rank=8, noise=1.0, random_state=4
        ),
        "friedman": make_friedman1(300, 10, noise=1.0, random_state=5),
    }
    X, y = make_regression(200, 20, n_informative=10, noise=50.0, random_state=6)
    return {
        **{name: (*data, False) for name, data in made.items()},
        "200 x 20, units": (units(X, 7), y, False),
        "linnerud": (linnerud, targets[:, 0], True),
    }


class Data:
    """Rows whose score is computed once for each strength."""

    def __init__(self, X, y, standardised, model, folds):
        self.steps = [StandardScaler()] * standardised
        self.X, self.y, self.model, self.folds = X, y, model, folds
        shown = StandardScaler().fit_transform(X) if standardised else X
        squares = shown.multiply(shown) if scipy.sparse.issparse(X) else shown**2
        self.rows, self.lengths = X.shape[0], float(squares.sum()) / X.shape[0]
        self.variance = self.lengths - float((np.asarray(shown.mean(axis=0)) ** 2).sum())
        self.score = cache(self.score)

    def score(self, power):
        """Return the mean score of the folds with ``l2 * n`` at a power of 4."""
        l2 = BASE**power / (self.rows * 0.8)
        model = make_pipeline(*self.steps, self.model(l2=l2))
        scores = cross_val_score(model, self.X, self.y, cv=self.folds)
        return float(np.maximum(scores, 0.0).mean())  # R^2 below 0 is no better than the mean


RULES = {
    "k": lambda data: 1.0,
    "k * mean squared length": lambda data: data.lengths,
    "k * mean squared length, centred": lambda data: data.variance,
    "k * n": lambda data: float(data.rows),
}


def choose(title, sets, powers):
    """Print how far each rule is behind the best power on each data set, in hundredths."""
    print(f"{title}: {', '.join(sets)}")
    found = []
    for rule, scale in RULES.items():
        for power in powers:
            at = [round(power + np.log(scale(data)) / np.log(BASE)) for data in sets.values()]
            scores = [data.score(k) for data, k in zip(sets.values(), at, strict=True)]
            found.append((rule, power, scores))
    best = np.max([scores for *_, scores in found], axis=0)
    print("  best: " + " ".join(f"{value:.3f}" for value in best))
    rows = [(rule, power, 100 * (best - scores)) for rule, power, scores in found]
    for rule, power, losses in sorted(rows, key=lambda row: row[2].mean())[:16]:
        each = " ".join(f"{loss:.1f}" for loss in losses)
        print(f"  {rule:32s} k = 4^{power:3d}: mean {losses.mean():5.2f} [{each}]")


def main():
    """Print the rules for each loss, the best first."""
    warnings.simplefilter("ignore")
    for loss in sys.argv[1:] or ["logistic", "hinge", "squared_hinge", "modified_huber", "squared"]:
        start = time.perf_counter()
        classifies = loss in LinearClassifier.LOSSES
        kind, given = (
            (LinearClassifier, classification()) if classifies else (LinearRegressor, regression())
        )
        folds = (StratifiedKFold if classifies else KFold)(5, shuffle=True, random_state=0)
        sets = {n: Data(*data, partial(kind, loss), folds) for n, data in given.items()}
        choose(loss, sets, range(-6, 3) if classifies else range(-9, 3))
        print(f"  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
