"""Where a run of minimize stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..regret.certificate import Sums
from .state import RunState


@dataclass(eq=False)
class DescentState(RunState):
    """Where a run stands, to go on exactly: pass it as ``state`` with the same problem.

    Attributes
    ----------
    optimizer : dict
        What `Optimizer.state_dict` returned.
    fun, jac : float and ndarray, or None
        Value, with penalties, and gradient at ``x``; NaN and None until they are evaluated.
    best_x, best_jac, best_fun, best_t
        The best iterate so far, its gradient, value and step.
    previous_fun, previous_x, first
        What the stopping tests and the diagnosis look back at.
    sums : Sums or None
        What the certificate is made of, with the option.
    added : str or None
        A digest of the bounds and penalties that the values are of; None if it is not known.
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
    added: str | None = None

    parts: ClassVar[Mapping[str, type]] = {"sums": Sums}

    def check(self, size: int, dtype: np.dtype[Any]) -> None:
        """Raise where a field is not one of a run over so many variables of a dtype."""
        for name in ("jac", "best_x", "best_jac", "previous_x"):
            if (array := getattr(self, name)) is not None:
                _check_array(name, array, size, dtype)
        if not -math.inf < self.best_fun:  # NaN too
            raise ValueError(f"state.best_fun is {self.best_fun}, expected a finite value, or inf")
        for name in ("best_x", "best_jac"):
            if self.best_fun < math.inf and not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"state.{name} is not finite, expected so with a finite best_fun")
        if not 0 <= self.best_t <= self.t:
            raise ValueError(
                f"state.best_t is {self.best_t}, expected one of the steps 0 to {self.t}"
            )
        if self.sums is None:
            return
        for name, array in vars(self.sums).items():
            kept = 5 if name == "totals" else size
            _check_array(f"sums.{name}", array, kept, np.dtype(np.float64))
        rounds = float(self.sums.totals[-1])
        if not (rounds.is_integer() and 0 <= rounds <= self.t + 1):
            raise ValueError(
                f"state.sums has {rounds} rounds, expected a whole number from 0 to {self.t + 1}"
            )


def _check_array(name: str, array: Any, size: int, dtype: np.dtype[Any]) -> None:
    if not (type(array) is np.ndarray and array.shape == (size,) and array.dtype == dtype):
        given = f"of {array.dtype} and shape {array.shape}" if type(array) is np.ndarray else array
        raise ValueError(f"state.{name} is {given}, expected {dtype} and shape ({size},)")
