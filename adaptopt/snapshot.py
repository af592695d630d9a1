"""An optimizer's state as a dict of plain things, and back; on the disk, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from . import checkpoint, placement

__all__ = ["Entry", "flatten", "load", "restore", "save", "take", "unflatten", "view"]

VERSION = 1
KIND = "optimizer"

# What there is of one parameter: {"method": str, "scalars": {name: float}, and arrays: "params":
# ndarray, "state" and "hidden": {name: ndarray}}; and "behind": int where it has taken fewer steps.
Entry = dict[str, Any]


def view(numbers: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return it all, without a copy."""
    return {"version": VERSION, **numbers, "parameters": entries}


def take(numbers: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return copies of it all, on the host wherever it lies."""
    for entry in entries.values():
        placement.wait(entry["params"])
    copied = {
        name: {
            **entry,
            "params": placement.on_host(entry["params"]),
            "state": {slot: placement.on_host(array) for slot, array in entry["state"].items()},
            "hidden": {slot: placement.on_host(array) for slot, array in entry["hidden"].items()},
        }
        for name, entry in entries.items()
    }
    return view(numbers, copied)


def restore(taken: Any, entries: Mapping[str, Entry], source: str) -> None:
    """Copy what was taken into the arrays of ``entries``, if all of it fits; else modify nothing.

    Parameters
    ----------
    taken : dict
        What `take` returned.
    entries : mapping of str to Entry
        Views of an optimizer's arrays.
    source : str
        What error messages call ``taken``.
    """
    if not isinstance(taken, Mapping) or not {"version", "t", "parameters"} <= taken.keys():
        raise TypeError(f"{source} is no state of an Optimizer, expected what state_dict() returns")
    if taken["version"] != VERSION:
        raise ValueError(
            f"{source} has version {taken['version']}, expected {VERSION}: it was written by "
            "another adaptopt"
        )
    given = taken["parameters"]
    if given.keys() != entries.keys():
        raise ValueError(f"{source} has the parameters {_names(given)}, expected {_names(entries)}")
    copies = []
    for name, entry in entries.items():
        where = f"{source}: parameter {name!r}" if name else source
        theirs = given[name]
        if theirs["method"] != entry["method"]:
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
            new = np.asarray(arrays[slot])
            if new.shape != array.shape or new.dtype != array.dtype:
                raise ValueError(
                    f"{where} has {slot} of {new.dtype} and shape {new.shape}, expected "
                    f"{array.dtype} and {array.shape}"
                )
            copies.append((array, new))
    for entry in entries.values():
        placement.wait(entry["params"])
    for array, new in copies:
        placement.copy(array, new)


def flatten(taken: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Part what was taken into a header for JSON and arrays by name."""
    header = {key: value for key, value in taken.items() if key != "parameters"}
    header["parameters"] = {}
    arrays = {}
    for name, entry in taken["parameters"].items():
        kept = ("method", "scalars", "behind")
        header["parameters"][name] = {part: entry[part] for part in kept if part in entry}
        arrays[json.dumps([name, "params", ""])] = entry["params"]
        for part in ("state", "hidden"):
            for slot, array in entry[part].items():
                arrays[json.dumps([name, part, slot])] = array
    return header, arrays


def unflatten(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Put together again what `flatten` parted."""
    for entry in header["parameters"].values():
        entry |= {"state": {}, "hidden": {}}
    for key, array in arrays.items():
        name, part, slot = json.loads(key)
        entry = header["parameters"][name]
        if part == "params":
            entry["params"] = array
        else:
            entry[part][slot] = array
    return header


def save(path: str | PathLike[str], taken: Mapping[str, Any]) -> None:
    """Write what was taken to a file, atomically."""
    checkpoint.write(path, KIND, *flatten(taken))


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what `save` wrote."""
    return unflatten(*checkpoint.read(path, KIND))


def _names(mapping: Mapping[str, Any]) -> str:
    names = list(mapping)
    shown = ", ".join(repr(name) for name in names[:6])
    return f"[{shown}{', ...' if len(names) > 6 else ''}]"
