"""The memory of an optimizer's arrays, which gradients must not share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..arrays import Array
from ..placement import Backend


def owner_of(array: object) -> np.ndarray | None:
    """Return the NumPy array that owns an array's memory, or None if another object does."""
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array if isinstance(array, np.ndarray) else None


class Memory:
    """The memory of an optimizer's arrays.

    Attributes
    ----------
    owners : set of int
        The ids of the NumPy arrays that own the memory.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.owners: set[int] = set()
        # First and last address, name of the array, mark of its group, and bytes per element.
        self._spans: list[tuple[int, int, str, object, int]] = []

    def add(self, what: str, arrays: Iterable[Array], mark: object) -> None:
        """Record the memory of arrays, which error messages call ``what``; a group has one mark."""
        for array in arrays:
            self.owners.add(id(owner_of(array)))
            if array.size:
                start = self._backend.address(array)
                width = array.dtype.itemsize
                self._spans.append((start, start + array.nbytes, what, mark, width))

    def is_apart(self, g: np.ndarray) -> bool:
        """Return whether an array's owner shows that it shares no memory with the optimizer."""
        base = g.base
        owner = g if base is None else base
        return type(owner) is np.ndarray and owner.base is None and id(owner) not in self.owners

    def refuse_overlap(self, name: str, g: Array, mark: object, place: int | None) -> None:
        """Raise if a gradient shares memory with arrays that a step writes, or other gradients.

        The gradient of a parameter may lie in its own buffer, at the element ``place`` of the
        group with this mark.
        """
        first = self._backend.address(g) if g.size else 0
        last = first + g.nbytes
        for start, end, what, other, width in self._spans:
            if last <= start or end <= first:
                continue
            own = place is not None and other is mark and g.dtype.itemsize == width
            if not (own and first == start + (place or 0) * width):
                raise ValueError(
                    f"{name} overlaps {what} from another start, expected an array of its own: "
                    "entries would be read after they were updated"
                )
