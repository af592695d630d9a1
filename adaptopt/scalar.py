"""Scalar functions that several formulas share: plain functions without bare literals."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeAlias

from numba.extending import overload

# A plain function of numbers from which kernels are built: a rule, a map, a loss, a decay.
ScalarFunction: TypeAlias = Callable[..., Any]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Scalar functions run on Python floats, in float32 kernels and in float64 kernels: they have no one
# type. A bare literal in them would make Numba compute a float32 kernel in float64.


def over(lr, root):
    """Return ``lr / root``, and 0 if ``lr`` is 0: 0 over an accumulator of 0 would be NaN."""
    return lr / root if lr else lr


def times(rate, g):
    """Return ``rate * g``, and 0 if ``g`` is 0: an infinite rate times 0 would be NaN."""
    return rate * g if g else g


class _Root:
    """The square root, in the type of the number also in Python.

    There ``math.sqrt`` of a float32 is a float64, so that a quotient of two roots would be rounded
    once where compiled code rounds thrice. An object, as kernels compile functions as they are.
    """

    def __call__(self, v):
        return type(v)(sqrt(v))


root = _Root()
overload(root, target="generic")(lambda v: lambda v: sqrt(v))


# Steps without a gradient that closed forms take at most; `geometric` takes fewer than 2**20.
LONGEST = 2**19


def _double(n, power, total, block, block_sum):
    """Process the lowest bit of ``n``."""
    odd = n & 1
    longer, further = power * block, total + power * block_sum
    power, total = longer if odd else power, further if odd else total
    return n >> 1, power, total, block * block, block_sum + block * block_sum


def _double_five_times(n, power, total, block, block_sum):
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double(n, power, total, block, block_sum)
    return _double(n, power, total, block, block_sum)


def geometric(f, k):
    """Return ``f**k`` and ``f + f**2 + ... + f**k`` for 1 <= k < 2**20, without exp or log.

    It subtracts nothing, so no digits cancel when ``f`` is near 1. It has no branches: it processes
    all bits of ``k``, so that SIMD can compute many numbers at once.
    """
    n, power, total, block, block_sum = _double_five_times(int(k), k / k, f - f, f, f)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    n, power, total, block, block_sum = _double_five_times(n, power, total, block, block_sum)
    return power, total


def clip(v, lo, hi):
    """Return the number in [lo, hi] that is nearest to ``v``. A NaN stays NaN."""
    v = lo if v < lo else v
    return hi if v > hi else v


def soft(v, threshold):
    """Move ``v`` towards zero by ``threshold``, and stop at zero."""
    return v - clip(v, -threshold, threshold)
