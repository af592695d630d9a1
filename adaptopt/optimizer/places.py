"""A buffer for the gradients of a group, so that many small ones take one kernel call."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import attrgetter, is_
from typing import NamedTuple

import numpy as np

from ..arrays import Array, storage
from ..kernels.reductions import squares_of_parts
from ..placement import Backend
from .memory import Memory

# Checks for thousands of small gradients in each step, at about 50 ns each.
_SHAPE, _DTYPE, _BASE = attrgetter("shape"), attrgetter("dtype"), attrgetter("base")
_LIES_WELL = attrgetter("flags.c_contiguous", "flags.aligned")


class Stretch(NamedTuple):
    """Coordinates ``lo <= i < hi`` of a group, and their gradient."""

    lo: int
    hi: int
    g: Array


class Places:
    """A buffer for the gradients of a group's parameters, made when it is first used.

    Parameters
    ----------
    flat : Array
        The parameters.
    shapes : sequence of tuple of int
        Shapes of the parameters, in their order in ``flat``.
    backend : Backend
        The backend of the arrays.

    Attributes
    ----------
    spans : list of (int, int)
        Start and end of each parameter.
    shapes : list of tuple of int
        Shape of each parameter.
    flat, shaped : list of Array
        The part of the buffer for each gradient; empty before the buffer is made.
    """

    def __init__(self, flat: Array, shapes: Sequence[tuple[int, ...]], backend: Backend) -> None:
        ends = np.cumsum([0, *map(prod, shapes)])
        self.spans = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
        self.shapes, self._starts = list(shapes), ends
        self._parameters, self._dtype, self._backend = flat, flat.dtype, backend
        worth = backend.worth_a_call
        self._large = [k for k, (lo, hi) in enumerate(self.spans) if hi - lo >= worth]
        self._small = sorted(set(range(len(self.spans))) - set(self._large))
        self._buffer: Array = None
        self.flat: list[Array] = []
        self.shaped: list[Array] = []

    def some(self, flat: Array, first: int, end: int) -> Places:
        """Return the parts of the buffer for some of the parameters."""
        new = Places(flat, self.shapes[first:end], self._backend)
        if self._buffer is not None:
            lo, hi = (self.spans[first][0], self.spans[end - 1][1]) if end > first else (0, 0)
            new._buffer = self._buffer[lo:hi]
            new.flat, new.shaped = self.flat[first:end], self.shaped[first:end]
        return new

    def views(self, array: Array) -> list[Array]:
        """Return views of a flat array of the group: one per parameter, in its shape."""
        return [
            array[lo:hi].reshape(shape)
            for (lo, hi), shape in zip(self.spans, self.shapes, strict=True)
        ]

    def remember(self, memory: Memory, mark: object) -> None:
        """Record the memory of the buffer, now or when it is made."""
        self._memory, self._mark = memory, mark
        if self._buffer is not None:
            memory.add("opt.grads", (self._buffer,), mark)

    def make(self) -> list[Array]:
        """Return the parts in the shapes of the parameters. The first call makes the buffer."""
        if self._buffer is None:
            buffer = self._backend.empty(int(self._starts[-1]), self._dtype, self._parameters)
            self._backend.fill(storage(buffer), 0)
            self._backend.wait(buffer)
            self._memory.add("opt.grads", (buffer,), self._mark)
            self.shaped = self.views(buffer)
            self.flat = [buffer[lo:hi] for lo, hi in self.spans]
            self._buffer = buffer  # last, so that after an interrupt the next call makes it
        return self.shaped

    def read_all(self, given: Sequence[object]) -> list[Array] | None:
        """Return the gradients of all parameters, flat, if a short check finds nothing wrong.

        None means that each needs a full check. The short check takes a tenth of its time, which
        matters for thousands of small parameters.
        """
        if self.shaped and all(map(is_, given, self.shaped)):
            return self.flat
        if not (
            set(map(type, given)) == {np.ndarray}
            and list(map(_SHAPE, given)) == self.shapes
            and set(map(_DTYPE, given)) == {self._dtype}
            and set(map(_LIES_WELL, given)) == {(True, True)}
        ):
            return None
        owners = {id(base): base for base in map(_BASE, given) if base is not None}
        if not all(map(self._memory.is_apart, owners.values())):
            return None
        gradients: Sequence[Array] = given
        return [g if g.ndim == 1 else g.reshape(-1) for g in gradients]

    def stretches(self, gradients: Sequence[Array], first: int, end: int) -> list[Stretch]:
        """Cut the parameters ``first <= k < end`` into few stretches, each with one gradient.

        Gradients in the buffer form one stretch if they use one stream. Others stay separate.
        """
        if end - first == 1:
            return [Stretch(*self.spans[first], gradients[first])]
        if gradients is self.flat and not self._backend.is_asynchronous:
            return self._stretch(gradients, first, end)
        gradients = self.together(gradients, first, end)
        backend, found = self._backend, list[Stretch]()
        for k in self._elsewhere(gradients, first, end):
            g = gradients[k]
            together = not g.size or backend.is_same(g, self.flat[k])
            if together and backend.on_one_stream(gradients[first], g):
                continue
            found += self._stretch(gradients, first, k)
            first = k
            if not together:
                found.append(Stretch(*self.spans[k], g))
                first = k + 1
        return found + self._stretch(gradients, first, end)

    def _elsewhere(self, gradients: Sequence[Array], first: int, end: int) -> list[int]:
        """Return the parameters whose gradient does not lie in the buffer."""
        given, places = gradients[first:end], self.flat[first:end]
        if all(map(is_, given, places)):  # takes a tenth of the time of the code below
            return []
        pairs = zip(given, places, strict=True)
        return [k for k, (g, place) in enumerate(pairs, first) if g is not place]

    def _stretch(self, gradients: Sequence[Array], first: int, end: int) -> list[Stretch]:
        """Return the stretch of some parameters and their part of the buffer."""
        if first >= end:
            return []
        lo, hi = self.spans[first][0], self.spans[end - 1][1]
        self.make()
        stream = self._backend.stream_of(gradients[first])
        g = self._backend.bound(self._buffer[lo:hi], stream)
        return [Stretch(lo, hi, g)] if lo < hi else []

    def together(
        self, gradients: Sequence[Array], first: int = 0, end: int | None = None
    ) -> Sequence[Array]:
        """Copy small gradients to the buffer, and return all gradients at their new positions."""
        end = len(gradients) if end is None else end
        if end - first < 2:
            return gradients
        self.make()
        gathered = list(self.flat)
        for k in self._apart(gradients, first, end):
            self._collect(gradients, first, k)
            gathered[k] = gradients[k]
            first = k + 1
        self._collect(gradients, first, end)
        return gathered

    def _collect(self, gradients: Sequence[Array], first: int, end: int) -> None:
        """Copy the gradients of some parameters to the buffer."""
        if first < end and not all(map(is_, gradients[first:end], self.flat[first:end])):
            lo, hi = self.spans[first][0], self.spans[end - 1][1]
            np.concatenate(gradients[first:end], out=self._buffer[lo:hi])

    def _apart(self, gradients: Sequence[Array], first: int, end: int) -> Sequence[int]:
        """Return the parameters whose gradient is too large to copy, or has another format."""
        given = gradients[first:end]
        if set(map(_DTYPE, given)) == {self._dtype}:
            if end - first == len(self.spans):
                return self._large
            return [k for k in self._large if first <= k < end]
        worth = self._backend.worth_a_call
        return [k for k, g in enumerate(given, first) if g.size >= worth or g.dtype != self._dtype]

    def squares(self, gradients: Sequence[Array], factor: float) -> list[float]:
        """Return the sum of the squares of ``factor`` times the elements of each gradient.

        Gradients in the buffer, to which `together` copies small ones, are summed in one call. This
        matters for thousands of them.
        """
        places, small, sum_of_squares = self.flat, self._small, self._backend.sum_of_squares
        if not (
            small
            and len(gradients) == len(places)
            and all(gradients[k] is places[k] for k in small)
        ):
            return [sum_of_squares(g, factor) for g in gradients]
        sums = np.empty(len(gradients))
        squares_of_parts(self._dtype.name)(storage(self._buffer), self._starts, factor, sums)
        found: list[float] = sums.tolist()
        for k in self._large:
            found[k] = sum_of_squares(gradients[k], factor)
        return found
