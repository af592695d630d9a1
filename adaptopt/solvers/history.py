"""The course of a run, and a diagnosis if AdaGrad's rates have died."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..placement import backend_of

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

# The rates have died if their median fell below this fraction of the first ...
DYING_FRACTION = 0.1
# ... while the gradient stayed above this fraction of the first.
VANISHED_FRACTION = 1e-3

ONWARD = 0.9  # the cosine above which steps are too short


class History:
    """Loss and gradient norm every so many steps; quantiles of the rates every so many records.

    Parameters
    ----------
    every : int
        Steps between two records; 0 for none.
    rates : int
        Records between two with quantiles of the effective rates; 0 for none.
    """

    def __init__(self, every: int, rates: int) -> None:
        self._turns, self._rate_turns = Turns(every), Turns(every * rates)
        self._rows: list[tuple[int, float, float]] = []
        self._quantiles: list[tuple[int, np.ndarray]] = []

    def record(
        self, t: int, f: float, gradient_norm: float, rates_of: Callable[[], Array], last: bool
    ) -> None:
        """Keep the iterate's figures if a turn has come since, or if it is the last."""
        if self._turns.has_come(t, last) and not (self._rows and self._rows[-1][0] == t):
            self._rows.append((t, f, gradient_norm))
        self.record_rates(t, rates_of, last)

    def record_rates(self, t: int, rates_of: Callable[[], Array], last: bool = False) -> None:
        """Keep the quantiles of the rates if their turn has come, or if it is the last."""
        kept = self._quantiles
        if self._rate_turns.has_come(t, last) and not (kept and kept[-1][0] == t):
            rates = rates_of()
            rates = backend_of(rates).to_host(rates)
            kept.append((t, np.quantile(rates, QUANTILES)))

    def extend(self, records: np.ndarray) -> None:
        """Take in rows of step, loss and norm that a compiled call has recorded."""
        self._rows += [(int(t), float(f), float(norm)) for t, f, norm in records]

    def most(self, t: int, rows: int, batch: int) -> int:
        """Return how many of so many rows the steps up to the next record of rates take."""
        every = self._rate_turns.every
        return min(rows, (every - t % every) * batch) if every else rows

    def arrays(self) -> dict[str, np.ndarray] | None:
        """Return the course as arrays, one entry for each iterate kept; None without a history."""
        if not self._turns.every:
            return None
        names = ("t", "fun", "gradient_norm")
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(names)
        course = {name: np.array(column) for name, column in zip(names, columns, strict=True)}
        if self._rate_turns.every:
            course["rates_t"] = np.array([t for t, _ in self._quantiles])
            course["learning_rate_quantiles"] = np.array([q for _, q in self._quantiles])
            course["quantiles"] = np.array(QUANTILES)
        return course


class Turns:
    """Every so many steps; 0 is never. If not every step is seen, the next that is takes a turn."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._next: int | None = None

    def has_come(self, t: int, last: bool) -> bool:
        """Return whether a turn has come since it last did, at step ``t``."""
        if not self.every:
            return False
        if self._next is None:
            self._next = -(-t // self.every) * self.every
        if t < self._next and not last:
            return False
        self._next = (t // self.every + 1) * self.every
        return True


def never_lower(can_search: bool) -> str:
    """Say in one sentence that no iterate was below the start."""
    found = "; lr='auto' finds a rate" if can_search else ""
    return (
        " No iterate is below the start: the learning rate is too large, or jac has the wrong "
        f"sign{found}."
    )


def short_steps(cosine: float, can_search: bool) -> str:
    """Say in one sentence that a run still goes where it went from the start, or nothing.

    Parameters
    ----------
    cosine : float
        Of the angle between the way from the start and the last gradient's descent.
    can_search : bool
        Whether ``lr="auto"`` takes the method.
    """
    if not cosine > ONWARD:
        return ""
    found = ", and lr='auto' searches for one" if can_search else ""
    return (
        " The last gradient still points along the way from the start "
        f"(cosine {cosine:.2f}): the steps are too short; a larger rate goes on{found}."
    )


def dying_rate(first: tuple[float, float], last: tuple[float, float], t: int) -> str:
    """Say in one sentence that the effective rates have died, or nothing.

    Parameters
    ----------
    first, last : tuple of float
        Median effective rate, divided by the learning rate of its step so that a schedule is not
        blamed, and gradient norm; of the first step and of the last.
    t : int
        Steps taken.
    """
    if not (first[0] > 0 and first[1] > 0):
        return ""
    rate, gradient = last[0] / first[0], last[1] / first[1]
    if not (rate < DYING_FRACTION and gradient > VANISHED_FRACTION):
        return ""
    return (
        f" The effective learning rates have died: after {t} steps their median is {rate:.2g} of "
        f"the first (below {DYING_FRACTION:g}) while the gradient norm is still {last[1]:.2g} "
        f"({gradient:.2g} of the first); a larger rate goes on, and lr='auto' searches for one."
    )
