"""minimize_finite_sum on a device: the host's result, from rows gathered there."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse
from methods_table import METHODS
from numba import cuda
from numba.core.registry import CPUDispatcher
from on_device import SIMULATED, CuPyLike, assert_same, back, there

import adaptopt as ao
from adaptopt.cuda import batches as cuda_epochs
from adaptopt.solvers import epochs

in_the_simulator = pytest.mark.skipif(not SIMULATED, reason="replaces parts of the simulator")

N, D = 41, 3
RNG = np.random.default_rng(0)
A = RNG.standard_normal((N, D))
B = A @ [1.0, -2.0, 0.5] + 0.1 * RNG.standard_normal(N)
HELD_OUT = (A[:13] + 0.1, B[:13])


def squares(x, A, b):
    """Half the mean square of the residuals."""
    r = A @ x - b
    return r @ r / (2 * len(b)), A.T @ r / len(b)


def numbered(x, idx):
    return squares(x, A[idx], B[idx])


def on_device(fun, as_array=True):
    """Return what computes on the host and returns a gradient, and a loss, on the device."""
    places = {kind: there(np.zeros(1, kind)) for kind in ("float32", "float64")}

    def call(x, *batch):
        f, g = fun(*[array.copy_to_host() for array in (x, *batch)])
        if not as_array:
            return f, there(g)
        values = np.atleast_1d(f)
        place = places[values.dtype.name]
        place.copy_to_device(values)
        return place, there(g)

    return call


def solve(fun=squares, x0=None, data=(A, B), options=None, **others):
    x0 = np.zeros(D) if x0 is None else x0
    others = {"batch_size": 8, "epochs": 3, "rng": 0, "method": "adagrad", **others}
    return ao.minimize_finite_sum(fun, x0, data, options={"lr": 0.5, **(options or {})}, **others)


def moved(value):
    """Copy data to the device, where it is data of the host."""
    if isinstance(value, tuple):
        return tuple(there(array) for array in value)
    return there(value) if isinstance(value, np.ndarray) else value


def both(fun=squares, data=(A, B), as_array=True, x0=None, **others):
    """Return the results of the device and of the host."""
    x0 = np.zeros(D) if x0 is None else x0
    on_host = dict(others)
    if isinstance(others.get("validation"), tuple):
        others["validation"] = moved(others["validation"])
    every = (others.get("options") or {}).get("check_every", 10)
    if (others.get("options") or {}).get("nan_policy") != "omit":
        on_host["options"] = {**(others.get("options") or {}), "check_every": every}
    host = solve(fun, x0, data, **on_host)
    return solve(on_device(fun, as_array), there(x0), moved(data), **others), host


NUMBERS = ("nit", "nfev", "njev", "epochs", "status", "success", "message")


def assert_same_run(device, host):
    for name in NUMBERS:
        assert device[name] == host[name], name
    for name in ("x", "jac", "learning_rates"):
        assert_same(device[name], host[name])
    for name in ("x", "slots"):
        assert_same(getattr(device.state, name), getattr(host.state, name))
    for name in ("fun", "epoch_losses", "validation_losses"):
        if SIMULATED:
            np.testing.assert_array_equal(device[name], host[name])
        else:
            np.testing.assert_allclose(device[name], host[name], rtol=1e-5)
    assert device.state.rng == host.state.rng


# -- the same as on the host -----------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize("as_array", [False, True], ids=["numbers", "arrays"])
def test_the_result_is_the_hosts(as_array, every):
    assert_same_run(*both(as_array=as_array, options={"check_every": every}))


OPTIONS = {
    "as-they-lie": {"shuffle": False},
    "drop-last": {"drop_last": True},
    "one-batch": {"batch_size": 100},
    "bounds": {"bounds": [(-0.5, 0.5)] * D},
    "uniform": {"average": "uniform"},
    "polynomial": {"average": "polynomial", "bounds": [(-0.5, 0.5)] * D},
    "validation-data": {"validation": HELD_OUT},
    "validation-average": {"validation": HELD_OUT, "average": "uniform"},
    "tol": {"tol": 0.5, "epochs": 20},
    "f_target": {"options": {"f_target": 0.5}, "epochs": 20},
    "patience": {"options": {"patience": 1, "lr": 50.0}, "epochs": 20},
    "history": {"options": {"check_every": 3, "history": True}},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    device, host = both(**OPTIONS[name])
    assert_same_run(device, host)
    if host.history:
        assert_same(device.history, host.history)


def test_penalties():
    device, host = both(prox=ao.L1(0.05), method=ao.AdaGrad(0.5, weight_decay=0.1))
    assert device.fun == pytest.approx(host.fun, rel=1e-12 if SIMULATED else 1e-5)
    device.fun = host.fun
    assert_same_run(device, host)


@pytest.mark.parametrize("name", ["sgd", "adam", "nesterov", "adagrad-da"])
def test_methods(name):
    assert_same_run(*both(method=METHODS[name]))


@pytest.mark.parametrize("average", [None, "polynomial"])
def test_float32(average):
    data = (A.astype(np.float32), B.astype(np.float32))
    device, host = both(data=data, x0=np.zeros(D, np.float32), average=average)
    assert device.x.dtype == np.float32
    assert_same_run(device, host)


@pytest.mark.parametrize("shuffle", [True, False])
def test_row_numbers(shuffle):
    def fun(x, idx):
        assert idx.dtype == np.int64
        return numbered(x, idx)

    validation = np.arange(5, 17)
    assert_same_run(*both(fun, N, shuffle=shuffle, validation=validation))


def test_a_validation_that_is_a_function():
    def validation(x):
        return float(np.sum((x - 1) ** 2))

    def on_gpu(x):
        return there(np.array([validation(x.copy_to_host())]))

    host = solve(validation=validation, options={"check_every": 10})
    assert_same_run(
        solve(on_device(squares), there(np.zeros(D)), moved((A, B)), validation=on_gpu), host
    )


@pytest.mark.parametrize(
    "dtype", [np.int8, np.bool_, np.int16, np.float16, np.int32, np.float32, np.int64], ids=str
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 2), (40,)], ids=str)
def test_rows_of_any_kind_are_gathered(shape, dtype):
    rows = RNG.integers(0, 100, (N, *shape)).astype(dtype)
    numbers, seen = [], []

    def fun(x, idx, batch):
        numbers.append(idx.copy_to_host())
        seen.append(batch.copy_to_host())
        return 0.0, there(np.zeros(1))

    ao.minimize_finite_sum(
        fun, there(np.zeros(1)), moved((np.arange(N), rows)), batch_size=9, epochs=2, rng=3
    )
    for idx, batch in zip(numbers, seen, strict=True):
        assert batch.dtype == dtype
        np.testing.assert_array_equal(batch, rows[idx])


def test_many_blocks_gather_as_one(monkeypatch):
    monkeypatch.setattr(cuda_epochs, "launch_size", lambda n: (3, 256))
    data, order = RNG.standard_normal((300, 2)), RNG.permutation(300)
    out = there(np.zeros(400, np.uint64))
    words = there(data.reshape(-1).view(np.uint64))
    cuda_epochs.gather_rows(out, words, there(order), 50, 200, 2)
    gathered = out.copy_to_host().view(np.float64).reshape(-1, 2)
    np.testing.assert_array_equal(gathered, data[order[50:250]])


# -- what waits ------------------------------------------------------------------------------------


@cuda.jit
def cuda_squares(x, A, b, f, g):
    """By one thread."""
    if cuda.grid(1) == 0:
        f[0] = 0.0
        for j in range(x.size):
            g[j] = 0.0
        for i in range(b.size):
            r = -b[i]
            for j in range(x.size):
                r += A[i, j] * x[j]
            f[0] += r * r / (2 * b.size)
            for j in range(x.size):
                g[j] += A[i, j] * r / b.size


def kernel_squares(log=None, waits=()):
    f, g = there(np.zeros(1)), there(np.zeros(D))

    def fun(x, A, b):
        if log is not None:
            log.append(len(waits))
        cuda_squares[1, 32](x, A, b, f, g)
        return f, g

    return fun


def test_an_objective_made_of_a_kernel():
    res = solve(kernel_squares(), there(np.zeros(D)), moved((A, B)))
    host = solve(options={"check_every": 10})
    np.testing.assert_allclose(back(res.x), host.x, rtol=1e-9)


@in_the_simulator
def test_between_looks_nothing_is_read_back(monkeypatch):
    waits, log = [], []
    kind = type(there(np.zeros(1)))
    for owner, name in ((kind, "copy_to_host"), (cuda, "synchronize"), (cuda, "device_array")):
        original = getattr(owner, name)

        def counted(*args, _original=original, **kwargs):
            waits.append(0)
            return _original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    res = solve(
        kernel_squares(log, waits), there(np.zeros(D)), moved((A, B)), batch_size=4, epochs=1,
        average="uniform", options={"check_every": 4},
    )  # fmt: skip
    assert res.nit == 11
    # The first makes room for the rows; batches 1, 5 and 9 are looked at before the step.
    assert np.diff(log[:11]).tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


# -- what is not finite ----------------------------------------------------------------------------


def sick_at(count, what):
    """Squares whose so many'th evaluation is not finite in one place, and which then recover."""
    calls = []

    def fun(x, A, b):
        calls.append(0)
        f, g = squares(np.nan_to_num(x, posinf=1.0, neginf=1.0), A, b)
        if len(calls) == count:
            f = np.inf if what == "value" else f
            g[1] = np.nan if what == "gradient" else g[1]
        return f, g

    return fun


@pytest.mark.parametrize("where", ["host", "device"])
@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize(("every", "nit"), [(4, 8), (100, 11)])
def test_what_is_not_finite_between_looks_ends_the_run_at_the_next(every, nit, what, where):
    fun, x0, data = sick_at(6, what), np.zeros(D), (A, B)
    if where == "device":
        fun, x0, data = on_device(fun), there(x0), moved(data)
    others = {
        "method": ao.SGD(0.1), "options": {"check_every": every, "lr": 0.1}, "batch_size": 4,
        "bounds": [(-1, 1)] * D,
    }  # fmt: skip
    res = solve(fun, x0, data, **others)
    assert (res.status, res.success, res.nit) == (3, False, nit)
    assert "not finite over a batch after step 5." in res.message
    assert np.isfinite(back(res.x)).all()
    again = solve(fun, x0, data, state=res.state, **others)
    assert (again.status, again.success, again.nit) == (3, False, 0)


@pytest.mark.parametrize("what", ["value", "gradient"])
@pytest.mark.parametrize("policy", ["stop", "omit"])
def test_policies_are_the_hosts(policy, what):
    options = {"nan_policy": policy, **({"check_every": 1} if policy == "stop" else {})}
    device = solve(on_device(sick_at(6, what)), there(np.zeros(D)), moved((A, B)), options=options)
    assert_same_run(device, solve(sick_at(6, what), options=options))


@pytest.mark.parametrize("what", ["value", "gradient"])
def test_a_mean_over_all_rows_leaves_out_what_is_not_finite(what, monkeypatch):
    """After 18 batches all rows are evaluated, here in 5 pieces."""
    monkeypatch.setattr(epochs, "FULL_ROWS", 10)
    options = {"nan_policy": "omit"}
    device = solve(on_device(sick_at(20, what)), there(np.zeros(D)), moved((A, B)), options=options)
    assert_same_run(device, solve(sick_at(20, what), options=options))


# -- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["host-device", "device-host", "file"])
@pytest.mark.parametrize("average", [None, "polynomial"])
def test_a_state_goes_on_exactly_wherever_it_is_from(average, way, tmp_path):
    others = {"average": average, "validation": HELD_OUT}
    straight = solve(epochs=4, options={"check_every": 10}, **others)
    places = way.split("-") if "-" in way else ["device", "device"]
    state = None
    for place in places:
        if place == "host":
            res = solve(epochs=2, state=state, options={"check_every": 10}, **others)
        else:
            res = solve(
                on_device(squares), there(np.zeros(D)), moved((A, B)), epochs=2, state=state,
                **{**others, "validation": moved(HELD_OUT)},
            )  # fmt: skip
        state = res.state
        if way == "file":
            state.save(tmp_path / "run.npz")
            state = tmp_path / "run.npz"
    assert_same(res.x, straight.x)
    assert_same(res.state.x, straight.state.x)
    assert res.fun == (straight.fun if SIMULATED else pytest.approx(straight.fun))


def test_an_interrupt_within_an_epoch_loses_nothing():
    straight = solve(on_device(squares), there(np.zeros(D)), moved((A, B)), epochs=3)
    calls = []

    def interrupted(x, A, b):
        calls.append(0)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return on_device(squares)(x, A, b)

    with pytest.raises(KeyboardInterrupt) as caught:
        solve(interrupted, there(np.zeros(D)), moved((A, B)), epochs=3)
    state = caught.value.state
    assert (state.t, state.epoch, state.done) == (8, 1, 16)
    res = solve(on_device(squares), there(np.zeros(D)), moved((A, B)), epochs=2, state=state)
    assert_same(res.x, straight.x)
    np.testing.assert_array_equal(res.epoch_losses, straight.epoch_losses[1:])


def test_callbacks_may_end_the_run():
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)
        if intermediate_result.epoch == 2:
            raise StopIteration

    res = solve(on_device(squares), there(np.zeros(D)), moved((A, B)), callback=callback)
    assert (res.status, res.epochs) == (99, 2)
    assert (back(seen[0].x) != back(seen[1].x)).any()


# -- arrays of other libraries ---------------------------------------------------------------------


@in_the_simulator
def test_batches_are_of_the_library_of_the_data(monkeypatch):
    kind = type(there(np.zeros(1)))
    seen = lambda obj, sync=True: kind(obj.array)  # noqa: E731
    monkeypatch.setattr(cuda, "as_cuda_array", seen, raising=False)
    cupy = SimpleNamespace(asarray=lambda array: CuPyLike(array._ary))
    monkeypatch.setitem(sys.modules, "cupy", cupy)

    def fun(x, *batch):
        assert {type(array) for array in (x, *batch)} == {CuPyLike}
        f, g = squares(*[array.array for array in (x, *batch)])
        return CuPyLike(np.array(f)), CuPyLike(g)

    def of_numbers(x, idx):
        return fun(x, CuPyLike(A[idx.array]), CuPyLike(B[idx.array]))

    host = solve(options={"check_every": 10})
    x0 = CuPyLike(np.zeros(D))
    for res in (solve(fun, x0, (CuPyLike(A), CuPyLike(B))), solve(of_numbers, x0, N)):
        assert type(res.x) is CuPyLike
        np.testing.assert_array_equal(res.x.array, host.x)


# -- what is refused -------------------------------------------------------------------------------


@CPUDispatcher  # njit, also where NUMBA_DISABLE_JIT is set
def compiled(x, idx):
    return 0.0, x


BAD = {
    "problem": (
        {"fun": ao.problems.LeastSquares(A, B), "data": None},
        *(TypeError, "fun is a problem of data on the host with x0 a CUDA array, expected a fun"),
    ),
    "no-data": ({"data": None}, TypeError, "with data None with x0 a CUDA array, expected a fu"),
    "csr": (
        {"data": (scipy.sparse.csr_array(A), there(B))},
        *(TypeError, r"data\[0\] is a csr_array, expected a CUDA array of rows like x0: sparse ro"),
    ),
    "host-data": ({"data": A}, TypeError, "data is a ndarray, expected a CUDA array of rows"),
    "lengths": (
        {"data": (there(A), there(B[:4]))},
        *(ValueError, r"data has arrays of \[41, 4\] rows, expected as many in each"),
    ),
    "no-arrays": ({"data": ()}, ValueError, r"data is \(\), expected at least one array"),
    "no-rows": ({"data": 0}, ValueError, "data is 0, expected at least 1 row"),
    "parallel": (
        {"parallel": "deterministic"},
        *(ValueError, "parallel is 'deterministic' with x0 a CUDA array, expected None"),
    ),
    "compiled": ({"fun": compiled, "data": N}, TypeError, "fun is compiled for the CPU"),
    "validation": (
        {"validation": there(A)},
        *(ValueError, "validation has 1 arrays, expected 2 like data"),
    ),
    "validation-problem": (
        {"validation": ao.problems.LeastSquares(A, B)},
        *(TypeError, "validation is .* with x0 a CUDA array, expected a Python function"),
    ),
    "validation-numbers": (
        {"data": N, "validation": there(np.arange(3))},
        *(TypeError, "validation is a CUDA array of row numbers, expected one on the host"),
    ),
    "omit": (
        {"options": {"nan_policy": "omit", "check_every": 5}},
        *(ValueError, r"'check_every'\] is 5 with nan_policy 'omit', expected 1"),
    ),
}


@pytest.mark.parametrize(("change", "error", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_is_refused_before_fun_is_called(change, error, words):
    def never(x, *batch):
        raise AssertionError("fun was called")

    with pytest.raises(error, match=words):
        solve(**{"fun": never, "x0": there(np.zeros(D)), "data": (there(A), there(B)), **change})


def test_device_data_for_a_point_on_the_host_are_refused():
    with pytest.raises(TypeError, match=r"data\[0\] is a CUDA array, expected one on the host"):
        solve(data=(there(A), there(B)))
