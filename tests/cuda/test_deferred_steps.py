"""Steps that depend on the gradients: the device decides, and nobody waits for it."""

import warnings
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from numba import cuda
from on_device import SIMULATED, assert_same, back, there

import adaptopt as ao
from adaptopt.kernels.reductions import BLOCK
from adaptopt.optimizer import deferred as deferral

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")


def data(n=5, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def both(x, method, **options):
    """Return an optimizer on the host and one on the device, of equal parameters."""
    on_host = {name: a.copy() for name, a in x.items()} if isinstance(x, dict) else x.copy()
    return ao.Optimizer(on_host, method, **options), ao.Optimizer(there(x), method, **options)


def run(host, device, gs):
    """Take the steps with both; what is skipped on the way is no news."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for g in gs:
            host.step(g)
        for g in gs:
            device.step(there(g))
        assert (device.t, device.skipped) == (host.t, host.skipped)


def assert_equal(device, host):
    assert_same(device.params, host.params)
    assert_same(device.state, host.state)
    rates = host.learning_rates()
    assert_same(device.learning_rates(), rates)
    assert device.scalars == host.scalars if SIMULATED else device.scalars


# -- the host's result -----------------------------------------------------------------------------

BAD = [np.inf, np.nan]
# Methods of which each has coefficients of another kind.
METHODS = {
    "adagrad": ao.AdaGrad(0.1),
    "adam": ao.Adam(0.1),
    "nadam-schedule": ao.Nadam(ao.schedules.cosine(0.1, 9)),
    "python-schedule": ao.Adam(lambda t: 0.1 / t),
    "ftrl-schedule": ao.FTRL(ao.schedules.inverse_time(0.1, 0.5)),
    "decoupled": ao.AdamW(ao.schedules.exponential(0.1, 0.5), weight_decay=0.1),
    "coupled": ao.RMSProp(0.1, weight_decay=0.1),
    "adagrad-norm": ao.AdaGradNorm(0.1),
}


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_skipped_steps_leave_no_trace(method, bad):
    gs = [data(seed=k) for k in range(6)]
    gs[0][1] = gs[3][4] = gs[4][0] = bad
    host, device = both(data(), method, loss_scale=4.0, clip_norm=0.3)
    run(host, device, gs)
    assert (device.t, device.skipped) == (3, 3)
    assert_equal(device, host)


def test_groups_share_one_verdict():
    params = {
        "a": data(BLOCK + 70),
        "b": data(3, np.float64, seed=1),
        "c": data(4, BFLOAT16, seed=2),
        "d": data(1, seed=3),
    }
    methods = {"a": ao.AdaGrad(0.1), "b": ao.Adam(0.1), "c": ao.RMSProp(0.1), "d": ao.AdaGrad(0.1)}
    gs = [{n: data(a.size, a.dtype, seed=9 * k) for n, a in params.items()} for k in range(3)]
    gs[1]["b"][0] = np.nan
    host, device = both(params, methods, clip_norm=1.0, clip_value=0.2)
    run(host, device, gs)
    assert device.skipped == 1
    assert_equal(device, host)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"loss_scale": 8.0}], ids=str)
def test_norms_are_of_those_that_share_a_method(options):
    params = {"a": data(70), "b": data(4), "c": data(3, seed=5)}
    methods = {"a": ao.AdaGradNorm(0.1), "b": ao.AdaGradNorm(0.1), "c": ao.AdaGradNorm(0.2)}
    gs = [{n: data(a.size, a.dtype, seed=9 * k) for n, a in params.items()} for k in range(2)]
    host, device = both(params, methods, **options)
    run(host, device, gs)
    assert_equal(device, host)


def test_a_norm_that_is_not_finite_is_added_where_nothing_is_skipped():
    host, device = both(data(), ao.AdaGradNorm(0.1))
    run(host, device, [np.array([1, np.nan, 1, 1, 1], np.float32), data()])
    assert device.t == 2
    assert np.isnan(device.scalars["G"])
    assert np.isnan(back(device.params)).all()


@pytest.mark.parametrize(
    ("size", "n", "limit"),
    [
        (1e200, 3, 1.0),
        (9e151, BLOCK + 9, 1.0),
        (3e307, 5, 1.0),
        (1e-170, 3, 1e-175),
        (1e-300, BLOCK + 9, 1e-305),
    ],
)
def test_squares_may_overflow_or_vanish_where_the_norm_does_not(size, n, limit):
    host, device = both(np.zeros(n), ao.SGD(0.1), clip_norm=limit)
    g = size * data(n, np.float64, seed=1)
    run(host, device, [g, data(n, np.float64), g])
    assert device.t == 3
    assert_equal(device, host)


def test_sums_over_parameters_are_rounded_once():
    sizes = [1.0, 2.0**-26.5, 2.0**-27, 2.0**-30, 2.0**-26.5]
    params = {str(k): np.ones(1) for k in range(len(sizes))}
    host, device = both(params, ao.SGD(0.1), clip_norm=1e-3)
    run(host, device, [{str(k): np.full(1, size) for k, size in enumerate(sizes)}])
    assert_equal(device, host)


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 5, 2**64 - 1])
def test_random_bits_follow_the_steps_that_were_taken(seed):
    gs = [data(40, BFLOAT16, seed=k) for k in range(3)]
    gs[0][0] = np.inf
    options = {"rounding": "stochastic", "seed": seed, "state_dtype": "bfloat16"}
    host, device = both(data(40, BFLOAT16), ao.AdaGrad(0.1), clip_norm=1.0, **options)
    run(host, device, gs)
    assert_equal(device, host)


def test_a_loss_scale_may_change_between_steps():
    host, device = both(data(), ao.AdaGrad(0.1), loss_scale=4.0)
    run(host, device, [data(seed=1)])
    host.loss_scale = device.loss_scale = 16.0
    run(host, device, [data(seed=2)])
    assert_equal(device, host)


def test_penalties_are_applied_in_the_step():
    host, device = both(data(), ao.AdaGrad(0.1), prox=ao.L1(0.3), clip_norm=1.0)
    run(host, device, [data(seed=1), data(seed=2)])
    assert_equal(device, host)


def test_rates_are_fetched_again_where_they_end(monkeypatch):
    monkeypatch.setattr(deferral, "RATES", 3)
    gs = [data(seed=k) for k in range(8)]
    gs[2][0] = np.nan
    host, device = both(data(), ao.AdaGrad(ao.schedules.cosine(0.5, 9)), clip_norm=1.0)
    run(host, device, gs)
    assert_equal(device, host)


# -- when the host learns of it --------------------------------------------------------------------


def optimizer(**options):
    return ao.Optimizer(there(np.ones(3, np.float32)), ao.AdaGrad(0.1), **options)


GOOD, STRANGE = np.ones(3, np.float32), np.array([1, np.inf, 1], np.float32)


@pytest.mark.parametrize("options", [{"clip_norm": 1.0}, {"loss_scale": 4.0}], ids=str)
@pytest.mark.parametrize(
    "look",
    [
        lambda opt: opt.t,
        lambda opt: opt.skipped,
        lambda opt: opt.state_dict(),
        lambda opt: opt.learning_rates(),
        lambda opt: opt.scalars,
    ],
    ids=["t", "skipped", "state_dict", "learning_rates", "scalars"],
)
def test_a_skipped_step_is_told_of_when_the_state_is_looked_at(options, look):
    opt = optimizer(**options)
    opt.step(there(STRANGE))
    with pytest.warns(RuntimeWarning, match="step 1 was skipped: a gradient is not finite"):
        look(opt)
    assert (opt.t, opt.skipped) == (0, 1)
    assert (back(opt.params) == 1).all()


def test_several_are_told_of_at_once():
    opt = optimizer(loss_scale=4.0)
    for g in (STRANGE, GOOD, STRANGE):
        opt.step(there(g))
    words = r"2 steps, the last of them 2, were skipped: .* \(loss_scale is 4\)"
    with pytest.warns(RuntimeWarning, match=words):
        assert opt.skipped == 2
    assert opt.t == 1


def test_a_checkpoint_counts_what_was_skipped(tmp_path):
    opt = optimizer(clip_norm=1.0)
    opt.step(there(GOOD))
    opt.step(there(STRANGE))
    with pytest.warns(RuntimeWarning, match="step 2 was skipped"):
        opt.save(tmp_path / "run.npz")
    other = optimizer(clip_norm=1.0)
    other.load(tmp_path / "run.npz")
    assert (other.t, other.skipped) == (1, 1)
    assert_same(other.learning_rates(), back(opt.learning_rates()))
    for each in (opt, other):
        each.step(there(GOOD))
    assert (other.t, other.skipped) == (2, 1)
    assert_same(other.params, back(opt.params))


def test_the_sum_of_squared_norms_goes_on_from_a_checkpoint():
    host, device = both(data(), ao.AdaGradNorm(0.1))
    run(host, device, [data(seed=1)])
    gone_on = ao.Optimizer(there(np.zeros(5, np.float32)), ao.AdaGradNorm(0.1))
    gone_on.load_state_dict(device.state_dict())
    run(host, gone_on, [data(seed=2)])
    assert_equal(gone_on, host)


@in_the_simulator
def test_the_count_of_a_method_that_skips_nothing_waits_for_nothing(monkeypatch):
    opt = ao.Optimizer(there(np.ones(3, np.float32)), ao.AdaGradNorm(0.1))
    opt.step(there(GOOD))

    def refuse(*args, **kwargs):
        raise AssertionError("it waited")

    monkeypatch.setattr(cuda, "synchronize", refuse)
    assert opt.t == 1


def test_a_rate_that_is_not_finite_is_refused_when_its_turn_has_come():
    x = there(np.ones(3, np.float32))
    opt = ao.Optimizer(x, ao.SGD(lambda t: 0.5 if t < 3 else np.nan), clip_norm=9.0)
    for _ in range(2):
        opt.step(there(GOOD))
    with pytest.raises(ValueError, match=r"lr\(3\) is nan, expected a finite number"):
        opt.step(there(GOOD))
    assert opt.t == 2
    assert back(x).tolist() == [0.0] * 3


def test_coefficients_that_kernels_cannot_compute_are_waited_for():
    @dataclass(frozen=True)
    class Named(ao.Method):
        lr: float = 0.5
        kind: str = "plain"
        rule = staticmethod(lambda x, g, lr: (x - lr * g, lr, ()))
        coefficients = staticmethod(lambda t, lr, kind: (lr if kind == "plain" else 0.0,))

    opt = ao.Optimizer(there(np.ones(3, np.float32)), Named(), clip_norm=9.0)
    opt.step(there(GOOD))
    with pytest.warns(RuntimeWarning, match="step 2 was skipped"):
        opt.step(there(STRANGE))
    assert back(opt.params).tolist() == [0.5] * 3


# -- streams ---------------------------------------------------------------------------------------


@in_the_simulator
def test_all_of_a_step_runs_on_its_stream(launches):
    stream = cuda.stream()
    opt = ao.Optimizer(there(data(4, np.float64)), ao.AdaGradNorm(0.1), clip_norm=1.0)
    launches.clear()
    opt.step(there(data(4, np.float64)), stream=stream)
    assert set(launches) == {stream}


@in_the_simulator
def test_gradients_on_several_streams_are_ordered_by_events(monkeypatch):
    happened = []

    class Event:
        def record(self, stream):
            self.stream = stream

        def wait(self, stream):
            happened.append((self.stream, stream))

    first, second = cuda.stream(), cuda.stream()
    monkeypatch.setattr(cuda, "event", lambda timing: Event())
    params = {name: there(np.ones(3, np.float32)) for name in "ab"}
    opt = ao.Optimizer(params, ao.SGD(0.1), clip_norm=1.0)
    opt.step({"a": there(GOOD).bind(first), "b": there(GOOD).bind(second)})
    # The verdict comes after the norms, and the steps after the verdict.
    assert happened == [(second, first), (first, second)]
