"""minimize on a device: the host's result, and nothing read back between two looks."""

import numpy as np
import pytest
from methods_table import METHODS
from numba import cuda
from numba.core.registry import CPUDispatcher
from on_device import SIMULATED, CuPyLike, assert_same, back, there

import adaptopt as ao
from adaptopt.cuda import looks as cuda_looks
from adaptopt.cuda import reductions as cuda_reductions

in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")

N = 70
RNG = np.random.default_rng(0)
CENTRE = RNG.standard_normal(N)
SCALE = np.exp(RNG.uniform(-2, 2, N))
KINDS = (np.float32, np.float64)


def host_bowl(dtype):
    centre, scale = CENTRE.astype(dtype), SCALE.astype(dtype)

    def bowl(x):
        d = x - centre
        return float(np.sum(scale * d * d)) / 2, scale * d

    return bowl


def host_values(fun):
    """Return a device objective that computes on the host, and returns the value as a number."""

    def bowl(x):
        f, g = fun(x.copy_to_host())
        return f, there(g)

    return bowl


def device_values(fun, dtype=np.float64):
    """The same, with the value in a device array of one number, written anew each time."""
    place = there(np.zeros(1, dtype))

    def bowl(x):
        f, g = fun(x.copy_to_host())
        place.copy_to_device(np.array([f], dtype))
        return place, there(g)

    return bowl


def run(fun, x, **options):
    rest = {name: options.pop(name) for name in ("bounds", "prox", "state", "callback", "method")
            if name in options}  # fmt: skip
    rest = {"method": ao.AdaGrad(0.5), **rest}
    return ao.minimize(fun, x, jac=True, options={"maxiter": 25, **options}, **rest)


def assert_same_result(device, host):
    for name in ("nit", "nfev", "njev", "status", "success", "message"):
        assert device[name] == host[name], name
    assert device.fun == (host.fun if SIMULATED else pytest.approx(host.fun))
    for name in ("x", "jac", "learning_rates"):
        assert_same(device[name], host[name])


# -- the same as on the host -----------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4, 10, None])
@pytest.mark.parametrize("values", [host_values, device_values], ids=["numbers", "arrays"])
@pytest.mark.parametrize("dtype", KINDS, ids=lambda t: t.__name__)
def test_the_result_is_the_hosts(dtype, values, every):
    fun, x = host_bowl(dtype), np.zeros(N, dtype)
    host = run(fun, x, check_every=every or 10, maxiter=15)
    assert_same_result(run(values(fun), there(x), check_every=every, maxiter=15), host)


@pytest.mark.parametrize("name", ["adam", "rmsprop-momentum", "adagrad-da", "nadam", "adadelta"])
def test_methods_are_the_hosts(name):
    x = np.zeros((7, 10), np.float32)
    centre = CENTRE.astype(np.float32).reshape(7, 10)

    def fun(x):
        return float(np.sum((x - centre) ** 2)), 2 * (x - centre)

    host = run(fun, x, method=METHODS[name], check_every=5)
    device = run(device_values(fun), there(x), method=METHODS[name], check_every=5)
    assert_same_result(device, host)


TESTS = {
    "gtol": {"gtol": 0.9},
    "ftol": {"ftol": 1e-2, "gtol": None},
    "xtol": {"xtol": 0.3, "gtol": None},
    "f_target": {"f_target": 40.0},
    "patience": {"patience": 3, "gtol": None, "lr": 30.0, "maxiter": 60},
    "maxfev": {"maxfev": 18},
}


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize("name", TESTS)
def test_stopping_tests_end_a_run_where_the_hosts_would(name, every):
    fun, x = host_bowl(np.float64), np.zeros(N)
    host = run(fun, x, check_every=every, **TESTS[name])
    device = run(device_values(fun), there(x), check_every=every, **TESTS[name])
    assert host.status == {"f_target": 5, "patience": 6, "maxfev": 2}.get(name, 0)
    assert_same_result(device, host)


MAPS = {
    "bounds": {"bounds": [(-0.2, 0.3)] * N},
    "l1": {"prox": ao.L1(0.5)},
    "elastic-net-in-bounds": {"prox": ao.ElasticNet(0.2, 0.3), "bounds": [(-0.2, 0.3)] * N},
    "arrays": {"prox": ao.L1(np.linspace(0, 1, N))},
}


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("name", MAPS)
def test_bounds_and_penalties(name, every):
    fun, x = host_bowl(np.float32), np.full(N, 2, np.float32)
    tests = {"ftol": 1e-3, "check_every": every, "maxiter": 15}
    host = run(fun, x, **tests, **MAPS[name])
    device = run(device_values(fun), there(x), **tests, **MAPS[name])
    # Penalties are summed in another order.
    assert device.fun == pytest.approx(host.fun, rel=1e-12 if SIMULATED else 1e-5)
    device.fun = host.fun
    assert_same_result(device, host)


def test_all_variables_may_be_fixed():
    res = run(device_values(host_bowl(np.float64)), there(np.zeros(N)), bounds=[(1, 1)] * N)
    assert (res.status, res.nit) == (0, 0)
    assert (back(res.x) == 1).all()


def test_a_separate_gradient():
    fun, x = host_bowl(np.float64), np.zeros(N)
    device = ao.minimize(
        lambda x, a: fun(x.copy_to_host())[0] * a,
        there(x),
        args=(1.0,),
        jac=lambda x, a: there(fun(x.copy_to_host())[1] * a),
        options={"maxiter": 20},
    )
    host = ao.minimize(
        fun, x, jac=True, method=ao.AdaGrad(), options={"maxiter": 20, "check_every": 10}
    )
    assert_same_result(device, host)


@cuda.jit
def cuda_bowl(x, centre, f, g):
    if cuda.grid(1) == 0:
        f[0] = 0.0
    cuda.syncthreads()
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        g[i] = 2 * (x[i] - centre[i])
        cuda.atomic.add(f, 0, (x[i] - centre[i]) ** 2)


def test_an_objective_made_of_a_kernel():
    centre, f, g = there(CENTRE), there(np.zeros(1)), there(np.zeros(N))

    def bowl(x):
        cuda_bowl[1, 64](x, centre, f, g)
        return f, g

    res = ao.minimize(bowl, there(np.zeros(N)), jac=True, options={"lr": 1.0})
    assert res.success
    np.testing.assert_allclose(back(res.x), CENTRE, atol=1e-4)


# -- looks -----------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch):
    """Count what waits for the device."""
    made = []

    def counted(original, name):
        def call(*args, **kwargs):
            made.append(name)
            return original(*args, **kwargs)

        return call

    kind = type(there(np.zeros(1)))
    monkeypatch.setattr(kind, "copy_to_host", counted(kind.copy_to_host, "copy"))
    monkeypatch.setattr(cuda, "synchronize", counted(cuda.synchronize, "synchronize"))
    return made


def kernel_bowl(waits, log):
    """An objective that does not wait, and writes down what has waited before."""
    centre, f, g = there(CENTRE), there(np.zeros(1)), there(np.zeros(N))

    def bowl(x):
        log.append(len(waits))
        cuda_bowl[1, 64](x, centre, f, g)
        return f, g

    return bowl


@in_the_simulator
@pytest.mark.parametrize("options", [{}, {"ftol": 1e-9, "xtol": 1e-9}], ids=["gtol", "all"])
def test_between_looks_nothing_is_read_back_and_at_a_look_one_array(waits, options):
    log = []
    ao.minimize(
        kernel_bowl(waits, log), there(np.zeros(N)), jac=True,
        prox=ao.L1(1e-3), options={"maxiter": 20, "check_every": 5, "gtol": 0.0, **options},
    )  # fmt: skip
    assert len(log) == 21
    # Steps 1 to 5 are taken after the look at the start; and so on.
    assert np.diff(log).tolist() == [1, 0, 0, 0, 0] * 4


def test_without_a_word_every_tenth_step_is_looked_at():
    seen = []
    run(device_values(host_bowl(np.float64)), there(np.zeros(N)),
        callback=lambda intermediate_result: seen.append(intermediate_result.nit))  # fmt: skip
    assert seen == [10, 20, 25]


def test_callbacks_and_history_come_with_the_next_look():
    seen = []
    res = run(
        device_values(host_bowl(np.float64)),
        there(np.zeros(N)),
        callback=lambda intermediate_result: seen.append(intermediate_result.nit),
        check_every=4,
        callback_every=6,
        history=5,
        return_all=True,
    )
    assert seen == [8, 12, 20, 24]
    assert res.history["t"].tolist() == [0, 8, 12, 16, 20, 25]
    assert len(res.allvecs) == 8
    assert_same(res.allvecs[-1], res.state.x)


def test_the_history_is_the_hosts():
    fun, x = host_bowl(np.float64), np.zeros(N)
    host = run(fun, x, check_every=3, history=True).history
    device = run(device_values(fun), there(x), check_every=3, history=True).history
    assert_same(device, host)


def test_a_callback_may_end_the_run_and_keeps_a_copy():
    kept = []

    def callback(xk):
        kept.append(xk)
        if len(kept) == 2:
            raise StopIteration

    res = run(device_values(host_bowl(np.float64)), there(np.zeros(N)), callback=callback)
    assert (res.status, res.nit) == (99, 20)
    assert (back(kept[0]) != back(kept[1])).any()


# -- what is not finite ----------------------------------------------------------------------------


def sick_after(count, what):
    """A bowl whose so many'th evaluation is not finite in one place, and which then recovers."""
    fun, calls = host_bowl(np.float64), []

    def bowl(x):
        calls.append(0)
        f, g = fun(np.nan_to_num(x, posinf=1.0, neginf=1.0))
        if len(calls) == count + 1:
            f = np.inf if what == "value" else f
            g[3] = np.nan if what == "gradient" else g[3]
        return f, g

    return bowl


@pytest.mark.parametrize("where", ["host", "numbers", "arrays"])
@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize("method", [ao.SGD(0.01), ao.AdaGrad(0.1)], ids=["sgd", "adagrad"])
def test_what_is_not_finite_between_looks_ends_the_run_at_the_next(method, what, where):
    fun, x = sick_after(7, what), np.zeros(N)
    if where != "host":
        fun = {"numbers": host_values, "arrays": device_values}[where](fun)
        x = there(x)
    # Bounds, which turn what is not finite into what is.
    res = run(fun, x, method=method, check_every=5, bounds=[(-1, 1)] * N)
    assert (res.status, res.success, res.nit) == (3, False, 10)
    assert "not finite at step 7. x is the best finite iterate, of step 5." in res.message
    assert np.isfinite(back(res.x)).all()
    assert np.isfinite(res.fun)
    # The state cannot be gone on with to a success either.
    again = run(fun, x, method=method, check_every=5, bounds=[(-1, 1)] * N, state=res.state)
    assert (again.status, again.nit) == (3, 0)


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_what_is_not_finite_at_a_look_ends_the_run(what):
    fun = sick_after(10, what)
    host = run(fun, np.zeros(N), check_every=5)
    device = run(device_values(sick_after(10, what)), there(np.zeros(N)), check_every=5)
    assert device.status == 3
    assert_same_result(device, host)


def test_the_policies():
    with pytest.raises(FloatingPointError, match="not finite at step 7"):
        run(device_values(sick_after(7, "value")), there(np.zeros(N)), nan_policy="raise")
    omitted = run(device_values(sick_after(7, "value")), there(np.zeros(N)), nan_policy="omit")
    host = run(sick_after(7, "value"), np.zeros(N), nan_policy="omit")
    assert_same_result(omitted, host)
    with pytest.raises(ValueError, match=r"'check_every'\] is 5 with nan_policy 'omit', expected"):
        run(device_values(host_bowl(np.float64)), there(np.zeros(N)), nan_policy="omit",
            check_every=5)  # fmt: skip


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["host-device", "device-host", "device-device", "file"])
def test_a_state_goes_on_exactly_wherever_it_is_from(way, tmp_path):
    fun, x = host_bowl(np.float64), np.zeros(N)
    straight = run(fun, x, check_every=5, maxiter=30, xtol=0.0, ftol=0.0)
    funs = {"host": fun, "device": device_values(fun), "file": device_values(fun)}
    first, second = way.split("-") if "-" in way else ("device", "device")
    state = None
    for place, steps in ((first, 13), (second, 17)):
        start = x if place == "host" else there(x)
        res = run(funs[place], start, check_every=5, maxiter=steps, state=state, xtol=0.0, ftol=0.0)
        state = res.state
        if way == "file":
            state.save(tmp_path / "run.npz")
            state = tmp_path / "run.npz"
    assert_same(res.x, straight.x)
    assert_same(res.state.x, straight.state.x)
    assert_same(res.state.slots, straight.state.slots)
    assert res.fun == (straight.fun if SIMULATED else pytest.approx(straight.fun))


def test_an_interrupt_loses_nothing():
    fun, calls = host_bowl(np.float64), []
    straight = run(device_values(fun), there(np.zeros(N)), maxiter=30)

    def interrupted(x):
        calls.append(0)
        if len(calls) == 14:
            raise KeyboardInterrupt
        return device_values(fun)(x)

    with pytest.raises(KeyboardInterrupt) as caught:
        run(interrupted, there(np.zeros(N)), maxiter=30)
    state = caught.value.state
    assert state.t == 13
    res = run(device_values(fun), there(np.zeros(N)), maxiter=17, state=state)
    assert_same(res.state.x, straight.state.x)


# -- arrays of other libraries ---------------------------------------------------------------------


class TorchLike:
    """What torch's tensors have of it."""

    def __init__(self, array, needs_gradient=False):
        self.array, self.needs_gradient = array, needs_gradient

    shape = property(lambda self: self.array.shape)
    device = "cuda:0"

    @property
    def __cuda_array_interface__(self):
        if self.needs_gradient:
            raise RuntimeError("Can't get __cuda_array_interface__ on a Variable")
        return CuPyLike(self.array).__cuda_array_interface__

    def detach(self):
        return type(self)(self.array)

    def contiguous(self):
        return self

    def clone(self):
        return type(self)(self.array.copy())

    def reshape(self, *shape):
        return type(self)(self.array.reshape(*shape))


@pytest.fixture
def foreign(monkeypatch):
    """Have the simulator see such arrays, as Numba does."""
    kind = type(there(np.zeros(1)))
    monkeypatch.setattr(
        cuda, "as_cuda_array", lambda obj, sync=True: kind(obj.array), raising=False
    )


@in_the_simulator
@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("shape", [(N,), (7, 10), ()])
@pytest.mark.parametrize("kind", [CuPyLike, TorchLike])
def test_an_objective_sees_arrays_of_the_library_of_x0(kind, shape):
    centre, x = np.resize(CENTRE, shape or 1), np.zeros(shape)

    def fun(x):
        return float(np.sum((x - centre) ** 2)), 2 * (x - centre)

    def theirs(x):
        assert type(x) is kind
        f, g = fun(x.array)
        return kind(np.array(f)), kind(g)

    x0 = kind(x.copy())
    seen = []
    res = run(theirs, x0, callback=seen.append)
    assert type(res.x) is type(res.jac) is type(seen[0]) is kind
    assert (x0.array == 0).all()
    host = run(fun, x, check_every=10)
    np.testing.assert_array_equal(res.x.array, host.x)
    np.testing.assert_array_equal(res.jac.array, host.jac)
    assert res.fun == host.fun


@in_the_simulator
@pytest.mark.usefixtures("foreign")
def test_values_with_a_graph_are_detached():
    def fun(x):
        x.needs_gradient = True
        return TorchLike(np.array(0.5 * np.sum(x.array**2)), True), TorchLike(x.array.copy(), True)

    res = run(fun, TorchLike(np.ones(N)), gtol=0.5, callback=lambda xk: None)
    assert res.success
    assert not res.x.needs_gradient


@in_the_simulator
@pytest.mark.usefixtures("foreign")
def test_torchs_current_stream_is_that_of_the_run(monkeypatch):
    import sys
    from types import SimpleNamespace

    stream = SimpleNamespace(cuda_stream=78)
    torch = SimpleNamespace(Tensor=TorchLike, cuda=SimpleNamespace(current_stream=lambda d: stream))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(cuda, "external_stream", Handle, raising=False)
    used = set()
    launch = cuda_looks.DeviceKernel.launch

    def noted(self, size, stream, *arguments):
        used.add(stream)
        launch(self, size, stream, *arguments)

    fun = host_bowl(np.float64)

    def theirs(x):
        used.clear()
        f, g = fun(x.array)
        return TorchLike(np.array(f)), TorchLike(g)

    monkeypatch.setattr(cuda_looks.DeviceKernel, "launch", noted)
    seen = []
    run(theirs, TorchLike(np.zeros(N)), ftol=0.0, xtol=0.0, prox=ao.L1(0.1), maxiter=9,
        callback=lambda xk: seen.append(set(used)))  # fmt: skip
    assert seen == [{Handle(78)}]


class Handle(int):
    """A stream."""

    def synchronize(self):
        pass


# -- what is refused -------------------------------------------------------------------------------


@CPUDispatcher  # njit, also where NUMBA_DISABLE_JIT is set
def compiled(x):
    return 0.0, x


@CPUDispatcher  # njit, also where NUMBA_DISABLE_JIT is set
def another_compiled(x, g):
    return 0.0


def fine(x):
    return 0.0, x


BAD = {
    "differences": ({"jac": None}, ValueError, "jac is None with x0 a CUDA array, expected True"),
    "two-point": ({"jac": "2-point"}, ValueError, "jac is '2-point' with x0 a CUDA array"),
    "compiled": ({"fun": compiled}, TypeError, "fun is compiled for the CPU"),
    "compiled-in-place": ({"fun": another_compiled}, TypeError, "fun is compiled for the CPU"),
    "no-callable": ({"fun": 3.0}, TypeError, "fun is 3.0, expected a callable"),
    "problem": (
        {"fun": ao.problems.LeastSquares(np.eye(3), np.ones(3))},
        *(TypeError, "fun is a LeastSquares of data on the host with x0 a CUDA array"),
    ),
    "certificate": (
        {"options": {"certificate": True}, "bounds": [(0, 1)] * 3},
        *(ValueError, r"options\['certificate'\] is True with x0 a CUDA array, expected None"),
    ),
    "dtype": (
        {"x0": np.zeros(3, np.int64)},
        *(TypeError, "x0 has dtype int64, expected float32 or float64 on a CUDA device"),
    ),
    "nan": (
        {"x0": np.array([0.0, np.nan, 1.0])},
        *(ValueError, r"x0\[1\] is nan, expected finite numbers"),
    ),
    "bounds": ({"bounds": [(0, 1)]}, ValueError, "bounds has 1 entries, expected 3 pairs"),
    "simplex": ({"prox": ao.Simplex()}, ValueError, "prox is a Simplex with x0 a CUDA array"),
    "check_every": (
        {"options": {"check_every": 0}},
        *(ValueError, r"options\['check_every'\] is 0, expected a whole number >= 1 or None"),
    ),
}


@pytest.mark.parametrize(("change", "error", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_is_refused_before_fun_is_called(change, error, words):
    def never(x):
        raise AssertionError("fun was called")

    arguments = {"fun": never, "x0": np.zeros(3), "jac": True, **change}
    arguments["x0"] = there(arguments["x0"])
    with pytest.raises(error, match=words):
        ao.minimize(**arguments)


RETURNED = {
    "host-gradient": (
        lambda x: (0.0, np.zeros(3)),
        *(TypeError, "the gradient is a NumPy array, expected a CUDA array like params"),
    ),
    "shape": (
        lambda x: (0.0, there(np.zeros(4))),
        *(ValueError, r"the gradient has shape \(4,\), expected \(3,\)"),
    ),
    "dtype": (
        lambda x: (0.0, there(np.zeros(3, np.float32))),
        *(TypeError, "the gradient has dtype float32, expected float64"),
    ),
    "values": (
        lambda x: (there(np.zeros(2)), x),
        *(ValueError, r"fun returned a value of shape \(2,\), expected one number"),
    ),
    "no-pair": (lambda x: 0.0, TypeError, r"fun returned a float, expected a pair \(value, grad"),
    "text": (lambda x: ("1", x), TypeError, "fun returned '1', expected a real number"),
}


@pytest.mark.parametrize(("fun", "error", "words"), RETURNED.values(), ids=RETURNED)
def test_what_an_objective_may_not_return(fun, error, words):
    with pytest.raises(error, match=words):
        ao.minimize(fun, there(np.zeros(3)), jac=True)


@pytest.mark.parametrize(
    ("fun", "words"),
    [
        (lambda x: (0.0, there(x)), "the gradient is a CUDA array, expected one on the host"),
        (lambda x: (there(x[:1]), x), "what fun returned is a CUDA array, expected one on the"),
    ],
    ids=["gradient", "value"],
)
def test_a_device_gradient_for_a_point_on_the_host_is_refused(fun, words):
    with pytest.raises(TypeError, match=words):
        ao.minimize(fun, np.zeros(3), jac=True)


def test_sums_of_penalties_are_the_same_for_any_number_of_blocks(monkeypatch):
    x = RNG.standard_normal(1000)
    sums = []
    for block in (1000, 64):
        monkeypatch.setattr(cuda_looks, "BLOCK", block)
        out = there(np.zeros(-(-x.size // block)))
        plan = ao.Optimizer(x, ao.SGD(), ao.L1(0.5))._plan()
        kernel = cuda_looks.costs_kernel.__wrapped__(plan.prox.cost, plan.layout)
        kernel.launch(cuda_looks.costs_size(x.size), 0, there(x), (), (0.5,), out)
        sums.append(out.copy_to_host().sum())
    assert sums == pytest.approx([0.5 * np.abs(x).sum()] * 2)
    assert cuda_reductions.LANES == 64
