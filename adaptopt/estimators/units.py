"""Columns of rows in units of their own, powers of two: no entry is rounded.

The search and the pilot find one rate for all coordinates, and the intercept is the coefficient of
a column of ones. Beside columns of 1e-12 it alone would move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

USUAL = 7  # columns between 2**-7 and 2**7 need no other unit


@dataclass(frozen=True)
class Units:
    """Divide column j of rows by ``2**exponents[j]``, or all columns by the same."""

    exponents: np.ndarray

    @classmethod
    def of_columns(cls, X: Any) -> Units:
        """Return the units in which the largest entry of each column is between 1/2 and 1."""
        return cls(np.frexp(_largest(X))[1])

    @classmethod
    def of_all(cls, X: Any) -> Units | None:
        """Return a unit for all columns, the median of theirs; None if it is near 1."""
        largest = _largest(X)
        exponents = np.frexp(largest[largest > 0])[1]
        middle = int(np.sort(exponents)[exponents.size // 2]) if exponents.size else 0
        return cls(np.array(middle)) if abs(middle) > USUAL else None

    def of_rows(self, X: Any) -> Any:
        """Return rows in these units, in a copy."""
        if not scipy.sparse.issparse(X):
            return np.ldexp(X, -self.exponents)
        each = self.exponents[X.indices] if self.exponents.ndim else self.exponents
        parts = np.ldexp(X.data, -each), X.indices, X.indptr
        return type(X)(parts, shape=X.shape)

    def to_point(self, x: np.ndarray, intercept: bool) -> np.ndarray:
        """Return the point of rows in these units for one of rows as they come."""
        return self._scaled(x, intercept, self.exponents)

    def from_point(self, x: np.ndarray, intercept: bool) -> np.ndarray:
        """Undo `to_point`."""
        return self._scaled(x, intercept, -self.exponents)

    def strengths(self, strength: float, power: int, dtype: Any) -> np.ndarray:
        """Return the strengths of a penalty of so many powers of coefficients, for each column."""
        most = np.sqrt(np.finfo(dtype).max, dtype=np.float64)  # as good as infinite
        with np.errstate(over="ignore", under="ignore"):
            each = np.ldexp(float(strength), -power * self.exponents)
        return np.asarray(np.minimum(each, most) if strength else np.zeros_like(each))

    def _scaled(self, x: np.ndarray, intercept: bool, exponents: np.ndarray) -> np.ndarray:
        made, of_coefs = np.array(x), slice(-1 if intercept else None)
        each = exponents[:, None] if exponents.ndim and x.ndim == 2 else exponents
        with np.errstate(over="ignore", under="ignore"):  # the fit tests its result
            made[of_coefs] = np.ldexp(x[of_coefs], each)
        return made


def _largest(X: Any) -> np.ndarray:
    """Return the size of the largest entry of each column."""
    if not scipy.sparse.issparse(X):
        return np.asarray(np.maximum(X.max(axis=0), -X.min(axis=0)))
    largest = np.zeros(X.shape[1], X.dtype)
    np.maximum.at(largest, X.indices, np.abs(X.data))
    return largest
