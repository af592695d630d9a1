"""Steps on rows of a table on a device: the CPU's, to the last bit."""

import re

import ml_dtypes
import numpy as np
import pytest
from methods_table import EACH_SHAPE, METHODS
from numba import cuda
from on_device import SIMULATED, assert_same, back, there

import adaptopt as ao
from adaptopt.cuda import launch as cuda_launch
from adaptopt.cuda import uploads
from adaptopt.cuda.launch import rows_launch_size
from adaptopt.optimizer import table as tables

ROWS, WIDTH, STEPS = 7, 3, 4
BFLOAT16, FLOAT16, FLOAT32, FLOAT64 = (
    np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64)
)
COSINE = ao.schedules.cosine(0.1, 50)
DECOUPLED = {"weight_decay": 0.05, "decoupled": True}
in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")


def start(dtype=FLOAT32, rows=ROWS, width=WIDTH):
    return np.random.default_rng(7).uniform(-1, 1, (rows, width)).astype(dtype)


def batches(dtype=FLOAT32, width=WIDTH, steps=STEPS, size=4):
    """Rows of unequal popularity, with repeats: some are idle for long."""
    rng = np.random.default_rng(1)
    return [
        (
            (ROWS * rng.random(size) ** 3).astype(np.int64),
            rng.standard_normal((size, width)).astype(dtype),
        )
        for _ in range(steps)
    ]


def what_there_is(opt):
    """Return copies of all that a step on rows changes."""
    return {"params": back(opt.params).copy(), **{k: back(v).copy() for k, v in opt.state.items()}}


def assert_same_steps(method, dtype=FLOAT32, gradient=None, width=WIDTH, **options):
    """Step on the host and on the device, and compare before and after what rows missed."""
    given = batches(gradient or dtype, width)
    host = ao.Optimizer(start(dtype, width=width), method, **options)
    for rows, g in given:
        host.step_rows(rows, g)
    lagging = what_there_is(host)
    host.flush()
    rates = host.learning_rates()
    device = ao.Optimizer(there(start(dtype, width=width)), method, **options)
    for rows, g in given:
        device.step_rows(rows, there(g))
    assert_same(what_there_is(device), lagging)
    device.flush()
    assert_same(device.learning_rates(), rates)
    assert_same(what_there_is(device), what_there_is(host))
    assert device.scalars == pytest.approx(host.scalars)
    assert device.t == host.t


# -- every method ----------------------------------------------------------------------------------

# Each form of what an idle row misses, and what surrounds it: maps, decay, rates over time.
EXACT = {
    "sgd-l1": (ao.SGD(0.1), ao.L1(0.01)),
    "adagrad": (ao.AdaGrad(0.1), None),
    "adagrad-l2-array": (ao.AdaGrad(0.1), ao.L2(np.linspace(0, 0.02, WIDTH))),
    "adagrad-l1-in-box": (ao.AdaGrad(0.1), ao.L1(0.01).within(ao.Box(-0.6, 0.6))),
    "adagrad-decoupled-box": (ao.AdaGrad(COSINE, **DECOUPLED), ao.Box(-0.6, 0.6)),
    "rmsprop": (ao.RMSProp(COSINE), None),
    "rmsprop-momentum": (ao.RMSProp(COSINE, momentum=0.9, lr_inside=True), None),
    "rmsprop-nesterov": (ao.RMSProp(0.01, momentum=0.9, nesterov=True, centered=True), None),
    "momentum": (ao.Momentum(0.01, dampening=0.5), None),
    "dual-averaging": (ao.AdaGradDA(0.3, l1=0.01, l2=0.01), None),
    "adagrad-norm": (ao.AdaGradNorm(1.0), None),
    "row-wise-l1": (ao.RowWiseAdaGrad(0.1), ao.L1(0.003)),
    "row-wise-decoupled": (ao.RowWiseAdaGrad(0.1, **DECOUPLED), None),
}


@pytest.mark.parametrize(("method", "prox"), EXACT.values(), ids=EXACT)
def test_exact_steps_are_those_of_the_cpu(method, prox):
    assert_same_steps(method, prox=prox)


TOUCHED = {name: METHODS[name] for name in EACH_SHAPE}
TOUCHED["row-wise"] = ao.RowWiseAdaGrad(0.1, weight_decay=0.1)


# The rate of a row never touched may be infinite, and in the simulator's threads NumPy warns.
@pytest.mark.filterwarnings("ignore:.*divide by zero:RuntimeWarning")
@pytest.mark.parametrize("method", TOUCHED.values(), ids=TOUCHED)
def test_touched_steps_are_those_of_the_cpu(method):
    assert_same_steps(method, lazy="touched")


OPTIONS = {
    "float64-clip_norm": (FLOAT64, None, {"clip_norm": 0.5}),
    "float32-loss_scale": (FLOAT32, None, {"loss_scale": 8.0}),
    "float32-clip_value": (FLOAT32, None, {"clip_value": 0.3}),
    "float32-bfloat16-gradients": (FLOAT32, BFLOAT16, {}),
    "float64-float16-gradients": (FLOAT64, FLOAT16, {}),
    "float16": (FLOAT16, None, {}),
    "bfloat16-stochastic": (BFLOAT16, None, {"rounding": "stochastic", "seed": 3}),
    "bfloat16-float32-gradients": (BFLOAT16, FLOAT32, {"clip_norm": 1.0}),
    "float16-master": (FLOAT16, FLOAT32, {"master": True, "loss_scale": 8.0}),
    "bfloat16-master-stochastic": (BFLOAT16, None, {"master": True, "rounding": "stochastic"}),
    "narrow-state": (FLOAT32, None, {"state_dtype": "bfloat16"}),
}


ROW_WISE = ("float64-clip_norm", "bfloat16-stochastic", "float16-master", "narrow-state")


@pytest.mark.parametrize("what", OPTIONS)
def test_options_are_those_of_the_cpu(what):
    method = ao.RowWiseAdaGrad(0.1, **DECOUPLED) if what in ROW_WISE else ao.RMSProp(0.1)
    dtype, gradient, options = OPTIONS[what]
    assert_same_steps(method, dtype, gradient, **options)


@pytest.mark.parametrize("width", [1, 16, 37])
@pytest.mark.parametrize("method", [ao.Momentum(0.1), ao.RowWiseAdaGrad(0.1)], ids=["own", "row"])
def test_rows_of_any_width(method, width):
    assert_same_steps(method, width=width)


@pytest.mark.parametrize("shape", [(5,), (5, 2, 3), (5, 0)], ids=str)
def test_a_table_may_have_any_number_of_dimensions(shape):
    x, g = np.ones(shape, np.float32), np.ones((2, *shape[1:]), np.float32)
    y = there(x)
    ao.Optimizer(y, ao.AdaGrad(0.5)).step_rows([4, 2], there(g))
    ao.Optimizer(x, ao.AdaGrad(0.5)).step_rows([4, 2], g)
    assert_same(y, x)


def test_repeated_rows_are_summed_in_their_order():
    g = np.array([[1.0], [2.0**-24], [2.0**-24]], np.float32)  # ((1 + tiny) + tiny) is 1
    x = there(np.zeros((2, 1), np.float32))
    ao.Optimizer(x, ao.SGD(1.0)).step_rows([1, 1, 1], there(g))
    assert x.copy_to_host().tolist() == [[0.0], [-1.0]]


def test_a_launch_gives_long_rows_many_threads_and_short_ones_few(monkeypatch):
    monkeypatch.setattr(cuda_launch, "_multiprocessors", lambda device: 132)
    assert rows_launch_size(1, 1) == (1, (4, 1))
    assert rows_launch_size(5000, 3) == (157, (4, 32))
    assert rows_launch_size(5000, 64) == (1056, (64, 4))
    assert rows_launch_size(3000, 512) == (1056, (256, 1))


@pytest.mark.parametrize("method", [ao.RMSProp(0.1), ao.RowWiseAdaGrad(0.1, **DECOUPLED)],
                         ids=["own", "row"])  # fmt: skip
def test_blocks_go_through_more_rows_than_they_hold(method, monkeypatch):
    monkeypatch.setattr(cuda_launch, "ROWS", 2)
    monkeypatch.setattr(cuda_launch, "BLOCKS", 1)
    monkeypatch.setattr(cuda_launch, "_multiprocessors", lambda device: 1)
    assert_same_steps(method)


# -- rows and whole gradients ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [ao.RMSProp(0.1, momentum=0.5), ao.AdaGrad(0.1, **DECOUPLED), ao.RowWiseAdaGrad(0.1)],
    ids=["rmsprop-momentum", "adagrad-decoupled", "row-wise"],
)
def test_rows_and_whole_gradients_in_turn(method):
    host, device = (ao.Optimizer(to(start()), method) for to in (np.copy, there))
    whole = start(rows=ROWS) * 0.5
    for t, (rows, g) in enumerate(batches(steps=5)):
        if t in (1, 4):
            host.step(whole)
        else:
            host.step_rows(rows, g)
    for t, (rows, g) in enumerate(batches(steps=5)):
        if t in (1, 4):
            device.step(there(whole))
        else:
            device.step_rows(rows, there(g))
    assert_same(what_there_is(device), what_there_is(host))


def test_row_wise_adagrad_takes_whole_gradients():
    host, device = (ao.Optimizer(to(start()), ao.RowWiseAdaGrad(0.1)) for to in (np.copy, there))
    host.step(start() * 0.5)
    rates = host.learning_rates()
    device.step(there(start() * 0.5))
    assert_same(device.learning_rates(), rates)
    assert_same(what_there_is(device), what_there_is(host))
    assert device.state["G"].shape == (ROWS,)


@pytest.mark.parametrize("clip", [None, 0.5], ids=["plain", "clip_norm"])
def test_a_step_takes_sparse_and_whole_gradients_together(clip):
    params = {"table": start(), "w": np.ones(4, np.float32), "other": start()}
    host, device = (
        ao.Optimizer(to(params), ao.RMSProp(0.1), clip_norm=clip) for to in (dict, there)
    )
    for rows, g in batches():
        host.step({"table": (rows, g), "w": params["w"], "other": start()})
    for rows, g in batches():
        device.step({"table": (rows, there(g)), "w": there(params["w"]), "other": there(start())})
    host.flush()
    device.flush()
    assert_same(device.params, host.params)
    assert_same(device.state, host.state)


def test_each_name_counts_its_own_steps():
    method = ao.RMSProp(COSINE)
    both = ao.Optimizer({"a": there(start()), "b": there(start())}, method)
    x, y = start(), start()
    a, b = ao.Optimizer(x, method), ao.Optimizer(y, method)
    for t, (rows, g) in enumerate(batches()):
        a.step_rows(rows, g)
        if t % 2:
            b.step_rows(rows, g)
    rates = {"a": a.learning_rates(), "b": b.learning_rates()}
    for t, (rows, g) in enumerate(batches()):
        both.step_rows(rows, there(g), "a")
        if t % 2:
            both.step_rows(rows, there(g), name="b")
    assert_same(both.learning_rates(), rates)
    assert both.t == STEPS
    assert_same(both.params, {"a": x, "b": y})


# -- what rows missed ------------------------------------------------------------------------------


def test_catch_up_brings_the_rows_asked_for_and_no_others():
    host, device = (ao.Optimizer(to(start()), ao.Momentum(0.1)) for to in (np.copy, there))
    for opt, to in ((host, np.copy), (device, there)):
        for t in range(3):
            opt.step_rows([3, 5] if t == 0 else [0, 0], to(np.ones((2, WIDTH), np.float32)))
        opt.catch_up([3, 3])
    assert_same(device.params, host.params)
    assert (back(device.params)[3] != back(device.params)[5] - start()[5] + start()[3]).all()
    device.catch_up([])
    device.catch_up(there(np.array([5], np.int32)))
    host.catch_up([5])
    assert_same(device.params, host.params)


@pytest.mark.parametrize(
    "method", [ao.Momentum(0.1), ao.AdaGrad(0.1, **DECOUPLED)], ids=["momentum", "decoupled"]
)
def test_gaps_beyond_the_longest_are_cut(method, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST", 2)
    assert_same_steps(method)


def test_the_logarithms_of_decay_are_sent_once(monkeypatch):
    sent = []
    send = uploads.Mirror._send

    def counted(self, pieces, target, stream):
        sent.append(target.size)
        send(self, pieces, target, stream)

    monkeypatch.setattr(uploads.Mirror, "_send", counted)
    opt = ao.Optimizer(there(start()), ao.AdaGrad(0.1, **DECOUPLED))
    for rows, g in batches():
        opt.step_rows(rows, there(g))
    assert sent == [2] + [1] * (STEPS - 1)  # the first with that of no step


def test_the_gradient_norm_is_that_of_the_summed_rows():
    opt = ao.Optimizer(there(np.zeros((5, 2))), ao.SGD())
    g = np.array([[1.0, 0], [0, -4.0], [2.0, 0]])
    assert opt.gradient_norm(([1, 3, 1], there(g))) == 4.0
    assert np.isnan(opt.gradient_norm(([1], there(np.array([[np.nan, 0]])))))


def test_a_sparse_gradient_that_is_not_finite_is_skipped():
    opt = ao.Optimizer(there(start()), ao.AdaGrad(0.1), loss_scale=2.0)
    with pytest.warns(RuntimeWarning, match="step 1 was skipped"):
        opt.step_rows([1], there(np.full((1, WIDTH), np.inf, np.float32)))
    assert_same(opt.params, start())
    assert (opt.t, opt.skipped) == (0, 1)


# -- how rows are given ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to",
    [
        list,
        np.int32,
        lambda rows: np.array(rows, np.int64),
        lambda rows: there(np.array(rows, np.int32)),
        lambda rows: there(np.array(rows, np.int64)),
    ],
    ids=["list", "tuple-of-int32", "host", "device-int32", "device-int64"],
)
def test_rows_may_lie_on_either_side(to):
    x = there(np.zeros((ROWS, 2), np.float32))
    g = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    ao.Optimizer(x, ao.SGD(1.0)).step_rows(to([4, 1, 4]), there(g))
    assert x.copy_to_host()[[4, 1]].tolist() == [[-6.0, -8.0], [-3.0, -4.0]]


class Tensor:
    """What torch's tensors look like, over memory of the host."""

    is_sparse = False

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, f"torch.{array.dtype}"
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "version": 3,
        }


@in_the_simulator
@pytest.mark.parametrize("gradient", [FLOAT16, BFLOAT16, FLOAT32], ids=str)
def test_tables_and_gradients_of_other_libraries(gradient, monkeypatch):
    def as_cuda_array(obj, sync=True):
        assert not sync
        seen = obj.array.view("V2") if obj.array.dtype == BFLOAT16 else obj.array
        return type(one)(seen)

    monkeypatch.setattr(cuda, "as_cuda_array", as_cuda_array, raising=False)
    x, y = start(), start()
    g = np.ones((2, WIDTH), gradient)
    opt = ao.Optimizer(Tensor(x), ao.Momentum(0.1))
    opt.step_rows(Tensor(np.array([1, 2])), Tensor(g))
    opt.catch_up(Tensor(np.array([1], np.int32)))
    ao.Optimizer(y, ao.Momentum(0.1)).step_rows([1, 2], g)
    np.testing.assert_array_equal(x, y)


def test_no_rows_are_a_step_of_zero_gradients():
    host, device = (ao.Optimizer(to(start()), ao.Momentum(0.1)) for to in (np.copy, there))
    for opt, to in ((host, np.copy), (device, there)):
        opt.step(to(np.ones((ROWS, WIDTH), np.float32)))
        opt.step((np.zeros(0, int), to(np.zeros((0, WIDTH), np.float32))))
        opt.flush()
    assert device.t == 2
    assert_same(device.params, host.params)


# -- streams and copies ----------------------------------------------------------------------------


def test_a_step_is_one_launch_on_the_gradients_stream(launches):
    stream = cuda.stream()
    opt = ao.Optimizer(there(start()), ao.RMSProp(0.1))
    rows, g = batches()[0]
    opt.step_rows(rows, there(g))
    launches.clear()
    opt.step_rows(rows, there(g).bind(stream))
    assert launches == [stream]


def test_streams_are_taken(launches):
    stream = cuda.stream()
    opt = ao.Optimizer(there(start()), ao.RMSProp(0.1))
    rows, g = batches()[0]
    opt.step_rows(rows, there(g), stream=stream)
    opt.step((rows, there(g)), stream=stream)
    launches.clear()
    opt.step_rows(there(rows), there(g), stream=stream)
    opt.step((rows, there(g)), stream=stream)
    opt.catch_up([1], stream=stream)
    opt.flush(stream=stream)
    opt.step(there(start()), stream=stream)
    assert len(launches) > 5
    assert set(launches) == {stream}


@in_the_simulator
def test_with_rows_on_the_host_a_step_waits_for_nothing_and_allocates_nothing(monkeypatch):
    opt = ao.Optimizer(there(start()), ao.RMSProp(0.1, **DECOUPLED), clip_value=0.5)
    (rows, g), *_ = batches()
    g = there(g)
    for _ in range(uploads.UNDER_WAY):
        opt.step_rows(rows, g)

    def refuse(*args, **kwargs):
        raise AssertionError("the step waited or allocated")

    monkeypatch.setattr(cuda, "synchronize", refuse)
    monkeypatch.setattr(type(g), "copy_to_host", refuse)
    for name in ("to_device", "device_array", "pinned_array"):
        monkeypatch.setattr(cuda, name, refuse)
    opt.step_rows(rows, g)
    assert opt.t == uploads.UNDER_WAY + 1


@in_the_simulator
def test_memory_of_the_host_is_written_to_again_once_its_copy_is_done(monkeypatch):
    waits = []

    class Event:
        def record(self, stream=0):
            pass

        def synchronize(self):
            waits.append(opt.t)

    monkeypatch.setattr(cuda, "event", Event)
    opt = ao.Optimizer(there(start()), ao.SGD(0.1))
    rows, g = batches()[0]
    for _ in range(uploads.UNDER_WAY + 2):
        opt.step_rows(rows, there(g))
    assert waits == [uploads.UNDER_WAY, uploads.UNDER_WAY + 1]  # steps are counted when launched


# -- refusals --------------------------------------------------------------------------------------


class CSR:
    __module__ = "theirs"
    format = "csr"
    shape = (ROWS, WIDTH)

    def tocsr(self):
        return self


class SparseTensor:
    is_sparse = True


one = there(np.ones((1, WIDTH), np.float32))
BAD = {
    "too-large": ([0, ROWS], there(np.ones((2, WIDTH), np.float32)), ValueError,
                  f"entry 1 is {ROWS}, expected a row in [0, {ROWS})"),
    "negative-on-the-device": (there(np.array([-1])), one, ValueError, "entry 0 is -1, expected a"),
    "float-rows": ([0.0], one, TypeError, "rows of grads have dtype float64, expected int32"),
    "float-rows-there": (there(np.zeros(1)), one, TypeError, "have dtype float64, expected int32"),
    "rows-shape": (there(np.zeros((1, 1), int)), one, ValueError, "have shape (1, 1), expected"),
    "grads-shape": ([0, 1], one, ValueError, "grads has shape (1, 3), expected (2, 3) like"),
    "grads-dtype": ([0], there(np.ones((1, WIDTH))), TypeError, "grads has dtype float64, exp"),
    "host-grads": ([0], np.ones((1, WIDTH), np.float32), TypeError,
                   "grads is a NumPy array, expected a CUDA array like params"),
    "csr": (CSR(), None, TypeError, "grads is a theirs CSR, expected a pair (rows, grads)"),
    "tensor": (SparseTensor(), None, TypeError, "SparseTensor, expected a pair (rows, grads)"),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "grads", "error", "words"), BAD.values(), ids=BAD)
def test_a_bad_gradient_is_refused_before_anything_changes(rows, grads, error, words):
    opt = ao.Optimizer(there(start()), ao.RMSProp())
    opt.step_rows([0], one)
    before = what_there_is(opt)
    with pytest.raises(error, match=re.escape(words)):
        opt.step_rows(rows, grads)
    assert_same(what_there_is(opt), before)
    assert opt.t == 1
    opt.flush()
    assert opt.t == 1


def test_rows_on_a_device_are_refused_for_a_table_on_the_host():
    opt = ao.Optimizer(start(), ao.SGD())
    with pytest.raises(TypeError, match="rows of grads are a CUDA array, expected integers on the"):
        opt.step_rows(there(np.array([1])), np.ones((1, WIDTH), np.float32))


def test_a_gradient_that_overlaps_the_table_is_refused():
    x = there(start())
    with pytest.raises(ValueError, match="grads overlaps params"):
        ao.Optimizer(x, ao.SGD()).step_rows([0, 1], x[2:4])


def test_what_has_no_closed_form_is_refused():
    opt = ao.Optimizer(there(start()), ao.Adam())
    with pytest.raises(ValueError, match="Adam has no closed form"):
        opt.step_rows([0], one)
    assert_same(opt.params, start())


def test_decay_that_leaves_nothing_is_refused():
    opt = ao.Optimizer(there(start()), ao.SGD(1.0, weight_decay=1.0, decoupled=True))
    before = what_there_is(opt)
    with pytest.raises(ValueError, match=r"lr \* weight_decay is 1, expected less than 1"):
        opt.step_rows([0], one)
    assert_same(what_there_is(opt), before)


@pytest.mark.parametrize("call", ["catch_up", "flush"])
def test_a_stream_for_the_host_is_refused(call):
    opt = ao.Optimizer(start(), ao.SGD())
    with pytest.raises(ValueError, match="stream is 5 with params on the host, expected None"):
        getattr(opt, call)(*[[0]] * (call == "catch_up"), stream=5)


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["dict", "file"])
@pytest.mark.parametrize("first", ["host", "device"])
@pytest.mark.parametrize(
    "method",
    [ao.RMSProp(COSINE, momentum=0.5, lr_inside=True), ao.AdaGrad(0.1, **DECOUPLED),
     ao.RowWiseAdaGrad(0.1)],
    ids=["rmsprop-momentum", "adagrad-decoupled", "row-wise"],
)  # fmt: skip
def test_a_run_goes_on_in_the_other_place(method, first, way, tmp_path):
    options = {"rounding": "stochastic", "master": True, "seed": 5}
    gs = batches(FLOAT32, steps=6)
    straight = ao.Optimizer(start(BFLOAT16), method, **options)
    for rows, g in gs:
        straight.step_rows(rows, g)
    straight.flush()

    places = {"host": np.copy, "device": there}
    second = {"host": "device", "device": "host"}[first]
    opts = {
        place: ao.Optimizer(to(start(BFLOAT16)), method, **options) for place, to in places.items()
    }

    def run(place, part):
        for rows, g in part:
            opts[place].step_rows(rows, places[place](g))

    run(first, gs[:3])
    if way == "dict":
        opts[second].load_state_dict(opts[first].state_dict())
    else:
        opts[first].save(tmp_path / "run.npz")
        opts[second].load(tmp_path / "run.npz")
    run(second, gs[3:])
    opts[second].flush()
    assert opts[second].t == 6
    assert_same(what_there_is(opts[second]), what_there_is(straight))
