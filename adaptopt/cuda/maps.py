"""Proximal maps that tie coordinates together, for CUDA: a block of threads finds each multiplier.

One number ties the coordinates of a group: the root of an increasing function of sums over them.
All arithmetic is float64. The sums have a fixed order, so the bits are the same in every run.
"""

from __future__ import annotations

import numpy as np
from numba import types

from ..arrays import Array, Stream
from ..kernels.compile import array_type, inlinable, memoised
from ..kernels.formats import unchanged
from ..kernels.step import READ, WRITE, Layout
from ..scalar import ScalarFunction
from .launch import DeviceKernel, cuda, device_of

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Threads per group of tied coordinates.
WIDTH = 128

# A step of the multiplier that is smaller, relative to the multiplier, is the last.
TOLERANCE = 1e-15

# Limits of rates, within which products and quotients are finite.
LEAST, MOST = 1e-250, 1e250


def make_look(read):
    """Record that an entry is not finite, under the number of the step."""

    def look(x, nonfinite, stamp):
        for i in range(uintp(cuda.grid(1)), uintp(x.size), uintp(cuda.gridsize(1))):
            if not abs(np.float64(read(x[i]))) < np.inf:
                nonfinite[0] = stamp  # all threads that write it write the same value

    return look


def make_map(alone, terms, advance, result, place, read, narrow, write, copied):
    """Compose the functions of a map: see `nonseparable.NonSeparable`."""

    def rate_of(rates, i):
        rate = np.float64(rates[i])
        rate = rate if rate > LEAST else LEAST
        return rate if rate < MOST else MOST

    rate_of = inlinable(rate_of, True)

    def tied(x, rates, copies, members, starts, counts, nonfinite, stamp, start, number, most):
        sums = cuda.shared.array((2, WIDTH), types.float64)
        if counts[0] == 0 or nonfinite[0] == stamp:
            return
        thread = cuda.threadIdx.x
        lo, hi = starts[cuda.blockIdx.x], starts[cuda.blockIdx.x + 1]
        theta, first, second = start, 0.0, 0.0
        for k in range(lo + thread, hi, WIDTH):
            i = place(members, k)
            bound = alone(np.float64(read(x[i])), rate_of(rates, i), number)
            theta = bound if bound > theta else theta
        sums[0, thread] = theta
        cuda.syncthreads()
        for k in range(WIDTH):
            theta = sums[0, k] if sums[0, k] > theta else theta
        cuda.syncthreads()
        for _ in range(most):
            mine, other = 0.0, 0.0
            for k in range(lo + thread, hi, WIDTH):
                i = place(members, k)
                a, b = terms(np.float64(read(x[i])), rate_of(rates, i), theta, number)
                mine += a
                other += b
            sums[0, thread] = mine
            sums[1, thread] = other
            cuda.syncthreads()
            first, second = 0.0, 0.0
            for k in range(WIDTH):
                first += sums[0, k]
                second += sums[1, k]
            cuda.syncthreads()
            new = advance(theta, first, second, number)
            if not new - theta > TOLERANCE * abs(new):
                break
            theta = new
        for k in range(lo + thread, hi, WIDTH):
            i = place(members, k)
            value = narrow(result(np.float64(read(x[i])), rate_of(rates, i), theta, first, number))
            x[i] = write(value, np.uint32(0))
            copied(copies, i, value)

    return tied


def to_float32(value):
    """Round to the format of the arithmetic."""
    return np.float32(value)


def listed(members, k):
    """Return a coordinate of a group."""
    return members[k]


def itself(members, k):
    """Return the index itself, if all coordinates form one group."""
    return k


def copy_nothing(copies, i, value):
    """Do nothing: there are no copies."""


def make_copied(write):
    """Return a function that also writes a number to the narrow copy."""

    def copied(copies, i, value):
        copies[0][i] = write(value, np.uint32(0))

    return copied


@memoised
def look_kernel(form: str) -> DeviceKernel:
    """Return ``kernel(x, nonfinite, stamp)`` for a format."""
    kinds = (array_type(form), types.int64[::1], types.int64)
    return DeviceKernel(make_look, (READ[form],), kinds)


@memoised
def map_kernel(
    functions: tuple[ScalarFunction, ...], place: ScalarFunction, layout: Layout
) -> DeviceKernel:
    """Return the kernel for a map's functions."""
    wide, whole, count = types.float64, types.int64[::1], types.int64
    form, copies = layout.x, layout.copies
    parts = (
        *(*functions, place, READ[form]),
        *(unchanged if form == "float64" else to_float32, WRITE[form][0]),
        make_copied(WRITE[copies[0]][0]) if copies else copy_nothing,
    )
    kinds = (
        *(array_type(form), layout.number[::1], types.Tuple([array_type(c) for c in copies])),
        *(whole, whole, whole, whole, count, wide, wide, count),
    )
    return DeviceKernel(make_map, parts, kinds)


class TyingMap:
    """A map that ties the coordinates of one parameter together.

    Parameters
    ----------
    functions : tuple of callable
        ``alone``, ``terms``, ``advance`` and ``result`` of the map.
    start, number : float
        The initial multiplier, and the last argument of the functions.
    members, starts : ndarray of int64, or None
        The coordinates by group, and where each group starts and ends; None if all coordinates form
        one group.
    most : int
        Largest number of steps of the multiplier.
    layout : Layout
        The layout of the step.
    near : device array
        The buffer of the parameter.
    """

    def __init__(
        self,
        functions: tuple[ScalarFunction, ...],
        start: float,
        number: float,
        members: np.ndarray | None,
        starts: np.ndarray,
        most: int,
        layout: Layout,
        near: Array,
    ) -> None:
        self._kernel = map_kernel(functions, listed if members is not None else itself, layout)
        self._look = look_kernel(layout.x)
        self._scalars = start, number, most
        self._blocks, self._stamp = starts.size - 1, 0
        with device_of(near):
            given = np.zeros(1, np.int64) if members is None else members
            self._members, self._starts = cuda.to_device(given), cuda.to_device(starts)
            self._always = cuda.to_device(np.ones(1, np.int64))
            self._nonfinite = cuda.to_device(np.zeros(1, np.int64))
            for kernel in (self._kernel, self._look):
                kernel.compiled  # noqa: B018  (compiles)

    def __call__(
        self, stream: Stream, x: Array, rates: Array, copies: Array, counts: Array = None
    ) -> None:
        """Map ``x`` in place, unless an entry is not finite or ``counts[0]`` is 0."""
        if not (x.size and self._blocks):
            return
        self._stamp += 1
        with device_of(x):
            self._look.over(stream, x, self._nonfinite, self._stamp)
            self._kernel.launch(
                *((self._blocks, WIDTH), stream, x, rates, copies, self._members, self._starts),
                *(self._always if counts is None else counts, self._nonfinite, self._stamp),
                *self._scalars,
            )
