"""The course of a run, and a diagnosis if AdaGrad's rates have died."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from ..placement import backend_of

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

# The rates have died if their median fell below this fraction of the first ...
ONWARD = 0.5  # the cosine above which steps are too short
DYING_FRACTION = 0.1
# ... while the gradient stayed above this fraction of the first.
VANISHED_FRACTION = 1e-3


class History:
    """Loss, gradient norm and quantiles of the effective rates, every so many steps."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._rows: list[tuple[int, float, float, np.ndarray]] = []
        self._turn: int | None = None

    def record(
        self, t: int, f: float, gradient_norm: float, rates_of: Callable[[], Array], last: bool
    ) -> None:
        """Keep the iterate's figures if a turn has come since, or if it is the last."""
        if not self._every:
            return
        if self._turn is None:
            self._turn = -(-t // self._every) * self._every
        if (t < self._turn and not last) or (self._rows and self._rows[-1][0] == t):
            return
        self._turn = (t // self._every + 1) * self._every
        rates = rates_of()
        rates = backend_of(rates).to_host(rates)
        self._rows.append((t, f, gradient_norm, np.quantile(rates, QUANTILES)))

    def arrays(self) -> dict[str, np.ndarray] | None:
        """Return the course as arrays, one entry for each iterate kept; None without a history."""
        if not self._every:
            return None
        columns = zip(*self._rows, strict=True)
        names = ("t", "fun", "gradient_norm", "learning_rate_quantiles")
        return {
            **{name: np.array(column) for name, column in zip(names, columns, strict=True)},
            "quantiles": np.array(QUANTILES),
        }


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
