"""Convex problems: losses on plain floats, then over the rows of dense and sparse matrices."""

import math
import pickle
import re
import tracemalloc

import numba
import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize
from sklearn import datasets
from sklearn.linear_model import LinearRegression, LogisticRegression

import adaptopt as ao
from adaptopt.kernels import matrix as rows
from adaptopt.problems import Hinge, Huber, LeastSquares, Logistic, SquaredHinge, losses

PROBLEMS = [LeastSquares, Huber, Logistic, Hinge, SquaredHinge]
REGRESSIONS = [LeastSquares, Huber]
FORMATS = ["dense", "csr_array", "csr_matrix"]
DTYPES = [np.float32, np.float64]
# Each loss with each format, and the dtypes in turn: a kernel is that of a loss, of dense rows or
# sparse ones, and of a dtype.
IN_TURN = [
    (problem, kind, DTYPES[(i + (kind == "dense")) % 2])
    for i, problem in enumerate(PROBLEMS)
    for kind in FORMATS
]

# Each loss with dense rows or with sparse ones, in turn.
OF_ONE_FORMAT = [("dense", "csr_array")[i % 2] for i in range(len(PROBLEMS))]
in_turn = pytest.mark.parametrize(("problem", "kind", "dtype"), IN_TURN)

# What each loss is, by NumPy, of prediction and target; Huber with delta = 1.
NAIVE = {
    LeastSquares: lambda z, b: (z - b) ** 2 / 2,
    Huber: lambda z, b: np.where(
        np.abs(z - b) <= 1, (z - b) ** 2 / 2, np.abs(z - b) - 0.5
    ),
    Logistic: lambda z, y: np.logaddexp(0, -y * z),
    Hinge: lambda z, y: np.maximum(0, 1 - y * z),
    SquaredHinge: lambda z, y: np.maximum(0, 1 - y * z) ** 2 / 2,
}  # fmt: skip
NAIVE_SLOPE = {
    LeastSquares: lambda z, b: z - b,
    Huber: lambda z, b: np.clip(z - b, -1, 1),
    Logistic: lambda z, y: -y / (1 + np.exp(y * z)),
    Hinge: lambda z, y: -y * (y * z < 1),
    SquaredHinge: lambda z, y: -y * np.maximum(0, 1 - y * z),
}


def matrix(dtype=np.float64, shape=(300, 70), density=0.3, seed=0):
    """Return a dense matrix with many zeros: an empty row and an empty column, too."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal(shape) * (rng.random(shape) < density)
    A[3] = A[:, 5] = 0
    return np.ascontiguousarray(A, dtype)


def stored(A, kind):
    return A if kind == "dense" else getattr(scipy.sparse, kind)(A)


def targets(problem, rows, seed=1):
    rng = np.random.default_rng(seed)
    b = 2 * rng.standard_normal(rows)
    return b if problem in REGRESSIONS else np.where(b < 0, -1, 1)


def point(p, dtype=np.float64, seed=2):
    return (0.3 * np.random.default_rng(seed).standard_normal(p.n_features)).astype(dtype)


def naive(problem, A, b, x, weights=None, intercept=False):
    """Return mean loss and gradient, in float64."""
    A = np.asarray(A, np.float64)
    if intercept:
        A = np.column_stack([A, np.ones(len(A))])
    weights = np.ones(len(A)) if weights is None else weights
    x, z = np.float64(x), A @ np.float64(x)
    slopes = NAIVE_SLOPE[problem](z, b)
    total = weights.sum()
    return weights @ NAIVE[problem](z, b) / total, A.T @ (weights * slopes) / total


@pytest.fixture(params=PROBLEMS, ids=[problem.__name__ for problem in PROBLEMS])
def problem(request):
    return request.param


# -- the scalar functions --------------------------------------------------------------------------


def loss_of(problem):
    return problem(np.ones((1, 1)), [1.0]).loss[:3]


@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_a_loss_is_what_numpy_says(problem, y):
    value, _, params = loss_of(problem)
    for z in np.linspace(-4, 4, 33).tolist():
        assert value(z, y, *params) == pytest.approx(float(NAIVE[problem](z, y)), rel=1e-14)


@pytest.mark.parametrize("y", [-1.0, 1.0])
def test_a_slope_is_the_derivative_of_its_loss(problem, y):
    value, slope, params = loss_of(problem)
    for z in (np.linspace(-4, 4, 33) + 0.01).tolist():
        difference = (value(z + 1e-6, y, *params) - value(z - 1e-6, y, *params)) / 2e-6
        assert slope(z, y, *params) == pytest.approx(difference, abs=1e-8)


@pytest.mark.parametrize("z", [-1e4, 1e4, -1e300, 1e300])
def test_the_logistic_loss_does_not_overflow(z):
    assert losses.logistic(z, 1.0, 0.0, 1.0) == max(-z, 0.0)
    assert losses.logistic_slope(z, 1.0, 0.0, 1.0) == (-1.0 if z < 0 else 0.0)


def test_the_logistic_loss_of_a_far_row_keeps_its_digits():
    assert losses.logistic(50.0, 1.0, 0.0, 1.0) == pytest.approx(math.exp(-50), rel=1e-15)


def test_a_loss_of_nan_is_nan(problem):
    value, _, params = loss_of(problem)
    assert math.isnan(value(math.nan, 1.0, *params))


def test_the_slope_in_the_kink_of_the_hinge_is_zero():
    assert losses.hinge_slope(1.0, 1.0, 0.0, 1.0) == 0


# -- all rows --------------------------------------------------------------------------------------


@in_turn
@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_value_and_gradient_are_what_numpy_says(problem, kind, dtype, intercept, weighted):
    A = matrix(dtype)
    b = targets(problem, len(A))
    weights = np.random.default_rng(3).integers(0, 4, len(A)) if weighted else None
    p = problem(stored(A, kind), b, intercept=intercept, sample_weight=weights)
    x = point(p, dtype)
    value, gradient = naive(problem, A, b, x, weights, intercept)
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    assert p(x)[0] == pytest.approx(value, rel=tolerance)
    assert_allclose(p(x)[1], gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_gradient_is_that_of_the_value(problem, kind, in_python):
    p = problem(stored(matrix(shape=(30, 9)), kind), targets(problem, 30), intercept=True)
    error = optimize.check_grad(p.value, lambda x: p(x)[1], point(p), seed=0)
    assert error < 1e-6


@pytest.mark.parametrize("columns", [1, 7, 63, 64, 65, 127, 128, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_any_length(columns, dtype):
    A = matrix(dtype, (5, 8 if columns < 8 else columns), 1.0)[:, :columns].copy()
    p = LeastSquares(A, np.ones(5))
    x = point(p, dtype)
    value, gradient = naive(LeastSquares, A, np.ones(5), x)
    assert p(x)[0] == pytest.approx(value, rel=1e-5)
    assert_allclose(p(x)[1], gradient, rtol=1e-4, atol=1e-5)


@in_turn
def test_value_is_that_of_the_call(problem, kind, dtype):
    p = problem(stored(matrix(dtype), kind), targets(problem, 300))
    assert p.value(point(p)) == p(point(p))[0]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("given", DTYPES)
@pytest.mark.parametrize("own", DTYPES)
def test_the_gradient_has_the_dtype_of_x(kind, given, own):
    p = Logistic(stored(matrix(own), kind), targets(Logistic, 300))
    value, gradient = p(point(p, given))
    assert type(value) is float
    assert gradient.dtype == given


@pytest.mark.parametrize("kind", FORMATS)
def test_margins_of_ten_thousand_are_finite(problem, kind, request):
    if problem is not Logistic:  # the one with powers
        request.getfixturevalue("in_python")
    A = stored(np.array([[1e4], [-1e4]], np.float32), kind)
    value, gradient = problem(A, [1, 1])(np.ones(1, np.float32))
    assert math.isfinite(value)
    assert np.isfinite(gradient).all()


def test_losses_are_added_in_float64():
    A = np.ones((1 << 18, 1), np.float32)
    assert LeastSquares(A, np.full(len(A), 0.1))(np.zeros(1))[0] == pytest.approx(
        np.float32(0.1) ** 2 / 2, rel=1e-7
    )


def permuted(A):
    """Return the matrix with the columns of each row in reverse, and SciPy unaware of it."""
    B = A.copy()
    assert B.has_canonical_format  # SciPy remembers it
    for i in range(B.shape[0]):
        row = slice(B.indptr[i], B.indptr[i + 1])
        B.indices[row], B.data[row] = B.indices[row][::-1].copy(), B.data[row][::-1].copy()
    return B


def wide(A):
    B = scipy.sparse.csr_array(A.shape)
    B.data, B.indices, B.indptr = A.data, A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return B


def with_zeros(A):
    B = scipy.sparse.csr_array(np.ones(A.shape))
    B.data[:] = A.toarray().ravel()
    return B


FORMS = {
    "permuted": permuted,
    "int64": wide,
    "int64 pointers": lambda A: setattr(B := A.copy(), "indptr", A.indptr.astype(np.int64)) or B,
    "zeros": with_zeros,
    "repeated": lambda A: scipy.sparse.coo_array(
        (np.tile(A.data / 2, 2), (np.tile(A.tocoo().row, 2), np.tile(A.indices, 2))), A.shape
    ),
    "csc": scipy.sparse.csc_array,
    "coo": scipy.sparse.coo_matrix,
    "lil": scipy.sparse.lil_array,
    "bsr": scipy.sparse.bsr_array,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sparse_matrix_of_any_form_becomes_canonical_in_a_copy(form):
    A = scipy.sparse.csr_array(matrix())
    given = FORMS[form](A.copy())
    before, expected = given.toarray(), Logistic(A, targets(Logistic, 300))
    p = Logistic(given, targets(Logistic, 300))
    for name in ("data", "indices", "indptr"):
        assert_array_equal(getattr(p.A, name), getattr(A, name))
        assert getattr(p.A, name).dtype == getattr(A, name).dtype
    assert_array_equal(given.toarray(), before)
    if form != "lil":
        given.data[:] = 0
    assert_array_equal(p(point(p))[1], expected(point(p))[1])


def test_a_sparse_matrix_of_counts_becomes_float64():
    counts = scipy.sparse.csr_array(np.arange(6).reshape(2, 3))
    p = LeastSquares(counts, [0.0, 1.0])
    assert p.A.dtype == np.float64
    assert_array_equal(p.A.toarray(), counts.toarray())


def test_copy_says_whether_the_matrix_is_copied():
    A = scipy.sparse.csr_array(matrix())
    own = LeastSquares(A, np.ones(300), copy=True)
    assert not np.shares_memory(own.A.data, A.data)
    D = matrix()
    assert not np.shares_memory(LeastSquares(D, np.ones(300), copy=True).A, D)
    B = permuted(A)
    p = LeastSquares(B, np.ones(300), copy=False)
    assert np.shares_memory(p.A.data, B.data)
    assert_array_equal(B.indices, A.indices)
    with pytest.raises(ValueError, match="copy is False with a matrix of format 'csc'"):
        LeastSquares(A.tocsc(), np.ones(300), copy=False)
    with pytest.raises(TypeError, match="copy is 'no'"):
        LeastSquares(A, np.ones(300), copy="no")


def test_an_edit_that_replaces_arrays_of_the_matrix_does_not_reach_the_problem(in_python):
    A = scipy.sparse.csr_matrix(matrix())
    p = LeastSquares(A, np.ones(300))
    before = p(np.ones(70))[0]
    with pytest.warns(scipy.sparse.SparseEfficiencyWarning):
        A[3, 5] = 1e3
    assert p(np.ones(70))[0] == before == pytest.approx(p.batch(np.ones(70), np.arange(300))[0])


def test_entries_at_the_same_place_count_as_their_sum():
    A = scipy.sparse.csr_array((np.ones(3), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
    value, gradient = LeastSquares(A, [0.0])(np.array([1.0, 2.0]))
    assert value == 12.5
    assert_array_equal(gradient, [5.0, 10.0])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_of_zeros(problem, kind, in_python):
    p = problem(stored(np.zeros((3, 2)), kind), [1, -1, 1])
    assert_array_equal(p(np.ones(2))[1], [0.0, 0.0])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("shape", "of_dense"), [((3000, 40), np.float32), ((1000, 3000), np.float64)]
)
def test_threads_do_not_change_a_bit(monkeypatch, kind, shape, of_dense):
    monkeypatch.setattr("adaptopt.kernels.parallel.THREADED_FROM", 0)
    (of_sparse,) = {*DTYPES} - {of_dense}
    dtype = of_dense if kind == "dense" else of_sparse
    p = Logistic(stored(matrix(dtype, shape), kind), targets(Logistic, shape[0]), intercept=True)
    results = []
    before = numba.get_num_threads()
    for threads in range(1, before + 1):
        numba.set_num_threads(threads)
        results.append(p(point(p, dtype)))
    numba.set_num_threads(before)
    for value, gradient in results:
        assert value == results[0][0]
        assert_array_equal(gradient, results[0][1])


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_cover_all_rows(kind):
    """However unequal the rows are."""
    A = matrix(shape=(2000, 20))
    A[1500:] = 0
    starts = Logistic(stored(A, kind), np.ones(2000))._rows._total.starts
    assert starts[0] == 0
    assert starts[-1] == 2000
    assert (np.diff(starts) >= 0).all()
    assert starts.size > 2


# -- a batch of rows -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("rows", [40, 1000])
def test_a_shared_batch_is_the_batch_but_for_rounding(kind, rows):
    p = Logistic(stored(matrix(shape=(2000, 20)), kind), np.ones(2000), intercept=True)
    x, idx = np.linspace(-1, 1, 21), np.random.default_rng(0).integers(0, 2000, rows)
    assert p.shares(rows) == (rows > 40)
    (value, gradient), (expected, plain) = p.shared_batch(x, idx), p.batch(x, idx)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(gradient, plain, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_shared_batch_does_not_depend_on_the_threads(kind, monkeypatch):
    from adaptopt.kernels import parallel

    monkeypatch.setattr(parallel, "THREADED_FROM", 1)
    p = Logistic(stored(matrix(shape=(2000, 20)), kind), np.ones(2000))
    x, idx = np.linspace(-1, 1, 20), np.random.default_rng(0).integers(0, 2000, 1500)
    before = numba.get_num_threads()
    results = []
    for threads in {1, before}:
        numba.set_num_threads(threads)
        results.append(p.shared_batch(x, idx))
    numba.set_num_threads(before)
    assert len({value for value, _ in results}) == 1
    np.testing.assert_array_equal(results[0][1], results[-1][1])


@pytest.mark.parametrize("row", [-1, 2000])
def test_a_shared_batch_has_only_rows_that_are_there(row):
    p = Logistic(matrix(shape=(2000, 20)), np.ones(2000))
    with pytest.raises(ValueError, match=rf"idx\[7\] is {row}, expected 0 <= row < 2000"):
        p.shared_batch(np.zeros(20), [*range(7), row, *range(1000)])


@in_turn
@pytest.mark.parametrize("weighted", [False, True])
def test_a_batch_is_the_mean_over_its_rows(problem, kind, dtype, weighted, request):
    """However much of the weight they have: divided by the mean weight of all rows."""
    if kind != OF_ONE_FORMAT[PROBLEMS.index(problem)]:
        request.getfixturevalue("in_python")
    A, idx = matrix(dtype), np.array([7, 3, 7, 299, 0])
    b = targets(problem, len(A))
    weights = np.random.default_rng(3).integers(1, 4, len(A)) if weighted else None
    p = problem(stored(A, kind), b, intercept=True, sample_weight=weights)
    x = point(p, dtype)
    value, gradient = naive(problem, A[idx], b[idx], x, weights[idx] if weighted else None, True)
    if weighted:
        share = weights[idx].mean() / weights.mean()
        value, gradient = share * value, share * gradient
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    assert p.batch(x, idx)[0] == pytest.approx(value, rel=tolerance)
    assert_allclose(p.batch(x, idx)[1], gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("call", ["batch", "shared_batch"])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_mean_over_all_batches_is_the_weighted_mean(kind, call):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((1024, 2))
    p = LeastSquares(stored(A, kind), rng.standard_normal(1024), sample_weight=rng.pareto(1, 1024))
    x = np.array([0.3, -0.2])
    for batches in (np.arange(1024)[:, None], np.arange(1024).reshape(2, 512)):
        values, gradients = zip(*[getattr(p, call)(x, idx) for idx in batches], strict=True)
        assert np.mean(values) == pytest.approx(p(x)[0], rel=1e-12)
        assert_allclose(np.mean(gradients, axis=0), p(x)[1], rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1.0, 1e300, np.finfo(float).max])
def test_weights_of_any_size_weigh_in_proportion(scale, dtype):
    p = LeastSquares(np.ones((2, 1), dtype), [0.0, 1.0], sample_weight=[scale, scale / 4])
    value, gradient = p(np.zeros(1))
    assert value == pytest.approx(0.1, rel=1e-3 if scale < 1e-300 else 1e-7)
    assert gradient[0] == pytest.approx(-0.2, rel=1e-3 if scale < 1e-300 else 1e-7)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_batch_of_weight_zero_is_zero(kind):
    p = LeastSquares(stored(np.eye(2), kind), [1.0, 1.0], sample_weight=[0, 1])
    value, gradient = p.batch(np.zeros(2), [0, 0])
    assert value == 0
    assert_array_equal(gradient, [0, 0])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_batch_allocates_its_result_only(kind):
    p = Logistic(stored(matrix(shape=(300, 20_000)), kind), targets(Logistic, 300))
    x, idx = point(p), np.arange(100)
    p.batch(x, idx)
    tracemalloc.start()
    _, gradient = p.batch(x, idx)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < gradient.nbytes + 8192


# -- what they are for -----------------------------------------------------------------------------


def standardized(data):
    A, y = data(return_X_y=True)
    return np.ascontiguousarray((A - A.mean(0)) / A.std(0)), y


@pytest.mark.parametrize("kind", FORMATS)
def test_the_best_fit_is_that_of_linear_regression(kind):
    A, b = standardized(datasets.load_diabetes)
    p = LeastSquares(stored(A, kind), b, intercept=True)
    options = {"ftol": 0, "gtol": 1e-9, "maxiter": 10_000, "maxfun": 100_000}
    ours = optimize.minimize(
        p, np.zeros(p.n_features), jac=True, method="L-BFGS-B", options=options
    )
    theirs = LinearRegression().fit(A, b)
    best = p.value(np.append(theirs.coef_, theirs.intercept_))
    assert ours.fun == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_best_fit_is_that_of_logistic_regression(kind):
    A, y = standardized(datasets.load_breast_cancer)
    p = Logistic(stored(A, kind), 2 * y - 1, intercept=True)

    def penalized(x):
        value, gradient = p(x)
        penalty = np.append(x[:-1], 0.0) / len(p)
        return value + penalty @ x / 2, gradient + penalty

    ours = optimize.minimize(penalized, np.zeros(p.n_features), jac=True, tol=1e-12)
    theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(A, y)
    best = penalized(np.append(theirs.coef_, theirs.intercept_))[0]
    assert ours.fun == pytest.approx(best, abs=1e-9)


@in_turn
def test_minimize_takes_a_problem(problem, kind, dtype):
    p = problem(stored(matrix(dtype), kind), targets(problem, 300))
    x0 = np.zeros(p.n_features, dtype)
    result = ao.minimize(p, x0, jac=True, method=ao.AdaGrad(0.1), options={"maxiter": 50})
    assert result.x.dtype == dtype
    assert result.fun < p.value(x0)


# -- the object ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_in_canonical_form_is_not_copied(kind):
    A = stored(matrix(), kind)
    p = Logistic(A, targets(Logistic, 300))
    p(point(p))
    assert np.shares_memory(p._rows.matrix[0], A if kind == "dense" else A.data)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_read_only_matrix_will_do(kind):
    A = matrix()
    expected = Logistic(A, targets(Logistic, 300))
    A = stored(A, kind)
    for array in [A] if kind == "dense" else [A.data, A.indices, A.indptr]:
        array.flags.writeable = False
    p = Logistic(A, targets(Logistic, 300))
    assert p(point(p))[0] == pytest.approx(expected(point(p))[0])


@in_turn
def test_targets_are_copied(problem, kind, dtype):
    b = targets(problem, 300).astype(np.float64)
    p = problem(stored(matrix(dtype), kind), b)
    before = p.value(point(p))
    b[:] = 0
    assert p.value(point(p)) == before


@in_turn
def test_a_pickled_problem_is_the_same(problem, kind, dtype):
    p = problem(stored(matrix(dtype), kind), targets(problem, 300), intercept=True)
    before = p(point(p))
    after = pickle.loads(pickle.dumps(p))(point(p))
    assert before[0] == after[0]
    assert_array_equal(before[1], after[1])


def test_the_length_is_the_number_of_rows():
    assert len(LeastSquares(np.ones((3, 2)), np.ones(3))) == 3


@pytest.mark.parametrize("intercept", [False, True])
def test_an_intercept_is_a_feature(intercept):
    assert (
        LeastSquares(np.ones((3, 2)), np.ones(3), intercept=intercept).n_features == 2 + intercept
    )


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (Logistic(np.ones((3, 2)), np.ones(3)), "<Logistic: 3 x 2 dense float64>"),
        (
            Huber(scipy.sparse.csr_array(np.ones((3, 2), "f")), np.ones(3), 2.0, intercept=True),
            "<Huber: 3 x 2 CSR float32, intercept=True>",
        ),
    ],
)
def test_the_repr_is_short(p, text):
    assert repr(p) == text


# -- errors ----------------------------------------------------------------------------------------

BROKEN = scipy.sparse.csr_array(np.ones((2, 2)))
BROKEN.indices = BROKEN.indices + 1
FALLING = scipy.sparse.csr_array(np.ones((2, 2)))
FALLING.indptr = np.array([0, 5, 4], np.int32)
LONG = scipy.sparse.csr_array(np.ones((2, 2)))
LONG.indptr = np.array([0, 1, 2], np.int32)
HOLED = np.ones((2, 2))
HOLED[1, 0] = np.nan


@pytest.mark.parametrize(
    ("A", "error", "text"),
    [
        ([[1.0]], TypeError, "A is a list, expected a NumPy array or a SciPy sparse array"),
        (np.ones((2, 2), int), TypeError, "dtype int64, expected float32 or float64: use A.astype"),
        (np.ones((2, 2), ">f8"), TypeError, "dtype >f8, expected float32"),
        (np.ma.ones((2, 2)), TypeError, "A is a MaskedArray"),
        (np.ones(2), ValueError, r"A has shape \(2,\), expected \(rows, columns\)"),
        (np.ones((2, 0)), ValueError, r"A has shape \(2, 0\), expected"),
        (np.ones((2, 2)).T[::-1], ValueError, "not C-contiguous .* use numpy.ascontiguousarray"),
        (
            np.zeros(33, np.uint8)[1:].view(float).reshape(2, 2),
            *(ValueError, "A is not aligned .*, expected an aligned array: use numpy.require"),
        ),
        (HOLED, ValueError, "A holds nan, expected finite numbers"),
        (np.array([[1.0], [-np.inf]]), ValueError, "A holds -inf"),
        (scipy.sparse.csr_array(HOLED), ValueError, "A holds nan, expected finite numbers"),
        (scipy.sparse.csc_array(np.ones((2, 2), complex)), TypeError, "dtype complex128, expected"),
        (BROKEN, ValueError, "A.indices goes from 1 to 2, expected 0 <= column < 2"),
        (FALLING, ValueError, "A.indptr is no row pointer, expected 3 numbers"),
        (LONG, ValueError, r"A has 4 entries, expected 2 like A.indptr\[-1\]: use A.prune"),
    ],
)
def test_a_matrix_that_the_kernels_cannot_take_is_refused(A, error, text):
    with pytest.raises(error, match=text):
        LeastSquares(A, [1.0, 1.0])


@pytest.mark.parametrize(
    ("b", "error", "text"),
    [
        ([1.0], ValueError, r"b has shape \(1,\), expected \(2,\): one for each row of A"),
        ([[1.0], [2.0]], ValueError, r"b has shape \(2, 1\), expected \(2,\)"),
        ([1.0, np.nan], ValueError, r"b\[1\] is nan, expected a finite float64"),
        ([1j, 1.0], TypeError, "b has dtype complex128, expected real numbers"),
        (["a", "b"], TypeError, "b has dtype <U1, expected real numbers"),
    ],
)
def test_targets_that_are_no_numbers_are_refused(b, error, text):
    with pytest.raises(error, match=text):
        LeastSquares(np.ones((2, 2)), b)


def test_a_target_that_is_too_large_for_float32_is_refused():
    with pytest.raises(ValueError, match=r"b\[0\] is 1e\+300, expected a finite float32"):
        LeastSquares(np.ones((1, 2), np.float32), [1e300])


@pytest.mark.parametrize("problem", [Logistic, Hinge, SquaredHinge])
@pytest.mark.parametrize(
    ("y", "text"),
    [
        ([0, 1], r"y holds 0, 1, expected -1 and \+1 only: use 2 \* y - 1$"),
        ([False, True], r"y holds False, True, .*: use 2 \* y - 1$"),
        ([1, 2], r"y holds 1, 2, .*: use numpy.where\(y == 2, 1, -1\)$"),
        (np.array([0, 1], np.uint8), r"y holds 0, 1, .*: use numpy.where\(y == 1, 1, -1\)$"),
        ([0.5, -1.0], r"y holds -1.0, 0.5, expected"),
    ],
)
def test_labels_are_minus_one_and_one(problem, y, text):
    with pytest.raises(ValueError, match=text):
        problem(np.ones((2, 2)), y)


@pytest.mark.parametrize(
    ("weights", "error", "text"),
    [
        ([1.0], ValueError, r"sample_weight has shape \(1,\), expected \(2,\)"),
        ([1.0, -2.0], ValueError, r"sample_weight\[1\] is -2.0, expected at least 0"),
        ([0, 0], ValueError, "sample_weight is 0 for all rows, expected a positive weight"),
        ([1.0, np.inf], ValueError, r"sample_weight\[1\] is inf, expected a finite"),
        ([1.0, np.nan], ValueError, r"sample_weight\[1\] is nan, expected a finite"),
    ],
)
def test_wrong_weights_are_refused(weights, error, text):
    with pytest.raises(error, match=text):
        LeastSquares(np.ones((2, 2)), [1, 2], sample_weight=weights)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan, math.inf])
def test_delta_is_greater_than_zero(delta):
    with pytest.raises(ValueError, match=f"delta is {delta}, expected 0 < delta < inf"):
        Huber(np.ones((2, 2)), [1, 2], delta)


def test_delta_is_a_number():
    with pytest.raises(TypeError, match="delta is '1', expected a number"):
        Huber(np.ones((2, 2)), [1, 2], "1")


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (np.ones(2), ValueError, r"x has shape \(2,\), expected \(3,\) .*the intercept"),
        (np.ones((3, 1)), ValueError, r"x has shape \(3, 1\), expected \(3,\)"),
        (np.ones(3, int), TypeError, "x has dtype int64, expected float32 or float64"),
    ],
)
@pytest.mark.parametrize("call", ["__call__", "value", "batch"])
def test_a_point_of_another_shape_is_refused(call, x, error, text):
    p = LeastSquares(np.ones((2, 2)), [1, 2], intercept=True)
    with pytest.raises(error, match=text):
        getattr(p, call)(x, *[[0]] * (call == "batch"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("idx", "error", "text"),
    [
        ([0, 2], ValueError, r"idx\[1\] is 2, expected 0 <= row < 2"),
        ([-1], ValueError, r"idx\[0\] is -1, expected 0 <= row < 2"),
        ([], ValueError, r"idx has shape \(0,\), expected \(k,\) with k > 0"),
        ([0.0], TypeError, "idx has dtype float64, expected integers"),
        (np.array(1), ValueError, r"idx has shape \(\), expected"),
        ([True, False], TypeError, r"dtype bool, expected integers; use numpy.flatnonzero"),
    ],
)
def test_rows_that_there_are_not_are_refused(kind, idx, error, text):
    p = LeastSquares(stored(np.ones((2, 2)), kind), [1, 2])
    with pytest.raises(error, match=text):
        p.batch(np.ones(2), idx)


# -- what the kernels compile to -------------------------------------------------------------------


@pytest.fixture
def _compiled(no_cache):
    """Compile without any cache: what is loaded from one has no code to look at."""
    for kernels in (rows.rows_pass, rows.batch_kernel):
        kernels.cache_clear()
    yield
    for kernels in (rows.rows_pass, rows.batch_kernel):
        kernels.cache_clear()


INDEX = {"dense": None, "csr_array": "int32"}


def kind_of(problem, form, index=None):
    return rows.kind_of(problem(np.ones((1, 1)), [1.0]).loss, 100, form, index)


def code(kernel):
    (text,) = kernel.inspect_llvm().values()
    bodies = re.findall(r"^define .*?^}", text, re.MULTILINE | re.DOTALL)
    names = r"cpython|cfunc|NRT_|pycc"
    return "\n".join(b for b in bodies if not re.search(names, b.split("\n", 1)[0]))


def arithmetic(kernel):
    """Return the operations on float64 in a kernel."""
    return set(re.findall(r"\b(fadd|fsub|fmul|fdiv|fcmp|call)\b[^@\n]*\bdouble\b", code(kernel)))


# Each loss with dense rows or sparse ones here, and with the others below.
@pytest.mark.usefixtures("_compiled")
def test_float32_rows_compute_in_float32_and_only_add_in_float64(problem):
    index = INDEX[OF_ONE_FORMAT[PROBLEMS.index(problem)]]
    kernel = rows.rows_pass(kind_of(problem, "float32", index)).serial
    assert "fmul float" in code(kernel) or re.search(r"fmul <\d+ x float>", code(kernel))
    assert arithmetic(kernel) == {"fadd"}


@pytest.mark.usefixtures("_compiled")
def test_float32_batches_compute_in_float32(problem):
    """But for the sum of the losses, and what makes a mean of it."""
    index = INDEX[OF_ONE_FORMAT[PROBLEMS.index(problem) - 1]]
    kernel = rows.batch_kernel(kind_of(problem, "float32", index))
    assert len(re.findall(r"\bfmul double", code(kernel))) == 1
    assert len(re.findall(r"\bfdiv double", code(kernel))) == 1
    assert not re.search(r"<\d+ x double>", code(kernel))


def test_another_delta_compiles_nothing():
    p, q = (Huber(np.ones((2, 2)), [1, 2], delta)._rows for delta in (0.5, 2.0))
    assert rows.rows_pass(p.kind) is rows.rows_pass(q.kind)


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize("form", ["float32", "float64"])
def test_dense_rows_use_vector_instructions(form):
    kernel = rows.rows_pass(kind_of(LeastSquares, form)).serial
    assert re.search(rf"fmul <\d+ x {'float' if form == 'float32' else 'double'}>", code(kernel))


@pytest.mark.parametrize("name", ["delta", "A", "targets", "weights", "sample_weight", "b"])
def test_a_problem_cannot_be_changed_by_assignment(name):
    p = Huber(np.eye(2), [1.0, 2.0], 1.0)
    with pytest.raises(
        AttributeError, match=rf"Huber.{name} cannot be assigned to, expected a new"
    ):
        setattr(p, name, 0.25)
    assert pickle.loads(pickle.dumps(p)).delta == 1.0
