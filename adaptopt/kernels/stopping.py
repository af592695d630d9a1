"""The stopping tests: one scalar function, for the loop in Python and for the compiled one."""

from __future__ import annotations

import math
from typing import NamedTuple

TARGET, GTOL, FTOL, XTOL, PATIENCE = 1, 2, 3, 4, 5


class Measurement(NamedTuple):
    """The measurements of an iterate in a check. Unknown ones are NaN."""

    f: float
    """The value, with the penalty."""
    norm: float
    """The largest residual of optimality, or NaN if the gradient is not finite."""
    moved: float
    """Largest move of a coordinate since the iterate before."""
    previous_f: float
    """The value of the iterate before, if it has been measured only now."""


def reason(
    f: float,
    norm: float,
    previous_f: float,
    moved: float,
    since_best: int,
    f_target: float,
    gtol: float,
    ftol: float,
    xtol: float,
    patience: int,
) -> int:
    """Return the test by which a run has ended at an iterate whose numbers are finite, or 0.

    ``moved`` is the largest step of a coordinate and ``since_best`` counts the steps since the best
    iterate; what is not known is NaN.
    """
    if f <= f_target:
        return TARGET
    if norm <= gtol:
        return GTOL
    if math.isfinite(previous_f) and relative_change(f, previous_f) <= ftol:
        return FTOL
    if moved <= xtol:
        return XTOL
    if since_best >= patience:
        return PATIENCE
    return 0


def relative_change(f: float, previous_f: float) -> float:
    """Return the change of f, relative to its size if that is above 1."""
    return abs(previous_f - f) / max(abs(previous_f), abs(f), 1.0)
