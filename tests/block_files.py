"""Blocks of rows in files, and what loads them: workers of a cluster import it by its name."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

import adaptopt as ao

FOLDER = Path(__file__).parent
FEATURES = 5
ROWS = (40, 60, 32, 50, 45, 70)


def rows_of(k):
    rng = np.random.default_rng(k)
    A = rng.standard_normal((ROWS[k], FEATURES))
    y = np.where(A @ [1.0, -2.0, 0.0, 0.5, 0.0] + rng.logistic(size=ROWS[k]) > 0, 1.0, -1.0)
    return A, y


def load(path):
    with np.load(path) as file:
        return ao.problems.Logistic(file["A"], file["y"])


def load_once_killed(path, marker):
    """Kill the worker that is the first to load the block."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return load(path)


def load_killing(path):
    """Kill each worker that loads the block."""
    os.kill(os.getpid(), signal.SIGKILL)


def load_slowly(path):
    time.sleep(0.5)
    return load(path)


def write(folder):
    """Write the blocks; return their loaders."""
    paths = [str(folder / f"block{k}.npz") for k in range(len(ROWS))]
    for k, path in enumerate(paths):
        A, y = rows_of(k)
        np.savez(path, A=A, y=y)
    return [partial(load, path) for path in paths]


def whole():
    """Return the problem over all rows."""
    A, y = (np.concatenate(parts) for parts in zip(*map(rows_of, range(len(ROWS))), strict=True))
    return ao.problems.Logistic(A, y)


def numba_threads(problem, scale, k):
    import numba

    return numba.get_num_threads()
