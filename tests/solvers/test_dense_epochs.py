"""Epochs along whole gradients in compiled calls: to the last bit the loop over batches in Python.

A problem runs compiled; the same problem as a function of row numbers, ``p.batch``, does not.
"""

import pickle
import re
import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from methods_table import EACH_SHAPE, KERNEL_OF, METHODS, in_turn, takes
from numba import njit
from scipy import sparse

import adaptopt as ao
from adaptopt.objectives.exchange import HostExchange
from adaptopt.objectives.finite_sum import read_sum
from adaptopt.solvers.dense_epochs import DenseEpochs

ROWS, COLUMNS = 45, 70  # products in lanes and a rest; a short last batch
TABLE = {**METHODS, "adagrad-norm": ao.AdaGradNorm(0.1)}
MAPS = {
    "none": None,
    "box": ao.Box(-0.2, 0.25),
    "l1": ao.L1(0.01),
    "elastic": ao.ElasticNet(np.linspace(0, 0.02, COLUMNS), 0.05),
}
AVERAGES = (None, "uniform", "polynomial")
RATED = ao.AdaGrad(0.2)


def problem(kind=ao.problems.Logistic, dtype=np.float64, columns=COLUMNS, **options):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((ROWS, columns)).astype(dtype)
    return kind(A, np.where(rng.random(ROWS) < 0.5, 1.0, -1.0), **options)


def both(p, method=RATED, prox=None, x0=0.3, validation=(None, None), **options):
    """Run a problem compiled, and as a function of row numbers in Python."""
    x0 = np.full(p.n_features, x0, p.A.dtype)
    keywords = {"method": method, "prox": prox, "epochs": 2, "batch_size": 7, "rng": 5, **options}
    compiled = ao.minimize_finite_sum(p, x0, None, validation=validation[0], **keywords)
    plain = ao.minimize_finite_sum(p.batch, x0, len(p), validation=validation[1], **keywords)
    return compiled, plain


def assert_same(ours, theirs):
    """Compare everything that a run returns, to the last bit."""
    assert ours.keys() == theirs.keys()
    # A problem is known to be convex, a function of row numbers is not.
    for key in ours.keys() - {"state", "certificate", "lower_bound", "path"}:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)
    assert pickle.dumps(ours.state) == pickle.dumps(theirs.state)


def test_without_a_rate_too():
    """A problem finds other units than a function of rows, so Python takes the problem's steps."""
    p = problem()
    ours, theirs = (
        ao.minimize_finite_sum(p, np.full(COLUMNS, 0.3), None, batch_size=7, rng=5, options=options)
        for options in ({}, {"nan_policy": "omit"})
    )
    assert (ours.path[:8], theirs.path[:6]) == ("compiled", "Python")
    np.testing.assert_array_equal(ours.x, theirs.x)


@pytest.fixture
def calls(monkeypatch):
    """How many steps every compiled call took."""
    taken = []
    run = DenseEpochs.run

    def counted(self, rows, batch):
        finite = run(self, rows, batch)
        taken.append(int(self.taken[0]))
        return finite

    monkeypatch.setattr(DenseEpochs, "run", counted)
    return taken


# -- the same bits ---------------------------------------------------------------------------------

# Each shape of kernel with one map and dtype in turn, the rows of the table with those of their
# kernel, and one method with all of them.
CHOICES = {
    name: (map_ if takes(KERNEL_OF.get(name, "sgd"), MAPS[map_]) else "box", dtype)
    for name, map_, dtype in in_turn([*EACH_SHAPE, "adagrad-norm"], MAPS, ("float32", "float64"))
}
CASES = {
    (name, *CHOICES[kernel])
    for name, kernel in [(name, KERNEL_OF.get(name, name)) for name in TABLE]
    if kernel in CHOICES
} | {("adam-decay", prox, dtype) for prox, dtype in in_turn(MAPS, ("float32", "float64"))}

# Of no array to three, of scalars, with both decays; in Python the others run. One that measures is
# compiled below, for several blocks.
COMPILED = ("sgd-decoupled", "adam-decay", "nadam", "rmsprop-centered-momentum")


@pytest.mark.parametrize(("name", "prox", "dtype"), sorted(CASES))
def test_every_method_takes_the_steps_of_the_loop_in_python(name, prox, dtype, calls, request):
    p = problem(dtype=dtype)
    kernel = KERNEL_OF.get(name, name)
    compiled = kernel in COMPILED and prox == CHOICES.get(kernel, ("elastic",))[0]
    if not compiled:
        request.getfixturevalue("in_python")
    # In Python, where a step takes long, each batch size and average once.
    each = product((1, 7), AVERAGES) if compiled else zip((7, 1, 7), AVERAGES, strict=True)
    for batch_size, average in each:
        before = len(calls)
        assert_same(*both(p, TABLE[name], MAPS[prox], batch_size=batch_size, average=average))
        assert len(calls) > before


@pytest.mark.parametrize("kind", ["LeastSquares", "Huber", "Logistic", "Hinge", "SquaredHinge"])
@pytest.mark.parametrize("columns", [5, COLUMNS])
def test_every_loss_with_intercept_and_weights(kind, columns, calls, in_python):
    for options in ({"intercept": True}, {"sample_weight": np.arange(ROWS) % 3 // 2}):
        p = problem(getattr(ao.problems, kind), columns=columns, **options)
        for batch_size in (1, 8):
            assert_same(*both(p, ao.AdaGrad(0.1), ao.L1(0.01), batch_size=batch_size))
    assert calls


@pytest.mark.parametrize(
    ("method", "average"),
    [(ao.Adam(), None), (ao.Momentum(), "uniform"), (ao.FTRL(), "polynomial")],
)
def test_csr_rows_too_where_there_is_no_epoch_at_the_cost_of_the_nonzeros(
    method, average, calls, request
):
    if average != "uniform":
        request.getfixturevalue("in_python")
    rng = np.random.default_rng(0)
    A = sparse.random_array((ROWS, COLUMNS), density=0.1, rng=rng, format="csr")
    p = ao.problems.LeastSquares(A, rng.standard_normal(ROWS), intercept=True)
    assert_same(*both(p, method, average=average))
    assert calls


@pytest.mark.parametrize(
    "options",
    [
        {"drop_last": True},
        {"shuffle": False},
        {"batch_size": ROWS},
        {"batch_size": 2 * ROWS},
        {"bounds": [(-0.1, 0.2)] * COLUMNS, "prox": ao.L2(0.1)},
        {"tol": 0.5, "epochs": 50},
        {"options": {"patience": 2}, "epochs": 50},
        {"validation": (problem(ao.problems.Hinge), problem(ao.problems.Hinge))},
        {"validation": (lambda x: float(x @ x),) * 2, "average": "polynomial"},
    ],
    ids=lambda options: "-".join(options),
)
def test_everything_else_is_as_in_python(options, calls, request):
    if "bounds" in options:
        request.getfixturevalue("in_python")
    assert_same(*both(problem(), **options))
    assert calls


def test_float32_steps_compute_in_float32():
    """But for the mean of the iterates, which needs neither roots nor quotients."""
    from adaptopt.kernels import compile as build
    from adaptopt.kernels.dense_epoch import dense_epoch

    p = problem(dtype=np.float32)
    x = np.zeros(COLUMNS, np.float32)
    with pytest.MonkeyPatch.context() as patch:
        # Numba shows no code of what it has loaded from the disk.
        patch.setattr(build, "enable_cache", lambda dispatcher: None)
        dense_epoch.cache_clear()
        total = read_sum(p, None, (), HostExchange(x))
        calls = DenseEpochs.of(ao.Optimizer(x, ao.AdaGrad()), total, None, x.copy())
    dense_epoch.cache_clear()
    code = "".join(calls._kernel.inspect_llvm().values())
    assert re.search(r"fdiv <\d+ x float>", code)
    assert re.search(r"@llvm.sqrt.v\d+f32", code)
    assert not re.search(r"fdiv <\d+ x double>|@llvm.sqrt.(v\d+)?f64", code)


def test_the_squared_norm_of_several_blocks():
    rng = np.random.default_rng(0)
    p = ao.problems.LeastSquares(rng.standard_normal((4, 100_000)), np.ones(4))
    assert_same(*both(p, ao.AdaGradNorm(), x0=0.0, batch_size=1))


# -- what has to be seen between steps -------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_is_not_finite_ends_the_run(average, dtype, calls, in_python):
    p = problem(ao.problems.LeastSquares, dtype=dtype)
    method = ao.SGD(1e4 if dtype == np.float32 else 1e30)
    compiled, plain = both(p, method, batch_size=5, epochs=9, average=average)
    assert compiled.status == 3
    assert np.isfinite(compiled.x).all()
    assert_same(compiled, plain)
    with pytest.raises(FloatingPointError, match=r"not finite|value"):
        both(p, method, epochs=9, options={"nan_policy": "raise"})
    assert calls


def test_calls_grow_from_one_step_and_are_cut_by_time(monkeypatch, calls):
    given = {"method": ao.AdaGrad(0.01), "batch_size": 1, "rng": 0, "epochs": 3}
    whole = ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, **given)
    assert calls[:2] == [1, 17]
    assert len(calls) <= 3 + 2
    calls.clear()
    monkeypatch.setattr("adaptopt.solvers.pace.SECONDS", 0.0)
    cut = ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, **given)
    assert calls == [*range(1, ROWS + 1)] * 3
    assert_same(cut, whole)


def test_maxtime_is_looked_at_before_every_call():
    res = ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, options={"maxtime": 0})
    assert (res.status, res.nit) == (4, 0)


def test_progress_counts_every_step(capsys):
    ao.minimize_finite_sum(
        problem(), np.zeros(COLUMNS), None, batch_size=7, epochs=2, progress=True
    )
    assert "14/14" in capsys.readouterr().err


def test_a_callback_sees_every_epoch():
    seen = [[], []]
    for k, run in enumerate((problem(), problem().batch)):
        keywords = {"method": RATED, "rng": 0, "callback": seen[k].append, "epochs": 3}
        ao.minimize_finite_sum(run, np.zeros(COLUMNS), ROWS if k else None, **keywords)
    np.testing.assert_array_equal(*seen)


def test_a_schedule_is_asked_for_the_steps_of_the_calls(in_python):
    asked = []

    def schedule(t):
        asked.append(t)
        return 0.1 / t

    ao.minimize_finite_sum(problem(), np.zeros(COLUMNS), None, method=ao.SGD(schedule), epochs=2)
    assert set(asked) == {1, 2, 3, 4}


def test_a_schedule_that_fails_does_so_at_its_step(in_python):
    def schedule(t):
        if t > 10:
            raise OverflowError("t")
        return 0.1

    states = []
    for fun, data in ((problem(), None), (problem().batch, ROWS)):
        with pytest.raises(OverflowError) as caught:
            ao.minimize_finite_sum(
                fun, np.zeros(COLUMNS), data, method=ao.SGD(schedule), batch_size=2, rng=0
            )
        states.append(caught.value.state)
    assert states[0].t == 10
    assert pickle.dumps(states[0]) == pickle.dumps(states[1])


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [ao.Nadam(), ao.FTRL(), ao.AdaGradNorm(), ao.AdaDelta()])
@pytest.mark.parametrize("average", AVERAGES)
def test_going_on_within_an_epoch_is_exact(method, average, monkeypatch, tmp_path, request):
    """As after a Ctrl-C during the kernel, which Python raises when it returns."""
    if method != ao.Nadam():
        request.getfixturevalue("in_python")
    monkeypatch.setattr("adaptopt.solvers.pace.SECONDS", 0.0)
    p, x0 = problem(), np.zeros(COLUMNS)
    keywords = {"method": method, "batch_size": 7, "rng": 5, "average": average}
    whole = ao.minimize_finite_sum(p, x0, None, epochs=3, **keywords)
    for name in ("run", "end"):
        original, count = getattr(DenseEpochs, name), []

        def interrupted(self, *arguments, original=original, count=count):
            value = original(self, *arguments)
            count.append(1)
            if self._optimizer.t + self.taken[0] in (10, 14) and len(count) < 100:
                count.extend([1] * 100)
                raise KeyboardInterrupt
            return value

        monkeypatch.setattr(DenseEpochs, name, interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            ao.minimize_finite_sum(p, x0, None, epochs=3, **keywords)
        monkeypatch.setattr(DenseEpochs, name, original)
        state = caught.value.state
        assert state.t == {"run": 10, "end": 7}[name]
        state.save(tmp_path / "run.npz")
        for data, fun in ((None, p), (ROWS, p.batch)):
            rest = ao.minimize_finite_sum(
                fun, x0, data, epochs=3 - state.epoch, state=tmp_path / "run.npz", **keywords
            )
            np.testing.assert_array_equal(rest.x, whole.x)
            assert pickle.dumps(rest.state) == pickle.dumps(whole.state)


# -- what stays in Python --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"prox": ao.GroupL2(0.1, np.arange(COLUMNS) // 10)},
        {"prox": ao.Simplex()},
        {"prox": ao.L2Ball(1.0)},
        {"options": {"history": True}},
        {"options": {"nan_policy": "omit"}},
    ],
    ids=["groups", "simplex", "ball", "history", "omit"],
)
def test_what_is_not_compiled_takes_the_steps_in_python(options, calls, recwarn):
    p = problem()
    runs = [
        ao.minimize_finite_sum(
            fun, np.zeros(COLUMNS), data, method=RATED, rng=0, epochs=2, **options
        )
        for fun, data in ((p, None), (p.batch, ROWS))
    ]
    np.testing.assert_array_equal(runs[0].x, runs[1].x)
    assert pickle.dumps(runs[0].state) == pickle.dumps(runs[1].state)
    assert not calls
    assert not recwarn


def test_long_points_are_left_to_the_threads(monkeypatch, calls):
    monkeypatch.setattr("adaptopt.solvers.dense_epochs.SERIAL_BELOW", COLUMNS)
    assert_same(*both(problem()))
    assert not calls


def test_a_problem_that_evaluates_batches_itself_is_asked_for_them():
    class Doubled(ao.problems.LeastSquares):
        def batch(self, x, idx):
            f, g = super().batch(x, idx)
            return 2 * f, 2 * g

    assert_same(*both(problem(Doubled)))


def sign_rule(x, g, n, lr, power, count):
    return x - lr * power * g, lr, (n + count * g,)


@dataclass(frozen=True)
class Own(ao.Method):
    """A user's method with a scalar, and no formula for its rates."""

    lr: float = 0.1
    nesterov: bool = True
    slots = ("n",)
    scalars = {"count": 0.0}  # noqa: RUF012
    rule = staticmethod(sign_rule)
    carry = staticmethod(lambda t, lr, nesterov, count: (count + 1,))
    coefficients = staticmethod(lambda t, lr, nesterov, count: (lr, 0.9**t, count / 7))


def test_a_users_method_takes_part(calls):
    for average in AVERAGES:
        assert_same(*both(problem(), Own(), ao.L1(0.01), average=average))
    assert calls


@dataclass(frozen=True)
class Kept(Own):
    """A scalar that stays as it is."""

    carry = ao.Method.carry


def test_scalars_that_nothing_carries_stay(calls, in_python):
    assert_same(*both(problem(), Kept()))
    assert calls


@dataclass(frozen=True)
class Labelled(Own):
    """A hyperparameter that is no number."""

    label: str = "mine"
    carry = staticmethod(lambda t, lr, nesterov, label, count: (count + 1,))
    coefficients = staticmethod(lambda t, lr, nesterov, label, count: (lr, 0.5, len(label)))


def test_hyperparameters_that_are_no_numbers_stay_in_python(calls, recwarn):
    assert_same(*both(problem(), Labelled()))
    assert not calls
    assert not recwarn


@dataclass(frozen=True)
class Tabled(Own):
    """Coefficients from a table by the number of the step."""

    coefficients = staticmethod(lambda t, lr, nesterov, count: (lr, {1: 0.5}.get(t, 0.25), count))


def test_what_numba_cannot_compile_is_a_warning_and_the_same_steps(calls):
    p, x0 = problem(), np.zeros(COLUMNS)
    with pytest.warns(RuntimeWarning, match="coefficients or carry of Tabled could not") as caught:
        compiled = ao.minimize_finite_sum(p, x0, None, method=Tabled(), rng=0)
    assert caught[0].filename == __file__
    assert_same(compiled, ao.minimize_finite_sum(p.batch, x0, ROWS, method=Tabled(), rng=0))
    assert not calls


# -- compiled functions of row numbers -------------------------------------------------------------


@njit
def in_place(x, idx, g_out, A, b):
    f = 0.0
    g_out[:] = 0
    for i in idx:
        r = -b[i]
        for k in range(x.size):
            r += A[i, k] * x.flat[k]
        f += r * r / 2
        for k in range(x.size):
            g_out.flat[k] += r * A[i, k] / idx.size
    return f / idx.size


@njit
def as_pair(x, idx, A, b):
    g = np.empty_like(x)
    return in_place(x, idx, g, A, b), g


def not_compiled(x, idx, A, b):
    return as_pair(x, idx, A, b)


def over_numbers(fun, x0=None, dtype=np.float64, **options):
    p = problem()
    x0 = np.zeros(COLUMNS) if x0 is None else x0
    keywords = {"batch_size": 7, "epochs": 2, "rng": 5, "method": ao.Adam(), **options}
    args = (p.A.astype(dtype), p.targets.astype(dtype))
    return ao.minimize_finite_sum(fun, x0.astype(dtype), ROWS, args=args, **keywords)


# Each form with each dtype and with each of the options; each option with both dtypes.
@pytest.mark.parametrize(
    ("fun", "dtype", "options"),
    [
        (in_place, np.float32, {}),
        (as_pair, np.float64, {}),
        (in_place, np.float64, {"average": "uniform", "prox": ao.L1(0.01)}),
        (as_pair, np.float32, {"average": "uniform", "prox": ao.L1(0.01)}),
        (in_place, np.float32, {"x0": np.zeros((7, 10)), "validation": np.arange(9)}),
        (as_pair, np.float64, {"x0": np.zeros((7, 10)), "drop_last": True}),
    ],
)
def test_compiled_functions_take_the_steps_of_those_called_from_python(
    fun, dtype, options, calls, request
):
    # Each form and option is compiled once, the other dtype below.
    if (fun, dtype) != (as_pair, np.float32) and "validation" not in options:
        request.getfixturevalue("in_python")
    ours = over_numbers(fun, dtype=dtype, **options)
    assert calls
    calls.clear()
    request.getfixturevalue("in_python")
    assert_same(ours, over_numbers(not_compiled, dtype=dtype, **options))
    assert not calls


@pytest.mark.parametrize("fun", [in_place, as_pair], ids=["in place", "pair"])
def test_what_stays_in_python_calls_compiled_functions_too(fun, calls):
    for options in ({"options": {"history": True}}, {"prox": ao.L2Ball(1.0)}):
        ours, theirs = (over_numbers(f, **options) for f in (fun, not_compiled))
        np.testing.assert_array_equal(ours.x, theirs.x)
        assert ours.fun == theirs.fun
    assert not calls


@njit
def careless(x, idx, g_out, A, b):
    f = in_place(x, idx, g_out, A, b)
    x[:] = 0
    idx[:] = 0
    return f


def test_what_a_function_does_to_its_arguments_stays_there():
    assert_same(over_numbers(careless), over_numbers(in_place))


@njit
def failing(x, idx, g_out, A, b):
    if 5 in idx:
        raise ValueError("row", 5)
    return in_place(x, idx, g_out, A, b)


def failing_in_python(x, idx, A, b):
    if 5 in idx:
        raise ValueError("row", 5)
    return as_pair(x, idx, A, b)


def test_an_exception_arrives_as_itself_with_the_state_after_the_last_step(calls):
    states = []
    for fun in (failing, failing_in_python):
        with pytest.raises(ValueError, match="row") as caught:
            over_numbers(fun, batch_size=2, average="uniform", rng=1)
        assert caught.value.args == ("row", 5)
        states.append(caught.value.state)
    assert states[0].t > 1
    assert pickle.dumps(states[0]) == pickle.dumps(states[1])
    rest, whole = (
        over_numbers(in_place, batch_size=2, average="uniform", rng=1, state=state)
        for state in (states[0], None)
    )
    np.testing.assert_array_equal(rest.x, whole.x)


@njit
def unwritten(x, idx, g_out, A, b):
    return 0.0


def test_a_gradient_that_is_not_written_is_refused(calls, in_python):
    with pytest.raises(TypeError, match="fun writes nothing to g_out, expected the gradient"):
        over_numbers(unwritten, method="adam")
    with pytest.raises(TypeError, match="fun writes nothing to g_out, expected the gradient"):
        over_numbers(unwritten)
    assert calls


@njit
def short_gradient(x, idx, A, b):
    return 0.0, np.zeros(3)


def test_a_gradient_of_another_shape_is_refused(in_python):
    with pytest.raises(ValueError, match=r"gradient has shape \(3,\), expected \(70,\)"):
        over_numbers(short_gradient)


@njit
def turned(x, idx, A, b):
    return 0.0, x.T.copy()


def test_a_row_for_a_column_is_refused(in_python):
    with pytest.raises(ValueError, match=r"the gradient has another shape, expected \(70, 1\)"):
        over_numbers(turned, x0=np.zeros((COLUMNS, 1)))


@njit
def too_few(x, idx):
    return 0.0, x


def test_a_compiled_function_of_too_few_arguments_is_refused():
    with pytest.raises(TypeError, match=r"expected a function that takes 4 .* or 5"):
        over_numbers(too_few)


@njit
def other(x, idx, g_out, A, b):
    return 2 * in_place(x, idx, g_out, A, b)


def test_the_kernel_does_not_depend_on_the_function(calls):
    from adaptopt.kernels.dense_epoch import dense_epoch

    over_numbers(in_place)
    before = dense_epoch.cache_info().misses
    over_numbers(other)
    assert dense_epoch.cache_info().misses == before
    assert calls


@njit
def slow(x, idx, g_out):
    total, g_out[0] = 0.0, 0.0
    for k in range(3_000_000):
        total += np.sin(x[0] + k)
    return total


def test_slow_functions_are_called_a_few_times_a_call():
    """So that limits of time are seen."""
    start = time.perf_counter()
    res = ao.minimize_finite_sum(
        slow, np.zeros(1), 10_000, batch_size=10, options={"maxtime": 0.2}, rng=0
    )
    assert res.status == 4
    assert res.nit < 100
    assert time.perf_counter() - start < 10
