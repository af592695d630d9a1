"""Where a run of minimize_finite_sum stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .averaging import AVERAGES
from .state import RunState

# Counts beyond it are none of a run, and kernels count in int64.
MOST = 2**53


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
        Mean loss of the epoch before, with the penalty at its end.
    validated : bool
        Whether what follows is of the validation; else it is of the epochs' mean loss, with the
        penalty.
    best_fun, best_epoch, best_x : float, int, ndarray
        The best so far, its epoch, and its iterate where there is a validation.
    start : ndarray or None
        Where the first run began; None if it is not known.
    added : str or None
        A digest of the bounds and penalties that the values are of; None if it is not known.
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
    start: np.ndarray | None = None
    added: str | None = None

    def check(self, n: int, x: Any) -> None:
        """Raise if the state is not that of a run over ``n`` rows from a flat point like ``x``.

        A kernel would follow the row numbers of ``order`` wherever they lead. `read` has checked
        the types.
        """
        if self.n != n:
            raise ValueError(f"data has {n} rows, expected {self.n} like state")
        counts = {"epoch": MOST, "done": n, "loss_rows": n, "average_count": MOST}
        for name, most in {**counts, "best_epoch": self.epoch}.items():
            fits = 0 <= getattr(self, name) <= most
            self._demand(fits, name, f"a whole number from 0 to {most}")
        for name in ("loss_sum", "previous_loss", "best_fun"):
            self._demand(isinstance(getattr(self, name), float), name, "a float")
        kinds = (None,) if self.average is None else (*AVERAGES,)
        self._demand(self.average_kind in kinds, "average_kind", f"one of {kinds}")
        for name, dtype in (
            ("average", np.dtype(np.float64)),
            ("best_x", x.dtype),
            ("start", x.dtype),
        ):
            array = getattr(self, name)
            fits = array is None or (array.shape == (x.size,) and array.dtype == dtype)
            self._demand(fits, name, f"None or an array of {dtype} and shape ({x.size},)")
        order = self.order
        self._demand(
            order is None or (order.shape == (n,) and order.dtype.kind == "i" and _permutes(order)),
            "order",
            f"None or a permutation of the numbers of {n} rows",
        )

    def _demand(self, fits: bool, name: str, expected: str) -> None:
        if not fits:
            text = repr(getattr(self, name))
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise ValueError(f"state.{name} is {shown}, expected {expected}")


def _permutes(order: np.ndarray) -> bool:
    """Tell whether every number from 0 to below the size is there once."""
    inside = order.min() >= 0 and order.max() < order.size
    return bool(inside and (np.bincount(order, minlength=order.size) == 1).all())
