"""Numba's CUDA simulator in a tenth of the time: the threads of a block take turns.

Numba starts all threads of a block at once, and asks in a loop which of them wait at a barrier.
Here they are greenlets, of which one runs at a time, up to a barrier or to its end. The order is
another one in each block and after each barrier, and shared memory begins with NaN in each block: a
kernel that lacks a barrier comes to another result.
"""

import contextvars
import random
import sys
from types import SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet
from numba import types
from numba.cuda.simulator import kernel, kernelapi
from numba.cuda.simulator.cudadrv import devicearray

_order = random.Random(0)


class Thread(greenlet):
    """A thread of a block: what a kernel asks of the thread it runs in."""

    def __init__(self, manager, block, thread):
        super().__init__(manager._f)
        self.gr_context = contextvars.copy_context()  # NumPy's errstate
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*block), kernelapi.Dim3(*thread)
        size = kernelapi.Dim3(*manager._block_dim)
        x, y, z = self.threadIdx
        self.thread_id = x + size.x * (y + size.y * z)
        self._manager = manager

    syncthreads_count = kernel.BlockThread.syncthreads_count
    syncthreads_and = kernel.BlockThread.syncthreads_and
    syncthreads_or = kernel.BlockThread.syncthreads_or

    def syncthreads(self):
        self.parent.switch()


def run_block(manager, block, *arguments):
    """Run one block, in the place of ``BlockManager.run``.

    An error in one of its threads arrives here; the others end as nothing refers to them any more.
    """
    kernel._get_kernel_context().shared._allocations.clear()
    threads = [Thread(manager, block, thread) for thread in np.ndindex(*manager._block_dim)]
    given = arguments
    while threads:
        _order.shuffle(threads)
        for thread in threads:
            thread.switch(*given)
        given = ()  # from now on, they return from a barrier
        threads = [thread for thread in threads if not thread.dead]


def shared_array(shared, shape, dtype):
    """Return the array of a line of the kernel, without reading the source of the whole stack."""
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lineno
    if place not in shared._allocations:
        dtype = np.dtype(getattr(dtype, "name", dtype))  # Numba's types are named as NumPy's
        nothing = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
        shared._allocations[place] = np.full(shape, nothing, dtype)
    return shared._allocations[place]


def cast(kind, first, *others):
    """Cast a number, as ``int64(3.0)`` does, or make a signature of types; import nothing."""
    if isinstance(first, (np.generic, int, float)):
        return getattr(np, kind.name)(first)
    return types.Type.__call__(kind, first, *others)


def attribute(array, name):
    """Return an attribute of an array, without listing all; kernels know no fields of records."""
    return getattr(array._item._ary, name)


def install():
    """Have Numba's simulator run blocks so."""
    types.Integer.__call__ = types.Float.__call__ = cast
    devicearray.FakeWithinKernelCUDAArray.__getattr__ = attribute
    kernel.BlockManager.run = run_block
    kernelapi.FakeCUDAShared.array = shared_array
    kernelapi.threading = SimpleNamespace(current_thread=getcurrent)
