"""A loop over the elements of arrays, compiled twice: serial for short ones, threaded for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from numba import get_num_threads, types

from .compile import compile_kernel
from .threads import THREADED_FROM, alone

_ONE = nullcontext(1)


def hands(elements: int) -> AbstractContextManager[int]:
    """Say how many threads may work on so many elements, and hold them meanwhile."""
    return _ONE if elements < THREADED_FROM else _hands()


@contextmanager
def _hands() -> Iterator[int]:
    with alone() as free:
        yield get_num_threads() if free else 1


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
        with hands(elements) as threads:
            self.call(threads, elements, count, *arguments)()

    def call(
        self, threads: int, elements: int, count: int, *arguments: Any
    ) -> Callable[[], object]:
        """Return `run` as one call of compiled code, on the threads that `hands` has given.

        Python looks for a Ctrl-C before and after such a call, never within.
        """
        if threads > 1 and elements >= THREADED_FROM:
            return partial(self.threaded, *arguments, count, threads)
        return partial(self.serial, *arguments, 0, count)
