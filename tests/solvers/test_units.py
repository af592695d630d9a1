"""The units of coordinates under lr="auto": columns of data need no scaling."""

import numpy as np
import pytest
import scipy.sparse

import adaptopt as ao
from adaptopt.solvers.units import Sizes, seen_later, units_of

N = 1000
RNG = np.random.default_rng(0)
NAMES = ["adagrad", "rmsprop", "adam"]


def sizes(squares, counts):
    return Sizes(np.array(squares, float), np.array(counts, float), 1.0)


def squares(x, A, b):
    r = A @ x - b
    return r @ r / (2 * len(b)), A.T @ r / len(b)


def left(problem, x0, method, **others):
    """Return the share of the objective above its minimum that is left."""
    res = ao.minimize_finite_sum(problem, x0, None, method=method, rng=0, **others)
    least = np.linalg.lstsq(problem.A, problem.targets)[0]
    least, first = problem(least)[0], problem(np.asarray(x0, float))[0]
    return (res.fun - least) / (first - least)


# -- units of sizes --------------------------------------------------------------------------------


def test_sizes_that_differ_by_chance_have_one_unit():
    counts = RNG.integers(1, 5, 100)
    squares = np.array([np.square(RNG.standard_normal(k)).sum() for k in counts])
    units = units_of(sizes(squares, counts))
    assert np.ptp(units) < 1e-12 * units[0]


def test_sizes_of_many_gradients_are_believed():
    units = units_of(sizes([200.0, 200e-6, 200e6], [200, 200, 200]))
    np.testing.assert_allclose(units, [1.0, 1e3, 1e-3], rtol=0.1)


def test_a_coordinate_without_gradients_gets_the_unit_of_most_others():
    """One column of many gradients does not outvote many columns of few."""
    units = units_of(sizes([*[1.0] * 50, 1e9, 0.0], [*[1] * 50, 1000, 0]))
    assert units[-1] == pytest.approx(units[0], rel=0.5)
    assert units[-2] == pytest.approx(1e-3, rel=0.5)


@pytest.mark.parametrize("count", [0, 1])
def test_without_gradients_all_units_are_equal(count):
    assert np.ptp(units_of(sizes([4.0 * count, 0.0], [count, 0]))) == 0.0


def test_a_later_gradient_is_taken_relative_to_the_others():
    before, later = sizes([8.0, 0.0], [2, 0]), sizes([2.0, 50.0], [2, 2])
    np.testing.assert_allclose(seen_later(before, later).squares, [8.0, 200.0])
    assert seen_later(before, sizes([0.0, 50.0], [0, 2])) is before


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_a_large_or_small_column_beside_rare_ones(method, size):
    rare = np.eye(100)[RNG.integers(0, 100, N)]
    A = np.column_stack([rare, size * RNG.standard_normal(N)])
    b = rare @ RNG.standard_normal(100) + A[:, -1] / size
    assert left(ao.problems.LeastSquares(A, b), np.zeros(101), method) < 5e-3


@pytest.mark.parametrize("method", NAMES)
def test_rows_without_gradients_do_not_hide_the_others(method, in_python):
    A = RNG.standard_normal((2 * N, 3)) * (RNG.random((2 * N, 1)) < 0.03)
    problem = ao.problems.LeastSquares(scipy.sparse.csr_array(A), A @ [1.0, -2.0, 3.0])
    res = ao.minimize_finite_sum(problem, np.zeros(3), None, method=method, rng=1)
    assert res.fun < 1e-2 * problem(np.zeros(3))[0]


@pytest.mark.parametrize("method", NAMES)
def test_classes_and_intercepts(method, in_python):
    A = RNG.standard_normal((N, 3))
    labels = np.argmax(A @ RNG.standard_normal((3, 3)) + RNG.gumbel(size=(N, 3)), axis=1)
    plain, other = (
        ao.minimize_finite_sum(
            ao.problems.Multinomial(A * scales, labels, intercept=True),
            np.zeros((4, 3)), None, method=method, rng=0,
        )
        for scales in (1.0, [1e-4, 1.0, 1e4])
    )  # fmt: skip
    assert other.fun == pytest.approx(plain.fun, abs=2e-3)


@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("ratio", [10.0, 1000.0])
def test_targets_of_different_sizes(method, ratio):
    """Their gradients differ as those of columns do, but not the units of their coordinates."""
    A = RNG.standard_normal((N, 4))
    Y = (A @ RNG.standard_normal((4, 2)) + RNG.standard_normal((N, 2)) / 3) * [1.0, ratio]

    def fun(X, A, Y):
        R = A @ X - Y
        return (R * R).sum() / (2 * len(Y)), A.T @ R / len(Y)

    res = ao.minimize_finite_sum(fun, np.zeros((4, 2)), (A, Y), method=method, rng=0)
    assert res.fun < 1.01 * fun(np.linalg.lstsq(A, Y)[0], A, Y)[0]


@pytest.mark.parametrize("method", NAMES)
def test_small_columns_in_float32_from_a_start_in_float64(method, in_python):
    A = (1e-6 * RNG.standard_normal((N, 4))).astype(np.float32)
    b = A @ np.array([1e6, -2e6, 3e6, 0.0], np.float32)
    assert left(ao.problems.LeastSquares(A, b), np.zeros(4), method) < 1e-3


def test_a_function_of_rows():
    A = RNG.standard_normal((N, 3)) * [1e-4, 1.0, 1e4]
    A[RNG.random(N) > 0.05, 0] = 0.0  # few rows have it
    b = A @ [2e4, 1.0, -3e-4]
    res = ao.minimize_finite_sum(squares, np.zeros(3), (A, b), rng=0)
    assert res.fun < 1e-3 * squares(np.zeros(3), A, b)[0]


def test_no_variables():
    assert ao.minimize_finite_sum(lambda x, i: (1.0, x), np.zeros(0), 50, rng=0).fun == 1.0


def test_entries_that_are_not_finite_do_not_count():
    A = RNG.standard_normal((N, 3))
    b = A @ [1.0, -2.0, 3.0]
    A[7, 1], A[9, 2] = np.nan, np.inf
    options = {"nan_policy": "omit"}
    res = ao.minimize_finite_sum(squares, np.zeros(3), (A, b), batch_size=1, rng=0, options=options)
    np.testing.assert_allclose(res.x, [1.0, -2.0, 3.0], rtol=1e-3)


@pytest.mark.parametrize("stored", [np.array, scipy.sparse.csr_array])
@pytest.mark.parametrize("scale", [1e-140, 1e100])
def test_a_column_whose_squares_overflow(stored, scale, in_python):
    A = RNG.standard_normal((N, 3)) * [1.0, scale, 1.0]
    b = A @ [1.0, 1.0 / scale, 1.0]
    res = ao.minimize_finite_sum(ao.problems.LeastSquares(stored(A), b), np.zeros(3), None, rng=0)
    assert res.fun < 1e-2 * np.square(b).mean() / 2
