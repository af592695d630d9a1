"""Where a run stands whose values are noisy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..arrays import DType


@dataclass(eq=False)
class NoiseState:
    """Where a run stands that goes on after its search, because values are noisy.

    Attributes
    ----------
    end, end_jac : ndarray
        Where the search ended, and the gradient there, evaluated again.
    first, again : float
        Two values there, with penalties.
    steps : int
        Steps of the search.
    distance : float
        The distance from which the rate follows; NaN before the first step.
    scale : float
        What the units of the coordinates are multiplied by in the method's state.
    squares, squares_t : float, int
        The sum of the squared norms of the gradients, and the steps that it is of.
    """

    end: np.ndarray
    end_jac: np.ndarray
    first: float
    again: float
    steps: int
    distance: float = math.nan
    scale: float = 1.0
    squares: float = 0.0
    squares_t: int = -1

    def check(self, size: int, dtype: DType) -> None:
        """Raise if a field is not one of a run over so many variables of a dtype."""
        for name in ("end", "end_jac"):
            array = getattr(self, name)
            if not (array.shape == (size,) and array.dtype == dtype):
                raise ValueError(
                    f"state.noise.{name} is of {array.dtype} and shape {array.shape}, expected "
                    f"{dtype} and shape ({size},)"
                )
        fits = {
            "steps": self.steps >= 0,
            "distance": math.isnan(self.distance) or 0.0 < self.distance < math.inf,
            "scale": 0.0 < self.scale < math.inf,
            "squares": 0.0 <= self.squares < math.inf,
        }
        for name, holds in fits.items():
            if not holds:
                raise ValueError(
                    f"state.noise.{name} is {getattr(self, name)}, expected a finite number >= 0"
                )
