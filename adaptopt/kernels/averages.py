"""The running mean of a sequence of arrays, in float64."""

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


def weight_of(t, eta):
    """Return the weight of the t-th array in the mean of t, for weights that grow like t**eta."""
    return (eta + 1.0) / (t + eta)


def moved(mean, x, weight):
    """Move a mean towards one more number."""
    return (x - mean) * weight + mean


def kept(a, b, eta):
    """Return the weight that the mean of the first a numbers has in the mean of b numbers."""
    product = a / b
    for i in range(1, int(eta) + 1):
        product *= (a + i) / (b + i)
    return product


def fold(mean, counts, j, x, count, eta):
    """Update the mean of a coordinate that has stayed at ``x``, up to ``count`` numbers."""
    if count > counts[j]:
        mean[j] = x + (mean[j] - x) * kept(np.float64(counts[j]), np.float64(count), eta)
        counts[j] = count


def make_fold_all():
    """Update the means of all coordinates."""
    fold_one = inlinable(fold)

    def fold_all(mean, counts, x, count, eta):
        for j in range(uintp(x.size)):
            fold_one(mean, counts, j, np.float64(x[j]), count, eta)

    return fold_all


@memoised
def fold_kernel(form: str) -> Kernel:
    """Return ``kernel(mean, counts, x, count, eta)`` for arrays ``x`` of a format."""
    fixed = array_type(form).copy(readonly=True)
    counts = types.int64[::1]
    signature = types.void(types.float64[::1], counts, fixed, types.int64, types.float64)
    return compile_kernel(make_fold_all, (), signature)


def make_average(moved):
    """Return a kernel that writes the mean with one more array, next to the old mean."""

    def average(new, mean, x, weight):
        for i in range(uintp(new.size)):
            new[i] = moved(mean[i], x[i], weight)

    return average


@memoised
def average_kernel(form: str) -> Kernel:
    """Return ``kernel(new, mean, x, weight)`` for arrays ``x`` of a format."""
    means = types.float64[::1]
    fixed = means.copy(readonly=True)
    signature = types.void(means, fixed, array_type(form).copy(readonly=True), types.float64)
    return compile_kernel(make_average, (moved,), signature)
