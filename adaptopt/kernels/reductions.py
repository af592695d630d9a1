"""Reductions over flat arrays that the stopping tests need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types

from .access import gather
from .build import compile_kernel, number_type, tuple_of

__all__ = ["norm_kernel"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

uintp = types.uintp


def make_norm(residual):
    """Compose a residual into its largest absolute value; NaN where a gradient is not finite."""

    def norm(x, g, walls, coefs):
        largest = g.dtype.type(0)
        strange = False
        for i in range(uintp(x.size)):
            strange |= g[i] - g[i] != g[i] - g[i]
            distance = abs(residual(x[i], g[i], *gather(walls, i), *coefs))
            largest = distance if distance > largest else largest
        return g.dtype.type(np.nan) if strange else largest

    return norm


def norm_kernel(
    residual: Callable[..., Any], walls: int, coefs: int, dtype: np.dtype[Any]
) -> Callable[..., float]:
    """Return ``kernel(x, g, walls, coefs)``, the largest distance from stationary of a coordinate.

    It is NaN where an entry of ``g`` is infinite or NaN.
    """
    number = number_type(dtype)
    array = number[::1]
    signature = number(
        array, array.copy(readonly=True), tuple_of(array, walls), tuple_of(number, coefs)
    )
    kernel: Callable[..., float] = compile_kernel(make_norm, (residual,), signature)
    return kernel
