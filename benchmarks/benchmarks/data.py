"""What the benchmarks are given: random, and never constant or zero."""

from itertools import cycle

import numba
import numpy as np
from scipy import sparse


def fix_threads(count):
    """Run on so many threads, or have asv skip the benchmark."""
    if count > numba.config.NUMBA_NUM_THREADS:
        raise NotImplementedError(f"needs {count} threads")  # asv's word for a skip
    numba.set_num_threads(count)


def point(n, dtype):
    return np.random.default_rng(0).standard_normal(n, np.float32).astype(dtype, copy=False)


def gradients(n, dtype):
    """Return gradients without end, of both signs in turn.

    So no coordinate drifts away, and no accumulator fades into denormals.
    """
    gradient = np.random.default_rng(1).standard_normal(n, np.float32).astype(dtype, copy=False)
    return cycle((gradient, -gradient))


def dense_rows(rows, columns):
    """Return a matrix and labels that a hyperplane separates but for noise."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((rows, columns), np.float32)
    scores = A @ rng.standard_normal(columns) / np.sqrt(columns) + rng.standard_normal(rows)
    return A, np.where(scores > 0, 1.0, -1.0)


def sparse_rows(rows, columns, entries):
    """Return the same for rows whose entries lie at columns of popularity 1/k."""
    rng = np.random.default_rng(0)
    popularity = 1.0 / np.arange(1, columns + 1)
    places = rng.choice(columns, (rows, entries), p=popularity / popularity.sum())
    values = (rng.random(places.size) + 0.1).astype(np.float32)
    shape = (rows, columns)
    A = sparse.csr_matrix((values, (np.repeat(np.arange(rows), entries), places.ravel())), shape)
    A.sum_duplicates()
    scores = A @ rng.standard_normal(columns) + rng.standard_normal(rows)
    return A, np.where(scores > 0, 1.0, -1.0).astype(np.float32)
