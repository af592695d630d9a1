"""The compiled loop: what it computes is what the loop in Python does, to the last bit.

So does its kernel when Python runs it: with that, methods and maps are tested; with one kernel of
each shape and form, what a compiler makes of it.
"""

import dataclasses
import os
import signal
import threading
import time
from decimal import Decimal

import numba
import numpy as np
import pytest
from methods_table import EACH_SHAPE, KERNEL_OF, METHODS, in_turn, takes
from numba import njit
from numba.core.runtime import _nrt_python, rtsys
from scipy import optimize

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
from adaptopt.solvers import compiled_descent as compiled_run
from adaptopt.solvers.compiled_descent import CompiledRun

SCALE = np.array([10.0, 1.0, 0.01, 5.0, 3.0, 0.3, 0.03])
X0 = np.array([0.0, 1.0, -2.0, 3.5, 7.0, 0.25, -0.125])


# -- one objective in three forms ------------------------------------------------------------------


@njit
def bowl_in_place(x, g_out, centre):
    f = 0.0
    for i in range(x.size):
        d = x[i] - centre
        g_out[i] = SCALE[i] * d
        f += SCALE[i] * d * d / 2
    return f


@njit
def bowl_pair(x, centre):
    g = np.empty_like(x)
    return bowl_in_place(x, g, centre), g


@njit
def bowl_value(x, centre):
    return bowl_pair(x, centre)[0]


@njit
def bowl_gradient(x, centre):
    return bowl_pair(x, centre)[1]


def returning(fun):
    """Return a plain function of a compiled one that writes its gradient."""

    def plain(x, *args):
        g = np.empty_like(x)
        return fun(x, g, *args), g

    return plain


# By name: fun and jac, for the compiled loop and for the one in Python.
FORMS = {
    "in place": ((bowl_in_place, None), (returning(bowl_in_place), True)),
    "pair": ((bowl_pair, True), (lambda x, *args: bowl_pair(x, *args), True)),
    "separate": (
        (bowl_value, bowl_gradient),
        (lambda x, *args: bowl_value(x, *args), lambda x, *args: bowl_gradient(x, *args)),
    ),
}
MAPS = {
    "none": {},
    "bounds": {"bounds": [(-1.0, 2.5)] * 7},
    "L1": {"prox": ao.L1(np.linspace(0.0, 0.9, 7))},
    "L1 in bounds": {"prox": ao.L1(0.3), "bounds": [(-1.0, 2.5)] * 7},
    "elastic net": {"prox": ao.ElasticNet(0.3, 0.1)},
}
DTYPES = [np.float64, np.float32]


class Spy:
    """Counts the calls of compiled runs."""

    def __init__(self, monkeypatch):
        self.calls = 0
        original = CompiledRun._call

        def call(run, most, table):
            self.calls += 1
            return original(run, most, table)

        monkeypatch.setattr(CompiledRun, "_call", call)


@pytest.fixture
def spy(monkeypatch):
    return Spy(monkeypatch)


def assert_equal(a, b, path="result"):
    """Demand equal bits of everything in two results or states, except for how they ran."""
    if dataclasses.is_dataclass(a):
        a, b = vars(a), vars(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a.keys() - {"path"}:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, path
        np.testing.assert_array_equal(a, b, err_msg=path)
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), path
        for k, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, other, f"{path}[{k}]")
    else:
        assert type(a) is type(b), path
        np.testing.assert_equal(a, b, err_msg=path)


def minimize(fun, x0, args=(), method=None, **others):
    """Minimise with a number for the learning rate, if no method is given."""
    return ao.minimize(fun, x0, args, method=method or ao.AdaGrad(), **others)


def both(form, spy, x0=X0, args=(2.0,), request=None, **others):
    """Run both loops; return the result of the compiled one.

    With a request, the one in Python has Python run its kernels: none is compiled for it.
    """
    compiled, plain = FORMS[form] if isinstance(form, str) else form
    spy.calls = 0
    ours = minimize(compiled[0], x0, args, jac=compiled[1], **others)
    assert spy.calls
    spy.calls = 0
    if request:
        request.getfixturevalue("in_python")
    theirs = minimize(plain[0], x0, args, jac=plain[1], **others)
    assert not spy.calls
    assert_equal(ours, theirs)
    return ours


# -- the same bits ---------------------------------------------------------------------------------

# Each shape of kernel with another map, dtype and form, and the rows of the table of methods with
# those of their kernel; the test below has the pairs of map and form that are left. A loop takes
# seconds to compile: these are, of no array to three, of scalars, with decay, in Python the others
# run. AdaGrad's are compiled below: in place, and for a point of two dimensions from a pair.
COMPILED = {
    "sgd-decoupled": ("L1", np.float64, "separate"),
    "nadam": ("L1 in bounds", np.float32, "in place"),
    "rmsprop-centered-momentum": ("bounds", np.float32, "in place"),
}
CHOICES = {
    name: (map_ if takes(name, MAPS[map_].get("prox")) else "bounds", *others)
    for name, map_, *others in in_turn(EACH_SHAPE, MAPS, DTYPES, FORMS)
} | COMPILED
ROWS = [(name, *CHOICES[kernel]) for name, kernel in KERNEL_OF.items() if kernel in CHOICES]


@pytest.mark.parametrize(("name", "map_", "dtype", "form"), ROWS)
def test_every_method_has_the_bits_of_the_loop_in_python(name, map_, dtype, form, spy, request):
    if KERNEL_OF[name] not in COMPILED:
        request.getfixturevalue("in_python")
    both(
        form, spy, X0.astype(dtype), request=request, method=METHODS[name],
        options={"maxiter": 60}, **MAPS[map_],
    )  # fmt: skip


# Every pair of two of them that is not above.
PAIRWISE = [
    (map_, DTYPES[(i + k) % 2], form)
    for i, map_ in enumerate(MAPS)
    for k, form in enumerate(FORMS)
    if (map_, form) not in {(above, its_form) for above, _, its_form in CHOICES.values()}
]


@pytest.mark.parametrize(("map_", "dtype", "form"), PAIRWISE)
def test_every_map_dtype_and_form_has_the_bits_of_the_loop_in_python(
    map_, dtype, form, spy, in_python
):
    both(form, spy, X0.astype(dtype), options={"lr": 0.5, "maxiter": 300}, **MAPS[map_])


OPTIONS = {
    "gtol": {"gtol": 1e-3},
    "ftol": {"ftol": 1e-4, "gtol": None},
    "xtol": {"xtol": 1e-3, "gtol": None},
    "f_target": {"f_target": 0.5},
    "patience": {"patience": 3, "gtol": None},
    "maxiter": {"maxiter": 37},
    "maxiter 0": {"maxiter": 0},
    "maxfev": {"maxfev": 23},
    "history": {"history": True, "maxiter": 30},
    "history of every seventh": {"history": 7, "maxiter": 30},
    "all tests": {"gtol": 1e-6, "ftol": 1e-9, "xtol": 1e-7, "f_target": 1e-9, "patience": 99},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("method", [ao.AdaGrad(0.5), ao.Momentum(0.1)], ids=lambda m: type(m))
def test_every_option_ends_the_run_where_the_loop_in_python_does(options, method, spy, request):
    if isinstance(method, ao.Momentum):
        request.getfixturevalue("in_python")
    both("in place", spy, method=method, options=options)


@pytest.mark.parametrize(
    ("form", "dtype", "prox"),
    in_turn(["in place", "pair", "separate", "in place"], DTYPES, [None, ao.ElasticNet(0.1, 0.2)]),
)
def test_the_certificate_of_a_bounded_domain_has_the_bits_of_the_loop_in_python(
    form, dtype, prox, spy, request
):
    if prox is None or form != "in place" or dtype == np.float32:
        request.getfixturevalue("in_python")
    res = both(
        form, spy, X0.astype(dtype), request=request, bounds=[(-9, 9)] * 7, prox=prox,
        options={"maxiter": 40, "certificate": True},
    )  # fmt: skip
    assert res.certificate > 0


def test_dying_rates_are_diagnosed_as_in_python(spy, in_python):
    @njit
    def hill(x, g_out):
        """A long slope of one steepness."""
        f = 0.0
        for i in range(x.size):
            root = np.sqrt((x[i] - 100.0) ** 2 + 1.0)
            g_out[i] = (x[i] - 100.0) / root
            f += root
        return f

    for method in (ao.AdaGrad(1.0), ao.AdaGrad(ao.schedules.cosine(1.0, 900))):
        res = both(
            ((hill, None), (returning(hill), True)), spy, np.zeros(4), (), method=method,
            options={"maxiter": 500},
        )  # fmt: skip
        assert "The effective learning rates have died" in res.message
        many = ao.minimize_many(hill, np.zeros((2, 4)), method=method, options={"maxiter": 500})
        assert many.message == [res.message] * 2


@njit
def table_bowl(x, centre):
    f, g = 0.0, np.empty_like(x)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            d = x[i, j] - centre
            g[i, j] = 2 * d
            f += d * d
    return f, g


@pytest.mark.parametrize("shape", [(7, 1), (1, 7)])
def test_a_point_of_two_dimensions_is_passed_in_its_shape(shape, spy):
    form = (table_bowl, True), (lambda *a: table_bowl(*a), True)
    res = both(form, spy, X0.reshape(shape))
    assert res.x.shape == res.jac.shape == shape


@njit
def long_bowl(x, g_out, scale):
    total = 0.0
    for i in range(x.size):
        d = x[i] - scale * (i % 7)
        g_out[i] = d
        total += d * d / 2
    return total


LONG = (long_bowl, None), (returning(long_bowl), True)


# Its threads measure the gradient, and take the step: those of other methods do the latter alone.
@pytest.mark.parametrize(
    ("method", "threads"),
    [(ao.AdaGradNorm(0.1), 2), (METHODS["adagrad"], 1)],
    ids=["adagrad-norm", "adagrad"],
)
def test_threads_change_no_bit(method, threads, spy):
    n = max(THREADED_FROM, 200_000) + 5
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        both(LONG, spy, np.zeros(n), method=method, options={"maxiter": 5})
    finally:
        numba.set_num_threads(before)


def test_the_norm_is_summed_in_blocks_as_in_python(spy):
    x0 = np.random.default_rng(0).standard_normal(200_000)
    both(LONG, spy, x0, method=ao.AdaGradNorm(0.1), options={"maxiter": 3})


# -- schedules -------------------------------------------------------------------------------------


@njit
def falling(t):
    return 0.5 / t


SCHEDULES = {
    "constant": ao.schedules.constant(1),
    "inverse time": ao.schedules.inverse_time(0.5, 0.1),
    "exponential": ao.schedules.exponential(0.5, 0.97, 3),
    "cosine": ao.schedules.cosine(0.5, 90, 0.01),
    "piecewise": ao.schedules.piecewise([3, 50], [1, 0.5, 0.25]),
    "nested": ao.schedules.linear_warmup(
        ao.schedules.cosine(ao.schedules.exponential(0.7, 0.99), 90), 10
    ),
    "njit": falling,
    "plain": lambda t: 0.5 / t,
    "of the user": ao.schedules.Schedule(lambda t, a: a / (1 + t // 10), (0.5,)),
    "around the user's": ao.schedules.linear_warmup(lambda t: 0.5 / t, 10),
}


@pytest.mark.parametrize("lr", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_have_pythons_bits(lr, spy):
    both("in place", spy, method=ao.AdaGrad(lr), options={"maxiter": 120})


@pytest.mark.parametrize("lr", SCHEDULES.values(), ids=SCHEDULES)
def test_a_table_of_rates_is_what_lr_at_returns(lr):
    method = ao.AdaGrad(lr)
    table = compiled_run.RateTable(method).fill(3, 200)
    assert table.tolist() == [method.lr_at(t) for t in range(3, 203)]


@pytest.mark.parametrize(
    "lr",
    [
        lambda t: 0.5 if t < 38 else -1.0,
        njit(lambda t: 0.5 if t < 38 else -1.0),
        njit(lambda t: 0.5 if t < 38 else np.nan),
    ],
)
def test_a_bad_rate_is_refused_at_its_step(lr):
    with pytest.raises(
        ValueError, match=r"lr\(38\) is .*, expected a finite number >= 0"
    ) as caught:
        minimize(bowl_in_place, X0, (2.0,), method=ao.AdaGrad(lr))
    good = minimize(bowl_in_place, X0, (2.0,), method=ao.AdaGrad(0.5), options={"maxiter": 37})
    assert caught.value.state.t == 37
    np.testing.assert_array_equal(caught.value.state.x, good.state.x)


# -- values that are not finite --------------------------------------------------------------------


@njit
def cliff(x, g_out, calls, bad):
    """A line that falls; every 20th value is bad."""
    calls[0] += 1
    g_out[:] = -1.0
    if calls[0] % 20 == 0:
        g_out[1] = bad
        return 0.0
    return -x.sum()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("policy", ["stop", "omit"])
@pytest.mark.parametrize("history", [0, 1])
def test_what_is_not_finite_ends_the_run_or_is_left_out(bad, policy, history, spy, in_python):
    options = {"nan_policy": policy, "maxiter": 90, "history": history, "lr": 0.1}

    def run(fun, jac):
        return minimize(fun, np.zeros(3), (np.zeros(1), bad), jac=jac, options=options)

    ours, theirs = run(cliff, None), run(returning(cliff), True)
    assert_equal(ours, theirs)
    assert (ours.status, ours.state.t) == ((3, 19) if policy == "stop" else (1, 86))


def test_nan_policy_raise(in_python):
    with pytest.raises(FloatingPointError, match="step 19") as caught:
        minimize(
            cliff, np.zeros(3), (np.zeros(1), np.nan), options={"nan_policy": "raise", "lr": 0.1}
        )
    assert caught.value.state.t == 19


def test_a_gradient_that_is_left_unwritten_is_no_gradient():
    @njit
    def f(x, g_out, factor):
        for i in range(1, x.size):
            g_out[i] = factor * x[i]
        return 0.0

    for fun in (f, returning(f)):
        res = minimize(f, np.ones(3), (1.0,), options={"maxiter": 3})
        assert (res.status, res.nit) == (3, 0), fun


# -- callbacks, limits, interrupts -----------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3, 50])
def test_the_callback_sees_every_so_manyth_iterate(every):
    def run(fun, jac):
        seen = []

        def callback(intermediate_result):
            r = intermediate_result
            seen.append((r.nit, r.nfev, r.fun, r.x))
            if r.nit >= 100:
                raise StopIteration

        options = {"callback_every": every}
        res = minimize(fun, X0, (2.0,), jac=jac, callback=callback, options=options)
        assert res.status == 99
        return seen, res

    (seen, ours), (expected, theirs) = run(bowl_in_place, None), run(returning(bowl_in_place), True)
    assert_equal(seen, expected)
    assert_equal(ours, theirs)


def test_steps_are_taken_in_calls_of_many(spy):
    res = minimize(bowl_in_place, X0, (2.0,), options={"maxiter": 20_000, "gtol": None})
    assert res.nit == 20_000
    assert spy.calls < 50


@njit
def endless(x, g_out, slope):
    g_out[:] = slope
    return 0.0


def test_maxtime_is_kept():
    start = time.perf_counter()
    res = minimize(endless, np.zeros(10), (1.0,), options={"maxiter": None, "maxtime": 0.3})
    assert res.status == 4
    assert 0.3 <= time.perf_counter() - start < 2


def interrupted(**others):
    """Return how long after the signal the interrupt arrives, and it."""
    sent = []

    def interrupt():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.4, interrupt)
    timer.start()
    try:
        minimize(endless, np.zeros(10), (1.0,), options={"maxiter": None}, **others)
    except KeyboardInterrupt as error:
        return time.perf_counter() - sent[0], error
    finally:
        timer.join()


def test_ctrl_c_is_seen_within_a_tenth_of_a_second_and_leaves_a_state():
    minimize(endless, np.zeros(10), (1.0,), options={"maxiter": 1})
    delays = []
    for _ in range(3):  # others may keep the processor busy
        delay, error = interrupted()
        delays.append(delay)
    assert min(delays) < 0.1
    state = error.state
    assert state.t > 1000
    again = minimize(endless, np.zeros(10), (1.0,), options={"maxiter": state.t})
    np.testing.assert_array_equal(again.state.x, state.x)
    assert_equal(again.state.slots, state.slots)


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["compiled", "python"])
@pytest.mark.parametrize("name", ["adagrad", "nadam", "rmsprop-schedule", "ftrl"])
@pytest.mark.parametrize("split", [0, 1, 23])
def test_a_state_goes_on_in_either_loop(first, name, split, request):
    if name != "adagrad":
        request.getfixturevalue("in_python")
    loops = {"compiled": (bowl_in_place, None), "python": (returning(bowl_in_place), True)}
    second = {"compiled": "python", "python": "compiled"}[first]

    def run(loop, n, **others):
        fun, jac = loops[loop]
        options = {"maxiter": n, "xtol": 0, "gtol": None}
        return minimize(fun, X0, (2.0,), jac=jac, method=METHODS[name], options=options, **others)

    whole = run(first, 50)
    part = run(first, split)
    rest = run(second, 50 - split, state=part.state)
    for key in ("x", "fun", "jac", "learning_rates", "status", "state"):
        assert_equal(rest[key], whole[key], key)


def test_a_state_is_not_modified_by_going_on():
    part = minimize(bowl_in_place, X0, (2.0,), options={"maxiter": 5})
    before = part.state.x.copy(), part.state.jac.copy(), part.state.slots["G"].copy()
    minimize(bowl_in_place, X0, (2.0,), options={"maxiter": 5}, state=part.state)
    assert_equal(before, (part.state.x, part.state.jac, part.state.slots["G"]))


# -- exceptions ------------------------------------------------------------------------------------


@njit
def failing(x, g_out, calls, at):
    calls[0] += 1
    if calls[0] == at:
        raise ValueError("the sensor fell off", 137)
    f = 0.0
    for i in range(x.size):
        g_out[i] = x[i] - 2.0
        f += g_out[i] ** 2 / 2
    return f


def test_an_exception_at_step_137_arrives_as_itself_and_leaves_x_at_step_136():
    options = {"gtol": None, "xtol": 0}
    with pytest.raises(ValueError, match="the sensor fell off") as caught:
        minimize(failing, X0, (np.zeros(1), 137), options=options)
    assert type(caught.value) is ValueError
    assert caught.value.args == ("the sensor fell off", 137)
    state = caught.value.state
    until = minimize(failing, X0, (np.zeros(1), -1), options={**options, "maxiter": 136}).state
    assert state.t == until.t == 136
    np.testing.assert_array_equal(state.x, until.x)
    assert_equal(state.slots, until.slots)
    assert state.jac is None


@pytest.mark.parametrize("at", [1, 2, 137])
def test_the_state_of_an_exception_is_that_of_the_loop_in_python(at):
    states = []
    for fun, jac in ((failing, None), (returning(failing), True)):
        with pytest.raises(ValueError, match="sensor") as caught:
            minimize(fun, X0, (np.zeros(1), at), jac=jac, options={"xtol": 0})
        states.append(caught.value.state)
    assert_equal(*states)
    resumed, whole = (
        minimize(failing, X0, (np.zeros(1), -1), options={"maxiter": n}, state=state)
        for state, n in ((states[0], 200 - (at - 1)), (None, 200))
    )
    assert_equal(resumed.state, whole.state)


# -- what is called, and how often it is compiled --------------------------------------------------


def test_no_array_is_made_per_step():
    def allocated(steps):
        before = rtsys.get_allocation_stats().alloc
        minimize(bowl_in_place, X0, (2.0,), options={"maxiter": steps, "gtol": None})
        return rtsys.get_allocation_stats().alloc - before

    _nrt_python.memsys_enable_stats()
    allocated(10)
    assert allocated(100_000) <= allocated(1000) + 100


def test_the_loop_is_compiled_once_for_all_objectives():
    def run(scale):
        @njit
        def f(x, g_out, centre):
            for i in range(x.size):
                g_out[i] = scale * (x[i] - centre)
            return 0.0

        minimize(f, X0, (2.0,), options={"maxiter": 2})

    run(1.0)
    before = compiled_run.descent_kernel.cache_info().misses
    run(2.0)
    assert compiled_run.descent_kernel.cache_info().misses == before


# Both need a loop of their own: it is one.
@njit("float64(float64[:], float64[:], float64)")
def overwriting(x, g_out, centre):
    f = bowl_in_place(x, g_out, centre)
    x[:] = 0.0
    return f


def test_an_objective_of_explicit_types_that_writes_to_its_point_gets_a_copy(spy):
    form = (overwriting, None), (returning(overwriting), True)
    res = both(form, spy, options={"maxiter": 50})
    assert_equal(res.x, both("in place", spy, options={"maxiter": 50}).x)


def test_defaults_are_arguments(spy):
    @njit
    def f(x, g_out, centre=2.0):
        return bowl_in_place(x, g_out, centre)

    res = both(((f, None), (returning(f), True)), spy, args=(), options={"maxiter": 50})
    assert_equal(res.x, both("in place", spy, options={"maxiter": 50}).x)


def test_jac_true_may_be_said_of_a_function_that_writes_its_gradient(spy):
    both(((bowl_in_place, True), FORMS["in place"][1]), spy)


@pytest.mark.parametrize("form", FORMS)
def test_scipys_front_end_takes_the_compiled_loop(form, spy, request):
    if form != "in place":
        request.getfixturevalue("in_python")
    fun, jac = FORMS[form][0]
    ours = minimize(fun, X0, (2.0,), method=ao.AdaGrad(0.5), jac=jac)
    spy.calls = 0
    theirs = optimize.minimize(fun, X0, (2.0,), method=ao.AdaGrad(0.5), jac=jac)
    assert spy.calls
    assert_equal(theirs, ours)


def test_without_a_gradient_there_are_finite_differences(spy):
    with pytest.warns(RuntimeWarning, match="no gradient was given"):
        res = minimize(bowl_value, X0, (2.0,), options={"maxiter": 5})
    assert (res.nit, spy.calls) == (5, 0)


# -- what is not compiled --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "others",
    [
        {"prox": ao.Simplex(), "options": {"maxiter": 20}},
        {"options": {"return_all": True, "maxiter": 20}},
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_compiled_runs_in_python_with_the_same_result(others, form, spy):
    (fun, jac), (plain, plain_jac) = FORMS[form]
    ours = minimize(fun, X0, (2.0,), jac=jac, **others)
    assert not spy.calls
    assert_equal(ours, minimize(plain, X0, (2.0,), jac=plain_jac, **others))


def decimal_coefficients(t, lr):
    return (float(Decimal(lr)),)


@dataclasses.dataclass(frozen=True)
class Untypable(ao.Method):
    lr: float = 0.01
    rule = staticmethod(ao.SGD(0.1).rule)
    coefficients = staticmethod(decimal_coefficients)


def test_a_method_that_does_not_compile_runs_in_python_with_a_warning(spy, request):
    options = {"maxiter": 20}
    with pytest.warns(RuntimeWarning, match=r"the loop of Untypable.* does not compile"):
        res = minimize(bowl_in_place, X0, (2.0,), method=Untypable(), options=options)
    request.getfixturevalue("in_python")
    sgd = minimize(bowl_in_place, X0, (2.0,), method=ao.SGD(0.01), options=options)
    np.testing.assert_array_equal(res.x, sgd.x)


def test_an_argument_that_no_kernel_takes_is_taken_in_python(spy):
    centres = numba.typed.List([2.0])

    @njit
    def f(x, g_out, centres):
        return bowl_in_place(x, g_out, centres[0])

    res = minimize(f, X0, (centres,), options={"maxiter": 20})
    assert not spy.calls
    assert_equal(res.x, both("in place", spy, options={"maxiter": 20}).x)


# -- errors ----------------------------------------------------------------------------------------


@njit
def no_value(x, g_out):
    for i in range(x.size):
        g_out[i] = x[i]


@njit
def untypable(x, g_out):
    return x.no_such_thing


ERRORS = {
    "too many": (
        lambda: minimize(bowl_in_place, X0, (1.0, 2.0, 3.0)),
        TypeError,
        r"fun is bowl_in_place\(x, g_out, centre\), expected a function that takes 4 "
        r"\(x, \*args\) or 5 \(x, g_out, \*args\), with 3 in args",
    ),
    "too few": (
        lambda: minimize(bowl_in_place, X0),
        TypeError,
        r"expected a function that takes 1 .* or 2",
    ),
    "type": (
        lambda: minimize(bowl_in_place, X0, (object(),)),
        TypeError,
        r"args\[0\] is a object, expected what a compiled function can take: numbers, arrays",
    ),
    "wrong type": (
        lambda: minimize(bowl_in_place, X0, ("two",)),
        TypeError,
        "fun does not compile, expected a function of",
    ),
    "no value": (
        lambda: minimize(no_value, X0),
        TypeError,
        "fun returns none, expected a real number: it takes g_out",
    ),
    "untypable": (
        lambda: minimize(untypable, X0),
        TypeError,
        r"fun does not compile, expected a function of \(.*array.*\): .*no_such_thing",
    ),
    "gradient twice": (
        lambda: minimize(bowl_in_place, X0, (2.0,), jac=bowl_gradient),
        ValueError,
        "jac is .*, expected None or True: fun writes its gradient to g_out",
    ),
    "no pair": (
        lambda: minimize(bowl_value, X0, (2.0,), jac=True),
        TypeError,
        r"fun returned .*, expected a pair \(value, gradient\)",
    ),
    "shape": (
        lambda: minimize(njit(lambda x: (0.0, x[1:])), X0, jac=True),
        ValueError,
        r"the gradient has shape \(6,\), expected \(7,\)",
    ),
}


@pytest.mark.parametrize(("call", "error", "words"), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_was_expected(call, error, words, in_python):
    with pytest.raises(error, match=words) as caught:
        call()
    assert type(caught.value) is error


def test_looks_at_every_so_many_th_step_are_refused():
    with pytest.raises(ValueError, match="'check_every'] is 5 with a compiled fun, expected 1"):
        minimize(njit(lambda x, g: 0.0), np.zeros(2), options={"check_every": 5})
