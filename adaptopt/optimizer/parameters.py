"""All parameters of an optimizer: by name for the user, by group internally."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from ..arrays import Array, compute_dtype
from ..methods.base import Method
from .arguments import Arguments
from .buffers import ALONE, group_names, label, pack
from .clipping import Transformation
from .counted import CountedGroup
from .gradients import Gradient, is_sparse, read_row_gradient
from .group import Group
from .memory import Memory
from .state import Entry
from .table import RowGradient

_T = TypeVar("_T")


class Parameters:
    """The parameters of an optimizer.

    Attributes
    ----------
    groups : list of CountedGroup
        Groups of parameters with equal dtype, method and map.
    members : list of list of str
        The names in each group.
    names : list of str
        All names, in the given order; "" for a single array.
    like : Array or mapping of str to Array
        The arrays with which gradients are compared: the parameters, on a device Numba's views.
    """

    def __init__(self, arguments: Arguments, transformation: Transformation) -> None:
        given, files = arguments.given, arguments.files
        self.names, self.is_named = list(given), arguments.is_named
        self.backend = backend = arguments.backend
        self.members = group_names(given, arguments.methods, arguments.proxes)
        for array in given.values():
            backend.wait(array)
        if self.is_named:
            buffers = pack(given, self.members, backend)
        else:
            buffers = [given[ALONE].reshape(given[ALONE].size)]
        with files or contextlib.nullcontext():
            groups = [
                Group(
                    buffer,
                    [given[name].shape for name in names],
                    arguments.methods[names[0]],
                    arguments.proxes[names[0]],
                    arguments.precision,
                    transformation,
                    backend,
                    files.allocator(names[0]) if files and names[0] in files.names else None,
                    files is not None and files.resumes and names[0] in files.names,
                )
                for buffer, names in zip(buffers, self.members, strict=True)
            ]
        for group in groups:
            backend.wait(group.flat)
        self.groups = [
            CountedGroup(group, [label("params", name) for name in names], arguments.lazy)
            for group, names in zip(groups, self.members, strict=True)
        ]
        self.like = {} if self.is_named else given[ALONE]
        self._share_memory()

    def _share_memory(self) -> None:
        """Share the memory records of all groups with each group."""
        memory = Memory(self.backend)
        for counted in self.groups:
            counted.group.remember(memory)

    @property
    def near(self) -> Array:
        """One of the parameters' arrays, to show where they lie."""
        return self.groups[0].group.flat

    @property
    def lag(self) -> bool:
        """Whether rows may have deferred steps."""
        return any(counted.lags for counted in self.groups)

    # -- by name -----------------------------------------------------------------------------------

    def by_name(self, of: Callable[[CountedGroup], Sequence[_T]]) -> dict[str, _T]:
        """Return a value for each parameter of the groups, by name, in the given order."""
        found: dict[str, _T] = {}
        for names, counted in zip(self.members, self.groups, strict=True):
            found.update(zip(names, of(counted), strict=True))
        return {name: found[name] for name in self.names}

    def methods(self) -> dict[str, Method]:
        """Return the method of each parameter."""
        return self.by_name(lambda counted: [counted.group.method] * len(counted.behind))

    def entries(self, t: int) -> dict[str, Entry]:
        """Return views of the complete state of each parameter after step ``t``."""
        return self.by_name(lambda counted: counted.entries(t))

    def entries_like(self, by_group: list[list[Entry]], wait: bool) -> dict[str, Entry]:
        """Return views for entries that are about to be restored."""
        taken = iter(by_group)
        return self.by_name(lambda counted: counted.entries_like(next(taken), wait))

    def find(self, name: str | None) -> tuple[CountedGroup, int, Array]:
        """Return the group of a parameter, its index there, and the parameter."""
        if name is None and len(self.names) == 1:
            name = self.names[0]
        elif name not in self.names or not self.is_named:
            known = ", ".join(map(repr, self.names)) if self.is_named else "no names"
            raise KeyError(f"name is {name!r}, expected one of {known}")
        k = next(k for k, names in enumerate(self.members) if name in names)
        params = self.like[name] if self.is_named else self.like
        return self.groups[k], self.members[k].index(name), params

    # -- changing ----------------------------------------------------------------------------------

    def with_methods(
        self, methods: Mapping[str, Method], t: int
    ) -> tuple[list[list[str]], list[CountedGroup]]:
        """Return names and groups with other methods, in the same arrays, after step ``t``."""
        members, changed = list[list[str]](), list[CountedGroup]()
        for names, counted in zip(self.members, self.groups, strict=True):
            first = 0
            for method, same in groupby(names, key=methods.__getitem__):
                end = first + len(list(same))
                members.append(names[first:end])
                changed.append(counted.with_method(method, first, end, t))
                first = end
        return members, changed

    def replace(self, members: list[list[str]], groups: list[CountedGroup]) -> None:
        """Replace names and groups, with the same arrays."""
        self.members, self.groups = members, groups
        self._share_memory()

    # -- gradients ---------------------------------------------------------------------------------

    def read_gradients(
        self, grads: object, stream: object = None
    ) -> tuple[list[list[Gradient]], bool]:
        """Return the checked gradients of each group, flat or of rows; and if any is of rows."""
        stream = self.backend.read_stream(stream)
        if not self.is_named:
            if grads is None:
                raise TypeError(
                    "grads is a NoneType, expected a gradient: to leave the array as it is, "
                    "take no step"
                )
            g = self._read_one("grads", grads, self.like, stream, self.groups[0].group, 0)
            return [[g]], is_sparse(grads)
        if not isinstance(grads, Mapping):
            raise ValueError(
                f"grads is {type(grads).__name__}, expected a dict of the names {self.names}"
            )
        if not grads.keys() <= self.like.keys():
            raise ValueError(
                f"grads is {list(grads)}, expected a dict of the names {self.names}, of which "
                "those without a gradient may be None or missing"
            )
        gs: list[list[Gradient]] = []
        apart = False
        for counted, names in zip(self.groups, self.members, strict=True):
            group, given = counted.group, list(map(grads.get, names))
            read = group.places.read_all(given) if stream is None else None
            if read is not None:
                gs.append(read)
                continue
            apart = apart or any(g is None or is_sparse(g) for g in given)
            gs.append(
                [
                    None
                    if g is None
                    else self._read_one(label("grads", name), g, self.like[name], stream, group, k)
                    for k, (name, g) in enumerate(zip(names, given, strict=True))
                ]
            )
        return gs, apart

    def _read_one(
        self, what: str, given: object, params: Array, stream: object, group: Group, k: int
    ) -> Gradient:
        """Return one checked gradient."""
        if is_sparse(given):
            rows = read_row_gradient(what, given, params, self.backend, stream)
            group.refuse_overlap(what, rows.values, None)
            return rows
        g: Gradient = self.backend.flat_view(what, given, like=params, stream=stream)
        group.refuse_overlap(what, g, k)
        return g

    def read_rows_of(
        self, rows: object, grads: object, name: str | None, stream: object
    ) -> list[list[Gradient]]:
        """Return the gradients of all groups if only some rows of one parameter have one."""
        stepped, k, params = self.find(name)
        given = rows if grads is None else (rows, grads)
        if not is_sparse(given):
            raise TypeError(f"grads is None with rows {rows!r}, expected a CSR matrix for rows")
        g = read_row_gradient("grads", given, params, self.backend, stream)
        return [
            [g if counted is stepped and j == k else None for j in range(len(names))]
            for counted, names in zip(self.groups, self.members, strict=True)
        ]

    def divided(self, g: Gradient, scale: float) -> Gradient:
        """Return a gradient divided by the loss scale."""
        if g is None:
            return None
        if isinstance(g, RowGradient):
            values: Array = self.divided(g.values, scale)
            return g._replace(values=values)
        numbers = self.backend.to_host(g)
        quotient: Gradient = self.backend.from_host(
            numbers.astype(compute_dtype(numbers.dtype)) / scale, g
        )
        return quotient
