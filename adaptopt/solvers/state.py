"""Where a run stands, in memory and on the disk: what the states of all loops have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from numbers import Integral, Real
from os import PathLike
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from ..optimizer import checkpoint
from ..optimizer import state as snapshot
from ..prox.base import Proximal

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
        source = str(path)
        header, arrays = checkpoint.read(path, cls.kind)
        if not (header.keys() == {"optimizer", "run"} and isinstance(header["run"], dict)):
            raise checkpoint.CheckpointError(f"{source} has another header than a {cls.kind}")
        own = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in header["run"].items()
        }
        # The optimizer's arrays have names that are JSON lists.
        own |= {name: arrays.pop(name) for name in list(arrays) if not name.startswith("[")}
        optimizer = snapshot.unflatten(header["optimizer"], arrays, source)
        _single(optimizer, source)
        for part, kind in cls.parts.items():
            start = f"{part}."
            entries = {name: own.pop(name) for name in list(own) if name.startswith(start)}
            if entries:
                values = {name.removeprefix(start): value for name, value in entries.items()}
                own[part] = _made(kind, values, source)
        state: _State = _made(cls, {"optimizer": optimizer, **own}, source)
        return state

    @classmethod
    def read(cls: type[_State], state: Any) -> _State:
        """Return a state, given as it is or as its file."""
        if isinstance(state, str | PathLike):
            return cls.load(state)
        if not isinstance(state, cls):
            raise TypeError(
                f"state is {state!r:.60}, expected the state of an earlier result, or its file: "
                "pass res.state"
            )
        _check_fields(cls, vars(state), "state")
        _single(snapshot.well_formed(state.optimizer, "state"), "state")
        return state


def added_to(method: Any, prox: Proximal) -> str:
    """Return a digest of what a run adds to its function: bounds and penalties.

    A value found under others says nothing about the objective.
    """
    parts = [*method.penalty, method.has_objective, prox]
    return hashlib.sha256(repr(_content(parts)).encode()).hexdigest()[:16]


def _content(value: Any) -> Any:
    """Return what tells a parameter of a map from others, the same in every process.

    An array of one number everywhere is that number. Of what is not known only the type counts.
    """
    if isinstance(value, Proximal):
        return type(value).__qualname__, [(k, _content(v)) for k, v in sorted(vars(value).items())]
    if isinstance(value, tuple | list):
        return [_content(part) for part in value]
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return type(value).__qualname__
    array = array.astype(np.float64) + 0.0  # without -0
    if array.size and (array == array.flat[0]).all():
        return float(array.flat[0])
    return array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def _made(kind: Any, values: dict[str, Any], source: str) -> Any:
    """Make a dataclass of what a file holds, if it holds all of its fields and nothing else."""
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if not needed <= values.keys() <= known:
        raise checkpoint.CheckpointError(
            f"{source} holds {sorted(values)}, expected the fields of a {kind.__name__}"
        )
    _check_fields(kind, values, source)
    return kind(**values)


def _check_fields(kind: type, values: Mapping[str, Any], source: str) -> None:
    """Raise if a value is of another type than the annotation of its field."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name in hints and not _is_a(value, hints[name]):
            raise TypeError(f"{source}: {name} is {value!r:.60}, expected {_words(hints[name])}")


def _is_a(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type, which JSON or a file can hold."""
    kinds, of = get_args(hint), get_origin(hint)
    if of in (UnionType, Union):
        return any(_is_a(value, kind) for kind in kinds)
    if of is tuple:
        return (
            isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_a, value, kinds))
        )
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool | np.bool)
    return hint is Any or isinstance(value, of or hint)


def _words(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)


def _single(optimizer: dict[str, Any], source: str) -> None:
    """Raise if an optimizer's state is of other parameters than one without a name."""
    names = list(optimizer["parameters"])
    if names != [""]:
        raise ValueError(f"{source} has the parameters {names}, expected the one of a run")
