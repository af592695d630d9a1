"""Finite differences over the coordinates that the bounds leave free."""

from __future__ import annotations

import numpy as np

from ..arrays import UserFunction
from ..prox.base import Box

FD_METHODS = ("2-point", "3-point", "cs")

# A variable that starts nearer to 0, but not there, may be one whose unit is large: 5e-9 m.
SMALL = 1e-3
# How many units in the last place of its value an objective must change by along a step.
HEARD = 1e4


class Differences:
    """SciPy's finite differences over the coordinates that the bounds leave free.

    SciPy takes a variable below 1 for one of size 1: its step of 1.5e-8 is longer than a width of
    8 nm. So the size of small ones is measured at the start: it is their own value or, until the
    objective feels the step, a hundred times more, up to 1.
    """

    def __init__(self, method: str, x: np.ndarray, box: Box | None) -> None:
        self.method = method
        lo, hi = (-np.inf, np.inf) if box is None else (box.lo, box.hi)
        self._lo, self._hi = (np.broadcast_to(b, x.shape).reshape(-1) for b in (lo, hi))
        self._free = np.flatnonzero(self._lo < self._hi)
        self.fixed = np.flatnonzero(self._lo == self._hi)
        self.cost = self._free.size * (2 if method == "3-point" else 1)
        self.sizes: np.ndarray | None = None

    def __call__(self, fun: UserFunction, x: np.ndarray, value: float) -> np.ndarray:
        """Return the gradient at a flat point of this value."""
        from scipy.optimize._numdiff import approx_derivative

        free, gradient = self._free, np.zeros_like(x)
        if free.size:
            kind = np.complex128 if self.method == "cs" else x.dtype
            point = x.astype(kind)

            def fun_of_free(part: np.ndarray) -> object:
                point[free] = part
                return fun(point)

            if self.sizes is None or self.sizes.shape != free.shape:
                self.sizes = self._measured(fun_of_free, x[free], value)
            gradient[free] = approx_derivative(
                fun_of_free,
                x[free],
                method=self.method,
                f0=value,
                abs_step=self._steps(x[free], self.sizes),
                bounds=(self._lo[free], self._hi[free]),
            )
        return gradient

    def _steps(self, x: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return SciPy's steps for variables of at least these sizes."""
        from scipy.optimize._numdiff import _eps_for_method

        step = _eps_for_method(x.dtype, np.dtype(np.float64), self.method)
        return np.asarray(step * np.where(x >= 0, 1.0, -1.0) * np.maximum(sizes, np.abs(x)))

    def _measured(self, fun: UserFunction, x: np.ndarray, value: float) -> np.ndarray:
        """Return the sizes of the variables: 1, or less of one that is small at the start.

        A run that goes on from a state takes those that it has measured.
        """
        sizes = np.ones(x.size)
        least = HEARD * float(np.finfo(x.dtype).eps) * abs(value)
        low, high = self._lo[self._free], self._hi[self._free]
        for i in np.flatnonzero((np.abs(x) < SMALL) & (x != 0)):
            sizes[i] = abs(x[i])
            while sizes[i] < 1.0:
                step, moved = self._steps(x, sizes)[i], x.copy()
                moved[i] += step if low[i] <= x[i] + step <= high[i] else -step
                within = low[i] <= moved[i] <= high[i]
                if not within or abs(float(np.real(fun(moved))) - value) > least:
                    break
                sizes[i] = min(100.0 * sizes[i], 1.0)
        return sizes
