"""Data for the measurements, here and in `comparison`: random, never constant or zero."""

from itertools import cycle

import numba
import numpy as np
from scipy import sparse


def fix_threads(count):
    """Use this number of threads, or have asv skip the benchmark."""
    if count > numba.config.NUMBA_NUM_THREADS:
        raise NotImplementedError(f"needs {count} threads")  # asv then skips it
    numba.set_num_threads(count)


def point(n, dtype):
    return np.random.default_rng(0).standard_normal(n, np.float32).astype(dtype, copy=False)


def gradients(n, dtype):
    """Return an endless series of gradients that alternate in sign.

    So no coordinate drifts away, and no accumulator becomes denormal.
    """
    gradient = np.random.default_rng(1).standard_normal(n, np.float32).astype(dtype, copy=False)
    return cycle((gradient, -gradient))


def sparse_rows(rows, columns, entries, seed=0):
    """Return CSR rows with entries in columns of popularity 1/k, and labels from true weights."""
    rng = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, columns + 1)
    places = rng.choice(columns, (rows, entries), p=popularity / popularity.sum())
    values = (rng.random(places.size) + 0.1).astype(np.float32)
    numbers = np.repeat(np.arange(rows), entries)
    A = sparse.csr_matrix((values, (numbers, places.ravel())), shape=(rows, columns))
    A.sum_duplicates()
    scores = A @ rng.standard_normal(columns) + rng.standard_normal(rows)
    return A, np.where(scores > 0, 1.0, -1.0).astype(np.float32)


def dense_rows(rows, columns, seed=0):
    """Return normally distributed rows, and labels from true weights."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((rows, columns)).astype(np.float32)
    scores = A @ rng.standard_normal(columns) + rng.standard_normal(rows)
    return A, np.where(scores > 0, 1.0, -1.0).astype(np.float32)


def signed(rng, shape):
    """Return random numbers of both signs and of size 0.5 to 1.5.

    None is near zero, so the position of eps, which differs between libraries, has no effect.
    """
    size = rng.random(shape, np.float32)
    size += np.float32(0.5)
    return np.negative(size, out=size, where=rng.integers(0, 2, shape, np.uint8).view(bool))
