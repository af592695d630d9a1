"""The limit of the machine: plain kernels that read and write what a step must, with few sums."""

import numba
import numpy as np
from numba import njit, prange, types

uintp = types.uintp
_options = {"error_model": "numpy", "nogil": True}


def _five(x, g, s):
    # Differences, so that no number grows when the gradients alternate in sign.
    for i in prange(x.size):
        s[i] = g[i] - s[i]
        x[i] = s[i] - x[i]


def _seven(x, g, s, r):
    for i in prange(x.size):
        s[i] = g[i] - s[i]
        r[i] = g[i] - r[i]
        x[i] = s[i] + r[i] - x[i]


_BODIES = {1: _five, 2: _seven}


def plain_kernel(slots, threaded):
    """Return the float32 kernel for a number of slots."""
    signature = types.void(*[types.float32[::1]] * (2 + slots))
    return njit(signature, parallel=threaded, **_options)(_BODIES[slots])


class PlainStep:
    """Steps of a plain kernel, which reads x, g and the slots, and writes x and the slots."""

    def __init__(self, slots, x, gradients, threaded):
        self.kernel = plain_kernel(slots, threaded)
        self.gradients = gradients
        self.arrays = [x.copy(), *(np.zeros_like(x) for _ in range(slots))]

    def flip(self):
        self.gradients = self.gradients[::-1]

    def step(self, calls):
        x, *slots = self.arrays
        g = self.gradients[0]
        for _ in range(calls):
            self.kernel(x, g, *slots)


def plain_steps(slots, x, gradients):
    """Return plain steps by name: serial, and on all threads."""
    made = {"plain kernel, serial": PlainStep(slots, x, gradients, False)}
    if numba.get_num_threads() > 1:
        made["plain kernel, threads"] = PlainStep(slots, x, gradients, True)
    return made


@njit(**_options)
def add_rows(x, s, g, rows, order, starts, width):
    """Add gradients to the rows of two tables. The rows are sorted."""
    # Unsigned indices, as in our kernels: a test for negative ones prevents SIMD.
    for u in range(uintp(rows.size)):
        row = uintp(uintp(rows[u]) * uintp(width))
        for q in range(uintp(starts[u]), uintp(starts[u + uintp(1)])):
            place = uintp(uintp(order[q]) * uintp(width))
            for j in range(uintp(width)):
                x[row + j] += g[place + j]
                s[row + j] += g[place + j]


@njit(**_options)
def gather_epoch(order, indptr, columns, values, x, s, small):
    """For each row, compute a dot product, then change two numbers per nonzero."""
    for i in order:
        total = small
        for k in range(uintp(indptr[i]), uintp(indptr[i + 1])):
            total += values[k] * x[uintp(columns[k])]
        total *= small
        for k in range(uintp(indptr[i]), uintp(indptr[i + 1])):
            j = uintp(columns[k])
            change = values[k] * total
            s[j] += change
            x[j] -= change
