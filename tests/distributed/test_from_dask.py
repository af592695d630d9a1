"""Blocks from Dask's arrays, streamed through this process: what is taken, and what is refused."""

import numpy as np
import pytest
import scipy.sparse

import adaptopt as ao
from adaptopt.distributed import BlockError, Sum

da = pytest.importorskip("dask.array")

LeastSquares = ao.problems.LeastSquares


def test_sparse_chunks_and_weights_without_a_client():
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((60, 4), density=0.5, format="csr", rng=0)
    b, w = rng.standard_normal(60), np.where(np.arange(60) < 20, 0.0, rng.random(60))
    X = da.from_array(A.toarray(), chunks=(20, 4)).map_blocks(scipy.sparse.csr_array)
    p = Sum.from_dask(ao.problems.LeastSquares, X, b, w)
    assert p.count == 2  # the rows of the first chunk weigh nothing
    whole = ao.problems.LeastSquares(A, b, sample_weight=w)
    x = np.ones(4)
    assert p.value(x) == pytest.approx(whole.value(x), rel=1e-13)


@pytest.mark.parametrize(
    ("X", "y", "error", "message"),
    [
        (np.ones((4, 2)), np.ones(4), TypeError, "X is a ndarray, expected a Dask array"),
        (da.ones((4, 2), chunks=2), np.ones(5), ValueError, "y has shape"),
        (da.ones((4, 2), chunks=2), da.ones(5, chunks=2), ValueError, "y has 5 rows, expected 4"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(X, y, error, message):
    with pytest.raises(error, match=message):
        Sum.from_dask(ao.problems.LeastSquares, X, y)


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_wrong_weights_are_an_error_though_they_sum_to_nothing(wrong):
    X, weights = da.ones((4, 2), chunks=2), [1.0, wrong, 1.0, 1.0]
    with pytest.raises(ValueError, match=f"sample_weight holds {wrong}"):
        Sum.from_dask(ao.problems.LeastSquares, X, np.ones(4), weights)


MASKED = np.ma.masked_array(np.ones(4), [0, 1, 0, 0])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("X", {"X": da.ma.masked_greater(da.arange(8, chunks=4).reshape(4, 2) * 1.0, 3.0)}),
        ("y", {"y": MASKED}),
        ("y", {"y": da.from_array(MASKED, chunks=2)}),
        ("sample_weight", {"sample_weight": MASKED}),
        ("sample_weight", {"sample_weight": da.from_array(MASKED, chunks=2)}),
    ],
)
def test_masked_arrays_are_refused(name, given):
    given = {"X": da.ones((4, 2), chunks=2), "y": np.ones(4), **given}
    with pytest.raises(TypeError, match=f"^{name} is a MaskedArray, expected an array without"):
        Sum.from_dask(LeastSquares, **given)


@pytest.mark.parametrize("name", ["X", "y"])
def test_chunks_with_a_mask_that_dask_did_not_know_of_are_refused(name):
    given = {"X": da.ones((4, 2), chunks=2), "y": da.ones(4, chunks=2)}
    plain = np.ones((0,) * given[name].ndim)
    given[name] = given[name].map_blocks(np.ma.masked_array, dtype=float, meta=plain)
    p = Sum.from_dask(LeastSquares, **given)
    with pytest.raises(BlockError, match=f"TypeError: {name} is a MaskedArray"):
        p.value(np.zeros(2))


def unaligned(chunk):
    """Return a copy at an odd address, as a worker gets it."""
    memory = np.zeros(chunk.nbytes + 1, np.uint8)
    copy = memory[1:].view(chunk.dtype).reshape(chunk.shape)
    copy[:] = chunk
    return copy


def test_chunks_at_any_address_are_taken():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((9, 3)), rng.standard_normal(9)
    X = da.from_array(A, chunks=(5, 3)).map_blocks(unaligned)
    y = da.from_array(b, chunks=5).map_blocks(unaligned)
    x = np.ones(3)
    expected = LeastSquares(A, b).value(x)
    assert Sum.from_dask(LeastSquares, X, y).value(x) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ao.AdaGrad, {}, "kind is <class .*AdaGrad'>, expected one of adaptopt.problems"),
        (LeastSquares(np.ones((2, 1)), np.ones(2)), {}, "kind is <LeastSquares: 2 x 1"),
        ("Logistic", {}, "kind is 'Logistic', expected"),
        (LeastSquares, {"l1": 3}, "options of LeastSquares: .*'l1', expected some of intercept"),
    ],
)
def test_what_makes_no_problem_is_refused_before_a_block_is_made(kind, options, message):
    with pytest.raises(TypeError, match=message):
        Sum.from_dask(kind, da.ones((4, 2), chunks=2), np.ones(4), **options)


def test_errors_name_the_rows_of_a_block():
    y = np.where(np.arange(6) == 4, np.nan, 1.0)
    p = Sum.from_dask(LeastSquares, da.ones((6, 2), chunks=2), y)
    with pytest.raises(
        BlockError, match=r"^block 2 \(rows 4 to 5 of X\): ValueError: b\[0\] is nan"
    ):
        p.value(np.zeros(2))


def test_chunk_sizes_that_are_wrong_end_the_round():
    A = np.ones((8, 2))
    A[:3, 1] = 0  # three rows are left out
    X, y = (
        da.from_array(A, chunks=(4, 2)).map_blocks(
            lambda part, take: part[part[:, 1] == 1][:, take], take, dtype=float, **chunks
        )
        for take, chunks in (([0], {"chunks": (4, 1)}), (0, {"chunks": (4,), "drop_axis": 1}))
    )
    p = Sum.from_dask(LeastSquares, X, y)
    with pytest.raises(ValueError, match=r"have 5 rows, expected 8, .*Dask's chunks"):
        ao.minimize_finite_sum(p, np.zeros(1), None, method=ao.SGD(0.1), rng=0)


def test_weights_in_a_column_and_weights_too_large_to_add():
    X, w = da.ones((4, 1), chunks=2), np.arange(1.0, 5.0)
    p = Sum.from_dask(LeastSquares, X, w, w[:, None])
    assert p(np.zeros(1)) == Sum.from_dask(LeastSquares, X, w, w)(np.zeros(1))
    with pytest.raises(ValueError, match="sample_weight adds up to infinity"):
        Sum.from_dask(LeastSquares, X, w, np.full(4, 1e308))
