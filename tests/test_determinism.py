"""The same input gives the same bits, whatever the threads, the alignment and the position."""

import contextlib
import hashlib
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from methods_table import EACH_SHAPE, in_turn
from methods_table import METHODS as TABLE

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM

METHODS = [ao.AdaGrad(0.1), ao.RMSProp(0.1, centered=True, momentum=0.9, weight_decay=0.1)]


def data(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.integers(-3, 4, n)
    return [(rng.standard_normal(n) * scale).astype(dtype) for _ in range(4)]


@contextlib.contextmanager
def one_thread():
    """Take the serial kernel whatever the size."""
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def run(method, x, gs, prox=None):
    opt = ao.Optimizer(x, method, prox)
    for g in gs:
        opt.step(g)
    return [x.copy(), opt.learning_rates(), *[s.copy() for s in opt.state.values()]]


IN_TURN = pytest.mark.parametrize(
    ("name", "dtype", "prox"),
    in_turn(EACH_SHAPE, [np.float32, np.float64], [None, ao.Box(-1.0, 1.0)]),
)


@IN_TURN
def test_threaded_equals_serial(name, dtype, prox):
    method = TABLE[name]
    n = THREADED_FROM + 1237
    x, *gs = data(n, dtype)
    threaded = run(method, x.copy(), gs, prox)
    with one_thread():
        serial = run(method, x, gs, prox)
    for ours, theirs in zip(serial, threaded, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(start=st.integers(0, 40), count=st.integers(1, 70), tail=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_coordinate_alone_equals_the_coordinate_in_its_array(method, dtype, start, count, tail):
    """Vector bodies, scalar tails and misaligned starts round alike."""
    part = slice(start, start + count)
    x, *gs = data(start + count + tail, dtype)
    alone = run(method, x[part].copy(), [g[part].copy() for g in gs])
    inside = run(method, x[part], [g[part] for g in gs])
    whole = run(method, data(x.size, dtype)[0], gs)
    for a, b, c in zip(alone, inside, whole, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c[part])


# These processes find in the cache on disk what `test_threaded_equals_serial` has compiled.
THREADS = """
import hashlib, sys, numba, numpy as np, adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
n = THREADED_FROM + 3
rng = np.random.default_rng(0)
gs = rng.standard_normal((3, n)).astype(np.float32)
for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
    numba.set_num_threads(threads)
    x = np.zeros(n, np.float32)
    opt = ao.Optimizer(x, ao.RMSProp(0.1, momentum=0.9), ao.Box(-1.0, 1.0))
    for g in gs:
        opt.step(g)
    print(hashlib.sha256(x.tobytes() + opt.state["E"].tobytes()).hexdigest())
"""


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_any_number_of_threads_gives_the_same_bits():
    result = python(THREADS, NUMBA_NUM_THREADS="5")
    hashes = result.stdout.split()
    assert len(hashes) == 5, result.stderr
    assert len(set(hashes)) == 1


TWO_CALLERS = """
import threading, numpy as np, adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
n = THREADED_FROM + 1
g = np.random.default_rng(0).standard_normal(n)
results = []
def work():
    x = np.zeros(n)
    opt = ao.Optimizer(x, ao.SGD(0.1, weight_decay=0.1))
    for _ in range(60):
        opt.step(g)
    results.append(x)
callers = [threading.Thread(target=work) for _ in range(3)]
[c.start() for c in callers]
[c.join() for c in callers]
assert len(results) == 3 and all((r == results[0]).all() for r in results)
print("alive")
"""


@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_python_threads_may_step_at_the_same_time(layer):
    """Numba's workqueue layer aborts the process when two threads start kernels at once."""
    result = python(TWO_CALLERS, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2")
    if layer == "omp" and "No threading layer could be loaded" in result.stderr:
        pytest.skip("this system has no OpenMP")
    assert result.stdout == "alive\n", result.stderr


FORK = """
import os, numpy as np, adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM
n = THREADED_FROM + 1
x = np.zeros(n)
opt = ao.Optimizer(x, ao.SGD(0.1, weight_decay=0.1))
opt.step(np.ones(n))
child = os.fork()
if child == 0:
    opt.step(np.ones(n))
    os._exit(0 if opt.t == 2 and x[0] < -0.1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_may_step():
    """GNU OpenMP kills the child of a process that ran a parallel kernel at its first one."""
    result = python(FORK, NUMBA_NUM_THREADS="2")
    assert result.stdout == "0\n", result.stderr


@IN_TURN
def test_two_runs_give_the_same_bits(name, dtype, prox):
    x, *gs = data(1000, dtype)
    first, second = (run(TABLE[name], x.copy(), gs, prox) for _ in range(2))
    assert [hashlib.sha256(a).digest() for a in first] == [
        hashlib.sha256(a).digest() for a in second
    ]


def test_the_threads_are_more_than_one():
    """Otherwise nothing above was threaded."""
    assert numba.config.NUMBA_NUM_THREADS > 1 or os.cpu_count() == 1
