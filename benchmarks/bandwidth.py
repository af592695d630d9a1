"""How close a step comes to the memory bandwidth, and what a short step and the import cost.

Run it on a machine that does nothing else. What is compared is measured in turns, so that a slow
moment of the machine meets all alike; the figures are medians.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # before numba loads OpenMP

import subprocess
import sys
import time
from itertools import cycle

import numba
import numpy as np

import adaptopt as ao

LONG, SHORT = 20_000_000, 1000
ROUNDS, STARTS = 25, 7

FIRST_STEP = """
import numpy as np, adaptopt as ao
x = np.ones(1000, np.float32)
ao.Optimizer(x, ao.AdaGrad()).step(x.copy())
"""


@numba.njit("void(float32[::1], float32[::1], float32[::1])", parallel=True, error_model="numpy")
def five_streams(x, g, s):
    """Read and write what a step does, with the least arithmetic that needs it all."""
    for i in numba.prange(x.size):
        s[i] += g[i]
        x[i] -= s[i]


@numba.njit(
    "void(float32[::1], float32[::1], float32[::1], float32[::1])",
    parallel=True,
    error_model="numpy",
)
def seven_streams(x, g, s, r):
    """Do the same with two slots."""
    for i in numba.prange(x.size):
        s[i] += g[i]
        r[i] -= g[i]
        x[i] -= s[i] + r[i]


def seconds(run, *args):
    """Return how long a call takes."""
    start = time.perf_counter()
    run(*args)
    return time.perf_counter() - start


def in_turns(runs, rounds):
    """Return the median time of each of several calls, made one after the other, many times."""
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: float(np.median(values)) for name, values in times.items()}


def gradients(n):
    """Return random gradients without end: one and its negative, so that nothing drifts away."""
    g = np.random.default_rng(0).standard_normal(n, np.float32)
    return cycle((g, -g))


def print_bandwidth():
    """Compare long steps with plain kernels that read and write as much."""
    g = gradients(LONG)
    x, s, r = np.ones(LONG, np.float32), np.zeros(LONG, np.float32), np.zeros(LONG, np.float32)
    runs = {
        "five streams": lambda: five_streams(x, next(g), s),
        "seven streams": lambda: seven_streams(x, next(g), s, r),
    }
    # Bytes an element that each moves: reads x, g and the slots, writes x and the slots.
    moved = {"five streams": 20, "seven streams": 28}
    beside = {name: name for name in runs}  # what each is compared with
    for name, (method, options, size, other) in {
        "AdaGrad": (ao.AdaGrad(), {}, 20, "five streams"),
        "RMSProp": (ao.RMSProp(), {}, 20, "five streams"),
        "Adam": (ao.Adam(), {}, 28, "seven streams"),
        "AdaGrad, bfloat16 state": (ao.AdaGrad(), {"state_dtype": "bfloat16"}, 16, "AdaGrad"),
    }.items():
        opt = ao.Optimizer(np.ones(LONG, np.float32), method, **options)
        runs[name] = lambda opt=opt: opt.step(next(g))
        moved[name], beside[name] = size, other
    in_turns(runs, 3)  # compile, touch every page
    medians = in_turns(runs, ROUNDS)
    print(f"step of {LONG:,} float32 elements, {numba.get_num_threads()} threads")
    for name, median in medians.items():
        rate = moved[name] * LONG / median / 1e9
        ratio = medians[beside[name]] / median
        print(f"  {name:<24}{rate:6.1f} GB/s  {ratio:5.2f}x as fast as {beside[name]}")


def print_short_steps(repeat=10_000):
    """Measure what a step costs where the arithmetic is next to nothing."""
    print(f"step of {SHORT:,} float32 elements")
    g = gradients(SHORT)
    for method in (ao.AdaGrad(), ao.RMSProp()):
        opt = ao.Optimizer(np.ones(SHORT, np.float32), method)
        opt.step(next(g))
        median = np.median([seconds(opt.step, next(g)) for _ in range(repeat)])
        print(f"  {type(method).__name__:<14}{median * 1e6:6.2f} us")


def print_start():
    """Compare a process that takes one step, its kernel on the disk, with the import of Numba."""
    runs = {
        name: lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)
        for name, code in (("import numba", "import numba"), ("import, step", FIRST_STEP))
    }
    in_turns(runs, 1)  # write the caches
    medians = in_turns(runs, STARTS)
    print("process from start to end")
    for name, median in medians.items():
        print(f"  {name:<14}{median * 1e3:6.0f} ms")


if __name__ == "__main__":
    print_bandwidth()
    print_short_steps()
    print_start()
