"""Where a run of minimize stands, in memory and on the disk."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike
from typing import Any

import numpy as np

from . import checkpoint, snapshot
from .regret import Sums

__all__ = ["DescentState"]

KIND = "minimize state"
# What the names of the certificate's sums start with in a file.
SUMS = "sums."


@dataclass(eq=False)
class DescentState:
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

    optimizer: dict[str, Any]
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

    @property
    def _entry(self) -> snapshot.Entry:
        (entry,) = self.optimizer["parameters"].values()
        return entry  # type: ignore[no-any-return]

    @property
    def x(self) -> np.ndarray:
        """The last iterate (the result's ``x`` is the best one)."""
        return self._entry["params"]  # type: ignore[no-any-return]

    @property
    def slots(self) -> dict[str, np.ndarray]:
        """The method's state."""
        return self._entry["state"]  # type: ignore[no-any-return]

    @property
    def t(self) -> int:
        """Steps taken, over all runs."""
        return self.optimizer["t"]  # type: ignore[no-any-return]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the state to an .npz file, atomically and without pickle.

        ``minimize(..., state=path)`` goes on from it.
        """
        header, arrays = snapshot.flatten(self.optimizer)
        own: dict[str, Any] = {}
        given = {f.name: getattr(self, f.name) for f in fields(self)[1:] if f.name != "sums"}
        if self.sums is not None:
            given |= {f"{SUMS}{name}": value for name, value in vars(self.sums).items()}
        for name, value in given.items():
            if isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                own[name] = list(value) if isinstance(value, tuple) else value
        checkpoint.write(path, KIND, {"optimizer": header, "run": own}, arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> DescentState:
        """Read what `save` wrote."""
        header, arrays = checkpoint.read(path, KIND)
        own = header["run"]
        own["first"] = tuple(own["first"])
        # The optimizer's arrays have names that are JSON lists.
        own |= {name: arrays.pop(name) for name in list(arrays) if not name.startswith("[")}
        sums = {name: own.pop(name) for name in list(own) if name.startswith(SUMS)}
        if sums:
            own["sums"] = Sums(**{name.removeprefix(SUMS): value for name, value in sums.items()})
        return cls(snapshot.unflatten(header["optimizer"], arrays), **own)
