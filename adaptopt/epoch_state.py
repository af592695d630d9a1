"""Where a run of minimize_finite_sum stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .run_state import RunState

__all__ = ["EpochState"]


@dataclass(eq=False)
class EpochState(RunState):
    """Where a run stands, to go on exactly: pass it as ``state`` with the same data.

    Attributes
    ----------
    optimizer : dict
        What `Optimizer.state_dict` returned.
    rng : dict
        Where the generator stands.
    n : int
        Rows of the data.
    epoch : int
        Epochs done, over all runs.
    done, order : int and ndarray, or None
        Rows that have been taken of the epoch after them, and the order of its rows where it is
        shuffled.
    loss_sum, loss_rows : float, int
        What the mean loss of that epoch is made of.
    average, average_kind, average_count : ndarray, str, int
        The average of the iterates, if there is one.
    previous_loss : float
        Mean loss of the epoch before.
    validated : bool
        Whether what follows is of the validation; else it is of the epochs' mean loss.
    best_fun, best_epoch, best_x : float, int, ndarray
        The best so far, its epoch, and its iterate where there is a validation.
    """

    kind: ClassVar[str] = "minimize_finite_sum state"

    rng: dict[str, Any]
    n: int
    epoch: int
    done: int
    order: np.ndarray | None
    loss_sum: float
    loss_rows: int
    average: np.ndarray | None
    average_kind: str | None
    average_count: int
    previous_loss: float
    validated: bool
    best_fun: float
    best_epoch: int
    best_x: np.ndarray | None
