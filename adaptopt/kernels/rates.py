"""The learning rates of the next steps, for kernels that take many steps in one call."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from numba import int64, typeof, types
from numba.core.errors import NumbaError
from numba.core.registry import CPUDispatcher

from .. import schedules
from ..methods.base import Method
from ..scalar import ScalarFunction
from .compile import (
    Kernel,
    NumbaType,
    compile_kernel,
    inlinable,
    memoised,
)
from .pointers import Pointer, address

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

# Rates per table. Those that Python evaluates take a few hundredths of a second at most, so that
# Ctrl-C and time limits are noticed.
COMPILED, EVALUATED = 65_536, 256


@memoised
def then(inner: ScalarFunction, formula: ScalarFunction) -> ScalarFunction:
    """Compose a schedule's formula with that of its first parameter, which is one itself."""
    inner, formula = inlinable(inner), inlinable(formula)

    def at(t, parameters):
        return formula(t, inner(t, parameters[0]), *parameters[1:])

    return at


def given(t, parameter):
    """Return a parameter that does not change."""
    return parameter


def called(t, function):
    """Return the value of a user's function."""
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
def formula_kernel(at: ScalarFunction, kind: NumbaType) -> Kernel:
    """Return ``fill(parameters, first, table)`` for a composed formula; ``kind`` is their type."""
    # As a float64, t is divided and raised to powers as Python does it, by the C library.
    signature = types.int64(kind, types.float64, types.float64[::1])
    return compile_kernel(make_fill, (at,), signature, counted=False)


@memoised
def function_kernel(signature: NumbaType) -> Kernel:
    """Return ``fill(address, first, table)`` for compiled functions of that signature."""
    fill = types.int64(Pointer(signature), types.int64, types.float64[::1])
    return compile_kernel(make_fill, (called,), fill, counted=False)


class RateTable:
    """A method's learning rates; the same to the last bit as its ``lr_at``.

    Kernels evaluate the schedules of `adaptopt.schedules` and njit functions, Python all others.

    Parameters
    ----------
    method : Method
        With a learning rate ``lr``.

    Attributes
    ----------
    most : int or None
        Number of steps for which it can be filled at once; None if all have the same rate.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._kernel: Callable[[int, np.ndarray], int] | None = None
        lr = method.lr  # type: ignore[attr-defined]
        self.most: int | None = EVALUATED if callable(lr) else None
        if isinstance(lr, schedules.Schedule):
            composed = _composed(lr)
            if composed is not None:
                at, parameters = composed
                kernel = formula_kernel(at, typeof(parameters))
                self._kernel = lambda first, table: kernel(parameters, float(first), table)
                self.most = COMPILED
        elif isinstance(lr, CPUDispatcher):
            signature = _compiled(lr)
            if signature is not None:
                fill, function = function_kernel(signature), address(lr, signature)
                self._kernel = lambda first, table: fill(function, first, table)
                self.most = COMPILED

    def fill(self, first: int, count: int) -> np.ndarray:
        """Return the rates of at most ``count`` steps from ``first`` on, or one rate for all.

        If a step's rate is not finite, is negative, or cannot be computed, the table ends before
        it. ``lr_at`` raises the error when the step is taken.
        """
        if self.most is None:
            return np.array([self._method.lr], np.float64)  # type: ignore[attr-defined]
        table = np.empty(min(count, self.most))
        return table[: (self._kernel or self._evaluate)(first, table)]

    def _evaluate(self, first: int, table: np.ndarray) -> int:
        for k in range(table.size):
            try:
                table[k] = self._method.lr_at(first + k)
            except Exception:
                return k
        return int(table.size)


def _composed(schedule: schedules.Schedule) -> tuple[ScalarFunction, tuple[object, ...]] | None:
    """Return a schedule as a function of ``t`` and parameters, or None if one is a user's."""
    if schedule.formula.__module__ != schedules.__name__:
        return None
    first, *rest = schedule.parameters
    if any(map(callable, rest)):
        return None
    inner, parameter = given, _as_numbers(first)
    if isinstance(first, schedules.Schedule):
        composed = _composed(first)
        if composed is None:
            return None
        inner, parameter = composed
    elif callable(first):
        return None
    return then(inner, schedule.formula), (parameter, *map(_as_numbers, rest))


def _as_numbers(parameter: Any) -> object:
    """Return a parameter as float64: a number, or an array of those of a tuple."""
    if isinstance(parameter, tuple):
        return np.array(parameter, np.float64)
    return parameter if callable(parameter) else float(parameter)


def _compiled(function: CPUDispatcher) -> NumbaType:
    """Return the signature of an njit function of t as Python calls it, or None."""
    try:
        function.compile((int64,))
        overload = function.overloads[(int64,)]
    except (NumbaError, KeyError, RuntimeError):
        return None
    return overload.signature  # type: ignore[attr-defined]
