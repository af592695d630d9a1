"""Where the search for a learning rate stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import DType
from ..kernels import search_numbers as kernel
from ..kernels.search_numbers import SearchCounts


@dataclass(eq=False)
class SearchState:
    """Where a search stands.

    Attributes
    ----------
    points, gradients : ndarray
        Three rows each: the point, the one before, the best one and the trial are among them.
    ranges, displacement, rates : ndarray
        Mean squared steps, and the displacement and the rates of the last direction.
    counts, numbers : ndarray
        See `kernels.search`.
    """

    points: np.ndarray
    gradients: np.ndarray
    ranges: np.ndarray
    displacement: np.ndarray
    rates: np.ndarray
    counts: np.ndarray
    numbers: np.ndarray

    @classmethod
    def before(cls, x: np.ndarray) -> SearchState:
        """Return the state before the first step from a flat point."""
        points, gradients = (np.full((3, x.size), np.nan, x.dtype) for _ in range(2))
        points[0] = x
        ranges, displacement, rates = (np.zeros_like(x) for _ in range(3))
        counts = np.array(SearchCounts(), np.int64)
        numbers = np.full(kernel.NUMBERS, np.nan)
        numbers[[kernel.RANGE, kernel.LONGEST_MOVE]] = 0.0
        return cls(points, gradients, ranges, displacement, rates, counts, numbers)

    @property
    def steps(self) -> int:
        """Steps accepted."""
        return int(self.counts[kernel.STEPS])

    def copy(self) -> SearchState:
        """Return a copy."""
        return SearchState(**{name: array.copy() for name, array in vars(self).items()})

    def check(self, size: int, dtype: DType) -> None:
        """Raise if a field is not one of a search over so many variables of a dtype."""
        like = vars(SearchState.before(np.empty(size, dtype)))
        for name, array in vars(self).items():
            expected = like[name]
            if not (array.shape == expected.shape and array.dtype == expected.dtype):
                raise ValueError(
                    f"state.search.{name} is of {array.dtype} and shape {array.shape}, expected "
                    f"{expected.dtype} and shape {expected.shape}"
                )
        counts = SearchCounts(*self.counts.tolist())
        rows = (counts.x, counts.previous, counts.trial, counts.best)
        if not (all(0 <= row < 3 for row in rows) and min(counts) >= 0 and counts.phase <= 2):
            raise ValueError(f"state.search.counts is {counts}, expected rows 0 to 2")


class EndedSearch(NamedTuple):
    """What tells of a search why it has ended; see `SearchState`."""

    points: np.ndarray
    gradients: np.ndarray
    counts: list[int]
    numbers: list[float]
