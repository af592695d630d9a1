"""Tables of learning rates: those of a schedule for many steps, filled in one call."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numba import types

from .compile import compile_kernel, inlinable, memoised
from .pointers import Pointer

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@memoised
def then(inner: Callable[..., Any], formula: Callable[..., Any]) -> Callable[..., Any]:
    """Compose a schedule's formula with that of its first parameter, which is one itself."""
    inner, formula = inlinable(inner), inlinable(formula)

    def at(t, parameters):
        return formula(t, inner(t, parameters[0]), *parameters[1:])

    return at


def given(t, parameter):
    """Return a parameter that does not change."""
    return parameter


def called(t, function):
    """Return what a function of the user gives."""
    return function(t)


def make_fill(at):
    """Fill the table from step ``first`` on; return how many rates were finite and at least 0."""

    def fill(parameters, first, table):
        for k in range(table.size):
            lr = np.float64(at(first + k, parameters))
            if not (isfinite(lr) and lr >= 0.0):
                return k
            table[k] = lr
        return table.size

    return fill


@memoised
def formula_kernel(at: Callable[..., Any], kind: Any) -> Any:
    """Return ``fill(parameters, first, table)`` for a composed formula; ``kind`` is their type."""
    # As a float64, t is divided and raised to powers as Python does it, by the C library.
    signature = types.int64(kind, types.float64, types.float64[::1])
    return compile_kernel(make_fill, (at,), signature, counted=False)


@memoised
def function_kernel(signature: Any) -> Any:
    """Return ``fill(address, first, table)`` for compiled functions of that signature."""
    fill = types.int64(Pointer(signature), types.int64, types.float64[::1])
    return compile_kernel(make_fill, (called,), fill, counted=False)
