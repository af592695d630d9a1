"""Finite differences over the coordinates that the bounds leave free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..prox.base import Box

FD_METHODS = ("2-point", "3-point", "cs")


class Differences:
    """SciPy's finite differences over the coordinates that the bounds leave free."""

    def __init__(self, method: str, x: np.ndarray, box: Box | None) -> None:
        self.method = method
        lo, hi = (-np.inf, np.inf) if box is None else (box.lo, box.hi)
        self._lo, self._hi = (np.broadcast_to(b, x.shape).reshape(-1) for b in (lo, hi))
        self._free = np.flatnonzero(self._lo < self._hi)
        self.fixed = np.flatnonzero(self._lo == self._hi)
        self.cost = self._free.size * (2 if method == "3-point" else 1)

    def __call__(self, fun: Callable[..., Any], x: np.ndarray, value: float) -> np.ndarray:
        """Return the gradient at a flat point of this value."""
        from scipy.optimize._numdiff import approx_derivative

        free, gradient = self._free, np.zeros_like(x)
        if free.size:
            kind = np.complex128 if self.method == "cs" else x.dtype
            point = x.astype(kind)

            def fun_of_free(part: np.ndarray) -> object:
                point[free] = part
                return fun(point)

            gradient[free] = approx_derivative(
                fun_of_free,
                x[free],
                method=self.method,
                f0=value,
                bounds=(self._lo[free], self._hi[free]),
            )
        return gradient
