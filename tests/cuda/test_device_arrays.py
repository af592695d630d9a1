"""Arrays on a device: what is taken, what is refused, what a step launches, what is kept."""

import copy
import pickle
import re
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from numba import cuda
from on_device import SIMULATED, assert_same, back, refuse_to_wait_or_copy, there

import adaptopt as ao
from adaptopt import placement
from adaptopt.cuda import arrays as device
from adaptopt.cuda import launch as cuda_launch
from adaptopt.cuda.backend import DEVICE
from adaptopt.cuda.launch import launch_size
from adaptopt.cuda.reductions import SumOfSquares
from adaptopt.kernels.reductions import BLOCK
from adaptopt.prox.tying import NonSeparable

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")


def data(n=5, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(dtype)


def named():
    return {
        "emb": data(6).reshape(3, 2),
        "w": data(4, seed=1),
        "bias": data(3, BFLOAT16, seed=2),
        "x": data(2, seed=3),
    }


METHODS = {"emb": ao.AdaGrad(0.1), "w": ao.Adam(0.1), "bias": ao.RMSProp(0.1), "x": ao.Adam(0.1)}


# -- what is taken ---------------------------------------------------------------------------------


def test_an_array_is_updated_in_place_whatever_its_shape():
    x = there(np.ones((2, 3), np.float32))
    opt = ao.Optimizer(x, ao.SGD(0.5))
    opt.step(there(np.ones((2, 3), np.float32)))
    assert opt.params is x
    assert x.copy_to_host().tolist() == [[0.5] * 3] * 2


def test_named_parameters_are_those_of_the_cpu():
    params, grads = named(), {name: a.astype(a.dtype) for name, a in named().items()}
    device_params, device_grads = there(params), there(grads)
    host = ao.Optimizer(params, METHODS, clip_norm=1.0)
    on_gpu = ao.Optimizer(device_params, METHODS, clip_norm=1.0)
    for _ in range(2):
        host.step(grads)
        on_gpu.step(device_grads)
    assert_same(on_gpu.params, host.params)
    assert_same(on_gpu.state, host.state)
    assert_same(on_gpu.learning_rates(), host.learning_rates())
    assert_same(on_gpu.learning_rates("bias"), host.learning_rates("bias"))


def test_gradients_in_their_places_take_one_launch_for_all_parameters(launches):
    params = {f"p{k}": there(np.ones(3, np.float32)) for k in range(5)}
    opt = ao.Optimizer(params, ao.AdaGrad(0.1))
    places = opt.grads
    for place in places.values():
        place.copy_to_device(np.ones(3, np.float32))
    launches.clear()
    opt.step(places)
    assert len(launches) == 1
    assert back(opt.params)["p4"] == pytest.approx(0.9)


def test_gradients_elsewhere_are_read_where_they_lie(launches):
    params = {name: there(np.ones(3, np.float32)) for name in "abc"}
    opt = ao.Optimizer(params, ao.SGD(0.1))
    places = dict(opt.grads)
    elsewhere = there(np.ones(3, np.float32))
    launches.clear()
    opt.step({**places, "b": elsewhere})
    assert len(launches) == 3
    assert [a.tolist() for a in back(opt.params).values()] == [
        [1.0] * 3, pytest.approx([0.9] * 3), [1.0] * 3,
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 150])
def test_any_size_is_gone_through(n, monkeypatch):
    monkeypatch.setattr(cuda_launch, "THREADS", 32)
    monkeypatch.setattr(cuda_launch, "BLOCKS", 1)
    monkeypatch.setattr(cuda_launch, "_multiprocessors", lambda device: 2)
    x = there(np.zeros(n, np.float32))
    ao.Optimizer(x, ao.SGD(1.0)).step(there(np.arange(n, dtype=np.float32)))
    assert (x.copy_to_host() == -np.arange(n)).all()


def test_the_device_says_how_large_a_launch_is(monkeypatch):
    monkeypatch.setattr(cuda_launch, "_multiprocessors", lambda device: 132)
    assert launch_size(1) == (1, 32)
    assert launch_size(100) == (1, 128)
    assert launch_size(1000) == (4, 256)
    assert launch_size(10**9) == (132 * 8, 256)


def test_a_step_is_compiled_when_the_optimizer_is_made():
    method = ao.SGD(lr=0.123, weight_decay=0.1)
    opt = ao.Optimizer(there(np.ones(3, np.float32)), method, clip_value=7.0)
    group = opt._parameters.groups[0].group
    assert "compiled" in vars(group._steps[np.dtype(np.float32)])


def test_no_elements_are_no_launch(launches):
    opt = ao.Optimizer(there(np.zeros(0, np.float32)), ao.AdaGrad(), clip_norm=1.0)
    opt.step(there(np.zeros(0, np.float32)))
    assert (opt.t, launches) == (1, [])


# -- streams and copies ----------------------------------------------------------------------------


@in_the_simulator
@pytest.mark.parametrize(
    ("method", "options"),
    [
        (ao.Adam(), {"clip_value": 0.5}),
        (ao.Adam(), {"clip_norm": 1.0}),
        (ao.Adam(ao.schedules.cosine(0.1, 9)), {"loss_scale": 2.0, "clip_norm": 1.0}),
        (ao.AdaGradNorm(), {}),
        (ao.AdaGradNorm(), {"clip_norm": 1.0}),
    ],
    ids=["clip-value", "clip-norm", "schedule", "adagrad-norm", "adagrad-norm-clipped"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
def test_a_step_neither_waits_nor_copies(method, options, dtype, monkeypatch):
    x, g = there(np.ones(4, dtype)), there(np.ones(4, dtype))
    opt = ao.Optimizer(x, method, **options)
    opt.step(g)  # the first of a schedule fetches its rates

    refuse_to_wait_or_copy(monkeypatch, type(x))
    opt.step(g)
    monkeypatch.undo()
    assert opt.t == 2


def test_the_gradients_stream_is_used_by_default(launches):
    stream = cuda.stream()
    opt = ao.Optimizer(there(np.ones(4, np.float32)), ao.SGD())
    g = there(np.ones(4, np.float32)).bind(stream)
    launches.clear()
    opt.step(g)
    assert launches == [stream]


class CuPyStream:
    ptr = 77


class TorchStream:
    cuda_stream = 78


class Protocol:
    def __cuda_stream__(self):
        return 0, 79


class Handle(type(cuda.stream())):
    """Numba's stream for a handle."""

    def __init__(self, handle):
        self.handle = handle

    def __int__(self):
        return self.handle


@in_the_simulator
@pytest.mark.parametrize(
    ("stream", "handle"), [(CuPyStream(), 77), (TorchStream(), 78), (Protocol(), 79), (80, 80)]
)
def test_streams_of_other_libraries(stream, handle, launches, monkeypatch):
    monkeypatch.setattr(cuda, "external_stream", Handle, raising=False)
    opt = ao.Optimizer(there(np.ones(4, np.float32)), ao.SGD())
    launches.clear()
    opt.step(there(np.ones(4, np.float32)), stream=stream)
    assert [int(stream) for stream in launches] == [handle]


@in_the_simulator
def test_places_are_stepped_on_the_stream_that_is_passed(launches, monkeypatch):
    monkeypatch.setattr(cuda, "external_stream", Handle, raising=False)
    opt = ao.Optimizer({name: there(np.ones(3, np.float32)) for name in "abc"}, ao.SGD(1.0))
    places = opt.grads
    launches.clear()
    opt.step(places, stream=81)
    assert [int(stream) for stream in launches] == [81]


@in_the_simulator
def test_places_on_two_streams_are_stepped_apart(launches):
    first, second = Handle(1), Handle(2)
    opt = ao.Optimizer({name: there(np.ones(3, np.float32)) for name in "abc"}, ao.SGD(1.0))
    places = dict(zip("abc", opt.grads.values(), strict=True))
    streams = {"a": first, "b": first, "c": second}
    launches.clear()
    opt.step({name: places[name].bind(stream) for name, stream in streams.items()})
    assert launches == [first, second]


def test_a_null_handle_is_the_default_stream():
    assert device.read_stream(0) == 0


def test_what_is_no_stream_is_refused():
    x = there(np.ones(4, np.float32))
    opt = ao.Optimizer(x, ao.SGD())
    with pytest.raises(TypeError, match="stream is 'fast', expected a stream of Numba, CuPy or"):
        opt.step(there(np.ones(4, np.float32)), stream="fast")
    assert opt.t == 0


# -- arrays of other libraries ---------------------------------------------------------------------


class Foreign:
    """An array of another library, over memory of the host that the simulator takes for its own."""

    def __init__(self, array, typestr=None, readonly=False, strides=None):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": typestr or array.dtype.str,
            "data": (array.ctypes.data, readonly),
            "strides": strides,
            "version": 3,
        }

    shape = property(lambda self: self.array.shape)


@pytest.fixture
def foreign(monkeypatch):
    """Have the simulator see such arrays, as Numba does."""

    def as_cuda_array(obj, sync=True):
        assert not sync
        interface = obj.__cuda_array_interface__
        seen = obj.array
        if interface["typestr"] == "<V2":
            seen = seen.view("V2")
        if interface["strides"]:
            seen = np.lib.stride_tricks.as_strided(seen, strides=interface["strides"])
        return type(there(np.zeros(1)))(seen)

    monkeypatch.setattr(cuda, "as_cuda_array", as_cuda_array, raising=False)


@in_the_simulator
@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_foreign_arrays_are_updated_without_a_copy(dtype):
    x, g = data(6, dtype).reshape(2, 3), data(6, dtype, seed=1).reshape(2, 3)
    expected = x.copy()
    ao.Optimizer(expected, ao.AdaGrad(0.1)).step(g)
    foreign = Foreign(x)
    opt = ao.Optimizer(foreign, ao.AdaGrad(0.1))
    opt.step(Foreign(g))
    assert opt.params is foreign
    np.testing.assert_array_equal(x, expected)


@in_the_simulator
@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.ones(3, np.float32), {"readonly": True}, "params is read-only, expected a writable"),
        (np.ones((2, 2)), {"strides": (8, 16)}, "params is not C-contiguous .* expected"),
        (np.ones(3, np.int32), {}, "params has dtype int32, expected float16, bfloat16, float32"),
        (np.ones(17, np.uint8)[1:].view(np.float32), {}, "params is not aligned to its dtype"),
    ],
)
def test_foreign_arrays_that_are_refused(array, options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        ao.Optimizer(Foreign(array, **options), ao.SGD())


# -- what is refused -------------------------------------------------------------------------------


def test_a_host_gradient_is_refused():
    opt = ao.Optimizer(there(np.ones(3, np.float32)), ao.SGD())
    with pytest.raises(TypeError, match=r"grads is a NumPy array, expected a CUDA array like par"):
        opt.step(np.ones(3, np.float32))
    assert opt.t == 0


def test_a_device_gradient_of_host_parameters_is_refused():
    opt = ao.Optimizer({"a": np.ones(3)}, ao.SGD())
    with pytest.raises(TypeError, match=r"grads\['a'\] is a CUDA array, expected a NumPy array"):
        opt.step({"a": there(np.ones(3))})
    assert opt.t == 0


def test_a_stream_for_the_host_is_refused():
    opt = ao.Optimizer(np.ones(3), ao.SGD())
    with pytest.raises(ValueError, match="stream is 5 with grads on the host, expected None"):
        opt.step(np.ones(3), stream=5)


@pytest.mark.parametrize(
    ("g", "error", "words"),
    [
        (np.ones(4, np.float32), ValueError, r"grads has shape \(4,\), expected \(3,\) like"),
        (np.ones(3), TypeError, "grads has dtype float64, expected float32 like params"),
    ],
)
def test_gradients_that_do_not_fit(g, error, words):
    opt = ao.Optimizer(there(np.ones(3, np.float32)), ao.SGD())
    with pytest.raises(error, match=words):
        opt.step(there(g))
    assert opt.t == 0


def test_parameters_in_two_places_are_refused():
    params = {"a": np.ones(3), "b": there(np.ones(3))}
    with pytest.raises(
        ValueError, match=r"params\['a'\] lies on the host and params\['b'\] on CUDA"
    ):
        ao.Optimizer(params, ao.SGD())


def test_maps_that_only_the_host_can_apply_are_refused():
    class Theirs(NonSeparable):
        def solve(self, x, rates):
            return x

    with pytest.raises(ValueError, match="prox is a Theirs with CUDA arrays, expected a map of ea"):
        ao.Optimizer(there(np.ones(3)), ao.SGD(), prox=Theirs())


def test_gradients_that_overlap_the_parameters_badly_are_refused():
    x = there(np.ones(8, np.float32))
    opt = ao.Optimizer(x[:4], ao.SGD())
    with pytest.raises(ValueError, match="grads overlaps params from another start"):
        opt.step(x[2:6])
    opt.step(x[:4])
    assert opt.t == 1


@pytest.mark.parametrize(
    "run",
    [
        lambda x: ao.minimize_many(lambda x: 0.0, x),
    ],
)
def test_front_ends_say_that_they_take_no_device_arrays(run):
    with pytest.raises(TypeError, match=r"(x0|X0) is a CUDA array, expected one on the host"):
        run(there(np.ones((2, 2))))


# -- norms and skipped steps -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("n", [63, 64, BLOCK + 130])
def test_sums_of_squares_are_those_of_the_cpu(n, dtype):
    g = data(n, dtype)
    ours = DEVICE.sum_of_squares(there(g), 0.5)
    theirs = placement.HOST.sum_of_squares(g, 0.5)
    assert ours == theirs if SIMULATED else ours == pytest.approx(theirs, rel=1e-14)
    assert SumOfSquares(g.dtype.name) is SumOfSquares(g.dtype.name)


@pytest.mark.parametrize("prox", [None, ao.Box(0.0, 0.5), ao.L1(0.2).within(ao.Box(0.0, 0.5))])
def test_gradient_norms_are_those_of_the_cpu(prox):
    x, g = np.abs(data(70)), data(70, seed=1)
    host = ao.Optimizer(x, ao.SGD(), prox).gradient_norm(g)
    assert ao.Optimizer(there(x), ao.SGD(), prox).gradient_norm(there(g)) == host


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_norm_of_a_gradient_that_is_not_finite_is_nan(bad):
    g = np.ones(70, np.float32)
    g[69] = bad
    assert np.isnan(ao.Optimizer(there(g), ao.SGD()).gradient_norm(there(g)))


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["dict", "file"])
@pytest.mark.parametrize("start", ["host", "device"])
def test_a_run_goes_on_in_the_other_place(way, start, tmp_path):
    x, gs = data(9, BFLOAT16), [data(9, BFLOAT16, seed=k) for k in range(4)]
    options = {"rounding": "stochastic", "master": True, "seed": 5}
    method = ao.RMSProp(0.1, centered=True, momentum=0.5)
    straight = x.copy()
    expected = ao.Optimizer(straight, method, **options)
    for g in gs:
        expected.step(g)
    places = [lambda a: a.copy(), there]
    first, second = places if start == "host" else places[::-1]
    begun = ao.Optimizer(first(x), method, **options)
    for g in gs[:2]:
        begun.step(first(g))
    gone_on = ao.Optimizer(second(np.zeros_like(x)), method, **options)
    if way == "dict":
        gone_on.load_state_dict(begun.state_dict())
    else:
        begun.save(tmp_path / "run.npz")
        gone_on.load(tmp_path / "run.npz")
    for g in gs[2:]:
        gone_on.step(second(g))
    assert gone_on.t == 4
    assert_same(gone_on.params, straight)
    assert_same(gone_on.state, expected.state)


def test_a_state_dict_holds_arrays_of_the_host():
    taken = ao.Optimizer(there(np.ones(3, np.float32)), ao.AdaGrad()).state_dict()
    entry = taken["parameters"][""]
    assert isinstance(entry["params"], np.ndarray)
    assert isinstance(entry["state"]["G"], np.ndarray)


def test_a_state_that_does_not_fit_changes_nothing():
    opt = ao.Optimizer(there(np.ones(3, np.float32)), ao.AdaGrad())
    with pytest.raises(ValueError, match=re.escape("expected float32 and (3,)")):
        opt.load_state_dict(ao.Optimizer(np.zeros(4, np.float32), ao.AdaGrad()).state_dict())
    assert back(opt.params).tolist() == [1.0] * 3


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}])
def test_hyperparameters_and_resets_count_on_a_device_as_on_the_host(options):
    host = ao.Optimizer(named(), METHODS, **options)
    device = ao.Optimizer({k: there(v) for k, v in named().items()}, METHODS, **options)
    for change in (
        lambda opt: opt.set(lr=0.05),
        lambda opt: opt.set("x", lr=0.5, weight_decay=0.1),
        lambda opt: opt.reset(),
    ):
        host.step(named())
        device.step({k: there(v) for k, v in named().items()})
        change(host)
        change(device)
        assert device.t == host.t
    host.step(named())
    device.step({k: there(v) for k, v in named().items()})
    for name in METHODS:
        assert_same(device.params[name], host.params[name])
        assert_same(device.state[name], host.state[name])


@pytest.mark.parametrize("how", [copy.deepcopy, pickle.dumps])
def test_an_optimizer_on_a_device_is_not_copied(how):
    with pytest.raises(TypeError, match=r"params are CUDA arrays.*state_dict\(\) returns copies"):
        how(ao.Optimizer(there(np.ones(3, np.float32)), ao.SGD()))


def plain(x, g, *rest):
    return x - rest[0] * g, rest[0], ()


def test_rules_with_a_rest_of_arguments_are_taken():
    @dataclass(frozen=True)
    class Rest(ao.Method):
        lr: float = 0.5
        other: float = 2.0
        rule = staticmethod(plain)

    x = there(np.ones(3, np.float32))
    ao.Optimizer(x, Rest()).step(there(np.ones(3, np.float32)))
    assert x.copy_to_host().tolist() == [0.5] * 3
