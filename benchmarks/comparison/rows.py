"""A step on some rows of an embedding table, including sorting and summing of repeated rows."""

import time
from functools import partial

import numba
import numpy as np
from benchmarks.data import signed

import adaptopt as ao
from adaptopt.kernels.batch_rows import coalesce

from . import peers
from .limits import add_rows
from .timing import Entry, compare

TITLE = "A step on rows of a table"
THREADS = ("all",)
INDICES, BATCHES = 4_096, 5
POPULARITY = 0.68  # the k-th row has popularity k ** -POPULARITY
LR, EPS = 1e-2, 1e-8
PLAIN = "plain kernel, rows sorted before"
TOLERANCE = 1e-5  # repeated rows are summed in another order


class Table:
    """Row numbers drawn by popularity, a gradient for each, and the steps on them."""

    def __init__(self, rows, width, exponent, indices):
        rng = np.random.default_rng(0)
        popularity = np.arange(1, rows + 1) ** -exponent
        popularity = rng.permutation(popularity / popularity.sum())
        self.rows, self.width = rows, width
        self.batches = [rng.choice(rows, indices, p=popularity) for _ in range(BATCHES)]
        self.grads = signed(rng, (indices, width))

    def start(self):
        return np.ones((self.rows, self.width), np.float32)

    def distinct(self):
        return float(np.mean([np.unique(places).size for places in self.batches]))


def ours(table, method, **options):
    opt = ao.Optimizer(table.start(), method, **options)
    steps = [partial(opt.step_rows, places, table.grads) for places in table.batches]
    return steps, lambda: opt.params


def torch_sparse(table):
    import torch

    torch.set_num_threads(numba.get_num_threads())
    torch.sparse.check_sparse_tensor_invariants.disable()
    parameter = torch.nn.Parameter(torch.from_numpy(table.start()))
    opt = torch.optim.Adagrad([parameter], lr=LR, eps=EPS)
    values = torch.from_numpy(table.grads)

    def step(places):
        parameter.grad = torch.sparse_coo_tensor(places[None], values, parameter.shape)
        opt.step()

    steps = [partial(step, torch.from_numpy(places)) for places in table.batches]
    return steps, lambda: parameter.detach().numpy()


class Backward:
    """FBGEMM's backward pass, which takes the step. The forward pass is not timed."""

    def __init__(self, bags, places, offsets, g):
        self.bags, self.places, self.offsets, self.g = bags, places, offsets, g

    def prepare(self):
        self.out = self.bags(self.places, self.offsets)

    def __call__(self):
        self.out.backward(self.g)


def fbgemm(table):
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    torch.set_num_threads(numba.get_num_threads())
    bags = SplitTableBatchedEmbeddingBagsCodegen(
        [(table.rows, table.width, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=LR,
        eps=EPS,
    )
    weights = bags.split_embedding_weights()[0]
    weights.data.fill_(1.0)
    offsets, g = torch.arange(len(table.grads) + 1), torch.from_numpy(table.grads)
    steps = [Backward(bags, torch.from_numpy(each), offsets, g) for each in table.batches]
    return steps, lambda: weights.detach().numpy()


def plain(table):
    x, s = (np.ones(table.rows * table.width, np.float32) for _ in range(2))
    return [
        partial(add_rows, x, s, table.grads.ravel(), *coalesce(places, table.rows), table.width)
        for places in table.batches
    ]


PEERS = (
    peers.Peer(
        "torch, sparse Adagrad",
        "torch",
        "a sparse COO gradient, not coalesced, without checks of its invariants; making it is "
        "timed and costs next to nothing",
        "torch",
        torch_sparse,
    ),
    peers.Peer(
        "FBGEMM, row-wise AdaGrad",
        "fbgemm_gpu-cpu",
        "SplitTableBatchedEmbeddingBagsCodegen on the host, EXACT_ROWWISE_ADAGRAD, one index a "
        "bag; the backward pass, which takes the step, is timed, the forward pass is not",
        "fbgemm_gpu.split_table_batched_embeddings_ops_training",
        fbgemm,
    ),
)
AGAINST = {"torch, sparse Adagrad": "AdaGrad", "FBGEMM, row-wise AdaGrad": "RowWiseAdaGrad"}


def turning(steps, between=None):
    """Return ``measure`` for steps in sequence, each on its own batch."""
    taken = 0

    def measure(calls):
        nonlocal taken
        total = 0.0
        for _ in range(calls):
            step = steps[taken % BATCHES]
            taken += 1
            if hasattr(step, "prepare"):
                step.prepare()
            if between is not None:
                between()
            start = time.perf_counter()
            step()
            total += time.perf_counter() - start
        return total / calls

    return measure


def run(plan):
    """Yield the comparison with others, then steps by the number of rows."""
    yield compare_with_others(plan)
    evict = np.ones(4_000_000)
    for exponent in (0.0, POPULARITY):
        for rows in (500, 5_000) if plan.quick else (50_000, 500_000, 5_000_000):
            table = Table(rows, 32, exponent, 256 if plan.quick else INDICES)
            steps, _ = ours(table, ao.AdaGrad(LR, eps=EPS))
            entries = [
                Entry("adaptopt", "ours", turning(steps)),
                Entry("after 32 MB of other work", "ours", turning(steps, evict.sum), "adaptopt"),
                Entry(PLAIN, "limit", turning(plain(table)), "adaptopt"),
            ]
            case = {"method": "AdaGrad", "rows": rows, "width": 32, "popularity": exponent}
            yield compare(case, entries, plan.seconds, bytes=moved(table))


def moved(table):
    """Return the bytes of a step: gradients are read, distinct rows of x and G read and written."""
    return round((len(table.grads) + 4 * table.distinct()) * table.width * 4)


def compare_with_others(plan):
    rows, width, indices = (500, 16, 256) if plan.quick else (50_000, 512, INDICES)
    table = Table(rows, width, POPULARITY, indices)
    adagrad, rmsprop = ao.AdaGrad(LR, eps=EPS), ao.RMSProp(LR)
    made = {
        "AdaGrad": ours(table, adagrad),
        "RowWiseAdaGrad": ours(table, ao.RowWiseAdaGrad(LR, eps=EPS)),
        "RMSProp, exact": ours(table, rmsprop),
        "RMSProp, touched": ours(table, rmsprop, lazy="touched"),
    }
    entries = []
    for peer in PEERS:
        if peers.why_missing(peer.needs) is None:
            made[peer.name] = peer.make(table)
    for steps, _ in made.values():
        for step in steps:
            getattr(step, "prepare", lambda: None)()
            step()
    for name, (steps, result) in made.items():
        against, check, same = AGAINST.get(name), "", True
        if against is not None:
            reference = made[against][1]()
            check, same = peers.judge(peers.largest_difference([result()], [reference]), TOLERANCE)
        kind = "ours" if against is None else "peer"
        entries.append(Entry(name, kind, turning(steps) if same else None, against, check))
    entries.append(Entry(PLAIN, "limit", turning(plain(table)), "AdaGrad", "moves the same bytes"))
    case = {"what": "beside others", "rows": rows, "width": width, "popularity": POPULARITY}
    return compare(case, entries, plan.seconds, bytes=moved(table), distinct=table.distinct())


REASONS = {}
