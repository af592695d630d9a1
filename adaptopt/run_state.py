"""Where a run stands, in memory and on the disk: what the states of all loops have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from os import PathLike
from typing import Any, ClassVar, TypeVar

import numpy as np

from . import checkpoint, snapshot

__all__ = ["RunState"]

_State = TypeVar("_State", bound="RunState")


@dataclass(eq=False)
class RunState:
    """Where a run stands, to go on exactly; a subclass adds fields of what its loop keeps.

    Fields are arrays, or of what JSON holds; lists come back from the disk as tuples.

    Attributes
    ----------
    optimizer : dict
        What `Optimizer.state_dict` returned.
    """

    kind: ClassVar[str]
    # Fields that are dataclasses of the same things, or None.
    parts: ClassVar[Mapping[str, type]] = {}

    optimizer: dict[str, Any]

    @property
    def _entry(self) -> snapshot.Entry:
        (entry,) = self.optimizer["parameters"].values()
        return entry  # type: ignore[no-any-return]

    @property
    def x(self) -> np.ndarray:
        """The last iterate (the result's ``x`` may be another)."""
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

        The path may be given as ``state`` to go on from it.
        """
        header, arrays = snapshot.flatten(self.optimizer)
        own: dict[str, Any] = {}
        given = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        for part in self.parts:
            if (value := given.pop(part)) is not None:
                given |= {f"{part}.{name}": entry for name, entry in vars(value).items()}
        for name, value in given.items():
            (arrays if isinstance(value, np.ndarray) else own)[name] = value
        checkpoint.write(path, self.kind, {"optimizer": header, "run": own}, arrays)

    @classmethod
    def load(cls: type[_State], path: str | PathLike[str]) -> _State:
        """Read what `save` wrote."""
        header, arrays = checkpoint.read(path, cls.kind)
        own = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["run"].items()
        }
        # The optimizer's arrays have names that are JSON lists.
        own |= {name: arrays.pop(name) for name in list(arrays) if not name.startswith("[")}
        for part, kind in cls.parts.items():
            start = f"{part}."
            entries = {name: own.pop(name) for name in list(own) if name.startswith(start)}
            if entries:
                own[part] = kind(**{name.removeprefix(start): v for name, v in entries.items()})
        return cls(snapshot.unflatten(header["optimizer"], arrays), **own)

    @classmethod
    def read(cls: type[_State], state: Any) -> _State:
        """Return a state, given as it is or as its file."""
        if isinstance(state, str | PathLike):
            return cls.load(state)
        if not isinstance(state, cls):
            raise TypeError(
                f"state is {state!r}, expected the state of an earlier result, or its file"
            )
        return state
