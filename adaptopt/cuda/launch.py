"""Kernels for CUDA: made from the same scalar functions, launched over whole flat arrays.

This is imported where a CUDA array has been seen, never by ``import adaptopt``: it needs
``numba.cuda``, which is Numba's own or that of numba-cuda.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from numba import cuda as numba_cuda
from numba import types
from numba.core import config as numba_config
from numba.np.numpy_support import as_dtype

from ..arrays import Array, Stream
from ..kernels.compile import inlinable, name_by_content
from ..kernels.disk import enable_cache

# Numba exports names without saying so to type checkers.
cuda: Any = numba_cuda
config: Any = numba_config

# mypy: disable-error-code="no-untyped-call"

# Threads of a block, and blocks a multiprocessor: 2048 threads, which is all it can hold.
THREADS = 256
BLOCKS = 8
WARP = 32
# Threads of a row of a table at least, and such rows of a block at most.
TEAM = 4
ROWS = 32
# Sizes and streams that a kernel keeps itself ready for.
CONFIGURATIONS = 64


def launch_size(n: int) -> tuple[int, int]:
    """Return how many blocks of how many threads go through ``n`` elements."""
    if n < THREADS:
        return 1, -(-n // WARP) * WARP
    return min(-(-n // THREADS), BLOCKS * _multiprocessors(cuda.current_context().device)), THREADS


def rows_launch_size(count: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return how many blocks, of how many threads a row and how many rows, go through rows."""
    team = TEAM
    while team < min(width, THREADS):
        team *= 2
    rows = 1
    while rows < min(count, ROWS, THREADS // team):
        rows *= 2
    most = BLOCKS * _multiprocessors(cuda.current_context().device)
    return min(-(-count // rows), most), (team, rows)


def _multiprocessors(device: Any) -> int:
    # Not kept by device: what Numba returns as one is a weak proxy, which has no hash.
    return getattr(device, "MULTIPROCESSOR_COUNT", 1)  # the simulator's device has none


def device_of(array: Array) -> Any:
    """Return a context manager that makes the device current where an array lies."""
    memory = getattr(array, "gpu_data", None)
    return cuda.gpus[0 if memory is None else memory.context.device.id]  # the simulator has one


class DeviceKernel:
    """A kernel for one signature.

    Parameters
    ----------
    make : callable
        Takes the parts, made callable from compiled code, and returns the plain kernel.
    parts : tuple of callable or int
        Plain scalar functions: rules, proximal maps; and constants.
    arguments : tuple
        Numba's types of the arguments.

    Attributes
    ----------
    function : callable
        The plain kernel, for those who compile it without a device.
    signature : numba signature
        The one signature.
    """

    def __init__(
        self, make: Callable[..., Any], parts: tuple[Any, ...], arguments: tuple[Any, ...]
    ) -> None:
        parts = tuple(inlinable(part, True) if callable(part) else part for part in parts)
        self.function = make(*parts)
        self.signature = types.void(*arguments)
        self._cached = name_by_content(self.function, make, parts, self.signature, "cuda")
        self._casts = [_cast_to(kind) for kind in arguments]
        self._ready: dict[Any, Any] = {}

    @cached_property
    def compiled(self) -> Any:
        """The kernel, compiled when it is first wanted."""
        if config.ENABLE_CUDASIM:
            return cuda.jit(self.signature)(self.function)
        # What `cuda.jit` does with a signature, but for the cache.
        dispatcher = cuda.jit(self.function)
        if self._cached:
            enable_cache(dispatcher)
        dispatcher.compile(self.signature.args)
        dispatcher._specialized = True
        dispatcher.disable_compile()
        return dispatcher

    def call(
        self, threads: int, elements: int, count: int, *arguments: object
    ) -> Callable[[], object]:
        """Return a run as one call; the threads are those of the host."""
        run: Any = self.run  # type: ignore[attr-defined]
        return partial(run, elements, count, *arguments)

    def over(self, stream: Stream, array: Array, *rest: object) -> None:
        """Run it on all elements of an array, its first argument; of an empty one, do nothing."""
        if array.size:
            with device_of(array):
                self.launch(launch_size(array.size), stream, array, *rest)

    def launch(self, size: tuple[int, Any], stream: Stream, *arguments: object) -> None:
        """Run it on a stream of the current device, and do not wait for it."""
        # The simulator has no signatures: what it is given is what it computes with.
        given = [cast(value) for cast, value in zip(self._casts, arguments, strict=True)]
        configuration = (*size, stream)
        if config.ENABLE_CUDASIM:  # configures one object anew in each launch
            self.compiled[configuration](*given)
            return
        ready = self._ready.get(configuration)
        if ready is None:
            ready = self._configured(configuration)
        ready(*given)

    def _configured(self, configuration: tuple[Any, ...]) -> Any:
        """Return the kernel for one size and stream, kept for the next launch."""
        with warnings.catch_warnings():
            # Of a grid that leaves a part of the device idle: short arrays do, and one thread.
            warnings.filterwarnings("ignore", ".*Grid size")
            ready = self.compiled[configuration]
        if len(self._ready) >= CONFIGURATIONS:
            self._ready.clear()
        self._ready[configuration] = ready
        return ready


def _cast_to(kind: Any) -> Callable[[Any], Any]:
    """Return what makes a scalar, or the scalars of a tuple, the type in the signature."""
    if isinstance(kind, types.Number):
        return as_dtype(kind).type
    if isinstance(kind, types.UniTuple) and isinstance(kind.dtype, types.Number):
        cast = as_dtype(kind.dtype).type
        return lambda values: tuple(cast(value) for value in values)
    return lambda value: value
