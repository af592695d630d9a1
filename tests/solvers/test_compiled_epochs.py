"""Epochs over CSR rows in compiled calls: exactly the steps of the dense path, at less cost.

What the epochs compute is tested by running their kernels in Python; with one kernel of each shape,
what a compiler makes of them.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import OptimizeWarning

import adaptopt as ao
from adaptopt.prox.base import Proximal
from adaptopt.solvers.averaging import Average
from adaptopt.solvers.sparse_epochs import SparseEpochs

ROWS, COLUMNS = 60, 40


def problem(kind=ao.problems.Logistic, dtype=np.float64, **options):
    """Columns of unequal popularity: some are idle for long."""
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((ROWS, COLUMNS)) * (
        rng.random((ROWS, COLUMNS)) < np.geomspace(0.9, 0.01, COLUMNS)
    )
    A = sparse.csr_array(dense.astype(dtype))
    y = np.where(rng.random(ROWS) < 0.5, 1.0, -1.0)
    return kind(A, y, **options)


def both(p, method, prox=None, epochs=3, batch_size=4, x0=0.3, request=None, **options):
    """Run a problem in compiled epochs, and as a function of row numbers, a dense step a batch.

    With a request, the latter has Python run its kernels: none is compiled for it.
    """
    x0 = np.full(p.n_features, x0, p.A.dtype)
    keywords = {
        "method": method,
        "prox": prox,
        "epochs": epochs,
        "batch_size": batch_size,
        "rng": 5,
        **options,
    }
    compiled = ao.minimize_finite_sum(p, x0, None, **keywords)
    if request:
        request.getfixturevalue("in_python")
    plain = ao.minimize_finite_sum(p.batch, x0, len(p), **keywords)
    return compiled, plain


def is_compiled(p, method, prox=None, average=None):
    x = np.zeros(p.n_features, p.A.dtype)
    prox = prox or Proximal()
    average = Average(average, x) if average else None
    return isinstance(
        SparseEpochs.of(ao.Optimizer(x, method, prox), p, prox, average), SparseEpochs
    )


METHODS = {
    "sgd": ao.SGD(0.1),
    "adagrad": ao.AdaGrad(0.3),
    "adagrad-inside": ao.AdaGrad(0.3, eps=1e-2, eps_inside=True, initial_accumulator=0.1),
    "adagrad-schedule": ao.AdaGrad(ao.schedules.inverse_time(0.3, 0.01)),
    "sgd-schedule": ao.SGD(ao.schedules.cosine(0.1, 20)),  # it ends in rates of 0
    "sgd-decay": ao.SGD(0.1, weight_decay=0.3),
    "adagrad-decoupled": ao.AdaGrad(0.3, weight_decay=0.3, decoupled=True),
    "rmsprop": ao.RMSProp(0.05, eps=1e-3),
    "rmsprop-centered": ao.RMSProp(0.05, eps=1e-3, centered=True),
    "rmsprop-momentum": ao.RMSProp(0.05, eps=1e-3, momentum=0.8),
    "rmsprop-nesterov": ao.RMSProp(0.05, eps=1e-3, momentum=0.8, nesterov=True),
    "rmsprop-all": ao.RMSProp(0.05, eps=1e-3, momentum=0.8, centered=True),
    "momentum": ao.Momentum(0.05),
    "momentum-dampening": ao.Momentum(0.05, dampening=0.5, lr_inside=True),
    "nesterov": ao.Momentum(0.05, nesterov=True),
    "dual-averaging": ao.AdaGradDA(0.3, eps=1e-2),
    "dual-averaging-l1": ao.AdaGradDA(0.3, eps=1e-2, l1=0.02),
    "dual-averaging-l1-l2": ao.AdaGradDA(0.3, eps=1e-2, l1=0.01, l2=0.05),
    "rmsprop-schedule": ao.RMSProp(ao.schedules.inverse_time(0.05, 0.1), eps=1e-3),
    "rmsprop-momentum-schedule": ao.RMSProp(
        ao.schedules.inverse_time(0.05, 0.1), eps=1e-3, momentum=0.8, lr_inside=True
    ),
    "dual-averaging-schedule": ao.AdaGradDA(ao.schedules.inverse_time(0.3, 0.1), eps=1e-2),
    "ftrl": ao.FTRL(0.3),
    "ftrl-l1-l2": ao.FTRL(0.3, l1=0.5, l2=0.1),
    "ftrl-schedule": ao.FTRL(ao.schedules.inverse_time(0.3, 0.1)),
    "dual-averaging-l1-schedule": ao.AdaGradDA(lambda t: 0.3 / t**0.5, eps=1e-2, l1=0.02),
}
MAPS = {
    "none": None,
    "box": ao.Box(-0.2, 0.25),
    "l1": ao.L1(0.01),
    "l2": ao.L2(0.05),
    "elastic": ao.ElasticNet(0.01, 0.05),
    "elastic-without-l2": ao.ElasticNet(0.01, 0.0),
    "l1-in-box": ao.L1(0.01).within(ao.Box(-0.2, 0.25)),
    "elastic-array": ao.ElasticNet(np.linspace(0, 0.02, COLUMNS), 0.05),
}
# Every method without a map, every map with one method, and bounds with each number of slots.
PAIRS = [
    *[(method, "none") for method in METHODS],
    *[("adagrad", name) for name in MAPS],
    *[(method, "box") for method in ("sgd", "momentum", "rmsprop-centered", "rmsprop-all")],
    *[(method, "box") for method in ("dual-averaging-l1", "dual-averaging-l1-schedule")],
    *[("sgd", "elastic-array"), ("adagrad-schedule", "box"), ("rmsprop-momentum-schedule", "box")],
    *[("sgd-schedule", "l1"), ("adagrad-schedule", "l1"), ("adagrad-schedule", "l1-in-box")],
]
# Coordinates that stay, or move alone by steps or rates; sums; decay. Three slots are compiled with
# a history below, a map of arrays in float32.
COMPILED = [
    ("adagrad-schedule", "none"), ("sgd-decay", "none"), ("ftrl-l1-l2", "none"),
    ("adagrad-schedule", "l1-in-box"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "name"), dict.fromkeys(PAIRS))
@pytest.mark.parametrize("batch_size", [1, 7])
def test_compiled_epochs_take_the_steps_of_the_dense_path(method, name, batch_size, request):
    if (method, name) not in COMPILED:
        request.getfixturevalue("in_python")
    p, method, prox = problem(), METHODS[method], MAPS[name]
    assert is_compiled(p, method, prox)
    compiled, plain = both(p, method, prox, batch_size=batch_size, epochs=2, request=request)
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-12, atol=1e-15)
    for slot, array in plain.state.slots.items():
        np.testing.assert_allclose(compiled.state.slots[slot], array, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(compiled.epoch_losses, plain.epoch_losses, rtol=1e-12)
    np.testing.assert_allclose(compiled.learning_rates, plain.learning_rates, rtol=1e-12)
    assert (compiled.nit, compiled.nfev, compiled.fun) == (
        plain.nit, plain.nfev, pytest.approx(plain.fun)
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["LeastSquares", "Huber", "Logistic", "Hinge", "SquaredHinge"])
@pytest.mark.parametrize(
    "options", [{}, {"intercept": True}, {"sample_weight": np.arange(ROWS) % 3}]
)
def test_every_loss_with_intercept_and_weights(kind, options, in_python):
    p = problem(getattr(ao.problems, kind), **options)
    for batch_size in (1, 8):
        compiled, plain = both(p, ao.AdaGrad(0.1), ao.L1(0.01), batch_size=batch_size, epochs=1)
        np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-11, atol=1e-14)


def test_float32(request):
    p = problem(dtype=np.float32)
    compiled, plain = both(p, ao.AdaGrad(0.1), MAPS["elastic-array"], request=request)
    assert compiled.x.dtype == np.float32
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-3, atol=1e-5)


def test_l1_dual_averaging_leaves_exact_zeros(in_python):
    res = ao.minimize_finite_sum(
        problem(), np.zeros(COLUMNS), None, method=ao.AdaGradDA(0.3, l1=0.05), epochs=5, rng=0
    )
    assert (res.x == 0).sum() > 5


@pytest.mark.parametrize(
    ("method", "prox"),
    [
        (ao.Adam(), None),
        (ao.RMSProp(), ao.L1(0.1)),
        (ao.AdaGrad(ao.schedules.cosine(0.1, 9)), ao.L2(0.1)),
        (ao.AdaGrad(weight_decay=0.1), None),
        (ao.SGD(weight_decay=0.1), ao.L1(0.1)),
        (ao.SGD(ao.schedules.cosine(0.1, 9), weight_decay=0.1), None),
        (ao.FTRL(ao.schedules.cosine(0.1, 9), l1=0.1), None),
        (ao.AdaGrad(), ao.L2Ball(1.0)),
        (ao.RMSProp(momentum=0.9), ao.L1(0.1)),
        (ao.Momentum(ao.schedules.cosine(0.1, 9)), None),
    ],
)
def test_what_has_no_closed_form_goes_the_dense_way(method, prox, in_python):
    p = problem()
    assert not is_compiled(p, method, prox)
    compiled, plain = both(p, method, prox, epochs=1)
    np.testing.assert_array_equal(compiled.x, plain.x)


@pytest.mark.parametrize("method", [ao.RMSProp, ao.AdaGradDA])
def test_steps_before_a_rate_that_cannot_be_computed_are_taken(method, in_python):
    def lr(t):
        if t == 9:
            raise ArithmeticError("no rate")
        return 0.1 / t

    states = []
    for fun, data in ((problem(), None), (problem().batch, ROWS)):
        with pytest.raises(ArithmeticError, match="no rate") as error:
            ao.minimize_finite_sum(
                fun, np.zeros(COLUMNS), data, method=method(lr, eps=1e-2), batch_size=4, rng=1
            )
        states.append(error.value.state)
    assert is_compiled(problem(), method(lr, eps=1e-2))
    assert [state.t for state in states] == [8, 8]
    np.testing.assert_allclose(states[0].x, states[1].x, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("rows", "point"), [("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize("method", [ao.AdaGrad(0.3), ao.Adam(0.01)])  # along nonzeros, or the whole
def test_rows_of_another_dtype_than_x0(rows, point, method, request):
    if (rows == "float32") != (method == ao.Adam(0.01)):
        request.getfixturevalue("in_python")
    p = problem(dtype=rows)
    keywords = {"method": method, "epochs": 2, "batch_size": 4, "rng": 5}
    x0 = np.full(COLUMNS, 0.3, point)
    compiled = ao.minimize_finite_sum(p, x0, None, **keywords)
    request.getfixturevalue("in_python")
    plain = ao.minimize_finite_sum(p.batch, x0, ROWS, **keywords)
    assert compiled.x.dtype == point
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-4, atol=1e-6)
    if compiled.path.startswith("compiled dense"):
        np.testing.assert_array_equal(compiled.x, plain.x)


def test_the_order_depends_on_the_rng_alone(in_python):
    p = problem()
    runs = [
        ao.minimize_finite_sum(p, np.zeros(COLUMNS), None, epochs=2, rng=seed).x
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.mark.parametrize("split", [1, 3])
def test_going_on_is_exact(split, tmp_path, in_python):
    def go(epochs, **others):
        return ao.minimize_finite_sum(
            problem(), np.zeros(COLUMNS), None, method=ao.AdaGrad(0.3), prox=ao.L1(0.01),
            epochs=epochs, rng=3, validation=problem(ao.problems.Hinge), **others,
        )  # fmt: skip

    whole, first = go(5), go(split)
    first.state.save(tmp_path / "run.npz")
    rest = go(5 - split, state=tmp_path / "run.npz")
    np.testing.assert_array_equal(rest.x, whole.x)
    assert rest.fun == whole.fun


def test_calls_are_cut_so_that_limits_are_seen(monkeypatch, in_python):
    from adaptopt.solvers import sparse_epochs as compiled_epochs

    whole, _ = both(problem(), ao.AdaGrad(0.3), ao.L1(0.01))
    monkeypatch.setattr(compiled_epochs, "ENTRIES", 50)
    cut, _ = both(problem(), ao.AdaGrad(0.3), ao.L1(0.01))
    np.testing.assert_array_equal(whole.x, cut.x)


def test_long_gaps_are_cut(monkeypatch, in_python):
    from adaptopt.solvers import sparse_epochs as compiled_epochs

    whole, plain = both(problem(), ao.RMSProp(0.05, eps=1e-3), batch_size=1)
    monkeypatch.setattr(compiled_epochs, "LONGEST", 50)
    cut, _ = both(problem(), ao.RMSProp(0.05, eps=1e-3), batch_size=1)
    np.testing.assert_allclose(cut.x, plain.x, rtol=1e-12)
    assert not np.array_equal(cut.state.slots["E"], whole.state.slots["E"])


def test_drop_last_and_no_shuffle():
    compiled, plain = both(problem(), ao.AdaGrad(0.3), batch_size=7, drop_last=True, shuffle=False)
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-12)
    assert compiled.nit == plain.nit == 3 * (ROWS // 7)


def test_a_value_that_is_not_finite_ends_the_run(in_python):
    p = problem(ao.problems.LeastSquares, dtype=np.float32)
    res = ao.minimize_finite_sum(
        p, np.zeros(COLUMNS, np.float32), None, method=ao.SGD(1e30), epochs=5, rng=0
    )
    assert (res.status, res.success) == (3, False)
    assert np.isfinite(res.x).all()


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize("average", ["uniform", "polynomial"])
@pytest.mark.parametrize(
    ("method", "name"), [("adagrad-schedule", "none"), ("sgd", "box"), ("rmsprop", "none")]
)
def test_an_average_takes_in_what_stays_when_it_is_touched(
    method, name, average, batch_size, request
):
    if method != "adagrad-schedule":
        request.getfixturevalue("in_python")
    p, method, prox = problem(intercept=True), METHODS[method], MAPS[name]
    assert is_compiled(p, method, prox, average)
    compiled, plain = both(p, method, prox, batch_size=batch_size, average=average, request=request)
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(compiled.state.average, plain.state.average, rtol=1e-12, atol=1e-15)
    assert compiled.state.average_count == plain.state.average_count


def test_an_average_goes_on_exactly(in_python):
    def go(epochs, **others):
        return ao.minimize_finite_sum(
            problem(), np.zeros(COLUMNS), None, epochs=epochs, rng=3, average="uniform", **others
        )

    np.testing.assert_array_equal(go(3, state=go(2).state).x, go(5).x)


def test_an_average_of_what_moves_is_taken_at_every_step():
    for method, prox in ((ao.Momentum(0.01), None), (ao.AdaGrad(0.3), ao.L1(0.01))):
        assert not is_compiled(problem(), method, prox, "uniform")


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "compiled sparse epochs"),
        ({"method": ao.Adam()}, "compiled dense epochs: Adam has no closed form of steps without"),
        ({"options": {"nan_policy": "omit"}}, "Python loop: nan_policy='omit'"),
        ({"prox": ao.L2Ball(1.0)}, "Python loop: L2Ball ties coordinates together"),
    ],
)
def test_the_result_says_how_it_ran(options, path, in_python):
    res = ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, epochs=1, rng=0, **options)
    assert res.path.startswith(path)


def test_what_slows_a_run_down_is_said_once_at_the_callers_line(in_python):
    n = 20_000
    A = sparse.random_array((50, n), density=1e-4, rng=np.random.default_rng(0))
    p = ao.problems.LeastSquares(A, np.ones(50))
    keywords = {"epochs": 100, "batch_size": 1, "rng": 0}
    no_time = {"maxtime": 0}  # it is said of the steps to come
    with pytest.warns(OptimizeWarning, match="goes through all 20000 coordinates") as caught:
        ao.minimize_finite_sum(p, np.zeros(n), None, method=ao.Adam(), options=no_time, **keywords)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    options = {**no_time, "nan_policy": "omit"}
    with pytest.warns(OptimizeWarning, match="through Python, .* nan_policy='omit'"):
        ao.minimize_finite_sum(
            p, np.zeros(n), None, method=ao.AdaGrad(0.1), options=options, **keywords
        )


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("adagrad", "elastic"),
        ("adagrad-schedule", "l1"),
        ("rmsprop-all", "box"),
        ("dual-averaging-l1", "none"),
    ],
)
def test_a_history_is_recorded_in_the_compiled_calls(method, name, batch_size, request):
    if name not in ("box", "elastic"):  # the values of a history have a penalty, or none
        request.getfixturevalue("in_python")
    p, method, prox = problem(intercept=True), METHODS[method], MAPS[name]
    options = {"history": 3, "history_rates": 2}
    compiled, plain = both(p, method, prox, batch_size=batch_size, options=options, request=request)
    assert compiled.path == "compiled sparse epochs"
    assert compiled.history.keys() == plain.history.keys()
    for column, values in plain.history.items():
        np.testing.assert_allclose(compiled.history[column], values, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-12, atol=1e-15)


class Touched:
    """Take the steps of an Optimizer whose rows are those of one coordinate each."""

    def __init__(self, p, method, prox, batch_size):
        x = np.full((p.n_features, 1), 0.3)
        self.opt = ao.Optimizer(x, method, prox=prox, lazy="touched")
        self.x = x[:, 0]
        order = np.random.default_rng(5).permutation(ROWS)
        for k in range(0, ROWS, batch_size):
            rows = order[k : k + batch_size]
            columns = np.unique(p.A[rows].indices)
            g = p.batch(self.x.copy(), rows)[1]
            self.opt.step_rows(columns, g[columns, None])


@pytest.mark.parametrize("batch_size", [1, 7])
@pytest.mark.parametrize(
    ("method", "prox"),
    [
        (ao.Adam(0.05), None),
        (ao.AdaDelta(), None),
        (ao.RMSProp(0.05, momentum=0.9, weight_decay=0.1), ao.L1(0.01)),
        (ao.Momentum(ao.schedules.inverse_time(0.05, 0.1)), ao.Box(-0.2, 0.25)),
    ],
)
def test_touched_leaves_other_coordinates_alone(method, prox, batch_size, request):
    if method != ao.Adam(0.05):
        request.getfixturevalue("in_python")
    p = problem()
    res = ao.minimize_finite_sum(
        p, np.full(COLUMNS, 0.3), None, method=method, prox=prox, batch_size=batch_size, epochs=1,
        rng=5, lazy="touched",
    )  # fmt: skip
    assert res.path == "compiled sparse epochs: lazy='touched'"
    request.getfixturevalue("in_python")
    start = prox.feasible(np.full(COLUMNS, 0.3)) if prox else np.full(COLUMNS, 0.3)
    if prox is None:
        expected = Touched(p, method, prox, batch_size).x
        np.testing.assert_allclose(res.x, expected, rtol=1e-12, atol=1e-15)
    assert (res.x != start).sum() > 20


def test_touched_needs_sparse_rows():
    dense = ao.problems.LeastSquares(np.eye(3), np.ones(3))
    with pytest.raises(ValueError, match="lazy is 'touched', expected 'exact', because fun is no"):
        ao.minimize_finite_sum(dense, np.zeros(3), None, lazy="touched")


def test_progress_counts_every_step(capsys, in_python):
    ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, epochs=1, progress=True, rng=0)
    assert f"{-(-ROWS // 32)}/{-(-ROWS // 32)}" in capsys.readouterr().err


def test_a_users_method_with_an_idle_form_takes_part(request):
    def counting(x, g, n, lr):
        return x - lr * g, lr, (n + g * g,)

    @dataclass(frozen=True)
    class Counting(ao.Method):
        lr: float = 0.1
        slots = ("n",)
        rests = True
        rule = staticmethod(counting)
        rate = staticmethod(lambda n, lr: lr)
        idle = staticmethod(lambda k, x, n, lr: (x, (n,)))

    assert is_compiled(problem(), Counting(), ao.L1(0.01))
    compiled, plain = both(problem(), Counting(), ao.L1(0.01), request=request)
    np.testing.assert_allclose(compiled.x, plain.x, rtol=1e-12, atol=1e-15)
