"""Sort parameters into groups, and pack them into one buffer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import Array
from ..methods.base import Method
from ..placement import HOST, Backend, backend_of
from ..prox.base import Proximal
from .files import in_file

# The name of a single array, which the user gave without a name.
ALONE = ""

LINE = 64  # bytes of a cache line, and of the widest vector


class Views(dict[str, Any]):
    """Arrays by name, into which you may write. Replacing an array raises an error.

    ``views[name] -= 1`` assigns the same array again, which is allowed. ``way`` is the advice in
    the error message; by default, to write into the array.
    """

    def __init__(self, what: str, items: Mapping[str, object], way: str | None = None) -> None:
        super().__init__(items)
        self._what, self._way = what, way

    def __setitem__(self, name: str, value: object) -> None:
        if self.get(name) is not value:
            self._refuse(name)

    def _refuse(self, name: object = "name", *others: object, **more: object) -> Any:
        place = f"{self._what}[{name!r}]"
        way = self._way or f"to write into it: {place}[...] = value"
        raise TypeError(f"{place} cannot be replaced, expected {way}")

    __delitem__ = setdefault = pop = popitem = clear = update = __ior__ = _refuse  # type: ignore[assignment]

    def __reduce__(self) -> tuple[object, ...]:
        return dict, (dict(self),)


def label(what: str, name: str) -> str:
    """Return the name of a parameter's property in error messages."""
    return f"{what}[{name!r}]" if name != ALONE else what


def read_params(params: object) -> tuple[dict[str, np.ndarray], Backend]:
    """Return the arrays by name, checked, and their backend."""
    if not isinstance(params, Mapping):
        backend = backend_of(params)
        return {ALONE: backend.view("params", params, writable=True)}, backend
    if not params:
        raise ValueError("params is empty, expected at least one array")
    for name in params:
        if not (isinstance(name, str) and name):
            raise TypeError(f"params has the name {name!r}, expected a string that is not empty")
    given = {
        name: backend_of(array).view(label("params", name), array, writable=in_file(array))
        for name, array in params.items()
    }
    _refuse_overlaps(given)
    first, *others = given
    backend = backend_of(given[first])
    for name in others:
        where = [backend_of(given[key]).place(given[key]) for key in (first, name)]
        if where[0] != where[1]:
            raise ValueError(
                f"params[{first!r}] lies on {where[0]} and params[{name!r}] on {where[1]}, "
                "expected one place: make an Optimizer for each"
            )
    return given, backend


def _refuse_overlaps(given: Mapping[str, Array]) -> None:
    """Raise if two arrays share memory or a part of a file, which a step would update twice."""
    spans: list[tuple[object, int, int, str]] = []
    for name, array in given.items():
        if array.size:
            start, file = backend_of(array).address(array), _file_of(array)
            spans.append((None, start, start + array.nbytes, name))
            if file is not None:
                at = file[1]
                spans.append((file[0], at, at + array.nbytes, name))
    by_place = sorted(spans, key=lambda span: (repr(span[0]), span[1]))
    for (place, _, end, one), (other, start, _, two) in pairwise(by_place):
        if place == other and start < end:
            first, second = sorted((one, two), key=list(given).index)
            raise ValueError(
                f"params[{first!r}] and params[{second!r}] share memory, expected arrays of their "
                "own: an entry of both would take two steps"
            )


def _file_of(array: Array) -> tuple[tuple[int, int], int] | None:
    """Return the file of an array and its offset there, if other arrays can share it."""
    owner = array
    while isinstance(owner, np.ndarray) and isinstance(owner.base, np.ndarray):
        owner = owner.base
    if not isinstance(owner, np.memmap) or owner.filename is None or owner.mode == "c":
        return None
    try:
        status = os.stat(owner.filename)
    except OSError:  # the file has been removed
        return None
    start = owner.offset + HOST.address(array) - HOST.address(owner)
    return (status.st_dev, status.st_ino), start


def for_each(what: str, value: object, params: Mapping[str, object], default: object = None) -> Any:
    """Return one value for each parameter."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(params, default if value is None and default is not None else value)
    missing = params.keys() - value.keys() if default is None else set()
    if missing or not value.keys() <= params.keys():
        raise ValueError(
            f"{what} has the names {list(value)}, expected those of params, {list(params)}"
        )
    return {name: value.get(name, default) for name in params}


def group_names(
    params: Mapping[str, np.ndarray], methods: Mapping[str, Method], proxes: Mapping[str, Proximal]
) -> list[list[str]]:
    """Group the names with equal dtype, method and prox, in their order.

    A parameter in a file, or with one accumulator per row, has its own group.
    """
    groups: dict[object, list[str]] = {}
    for name, array in params.items():
        alone = name if in_file(array) or methods[name].rowwise else ALONE
        kind = (array.dtype, _key(methods[name]), _key(proxes[name]), alone)
        groups.setdefault(kind, []).append(name)
    return list(groups.values())


def _key(value: object) -> object:
    """Return a key that equal values share. A value without a hash equals only itself."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def pack(
    params: Mapping[str, np.ndarray], groups: Sequence[Sequence[str]], backend: Backend
) -> list[np.ndarray]:
    """Copy arrays into one buffer, and return each group's part, aligned to a cache line.

    Arrays in files stay there.
    """
    outside = [params[names[0]] if in_file(params[names[0]]) else None for names in groups]
    groups = [names for names, file in zip(groups, outside, strict=True) if file is None]
    dtypes = [params[names[0]].dtype for names in groups]
    sizes = [sum(params[name].size for name in names) for names in groups]
    room = [
        -(-size * dtype.itemsize // LINE) * LINE for size, dtype in zip(sizes, dtypes, strict=True)
    ]
    near = next(iter(params.values()))  # all lie on the same device
    buffer = backend.empty(sum(room), np.uint8, near)
    parts, start = [], 0
    for names, dtype, size, width in zip(groups, dtypes, sizes, room, strict=True):
        part = buffer[start : start + size * dtype.itemsize].view(dtype)
        backend.join([params[name].reshape(params[name].size) for name in names], part)
        parts.append(part)
        start += width
    packed = iter(parts)
    return [next(packed) if file is None else np.asarray(file).reshape(-1) for file in outside]
