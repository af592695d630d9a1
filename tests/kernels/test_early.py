"""Python runs the first calls of a search, and a compiler begins when that is worth it."""

import threading

import numpy as np
import pytest
from numba import types

import adaptopt as ao
from adaptopt.kernels import early
from adaptopt.kernels.compile import compile_kernel
from adaptopt.kernels.formats import unchanged
from adaptopt.kernels.search_loop import search_kernel

# A search takes seconds to compile: that of one kernel is needed elsewhere too, in test_search.py,
# the other has all that a search can have.
CASES = {
    "adam": (ao.Adam("auto"), "float64", None),
    "rmsprop": (ao.RMSProp("auto", centered=True, momentum=0.5), "float32", ao.Box(-0.5, 0.7)),
}


@pytest.fixture(autouse=True)
def anew():
    """Make kernels of the search anew, before and after."""
    search_kernel.cache_clear()
    yield
    search_kernel.cache_clear()


def rosenbrock(x):
    a = x.astype(float)
    f = float((100 * (a[1:] - a[:-1] ** 2) ** 2 + (1 - a[:-1]) ** 2).sum())
    g = np.zeros_like(a)
    g[:-1] -= 400 * a[:-1] * (a[1:] - a[:-1] ** 2) + 2 * (1 - a[:-1])
    g[1:] += 200 * (a[1:] - a[:-1] ** 2)
    return f, g.astype(x.dtype)


def steep(x):
    a = x.astype(float) * 10.0 ** np.arange(-3, x.size - 3)
    with np.errstate(over="ignore"):
        f, g = float((np.exp(a) - a).sum()), np.exp(a) - 1
    return f, (g * 10.0 ** np.arange(-3, x.size - 3)).astype(x.dtype)


def runs(name):
    method, dtype, prox = CASES[name]
    for fun in (rosenbrock, steep, lambda x: (np.abs(x).sum(), np.sign(x))):
        x0 = np.linspace(-1.2, 1.0, 5).astype(dtype)
        res = ao.minimize(fun, x0, jac=True, method=method, prox=prox, options={"maxfev": 150})
        rates = res.learning_rates
        yield res.x.tobytes(), rates.tobytes(), res.fun, res.lr, res.nit, res.nfev, res.status


@pytest.mark.parametrize("name", CASES)
def test_python_comes_to_the_bits_of_the_compiled_search(name, monkeypatch):
    monkeypatch.setattr(early, "_patience", 1000)
    in_python = list(runs(name))
    search_kernel.cache_clear()
    with early.at_once():
        assert in_python == list(runs(name))


def make_fill():
    def fill(x, value, fails):
        for i in range(x.size):
            x[i] = value
            if fails == i:
                raise KeyboardInterrupt
        return x.size

    return fill


def kernel(log):
    """Return a kernel of calls by Python, by code from the disk, or by code compiled anew."""

    def filler(who):
        return lambda x, value, fails: log.append(who) or make_fill()(x, value, fails)

    return early.EarlyKernel(
        filler("python"),
        lambda x, value, fails: x.size,
        lambda: filler("disk") if log[0] == "on disk" else None,
        lambda: filler("compiler"),
    )


@pytest.mark.parametrize(
    ("where", "first_python", "then"),
    [
        ("on disk", early.LOADED, "disk"),
        ("not on disk", early.COMPILED, "compiler"),
    ],
)
def test_work_is_counted_in_elements_and_calls(where, first_python, then):
    log = [where]
    fill = kernel(log)
    for _ in range(700):
        fill(np.zeros(84), 1.0, -1)
    assert log.count("python") == first_python // (84 + early.CALL)
    assert set(log[1 + log.count("python") :]) == {then}


def test_a_call_of_more_elements_is_compiled_at_once():
    log = ["not on disk"]
    kernel(log)(np.zeros(early.SHORT + 1), 1.0, -1)
    assert log[1:] == ["compiler"]


def test_a_short_call_does_not_wait_for_a_compiler():
    log, compiling, go_on = ["not on disk"], threading.Event(), threading.Event()
    fill = kernel(log)

    def build():
        compiling.set()
        assert go_on.wait(60)
        return make_fill()

    fill._build = build
    thread = threading.Thread(target=fill, args=(np.zeros(early.SHORT + 1), 1.0, -1))
    thread.start()
    assert compiling.wait(60)
    fill(np.zeros(2), 1.0, -1)
    go_on.set()
    thread.join()
    assert log[1:] == ["python"]


def test_an_interrupt_in_python_leaves_everything_as_it_was():
    x = np.zeros(4)
    fill = kernel(["not on disk"])
    with pytest.raises(KeyboardInterrupt):
        fill(x, 1.0, 2)
    assert not x.any()
    fill(x, 1.0, -1)
    assert x.all()


def test_a_function_of_the_users_is_compiled_at_once():
    def make(function):
        return lambda x: function(x)

    signature = types.float64(types.float64)
    ours, theirs = (
        compile_kernel(make, (function,), signature, early=lambda x: 1)
        for function in (unchanged, lambda x: x + 1)
    )
    assert isinstance(ours, early.EarlyKernel)
    assert ours(2.0) == 2
    assert not isinstance(theirs, early.EarlyKernel)
    assert theirs(2.0) == 3
