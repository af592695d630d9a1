"""Columns and targets in units of their own: the same objective, in coordinates that are alike.

The search and the pilot find one rate for all coordinates, and the intercept is the coefficient of
a column of ones. Beside columns of 1e-12 it alone would move; beside columns far from 0 for their
spread, such as years, every column is almost the intercept's. Units are powers of two, so that they
round nothing. Targets far from 1 have a unit too: the slopes of robust losses have a size that does
not know how far there is to go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

if TYPE_CHECKING:
    from ..arrays import DType, Matrix

USUAL = 7  # columns between 2**-7 and 2**7 need no other unit
FAR = 3  # times its spread that a column may lie from 0
RARE = 2  # bits above its root mean square that the largest entry of a dense column may be
ROUNDING = 32  # times the spacing of numbers: a column that varies by no more is constant


@dataclass(frozen=True)
class Targets:
    """Subtract ``centre`` from targets, and divide them by ``2**exponent``.

    The loss of residuals r is ``2**(degree * exponent)`` times the loss of those in this unit, if
    its own parameter, an amount of r, has this unit too. Counts, of degree 0 and of this mean, have
    a logarithm that is predicted: their unit is a part of the intercept.
    """

    exponent: int
    centre: float
    degree: int
    mean: float = 0.0

    @classmethod
    def of_counts(cls, y: np.ndarray, intercept: bool) -> Targets | None:
        """Return a unit for counts, their mean; None if it is near 1, or without an intercept."""
        mean = float(y.mean()) if y.size else 0.0
        exponent = int(np.frexp(mean)[1])
        return cls(exponent, 0.0, 0, mean) if intercept and abs(exponent) > USUAL else None

    @property
    def log(self) -> float:
        """What is predicted of the logarithm of a count in this unit is less by this number."""
        return 0.0 if self.degree else self.exponent * math.log(2.0)

    @classmethod
    def if_needed(cls, y: np.ndarray, degree: int, intercept: bool) -> Targets | None:
        """Return a unit for targets, the median of their distances; None if it is near 1."""
        with np.errstate(over="ignore", invalid="ignore"):
            centre = float(np.median(y)) if intercept and y.size else 0.0
            far = np.abs(y - centre)
        if not np.isfinite(far).all():
            centre, far = 0.0, np.abs(y)
        far = np.sort(far[far > 0])
        exponent = int(np.frexp(far[far.size // 2])[1]) if far.size else 0
        if abs(exponent) <= USUAL and abs(centre) <= 2.0 ** (exponent + USUAL):
            return None
        return cls(exponent, centre, degree)

    def of(self, y: np.ndarray) -> np.ndarray:
        """Return targets in this unit."""
        return np.asarray(np.ldexp(y - self.centre, -self.exponent))

    def amount(self, size: float) -> float:
        """Return an amount of residuals in this unit."""
        return float(np.ldexp(size, -self.exponent))

    def losses(self, values: np.ndarray) -> np.ndarray:
        """Return losses of targets as they came for those in this unit."""
        if not self.degree:
            return np.asarray(np.ldexp(values, self.exponent) - self.mean * self.log)
        return np.asarray(np.ldexp(values, self.degree * self.exponent))


@dataclass(frozen=True)
class Units:
    """Subtract ``centres[j]`` from column j of rows, and divide it by ``2**exponents[j]``.

    One exponent is for all columns; no centres are zeros. Columns that are constant become 0.
    """

    exponents: np.ndarray
    centres: np.ndarray | None = None
    constant: np.ndarray | None = None
    targets: Targets | None = None

    @staticmethod
    def with_targets(units: Units | None, targets: Targets | None) -> Units | None:
        """Return units of columns, or none, with a unit of targets, or none."""
        if targets is None:
            return units
        return replace(units or Units(np.array(0)), targets=targets)

    @classmethod
    def of_columns(cls, X: Matrix, weights: np.ndarray | None, intercept: bool) -> Units:
        """Return units in which the root mean square of a dense column is near 1.

        They are centred if there is an intercept, which takes up the difference. Of a sparse column
        the largest entry is between 1/2 and 1.
        """
        if scipy.sparse.issparse(X):
            return cls(np.frexp(_largest(X))[1])
        if not intercept:
            return cls(_spread(X, weights))
        with np.errstate(over="ignore", invalid="ignore"):
            means = np.average(X, axis=0, weights=weights)
        centres = np.where(np.isfinite(means), means, 0.0).astype(X.dtype)
        centred, spacing = X - centres, np.finfo(X.dtype).eps
        constant = _largest(centred) <= ROUNDING * spacing * _largest(X)
        return cls(np.where(constant, 0, _spread(centred, weights)), centres, constant)

    @classmethod
    def if_needed(cls, X: Matrix, weights: np.ndarray | None, intercept: bool) -> Units | None:
        """Return units of rows that are to be copied only if they lie far from 1, or from 0."""
        if scipy.sparse.issparse(X):
            return cls.of_all(X)
        largest = _largest(X)
        exponents = np.frexp(largest[largest > 0])[1]
        needed = bool((abs(exponents) > USUAL).any())
        if intercept and not needed:
            means = np.average(X, axis=0, weights=weights)
            ones = np.ones(X.shape[0]) if weights is None else weights
            squares = np.einsum("ij,ij,i->j", X, X, ones, dtype=np.float64) / ones.sum()
            needed = bool((means**2 > FAR**2 * (squares - means**2)).any())
        return cls.of_columns(X, weights, intercept) if needed else None

    @classmethod
    def of_all(cls, X: Matrix) -> Units | None:
        """Return a unit for all columns, the median of theirs; None if it is near 1."""
        largest = _largest(X)
        exponents = np.frexp(largest[largest > 0])[1]
        middle = int(np.sort(exponents)[exponents.size // 2]) if exponents.size else 0
        return cls(np.array(middle)) if abs(middle) > USUAL else None

    def of_rows(self, X: Matrix) -> Matrix:
        """Return rows in these units, in a copy if they differ."""
        if self.centres is None and not self.exponents.any():
            return X
        if scipy.sparse.issparse(X):
            each = self.exponents[X.indices] if self.exponents.ndim else self.exponents
            return type(X)((np.ldexp(X.data, -each), X.indices, X.indptr), shape=X.shape)
        if self.centres is None:
            return np.ldexp(X, -self.exponents)
        made = np.ldexp(X - self.centres.astype(X.dtype), -self.exponents)
        made[:, self.constant] = 0.0
        return made

    def to_point(self, x: np.ndarray, intercept: bool) -> np.ndarray:
        """Return the point of rows in these units for one of rows as they come."""
        made = self._scaled(x, intercept, self.exponents)
        if self.centres is not None:
            made[-1] += (self.centres.astype(np.float64) @ x[:-1]).astype(x.dtype)
        if self.targets is not None:
            if intercept:
                made[-1] -= x.dtype.type(self.targets.centre + self.targets.log)
            made = np.ldexp(made, -self.targets.exponent if self.targets.degree else 0)
        return made

    def from_point(self, x: np.ndarray, intercept: bool) -> np.ndarray:
        """Undo `to_point`."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.targets is not None:
                x = np.ldexp(x, self.targets.exponent if self.targets.degree else 0)
                if intercept:
                    x[-1] += x.dtype.type(self.targets.centre + self.targets.log)
            made = self._scaled(x, intercept, -self.exponents)
            if self.centres is not None:
                made[-1] -= (self.centres.astype(np.float64) @ made[:-1]).astype(x.dtype)
        return made

    def strengths(self, strength: float, power: int, dtype: DType) -> np.ndarray:
        """Return the strengths of a penalty of so many powers of coefficients, for each column."""
        numbers = np.finfo(dtype)
        exponents = -power * self.exponents
        if self.targets is not None:
            power = (power - self.targets.degree) if self.targets.degree else -1
            exponents = exponents + power * self.targets.exponent
        with np.errstate(over="ignore", under="ignore"):
            each = np.ldexp(float(strength), exponents)
        # Numbers of the dtype: the largest here are as good as infinite, the least as good as 0.
        each = np.where(each < numbers.tiny, 0.0, each)
        return np.asarray(np.minimum(each, np.sqrt(numbers.max, dtype=np.float64)))

    def _scaled(self, x: np.ndarray, intercept: bool, exponents: np.ndarray) -> np.ndarray:
        made, of_coefs = np.array(x), slice(-1 if intercept else None)
        each = exponents[:, None] if exponents.ndim and x.ndim == 2 else exponents
        with np.errstate(over="ignore", under="ignore"):  # the fit tests its result
            made[of_coefs] = np.ldexp(x[of_coefs], each)
        return made


def _largest(X: Matrix) -> np.ndarray:
    """Return the size of the largest entry of each column."""
    if not scipy.sparse.issparse(X):
        return np.asarray(np.maximum(X.max(axis=0), -X.min(axis=0)))
    largest = np.zeros(X.shape[1], X.dtype)
    np.maximum.at(largest, X.indices, np.abs(X.data))
    return largest


def _spread(X: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the power of two that is next to the root mean square of each column."""
    exponents = np.frexp(_largest(X))[1]
    squares = np.ldexp(X, -exponents).astype(np.float64) ** 2
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        means = np.average(squares, axis=0, weights=weights)
    means = np.where(np.isfinite(means) & (means > 0), means, 1.0)
    return np.asarray(exponents + np.maximum(np.rint(0.5 * np.log2(means)), -RARE).astype(int))
