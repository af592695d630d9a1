"""A plan: what the steps of one array are made of, for loops that take them in compiled calls."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import Array, DType, compute_dtype
from ..methods.base import Method
from ..prox.base import Proximal
from ..scalar import ScalarFunction
from .reductions import cost_kernel
from .step import Layout, rate_kernel


class Penalty(NamedTuple):
    """What the map and the method add to the objective, as kernels take it."""

    cost: ScalarFunction
    """``cost(x, *prox_arrays, *coefs)`` of one coordinate."""
    residual: ScalarFunction
    """How far a coordinate is from stationary, the penalty included."""
    layout: Layout
    coefs: tuple[float, ...]
    is_zero: bool


class Part(NamedTuple):
    """The arrays of some coordinates that lie side by side, as kernels take them."""

    x: Array
    slots: tuple[Array, ...]
    prox_arrays: tuple[Array, ...]
    stored_rates: tuple[Array, ...]
    copies: tuple[Array, ...]
    start: int
    """Where they start in the buffer of their group."""
    arrays: tuple[Array, ...]
    """Slots, arrays of the map, stored rates and copies, one after the other."""

    @staticmethod
    def of(
        x: Array,
        slots: tuple[Array, ...],
        prox_arrays: tuple[Array, ...],
        stored_rates: tuple[Array, ...],
        copies: tuple[Array, ...],
        start: int,
    ) -> Part:
        """Return the part of these arrays."""
        arrays = (*slots, *prox_arrays, *stored_rates, *copies)
        return Part(x, slots, prox_arrays, stored_rates, copies, start, arrays)

    def between(self, lo: int, hi: int) -> Part:
        """Return the part of the coordinates ``lo <= i < hi`` of these."""
        slots, prox_arrays, stored_rates, copies = (
            tuple(array[lo:hi] for array in arrays)
            for arrays in (self.slots, self.prox_arrays, self.stored_rates, self.copies)
        )
        start = self.start + lo
        return Part.of(self.x[lo:hi], slots, prox_arrays, stored_rates, copies, start)


class Plan(NamedTuple):
    """What the steps of one array are made of."""

    method: Method
    prox: Proximal
    shape: tuple[int, ...]
    functions: tuple[ScalarFunction, ...]
    """Those of transformation, decay, rule and map, as `DenseStep` takes them."""
    layout: Layout
    x: Array
    """The flat parameter, or its wide copy; 16-bit numbers lie in uint16."""
    slots: tuple[Array, ...]
    prox_arrays: tuple[Array, ...]
    stored_rates: tuple[Array, ...]
    """One array if every step stores its effective learning rates, else none."""
    copies: tuple[Array, ...]
    """The 16-bit parameter of which ``x`` is the wide copy, if it is one."""
    prox_coefs: tuple[float, ...]
    penalty: Penalty

    @property
    def number(self) -> DType:
        """The dtype of the arithmetic."""
        return compute_dtype(np.dtype(self.layout.x))

    @property
    def hyper(self) -> tuple[bool | float, ...]:
        """The hyperparameters after ``lr``, for a method whose coefficients are made of numbers."""
        numbers = self.method.numbers_after_lr
        assert numbers is not None
        return numbers

    @property
    def is_compilable(self) -> bool:
        """Whether kernels can take many steps in a call: see `why_not_compilable`."""
        return self.why_not_compilable is None

    @property
    def why_not_compilable(self) -> str | None:
        """Why kernels cannot take many steps in a call, or None if they can.

        They compute the coefficients, from numbers, and map each coordinate alone.
        """
        method, name = self.method, type(self.method).__name__
        if not self.prox.is_separable:
            return f"{type(self.prox).__name__} ties coordinates together"
        if method.numbers_after_lr is None:
            return f"{name} has coefficients that are not made of numbers"
        if method.rowwise:
            return f"{name} has one accumulator for all coordinates"
        return None

    def penalty_at_x(self) -> float:
        """Return what the map and the method add to the objective, for an array of the host."""
        prox = self.prox
        if prox.has_penalty and not prox.is_separable:
            own = self.method.penalty_at(self.x)
            return own + float(prox.penalty(self.x.reshape(self.shape)))
        if self.penalty.is_zero:
            return 0.0
        kernel = cost_kernel(self.penalty.cost, self.penalty.layout)
        return float(kernel(self.x, self.prox_arrays, self.penalty.coefs))

    def rates_after(
        self, t: int, slots: tuple[np.ndarray, ...], scalars: tuple[float, ...], count: int
    ) -> np.ndarray:
        """Return ``count`` rates of a step ``t`` that led to these slots; NaN if ``t`` is 0."""
        out = np.full(count, np.nan, self.number)
        if t:
            assert self.method.rate is not None
            coefs = self.method.coefficients_at(t, scalars)[1]
            rate_kernel(self.method.rate, self.layout)(out, slots, coefs)
        return out
