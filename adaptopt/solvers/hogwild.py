"""Compiled epochs over sparse rows on several threads, without locks and not reproducible."""

from __future__ import annotations

import numpy as np
from numba import config, get_num_threads

from ..kernels.hogwild import BLOCK, PAD, SharedEpoch
from ..kernels.parallel import alone
from ..optimizer.optimizer import Optimizer
from ..problems.problem import Problem
from ..prox.base import Proximal
from .sparse_epochs import SparseEpochs

# Rows of a thread between two exchanges, and how often a block of coordinates is touched in
# between, at least: that is 6 touches a coordinate, and so an exchange of a coordinate (1 ns) costs
# little beside the touches (4 ns each).
EVERY = 64
TOUCHES = 6 * BLOCK


class HogwildEpochs(SparseEpochs):
    """Steps of several threads at once, each over its part of the rows; see `of`."""

    def __init__(self, optimizer: Optimizer, problem: Problem, prox: Proximal) -> None:
        super().__init__(optimizer, problem, prox)
        self._threads = threads = get_num_threads()
        self._kernel = SharedEpoch(self._kernels).run
        x, slots, prox_arrays = self._state
        numbers, n, number = 1 + len(slots), x.size, x.dtype
        # No two threads write to one cache line: rows are followed by one that nobody uses.
        longest = self._rest[2].size + 2 * BLOCK
        self._copies = tuple(np.zeros((threads, numbers, n), number) for _ in range(3))
        self._marks = (
            np.zeros((threads, n), np.int64),
            np.zeros((threads, n), number),
            np.zeros((threads, n), np.intp),
        )
        self._row = (
            np.zeros((threads, numbers + len(prox_arrays), longest), number),
            np.zeros((threads, longest), np.int64),
        )
        self._popularity = _popularity(problem, n)

    @classmethod
    def of(  # type: ignore[override]  # it has no average, and refuses instead of returning why
        cls, optimizer: Optimizer, problem: object, prox: Proximal
    ) -> SparseEpochs:
        """Return what steps on all threads, or say why nothing does."""
        method = optimizer._plan().method
        what = f"parallel is 'hogwild' with {type(method).__name__}"
        if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
            raise RuntimeError(
                "NUMBA_DISABLE_JIT is set, expected 0: parallel 'hogwild' runs in compiled threads"
            )
        if not isinstance(problem, Problem) or not problem.is_sparse:
            raise ValueError(
                "parallel is 'hogwild', expected None or 'deterministic' for a fun that is not a "
                "problem on a CSR matrix: where a row touches every coordinate, threads would "
                "exchange all of them all the time"
            )
        if problem.loss.classes:
            raise ValueError(
                f"parallel is 'hogwild' with {type(problem).__name__}, expected None or "
                "'deterministic' for a problem of several classes: threads would exchange a "
                "number for each class of each entry"
            )
        if not method.additive:
            raise ValueError(
                f"{what}, expected SGD, AdaGrad or AdaGradDA: what steps of different threads do "
                "to its state does not add up"
            )
        if not prox.is_projection:
            raise ValueError(
                f"{what} and prox {prox!r}, expected bounds at most: each thread would apply the "
                "penalty (the l1 and l2 of AdaGradDA are applied once)"
            )
        serial = SparseEpochs.of(optimizer, problem, prox)
        if isinstance(serial, str):
            raise ValueError(f"{what}, expected a method with steps on sparse rows: {serial}")
        if method.weight_decay:
            raise ValueError(
                f"{what} and weight_decay={method.weight_decay:g}, expected 0: each thread would "
                "apply the decay (the l2 of AdaGradDA is applied once)"
            )
        return cls(optimizer, problem, prox) if get_num_threads() > 1 else serial

    def run(self, rows: np.ndarray, batch: int) -> bool:
        """Take the steps over rows, in batches; tell whether all values were finite."""
        with alone() as free:
            return self._run(rows, batch) if free else super().run(rows, batch)

    def _run(self, rows: np.ndarray, batch: int) -> bool:
        threads, (x, slots, prox_arrays) = self._threads, self._state
        first, rows, rates = self._rated(rows, batch)
        steps = -(-rows.size // batch)
        ends = np.array([k * steps // threads * batch for k in range(threads)] + [rows.size])
        taken, here = np.zeros((2, threads, PAD), np.int64)
        losses = np.zeros((threads, PAD))
        try:
            self._kernel(
                max(1, EVERY // batch) * batch, *self._popularity, (x, *slots), *self._copies,
                taken, *self._marks, slots, ends, *self._rows, self._params, rows, batch, rates,
                self._hyper, self._prox_coefs, prox_arrays, *self._row,
                self._intercept, first - 1, losses, here, 0.0,
            )  # fmt: skip
        finally:
            # A Ctrl-C arrives when the call returns.
            self.taken += here[:, :2].sum(0)
            self.losses[:] = losses[0, 0], self.losses[1] + losses[:, 1].sum()
        return int(here[:, 1].sum()) == rows.size


def _popularity(problem: Problem, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the blocks in the order of their popularity, and how many each level exchanges.

    A block of level v is exchanged every ``2**v * EVERY`` rows.
    """
    rows = problem.A.shape[0]
    touches = np.bincount(problem.A.indices, minlength=n)
    if problem.intercept:
        touches[-1] = rows
    touches = np.add.reduceat(touches, np.arange(0, n, BLOCK))
    blocks = np.argsort(-touches, kind="stable")[: np.count_nonzero(touches)]
    share = touches[blocks] * (EVERY / rows)
    level = np.ceil(np.log2(np.maximum(TOUCHES / share, 1.0))).astype(int)
    counts = np.searchsorted(level, np.arange(level.max(initial=0) + 1), side="right")
    return blocks.astype(np.intp), counts.astype(np.intp)
