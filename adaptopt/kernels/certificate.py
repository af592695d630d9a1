"""The sums of a certificate: over rounds, of points, gradients and products."""

from __future__ import annotations

import numpy as np
from numba import types

from .compile import (
    Kernel,
    array_type,
    compile_kernel,
    inlinable,
    memoised,
)

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp

# Partial sums, so that additions take SIMD in an order that is the same everywhere.
LANES = 16


def make_remember():
    """Add a point and its gradient to the sums. Return the terms of the scalar sums.

    These are the sums over coordinates of ``g * (x - origin)``, ``abs(x)`` and ``x * x``.
    """

    def remember(x, g, origin, moved, gradient_sum, squared_gradients, lanes):
        n = uintp(x.size)
        for lane in range(uintp(3 * LANES)):
            lanes[lane] = 0.0
        for start in range(uintp((n + uintp(LANES - 1)) // uintp(LANES))):
            first = uintp(start * uintp(LANES))
            for lane in range(uintp(min(uintp(LANES), n - first))):
                i = first + lane
                x_i, g_i = np.float64(x[i]), np.float64(g[i])
                step = x_i - origin[i]
                moved[i] += step
                gradient_sum[i] += g_i
                squared_gradients[i] += g_i * g_i
                lanes[lane] += g_i * step
                lanes[uintp(LANES) + lane] += abs(x_i)
                lanes[uintp(2 * LANES) + lane] += x_i * x_i
        linear, absolute, squares = 0.0, 0.0, 0.0
        for lane in range(uintp(LANES)):
            linear += lanes[lane]
            absolute += lanes[uintp(LANES) + lane]
            squares += lanes[uintp(2 * LANES) + lane]
        return linear, absolute, squares

    return remember


def make_count():
    """Compose what is done with a round: add it to a memory of arrays.

    These are the arguments of `make_remember` after the gradient, and the sums of what that
    returns, of the losses, and the number of rounds.
    """
    remember = inlinable(make_remember())

    def count(x, g, f, memory):
        added = remember(x, g, memory[0], memory[1], memory[2], memory[3], memory[4])
        totals = memory[5]
        totals[0] += added[0]
        totals[1] += added[1]
        totals[2] += added[2]
        totals[3] += f
        totals[4] += 1.0

    return count


def count_nothing(x, g, f, memory):
    """Record nothing."""


@memoised
def count_kernel(form: str) -> Kernel:
    """Return the kernel for points and gradients of one type."""
    given, wide = array_type(form).copy(readonly=True), types.float64[::1]
    signature = types.void(given, given, types.float64, types.UniTuple(wide, 6))
    return compile_kernel(make_count, (), signature)
