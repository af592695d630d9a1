"""gather and scatter: the only place that knows how many arrays a coordinate's state lies in.

An array of uint16 among them holds bfloat16 numbers: they are widened when read, and rounded
stochastically when written, because a running sum rounded to nearest would stand still.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .compile import inlinable
from .formats import another, from_bfloat16, to_bfloat16_stochastic

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# These bodies are compiled; they are run only where the compiler is switched off.

_another = inlinable(another)
_widened = inlinable(from_bfloat16)
_narrowed = inlinable(to_bfloat16_stochastic)


def gather(arrays: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    """Return ``(arrays[0][i], arrays[1][i], ...)``."""
    return tuple(
        from_bfloat16(array[i]) if array.dtype == np.uint16 else array[i] for array in arrays
    )


def scatter(arrays: tuple[Any, ...], i: int, values: tuple[Any, ...], random: Any) -> None:
    """Write ``values[k]`` to ``arrays[k][i]``, for as many arrays as there are."""
    for array, value in zip(arrays, values, strict=False):
        if array.dtype == np.uint16 and not isinstance(value, np.uint16):
            array[i] = to_bfloat16_stochastic(value, random)
            random = another(random)
        else:
            array[i] = value


# target="generic": the same bodies serve the CPU and CUDA.
# The tuples are indexed, never unpacked: unpacking just before prange loses every write.


def _is_narrow(arrays: Any) -> bool:
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
