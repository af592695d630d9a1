"""Numba's CUDA simulator in a tenth of the time: the threads of a block take turns.

Numba starts all threads of a block at once, and asks in a loop which of them wait at a barrier.
Here one runs at a time, up to a barrier or to its end. The order is another one in each block and
after each barrier, and shared memory begins with NaN in each block: a kernel that lacks a barrier
comes to another result.
"""

import contextvars
import random
import sys
import threading
from functools import cache
from types import FunctionType, SimpleNamespace

import numpy as np
from numba.cuda.simulator import kernel, kernelapi

_running = SimpleNamespace(turn=None)
_order = random.Random(0)


class _Abandoned(BaseException):
    """The launch has failed in another thread."""


class Turn:
    """A thread of a block: what a kernel asks of the thread it runs in."""

    def __init__(self, manager, block, thread):
        self.blockIdx, self.threadIdx = kernelapi.Dim3(*block), kernelapi.Dim3(*thread)
        size = kernelapi.Dim3(*manager._block_dim)
        x, y, z = self.threadIdx
        self.thread_id = x + size.x * (y + size.y * z)
        self._manager = manager
        self._go = self._paused = None
        self.error, self.ended, self._abandoned = None, False, False

    syncthreads_count = kernel.BlockThread.syncthreads_count
    syncthreads_and = kernel.BlockThread.syncthreads_and
    syncthreads_or = kernel.BlockThread.syncthreads_or

    def syncthreads(self):
        assert self._go, "has_barriers did not find the barrier"
        self._paused.release()
        self._go.acquire()
        if self._abandoned:
            raise _Abandoned

    def start(self, function, arguments):
        """Start a thread that waits until it is its turn."""
        self._go, self._paused = _locked(), _locked()
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run, function, arguments), daemon=True).start()

    def _run(self, function, arguments):
        self._go.acquire()
        try:
            if not self._abandoned:
                function(*arguments)
        except _Abandoned:
            pass
        except Exception as error:
            self.error = error
        finally:
            self.ended = True
            self._paused.release()

    def go_on(self):
        """Let it run to the next barrier, or to its end."""
        _running.turn = self
        self._go.release()
        self._paused.acquire()

    def abandon(self):
        """Let it end at once."""
        self._abandoned = True
        self.go_on()


def _locked():
    lock = threading.Lock()
    lock.acquire()
    return lock


def run_block(manager, block, *arguments):
    """Run one block, in the place of ``BlockManager.run``."""
    kernel._get_kernel_context().shared._allocations.clear()
    turns = [Turn(manager, block, thread) for thread in np.ndindex(*manager._block_dim)]
    _order.shuffle(turns)
    if not has_barriers(manager._f):
        for turn in turns:
            _running.turn = turn
            manager._f(*arguments)
        return
    for turn in turns:
        turn.start(manager._f, arguments)
    while turns:
        for turn in turns:
            turn.go_on()
            if turn.error:
                for other in turns:
                    if not other.ended:
                        other.abandon()
                raise turn.error
        turns = [turn for turn in turns if not turn.ended]
        _order.shuffle(turns)


@cache
def has_barriers(function):
    """Tell whether a function, or one that it calls, waits for the other threads of the block."""
    codes, cells = [function.__code__], function.__closure__ or ()
    names = set()
    for code in codes:
        names |= set(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, type(code))]
    if any(name.startswith("syncthreads") for name in names):
        return True
    called = [cell.cell_contents for cell in cells]
    called += [function.__globals__[name] for name in names & function.__globals__.keys()]
    plain = [getattr(value, "fn", getattr(value, "py_func", value)) for value in called]
    return any(isinstance(f, FunctionType) and has_barriers(f) for f in plain)


def shared_array(shared, shape, dtype):
    """Return the array of a line of the kernel, without reading the source of the whole stack."""
    frame = sys._getframe(1)
    place = frame.f_code, frame.f_lineno
    if place not in shared._allocations:
        dtype = np.dtype(getattr(dtype, "name", dtype))  # Numba's types are named as NumPy's
        nothing = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
        shared._allocations[place] = np.full(shape, nothing, dtype)
    return shared._allocations[place]


def install():
    """Have Numba's simulator run blocks so."""
    kernel.BlockManager.run = run_block
    kernelapi.FakeCUDAShared.array = shared_array
    kernelapi.threading = SimpleNamespace(current_thread=lambda: _running.turn)
