"""Measure sums over blocks: memory of streaming, two workers, a round's overhead, zeros, passes.

``python benchmarks/blocks.py memory time round zeros passes`` prints one JSON line for each.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse

import adaptopt as ao
from adaptopt.distributed import Sum

GIB = 2**30
ROWS = 500_000  # of a block that is timed: a round takes more than a second


def dense_block(path):
    """Load a block of rows; the labels are its last column."""
    with np.load(path) as file:
        return ao.problems.Logistic(file["A"], file["y"])


def write_dense(folder, blocks, rows, features):
    weights = np.random.default_rng(99).standard_normal(features) / np.sqrt(features)
    paths = []
    for k in range(blocks):
        rng = np.random.default_rng(k)
        A = rng.standard_normal((rows, features))
        y = np.where(A @ weights + rng.logistic(size=rows) > 0, 1.0, -1.0)
        paths.append(str(Path(folder, f"{k}.npz")))
        np.savez(paths[-1], A=A, y=y)
    return paths


def memory(folder):
    """Stream 4 GiB of blocks through a process that may have 1 GiB of data and stack."""
    paths = write_dense(folder, 64, 65_536, 128)
    size = sum(Path(path).stat().st_size for path in paths)
    child = subprocess.run(
        [sys.executable, __file__, "streamed", *paths],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {"files_GiB": size / GIB, **json.loads(child.stdout)}


def streamed(paths):
    """Take one round and one value under a limit; print the peak."""
    limit = GIB
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    p = Sum([partial(dense_block, path) for path in paths])
    start = time.perf_counter()
    res = ao.minimize_finite_sum(p, np.zeros(128), None, method=ao.AdaGrad(0.01), epochs=1, rng=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({
        "limit_GiB": limit / GIB, "peak_resident_GiB": peak / GIB, "fun": res.fun,
        "seconds": time.perf_counter() - start,
    }))  # fmt: skip


def sparse_problem(seed, rows, features, per_row=40, informative=200):
    """Return rows whose columns are as often used as words, and few of which matter."""
    rng = np.random.default_rng(seed)
    columns = np.minimum((features ** rng.random((rows, per_row))).astype(np.int64), features - 1)
    A = scipy.sparse.csr_array(
        (np.ones(columns.size), columns.ravel(), np.arange(0, columns.size + 1, per_row)),
        shape=(rows, features),
    )
    A.sum_duplicates()
    A.data[:] = 1.0
    weights = np.zeros(features)
    weights[:informative] = np.random.default_rng(7).standard_normal(informative)
    y = np.where(A @ weights + rng.logistic(size=rows) > 0, 1.0, -1.0)
    return ao.problems.Logistic(A, y)


def cluster_of(workers):
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=50
    )
    return cluster, Client(cluster)


def rounds_of(p, x0, method, epochs):
    """Return the seconds of rounds after the first, and the result."""
    res = ao.minimize_finite_sum(p, x0, None, method=method, epochs=epochs, rng=0)
    return list(res.rounds["seconds"][1:]), res


def sparse_blocks(first, end):
    return [partial(sparse_problem, k, ROWS, 20_000) for k in range(first, end)]


TIMED = ao.AdaGradDA(0.1, l1=1e-4), np.zeros(20_000)


def plain(numbers):
    """Pass over blocks in this process whenever a line comes; print the seconds."""
    p = Sum(sparse_blocks(*map(int, numbers)), keep=True)
    rounds_of(p, TIMED[1], TIMED[0], 2)
    for _ in iter(sys.stdin.readline, ""):
        (taken,), _ = rounds_of(p, TIMED[1], TIMED[0], 2)
        print(taken, flush=True)


class Beside:
    """Two plain processes that know nothing of each other, each with half of the blocks."""

    def __init__(self):
        self._children = [
            subprocess.Popen(
                [sys.executable, __file__, "plain", *numbers],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for numbers in (("0", "2"), ("2", "4"))
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self._children:
            child.communicate()

    def seconds(self, count):
        """Return the longest pass of so many processes that run at once."""
        for child in self._children[:count]:
            child.stdin.write("\n")
            child.stdin.flush()
        return max(float(child.stdout.readline()) for child in self._children[:count])


def seconds(folder, turns=7):
    """Compare rounds in this process and on two workers, and two processes with one, in turns."""
    load, (method, x0) = sparse_blocks(0, 4), TIMED
    taken = {name: [] for name in ("serial", "workers_2", "process_1", "processes_2")}
    cluster, client = cluster_of(2)
    with cluster, client, Beside() as beside:
        here, there = Sum(load, keep=True), Sum(load, client)
        for _ in range(turns):
            found, one = rounds_of(here, x0, method, 3)
            taken["serial"] += found
            found, two = rounds_of(there, x0, method, 3)
            taken["workers_2"] += found
            taken["process_1"].append(beside.seconds(1))
            taken["processes_2"].append(beside.seconds(2))
    middle = {f"{name}_s": float(np.median(values)) for name, values in taken.items()}
    return {
        "rows": 4 * ROWS,
        "same_bits": bool((one.x == two.x).all()),
        **middle,
        "gain": middle["serial_s"] / middle["workers_2_s"],
        "gain_of_plain_processes": 2 * middle["process_1_s"] / middle["processes_2_s"],
        "load": os.getloadavg(),
    }


def overhead(folder, turns=5):
    """Measure what a round costs beyond its passes, with a million features, in turns."""
    found = {}
    cluster, client = cluster_of(2)
    with cluster, client:
        for features in (20_000, 1_000_000):
            load = [partial(sparse_problem, k, 40, features) for k in range(2)]
            method, x0 = ao.AdaGradDA(0.1, l1=1e-4), np.zeros(features)
            here, there = Sum(load, keep=True), Sum(load, client)
            alone, over = [], []
            for _ in range(turns):
                alone += rounds_of(here, x0, method, 8)[0]
                more, res = rounds_of(there, x0, method, 8)
                over += more
            found[f"{features}"] = {
                "here_ms": 1e3 * float(np.median(alone)),
                "cluster_ms": 1e3 * float(np.median(over)),
                "overhead_ms": 1e3 * float(np.median(over) - np.median(alone)),
                "quartiles_ms": [1e3 * q for q in np.quantile(over, (0.25, 0.75))],
                "MB": float(res.rounds["bytes"][-1]) / 1e6,
            }
    return {**found, "load": os.getloadavg()}


def optimum(whole, x0, l1):
    """Return the least objective that a long run finds."""
    prox = ao.L1(l1) if l1 else None
    return float(ao.minimize(whole, x0, prox=prox, options={"maxiter": 3000, "gtol": 1e-7}).fun)


def in_blocks(count, rows, features):
    blocks = [sparse_problem(k, rows // count, features) for k in range(count)]
    A = scipy.sparse.vstack([p.A for p in blocks], format="csr")
    return blocks, ao.problems.Logistic(A, np.concatenate([p.targets for p in blocks]))


def zeros(folder):
    """Compare L1 dual averaging over 8 blocks with a serial run, after 6 passes."""
    blocks, whole = in_blocks(8, 160_000, 20_000)
    x0, l1 = np.zeros(20_000), 1e-4
    best = optimum(whole, x0, l1)
    found = {"optimum": best}
    for lr in (0.1, 0.3):
        method = ao.AdaGradDA(lr, l1=l1)
        for name, p in (("serial", whole), ("blocks_8", Sum(blocks))):
            res = ao.minimize_finite_sum(p, x0, None, method=method, epochs=6, rng=0)
            found[f"{name}_lr{lr}"] = {
                "gap": float(res.fun) - best,
                "zeros": int((res.x == 0).sum()),
            }
    averaged = ao.minimize_finite_sum(
        Sum(blocks), x0, None, method=ao.AdaGrad(0.1), prox=ao.L1(l1), epochs=6, rng=0
    )
    found["averaged_adagrad"] = {
        "gap": float(averaged.fun) - best,
        "zeros": int((averaged.x == 0).sum()),
    }
    return found


def passes(folder):
    """Count passes to gaps, for one block, for several, and for full-batch AdaGrad."""
    gaps = (0.01, 0.003, 0.001)
    found = {}
    for name in ("auto", 0.1):
        for count in (1, 8, 32):
            blocks, whole = in_blocks(count, 160_000, 2_000)
            x0 = np.zeros(2_000)
            if count == 1:
                best = optimum(whole, x0, 0.0)
            gap = []
            for epochs in range(1, 13):  # each a run of its own: a found rate falls to its end
                res = ao.minimize_finite_sum(
                    Sum(blocks), x0, None, method=ao.AdaGrad(name), epochs=epochs, rng=0
                )
                gap.append(float(res.fun) - best)
            found[f"K{count}_{name}"] = [
                next((k for k, g in enumerate(gap, 1) if g <= limit), None) for limit in gaps
            ]
    blocks, whole = in_blocks(1, 160_000, 2_000)
    gap = []
    ao.minimize(
        whole, np.zeros(2_000), method=ao.AdaGrad(0.1), options={"maxiter": 100},
        callback=lambda x: gap.append(whole.value(x) - best),
    )  # fmt: skip
    found["full_batch_0.1"] = [
        next((k for k, g in enumerate(gap, 1) if g <= limit), None) for limit in gaps
    ]
    return found


PARTS = {"memory": memory, "time": seconds, "round": overhead, "zeros": zeros, "passes": passes}


def main():
    if sys.argv[1:2] == ["streamed"]:
        return streamed(sys.argv[2:])
    if sys.argv[1:2] == ["plain"]:
        return plain(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    warnings.simplefilter("ignore")
    for part in parser.parse_args().parts:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({part: PARTS[part](folder), "machine": platform.processor()}))


if __name__ == "__main__":
    main()
