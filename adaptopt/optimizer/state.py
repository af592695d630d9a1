"""Convert an optimizer's state to a dict of plain objects and to a file, and back."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any

import numpy as np

from ..arrays import Array
from ..placement import Backend
from ..scalar import LONGEST
from . import checkpoint

VERSION = 1
KIND = "optimizer"
KIND_BESIDE = "optimizer without what lies in files"
MOST_STEPS = 2**53  # the largest count that float64 represents exactly

_PARTS = {"state": "state", "hidden": "hidden"}
# Methods with the state of another method, from which only their default hyperparameters differ.
_SAME_STATE = {"AdamW": "Adam"}

# What there is of one parameter: {"method": str, "scalars": {name: float}, and arrays: "params":
# ndarray, "state" and "hidden": {name: ndarray}}; "behind": int where it has taken fewer steps; and
# "waits_with": list of float, the coefficients of the last step, where rows wait.
Entry = dict[str, Any]
# A state as `Optimizer.state_dict` documents it.
Taken = dict[str, Any]


def view(numbers: Mapping[str, object], entries: Mapping[str, Entry]) -> Taken:
    """Return the state without a copy."""
    return {"version": VERSION, **numbers, "parameters": entries}


def take(numbers: Mapping[str, object], entries: Mapping[str, Entry], backend: Backend) -> Taken:
    """Return host copies of the state."""
    for entry in entries.values():
        backend.wait(entry["params"])
    copied = {
        name: {
            **entry,
            "params": backend.to_host(entry["params"]),
            "state": {slot: backend.to_host(array) for slot, array in entry["state"].items()},
            "hidden": {slot: backend.to_host(array) for slot, array in entry["hidden"].items()},
        }
        for name, entry in entries.items()
    }
    return view(numbers, copied)


def well_formed(taken: object, source: str) -> Taken:
    """Return a checked state with Python numbers, or raise an error.

    `copies` checks whether it fits an optimizer. ``source`` is its name in error messages.
    """
    if not isinstance(taken, Mapping) or not {"version", "t", "parameters"} <= taken.keys():
        raise TypeError(f"{source} is no state of an Optimizer, expected what state_dict() returns")
    if _whole(f"{source}: version", taken["version"], 0) != VERSION:
        raise ValueError(
            f"{source} has version {taken['version']}, expected {VERSION}: it was written by "
            "another adaptopt"
        )
    _demand(source, taken, ("skipped", "seed", "loss_scale"))
    t = _whole(f"{source}: t", taken["t"], 0, MOST_STEPS)
    if taken["loss_scale"] is not None:
        _real(f"{source}: loss_scale", taken["loss_scale"])
    _mapping(f"{source}: parameters", taken["parameters"])
    parameters = {}
    for name, entry in taken["parameters"].items():
        where = f"{source}: parameter {name!r}" if name else source
        _mapping(where, entry)
        _demand(where, entry, ("method", "scalars", "params", "state", "hidden"))
        if not isinstance(entry["method"], str):
            raise TypeError(f"{where} has the method {entry['method']!r}, expected its name")
        for part in ("scalars", "state", "hidden"):
            _mapping(f"{where}: {part}", entry[part])
        scalars = {key: _real(f"{where}: {key}", value) for key, value in entry["scalars"].items()}
        parameters[name] = {**entry, "scalars": scalars}
        if "behind" in entry:
            parameters[name]["behind"] = _whole(f"{where}: behind", entry["behind"], 0, t)
        if "waits_with" in entry:
            given = entry["waits_with"]
            if not isinstance(given, list | tuple):
                raise TypeError(f"{where}: waits_with is {given!r:.60}, expected numbers")
            parameters[name]["waits_with"] = [_real(f"{where}: waits_with", v) for v in given]
    return {
        "version": VERSION,
        "t": t,
        "skipped": _whole(f"{source}: skipped", taken["skipped"], 0, MOST_STEPS),
        "seed": _whole(f"{source}: seed", taken["seed"], 0),
        "loss_scale": taken["loss_scale"],
        "parameters": parameters,
    }


def _demand(where: str, given: Mapping[str, object], names: Iterable[str]) -> None:
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"{where} has no {', '.join(map(repr, missing))}, expected what state_dict() returns"
        )


def _mapping(where: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{where} is a {type(value).__name__}, expected a dict with names")


def _whole(where: str, value: object, least: int, most: float = math.inf) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{where} is {value!r:.60}, expected a whole number")
    number = int(value)
    if not least <= number <= most:
        raise ValueError(f"{where} is {number}, expected a whole number in [{least}, {most}]")
    return number


def _real(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where} is {value!r:.60}, expected a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} is beyond the numbers of float64") from None


def copies(taken: Taken, entries: Mapping[str, Entry], source: str) -> list[tuple[Array, Array]]:
    """Pair arrays of ``entries`` with those to copy into them, if the whole state fits.

    Parameters
    ----------
    taken : dict
        The result of `well_formed`.
    entries : mapping of str to Entry
        Views of an optimizer's arrays.
    source : str
        The name of ``taken`` in error messages.
    """
    given = taken["parameters"]
    if given.keys() != entries.keys():
        raise ValueError(f"{source} has the parameters {_names(given)}, expected {_names(entries)}")
    found = []
    for name, entry in entries.items():
        where = f"{source}: parameter {name!r}" if name else source
        theirs = given[name]
        methods = [_SAME_STATE.get(e["method"], e["method"]) for e in (theirs, entry)]
        if methods[0] != methods[1]:
            raise ValueError(
                f"{where} has the method {theirs['method']}, expected {entry['method']}"
            )
        for part in ("scalars", "state", "hidden"):
            if theirs[part].keys() != entry[part].keys():
                raise ValueError(
                    f"{where} has the {part} {_names(theirs[part])}, expected {_names(entry[part])}"
                )
        ours = {"params": entry["params"], **entry["state"], **entry["hidden"]}
        arrays = {"params": theirs["params"], **theirs["state"], **theirs["hidden"]}
        for slot, array in ours.items():
            new = arrays[slot]
            if isinstance(new, np.ma.MaskedArray):
                raise TypeError(f"{where} has {slot} as a masked array, expected a NumPy array")
            if not isinstance(new, checkpoint.Stored):
                new = np.asarray(new)
            if new.shape != array.shape or new.dtype != array.dtype:
                raise ValueError(
                    f"{where} has {slot} of {new.dtype} and shape {new.shape}, expected "
                    f"{array.dtype} and {array.shape}"
                )
            found.append((array, new))
        if "last" in ours and math.prod(ours["last"].shape):
            now = taken["t"] - theirs.get("behind", 0)
            last = arrays["last"]
            last = last.read() if isinstance(last, checkpoint.Stored) else np.asarray(last)
            least, most = int(last.min()), int(last.max())
            if not max(now - LONGEST, 0) <= least <= most <= now:
                raise ValueError(
                    f"{where} has rows after steps {least} to {most}, expected steps in "
                    f"[{max(now - LONGEST, 0)}, {now}]"
                )
    return found


def restore(pairs: Iterable[tuple[Array, Array]], backend: Backend) -> None:
    """Copy the arrays that `copies` has paired."""
    for array, new in pairs:
        if isinstance(new, np.ndarray) and _is_same(new, array):
            continue
        if isinstance(new, checkpoint.Stored) and isinstance(array, np.ndarray):
            new.into(array)
        else:
            backend.copy(array, new.read() if isinstance(new, checkpoint.Stored) else new)


def _is_same(new: np.ndarray, array: Array) -> bool:
    """Return whether two arrays share the same memory, such as that of a file."""
    return (
        isinstance(array, np.ndarray)
        and new.strides == array.strides
        and new.ctypes.data == array.ctypes.data
    )


def flatten(taken: Taken) -> tuple[Taken, dict[str, np.ndarray]]:
    """Split a state into a JSON header and arrays by name."""
    header = {key: value for key, value in taken.items() if key != "parameters"}
    header["parameters"] = {}
    arrays = {}
    for name, entry in taken["parameters"].items():
        kept = ("method", "scalars", "behind", "waits_with")
        header["parameters"][name] = {part: entry[part] for part in kept if part in entry}
        arrays[json.dumps([name, "params", ""])] = entry["params"]
        for part in ("state", "hidden"):
            for slot, array in entry[part].items():
                arrays[json.dumps([name, part, slot])] = array
    return header, arrays


def unflatten(
    header: Taken,
    arrays: Mapping[str, Array],
    source: str,
    ours: Callable[[str, bool], Entry] | None = None,
) -> Taken:
    """Reassemble and check a state that `flatten` has split."""
    where = f"{source}: its header"
    _mapping(where, header)
    _demand(where, header, ("parameters",))
    _mapping(f"{where}: parameters", header["parameters"])
    parameters: dict[str, Entry] = {}
    for name, entry in header["parameters"].items():
        _mapping(f"{where}: parameter {name!r}", entry)
        parameters[name] = {**entry, "state": {}, "hidden": {}}
        if ours is not None and isinstance(entry.get("waits"), bool):
            known = ours(name, entry["waits"])
            lies = _beside(known)["slots"]
            if entry.get("slots") != lies:
                raise ValueError(
                    f"{where}: parameter {name!r} has the files {entry.get('slots')}, expected "
                    f"{lies}: it is the state of another method or precision"
                )
            parameters[name] |= {part: known[part] for part in ("params", "state", "hidden")}
    for key, array in arrays.items():
        try:
            name, part, slot = json.loads(key)
            into = parameters[name] if part == "params" else parameters[name][_PARTS[part]]
        except (TypeError, ValueError, KeyError, RecursionError):
            raise checkpoint.CheckpointError(
                f"{source} has an array {key!r:.60}, expected one of its parameters"
            ) from None
        into["params" if part == "params" else slot] = array
    return well_formed({**header, "parameters": parameters}, source)


def save(path: str | PathLike[str], taken: Taken) -> None:
    """Write a state to a file, atomically."""
    checkpoint.write(path, KIND, *flatten(taken))


def save_beside(path: str | PathLike[str], taken: Taken, files: Collection[str]) -> None:
    """Write a state, except for parameters in files and their state."""
    parameters = taken["parameters"]
    header, arrays = flatten(
        {**taken, "parameters": {n: e for n, e in parameters.items() if n not in files}}
    )
    outside, _ = flatten({**taken, "parameters": {name: parameters[name] for name in files}})
    for name, entry in outside["parameters"].items():
        header["parameters"][name] = {**entry, **_beside(parameters[name])}
    checkpoint.write(path, KIND_BESIDE, header, arrays)


def _beside(entry: Entry) -> Taken:
    """Return the entry of a parameter in files: whether rows are deferred, and the rest."""
    slots = [*entry["state"], *entry["hidden"]]
    return {"waits": "last" in slots, "slots": [slot for slot in slots if slot != "last"]}


@contextlib.contextmanager
def opened_beside(path: str | PathLike[str], ours: Callable[[str, bool], Entry]) -> Iterator[Taken]:
    """Open a file of `save_beside`. ``ours(name, waits)`` returns the entry of one in files."""
    with checkpoint.opened(path, KIND_BESIDE) as (header, arrays):
        for array in arrays.values():
            array.check()
        taken = unflatten(header, arrays, str(path), ours)
        yield taken


@contextlib.contextmanager
def opened(path: str | PathLike[str]) -> Iterator[Taken]:
    """Open a file of `save`, and check it. Its arrays are read when they are copied."""
    with checkpoint.opened(path, KIND) as (header, arrays):
        for array in arrays.values():
            array.check()
        yield unflatten(header, arrays, str(path))


def _names(mapping: Mapping[str, object]) -> str:
    names = list(mapping)
    shown = ", ".join(repr(name) for name in names[:6])
    return f"[{shown}{', ...' if len(names) > 6 else ''}]"
