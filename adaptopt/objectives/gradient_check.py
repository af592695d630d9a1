"""check_gradient: compare a gradient with central differences of the function."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import UserFunction, new_point
from ..placement import HOST, backend_of
from ..problems.problem import Problem
from .exchange import HostExchange
from .function import Objective

# Up to so many coordinates each is checked. Of more, so many random directions are, so many
# coordinates of the largest gradient, and as many random ones.
EACH = 256
DIRECTIONS, LARGEST = 16, 16

ROUGH = 0.1  # a relative error above it that rounding excuses is no agreement

# What the first steps are multiplied by, one after the other, until a difference agrees: the
# function may curve or have a kink within a step, or vary by less than its rounding.
FACTORS = (1.0, 1 / 16, 16.0, 1 / 256, 256.0)


@dataclass(frozen=True)
class GradientCheck:
    """What `check_gradient` found.

    Attributes
    ----------
    ok : bool
        Whether ``error`` is at most ``tolerance``, and some coordinate could be checked.
    error : float
        Largest relative error; infinite if a gradient, or each difference, is not finite.
    worst : int or tuple of int
        Index in ``x`` of the coordinate with that error.
    gradient, difference : float
        Derivative by that coordinate: the given one, and that of the differences.
    tolerance : float
        Largest error that counts as agreement.
    nfev : int
        Evaluations of the function.
    hidden : int
        Number of coordinates or directions, of those looked at, that could not be checked: their
        derivatives differ by more than a tenth, but rounding errors of the function explain that.
    """

    ok: bool
    error: float
    worst: int | tuple[int, ...]
    gradient: float
    difference: float
    tolerance: float
    nfev: int
    hidden: int = 0

    def __repr__(self) -> str:
        at = self.worst if isinstance(self.worst, int) else ", ".join(map(str, self.worst))
        verdict = "agrees" if self.ok else "DIFFERS"
        if not self.ok and self.error <= self.tolerance:
            verdict = "CANNOT TELL, because rounding errors of fun hide its differences"
        elif self.hidden:
            verdict += f" ({self.hidden} hidden by rounding errors of fun)"
        return (
            f"<GradientCheck: {verdict}, largest relative error {self.error:.2g} at x[{at}]: "
            f"gradient {self.gradient:.10g}, differences {self.difference:.10g}>"
        )


def check_gradient(
    fun: UserFunction,
    x: ArrayLike,
    args: object = (),
    jac: object = True,
    *,
    tolerance: float | None = None,
    every: bool = False,
) -> GradientCheck:
    r"""Compare a gradient with central differences of its function.

    Parameters
    ----------
    fun : callable
        As for `adaptopt.minimize`: ``fun(x, *args) -> (value, gradient)``, a problem of
        `adaptopt.problems`, a function compiled with `numba.njit` that writes its gradient, or
        ``fun(x, *args) -> value`` with ``jac``. For a function of a batch, such as
        `adaptopt.minimize_finite_sum` takes, pass the batch as the first of ``args``.
    x : array_like
        The point, of any shape. It is checked in float64. Choose one that is no kink and no
        minimum, with different entries: a random one, say. At 0 many errors do not show.
    args : tuple
        Extra arguments of ``fun`` and ``jac``.
    jac : callable or True, default True
        ``jac(x, *args) -> gradient``, or True if ``fun`` gives the gradient. None is True.
    tolerance : float, optional
        Largest relative error that counts as agreement. By default 1e-5; 1e-2 for problems over
        float32 rows, which compute in float32.
    every : bool, default False
        Check every coordinate of ``x``, also if it has more than 256; see Notes.

    Returns
    -------
    GradientCheck
        ``ok, error, worst, gradient, difference``: whether they agree, the largest relative error,
        the coordinate where it is, and both derivatives there.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above, or ``fun(x)`` is not finite.

    Notes
    -----
    The difference for a coordinate is :math:`d_i = (f(x + h_i e_i) - f(x - h_i e_i)) / 2 h_i` with
    :math:`h_i = \epsilon^{1/3} s_i`, where :math:`s_i` is the size of :math:`x_i`, but at least the
    root mean square of ``x``, or 1 if ``x`` is 0. A coordinate that does not agree is tried again
    with steps 16 and 256 times as short and as long, and its smallest error counts. So a kink near
    ``x`` and a scale unlike that of ``x`` do no harm. The error is relative to the larger of
    :math:`|g_i|` and :math:`|d_i|`. If both are so small that rounding errors of ``fun`` hide them,
    it is relative to the smallest number that could be checked, and the coordinate counts as
    ``hidden``. If all are, ``ok`` is False: try another point, or a function without its constant.

    Up to 256 coordinates are checked one by one. Of more, the 16 with the largest gradient are, 16
    random ones, and derivatives along 16 random directions, the same in each call. If such a
    direction shows an error, halving it finds a coordinate that has the error. A small error in few
    of many coordinates can go unnoticed, unless ``every`` is True.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> def wrong(x):
    ...     return x @ x, np.array([2.0, 2.0, 3.0]) * x  # the last entry is wrong
    >>> ao.check_gradient(wrong, [1.0, 2.0, 4.0])
    <GradientCheck: DIFFERS, largest relative error 0.33 at x[2]: gradient 12, differences 8>
    >>> p = ao.problems.Logistic(np.array([[1.0, 2.0], [3.0, -1.0]]), [1, -1])
    >>> ao.check_gradient(p, [0.5, -0.25]).ok
    True
    """
    if isinstance(jac, str) or not (jac is None or callable(jac) or jac in (True, 1)):
        raise ValueError(f"jac is {jac!r}, expected a callable, or True if fun gives the gradient")
    if backend_of(x) is not HOST:
        raise TypeError("x is a CUDA array, expected one on the host")
    narrow = isinstance(fun, Problem) and fun.A.dtype == np.float32
    if tolerance is None:
        tolerance = 1e-2 if narrow else 1e-5
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance!r}, expected 0 < tolerance < 1")
    point = new_point("x", x).astype(np.float32 if narrow else np.float64)
    if not point.size:
        raise ValueError(f"x has shape {point.shape}, expected at least one element")
    objective = Objective(fun, jac if callable(jac) else True, args, HostExchange(point), batch=())
    precision = float(np.finfo(np.float32 if narrow else np.float64).eps)
    check = _Comparison(objective, precision, tolerance)
    error, worst, difference = check.run(every)
    told = check.looked_at > check.hidden or not check.hidden
    index = tuple(int(i) for i in np.unravel_index(worst, point.shape))
    return GradientCheck(
        ok=error <= tolerance and told,
        error=error,
        worst=index[0] if len(index) == 1 else index,
        gradient=float(check.gradient[worst]),
        difference=difference,
        tolerance=float(tolerance),
        nfev=objective.nfev,
        hidden=check.hidden,
    )


class _Comparison:
    """A gradient at a point, and what differences say of it.

    Parameters
    ----------
    objective : Objective
        The function, at the point.
    precision : float
        Relative rounding error of its values.
    tolerance : float
        An error above it is looked into.
    """

    def __init__(self, objective: Objective, precision: float, tolerance: float) -> None:
        self._objective, self._x = objective, objective.flat.copy()
        self._precision, self._tolerance = precision, tolerance
        self._value, self.gradient = objective(self._x)
        self.looked_at = self.hidden = 0
        if not math.isfinite(self._value):
            raise ValueError(f"fun(x) is {self._value}, expected a finite value")
        objective.check_written(self._x)
        mean = _norm(self._x) / math.sqrt(self._x.size)
        self._steps = precision ** (1 / 3) * np.maximum(np.abs(self._x), mean or 1.0)

    def run(self, every: bool) -> tuple[float, int, float]:
        """Return the largest error, its coordinate, and the difference there."""
        n = self._x.size
        wrong = np.flatnonzero(~np.isfinite(self.gradient))
        if wrong.size:
            return math.inf, int(wrong[0]), self._along(wrong[:1], np.ones(1))[1]
        if every or n <= EACH:
            found = [self._at(i) for i in range(n)]
        else:
            rng = np.random.default_rng(0)
            largest = np.argsort(-np.abs(self.gradient))[:LARGEST]
            chosen = np.union1d(largest, rng.choice(n, LARGEST, replace=False))
            found = [self._at(int(i)) for i in chosen]
            for _ in range(DIRECTIONS):
                signs = rng.choice([-1.0, 1.0], n)
                if self._along(np.arange(n), signs)[0] > self._tolerance:
                    found.append(self._at(self._halve(signs)))
        return max(found, key=lambda each: each[0])

    def _at(self, i: int) -> tuple[float, int, float]:
        error, difference = self._along(np.array([i]), np.ones(1))
        return error, i, difference

    def _halve(self, signs: np.ndarray) -> int:
        """Return a coordinate to which the error along a direction leads."""
        places = np.arange(signs.size)
        while places.size > 1:
            halves = np.array_split(places, 2)
            errors = [self._along(half, signs[half], relative=False)[0] for half in halves]
            places = halves[int(errors[1] > errors[0])]
        return int(places[0])

    def _along(
        self, places: np.ndarray, signs: np.ndarray, relative: bool = True
    ) -> tuple[float, float]:
        """Return the error along steps of some coordinates, and the derivative by differences.

        The derivative is that along the vector of the steps, by length.
        """
        best, length = (math.inf, math.nan), math.nan
        floor = self._precision * abs(self._value) / self._tolerance
        for sizes in self._sizes(places):
            up, down = self._x.copy(), self._x.copy()
            up[places] += signs * sizes
            down[places] -= signs * sizes
            # What the steps are in floating point.
            steps = (up[places].astype(float) - down[places]) / 2
            # What rounding hides at the first step counts for all: a shorter one hides more.
            first, length = not length > 0, _norm(steps)
            floor = floor / length if first else floor
            with np.errstate(all="ignore"):
                above, below = (self._objective(at)[0] for at in (up, down))
                difference = (above - below) / (2 * length)
            parts = self.gradient[places] * (steps / length)
            error = abs(math.fsum(parts) - difference)
            if relative:
                error /= max(_norm(parts), abs(difference), floor, 1e-300)
            if error < best[0]:
                best = error, difference
            if not relative or best[0] <= self._tolerance:
                break
        if relative and (size := _norm(self.gradient[places])) > 0.0:
            self.looked_at += 1
            larger = max(size, abs(best[1]))
            self.hidden += best[0] <= self._tolerance and best[0] * floor > ROUGH * larger
        return best

    def _sizes(self, places: np.ndarray) -> Iterator[np.ndarray]:
        """Yield sizes of steps to try, of the coordinates at some places."""
        steps = self._steps[places]
        yield from (factor * steps for factor in FACTORS)
        own = self._precision ** (1 / 3) * np.abs(self._x[places], dtype=float)
        if own.min() > 0 and (own < steps).any():
            yield own


def _norm(numbers: np.ndarray) -> float:
    """Return the Euclidean norm; no square overflows."""
    most = float(np.abs(numbers).max())
    return most * float(np.linalg.norm(numbers / most)) if 0 < most < math.inf else most
