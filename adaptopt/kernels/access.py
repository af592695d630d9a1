"""gather and scatter: the only place that knows how many arrays a coordinate's state lies in."""

from __future__ import annotations

from typing import Any

from numba.extending import overload

__all__ = ["gather", "scatter"]

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# These bodies are compiled, not run.


def gather(arrays: tuple[Any, ...], i: int) -> tuple[Any, ...]:
    """Return ``(arrays[0][i], arrays[1][i], ...)``."""
    return tuple(array[i] for array in arrays)


def scatter(arrays: tuple[Any, ...], i: int, values: tuple[Any, ...]) -> None:
    """Write ``values[k]`` to ``arrays[k][i]``, for as many arrays as there are."""
    for array, value in zip(arrays, values, strict=False):
        array[i] = value


# target="generic": the same bodies serve the CPU and CUDA.
# The tuples are indexed, never unpacked: unpacking just before prange loses every write.


@overload(gather, target="generic")
def _gather(arrays, i):
    if len(arrays) == 0:
        return lambda arrays, i: ()
    return lambda arrays, i: (arrays[0][i],) + gather(arrays[1:], i)


@overload(scatter, target="generic")
def _scatter(arrays, i, values):
    if len(arrays) == 0:
        return lambda arrays, i, values: None

    def write(arrays, i, values):
        arrays[0][i] = values[0]
        scatter(arrays[1:], i, values[1:])

    return write
