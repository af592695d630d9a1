"""Online play in the epochs of a finite sum: a tracker counts each batch before its step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..kernels.rounds import FIELDS, MOVED, SINCE, SQUARES, SUM, settle_points
from ..objectives.batches import Batches
from ..objectives.finite_sum import FiniteSum
from ..problems.problem import Problem
from ..regret.certificate import Sums
from ..regret.tracker import Tracker
from .options import EpochOptions
from .stopping import Position

# Rows that a function in Python evaluates at a time, in hindsight.
ROWS = 1024


class Online:
    """The rounds of a run, one a batch, as a tracker counts them.

    Parameters
    ----------
    tracker : Tracker
        Takes the rounds.
    total, batches
        The objective of the run, and how its rows are cut into batches.

    Attributes
    ----------
    why_python : str
        Why rounds must be played one by one, if they must.
    wants_points : bool or None
        As the tracker was asked: whether to sum points; None where that costs no more.
    """

    def __init__(self, tracker: Tracker, total: FiniteSum, batches: Batches) -> None:
        self._tracker, self._total, self._batches = tracker, total, batches
        self.why_python = "the tracker keeps all points" if tracker._keep else ""
        self.wants_points = tracker._points
        # Weights of rows in the rounds of ended epochs; the epoch that is played, its order, the
        # row at which that began, and the row up to which it was played.
        self._rows: tuple[np.ndarray, int, np.ndarray | None, int, int]
        self._rows = np.zeros(total.n), -1, None, 0, 0

    # -- compiled calls ----------------------------------------------------------------------------

    def begin(self, x: np.ndarray, points: bool) -> Sums:
        """Return the sums to which kernels add rounds, which begin at ``x``."""
        x = x.reshape(self._total.objective.shape)
        return self._tracker._begin(x, points and self.wants_points is not False)

    def most(self, rows: int, batch: int) -> int:
        """Return how many of so many rows are played up to the next record of the regret."""
        return min(rows, max(1, self._tracker._until_due()) * batch)

    # -- one round ---------------------------------------------------------------------------------

    def round(self, x: np.ndarray, f: float, g: np.ndarray) -> Round | None:
        """Return the next round, to be played after its step."""
        shape = self._total.objective.shape
        return Round(self._tracker.rounds + 1, x.reshape(shape).copy(), f, g.reshape(shape))

    def play(self, after: Round | None) -> None:
        """Play a round, unless that is done already."""
        if after is not None and self._tracker.rounds < after.number:
            self._tracker.play(*after[1:])

    # -- what has been played ----------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Number of rounds of the run."""
        return round(float(self._weights().sum()))

    def note(self) -> None:
        """Let the tracker know of the rounds that kernels have added."""
        self._tracker._note()

    def settle(self, start: Position, end: Position) -> None:
        """Remember that the rows between two positions of an epoch have been played."""
        self.note()
        if self not in self._tracker._runs:
            self._tracker._runs.append(self)
        weights, epoch, order, first, _ = self._rows
        if epoch == end.epoch:
            self._rows = weights, epoch, order, first, end.done
        else:
            self._rows = self._weights(), end.epoch, end.order, start.done, end.done

    def _weights(self) -> np.ndarray:
        """Return the weights of rows in the sum of the losses of rounds, one over batch sizes."""
        ended, _, order, first, stop = self._rows
        weights: np.ndarray = ended.copy()
        rows = np.arange(stop) if order is None else order[:stop]
        size, n = self._batches.size, self._batches.n
        short = n - n % size  # where the short batch of an epoch begins
        weights[rows[first : min(stop, short)]] += 1.0 / size
        if stop > short:
            weights[rows[max(first, short) : stop]] += 1.0 / (n - short)
        return weights

    def losses(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the sum of the losses of all rounds at a point, and its gradient."""
        x = np.ascontiguousarray(u, self._total.objective.exchange.flat.dtype).reshape(-1)
        value, gradient = 0.0, np.zeros(x.size)
        weights = self._weights()
        for weight in np.unique(weights[weights > 0]):
            rows = np.flatnonzero(weights == weight)
            every = rows.size if isinstance(self._total.problem, Problem) else ROWS
            for start in range(0, rows.size, every):
                count = min(every, rows.size - start)
                f, g = self._total.over(x, rows, start, count)
                value += float(f) * count * weight
                gradient += np.asarray(g, np.float64) * (count * weight)
        return value, gradient.reshape(np.shape(u))


class NoPlay(Online):
    """What a run does without a tracker: nothing."""

    def __init__(self) -> None:
        pass

    def most(self, rows: int, batch: int) -> int:
        """Return all rows."""
        return rows

    def note(self) -> None:
        """Do nothing."""

    def round(self, x: np.ndarray, f: float, g: np.ndarray) -> None:
        """Return no round."""

    def settle(self, start: Position, end: Position) -> None:
        """Do nothing."""


class Round(NamedTuple):
    """A round that is to be played."""

    number: int
    """Of all that the tracker has counted."""
    x: np.ndarray
    f: float
    g: np.ndarray


class PackedSums:
    """The sums of a tracker as kernels over sparse rows add to them.

    Those of the tracker become views of these, so that they are right whatever happens.

    Attributes
    ----------
    rounds : tuple of ndarray
        What the kernels take; see `kernels.rounds`. Without `begin` they add nothing.
    """

    def __init__(self) -> None:
        self._sums: Sums | None = None
        self._points = False
        self._packed = np.empty((0, FIELDS))
        self.rounds = tuple(np.empty(0) for _ in range(3))

    def begin(self, sums: Sums, points: bool) -> None:
        """Take the sums of a tracker, if they are not here."""
        self._sums, self._points = sums, points
        if sums.gradient_sum.base is self._packed:
            self._packed[:, SINCE] = sums.rounds
            return
        self._packed = packed = np.empty((sums.origin.size, FIELDS))
        packed[:, SUM], packed[:, SQUARES] = sums.gradient_sum, sums.squared_gradients
        packed[:, MOVED], packed[:, SINCE] = sums.moved, sums.rounds
        origin = sums.origin if sums.origin.any() else np.broadcast_to(0.0, sums.origin.shape)
        self.rounds = packed.reshape(-1), origin, sums.totals
        sums.gradient_sum, sums.squared_gradients = packed[:, SUM], packed[:, SQUARES]
        sums.moved = packed[:, MOVED]

    def settle(self, x: np.ndarray) -> None:
        """Add the points of coordinates that have stayed at ``x``; a second call adds nothing."""
        if self._sums is not None and self._points:
            settle_points(x.dtype.name)(x, self.rounds)


def read_tracker(
    tracker: object,
    total: FiniteSum,
    batches: Batches,
    options: EpochOptions,
    parallel: str | None,
    searches: bool,
) -> Online | None:
    """Return the rounds of a run for a tracker, or say what does not fit."""
    if tracker is None:
        return None
    if not isinstance(tracker, Tracker):
        raise TypeError(f"tracker is {tracker!r:.60}, expected an adaptopt.regret.Tracker or None")
    wrong = {
        "lr='auto', expected a method with a rate: the pilot learns from rows before they are "
        "played": searches,
        "x0 a CUDA array, expected None: rounds are summed on the host": (
            total.objective.on_device
        ),
        "parallel='hogwild', expected None or 'deterministic': threads play at points of their "
        "own": parallel == "hogwild",
        "nan_policy='omit', expected 'stop' or 'raise': every batch is a round": (
            options.nan_policy == "omit"
        ),
        f"check_every={options.check_every}, expected 1: a round must be finite": (
            (options.check_every or 1) > 1
        ),
    }
    for what, is_so in wrong.items():
        if is_so:
            raise ValueError(f"tracker is given with {what}")
    shape = total.objective.shape
    if tracker.rounds and tracker._shape != shape:
        raise ValueError(f"x0 has shape {shape}, expected {tracker._shape} like the tracker")
    tracker._read_bounds(shape)
    return Online(tracker, total, batches)
