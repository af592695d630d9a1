"""Kernels that Python runs at first: a small problem is solved before a compiler has begun.

A kernel is a plain function of NumPy numbers, and Python comes to the same bits, in a hundred times
the time. To compile the search for a learning rate takes 5 to 10 s, to load it from the disk with
what Numba sets up for it 0.3 s, and a fit of five parameters takes 0.05 s in Python.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeAlias, cast

import numpy as np
from numba import types
from numba.np.numpy_support import as_dtype

# Numba has no types for its types, nor for compiled functions.
NumbaType: TypeAlias = Any
Kernel: TypeAlias = Callable[..., Any]
# What numba.njit or numba.cuda.jit returns: a kernel with attributes, few of which Numba declares.
NumbaFunction: TypeAlias = Any
# Casts an argument of a kernel, a number or a tuple, to the type that it has there.
Cast: TypeAlias = Callable[[Any], object]

# Work is counted in elements, and a call as `CALL` more. With `LOADED` done, a kernel is loaded if
# it is on the disk; with `COMPILED` done, it is compiled. They are counts and no times, so that a
# program always does the same. Python takes 20 us for one, 40 in long arrays: 0.2 s before it loads
# a kernel, and 2 s before it compiles one. A call may pass over its elements twenty times: one of
# more than `SHORT` is not for Python.
CALL, LOADED, COMPILED, SHORT = 16, 8_000, 60_000, 1_000


@contextmanager
def at_once() -> Iterator[None]:
    """Have kernels that are made meanwhile loaded or compiled by their first call."""
    global _patience
    _patience, before = 0, _patience
    try:
        yield
    finally:
        _patience = before


_patience = 1


class EarlyKernel:
    """A kernel that Python runs until it has done some work, and compiled code from then on.

    Parameters
    ----------
    plain : callable
        The kernel, as Python runs it.
    size : callable
        Returns how many elements a call has to do with, from its arguments.
    load, build : callable
        Return the kernel from the disk, or None if it is not there; and the compiled one.
    """

    def __init__(
        self,
        plain: Kernel,
        size: Callable[..., int],
        load: Callable[[], Kernel | None],
        build: Callable[[], Kernel],
    ) -> None:
        self._plain, self._size, self._load, self._build = plain, size, load, build
        self._kernel: Kernel | None = None
        self._work, self._looked = 0, False
        self._loaded, self._compiled = _patience * LOADED, _patience * COMPILED
        self._lock = threading.RLock()

    def __call__(self, *arguments: object) -> Any:
        """Run the kernel."""
        kernel = self._kernel or self._chosen(self._size(*arguments))
        return kernel(*arguments)

    def _chosen(self, elements: int) -> Kernel:
        long = elements > SHORT
        # A short call does not wait for a thread that compiles, which a fork may have left behind.
        if not self._lock.acquire(blocking=long):
            return self._run
        try:
            self._work += CALL + elements
            if self._kernel is None and not self._looked and (long or self._work > self._loaded):
                self._kernel, self._looked = self._load(), True
            if self._kernel is None and (long or self._work > self._compiled):
                self._kernel = self._build()
            return self._kernel or self._run
        finally:
            self._lock.release()

    def _run(self, *arguments: object) -> Any:
        """Run the kernel in Python: completely, or not at all if it is interrupted."""
        before = [(array, array.copy()) for array in _arrays(arguments)]
        try:
            with np.errstate(all="ignore"):
                return self._plain(*arguments)
        except BaseException:
            while before:  # a second interrupt, too, finds all of it as it was
                with suppress(KeyboardInterrupt):
                    for array, values in before:
                        array[...] = values
                    break
            raise


def _arrays(arguments: tuple[object, ...]) -> Iterator[np.ndarray]:
    for argument in arguments:
        if isinstance(argument, tuple):
            yield from _arrays(argument)
        elif isinstance(argument, np.ndarray) and argument.flags.writeable:
            yield argument


def interpreted(kernel: Kernel, signature: NumbaType) -> Kernel:
    """Return a kernel that Python runs, which casts numbers as the compiled one does."""
    casts = [_cast(kind) for kind in signature.args]

    @wraps(kernel)
    def run(*arguments: object) -> Any:
        return kernel(*[cast(value) for cast, value in zip(casts, arguments, strict=True)])

    return run


def _cast(kind: NumbaType) -> Cast:
    """Return what casts an argument to a type, if it is a number or a tuple of numbers."""
    if isinstance(kind, types.Float):
        return cast(Cast, as_dtype(kind).type)
    if isinstance(kind, types.BaseTuple):
        casts = [_cast(one) for one in cast(NumbaType, kind)]
        return lambda values: tuple(one(v) for one, v in zip(casts, values, strict=True))
    return lambda value: value
