"""Tuples in kernels: a coordinate's numbers in several arrays, and the coefficients of a step.

Only `gather` and `scatter` depend on the number of arrays that hold a coordinate's state.

A uint16 array holds bfloat16 numbers. They are widened when read, and rounded stochastically when
written, because a running sum rounded to nearest would stop growing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from ..scalar import ScalarFunction
from .compile import NumbaType, inlinable
from .formats import another, from_bfloat16, to_bfloat16_stochastic

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# These bodies are compiled. Python runs them only if the compiler is switched off.

_another = inlinable(another)
_widened = inlinable(from_bfloat16)
_narrowed = inlinable(to_bfloat16_stochastic)


def gather(arrays: tuple[np.ndarray, ...], i: int) -> tuple[Any, ...]:
    """Return ``(arrays[0][i], arrays[1][i], ...)``."""
    return tuple(
        from_bfloat16(array[i]) if array.dtype == np.uint16 else array[i] for array in arrays
    )


def scatter(
    arrays: tuple[np.ndarray, ...], i: int, values: tuple[Any, ...], random: np.uint32
) -> None:
    """Write ``values[k]`` to ``arrays[k][i]``, for as many arrays as there are."""
    for array, value in zip(arrays, values, strict=False):
        if array.dtype == np.uint16 and not isinstance(value, np.uint16):
            array[i] = to_bfloat16_stochastic(value, random)
            random = another(random)
        else:
            array[i] = value


# target="generic": the same bodies serve the CPU and CUDA.
# The tuples are indexed, never unpacked: unpacking just before prange loses every write.


def _is_narrow(arrays: NumbaType) -> bool:
    return isinstance(arrays[0].dtype, types.Integer)


@overload(gather, target="generic")
def _gather(arrays, i):
    if len(arrays) == 0:
        return lambda arrays, i: ()
    if _is_narrow(arrays):
        return lambda arrays, i: (_widened(arrays[0][i]),) + gather(arrays[1:], i)
    return lambda arrays, i: (arrays[0][i],) + gather(arrays[1:], i)


@overload(scatter, target="generic")
def _scatter(arrays, i, values, random):
    if len(arrays) == 0:
        return lambda arrays, i, values, random: None

    def write(arrays, i, values, random):
        arrays[0][i] = values[0]
        scatter(arrays[1:], i, values[1:], random)

    def write_narrow(arrays, i, values, random):
        arrays[0][i] = _narrowed(values[0], random)
        scatter(arrays[1:], i, values[1:], _another(random))

    narrow = _is_narrow(arrays) and isinstance(values[0], types.Float)
    return write_narrow if narrow else write


# -- what a kernel of many steps computes once a step ----------------------------------------------


def make_prepare(
    carry: ScalarFunction,
    coefficients: ScalarFunction,
    decay_coefficients: ScalarFunction,
) -> ScalarFunction:
    """Compose a method's functions into the preparation of a step, in float64.

    ``prepare(t, lr, hyper, weight_decay, scalars, measured)`` returns the new scalars and the
    coefficients of decay and rule. ``t`` is a float64: so a power of it is the C library's, as in
    Python, to the last bit, where Numba would multiply up a power of an integer. ``hyper`` are the
    hyperparameters after ``lr``.
    """
    carry = inlinable(carry)
    coefficients, decay_coefficients = inlinable(coefficients), inlinable(decay_coefficients)

    def prepare(t, lr, hyper, weight_decay, scalars, measured):
        new = carry(t, lr, *hyper, *scalars, *measured)
        coefs = coefficients(t, lr, *hyper, *new)
        return new, decay_coefficients(lr, weight_decay), coefs

    return prepare


def narrow(values, like):
    """Cast the numbers of a tuple to the type of ``like``."""
    return tuple(np.dtype(type(like)).type(value) for value in values)


@overload(narrow, target="generic")
def _narrow(values, like):
    if len(values) == 0:
        return lambda values, like: ()
    if like == types.float32:
        return lambda values, like: (np.float32(values[0]),) + narrow(values[1:], like)
    return lambda values, like: (np.float64(values[0]),) + narrow(values[1:], like)
