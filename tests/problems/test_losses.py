"""Losses that came later, and those of the user's own: on plain floats, in kernels, in epochs."""

import copy
import math
import pickle

import numba
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import datasets
from sklearn.linear_model import LogisticRegression, PoissonRegressor

import adaptopt as ao
from adaptopt.kernels.compile import inlinable
from adaptopt.problems import (
    Custom,
    EpsilonInsensitive,
    Hinge,
    Huber,
    LeastSquares,
    Logistic,
    ModifiedHuber,
    Multinomial,
    Poisson,
    Quantile,
    SquaredHinge,
)

RNG = np.random.default_rng(0)
A = RNG.standard_normal((120, 9)) * (RNG.random((120, 9)) < 0.6)
B = 2 * RNG.standard_normal(120)
WEIGHTS = RNG.random(120)
X = 0.5 * RNG.standard_normal(10)
CLASSES = RNG.permutation(np.arange(120) % 4)


def scaled(z, b, c):
    return (z - b) / c


def biweight(z, b, c):
    """A loss of the user's own, which is not convex, and calls another function."""
    r = scaled(z, b, c)
    return 1.0 if abs(r) > 1 else 1 - (1 - r * r) ** 3


def biweight_slope(z, b, c):
    r = scaled(z, b, c)
    return 0 if abs(r) > 1 else 6 * r * (1 - r * r) ** 2 / c


@numba.njit
def cauchy(z, b):
    return math.log1p((z - b) ** 2) / 2


@numba.njit
def cauchy_slope(z, b):
    return (z - b) / (1 + (z - b) ** 2)


def own(A, b, **options):
    return Custom(A, b, biweight, biweight_slope, [3.0], **options)


# What makes each, its targets, and what it is by NumPy: loss and slope.
CASES = {
    "modified Huber": (
        ModifiedHuber,
        np.sign(B),
        lambda z, y: np.where(y * z < -1, -4 * y * z, np.maximum(0, 1 - y * z) ** 2),
        lambda z, y: np.where(y * z < -1, -4 * y, -2 * y * np.maximum(0, 1 - y * z)),
    ),
    "Poisson": (
        Poisson,
        np.floor(abs(B)),
        lambda z, y: np.exp(z) - y * z,
        lambda z, y: np.exp(z) - y,
    ),
    "quantile": (
        lambda A, b, **options: Quantile(A, b, quantile=0.75, **options),
        B,
        lambda z, b: np.maximum(0.75 * (b - z), 0.25 * (z - b)),
        lambda z, b: np.where(z < b, -0.75, 0.25) * (z != b),
    ),
    "epsilon-insensitive": (
        lambda A, b, **options: EpsilonInsensitive(A, b, epsilon=0.5, **options),
        B,
        lambda z, b: np.maximum(0, abs(z - b) - 0.5),
        lambda z, b: np.sign(z - b) * (abs(z - b) > 0.5),
    ),
    "own": (
        own,
        B,
        lambda z, b: 1 - np.maximum(0, 1 - ((z - b) / 3) ** 2) ** 3,
        lambda z, b: 2 / 3 * (z - b) * np.maximum(0, 1 - ((z - b) / 3) ** 2) ** 2,
    ),
}


def problem_of(name, kind="dense", dtype=np.float64, **options):
    make, b, *_ = CASES[name]
    rows = A.astype(dtype)
    return make(rows if kind == "dense" else scipy.sparse.csr_array(rows), b, **options)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("y", [-1.0, 0.0, 1.0, 2.0])
def test_loss_and_slope_are_what_numpy_says(name, y):
    make, b, naive, naive_slope = CASES[name]
    if (name == "modified Huber" and y not in (-1, 1)) or (name == "Poisson" and y < 0):
        return
    value, slope, params, _ = make(A, b).loss
    for z in np.linspace(-4, 4, 33):
        assert value(float(z), y, *params) == pytest.approx(float(naive(z, y)), rel=1e-13)
        assert slope(float(z), y, *params) == pytest.approx(float(naive_slope(z, y)), rel=1e-13)
    assert math.isnan(value(math.nan, y, *params)) or name == "own"


@pytest.mark.parametrize("name", [name for name in CASES if name != "own"])
def test_a_loss_of_float32_is_computed_in_float32(name):
    loss = problem_of(name).loss
    for function in loss[:2]:
        compiled = numba.njit(error_model="numpy")(inlinable(function, True))
        compiled.compile((numba.float32,) * (2 + len(loss.params)))
        (signature,) = compiled.nopython_signatures
        assert signature.return_type == numba.float32


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("modified Huber", "csr", np.float32),
        ("Poisson", "dense", np.float64),
        ("quantile", "csr", np.float64),
        ("epsilon-insensitive", "dense", np.float32),
        ("own", "csr", np.float32),
        ("own", "dense", np.float64),
    ],
)
def test_rows_and_batches_are_what_numpy_says(name, kind, dtype, request):
    if (name, kind) not in [("own", "csr"), ("epsilon-insensitive", "dense")]:
        request.getfixturevalue("in_python")
    _, b, naive, naive_slope = CASES[name]
    p = problem_of(name, kind, dtype, intercept=True, sample_weight=WEIGHTS)
    wide, weights = np.column_stack([A, np.ones(120)]), WEIGHTS / WEIGHTS.mean()
    idx = np.array([5, 5, 0, 119, 40])
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for rows, (value, gradient) in ((np.arange(120), p(X)), (idx, p.batch(X, idx))):
        z, w = wide[rows] @ X, weights[rows]
        assert value == pytest.approx(np.mean(w * naive(z, b[rows])), rel=tolerance)
        expected = wide[rows].T @ (w * naive_slope(z, b[rows])) / rows.size
        assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)
    assert p.value(X) == p(X)[0]
    assert ao.check_gradient(p, X).ok


def test_the_slopes_of_all_losses_pass_the_check(in_python):
    signs = (Hinge, Logistic, SquaredHinge)
    for make in (LeastSquares, Huber, *signs):
        b = np.sign(B) if make in signs else B
        assert ao.check_gradient(make(A, b), X[:9]).ok, make


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Quantile(A, B, 1.0), "quantile is 1.0, expected 0 < quantile < 1"),
        (lambda: Quantile(A, B, math.nan), "quantile is nan, expected 0 < quantile < 1"),
        (lambda: EpsilonInsensitive(A, B, -0.1), "epsilon is -0.1, expected 0 <= epsilon < inf"),
        (lambda: Poisson(A, B), r"y\[\d+\] is -.*, expected a count of at least 0"),
        (lambda: ModifiedHuber(A, B), r"expected -1 and \+1 only"),
    ],
)
def test_parameters_and_targets_that_do_not_fit_are_refused(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_count_that_overflows_ends_the_run():
    p = Poisson(np.full((1, 1), 1e3), [1])
    assert ao.minimize(p, np.ones(1)).status == 3


def test_poisson_regression_is_that_of_scikit_learn():
    counts = np.random.default_rng(1).poisson(np.exp(A @ X[:9]))
    p = Poisson(A, counts, intercept=True)
    fit = PoissonRegressor(alpha=0, tol=1e-12, max_iter=1000).fit(A, counts)
    best = p.value(np.append(fit.coef_, fit.intercept_))
    assert ao.minimize(p, np.zeros(10)).fun == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize(
    "p",
    [
        Quantile(A, B, 0.8, intercept=True),
        EpsilonInsensitive(A, B, 0.5, intercept=True),
    ],
    ids=["quantile", "epsilon-insensitive"],
)
def test_a_falling_rate_reaches_the_minimum_of_a_loss_with_kinks(p):
    """The least value is that of a linear programme."""
    method = ao.SGD(lr=ao.schedules.exponential(1.0, 0.997))
    res = ao.minimize(p, np.zeros(10), method=method, options={"maxiter": 7_000, "gtol": None})
    assert res.fun == pytest.approx(least_of_kinks(p), rel=1e-6)


def least_of_kinks(p):
    """Minimise the mean of max(up * (b - z) - slack, down * (z - b) - slack, 0)."""
    if isinstance(p, Quantile):
        up, down, slack = p.quantile, 1 - p.quantile, 0.0
    else:
        up, down, slack = 1.0, 1.0, p.epsilon
    wide, n = np.column_stack([A, np.ones(120)]), 120
    upper = np.block([[-up * wide, -np.eye(n)], [down * wide, -np.eye(n)]])
    limits = np.concatenate([slack - up * B, slack + down * B])
    cost = np.concatenate([np.zeros(10), np.full(n, 1 / n)])
    bounds = [(None, None)] * 10 + [(0, None)] * n
    return scipy.optimize.linprog(cost, upper, limits, bounds=bounds).fun


# -- the user's own --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_compiled_epochs_of_an_own_loss_are_the_loop_in_python(kind, request):
    if kind == "csr":
        request.getfixturevalue("in_python")
    rows = A.astype(np.float32)
    p = Custom(
        rows if kind == "dense" else scipy.sparse.csr_array(rows),
        *(B, cauchy, cauchy_slope),
        intercept=True,
    )
    x0 = np.zeros(10, np.float32)

    def run(fun, data):
        return ao.minimize_finite_sum(
            fun, x0, data, method=ao.AdaGrad(0.1), batch_size=4, epochs=2, rng=0
        )

    ours, naive = run(p, None), run(lambda x, idx: p.batch(x, idx), 120)
    assert_allclose(ours.x, naive.x, rtol=1e-5, atol=1e-6)
    assert ours.fun < p.value(x0)


@pytest.mark.parametrize("functions", [(biweight, biweight_slope, [3.0]), (cauchy, cauchy_slope)])
def test_an_own_problem_is_pickled_and_copied(functions, in_python):
    p = Custom(A, B, *functions)
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p), copy.copy(p)):
        assert q.value(X[:9]) == p.value(X[:9])


def test_other_parameters_of_an_own_loss_compile_nothing(in_python):
    p, q = (Custom(A, B, biweight, biweight_slope, [c]) for c in (2.0, 3.0))
    assert p._rows.kind == q._rows.kind
    assert p.value(X[:9]) != q.value(X[:9])


def test_only_what_is_known_to_be_convex_has_a_certificate(in_python):
    class Derived(Logistic):
        pass

    def certificate(p):
        options = {"maxiter": 3, "lr": 0.1}
        return ao.minimize(p, np.zeros(9), bounds=[(-1, 1)] * 9, options=options).lower_bound

    assert certificate(ModifiedHuber(A, np.sign(B))) is not None
    assert certificate(Derived(A, np.sign(B))) is None
    assert certificate(Custom(A, B, cauchy, cauchy_slope)) is None
    assert certificate(Custom(A, B, cauchy, cauchy_slope, convex=True)) is not None


def calls_python(z, b):
    return scipy.special.expit(z)


def returns_a_pair(z, b):
    return z, b


@pytest.mark.parametrize(
    ("functions", "error", "text"),
    [
        ((abs, biweight_slope), TypeError, "loss is <built-in .*abs>, expected a Python function"),
        ((biweight, biweight_slope), TypeError, r"biweight\(z, b, c\), expected a function of 2 n"),
        ((cauchy, calls_python), TypeError, r"slope is calls_python\(z, b\), expected one that Nu"),
        (
            (returns_a_pair, cauchy),
            TypeError,
            "which returns UniTuple.*expected one that returns a",
        ),
        ((biweight, biweight_slope, [[1.0]]), ValueError, "expected a sequence of finite numbers"),
        ((biweight, biweight_slope, [math.inf]), ValueError, "expected a sequence of finite numbe"),
    ],
)
def test_functions_that_no_kernel_can_call_are_refused(functions, error, text):
    with pytest.raises(error, match=text):
        Custom(A, B, *functions)


# -- several classes -------------------------------------------------------------------------------


def softmax(X, x, y):
    """Return the losses of rows, and the derivatives by their predictions."""
    z = X @ x
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    rows = np.arange(len(y))
    losses = -np.log(p[rows, y])
    p[rows, y] -= 1
    return losses, p


def classes(kind="dense", dtype=np.float64, **options):
    rows = A.astype(dtype)
    return Multinomial(
        rows if kind == "dense" else scipy.sparse.csr_array(rows), CLASSES, **options
    )


@pytest.mark.parametrize(("kind", "dtype"), [("csr", np.float32), ("dense", np.float64)])
def test_softmax_is_what_numpy_says(kind, dtype, request):
    if kind == "dense":
        request.getfixturevalue("in_python")
    p = classes(kind, dtype, intercept=True, sample_weight=WEIGHTS)
    x = np.random.default_rng(3).standard_normal((10, 4)).astype(dtype)
    wide, weights = np.column_stack([A, np.ones(120)]), WEIGHTS / WEIGHTS.mean()
    idx = np.array([5, 5, 0, 119, 40])
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    for rows, (value, gradient) in ((np.arange(120), p(x)), (idx, p.batch(x, idx))):
        losses, slopes = softmax(wide[rows], x, CLASSES[rows])
        assert value == pytest.approx(np.mean(weights[rows] * losses), rel=tolerance)
        expected = wide[rows].T @ (weights[rows, None] * slopes) / rows.size
        assert_allclose(gradient, expected, rtol=tolerance, atol=tolerance)
    assert_array_equal(p(x.ravel())[1], p(x)[1].ravel())
    assert p.value(x) == p(x)[0]
    assert ao.check_gradient(p, x).ok


def test_softmax_does_not_overflow_and_keeps_the_digits_of_a_far_row():
    p = Multinomial(np.ones((1, 1)), [0], n_classes=2)
    assert p.value(np.array([[50.0, 0.0]])) == pytest.approx(math.exp(-50), rel=1e-14)
    assert p.value(np.array([[-1e300, 1e300]])) == 2e300


@pytest.mark.parametrize(
    ("kind", "method", "prox", "batch", "average"),
    [
        ("csr", ao.AdaGrad(0.3), ao.Box(-0.1, np.full((10, 4), 0.2)), 1, "uniform"),
        ("csr", ao.AdaGrad(0.3), ao.L1(0.01), 1, None),
        ("csr", ao.RMSProp(0.01), None, 1, None),
        ("csr", ao.RMSProp(0.01), ao.L1(0.01), 7, None),
        ("dense", ao.Adam(0.01), ao.L2(0.1), 7, "polynomial"),
    ],
    ids=["AdaGrad in a box", "AdaGrad with L1", "RMSProp", "RMSProp with L1", "Adam with L2"],
)
def test_epochs_of_softmax_are_the_loop_in_python(kind, method, prox, batch, average, request):
    if not isinstance(method, ao.AdaGrad):
        request.getfixturevalue("in_python")
    p = classes(kind, intercept=True, sample_weight=WEIGHTS)

    def run(fun, data):
        return ao.minimize_finite_sum(
            *(fun, np.zeros((10, 4)), data), method=method, prox=prox, batch_size=batch, epochs=2,
            rng=0, average=average,
        )  # fmt: skip

    ours, naive = run(p, None), run(lambda x, idx: p.batch(x, idx), 120)
    sparse = kind == "csr" and not (prox and isinstance(method, ao.RMSProp))
    assert (ours.path == "compiled sparse epochs") == sparse
    assert ours.x.shape == (10, 4)
    assert_allclose(ours.x, naive.x, rtol=1e-11, atol=1e-13)
    assert ours.fun == pytest.approx(naive.fun, rel=1e-12)


def test_softmax_regression_is_that_of_scikit_learn():
    rows, y = datasets.load_iris(return_X_y=True)
    rows = np.ascontiguousarray(rows - rows.mean(0))
    p = Multinomial(rows, y)
    fit = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(rows, y)
    best = p.value(fit.coef_.T) + (fit.coef_**2).sum() / 2 / len(y)
    res = ao.minimize(p, np.zeros(p.shape), jac=True, prox=ao.L2(1 / len(y)))
    assert res.fun == pytest.approx(best, rel=1e-7)


def test_a_problem_of_classes_has_a_certificate():
    p = classes()
    res = ao.minimize(
        p, np.zeros((9, 4)), bounds=[(-1, 1)] * 36, method=ao.AdaGrad(0.3), options={"maxiter": 200}
    )
    assert res.x.shape == (9, 4)
    assert 0 < res.fun - res.lower_bound < 0.01


@pytest.mark.parametrize(
    ("y", "options", "error", "text"),
    [
        ([0, 1, 0.5], {}, ValueError, r"y\[2\] is 0.5, expected the number of a class"),
        ([0, -1, 1], {}, ValueError, r"y\[1\] is -1, expected the number of a class"),
        ([0, 2, 2], {}, ValueError, "y holds no 1, expected each class from 0 to 2"),
        ([0, 2, 2], {"n_classes": 2}, ValueError, "y holds 2, expected labels below n_classes, 2"),
        ([0, 0, 0], {"n_classes": 1}, ValueError, "n_classes is 1, expected at least 2"),
        ([0, 1, 2], {"n_classes": 3.0}, TypeError, "n_classes is 3.0, expected an integer"),
        (["a", "b", "c"], {}, TypeError, "y has dtype <U1, expected integers, .* return_inverse"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y, options, error, text):
    with pytest.raises(error, match=text):
        Multinomial(np.eye(3), y, **options)


def test_a_point_of_another_shape_is_refused():
    for call in (ao.minimize, lambda p, x: ao.minimize_finite_sum(p, x, None)):
        with pytest.raises(ValueError, match=r"x0 has shape \(4, 9\), expected \(9, 4\)"):
            call(classes(), np.zeros((4, 9)))


def test_hogwild_is_refused_for_several_classes():
    with pytest.raises(ValueError, match="hogwild' with Multinomial, expected None or 'determin"):
        ao.minimize_finite_sum(classes("csr"), np.zeros((9, 4)), None, parallel="hogwild")


def test_a_problem_of_classes_is_pickled(in_python):
    p = classes("csr")
    x = np.ones((9, 4))
    assert_array_equal(pickle.loads(pickle.dumps(p))(x)[1], p(x)[1])
