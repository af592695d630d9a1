"""When the threaded kernels may run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
