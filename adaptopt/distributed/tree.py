"""Sums over a tree that depends on the number of blocks alone, so that they have the same bits.

Neighbours are added, then neighbouring sums, until one is left; the last of an odd number goes up
as it is.
"""

from __future__ import annotations

from .tasks import Summand

FAN_IN = 8  # results that a task adds: a power of two, so that all cut the same tree


def fold(*results: Summand) -> Summand:
    """Add neighbours until one is left."""
    level = list(results)
    while len(level) > 1:
        pairs = [a + b for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]


class Tree:
    """The same sum of results that come one after the other; it keeps as few as it can."""

    def __init__(self) -> None:
        # Sums of complete trees, each with half as many results as the one before, or fewer.
        self._sums: list[tuple[int, Summand]] = []

    def add(self, result: Summand) -> None:
        """Take in the next result."""
        count = 1
        while self._sums and self._sums[-1][0] == count:
            result = self._sums.pop()[1] + result
            count *= 2
        self._sums.append((count, result))

    def total(self) -> Summand:
        """Return the sum of all."""
        result = self._sums[-1][1]
        for _, before in self._sums[-2::-1]:
            result = before + result
        return result
