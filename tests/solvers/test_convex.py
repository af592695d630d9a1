"""Convex problems: the optima are those of other solvers, and adaptive rates pay on sparse rows."""

import warnings
from functools import cache

import numpy as np
import pytest
from scipy import optimize, sparse
from sklearn import datasets
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge

import adaptopt as ao
from adaptopt.problems import LeastSquares, Logistic

# -- optima ----------------------------------------------------------------------------------------

CLOSE = 1e-6  # relative, of the objectives
PENALTIES = {"L1": (0.02, 0.0), "elastic net": (0.01, 0.02), "L2": (0.0, 0.02)}
BOX = (-0.1, 0.2)  # so tight that many coordinates lie on its walls
# Rates that differ from data to data: the first step of AdaGrad is as large as its rate.
RATES = {
    ("breast cancer", Logistic): 3.0,
    ("breast cancer", LeastSquares): 0.3,
    ("digits", Logistic): 1.0,
    ("digits", LeastSquares): 0.3,
    ("diabetes", Logistic): 1.0,
    ("diabetes", LeastSquares): 0.3,
}


def standardised(array):
    return (array - array.mean(axis=0)) / array.std(axis=0)


def signs(truths):
    return np.where(truths, 1.0, -1.0)


@cache
def rows(name, loss):
    """Return the matrix and the targets."""
    if name == "breast cancer":
        data = datasets.load_breast_cancer()
        return standardised(data.data), signs(data.target == 1)
    if name == "digits":
        data = datasets.load_digits()
        return data.data / 16, signs(data.target % 2 == 0)
    data = datasets.load_diabetes()
    above = signs(data.target > np.median(data.target))
    return standardised(data.data), above if loss is Logistic else standardised(data.target)


def proximal_map(l1, l2):
    if l2 == 0:
        return ao.L1(l1)
    return ao.ElasticNet(l1, l2) if l1 else ao.L2(l2)


def objective(problem, l1, l2):
    return lambda x: problem.value(x) + l1 * np.abs(x).sum() + l2 / 2 * x @ x


@cache
def solve(name, loss, penalty, bounded=False):
    """Return the problem and the run of AdaGrad on it, which has to converge."""
    domain = {"bounds": [BOX] * rows(name, loss)[0].shape[1]} if bounded else {}
    if penalty:
        domain["prox"] = proximal_map(*PENALTIES[penalty])
    problem = loss(*rows(name, loss))
    res = ao.minimize(
        problem, np.zeros(problem.n_features), jac=True, method=ao.AdaGrad(RATES[name, loss]),
        options={"gtol": 1e-6, "maxiter": 40_000}, **domain,
    )  # fmt: skip
    assert res.success, res.message
    return problem, res


@cache
def scikit_learn(name, loss, l1, l2):
    """Return the minimiser that scikit-learn finds; what it warns of is its own affair."""
    A, y = rows(name, loss)
    strength = l1 + l2
    if loss is Logistic:
        # Without a penalty of its own, LogisticRegression has L2; before 1.8 it had to be told.
        mixed = {"solver": "saga", "l1_ratio": l1 / strength, "random_state": 0} if l1 else {}
        if l1 and LogisticRegression().get_params().get("penalty") == "l2":
            mixed["penalty"] = "elasticnet"
        model = LogisticRegression(
            C=1 / (len(y) * strength), fit_intercept=False, tol=1e-9, max_iter=20_000, **mixed
        )
    elif l1:
        model = ElasticNet(
            alpha=strength, l1_ratio=l1 / strength, fit_intercept=False, tol=1e-14, max_iter=100_000
        )
    else:
        model = Ridge(alpha=len(y) * l2, fit_intercept=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(A, y)
    return model.coef_.reshape(-1)


def assert_neither_is_lower(ours, theirs):
    assert abs(ours - theirs) <= CLOSE * min(ours, theirs), (ours - theirs) / theirs


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(("name", "loss"), RATES)
def test_the_optimum_is_scikit_learns(name, loss, penalty):
    l1, l2 = PENALTIES[penalty]
    problem, res = solve(name, loss, penalty)
    F = objective(problem, l1, l2)
    assert res.fun == pytest.approx(F(res.x), rel=1e-12)
    assert_neither_is_lower(F(res.x), F(scikit_learn(name, loss, l1, l2)))


@pytest.mark.parametrize("penalty", ["L1", "elastic net"])
@pytest.mark.parametrize(("name", "loss"), RATES)
def test_the_zeros_are_scikit_learns(name, loss, penalty):
    l1, l2 = PENALTIES[penalty]
    zeros = scikit_learn(name, loss, l1, l2) == 0
    assert zeros.any()
    np.testing.assert_array_equal(solve(name, loss, penalty)[1].x == 0, zeros)


def l_bfgs_b(problem, l1, l2):
    """Return the minimiser in the box, by SciPy: x = u - v makes the penalty smooth."""
    n, (lo, hi) = problem.n_features, BOX

    def split(uv):
        x = uv[:n] - uv[n:]
        f, g = problem(x)
        g = g + l2 * x
        return f + l1 * uv.sum() + l2 / 2 * x @ x, np.concatenate([g + l1, l1 - g])

    found = optimize.minimize(
        split, np.zeros(2 * n), jac=True, method="L-BFGS-B",
        bounds=[(0, hi)] * n + [(0, -lo)] * n,
        options={"ftol": 0.0, "gtol": 1e-10, "maxiter": 100_000, "maxfun": 1_000_000},
    )  # fmt: skip
    return found.x[:n] - found.x[n:]


@pytest.mark.parametrize("penalty", [None, *PENALTIES])
@pytest.mark.parametrize(("name", "loss"), RATES)
def test_the_optimum_in_a_box_is_that_of_l_bfgs_b(name, loss, penalty):
    l1, l2 = PENALTIES.get(penalty, (0.0, 0.0))
    problem, res = solve(name, loss, penalty, bounded=True)
    assert np.isin(res.x, BOX).any()
    F = objective(problem, l1, l2)
    assert_neither_is_lower(F(res.x), F(l_bfgs_b(problem, l1, l2)))


# -- sparsity --------------------------------------------------------------------------------------

# Name: the method with a rate, and the rates.
RACERS = {
    "AdaGrad": (ao.AdaGrad, (0.3, 1.0, 3.0)),
    "SGD": (ao.SGD, (0.3, 1.0, 2.0, 3.0, 5.0)),
    "SGD, lr / sqrt(t)": (lambda lr: ao.SGD(lambda t: lr / t**0.5), (30.0, 100.0, 300.0)),
    "AdaGradNorm": (ao.AdaGradNorm, (10.0, 30.0, 100.0)),
}
PASSES = 20  # at most
GAP = 0.02  # of the training loss, above its minimum


def words(exponent, seed, texts=8000, vocabulary=500, length=10):
    """Return logistic regression on the words of texts; the k-th has popularity k**-exponent."""
    rng = np.random.default_rng(seed)
    popularity = np.arange(1.0, vocabulary + 1) ** -exponent
    drawn = rng.choice(vocabulary, texts * length, p=popularity / popularity.sum())
    starts = np.arange(0, texts * length + 1, length)
    A = sparse.csr_array((np.ones(drawn.size), drawn, starts), shape=(texts, vocabulary))
    A.sum_duplicates()
    A.data[:] = 1.0  # there or not
    scores = A @ rng.standard_normal(vocabulary)
    return Logistic(A, signs(scores + rng.logistic(size=texts) > 0))


def passes(problem, method, level):
    """Return after how many passes the training loss is at most ``level``; infinity if never."""
    res = ao.minimize_finite_sum(
        problem, np.zeros(problem.n_features), None, method=method, batch_size=20, epochs=PASSES,
        rng=0, validation=problem.value, options={"f_target": level},
    )  # fmt: skip
    return res.epochs if res.success and res.fun <= level else np.inf


def race(exponent, seed):
    """Return the passes that each took, by its rates."""
    problem = words(exponent, seed)
    start = np.zeros(problem.n_features)
    level = optimize.minimize(problem, start, jac=True, method="L-BFGS-B").fun + GAP
    print(f"\nexponent {exponent}, seed {seed}, training loss {level:.4f}: passes by rate")
    table = {}
    for name, (method, rates) in RACERS.items():
        table[name] = {lr: passes(problem, method(lr), level) for lr in rates}
        print(f"  {name}: {table[name]}")
    return table


def fewest(table):
    return {name: min(by_rate.values()) for name, by_rate in table.items()}


@pytest.mark.parametrize("seed", range(2))
def test_on_heavy_tailed_columns_adagrad_takes_fewer_passes_than_the_best_sgd(seed):
    # Measured: 2 against 12, and 2 against 10.
    table = race(1.5, seed)
    assert 3 * fewest(table)["AdaGrad"] < fewest(table)["SGD"] < PASSES
    # The best rate of SGD is inside the grid, so that a wider one would not help it.
    assert min(table["SGD"], key=table["SGD"].get) in RACERS["SGD"][1][1:-1]


def test_on_uniform_columns_all_get_there():
    # Measured: 2 of AdaGrad, 3 of SGD, 1 with lr / sqrt(t). Nothing says which should be first.
    assert max(fewest(race(0.0, 0)).values()) < PASSES
