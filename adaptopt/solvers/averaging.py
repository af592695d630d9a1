"""Averages of iterates, kept up from step to step."""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..kernels.averages import weight_of
from ..placement import backend_of

# Iterate t has a weight that grows like t**eta.
AVERAGES = {"uniform": 0.0, "polynomial": 3.0}


def read_average(average: str | None) -> str | None:
    """Return the kind of an average, None for the last iterate."""
    kinds = ("last", *AVERAGES)
    if average is not None and average not in kinds:
        raise ValueError(f"average is {average!r}, expected None, {' or '.join(kinds)}")
    return None if average == "last" else average


class Average:
    """A weighted mean of the iterates since it was made, in float64 whatever their dtype.

    In float32 the later of a million iterates would move it by less than it can hold.

    Parameters
    ----------
    kind : str
        One of `AVERAGES`.
    x : ndarray or CUDA array
        A flat iterate, for its size and place.

    Notes
    -----
    ``mean += (eta + 1) / (t + eta) * (x - mean)`` for the t-th iterate: Shamir & Zhang,
    "Stochastic gradient descent for non-smooth optimization: convergence results and optimal
    averaging schemes", ICML 2013, section 4; eta = 0 is the mean of all. They count the starting
    point as the first iterate; here the first is the one after the first step.
    """

    def __init__(self, kind: str, x: Array) -> None:
        self.kind, self._backend = kind, backend_of(x)
        mean, spare = (self._backend.empty(x.size, np.float64, x) for _ in range(2))
        self._backend.fill(mean, 0.0)
        self._kept = (mean, spare, 0)

    @property
    def mean(self) -> Array:
        """The average, to be read only."""
        return self._kept[0]

    @property
    def count(self) -> int:
        """How many iterates it is of."""
        return self._kept[2]

    @property
    def eta(self) -> float:
        """The exponent of the weights."""
        return AVERAGES[self.kind]

    def update(self, x: Array) -> None:
        """Take in the next iterate; an interrupt finds the old average or the new one."""
        mean, spare, count = self._kept
        weight = weight_of(count + 1, self.eta)  # type: ignore[no-untyped-call]
        self._backend.average(spare, mean, x, weight)
        self._kept = spare, mean, count + 1

    def advance(self, count: int) -> None:
        """Count iterates that a compiled loop has taken into ``mean`` itself."""
        mean, spare, before = self._kept
        self._kept = mean, spare, before + count

    def restore(self, mean: np.ndarray, count: int) -> None:
        """Go on from an average that was saved."""
        ours, spare, _ = self._kept
        self._backend.copy(ours, mean)
        self._kept = ours, spare, count
