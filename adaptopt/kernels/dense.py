"""The dense step: every coordinate, once, in one pass over the arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import get_num_threads, prange, types

from .access import gather, scatter
from .build import compile_kernel, inlinable, number_type, tuple_of
from .threads import THREADED_FROM, alone

__all__ = ["DenseStep", "rate_kernel"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# The kernels are compiled for explicit signatures, which say more than annotations could.

uintp = types.uintp


def make_step(decay, rule, prox):
    """Compose the scalar functions into a step over the coordinates lo <= i < hi."""

    # Unsigned bounds: with signed ones the test for negative indices prevents SIMD (20x slower).
    def step(x, g, slots, walls, rates, decay_coefs, coefs, prox_coefs, lo, hi):
        for i in range(uintp(lo), uintp(hi)):
            x_i, g_i = decay(x[i], g[i], *decay_coefs)
            half, rate, new = rule(x_i, g_i, *gather(slots, i), *coefs)
            x[i] = prox(half, rate, *gather(walls, i), *prox_coefs)
            scatter(slots, i, new)
            scatter(rates, i, (rate,))

    return step


def make_threaded_step(decay, rule, prox):
    """Split the coordinates evenly over the threads; what each computes is the same."""
    step = inlinable(make_step(decay, rule, prox))

    def threaded_step(x, g, slots, walls, rates, decay_coefs, coefs, prox_coefs, n, chunks):
        for c in prange(chunks):
            lo, hi = c * n // chunks, (c + 1) * n // chunks
            step(x, g, slots, walls, rates, decay_coefs, coefs, prox_coefs, lo, hi)

    return threaded_step


class DenseStep:
    """One method's step on flat arrays of one dtype: serial for short ones, threaded for long.

    The result is the same to the last bit either way: each coordinate is computed alone, with
    correctly rounded operations, wherever it lies.

    Parameters
    ----------
    decay, rule, prox : callable
        Scalar functions, in the order in which they are applied.
    arrays : tuple of int
        How many slots, arrays of the prox and rate arrays (0 or 1) there are.
    coefs : tuple of int
        How many coefficients of decay, rule and prox there are.
    dtype : dtype
        float32 or float64, of the arrays and of the arithmetic.
    """

    def __init__(
        self,
        decay: Callable[..., Any],
        rule: Callable[..., Any],
        prox: Callable[..., Any],
        arrays: tuple[int, int, int],
        coefs: tuple[int, int, int],
        dtype: np.dtype[Any],
    ) -> None:
        number = number_type(dtype)
        array = number[::1]
        self.layout = (arrays, coefs)
        self._parts = (decay, rule, prox)
        self._arguments = (
            array,
            array.copy(readonly=True),
            *[tuple_of(array, count) for count in arrays],
            *[tuple_of(number, count) for count in coefs],
        )
        self.serial = compile_kernel(
            make_step, self._parts, types.void(*self._arguments, types.uintp, types.uintp)
        )
        self._threaded: Any = None

    @property
    def threaded(self) -> Any:
        """The threaded kernel, compiled when it is first wanted."""
        if self._threaded is None:
            self._threaded = compile_kernel(
                make_threaded_step,
                self._parts,
                types.void(*self._arguments, types.intp, types.intp),
                parallel=True,
            )
        return self._threaded

    def __call__(self, x: np.ndarray, *arguments: Any) -> None:
        """Update ``x`` and the slots in place."""
        n = x.size
        if n >= THREADED_FROM and (threads := get_num_threads()) > 1:
            with alone() as free:
                if free:
                    self.threaded(x, *arguments, n, threads)
                    return
        self.serial(x, *arguments, 0, n)


def make_rates(rate):
    """Compose a rate function into a pass that writes the rates of all coordinates."""

    def rates(out, slots, coefs):
        for i in range(uintp(out.size)):
            out[i] = rate(*gather(slots, i), *coefs)

    return rates


def rate_kernel(
    rate: Callable[..., Any], slots: int, coefs: int, dtype: np.dtype[Any]
) -> Callable[..., None]:
    """Return ``kernel(out, slots, coefs)``, which writes every coordinate's effective rate."""
    number = number_type(dtype)
    array = number[::1]
    signature = types.void(array, tuple_of(array, slots), tuple_of(number, coefs))
    kernel: Callable[..., None] = compile_kernel(make_rates, (rate,), signature)
    return kernel
