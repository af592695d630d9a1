"""Loops over the elements of arrays, compiled twice: serial for short arrays, threaded for long."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial

from numba import get_num_threads, types

from .compile import (
    Kernel,
    Make,
    NumbaType,
    Parts,
    compile_kernel,
)

# Elements from which threads pay, by float32 AdaGrad on two threads. Threads that still spin start
# in 1 us: they broke even at 12,000 and were 1.5x faster at 32,000; more threads start more slowly.
# Threads that sleep, as OMP_WAIT_POLICY=passive has them do, start in 70 us: they broke even at
# 520,000.
_ASLEEP = os.environ.get("OMP_WAIT_POLICY", "").strip().lower() == "passive"
THREADED_FROM = 524_288 if _ASLEEP else 32_768

# Reentrant: what an interrupt leaves taken keeps only other threads out.
_running = threading.RLock()
_forked = False


@contextmanager
def alone() -> Iterator[bool]:
    """Tell whether the threads are free, and hold them meanwhile.

    Numba's workqueue layer aborts the process when two Python threads start parallel kernels at
    the same time; under the other layers a second one would only compete for the same cores.
    After a fork the GNU OpenMP pool is gone and the child's first parallel kernel would kill it.
    In both cases the caller takes the serial kernel, which computes the same.
    """
    free = not _forked and _running.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            _running.release()


def _after_fork() -> None:
    global _forked, _running
    _forked = True
    _running = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


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
        make: Make,
        make_threaded: Make,
        parts: Parts,
        arguments: tuple[NumbaType, ...],
        counted: bool = True,
    ) -> None:
        self._make, self._make_threaded = make, make_threaded
        self._parts = parts
        self._arguments = arguments
        self._counted = counted

    @cached_property
    def serial(self) -> Kernel:
        """The serial kernel, compiled when it is first wanted: a search for the rate takes none."""
        signature = types.void(*self._arguments, types.uintp, types.uintp)
        return compile_kernel(self._make, self._parts, signature, counted=self._counted)

    @cached_property
    def threaded(self) -> Kernel:
        """The threaded kernel, compiled when it is first wanted."""
        signature = types.void(*self._arguments, types.intp, types.intp)
        return compile_kernel(
            self._make_threaded, self._parts, signature, parallel=True, counted=self._counted
        )

    def run(self, elements: int, count: int, *arguments: object) -> None:
        """Run the body ``count`` times over arrays of so many elements in all."""
        with hands(elements) as threads:
            self.call(threads, elements, count, *arguments)()

    def call(
        self, threads: int, elements: int, count: int, *arguments: object
    ) -> Callable[[], object]:
        """Return `run` as one call of compiled code, on the threads that `hands` has given.

        Python looks for a Ctrl-C before and after such a call, never within.
        """
        if threads > 1 and elements >= THREADED_FROM:
            return partial(self.threaded, *arguments, count, threads)
        return partial(self.serial, *arguments, 0, count)
