"""The simulator's threads take turns: what a barrier is for is seen where one is missing."""

import numpy as np
import pytest
from numba import cuda, types
from on_device import SIMULATED

if not SIMULATED:
    pytest.skip("the simulator's own tests", allow_module_level=True)

N = 8


@cuda.jit
def turn_round(out):
    shared = cuda.shared.array(N, types.float64)
    shared[cuda.threadIdx.x] = cuda.threadIdx.x
    cuda.syncthreads()
    out[cuda.threadIdx.x] = shared[N - 1 - cuda.threadIdx.x]


@cuda.jit
def turn_round_too_early(out):
    shared = cuda.shared.array(N, types.float64)
    shared[cuda.threadIdx.x] = cuda.threadIdx.x
    out[cuda.threadIdx.x] = shared[N - 1 - cuda.threadIdx.x]
    cuda.syncthreads()


@cuda.jit
def last_one_wins(out):
    out[0] = cuda.threadIdx.x


@cuda.jit
def one_fails(out):
    cuda.syncthreads()
    if cuda.threadIdx.x == 3:
        raise ZeroDivisionError("three")
    cuda.syncthreads()


def run(kernel):
    out = cuda.to_device(np.zeros(N))
    kernel[1, N](out)
    return out.copy_to_host()


def test_after_a_barrier_all_have_written():
    assert run(turn_round).tolist() == [*range(N)][::-1]


def test_without_a_barrier_some_have_not():
    found = run(turn_round_too_early)
    assert np.isnan(found).any()
    assert not np.isnan(found).all()


def test_the_order_is_another_one_each_time():
    assert len({run(last_one_wins)[0] for _ in range(20)}) > 1


def test_an_error_of_one_thread_ends_the_launch():
    with pytest.raises(ZeroDivisionError, match="three"):
        run(one_fails)
    assert run(turn_round).tolist() == [*range(N)][::-1]
