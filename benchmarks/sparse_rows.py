"""What a step on rows of an embedding table costs, beside torch's, FBGEMM's and a plain kernel.

Run it on a machine that does nothing else. All are measured in turns; the figures are medians, and
ratios are medians of the ratios within a turn. torch and FBGEMM are reported as missing where they
are not installed. The plain kernel reads and writes what AdaGrad must, and computes a sum only.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "passive"  # before numba loads OpenMP

import time
from functools import partial

import numpy as np
from numba import get_num_threads, njit, types

import adaptopt as ao
from adaptopt.kernels import coalesce

uintp = types.uintp
ROWS, WIDTH, INDICES, BATCHES, ROUNDS = 50_000, 512, 4_096, 5, 25
POPULARITY = 0.68  # of the k-th row it is k ** -POPULARITY


def make_batches(rows, width, exponent=POPULARITY):
    """Row numbers by popularity, and one gradient for each."""
    rng = np.random.default_rng(0)
    popularity = np.arange(1, rows + 1) ** -exponent
    popularity = rng.permutation(popularity / popularity.sum())
    places = [rng.choice(rows, INDICES, p=popularity) for _ in range(BATCHES)]
    return places, rng.standard_normal((INDICES, width)).astype(np.float32)


def step_ours(method, batches, grads, rows, width, **options):
    opt = ao.Optimizer(np.ones((rows, width), np.float32), method, **options)
    return [partial(opt.step_rows, places, grads) for places in batches]


def step_torch(name, batches, grads, rows, width):
    import torch

    torch.set_num_threads(get_num_threads())
    table = torch.nn.Parameter(torch.ones(rows, width))
    opt = getattr(torch.optim, name)([table], lr=0.01)

    def step(places):
        table.grad = torch.sparse_coo_tensor(
            torch.from_numpy(places)[None], torch.from_numpy(grads), (rows, width)
        )
        opt.step()

    return [partial(step, places) for places in batches]


def step_fbgemm(batches, grads, rows, width):
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, width, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=0.01,
        eps=1e-8,
    )
    offsets = torch.arange(INDICES + 1)
    g = torch.from_numpy(grads)

    class Backward:
        """The backward pass, which takes the step; the forward pass is not timed."""

        def __init__(self, places):
            self.places = torch.from_numpy(places)

        def prepare(self):
            self.out = table(self.places, offsets)

        def __call__(self):
            self.out.backward(g)

    return [Backward(places) for places in batches]


@njit(error_model="numpy", nogil=True)
def plain(x, s, g, rows, order, starts, width):
    # Unsigned, as in ours: a test for negative indices prevents SIMD.
    for u in range(uintp(rows.size)):
        row = uintp(uintp(rows[u]) * uintp(width))
        for q in range(uintp(starts[u]), uintp(starts[u + uintp(1)])):
            place = uintp(uintp(order[q]) * uintp(width))
            for j in range(uintp(width)):
                x[row + j] += g[place + j]
                s[row + j] += g[place + j]


def step_plain(batches, grads, rows, width):
    x, s = np.ones(rows * width, np.float32), np.ones(rows * width, np.float32)
    return [
        partial(plain, x, s, grads.ravel(), *coalesce(places, rows), width) for places in batches
    ]


def measure(runs, rounds=ROUNDS, between=lambda: None):
    """Return the seconds of each in each turn."""
    times = {name: [] for name in runs}
    for k in range(rounds + 2):
        for name, steps in runs.items():
            step = steps[k % BATCHES]
            getattr(step, "prepare", lambda: None)()
            between()
            start = time.perf_counter()
            step()
            if k > 1:
                times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def compare_with_others():
    batches, grads = make_batches(ROWS, WIDTH)
    distinct = np.mean([np.unique(places).size for places in batches])
    print(
        f"{ROWS:,} x {WIDTH} float32, {INDICES:,} indices, {distinct:,.0f} distinct; "
        f"{get_num_threads()} threads"
    )
    data = (batches, grads, ROWS, WIDTH)
    runs = {
        "AdaGrad": step_ours(ao.AdaGrad(0.01), *data),
        "RMSProp, exact": step_ours(ao.RMSProp(0.01), *data),
        "RMSProp, touched": step_ours(ao.RMSProp(0.01), *data, lazy="touched"),
        "RowWiseAdaGrad": step_ours(ao.RowWiseAdaGrad(0.01), *data),
        "plain kernel": step_plain(*data),
    }
    for name, make in {
        "torch, sparse Adagrad": partial(step_torch, "Adagrad"),
        "FBGEMM, row-wise AdaGrad": step_fbgemm,
    }.items():
        try:
            runs[name] = make(*data)
        except (ImportError, OSError, AttributeError) as error:
            print(f"  {name}: missing ({type(error).__name__})")
    times = measure(runs)
    for name, values in times.items():
        print(f"  {name:<26}{np.median(values) * 1e3:8.2f} ms")
    moved = (INDICES + 4 * distinct) * WIDTH * 4
    print(f"  AdaGrad moves {moved / np.median(times['AdaGrad']) / 1e9:.1f} GB/s")
    for ours, theirs in (
        ("AdaGrad", "plain kernel"),
        ("AdaGrad", "torch, sparse Adagrad"),
        ("RowWiseAdaGrad", "FBGEMM, row-wise AdaGrad"),
    ):
        if theirs in times:
            ratio = np.median(times[theirs] / times[ours])
            print(f"  {ours} is {ratio:.2f} times as fast as {theirs}")


def compare_sizes():
    print(f"AdaGrad, {INDICES:,} indices of rows of 32 float32, by the number of rows")
    evict = np.ones(4_000_000)
    for popularity, exponent in (("uniform", 0.0), (f"k ** -{POPULARITY}", POPULARITY)):
        runs = {}
        for rows in (50_000, 500_000, 5_000_000):
            batches, grads = make_batches(rows, 32, exponent)
            runs[rows] = step_ours(ao.AdaGrad(0.01), batches, grads, rows, 32)
        for state, between in (
            ("as it comes", lambda: None),
            ("after 32 MB of other work", lambda: evict.sum()),
        ):
            times = measure(runs, 60, between)
            shown = [f"{np.median(values) * 1e6:.0f}" for values in times.values()]
            ratio = np.median(times[5_000_000] / times[50_000])
            print(f"  {popularity}, {state}: {' '.join(shown)} us, the last {ratio:.2f}x the first")


if __name__ == "__main__":
    compare_with_others()
    compare_sizes()
