"""A loop over the elements of arrays, compiled twice: serial for short ones, threaded for long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import get_num_threads, types

from .build import compile_kernel
from .threads import THREADED_FROM, alone

__all__ = ["Loop"]


class Loop:
    """One body over ``lo <= i < hi``; what it computes is the same on any number of threads.

    Parameters
    ----------
    make : callable
        ``make(*parts)`` returns the serial kernel, ``kernel(*arguments, lo, hi)``.
    make_threaded : callable
        ``make_threaded(*parts)`` returns the same for all of them in so many chunks,
        ``kernel(*arguments, count, chunks)``.
    parts : tuple
        Plain scalar functions and constants, which both are made of.
    arguments : tuple
        Numba's types of the arguments.
    counted : bool
        As for `compile_kernel`.
    """

    def __init__(
        self,
        make: Callable[..., Callable[..., None]],
        make_threaded: Callable[..., Callable[..., None]],
        parts: tuple[Any, ...],
        arguments: tuple[Any, ...],
        counted: bool = True,
    ) -> None:
        self._make_threaded = make_threaded
        self._parts = parts
        self._arguments = arguments
        self._counted = counted
        self.serial = compile_kernel(
            make, parts, types.void(*arguments, types.uintp, types.uintp), counted=counted
        )
        self._threaded: Any = None

    @property
    def threaded(self) -> Any:
        """The threaded kernel, compiled when it is first wanted."""
        if self._threaded is None:
            self._threaded = compile_kernel(
                self._make_threaded,
                self._parts,
                types.void(*self._arguments, types.intp, types.intp),
                parallel=True,
                counted=self._counted,
            )
        return self._threaded

    def run(self, elements: int, count: int, *arguments: Any) -> None:
        """Run the body ``count`` times over arrays of so many elements in all."""
        if elements >= THREADED_FROM and (threads := get_num_threads()) > 1:
            with alone() as free:
                if free:
                    self.threaded(*arguments, count, threads)
                    return
        self.serial(*arguments, 0, count)
