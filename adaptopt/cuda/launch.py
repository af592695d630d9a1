"""CUDA kernels: built from the same scalar functions, and launched over whole flat arrays.

This module is imported with the first CUDA array, and never by ``import adaptopt``. It needs
``numba.cuda``, Numba's own or that of numba-cuda.
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
from ..kernels.compile import (
    Kernel,
    Make,
    NumbaFunction,
    NumbaType,
    Parts,
    inlinable,
    name_by_content,
)
from ..kernels.disk import enable_cache
from ..kernels.early import Cast

# Numba does not declare to type checkers the names that are used here.
cuda: Any = numba_cuda
config: Any = numba_config

# mypy: disable-error-code="no-untyped-call"

# Threads per block, and blocks per multiprocessor: 2048 threads, the most that it can hold.
THREADS = 256
BLOCKS = 8
WARP = 32
# Least number of threads per row of a table, and largest number of rows per block.
TEAM = 4
ROWS = 32
# Sizes and streams for which a kernel keeps its configured launches.
CONFIGURATIONS = 64


def launch_size(n: int) -> tuple[int, int]:
    """Return the numbers of blocks and of threads per block for ``n`` elements."""
    if n < THREADS:
        return 1, -(-n // WARP) * WARP
    return min(-(-n // THREADS), BLOCKS * _multiprocessors(cuda.current_context().device)), THREADS


def rows_launch_size(count: int, width: int) -> tuple[int, tuple[int, int]]:
    """Return the number of blocks, and per block the threads per row and the rows."""
    team = TEAM
    while team < min(width, THREADS):
        team *= 2
    rows = 1
    while rows < min(count, ROWS, THREADS // team):
        rows *= 2
    most = BLOCKS * _multiprocessors(cuda.current_context().device)
    return min(-(-count // rows), most), (team, rows)


def _multiprocessors(device: object) -> int:
    # Not cached by device: Numba returns a weak proxy, which has no hash.
    return getattr(device, "MULTIPROCESSOR_COUNT", 1)  # the simulator's device has none


def device_of(array: Array) -> Any:
    """Return a context manager that makes the device of an array current."""
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
        The plain kernel, for compilation without a device.
    signature : numba signature
        The one signature.
    """

    def __init__(self, make: Make, parts: Parts, arguments: tuple[NumbaType, ...]) -> None:
        parts = tuple(inlinable(part, True) if callable(part) else part for part in parts)
        self.function = make(*parts)
        self.signature = types.void(*arguments)
        self._cached = name_by_content(self.function, make, parts, self.signature, "cuda")
        self._casts = [_cast_to(kind) for kind in arguments]
        self._ready: dict[tuple[object, ...], Kernel] = {}

    @cached_property
    def compiled(self) -> NumbaFunction:
        """The kernel, compiled at its first use."""
        if config.ENABLE_CUDASIM:
            return cuda.jit(self.signature)(self.function)
        # As `cuda.jit` with a signature, and with the cache.
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
        """Return a run as one call. The number of threads matters only on the host."""
        run: Kernel = self.run  # type: ignore[attr-defined]
        return partial(run, elements, count, *arguments)

    def over(self, stream: Stream, array: Array, *rest: object) -> None:
        """Run it on all elements of an array, its first argument; of an empty one, do nothing."""
        if array.size:
            with device_of(array):
                self.launch(launch_size(array.size), stream, array, *rest)

    def launch(
        self, size: tuple[int, int | tuple[int, int]], stream: Stream, *arguments: object
    ) -> None:
        """Run the kernel on a stream of the current device, without waiting."""
        # The simulator has no signatures: it computes with the given types.
        given = [cast(value) for cast, value in zip(self._casts, arguments, strict=True)]
        configuration = (*size, stream)
        if config.ENABLE_CUDASIM:  # which configures an object again in each launch
            self.compiled[configuration](*given)
            return
        ready = self._ready.get(configuration)
        if ready is None:
            ready = self._configured(configuration)
        ready(*given)

    def _configured(self, configuration: tuple[object, ...]) -> Kernel:
        """Return the kernel configured for a size and a stream, and keep it for later launches."""
        with warnings.catch_warnings():
            # Numba warns if a grid leaves a part of the device idle, as for short arrays.
            warnings.filterwarnings("ignore", ".*Grid size")
            ready: Kernel = self.compiled[configuration]
        if len(self._ready) >= CONFIGURATIONS:
            self._ready.clear()
        self._ready[configuration] = ready
        return ready


def _cast_to(kind: NumbaType) -> Cast:
    """Return a function that casts a scalar, or the scalars of a tuple, to the signature's type."""
    if isinstance(kind, types.Number):
        return as_dtype(kind).type
    if isinstance(kind, types.UniTuple) and isinstance(kind.dtype, types.Number):
        cast = as_dtype(kind.dtype).type
        return lambda values: tuple(cast(value) for value in values)
    return lambda value: value
