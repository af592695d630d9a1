"""How our time and memory grow with each size of a problem, with fitted exponents."""

import time
import tracemalloc

import numba
import numpy as np
from benchmarks.data import dense_rows, signed, sparse_rows

import adaptopt as ao

from . import steppers
from .timing import digits, in_turns, marginal, stepping

TITLE = "How cost grows"
PEERS = ()
THREADS = ("all",)
REASONS = {}
FITTED = 3  # the exponent is fitted to this many of the largest sizes, where fixed costs are small


def run(plan):
    """Yield time and memory as functions of each size."""
    quick = plan.quick
    decades = [10**k for k in ((2, 3, 4) if quick else range(2, 9))]
    yield growth("elements of an array", decades, step_on_array, plan)
    counts = [300, 600, 1_200] if quick else [5_000, 10_000, 20_000, 40_000, 80_000]
    yield growth("nonzeros of sparse rows", counts, sparse_epoch, plan)
    batches = [8, 16, 32] if quick else [1, 4, 16, 64, 256, 1_024]
    yield growth("rows in a batch", batches, batch_step, plan)
    counts = [1, 10, 30] if quick else [1, 10, 100, 1_000, 10_000]
    yield growth("parameters of 10 elements, one method", counts, one_group, plan)
    yield growth("parameters of 10 elements, a method each", counts[:4], many_groups, plan)
    yield threads(plan)


def growth(what, sizes, make, plan):
    """Return the points, and the exponents over the largest sizes.

    ``make(size)`` makes the data. It returns the size to report and ``build``, which prepares the
    measurement. The memory is the most that ``build`` and a first call take, without the data.
    """
    measures, points = {}, []
    make(sizes[0])[1]()(1)  # loads the kernels, so that this is not measured
    for size in sizes:
        scale, build = make(size)
        tracemalloc.start()
        measures[size] = build()
        measures[size](1)
        points.append({"size": scale, "peak_bytes": tracemalloc.get_traced_memory()[1]})
        tracemalloc.stop()
    times = in_turns(measures, plan.seconds * 2)
    for point, values in zip(points, times.values(), strict=True):
        point["seconds"] = digits(np.median(values))
    names = ("seconds", "peak_bytes")
    return {
        "case": {"what": what},
        "points": points,
        "exponents": {name: exponent(points, name) for name in names},
        "entries": [],
    }


def exponent(points, name):
    """Return the slope of the logarithms, fitted to the largest sizes."""
    last = points[-FITTED:]
    slope, _ = np.polyfit(*(np.log([point[key] for point in last]) for key in ("size", name)), 1)
    return digits(slope)


def step_on_array(n):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(n, np.float32), signed(rng, n)
    return n, lambda: stepping(steppers.Ours("AdaGrad", [x], ([g], [-g])))


def sparse_epoch(rows):
    A, y = sparse_rows(rows, 20_000, 60)
    return A.nnz, lambda: marginal(epochs(A, y, 1), 3)


def batch_step(batch):
    A, y = dense_rows(2_048, 100)
    epoch, steps = marginal(epochs(A, y, batch), 20), -(-2_048 // batch)
    return batch, lambda: lambda calls: epoch(calls) / steps


def epochs(A, y, batch):
    p = ao.problems.Logistic(A, y)

    def run(count):
        ao.minimize_finite_sum(
            p, np.zeros(p.n_features, np.float32), None, method=ao.AdaGrad(0.1), batch_size=batch,
            epochs=count, rng=0,
        )  # fmt: skip

    run(1)
    return run


def dictionary(count, methods):
    rng = np.random.default_rng(0)
    params = {f"p{k}": rng.standard_normal(10).astype(np.float32) for k in range(count)}
    gradient = signed(rng, 10)

    def build():
        opt = ao.Optimizer(params, methods)

        def measure(calls):
            np.negative(gradient, out=gradient)
            for place in opt.grads.values():
                place[...] = gradient
            grads, step = opt.grads, opt.step
            start = time.perf_counter()
            for _ in range(calls):
                step(grads)
            return (time.perf_counter() - start) / calls

        return measure

    return count, build


def one_group(count):
    return dictionary(count, ao.AdaGrad(0.01))


def many_groups(count):
    return dictionary(count, {f"p{k}": ao.AdaGrad(0.01 + 1e-6 * k) for k in range(count)})


def threads(plan):
    """Return the time for each number of threads, for an array larger than the caches of a core."""
    n = 10**4 if plan.quick else 2 * 10**7
    step = step_on_array(n)[1]()

    def on(count):
        def measure(calls):
            numba.set_num_threads(count)
            return step(calls)

        return measure

    most = numba.get_num_threads()
    counts = sorted({1, *(2**k for k in range(1, 10) if 2**k < most), most})
    times = in_turns({count: on(count) for count in counts}, plan.seconds)
    numba.set_num_threads(most)
    points = [{"size": count, "seconds": digits(np.median(times[count]))} for count in counts]
    return {
        "case": {"what": f"threads, a step on {n:,} elements"},
        "points": points,
        "exponents": {},
        "entries": [],
    }
