"""The units of the coordinates of a finite sum: what makes a change of 1 mean as much in each.

The unit of a coordinate is the inverse of the root mean square of its gradients, of those that are
not 0, over single rows. Those of a linear model are the entries of a column, times a slope that all
columns share.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..objectives.finite_sum import FiniteSum
from ..problems.problem import Problem
from .gauge import is_finite

FEWEST, MOST, ENOUGH = 32, 256, 4  # rows evaluated one by one, and gradients of a coordinate
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0  # its multiples modulo 1 are spread evenly
SAMPLE = 4096  # rows of a matrix at most
LEAST, LARGEST = 1e-150, 1e150  # gradients whose squares are numbers
SCATTER = 2.0  # variance of the logarithm of a size that follows from one gradient; of k, a k-th


class Sizes(NamedTuple):
    """Gradients of single rows, by coordinate."""

    squares: np.ndarray
    """Sums of their squares."""
    counts: np.ndarray
    """How many are not 0."""
    live: float
    """The share of the rows that have any."""
    of_columns: bool = False
    """Whether entries of columns stand for them, which no difference between targets distorts."""

    def logs(self) -> np.ndarray:
        """Return logarithms of root mean squares; 0 for coordinates without a gradient."""
        seen = self.counts > 0.0
        found = np.zeros(seen.size)
        found[seen] = 0.5 * np.log(self.squares[seen] / self.counts[seen])
        return found


def sizes_of(total: FiniteSum, x: np.ndarray, rows: np.ndarray, most: int, in_order: bool) -> Sizes:
    """Return the sizes of the gradients at ``x``: of columns, or of up to ``most`` of the rows.

    Rows ``in_order`` are taken at equal distances, otherwise the first ones.
    """
    problem = total.problem
    if isinstance(problem, Problem) and type(problem).batch is Problem.batch:
        return _of_columns(problem, rows[:SAMPLE], x.size)
    squares, counts, live = np.zeros(x.size), np.zeros(x.size), 0
    rows = _some(rows, min(most, MOST), in_order)
    for k in range(rows.size):
        if k >= FEWEST and (not live or counts.min(initial=ENOUGH) >= ENOUGH):
            rows = rows[:k]
            break
        value, g = total.over(x, rows[k : k + 1], 0, 1)
        if is_finite(float(value), g):
            more = _squares(g.reshape(-1))
            squares += more
            counts += more > 0.0
            live += bool(more.any())
    return Sizes(squares, counts, live / max(rows.size, 1))


def _some(rows: np.ndarray, most: int, in_order: bool) -> np.ndarray:
    """Return at most so many rows; of those in order, the first few are spread over all."""
    if not in_order or rows.size <= 1:
        return rows[:most]
    spread = rows[np.unique(np.linspace(0, rows.size - 1, most).astype(np.intp))]
    return spread[np.argsort(np.arange(spread.size) * GOLDEN % 1.0)]


def _squares(values: np.ndarray) -> np.ndarray:
    """Return squares of numbers in float64; of those that are not finite, 0."""
    sizes = np.abs(values, dtype=np.float64)
    counted = np.isfinite(sizes) & (sizes > 0.0)
    return np.where(counted, np.clip(sizes, LEAST, LARGEST), 0.0) ** 2


def _of_columns(problem: Problem, rows: np.ndarray, size: int) -> Sizes:
    """Return the sizes of the columns of a problem, over some rows; those of weight 0 do not count.

    The coordinates are the features, one for each class if there are classes, and at last the
    intercepts, whose column is 1.
    """
    rows = np.sort(rows)
    A = problem.A[rows[problem.weights[rows] != 0.0]]
    if problem.is_sparse:
        each, features = _squares(A.data), A.shape[1]
        squares = np.bincount(A.indices, each, features)
        counts = np.bincount(A.indices, each > 0.0, features)
        live = np.count_nonzero(np.diff(A.indptr))
    else:
        table = _squares(np.asarray(A))
        squares, counts = table.sum(axis=0), (table > 0.0).sum(axis=0, dtype=np.float64)
        live = np.count_nonzero(table.any(axis=1))
    classes = max(1, problem.loss.classes)
    squares, counts = np.repeat(squares, classes), np.repeat(counts, classes)
    if problem.intercept:
        live = A.shape[0]
    constants = np.full(size - squares.size, float(A.shape[0]))
    share = live / max(rows.size, 1)
    squares, counts = (np.concatenate([part, constants]) for part in (squares, counts))
    return Sizes(squares, counts, share, of_columns=True)


def units_of(sizes: Sizes) -> np.ndarray:
    """Return the units of coordinates whose gradients have these sizes.

    Those that follow from few gradients scatter. They are brought as near to the mean as their
    scatter is larger than the differences between units, in logarithms: as in the random-effects
    model of DerSimonian & Laird (1986). A coordinate without gradients gets the mean.
    """
    seen, logs = sizes.counts > 0.0, sizes.logs()
    known, scatter = logs[seen], SCATTER / sizes.counts[seen]
    weights = 1.0 / scatter
    total = float(weights.sum())
    if not total:
        return np.ones(logs.size)
    away = known - (weights * known).sum() / total
    excess = float((weights * away * away).sum()) - (known.size - 1)
    spread = total - float((weights * weights).sum()) / total
    variance = excess / spread if excess > 0.0 and spread > 0.0 else 0.0
    weights = 1.0 / (variance + scatter)
    mean = float((weights * known).sum() / weights.sum())
    logs[:] = np.where(seen, logs, mean)
    logs[seen] = mean + (known - mean) * variance / (variance + scatter)
    units: np.ndarray = np.exp(-logs)
    return units


def seen_later(sizes: Sizes, later: Sizes) -> Sizes:
    """Return sizes with those of coordinates that have gradients only at a later point."""
    both, new = (
        (later.counts > 0.0) & (sizes.counts > 0.0),
        (later.counts > 0.0) & (sizes.counts == 0.0),
    )
    if not (both.any() and new.any()):
        return sizes
    larger = np.exp(2.0 * np.mean((sizes.logs() - later.logs())[both]))  # than there, squared
    return Sizes(
        np.where(new, later.squares * larger, sizes.squares),
        np.where(new, later.counts, sizes.counts),
        sizes.live,
    )
