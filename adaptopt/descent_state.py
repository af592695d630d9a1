"""Where a run of minimize stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .regret import Sums
from .run_state import RunState

__all__ = ["DescentState"]


@dataclass(eq=False)
class DescentState(RunState):
    """Where a run stands, to go on exactly: pass it as ``state`` with the same problem.

    Attributes
    ----------
    optimizer : dict
        What `Optimizer.state_dict` returned.
    fun, jac : float and ndarray, or None
        Value and gradient at ``x``, where they have been evaluated.
    best_x, best_jac, best_fun, best_t
        The best iterate so far, its gradient, value and step.
    previous_fun, previous_x, first
        What the stopping tests and the diagnosis look back at.
    sums : Sums or None
        What the certificate is made of, with the option.
    """

    kind: ClassVar[str] = "minimize state"

    fun: float
    jac: np.ndarray | None
    best_x: np.ndarray
    best_jac: np.ndarray
    best_fun: float
    best_t: int
    previous_fun: float
    previous_x: np.ndarray | None
    first: tuple[float, float]
    sums: Sums | None = None

    parts: ClassVar[Mapping[str, type]] = {"sums": Sums}
