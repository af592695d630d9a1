"""What takes the steps of an epoch in compiled calls: one interface, and which one it is."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ..methods.base import Method
from ..objectives.finite_sum import FiniteSum
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .averaging import Average
from .dense_epochs import DenseEpochs
from .hogwild import HogwildEpochs
from .options import EpochOptions
from .sparse_epochs import SparseEpochs


class EpochCalls(Protocol):
    """Steps over batches of rows, many in a call; between calls all is as after the last step.

    Attributes
    ----------
    taken : ndarray
        Steps and rows of the calls since `begin`.
    losses : ndarray
        Mean loss of the last batch, and the sum over rows, which goes on from what is stored there
        after `begin`.
    keeps_finite : bool
        Whether the last iterate of a finite loss is kept at every step; else only the start and end
        of the calls are known to be.
    """

    taken: np.ndarray
    losses: np.ndarray
    keeps_finite: bool

    def follow(self, method: Method) -> None:
        """Take the learning rates of a method, which otherwise is as before."""

    def begin(self) -> None:
        """Begin at the optimizer's step."""

    def rows_a_call(self, batch: int) -> int:
        """Return how many rows the next call should be given: a multiple of ``batch``."""

    def run(self, rows: np.ndarray, batch: int) -> bool:
        """Take steps over the first of the rows; tell whether all values were finite."""

    def end(self) -> None:
        """Move the optimizer, and an average, to the last step."""


def choose_calls(
    optimizer: Optimizer,
    total: FiniteSum,
    prox: Proximal,
    average: Average | None,
    finite: np.ndarray,
    options: EpochOptions,
    parallel: str | None,
    batch: int,
) -> EpochCalls | None:
    """Return what steps as the loop in Python would at the least cost; None is that loop itself.

    A history and steps left out need a check at every step, and batches that threads share are
    evaluated from Python. "hogwild" is what it says, or refused.
    """
    if total.objective.on_device:
        return None
    calls = _choose(optimizer, total, prox, average, finite, options, parallel, batch)
    every = options.check_every or 1
    if calls is not None and every > 1:
        raise ValueError(
            f"options['check_every'] is {every} with a fun whose epochs are compiled, expected "
            "1: they look at every batch as they go"
        )
    return calls


def _choose(
    optimizer: Optimizer,
    total: FiniteSum,
    prox: Proximal,
    average: Average | None,
    finite: np.ndarray,
    options: EpochOptions,
    parallel: str | None,
    batch: int,
) -> EpochCalls | None:
    every_step = {
        "average": average is not None,
        "options['history']": bool(options.history),
        "options['nan_policy'] 'omit'": options.nan_policy == "omit",
    }
    if parallel == "hogwild":
        for name, asked in every_step.items():
            if asked:
                raise ValueError(
                    f"parallel is 'hogwild' with {name}, expected None or 'deterministic': it "
                    "needs a look at every step"
                )
        return HogwildEpochs.of(optimizer, total.problem, prox)
    if options.history or options.nan_policy == "omit":
        return None
    if parallel == "deterministic" and total.shares(batch):
        return None
    sparse = SparseEpochs.of(optimizer, total.problem, prox, average)
    return sparse or DenseEpochs.of(optimizer, total, average, finite)
