"""Online play within epochs: the rounds of a tracker are those of a loop in Python."""

import pickle

import numpy as np
import pytest
from scipy import sparse

import adaptopt as ao
from adaptopt.regret.tracker import Tracker

ROWS, COLUMNS = 43, 20
BOX = ao.Box(-1.0, 1.0)
SUMS = ("rounds", "cumulative_loss", "gradient_sum", "squared_gradients")


def rows():
    """Columns of unequal popularity: some are idle for long."""
    rng = np.random.default_rng(0)
    often = rng.random((ROWS, COLUMNS)) < np.geomspace(0.9, 0.02, COLUMNS)
    return rng.standard_normal((ROWS, COLUMNS)) * often, rng.choice([-1.0, 1.0], ROWS)


def problem(is_sparse=True, kind=ao.problems.Logistic, **options):
    A, y = rows()
    return kind(sparse.csr_array(A) if is_sparse else A, y, **options)


def by_hand(p, x0, method, batch, epochs=2, tracker=None, prox=None):
    """Play each batch before the step along its gradient."""
    x, order = x0.copy(), np.random.default_rng(5)
    opt, tracker = ao.Optimizer(x, method, prox=prox), tracker or Tracker(BOX)
    for _ in range(epochs):
        rows = order.permutation(len(p))
        for start in range(0, len(p), batch):
            f, g = p.batch(x, rows[start : start + batch])
            tracker.play(x, f, g)
            opt.step(g)
    return tracker


def in_the_loop(p, x0, method, batch, tracker, epochs=2, data=None, fun=None, **options):
    return ao.minimize_finite_sum(
        *(fun or p, x0, data),
        method=method,
        batch_size=batch,
        epochs=epochs,
        rng=5,
        tracker=tracker,
        **options,
    )


def assert_same(found, expected, tolerance=1e-12):
    for name in SUMS:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=tolerance, atol=tolerance
        )
    assert found.linearised_regret() == pytest.approx(expected.linearised_regret(), rel=1e-10)
    for column, values in expected.course().items():
        np.testing.assert_allclose(found.course()[column], values, rtol=1e-9)


@pytest.mark.parametrize("batch", [1, 4])
def test_sparse_epochs_play_what_a_loop_in_python_plays(batch):
    p, tracker = problem(intercept=True), Tracker(BOX)
    x0 = np.full(COLUMNS + 1, 0.1)
    res = in_the_loop(p, x0, ao.AdaGrad(0.3), batch, tracker)
    assert res.path == "compiled sparse epochs"
    expected = by_hand(p, x0, ao.AdaGrad(0.3), batch)
    assert_same(tracker, expected)
    np.testing.assert_allclose(tracker.average, expected.average, rtol=1e-12)
    assert tracker.certificate(l1=0.1) == pytest.approx(expected.certificate(l1=0.1), rel=1e-10)


def test_dense_epochs_play_the_same_bits():
    p, tracker, x0 = problem(is_sparse=False), Tracker(BOX), np.full(COLUMNS, 0.1)
    res = in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker)
    assert res.path == "compiled dense epochs"
    expected = by_hand(p, x0, ao.AdaGrad(0.3), 4)
    assert_same(tracker, expected, tolerance=0)
    np.testing.assert_array_equal(tracker.average, expected.average)


def test_the_loop_in_python_plays_the_same_bits():
    p, x0 = problem(is_sparse=False), np.full(COLUMNS, 0.1)
    tracker = Tracker(BOX, keep=True)
    res = in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker)
    assert res.path == "Python loop: the tracker keeps all points"
    expected = by_hand(p, x0, ao.AdaGrad(0.3), 4, tracker=Tracker(BOX, keep=True))
    assert_same(tracker, expected, tolerance=0)
    np.testing.assert_array_equal(tracker.points, expected.points)
    np.testing.assert_array_equal(tracker.gradients, expected.gradients)


def test_points_that_move_without_a_gradient_are_left_out(in_python):
    p, tracker, x0 = problem(), Tracker(BOX), np.zeros(COLUMNS)
    method = ao.AdaGradDA(0.3, l1=0.02)
    assert in_the_loop(p, x0, method, 1, tracker).path == "compiled sparse epochs"
    assert_same(tracker, by_hand(p, x0, method, 1))
    with pytest.raises(ValueError, match=r"average needs the points.*a run did not sum"):
        tracker.average  # noqa: B018
    with pytest.raises(ValueError, match="expected Tracker\\(points=True\\)"):
        tracker.certificate(l1=0.1)
    assert tracker.certificate() > 0


def test_points_are_summed_if_asked_even_if_that_costs_whole_steps(in_python):
    p, tracker, x0 = problem(), Tracker(BOX, points=True), np.zeros(COLUMNS)
    method = ao.AdaGradDA(0.3, l1=0.02)
    res = in_the_loop(p, x0, method, 4, tracker)
    assert res.path.startswith("compiled dense epochs: a tracker with points=True")
    expected = by_hand(p, x0, method, 4).average
    np.testing.assert_allclose(tracker.average, expected, rtol=1e-12)


def test_a_problem_of_several_classes_plays_at_the_cost_of_its_entries():
    A, _ = rows()
    p = ao.problems.Multinomial(sparse.csr_array(A), np.arange(ROWS) % 3)
    x0, tracker = np.zeros((COLUMNS, 3)), Tracker(BOX)
    assert in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker).path == "compiled sparse epochs"
    expected = by_hand(p, x0, ao.AdaGrad(0.3), 4)
    assert_same(tracker, expected)
    np.testing.assert_allclose(tracker.average, expected.average, rtol=1e-12)


def test_rounds_go_on_from_run_to_run_and_by_hand():
    p, tracker, x0 = problem(), Tracker(BOX), np.full(COLUMNS, 0.1)
    first = in_the_loop(p, x0, ao.AdaGrad(0.3), 1, tracker, epochs=1)
    in_the_loop(p, x0, ao.AdaGrad(0.3), 1, tracker, epochs=1, state=first.state)
    expected = by_hand(p, x0, ao.AdaGrad(0.3), 1)
    assert_same(tracker, expected)
    for one in (tracker, expected):
        one.play(x0, 1.0, np.ones(COLUMNS))
    assert_same(tracker, expected)


def test_an_interrupt_neither_loses_a_round_nor_plays_one_twice():
    p, x0, tracker = problem(is_sparse=False), np.full(COLUMNS, 0.1), Tracker(BOX)
    calls = 0

    def fun(x, rows):
        nonlocal calls
        calls += 1
        if calls == 7:
            raise KeyboardInterrupt
        return p.batch(x, rows)

    given = {"data": ROWS, "fun": fun, "epochs": 1}
    with pytest.raises(KeyboardInterrupt) as caught:
        in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker, **given)
    assert tracker.rounds == 6
    in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker, **given, state=caught.value.state)
    assert_same(tracker, by_hand(p, x0, ao.AdaGrad(0.3), 4, epochs=1), tolerance=0)
    value, _ = tracker._mean_of_runs()(x0)
    known = (p.batch(x0, rows) for rows in batches(4))
    assert value == pytest.approx(np.mean([f for f, _ in known]), rel=1e-12)


def batches(size):
    """The first epoch's batches."""
    order = np.random.default_rng(5).permutation(ROWS)
    return [order[start : start + size] for start in range(0, ROWS, size)]


def test_the_best_fixed_point_is_that_of_the_batches_played():
    p, tracker, x0 = problem(), Tracker(BOX), np.zeros(COLUMNS)
    in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker, epochs=1)

    def mean(u):
        values, gradients = zip(*(p.batch(u, rows) for rows in batches(4)), strict=True)
        return np.mean(values), np.mean(gradients, 0)

    u, value = tracker.best_fixed()
    expected, least = tracker.best_fixed(mean)
    assert value == pytest.approx(least, rel=1e-10)
    np.testing.assert_allclose(u, expected, atol=1e-5)
    assert tracker.regret_of() == pytest.approx(
        tracker.cumulative_loss - tracker.rounds * least, rel=1e-10
    )


def test_the_best_fixed_point_of_unknown_rounds_needs_their_loss():
    p, tracker = problem(), Tracker(BOX)
    in_the_loop(p, np.zeros(COLUMNS), ao.AdaGrad(0.3), 4, tracker, epochs=1)
    copy = pickle.loads(pickle.dumps(tracker))
    tracker.play(np.zeros(COLUMNS), 1.0, np.ones(COLUMNS))
    for one in (tracker, copy):
        with pytest.raises(ValueError, match=r"fun is None, and .* of 1"):
            one.best_fixed()
    assert copy.rounds == tracker.rounds - 1


@pytest.mark.parametrize("is_row", [True, False])
@pytest.mark.parametrize("points", [True, False])
def test_a_sparse_round_is_the_round_of_its_dense_gradient(points, is_row):
    A, _ = rows()
    x = np.linspace(-1, 1, COLUMNS)
    matrix, found, expected = sparse.csr_array(A), Tracker(BOX, points=points), Tracker(BOX)
    for i in range(5):
        row = matrix[[i]] if is_row else sparse.coo_array(A[i])
        found.play(x * i, 0.5, row)
        expected.play(x * i, 0.5, A[i])
    assert_same(found, expected)
    if points:
        np.testing.assert_array_equal(found.average, expected.average)


def test_a_sparse_round_adds_entries_that_occur_twice():
    row = sparse.csr_array((np.ones(3), np.array([4, 4, 1]), np.array([0, 3])), shape=(1, 6))
    tracker = Tracker(points=False)
    for _ in range(2):
        tracker.play(np.zeros(6), 0.0, row)
    assert tracker.squared_gradients.tolist() == [0, 2, 0, 0, 8, 0]
    assert row.nnz == 3


def test_a_sparse_round_must_fit():
    tracker = Tracker(points=False)
    with pytest.raises(ValueError, match=r"g has shape \(1, 5\), expected \(6,\) like x"):
        tracker.play(np.zeros(6), 0.0, sparse.csr_array((1, 5)))
    tracker.play(np.zeros(6), 0.0, sparse.csr_array((1, 6)))
    with pytest.raises(ValueError, match="x has entries that are not finite"):
        tracker.play(np.full(6, np.nan), 0.0, sparse.csr_array(np.ones((1, 6))))
    assert tracker.rounds == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "adagrad"}, "tracker is given with lr='auto', expected a method with a rate"),
        ({"parallel": "hogwild"}, "tracker is given with parallel='hogwild'"),
        ({"options": {"nan_policy": "omit"}}, "tracker is given with nan_policy='omit'"),
        ({"options": {"check_every": 2}}, "tracker is given with check_every=2"),
    ],
)
def test_what_is_no_online_play_is_refused(options, message):
    given = {"method": ao.AdaGrad(0.3), "tracker": (tracker := Tracker()), **options}
    with pytest.raises(ValueError, match=message):
        ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, **given)
    assert tracker.rounds == 0


def test_a_tracker_must_be_one_and_fit():
    p, x0 = problem(), np.zeros(COLUMNS)
    with pytest.raises(TypeError, match=r"tracker is 3, expected an adaptopt\.regret\.Tracker"):
        in_the_loop(p, x0, ao.AdaGrad(0.3), 4, 3)
    tracker = Tracker()
    tracker.play(np.zeros(2), 0.0, np.zeros(2))
    with pytest.raises(ValueError, match=r"x0 has shape \(20,\), expected \(2,\)"):
        in_the_loop(p, x0, ao.AdaGrad(0.3), 4, tracker)
    with pytest.raises(ValueError, match="domain has bounds of shapes"):
        in_the_loop(p, x0, ao.AdaGrad(0.3), 4, Tracker(ao.Box(np.zeros(3), 1.0)))
    with pytest.raises(TypeError, match="points is 'all', expected True, False or None"):
        Tracker(points="all")
