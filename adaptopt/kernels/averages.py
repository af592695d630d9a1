"""The running mean of a sequence of arrays, in float64."""

from __future__ import annotations

from typing import Any

from numba import types

from .build import array_type, compile_kernel

__all__ = ["average_kernel", "moved", "weight_of"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def weight_of(t, eta):
    """Return the weight of the t-th of them in the mean of t, where weights grow like t**eta."""
    return (eta + 1.0) / (t + eta)


def moved(mean, x, weight):
    """Move a mean towards one more number."""
    return (x - mean) * weight + mean


def make_average(moved):
    """Compose the mean of one array more, beside the old one."""

    def average(new, mean, x, weight):
        for i in range(uintp(new.size)):
            new[i] = moved(mean[i], x[i], weight)

    return average


def average_kernel(form: str) -> Any:
    """Return ``kernel(new, mean, x, weight)`` for arrays ``x`` of a format."""
    means = types.float64[::1]
    fixed = means.copy(readonly=True)
    signature = types.void(means, fixed, array_type(form).copy(readonly=True), types.float64)
    return compile_kernel(make_average, (moved,), signature)
