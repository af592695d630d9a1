"""Epochs on several threads: nothing is lost without locks, and what is deterministic stays so.

A kernel of several threads takes seconds to compile: there are two. What does not depend on
threads is tested by running the kernels in Python, on a smaller problem.
"""

import numba
import numpy as np
import pytest
from scipy import sparse

import adaptopt as ao
from adaptopt.solvers import hogwild

ROWS, COLUMNS = 3000, 200
FEW = 200

several = pytest.mark.skipif(numba.get_num_threads() < 2, reason="there is one thread")


def matrix(dtype=np.float64, index=np.int32, rows=ROWS):
    """Columns of very unequal popularity."""
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((rows, COLUMNS)) * (
        rng.random((rows, COLUMNS)) < np.geomspace(0.9, 0.01, COLUMNS)
    )
    A = sparse.csr_array(dense.astype(dtype))
    A.indices, A.indptr = A.indices.astype(index), A.indptr.astype(index)
    return A


def problem(kind=ao.problems.Hinge, dtype=np.float64, index=np.int32, rows=ROWS, **options):
    rng = np.random.default_rng(1)
    A = matrix(dtype, index, rows)
    y = np.where(A @ rng.standard_normal(COLUMNS) + rng.standard_normal(rows) > 0, 1.0, -1.0)
    return kind(A, y, **options)


def run(p, parallel="hogwild", **options):
    keywords = {"method": ao.AdaGrad(), "epochs": 3, "batch_size": 1, "rng": 0, **options}
    x0 = keywords.pop("x0", np.zeros(p.n_features, p.A.dtype))
    return ao.minimize_finite_sum(p, x0, None, parallel=parallel, **keywords)


# With all margins below 1 the slopes of a hinge do not depend on the point: every order of the
# steps ends at the same sums, if no addition is lost. In float32, of numbers that it adds exactly.
STEADY = {
    "sgd": ao.SGD(1e-7),
    "adagrad": ao.AdaGrad(1e-7),
    "dual-averaging": ao.AdaGradDA(1e-5, eps=1e-2),
    "dual-averaging-l1-l2": ao.AdaGradDA(1e-5, eps=1e-2, l1=0.01, l2=0.05),
}


@several
@pytest.mark.parametrize(("name", "batch_size"), [*zip(STEADY, (1, 7, 7, 1), strict=True)])
def test_no_addition_is_lost(name, batch_size, request):
    # These two add to all that any of them adds to: to the point and its slots, or to sums alone.
    compiled = name in ("adagrad", "dual-averaging-l1-l2")
    if not compiled:
        request.getfixturevalue("in_python")
    p = problem(rows=ROWS if compiled else FEW, intercept=True)
    if name == "dual-averaging-l1-l2":
        A = matrix(np.float32, np.int64)
        A.data = np.round(A.data * 4) / 4
        p = ao.problems.Hinge(A, p.targets, intercept=True)
    keywords = {"method": STEADY[name], "batch_size": batch_size}
    threads, serial = run(p, **keywords), run(p, None, **keywords)
    for slot, array in serial.state.slots.items():
        np.testing.assert_allclose(threads.state.slots[slot], array, rtol=1e-9, atol=1e-12)
    if name != "adagrad":  # there a rate depends on what was seen before the step
        atol = 1e-8 * np.abs(serial.x).max()
        np.testing.assert_allclose(threads.x, serial.x, rtol=1e-8, atol=atol)
    assert (threads.nit, threads.nfev) == (serial.nit, serial.nfev)


@several
def test_it_comes_as_near_to_the_minimum_as_one_thread():
    p = problem(intercept=True)
    start = p.value(np.zeros(COLUMNS + 1))
    least = ao.minimize(p, np.zeros(COLUMNS + 1), jac=True, options={"lr": 0.5}).fun
    gaps = [run(p, parallel, epochs=10, options={"lr": 0.1}).fun - least
            for parallel in ("hogwild", None)]  # fmt: skip
    assert gaps[0] < 2 * gaps[1] + 0.01 * (start - least)


@several
def test_bounds_hold(in_python):
    res = run(problem(rows=FEW), epochs=1, bounds=[(-0.1, 0.2)] * COLUMNS, options={"lr": 0.3})
    assert res.x.min() == -0.1
    assert res.x.max() == 0.2


@several
def test_it_runs_on_all_threads(monkeypatch):
    calls = []
    p = problem()
    once = hogwild.HogwildEpochs._run
    monkeypatch.setattr(
        hogwild.HogwildEpochs, "_run", lambda self, *args: calls.append(1) or once(self, *args)
    )
    run(p, epochs=2)
    assert len(calls) == 2


def test_on_one_thread_it_is_the_serial_run():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        one = run(problem())
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(one.x, run(problem(), None).x)


@several
def test_it_counts_what_it_did_and_goes_on():
    p = problem()
    first = run(p, epochs=2, validation=p, callback=lambda xk: None)
    assert (first.nit, first.epochs, first.state.t) == (2 * ROWS, 2, 2 * ROWS)
    assert first.epoch_losses[1] < first.epoch_losses[0] < 1
    rest = run(p, state=first.state)
    assert rest.state.t == 5 * ROWS
    assert rest.fun < first.fun


@several
def test_schedules_count_the_steps_of_all_threads():
    seen = []

    def lr(t):
        seen.append(t)
        return 0.1 / t**0.5

    run(problem(), method=ao.AdaGrad(lr), epochs=1)
    assert max(seen) == ROWS


@several
def test_a_run_that_ends_above_its_start_is_no_success(in_python):
    p = problem(ao.problems.LeastSquares, rows=FEW)
    res = run(p, method=ao.SGD(0.07), epochs=1)
    assert p.value(np.zeros(COLUMNS)) < res.fun < np.inf
    assert (res.status, res.success) == (1, False)
    assert "above its start" in res.message


@several
def test_a_value_that_is_not_finite_ends_the_run(in_python):
    p = problem(ao.problems.LeastSquares, rows=FEW)
    res = run(p, method=ao.SGD(1e300))
    assert (res.status, res.success) == (3, False)
    assert np.isfinite(res.x).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": ao.RMSProp()}, "RMSProp, expected SGD, AdaGrad or AdaGradDA"),
        ({"method": ao.Adam()}, "does not add up"),
        ({"prox": ao.L1(0.1)}, "apply the penalty"),
        ({"method": ao.AdaGrad(weight_decay=0.1)}, "weight_decay is coupled"),
        ({"method": ao.SGD(weight_decay=0.1)}, "each thread would apply the decay"),
        ({"average": "uniform"}, "with average"),
        ({"options": {"history": True}}, "history"),
        ({"options": {"nan_policy": "omit"}}, "omit"),
    ],
)
def test_what_does_not_add_up_is_refused(options, reason, in_python):
    with pytest.raises(ValueError, match="parallel is 'hogwild'") as error:
        run(problem(rows=FEW), **options)
    assert reason in str(error.value)


def test_dense_rows_are_refused():
    p = ao.problems.Logistic(np.ones((5, 2)), np.ones(5))
    with pytest.raises(ValueError, match="exchange all of them"):
        run(p)


# -- deterministic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [8, 1500])
@pytest.mark.parametrize("stored", [lambda A: A, lambda A: A.toarray()], ids=["csr", "dense"])
def test_deterministic_has_the_same_bits_on_any_number_of_threads(stored, batch_size, monkeypatch):
    monkeypatch.setattr("adaptopt.kernels.parallel.THREADED_FROM", 1)
    p = ao.problems.Logistic(stored(matrix()), np.ones(ROWS))
    before = numba.get_num_threads()
    found = []
    for threads in {1, before}:
        numba.set_num_threads(threads)
        found.append(run(p, "deterministic", batch_size=batch_size))
    numba.set_num_threads(before)
    np.testing.assert_array_equal(found[0].x, found[-1].x)
    assert found[0].fun == found[-1].fun


def test_deterministic_takes_the_same_steps_but_for_rounding():
    p = problem()
    shared, serial = (run(p, parallel, batch_size=1500) for parallel in ("deterministic", None))
    assert p.shares(1500)
    np.testing.assert_allclose(shared.x, serial.x, rtol=1e-11)


def test_deterministic_is_for_every_function():
    A = np.random.default_rng(0).standard_normal((50, 3))
    runs = [
        ao.minimize_finite_sum(
            lambda x, A: (((A @ x - 1) ** 2).mean(), 2 * (A @ x - 1) @ A / len(A)), np.zeros(3), A,
            parallel=parallel, rng=0,
        ).x
        for parallel in (None, "deterministic")
    ]  # fmt: skip
    np.testing.assert_array_equal(*runs)
