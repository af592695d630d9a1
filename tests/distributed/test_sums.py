"""A sum over blocks, streamed through this process: what it takes, its values, its errors."""

import gc
import pickle
import weakref
from functools import partial

import block_files
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import adaptopt as ao
from adaptopt.distributed import BlockError, Sum
from adaptopt.distributed.sizes import tell_sizes

X = np.linspace(-1, 1, block_files.FEATURES)


@pytest.fixture(scope="module")
def loaders(tmp_path_factory):
    return block_files.write(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def whole():
    return block_files.whole()


def problem(rows=8, features=3, dtype=np.float64, seed=0, **options):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rows, features)).astype(dtype)
    return ao.problems.LeastSquares(A, A @ np.ones(features, dtype), **options)


def test_values_are_those_of_the_whole_problem(loaders, whole):
    f, g = Sum(loaders)(X)
    expected, gradient = whole(X)
    assert f == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(g, gradient, rtol=1e-13)
    assert Sum(loaders).value(X) == f


def test_minimisers_take_it_for_a_problem(loaders, whole):
    p, x0 = Sum(loaders), np.zeros(block_files.FEATURES)
    expected = ao.minimize(whole, x0).fun
    assert ao.minimize(p, x0).fun == pytest.approx(expected, rel=1e-9)
    assert scipy.optimize.minimize(p, x0, jac=True).fun == pytest.approx(expected, rel=1e-7)


def test_it_knows_its_size(loaders):
    p = Sum(loaders)
    assert (len(p), p.n_features, p.count) == (sum(block_files.ROWS), block_files.FEATURES, 6)
    assert "6 blocks, streamed here" in repr(p)


def test_blocks_are_loaded_one_at_a_time_and_only_when_they_are_asked_for():
    loads = []

    def load(k):
        loads.append(k)
        return problem(seed=k)

    p = Sum([partial(load, k) for k in range(3)])
    assert bool(p)
    assert not loads
    p(np.zeros(3))
    p(np.zeros(3))
    assert loads == [0, 1, 2, 0, 1, 2]
    kept = Sum([partial(load, k) for k in range(3)], keep=True)
    kept(np.zeros(3))
    kept(np.zeros(3))
    assert loads[6:] == [0, 1, 2]


def test_a_block_is_freed_before_the_next_is_loaded():
    alive, most = weakref.WeakSet(), []

    def load(k):
        most.append(len(alive))
        made = problem(seed=k)
        alive.add(made)
        return made

    p = Sum([partial(load, k) for k in range(4)])
    gc.disable()
    try:
        ao.minimize_finite_sum(p, np.zeros(3), None, method=ao.AdaGrad(0.1), epochs=1)
    finally:
        gc.enable()
    assert most == [0] * 12  # for their sizes, for the round, for its value


def test_arguments_are_refused():
    with pytest.raises(ValueError, match=r"args is \(1,\), expected \(\)"):
        ao.minimize(Sum([problem()]), np.zeros(3), args=(1,))


def test_float32_stays_float32():
    _, g = Sum([problem(dtype=np.float32), problem(dtype=np.float32)])(np.zeros(3, np.float32))
    assert g.dtype == np.float32


def test_weights_count_across_blocks():
    rng = np.random.default_rng(0)
    parts = [(rng.standard_normal((n, 3)), rng.standard_normal(n), rng.random(n)) for n in (5, 9)]
    A, b, w = (np.concatenate(part) for part in zip(*parts, strict=True))
    whole = ao.problems.LeastSquares(A, b, sample_weight=w)
    blocks = [ao.problems.LeastSquares(A, b, sample_weight=w) for A, b, w in parts]
    p = Sum(blocks, weights=[w.sum() for *_, w in parts])
    x = np.array([1.0, 2.0, -1.0])
    assert p.value(x) == pytest.approx(whole.value(x), rel=1e-13)
    np.testing.assert_allclose(p(x)[1], whole(x)[1], rtol=1e-12)


@pytest.mark.parametrize("weights", [np.arange(8.0), np.full(8, 9.0)], ids=["varied", "alike"])
def test_weights_of_rows_need_weights_of_blocks(weights):
    blocks = [problem(sample_weight=np.ones(8)), problem(sample_weight=weights)]
    with pytest.raises(BlockError, match=r"block 1 .*weights=\.\.\."):
        Sum(blocks)(np.zeros(3))


def test_weights_are_those_of_when_the_sum_was_made():
    weights = np.ones(2)
    p = Sum([problem(), problem(seed=1)], weights=weights)
    weights[0] = 9
    assert p.value(np.zeros(3)) == Sum([problem(), problem(seed=1)]).value(np.zeros(3))


def test_an_estimator_says_that_it_takes_no_sum():
    with pytest.raises(TypeError, match=r"X is <Sum: 1 blocks.*ao\.minimize"):
        ao.estimators.LinearRegressor().fit(Sum([problem()]), np.zeros(8))


def test_a_damaged_file_is_named(loaders, tmp_path):
    path = tmp_path / "damaged.npz"
    path.write_bytes(b"no rows")
    blocks = [*loaders[:2], partial(block_files.load, str(path))]
    with pytest.raises(BlockError, match=r"block 2 \(load\('.*damaged.npz'\)\)") as raised:
        Sum(blocks)(X)
    assert raised.value.block == 2
    assert pickle.loads(pickle.dumps(raised.value)).block == 2


def test_another_number_of_features_is_an_error_that_names_the_block():
    with pytest.raises(BlockError, match=r"block 1 .*x has shape \(3,\), expected \(4,\)"):
        Sum([problem(), problem(features=4)])(np.zeros(3))


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([], ValueError, "blocks is empty"),
        (["a.npz"], TypeError, r"block 0 is 'a.npz', .*functools.partial\(load, path\)"),
        (problem, TypeError, "expected a sequence"),
        (problem(), TypeError, "expected a sequence"),
        ([ao.problems.Logistic], TypeError, "block 0 is the class Logistic"),
        (3, TypeError, "blocks is 3"),
        ([Sum([problem()])], TypeError, "block 0 is a Sum"),
    ],
)
def test_what_is_no_sequence_of_blocks_is_an_error(blocks, error, message):
    with pytest.raises(error, match=message):
        Sum(blocks)


def test_a_loader_that_returns_no_problem_is_named():
    with pytest.raises(BlockError, match=r"block 0 .*it is None, expected a problem"):
        Sum([lambda: None])(np.zeros(3))


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, np.nan]])
def test_weights_that_do_not_fit_are_an_error(weights):
    with pytest.raises(ValueError, match="weights"):
        Sum([problem(), problem()], weights=weights)


def test_problems_tell_their_size_in_memory():
    import dask.sizeof

    tell_sizes()
    dense, A = problem(1000, 8), scipy.sparse.random_array((1000, 50), density=0.1, format="csr")
    sparse = ao.problems.LeastSquares(A, np.ones(1000))
    assert dask.sizeof.sizeof(dense) > dense.A.nbytes + 16_000
    assert dask.sizeof.sizeof(sparse) > A.data.nbytes * 1.5
    assert dask.sizeof.sizeof(A) > A.data.nbytes * 1.5
