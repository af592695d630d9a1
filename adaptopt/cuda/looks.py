"""Measurements of a loop on a device: numbers that stay there until all are read back at once."""

from __future__ import annotations

import math

import numpy as np
from numba import types

from ..arrays import Array
from ..kernels.compile import NumbaType, array_type, memoised, tuple_of
from ..kernels.reductions import BLOCK, LANES, to_bits
from ..kernels.step import READ, Layout
from ..kernels.tuples import gather
from ..scalar import ScalarFunction
from .arity import taking
from .launch import DeviceKernel, cuda, device_of, launch_size
from .reductions import NormKernel

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Where in an array of int64 a figure lies. Floats lie there in their bits: the largest distance
# from stationary, gradient entry and move of a coordinate in those of the arithmetic (a move has a
# place behind it that is written too), values and sums of losses in those of float64. What stands
# before NONFINITE begins anew after each look.
DISTANCE, SLOPE, MOVED, VALUE, PREVIOUS, NONFINITE, LOSSES = 0, 1, 2, 4, 5, 6, 7
FIGURES = 9
# The number of the first nonfinite step, if there was none.
NEVER = 2**62


def given(value):
    """Return a number that is passed by value."""
    return value


@memoised
def first_of(read):
    """Return a function that reads an array of one number."""

    def first(values):
        return read(values[0])

    return first


def value_of(form: str | None, number: NumbaType) -> tuple[ScalarFunction, NumbaType]:
    """Return a reader for an objective's value, in an array or as a number, and its type."""
    if form is None:
        return given, number
    return first_of(READ[form]), array_type(form)


def make_watch(read_value, read_g):
    """Record the first step whose value or gradient is not finite."""

    def device_watch(value, g, t, figures):
        found = False
        for i in range(uintp(cuda.grid(1)), uintp(g.size), uintp(cuda.gridsize(1))):
            found = found or not math.isfinite(read_g(g[i]))
        if cuda.grid(1) == 0:
            found = found or not math.isfinite(read_value(value))
        if found:
            cuda.atomic.min(figures, NONFINITE, t)

    return device_watch


@memoised
def watch_kernel(form: str | None, gradient: str) -> DeviceKernel:
    """Return ``kernel(value, g, t, figures)`` for the format of the value and of the gradient."""
    number = types.float64 if gradient == "float64" else types.float32
    read, kind = value_of(form, number)
    kinds = (kind, array_type(gradient), types.int64, types.int64[::1])
    return DeviceKernel(make_watch, (read, READ[gradient]), kinds)


def watch(form: str | None, value: float | Array, g: Array, t: int, figures: Array) -> None:
    """Record ``t`` if a value or gradient is not finite, on the stream of ``g``."""
    if form is None and math.isfinite(value):
        value = 0.0  # whatever it is: that of the gradient may not hold it
    with device_of(g):
        size = launch_size(max(g.size, 1))
        watch_kernel(form, g.dtype.name).launch(size, g.stream, value, g, t, figures)


def make_value(read_value):
    """Record a value plus its penalty, whose parts are added in order."""

    def device_value(value, costs, figures, place):
        total = np.float64(0.0)
        for k in range(uintp(costs.size)):
            total += costs[k]
        figures[place] = to_bits(np.float64(read_value(value)) + total)

    return device_value


@memoised
def value_kernel(form: str | None) -> DeviceKernel:
    """Return ``kernel(value, costs, figures, place)``, for one thread."""
    read, kind = value_of(form, types.float64)
    kinds = (kind, types.float64[::1], types.int64[::1], types.int64)
    return DeviceKernel(make_value, (read,), kinds)


def make_device_costs(cost, read_x):
    """Sum the costs of all coordinates in float64: a block of threads per block of coordinates.

    The blocks and lanes are those of the sums of squares: the same bits on every device.
    """

    def device_costs(x, prox_arrays, coefs, sums):
        lanes = cuda.shared.array(LANES, types.float64)
        lane = uintp(cuda.threadIdx.x)
        start = uintp(uintp(cuda.blockIdx.x) * uintp(BLOCK))
        stop, size = uintp(start + uintp(BLOCK)), uintp(x.size)
        stop = stop if stop < size else size
        mine = np.float64(0.0)
        for i in range(uintp(start + lane), stop, uintp(LANES)):
            mine += cost(np.float64(read_x(x[i])), *gather(prox_arrays, i), *coefs)
        lanes[lane] = mine
        cuda.syncthreads()
        if lane == uintp(0):
            total = np.float64(0.0)
            for k in range(LANES):
                total += lanes[k]
            sums[cuda.blockIdx.x] = total

    return device_costs


@memoised
def costs_kernel(cost: ScalarFunction, layout: Layout) -> DeviceKernel:
    """Return ``kernel(x, prox_arrays, coefs, sums)``, for `costs_size` of ``x``."""
    kinds = (
        array_type(layout.x),
        tuple_of(layout.number[::1], layout.prox_arrays),
        tuple_of(types.float64, layout.coefs[3]),
        types.float64[::1],
    )
    cost = taking(cost, 1 + layout.prox_arrays + layout.coefs[3])
    return DeviceKernel(make_device_costs, (cost, READ[layout.x]), kinds)


def costs_size(n: int) -> tuple[int, int]:
    """Return the numbers of blocks and of threads that sum the costs of ``n`` coordinates."""
    return -(-n // BLOCK), LANES


def distance(x, g, before):
    """Return how far a coordinate has moved, as a residual for the kernel of the norm."""
    return x - before


@memoised
def move_kernel(form: str) -> NormKernel:
    """Return a kernel of the norm that finds the largest move from an earlier point."""
    return NormKernel(distance, Layout(x=form, gradient=form, prox_arrays=1))


def make_project(prox):
    """Apply a proximal map at rate zero, which projects onto the bounds if there are any."""

    def device_project(x, zero, prox_arrays, coefs):
        for i in range(uintp(cuda.grid(1)), uintp(x.size), uintp(cuda.gridsize(1))):
            x[i] = prox(x[i], zero, *gather(prox_arrays, i), *coefs)

    return device_project


@memoised
def project_kernel(prox: ScalarFunction, form: str, prox_arrays: int, coefs: int) -> DeviceKernel:
    """Return ``kernel(x, zero, prox_arrays, coefs)`` for float32 or float64."""
    array = array_type(form)
    kinds = (array, array.dtype, tuple_of(array, prox_arrays), tuple_of(array.dtype, coefs))
    return DeviceKernel(make_project, (taking(prox, 2 + prox_arrays + coefs),), kinds)


def project(prox: ScalarFunction, x: Array, prox_arrays: Array, coefs: tuple[float, ...]) -> None:
    """Project a flat point in place onto the bounds of a proximal map."""
    kernel = project_kernel(prox, x.dtype.name, len(prox_arrays), len(coefs))
    kernel.over(x.stream, x, 0.0, prox_arrays, coefs)
