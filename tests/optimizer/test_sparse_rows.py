"""Steps on rows of a table: exactly those of whole gradients, at the cost of the rows touched."""

import os
import re
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import adaptopt as ao
from adaptopt.kernels.batch_rows import coalesce
from adaptopt.optimizer import table as tables
from adaptopt.optimizer.gradients import read_rows
from adaptopt.placement import HOST

ROWS, WIDTH = 23, 3
COSINE = ao.schedules.cosine(0.1, 2000)
DECOUPLED = {"weight_decay": 0.05, "decoupled": True}

EXACT = {
    "sgd": (ao.SGD(0.1), None),
    "sgd-schedule": (ao.SGD(COSINE), None),
    "sgd-l1": (ao.SGD(0.1), ao.L1(0.01)),
    "sgd-decoupled": (ao.SGD(0.1, **DECOUPLED), None),
    "adagrad": (ao.AdaGrad(0.1), None),
    "adagrad-schedule": (ao.AdaGrad(COSINE), None),
    "adagrad-l1": (ao.AdaGrad(0.1), ao.L1(0.003)),
    "adagrad-l2": (ao.AdaGrad(0.1), ao.L2(0.01)),
    "adagrad-l2-array": (ao.AdaGrad(0.1), ao.L2(np.linspace(0, 0.02, WIDTH))),
    "adagrad-elastic": (ao.AdaGrad(0.1), ao.ElasticNet(0.003, 0.01)),
    "adagrad-box": (ao.AdaGrad(0.1), ao.Box(-2.0, 2.0)),
    "adagrad-decoupled": (ao.AdaGrad(0.1, **DECOUPLED), None),
    "adagrad-decoupled-schedule": (ao.AdaGrad(COSINE, **DECOUPLED), None),
    "adagrad-decoupled-box": (ao.AdaGrad(0.1, **DECOUPLED), ao.Box(-2.0, 2.0)),
    "rmsprop": (ao.RMSProp(0.01), None),
    "rmsprop-schedule": (ao.RMSProp(COSINE), None),
    "rmsprop-decoupled": (ao.RMSProp(0.01, **DECOUPLED), None),
    "rmsprop-box": (ao.RMSProp(0.01), ao.Box(-2.0, 2.0)),
    "rmsprop-centered": (ao.RMSProp(0.01, centered=True), None),
    "rmsprop-momentum": (ao.RMSProp(0.01, momentum=0.9), None),
    "rmsprop-momentum-schedule": (ao.RMSProp(COSINE, momentum=0.9, lr_inside=True), None),
    "rmsprop-nesterov": (ao.RMSProp(0.01, momentum=0.9, nesterov=True, centered=True), None),
    "momentum": (ao.Momentum(0.01), None),
    "momentum-dampening": (ao.Momentum(0.01, dampening=0.5), None),
    "momentum-schedule": (ao.Momentum(COSINE, lr_inside=True), None),
    "nesterov": (ao.Momentum(0.01, nesterov=True), None),
    "dual-averaging": (ao.AdaGradDA(0.3, l1=0.01, l2=0.01), None),
    "ftrl": (ao.FTRL(0.3, l1=0.5, l2=0.1), None),
    "ftrl-schedule": (ao.FTRL(ao.schedules.inverse_time(0.3, 0.1)), None),
    "dual-averaging-schedule": (ao.AdaGradDA(COSINE, l1=0.01), None),
    "adagrad-norm": (ao.AdaGradNorm(1.0), None),
    "adagrad-norm-decoupled": (ao.AdaGradNorm(0.1, **DECOUPLED), None),
    "row-wise": (ao.RowWiseAdaGrad(0.1), None),
    "row-wise-l1": (ao.RowWiseAdaGrad(0.1), ao.L1(0.003)),
    "row-wise-l2": (ao.RowWiseAdaGrad(0.1), ao.L2(0.01)),
    "row-wise-decoupled": (ao.RowWiseAdaGrad(0.1, **DECOUPLED), None),
}


# One of each closed form, and with each kind of map.
CLOSED_FORMS = (
    *("sgd-l1", "adagrad-l2-array", "adagrad-decoupled-box", "rmsprop-momentum"),
    *("rmsprop-nesterov", "momentum-schedule", "dual-averaging", "adagrad-norm"),
    *("row-wise-decoupled", "row-wise-l1"),
)
# The forms whose kernels are compiled: of each number of slots, with and without a map, with one of
# arrays, with a decay, from sums, with a number that all rows share, and with one for each row (and
# with such rows that wait). The others differ in formulas, whose compilation `test_kernels` tests.
COMPILED = (
    *("sgd-l1", "adagrad", "adagrad-schedule", "adagrad-l2-array", "adagrad-decoupled-box"),
    *("rmsprop-nesterov", "dual-averaging", "dual-averaging-schedule", "adagrad-norm", "row-wise"),
    "row-wise-l1",
)


@pytest.fixture(params=EXACT)
def exact(request):
    """Every method and prox whose idle rows have a closed form, and how many steps to take."""
    if request.param not in COMPILED:
        request.getfixturevalue("in_python")
    return *EXACT[request.param], 1000 if request.param in COMPILED else 150


def fails(error, *words):
    return pytest.raises(error, match=".*".join(re.escape(word) for word in words))


def start(dtype=np.float64, rows=ROWS, width=WIDTH):
    return np.random.default_rng(7).uniform(-1, 1, (rows, width)).astype(dtype)


def batches(steps, dtype=np.float64, rows=ROWS, width=WIDTH, size=4):
    """Rows of unequal popularity, with repeats: some are idle for long."""
    rng = np.random.default_rng(1)
    for _ in range(steps):
        places = (rows * rng.random(size) ** 3).astype(np.int64)
        yield places, rng.standard_normal((size, width)).astype(dtype)


def whole(places, g, shape):
    dense = np.zeros(shape, g.dtype)
    np.add.at(dense, places, g)
    return dense


def assert_near(a, b, rtol=1e-12):
    """Relative to each number, or to 1e-3 of the array's largest where digits cancelled."""
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-3 * rtol * np.max(abs(b), initial=0.0))


# -- exactly the whole gradient's ------------------------------------------------------------------


def test_steps_on_rows_are_those_of_whole_gradients(exact):
    method, prox, steps = exact
    x, y = start(), start()
    rows, dense = ao.Optimizer(x, method, prox), ao.Optimizer(y, method, prox)
    for places, g in batches(steps):
        rows.step_rows(places, g)
        dense.step(whole(places, g, x.shape))
    rows.flush()
    assert_near(x, y)
    for slot, array in dense.state.items():
        assert_near(rows.state[slot], array)
    assert_near(rows.learning_rates(), dense.learning_rates())
    assert rows.t == dense.t == steps


def test_rows_and_whole_gradients_in_turn(exact):
    method, prox, _ = exact
    x, y = start(), start()
    rows, dense = ao.Optimizer(x, method, prox), ao.Optimizer(y, method, prox)
    for t, (places, g) in enumerate(batches(60)):
        full = whole(places, g, x.shape)
        if t % 7 == 3:
            rows.step(full)
        else:
            rows.step_rows(places, g)
        dense.step(full)
    rows.flush()
    assert_near(x, y)


@pytest.mark.parametrize("width", [1, 3, 16, 37, 64])
@pytest.mark.parametrize("method", [ao.AdaGrad(0.1), ao.RMSProp(0.01), ao.RowWiseAdaGrad(0.1)])
def test_rows_of_any_width(width, method, request):
    if isinstance(method, ao.RMSProp):  # a kernel like that of AdaGrad
        request.getfixturevalue("in_python")
    x, y = start(width=width), start(width=width)
    a, b = ao.Optimizer(x, method), ao.Optimizer(y, method)
    for places, g in batches(30, width=width):
        a.step_rows(places, g)
        b.step(whole(places, g, x.shape))
    assert_near(x, y)


@pytest.mark.parametrize("shape", [(9,), (9, 2, 3), (9, 0)])
def test_a_table_may_have_any_number_of_dimensions(shape):
    x, y = np.ones(shape), np.ones(shape)
    g = np.arange(2.0 * np.prod(shape[1:], dtype=int)).reshape(2, *shape[1:])
    ao.Optimizer(x, ao.AdaGrad(0.1)).step_rows([4, 2], g)
    ao.Optimizer(y, ao.AdaGrad(0.1)).step(whole([4, 2], g, shape))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["rmsprop", *CLOSED_FORMS])
def test_float32_rows_are_near_whole_gradients(name, request):
    if name != "rmsprop":  # whose kernel serves other tests
        request.getfixturevalue("in_python")
    method, prox = EXACT[name]
    x, y = start(np.float32), start(np.float32)
    rows, dense = ao.Optimizer(x, method, prox), ao.Optimizer(y, method, prox)
    for places, g in batches(100, np.float32):
        rows.step_rows(places, g)
        dense.step(whole(places, g, x.shape))
    rows.flush()
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["rmsprop", "momentum", "adagrad-l2", "adagrad-decoupled"])
def test_gaps_beyond_the_longest_are_cut(name, monkeypatch, in_python):
    method, prox = EXACT[name]
    x, y = start(), start()
    rows, dense = ao.Optimizer(x, method, prox), ao.Optimizer(y, method, prox)
    monkeypatch.setattr(tables, "LONGEST", 20)
    for places, g in batches(100):
        rows.step_rows(places, g)
        dense.step(whole(places, g, x.shape))
    rows.flush()
    assert_near(x, y)


def test_catch_up_brings_the_rows_asked_for_and_no_others(in_python):
    x, y = start(), start()
    rows, dense = ao.Optimizer(x, ao.Momentum(0.1)), ao.Optimizer(y, ao.Momentum(0.1))
    for t in range(5):
        g = np.ones((2, WIDTH)) * (t == 0)
        places = [3, 5] if t == 0 else [0, 0]
        rows.step_rows(places, g)
        dense.step(whole(places, g, x.shape))
    rows.catch_up([3, 3])
    assert_near(x[3], y[3])
    assert (abs(x[5] - y[5]) > 0.1).all()
    rows.catch_up([])
    rows.catch_up(np.array([5], np.int32))
    assert_near(x, y)


def test_learning_rates_catch_up_first(in_python):
    opt = ao.Optimizer(np.zeros((2, 1)), ao.RMSProp(0.1, rho=0.5))
    opt.step_rows([0], np.ones((1, 1)))
    opt.step_rows([1], np.ones((1, 1)))
    assert opt.learning_rates()[0, 0] == pytest.approx(0.1 / 0.5, rel=1e-6)


def test_after_a_long_gap_rmsprops_first_step_is_lr_over_the_root_of_one_minus_rho(in_python):
    x = np.zeros((2, 1))
    opt = ao.Optimizer(x, ao.RMSProp(0.01, rho=0.9))
    for t in range(400):
        opt.step_rows([0] if t else [0, 1], np.ones((1 if t else 2, 1)))
    before = x[1, 0]
    opt.step_rows([1], np.full((1, 1), 1e-3))
    assert before - x[1, 0] == pytest.approx(0.01 / np.sqrt(0.1), rel=1e-3)


# -- repeats, order, threads -----------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.integers(0, 9), max_size=40),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_repeated_rows_are_their_sum(places, seed, dtype):
    g = np.random.default_rng(seed).standard_normal((len(places), 5)).astype(dtype)
    distinct = sorted(set(places))
    sums = np.zeros((len(distinct), 5), dtype)
    for row, values in zip(places, g, strict=True):
        sums[distinct.index(row)] += values  # in the order of the places
    x, y = np.ones((10, 5), dtype), np.ones((10, 5), dtype)
    ao.Optimizer(x, ao.AdaGrad(0.1)).step_rows(np.array(places, np.int64), g)
    ao.Optimizer(y, ao.AdaGrad(0.1)).step_rows(np.array(distinct, np.int64), sums)
    np.testing.assert_array_equal(x, y)


@settings(max_examples=60, deadline=None)
@given(
    limit=st.sampled_from([1, 2, 7, 2048, 2049, 5_000_000, 2**31 - 1]),
    size=st.integers(0, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_coalescing_is_a_stable_sort(limit, size, seed):
    rng = np.random.default_rng(seed)
    places = np.minimum(limit * rng.random(size) ** 4, limit - 1).astype(np.int64)
    rows, order, starts = coalesce(places, limit)
    np.testing.assert_array_equal(order, np.argsort(places, kind="stable"))
    np.testing.assert_array_equal(rows, np.unique(places))
    np.testing.assert_array_equal(starts, np.searchsorted(places[order], [*rows, limit]))


@pytest.mark.parametrize(
    ("method", "options"),
    [(ao.RMSProp(0.1), {}), (ao.RMSProp(0.1), {"clip_norm": 1.0}), (ao.RowWiseAdaGrad(0.1), {})],
)
def test_the_bits_are_the_same_for_any_number_of_threads(method, options, monkeypatch):
    from adaptopt.kernels import parallel

    monkeypatch.setattr(parallel, "THREADED_FROM", 1)
    found = []
    for threads in {1, min(2, numba.config.NUMBA_NUM_THREADS), numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(threads)
        x = start(np.float32, 500, 19)
        opt = ao.Optimizer(x, method, **options)
        for places, g in batches(5, np.float32, 500, 19, 300):
            opt.step_rows(places, g)
        opt.flush()
        found.append(x)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    for x in found[1:]:
        np.testing.assert_array_equal(x, found[0])


def test_int32_rows_and_int64_rows_are_the_same(in_python):
    x, y = start(), start()
    g = np.ones((3, WIDTH))
    ao.Optimizer(x, ao.SGD(0.1)).step_rows(np.array([5, 1, 5], np.int32), g)
    ao.Optimizer(y, ao.SGD(0.1)).step_rows(np.array([5, 1, 5], np.int64), g)
    np.testing.assert_array_equal(x, y)


def test_no_rows_are_a_step_of_zero_gradients(in_python):
    x, y = start(), start()
    rows, dense = ao.Optimizer(x, ao.Momentum(0.1)), ao.Optimizer(y, ao.Momentum(0.1))
    for opt, zero in ((rows, (np.zeros(0, int), np.zeros((0, WIDTH)))), (dense, np.zeros(x.shape))):
        opt.step(np.ones(x.shape))
        opt.step(zero)
    rows.flush()
    assert_near(x, y)
    assert rows.t == 2


# -- how sparse gradients are given ----------------------------------------------------------------


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix])
def test_a_csr_matrix_is_a_gradient(form):
    g = np.zeros((ROWS, WIDTH))
    g[[2, 9]] = [[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]
    found = []
    for take in ("step", "step_rows"):
        x = start()
        getattr(ao.Optimizer(x, ao.AdaGrad(0.1)), take)(form(g))
        found.append(x)
    y = start()
    ao.Optimizer(y, ao.AdaGrad(0.1)).step(g)
    for x in found:
        np.testing.assert_array_equal(x, y)


def test_a_step_takes_sparse_and_whole_gradients_together(in_python):
    params = {"table": start(), "w": np.ones(4), "other": start()}
    a, b = ao.Optimizer(params, ao.RMSProp(0.01)), ao.Optimizer(params, ao.RMSProp(0.01))
    for places, g in batches(50):
        full = whole(places, g, (ROWS, WIDTH))
        a.step({"table": (places, g), "w": np.ones(4), "other": full})
        b.step({"table": full, "w": np.ones(4), "other": full})
    a.flush()
    for name in params:
        assert_near(a.params[name], b.params[name])
    assert a.t == 50


def test_a_step_by_name_is_one_of_an_optimizer_of_its_own(in_python):
    method = ao.RMSProp(COSINE)
    both = ao.Optimizer({"users": start(), "items": start(), "w": np.ones(2)}, method)
    x, y = start(), start()
    users, items = ao.Optimizer(x, method), ao.Optimizer(y, method)
    for t, (places, g) in enumerate(batches(40)):
        both.step_rows(places, g, "users")
        users.step_rows(places, g)
        if t % 3:
            both.step_rows(places, -g, name="items")
            items.step_rows(places, -g)
    assert both.t == 40
    np.testing.assert_array_equal(both.params["w"], [1, 1])
    for name, opt in (("users", users), ("items", items)):
        np.testing.assert_array_equal(both.learning_rates(name), opt.learning_rates())
        np.testing.assert_array_equal(both.params[name], opt.params)


def test_after_steps_by_name_a_step_of_all_goes_on_from_each_count(in_python):
    method = ao.Adam(0.1)
    both = ao.Optimizer({"a": start(), "b": start()}, method, lazy="touched")
    x, y = start(), start()
    a, b = ao.Optimizer(x, method, lazy="touched"), ao.Optimizer(y, method)
    g = np.ones((ROWS, WIDTH))
    both.step_rows([1], g[:1], "a")
    a.step_rows([1], g[:1])
    for _ in range(3):
        both.step({"a": g, "b": g})
        a.step(g)
        b.step(g)
    np.testing.assert_array_equal(both.params["a"], x)
    np.testing.assert_array_equal(both.params["b"], y)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("wide", [None, np.float32, np.float64])
def test_gradients_of_16_bits(name, wide, request):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if (name, wide) != ("float16", np.float32):
        request.getfixturevalue("in_python")
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    x = start(wide or dtype)
    y = start(wide or dtype)
    g = np.array([[1.0, 2.0, 3.0], [0.5, 0.25, -1.0], [1.0, 0.0, 0.0]])
    ao.Optimizer(x, ao.AdaGrad(0.1)).step_rows([3, 1, 3], g.astype(dtype))
    full = whole([3, 1, 3], g, x.shape)
    ao.Optimizer(y, ao.AdaGrad(0.1)).step(full.astype(wide or np.float32))
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("options", [{"master": True}, {"rounding": "stochastic"}, {}])
def test_low_precision_tables_step_as_with_whole_gradients(options, request):
    pytest.importorskip("ml_dtypes")
    if "rounding" not in options:
        request.getfixturevalue("in_python")
    x, y = start(np.float16), start(np.float16)
    options = {**options, "state_dtype": "bfloat16"}
    a = ao.Optimizer(x, ao.AdaGrad(0.1), **options)
    b = ao.Optimizer(y, ao.AdaGrad(0.1), **options)
    for places, g in batches(20, np.float32):
        distinct, first = np.unique(places, return_index=True)
        a.step_rows(distinct, g[first])
        # A whole gradient rounds idle accumulators too, to what they are.
        b.step(whole(distinct, g[first], x.shape))
    np.testing.assert_array_equal(x, y)


# -- clipping, scalars -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"clip_norm": 0.5}, {"loss_scale": 8.0}, {"clip_value": 0.3}])
def test_transformations_see_the_summed_rows(options, request):
    if "clip_value" in options:
        request.getfixturevalue("in_python")
    x, y = start(), start()
    a = ao.Optimizer(x, ao.AdaGrad(0.1), **options)
    b = ao.Optimizer(y, ao.AdaGrad(0.1), **options)
    for places, g in batches(20):
        a.step_rows(places, g)
        b.step(whole(places, g, x.shape))
    assert_near(x, y)


def test_a_sparse_gradient_that_is_not_finite_is_skipped():
    x = start()
    opt = ao.Optimizer(x, ao.AdaGrad(0.1), loss_scale=2.0)
    with pytest.warns(RuntimeWarning, match="step 1 was skipped"):
        opt.step_rows([1], np.full((1, WIDTH), np.inf))
    np.testing.assert_array_equal(x, start())
    assert (opt.t, opt.skipped) == (0, 1)


def test_the_gradient_norm_is_that_of_the_summed_rows():
    opt = ao.Optimizer(np.zeros((5, 2)), ao.SGD())
    assert opt.gradient_norm(([1, 3, 1], np.array([[1.0, 0], [0, -4.0], [2.0, 0]]))) == 4.0
    assert np.isnan(opt.gradient_norm(([1], np.array([[np.nan, 0]]))))


# -- the other rule --------------------------------------------------------------------------------


def test_touched_leaves_idle_rows_alone(in_python):
    x = np.zeros((2, 1))
    opt = ao.Optimizer(x, ao.RMSProp(0.1, rho=0.5), lazy="touched")
    opt.step_rows([0], np.ones((1, 1)))
    for _ in range(5):
        opt.step_rows([1], np.ones((1, 1)))
    opt.flush()
    assert opt.state["E"][0] == 0.5


@pytest.mark.parametrize(
    "method", [ao.Adam(0.1), ao.FTRL(0.1), ao.AdaDelta(), ao.AdaGrad(weight_decay=0.1)]
)
def test_touched_is_there_for_every_method(method, request):
    if not isinstance(method, ao.Adam):
        request.getfixturevalue("in_python")
    x, y = start(), start()[[4, 6]]
    a, b = ao.Optimizer(x, method, lazy="touched"), ao.Optimizer(y, method)
    for k in range(4):
        g = np.full((2, WIDTH), 1.0 + k)
        a.step_rows([4, 6], g)
        b.step(g)
    np.testing.assert_array_equal(x[[4, 6]], y)
    np.testing.assert_array_equal(x[7:], start()[7:])


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "prox", "why"),
    [
        (ao.Adam(), None, "Adam has no closed form"),
        (ao.FTRL(COSINE, l1=0.1), None, "under FTRL a row without a gradient moves"),
        (ao.AdaGrad(weight_decay=0.1), None, "weight_decay is coupled"),
        (ao.Momentum(**DECOUPLED), None, "under Momentum a row without a gradient moves"),
        (ao.AdaGrad(**DECOUPLED), ao.L1(0.1), "decay and a penalty"),
        (ao.Momentum(COSINE), None, "moves at rates that change (lr_inside=True has one)"),
        (ao.RMSProp(), ao.L1(0.1), "under RMSProp the rate of a row without a gradient changes"),
        (ao.AdaGrad(COSINE), ao.L2(0.1), "a penalty at rates that change"),
    ],
)
def test_what_has_no_closed_form_is_refused(method, prox, why):
    x = start()
    opt = ao.Optimizer(x, method, prox)
    with fails(ValueError, "params is stepped by rows", "expected lazy='touched'", why):
        opt.step_rows([1], np.ones((1, WIDTH)))
    np.testing.assert_array_equal(x, start())
    assert opt.t == 0


def test_a_prox_that_ties_rows_together_is_refused():
    opt = ao.Optimizer(start(), ao.AdaGrad(), ao.L2Ball(1.0), lazy="touched")
    with fails(ValueError, "stepped by rows with L2Ball", "ties the rows together"):
        opt.step_rows([1], np.ones((1, WIDTH)))


@pytest.mark.parametrize(
    ("rows", "grads", "error", "words"),
    [
        ([ROWS], np.ones((1, WIDTH)), ValueError, f"entry 0 is {ROWS}, expected a row in [0, "),
        ([0, -1], np.ones((2, WIDTH)), ValueError, "entry 1 is -1, expected a row in [0, 23)"),
        ([0.0], np.ones((1, WIDTH)), TypeError, "rows of grads have dtype float64, expected int32"),
        ([[0]], np.ones((1, WIDTH)), ValueError, "have shape (1, 1), expected one dimension"),
        ([0, 1], np.ones((1, WIDTH)), ValueError, "grads has shape (1, 3), expected (2, 3)"),
        ([0], np.ones((1, WIDTH), np.float32), TypeError, "grads has dtype float32, expected flo"),
        ([0], None, TypeError, "grads is None with rows [0], expected a CSR matrix"),
        (sparse.csr_array((2, 2)), None, ValueError, "grads has shape (2, 2), expected (23, 3)"),
    ],
)
def test_a_bad_gradient_is_refused_before_anything_changes(rows, grads, error, words):
    x = start()
    opt = ao.Optimizer(x, ao.AdaGrad())
    with fails(error, words):
        opt.step_rows(rows, grads)
    np.testing.assert_array_equal(x, start())
    assert (opt.t, opt.state["G"].sum()) == (0, 0)


def test_a_policy_looks_at_the_sums_of_rows():
    x = np.ones((3, 1), np.float32)
    opt = ao.Optimizer(x, ao.AdaGrad(0.1), nan_policy="skip")
    with pytest.warns(RuntimeWarning, match="step 1 was skipped"):
        opt.step_rows([0, 0], np.full((2, 1), 3e38, np.float32))
    assert (opt.t, opt.skipped, x[0, 0]) == (0, 1, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"indices": [0, 1, WIDTH]}, "grads.indices goes from 0 to 3, expected 0 <= column < 3"),
        ({"indices": [0, -1, 2]}, "grads.indices goes from -1 to 2"),
        ({"indptr": [0, 3, 2] + [3] * (ROWS - 2)}, "grads.indptr is no row pointer"),
        ({"indptr": [1] + [3] * ROWS}, "grads.indptr is no row pointer"),
        ({"indptr": [0] + [9] * ROWS}, "3 entries and 3 indices, expected at least 9"),
    ],
)
def test_a_csr_matrix_that_points_beside_its_arrays_is_refused(change, words):
    matrix = sparse.csr_array((np.ones(3), [0, 1, 2], [0] + [3] * ROWS), shape=(ROWS, WIDTH))
    for name, values in change.items():
        setattr(matrix, name, np.array(values, np.int32))
    x = start()
    opt = ao.Optimizer(x, ao.SGD(0.1))
    for step in (opt.step, opt.step_rows):
        with fails(ValueError, words):
            step(matrix)
    np.testing.assert_array_equal(x, start())


def test_a_sparse_gradient_of_one_dimension_is_refused():
    opt = ao.Optimizer(np.ones(4), ao.SGD(0.1))
    with fails(ValueError, "shape (4,), expected a CSR matrix of two dimensions: use its toarray"):
        opt.step(sparse.csr_array(np.ones(4)))


def test_a_gradient_that_overlaps_the_table_is_refused():
    x = start()
    with fails(ValueError, "grads overlaps params"):
        ao.Optimizer(x, ao.SGD()).step_rows([0, 1], x[2:4])


def test_decay_that_leaves_nothing_is_refused(in_python):
    x = start()
    opt = ao.Optimizer(x, ao.SGD(1.0, weight_decay=1.0, decoupled=True))
    before = x.copy()
    with fails(ValueError, "lr * weight_decay is 1, expected less than 1"):
        opt.step_rows([0], np.ones((1, WIDTH)))
    np.testing.assert_array_equal(x, before)
    assert opt.t == 0
    opt.flush()


def test_lazy_is_one_of_two():
    with fails(ValueError, "lazy is 'never', expected one of exact, touched"):
        ao.Optimizer(start(), ao.SGD(), lazy="never")


def test_a_name_is_needed_where_there_are_several():
    opt = ao.Optimizer({"a": start(), "b": start()}, ao.SGD())
    with fails(KeyError, "name is None, expected one of 'a', 'b'"):
        opt.step_rows([0], np.ones((1, WIDTH)))


def test_scalars_that_are_shared_need_a_step_of_all():
    opt = ao.Optimizer({"a": start(), "b": start()}, ao.AdaGradNorm())
    with fails(ValueError, "params['a'] is stepped by rows without the others", "its G is one for"):
        opt.step_rows([0], np.ones((1, WIDTH)), "a")


def test_the_gradient_norm_of_rows_under_a_penalty_is_refused():
    opt = ao.Optimizer(start(), ao.AdaGrad(), ao.L1(0.1))
    with fails(ValueError, "the gradient of params is sparse with L1", "not stationary either"):
        opt.gradient_norm(([0], np.ones((1, WIDTH))))


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["rmsprop", "momentum", "adagrad-l1", "adagrad-decoupled-schedule"]
)
def test_a_checkpoint_goes_on_to_the_last_bit(name, tmp_path, in_python):
    method, prox = EXACT[name]
    gs = list(batches(60))
    x = start()
    a = ao.Optimizer({"a": x, "b": x.copy()}, method, prox)
    for places, g in gs[:30]:
        a.step_rows(places, g, "a")
        if places[0]:
            a.step_rows(places, g, "b")
    a.save(tmp_path / "run.npz")
    b = ao.Optimizer({"a": np.zeros_like(x), "b": x}, method, prox)
    b.load(tmp_path / "run.npz")
    c = ao.Optimizer({"a": np.zeros_like(x), "b": x}, method, prox)
    c.load_state_dict(a.state_dict())
    for opt in (a, b, c):
        for places, g in gs[30:]:
            opt.step_rows(places, g, "a")
            opt.step_rows(places, g, "b")
        opt.flush()
    for opt in (b, c):
        assert opt.t == a.t
        for name in "ab":
            assert_near(opt.params[name], a.params[name], 1e-13)


def test_a_checkpoint_without_waiting_rows_ends_the_waiting(in_python):
    a, b = ao.Optimizer(start(), ao.RMSProp()), ao.Optimizer(start(), ao.RMSProp())
    a.step(np.ones((ROWS, WIDTH)))
    for _ in range(5):
        b.step_rows([0], np.ones((1, WIDTH)))
    b.load_state_dict(a.state_dict())
    b.flush()
    np.testing.assert_array_equal(a.state["E"], b.state["E"])


# -- one accumulator a row -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_row_wise_adagrad_is_fbgemms_formula(dtype, decay, request):
    if decay and dtype == np.float64:
        request.getfixturevalue("in_python")
    x = start(dtype, width=37)
    expected, s = x.astype(np.float64), np.zeros(ROWS)
    opt = ao.Optimizer(x, ao.RowWiseAdaGrad(0.1, weight_decay=decay))
    for _, g in batches(20, dtype, width=37, size=ROWS):
        opt.step(g)
        g = g + decay * expected
        s += np.mean(g**2, axis=1)
        expected -= 0.1 / (np.sqrt(s) + 1e-8)[:, None] * g
    rtol = 1e-12 if dtype == np.float64 else 1e-4
    np.testing.assert_allclose(x, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(opt.state["G"], s, rtol=rtol)
    rates = np.repeat(0.1 / (np.sqrt(s) + 1e-8), 37).reshape(x.shape)
    np.testing.assert_allclose(opt.learning_rates(), rates, rtol=rtol)


def test_row_wise_adagrad_keeps_one_number_a_row():
    opt = ao.Optimizer({"a": start(), "b": start(rows=5)}, ao.RowWiseAdaGrad())
    assert [opt.state[name]["G"].shape for name in "ab"] == [(ROWS,), (5,)]


@pytest.mark.parametrize("shape", [(), (7,)])
def test_row_wise_adagrad_is_adagrad_where_rows_are_numbers(shape):
    x, y = np.full(shape, 2.0), np.full(shape, 2.0)
    a, b = ao.Optimizer(x, ao.RowWiseAdaGrad(0.1)), ao.Optimizer(y, ao.AdaGrad(0.1))
    for k in range(5):
        g = (np.arange(1.0, 1 + x.size) + k).reshape(shape)
        a.step(g)
        b.step(g)
    np.testing.assert_allclose(x, y, rtol=1e-15)


def test_row_wise_adagrad_minimizes_by_name(in_python):
    x0 = np.arange(6.0).reshape(3, 2)
    res = ao.minimize(
        lambda x: (float(np.sum(x * x)), 2 * x), x0, jac=True, method="rowwiseadagrad",
        options={"lr": 1.0},
    )  # fmt: skip
    assert res.success
    assert res.state.slots["G"].shape == (3,)


# -- tables in files -------------------------------------------------------------------------------


def test_a_table_and_its_state_in_files(tmp_path):
    x = np.memmap(tmp_path / "table", np.float32, "w+", shape=(ROWS, WIDTH))
    x[:] = start(np.float32)
    y = start(np.float32)
    (tmp_path / "state").mkdir()
    options = {"state_dir": tmp_path / "state"}
    a = ao.Optimizer({"t/1": x, "w": np.ones(2)}, ao.RMSProp(0.01), **options)
    b = ao.Optimizer({"t/1": y, "w": np.ones(2)}, ao.RMSProp(0.01))
    for places, g in batches(30, np.float32):
        for opt in (a, b):
            opt.step({"t/1": (places, g), "w": np.ones(2)})
    np.testing.assert_array_equal(x, b.params["t/1"])
    files = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert files == ["t%2F1.E.npy", "t%2F1.last.npy"]
    E = np.load(tmp_path / "state" / files[0]).reshape(ROWS, WIDTH)
    np.testing.assert_array_equal(E, b.state["t/1"]["E"])
    with fails(FileExistsError, "state_dir has t%2F1.E.npy already"):
        ao.Optimizer({"t/1": x}, ao.RMSProp(0.01), **options)


def test_state_files_are_for_tables_in_files(tmp_path):
    with fails(ValueError, "state_dir is", "expected numpy.memmap"):
        ao.Optimizer(start(), ao.SGD(), state_dir=tmp_path)


@pytest.mark.parametrize("of_file", [lambda t: t.copy(), np.zeros_like], ids=["copy", "like"])
def test_a_copy_of_a_memory_map_lies_in_no_file(tmp_path, of_file):
    table = of_file(np.memmap(tmp_path / "table", np.float32, "w+", shape=(ROWS, WIDTH)))
    with fails(ValueError, "with params in memory, expected numpy.memmap of mode 'r+' or 'w+'"):
        ao.Optimizer(table, ao.SGD(), state_dir=tmp_path)


def test_what_is_written_to_memory_only_is_resumed_from_the_folder(tmp_path):
    """A map of mode "c" does not write to its file."""
    for name in "ab":
        np.memmap(tmp_path / name, np.float32, "w+", shape=(4, 2)).flush()

    def made(**options):
        params = {
            name: np.memmap(tmp_path / name, np.float32, mode, shape=(4, 2))
            for name, mode in (("a", "r+"), ("b", "c"))
        }
        return ao.Optimizer(params, ao.AdaGrad(0.5), state_dir=tmp_path, **options)

    opt = made()
    opt.step({name: ([1], np.ones((1, 2), np.float32)) for name in "ab"})
    opt.save()
    again = made(resume=True)
    for name in "ab":
        np.testing.assert_array_equal(again.params[name], opt.params[name])
        np.testing.assert_array_equal(again.state[name]["G"], opt.state[name]["G"])


def in_files(folder, mode="r+", **options):
    """Return an optimizer of a table in a file, and of a matrix in memory."""
    table = np.memmap(folder / "table", np.float32, mode, shape=(ROWS, WIDTH))
    params = {"t": table, "w": np.ones((2, 2))}
    method = ao.RMSProp(0.01, momentum=0.9)
    return ao.Optimizer(params, method, state_dir=folder, **options)


def steps(opt, first, count):
    for places, g in list(batches(first + count, np.float32))[first:]:
        opt.step({"t": (places, g), "w": np.ones((2, 2))})


def test_a_table_in_files_goes_on_where_it_is(tmp_path, in_python):
    whole, part = tmp_path / "whole", tmp_path / "part"
    for folder in (whole, part):
        folder.mkdir()
    a = in_files(whole, "w+")
    steps(a, 0, 20)
    b = in_files(part, "w+")
    steps(b, 0, 8)
    b.save()
    steps(b, 8, 4)
    b.save()
    b = in_files(part, resume=True)
    assert b.t == 12
    steps(b, 12, 8)
    for opt in (a, b):
        opt.flush()
    for name in ("t", "w"):
        np.testing.assert_array_equal(a.params[name], b.params[name])
        for slot in ("E", "b"):
            np.testing.assert_array_equal(a.state[name][slot], b.state[name][slot])


def test_files_that_have_moved_on_are_not_resumed(tmp_path, in_python):
    opt = in_files(tmp_path, "w+")
    opt.save()
    steps(opt, 0, 1)
    with fails(FileNotFoundError, "state_dir has no optimizer.npz, expected that of save()"):
        in_files(tmp_path, resume=True)


@pytest.mark.parametrize("change", [{"method": "momentum"}, {"rows": 3}, {"missing": "t.E.npy"}])
def test_files_of_another_state_are_not_resumed(tmp_path, change, in_python):
    opt = in_files(tmp_path, "w+")
    steps(opt, 0, 1)
    opt.save()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    if "missing" in change:
        (tmp_path / change["missing"]).unlink()
    rows = change.get("rows", ROWS)
    table = np.memmap(tmp_path / "table", np.float32, "r+", shape=(rows, WIDTH))
    method = ao.Momentum(0.01) if "method" in change else ao.RMSProp(0.01, momentum=0.9)
    with pytest.raises((ValueError, FileNotFoundError)):
        ao.Optimizer({"t": table, "w": np.ones((2, 2))}, method, state_dir=tmp_path, resume=True)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == before[path.name]


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"method": ao.RMSProp(momentum=0.9)}, {"method": ao.RMSProp()}),
        ({"method": ao.Momentum()}, {"method": ao.Momentum(lr_inside=True)}),
        ({"method": ao.AdaGrad(), "master": True}, {"master": False}),
    ],
    ids=["slots", "meaning", "master"],
)
def test_files_that_would_be_left_behind_are_not_resumed(tmp_path, given, change):
    def made(mode, method, **options):
        table = np.memmap(tmp_path / "table", np.float16, mode, shape=(4, 2))
        return ao.Optimizer(table, method, state_dir=tmp_path, **options)

    made("w+", **given).save()
    with fails(ValueError, "expected"):
        made("r+", **given | change, resume=True)
    made("r+", **given, resume=True)


def test_a_refused_optimizer_leaves_no_files(tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    table = np.memmap(tmp_path / "table", np.float32, "w+", shape=(4, 2))
    methods = {"t": ao.Adam(0.1), "w": ao.AdaGrad(eps=1e-60)}
    with fails(ValueError, "eps is 1e-60"):
        ao.Optimizer({"t": table, "w": np.ones(2, "f4")}, methods, state_dir=state)
    (state / "t.v.npy").touch()
    with fails(FileExistsError, "t.v.npy already"):
        ao.Optimizer({"t": table}, ao.Adam(0.1), state_dir=state)
    assert [path.name for path in state.iterdir()] == ["t.v.npy"]


def test_resume_needs_a_folder(tmp_path):
    with fails(ValueError, "resume is True without state_dir"):
        ao.Optimizer(start(), ao.SGD(), resume=True)
    with fails(TypeError, "path is None without state_dir"):
        ao.Optimizer(start(), ao.SGD()).save()


def test_a_checkpoint_goes_into_files_without_being_read_whole(tmp_path):
    import tracemalloc

    table = np.memmap(tmp_path / "table", np.float32, "w+", shape=(100_000, 16))
    opt = ao.Optimizer(table, ao.AdaGrad(0.1), state_dir=tmp_path)
    opt.step_rows([1], np.ones((1, 16), np.float32))
    opt.save(tmp_path / "run")
    opt.step_rows([1, 3], np.ones((2, 16), np.float32))
    tracemalloc.start()
    opt.load(tmp_path / "run")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000  # of 12.8 MB: some chunks
    assert (opt.t, opt.state["G"][1, 0], opt.state["G"][3, 0]) == (1, 1.0, 0.0)


BEYOND = """
import os, resource, sys
import numpy as np, adaptopt as ao
folder, rows, width = sys.argv[1], 250_000, 256  # 256 MB, and as much state
table = np.memmap(folder + "/table", np.float32, "w+", shape=(rows, width))
small = np.zeros((9, width), np.float32)
rng = np.random.default_rng(0)
for x in (small, table):  # the first compiles
    if x is table:
        used = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + (128 << 20),) * 2)
        try:
            np.ones(1 << 28, np.uint8)
        except MemoryError:
            pass
        else:
            sys.exit("the limit does not hold")
    options = {"state_dir": folder} if x is table else {}
    opt = ao.Optimizer(x, ao.RMSProp(0.01), **options)
    for _ in range(20):
        places = rng.integers(0, len(x), 500)
        opt.step_rows(places, np.ones((500, width), np.float32))
    opt.catch_up(places)
assert (table[places] < 0).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit that does not count files")
def test_a_table_larger_than_the_memory_allowed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BEYOND, str(tmp_path)], check=False, capture_output=True, text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# -- a real use ------------------------------------------------------------------------------------


def test_the_cost_does_not_depend_on_the_size_of_the_table():
    """In allocations, which can be counted: nothing of the table's size is made in a step."""
    import tracemalloc

    x = np.zeros((200_000, 8), np.float32)
    opt = ao.Optimizer(x, ao.RMSProp(0.01))
    g = np.ones((50, 8), np.float32)
    opt.step_rows(np.arange(50), g)
    tracemalloc.start()
    opt.step_rows(np.arange(50), g)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_a_mean_of_squares_may_fit_where_their_sum_does_not():
    table, g = np.zeros((2, 128), np.float32), np.full((1, 128), 1e19, np.float32)
    g[0, 3] = 3e19
    opt = ao.Optimizer(table, ao.RowWiseAdaGrad(lr=1.0))
    opt.step_rows([1], g)
    mean = (127 * 1e38 + 9e38) / 128
    np.testing.assert_allclose(opt.state["G"], [0, mean], rtol=1e-6)
    np.testing.assert_allclose(table[1, :4], -g[0, :4] / np.sqrt(mean), rtol=1e-6)


@pytest.mark.parametrize("prox", [None, ao.L1(0.0), ao.ElasticNet(0.0, 0.0)], ids=str)
@pytest.mark.parametrize("method", [ao.AdaGrad, ao.RowWiseAdaGrad])
def test_an_infinite_rate_leaves_idle_rows(method, prox, request):
    """lr / eps overflows float32."""
    if prox is not None:
        request.getfixturevalue("in_python")
    table = np.ones((3, 2), np.float32)
    opt = ao.Optimizer(table, method(lr=5.0, eps=1.2e-38), prox)
    opt.step_rows([0], np.zeros((1, 2), np.float32))
    opt.step_rows([1], np.ones((1, 2), np.float32))
    opt.flush()
    assert table.tolist() == [[1, 1], [-4, -4], [1, 1]]


# -- nothing to do ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 0), (0, 3)])
@pytest.mark.parametrize(
    "method",
    [ao.RowWiseAdaGrad(), ao.SGD(0.1, weight_decay=0.1, decoupled=True), ao.RMSProp(momentum=0.9)],
    ids=["row-wise", "decay", "rmsprop"],
)
def test_tables_without_entries_take_steps(shape, method):
    x = np.ones(shape)
    opt = ao.Optimizer(x, method, clip_norm=1.0)
    rows = np.arange(shape[0], dtype=np.int64)
    opt.step_rows(rows, np.ones(shape))
    opt.step(np.ones(shape))
    opt.step_rows(rows, np.ones(shape))
    opt.catch_up(rows)
    opt.flush()
    other = ao.Optimizer(np.ones(shape), method, clip_norm=1.0)
    other.load_state_dict(opt.state_dict())
    assert (other.t, opt.learning_rates().shape, opt.gradient_norm(x)) == (3, shape, 0)
    assert all(np.isfinite(slot).all() for slot in opt.state.values())


def test_more_rows_than_a_number_of_32_bits_are_refused():
    table = np.lib.stride_tricks.as_strided(np.zeros(1), (2**32 + 1,), (0,))
    with fails(ValueError, "params have 4294967297 rows, expected at most 4294967296"):
        read_rows("rows", [0], table, HOST)
