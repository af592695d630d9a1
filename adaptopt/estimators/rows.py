"""Equal rows of small data, joined to one with the sum of their weights, in an order of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from ..arrays import Matrix


def merged(X: Matrix, y: np.ndarray, weights: np.ndarray) -> tuple[Matrix, np.ndarray, np.ndarray]:
    """Return rows without duplicates, their targets, and the sums of their weights.

    Their order depends only on their contents, and rows of weight 0 are left out. So a weight k is
    k rows to the last bit, and the order in which the rows come does not matter.
    """
    kept = np.flatnonzero(weights)
    X, y, weights = X[kept], y[kept], weights[kept]
    sparse = scipy.sparse.issparse(X)
    if sparse:
        X.sum_duplicates()
        X.eliminate_zeros()
    order = np.lexsort((*_keys(X).T, y))
    X, y, weights = X[order], y[order], weights[order]
    # Keys that are equal are not enough: the rows are compared.
    last, next_ = X[:-1], X[1:]
    differs = np.asarray((last != next_).sum(axis=1)).ravel() if len(y) > 1 else np.zeros(0)
    first = np.concatenate([[True], (differs > 0) | (y[1:] != y[:-1])])
    starts = np.flatnonzero(first)
    if starts.size == y.size:
        return X, y, weights
    return X[starts], y[starts], np.add.reduceat(weights, starts)


def _keys(X: Matrix) -> np.ndarray:
    """Return two numbers for each row, the same for the same row wherever it is."""
    factors = np.random.default_rng(0).standard_normal((X.shape[1], 2))
    if scipy.sparse.issparse(X):
        return np.asarray(X.astype(np.float64) @ factors)
    # einsum, unlike BLAS, adds each row in the same order wherever the row is.
    return np.stack([np.einsum("ij,j->i", X, f, dtype=np.float64) for f in factors.T], axis=1)
