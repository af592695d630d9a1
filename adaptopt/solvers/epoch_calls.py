"""What takes the steps of an epoch in compiled calls: one interface, and which one it is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from ..methods.base import Method
from ..objectives.finite_sum import FiniteSum
from ..optimizer.optimizer import Optimizer
from ..problems.problem import Problem
from ..prox.base import Proximal
from .averaging import Average
from .dense_epochs import DenseEpochs
from .hogwild import HogwildEpochs
from .online import Online
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
    norm : float
        With a history, the residual of the last batch; else NaN.
    records : ndarray, shape (k, 3)
        What the last call has recorded for a history: steps, losses and residuals of batches.
    """

    taken: np.ndarray
    losses: np.ndarray
    keeps_finite: bool
    norm: float
    records: np.ndarray

    def rates(self) -> np.ndarray:
        """Return the effective rates of the last step, for a history."""

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


class Way(NamedTuple):
    """How the epochs of a run go."""

    calls: EpochCalls | None
    """What takes many steps in a call; None is the loop in Python."""
    path: str
    """The same in a few words, with the reason why it is no faster way."""
    why_dense: str = ""
    """Why steps along sparse rows go through all coordinates, if they do."""


def choose_calls(
    optimizer: Optimizer,
    total: FiniteSum,
    prox: Proximal,
    average: Average | None,
    finite: np.ndarray,
    options: EpochOptions,
    parallel: str | None,
    batch: int,
    touched: bool,
    online: Online | None,
) -> Way:
    """Return what steps as the loop in Python would at the least cost.

    Steps left out need a check at every step, as does a history along whole gradients, and batches
    that threads share are evaluated from Python. "hogwild" is what it says, or refused.
    """
    if total.objective.on_device:
        return Way(None, "Python loop: x0 lies on a CUDA device")
    made = optimizer, total, prox, average, finite
    way = _choose(*made, options, parallel, batch, touched, online)
    every = options.check_every or 1
    if way.calls is not None and every > 1:
        raise ValueError(
            f"options['check_every'] is {every} with a fun whose epochs are compiled, expected "
            "1: they look at every batch as they go"
        )
    return way


def _choose(
    optimizer: Optimizer,
    total: FiniteSum,
    prox: Proximal,
    average: Average | None,
    finite: np.ndarray,
    options: EpochOptions,
    parallel: str | None,
    batch: int,
    touched: bool,
    online: Online | None,
) -> Way:
    every_step = {
        "average": average is not None,
        "options['history']": bool(options.history),
        "options['nan_policy'] 'omit'": options.nan_policy == "omit",
    }
    if parallel == "hogwild":
        every_step["lazy 'touched'"] = touched
        for name, asked in every_step.items():
            if asked:
                raise ValueError(
                    f"parallel is 'hogwild' with {name}, expected None or 'deterministic': it "
                    "needs a look at every step"
                )
        calls = HogwildEpochs.of(optimizer, total.problem, prox)
        return Way(calls, "compiled sparse epochs, hogwild")
    why = None
    if options.nan_policy == "omit":
        why = "nan_policy='omit'"
    elif parallel == "deterministic" and total.shares(batch):
        why = "parallel='deterministic' shares the rows of a batch"
    sparse = why or SparseEpochs.of(
        optimizer, total.problem, prox, average, touched, options.history, online
    )
    if touched and isinstance(sparse, str):
        raise ValueError(
            f"lazy is 'touched', expected 'exact', because {sparse}: only compiled epochs over "
            "sparse rows know which coordinates are touched"
        )
    if options.history and isinstance(sparse, str):
        why = why or f"history={options.history}"
    if why is not None:
        return Way(None, f"Python loop: {why}", why)
    if not isinstance(sparse, str):
        what = "compiled sparse epochs" + ": lazy='touched'" * touched
        return Way(sparse, what)
    of_sparse = isinstance(total.problem, Problem) and total.problem.is_sparse
    dense = DenseEpochs.of(optimizer, total, average, finite, online)
    if isinstance(dense, str):
        return Way(None, f"Python loop: {dense}", sparse if of_sparse else dense)
    reason = f": {sparse}" if of_sparse else ""
    return Way(dense, f"compiled dense epochs{reason}", sparse)


# Seconds: that of a step in Python, of an entry of a batch, and of a coordinate of a whole step.
# They are those of the machine of the manual, for an estimate of what a run loses.
PYTHON_STEP, ENTRY, COORDINATE = 4e-5, 4e-9, 1e-9
# A run that loses so many times its time, and so many seconds, gives a warning.
SLOW, LOST = 4.0, 0.1


def slowness(way: Way, total: FiniteSum, batch: int, steps: int) -> str:
    """Return what slows a run by more than a few times and how to avoid it, else nothing.

    It is about problems, whose cost is known.
    """
    problem = total.problem
    if not isinstance(problem, Problem):
        return ""
    n = problem.n_features
    entries = batch * problem.entries_per_row
    fast = entries * ENTRY + (0.0 if problem.is_sparse else n * COORDINATE)
    here = PYTHON_STEP * (way.calls is None)
    if problem.is_sparse and way.why_dense:
        here += n * COORDINATE
    here += fast
    if here < SLOW * fast or steps * (here - fast) < LOST:
        return ""
    times = f"{here / fast:.0f}"
    if problem.is_sparse and way.why_dense and 2 * n * COORDINATE > here - fast:
        return (
            f"Each step goes through all {n} coordinates, though a batch has some {entries:.0f} "
            f"entries: about {times} times slower, because {way.why_dense}. The notes of "
            "minimize_finite_sum list the methods and maps whose steps take only these entries"
        )
    return (
        f"Each step goes through Python, about {times} times slower, because of {way.why_dense}. "
        "Without it the epochs run in compiled calls"
    )
