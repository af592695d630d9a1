"""The rounds of online optimisation: points, losses and gradients, or their sums."""

from __future__ import annotations

import math
from collections import deque
from numbers import Real
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Matrix, check_csr, read_array, read_real
from ..prox.base import Box
from .certificate import Sums

# The regret is recorded at rounds whose ratio is at least this: four records per doubling. They are
# evenly spaced in the logarithm, as the fit of an exponent needs, and take little memory.
SPACING = 2.0**0.25


class PlayedRows(Protocol):
    """The rounds of a run over rows of data, known again when they are over."""

    @property
    def rounds(self) -> int:
        """Number of rounds."""

    def losses(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the sum of the losses of the rounds at a point, and its gradient."""


class Rounds:
    """Sums over the points, losses and gradients of all rounds, and the regret at some rounds.

    The parameters are those of `Tracker`, which computes the regret.
    """

    def __init__(
        self,
        domain: Box | None = None,
        *,
        lr: float | None = None,
        window: int = 0,
        keep: bool = False,
        points: bool | None = None,
    ) -> None:
        if domain is not None and not isinstance(domain, Box):
            raise TypeError(f"domain is {domain!r}, expected a Box such as Box(-1, 1), or None")
        self.domain = domain
        self.lr = None if lr is None else read_positive("lr", lr)
        if isinstance(window, bool) or not isinstance(window, int) or window < 0:
            raise ValueError(f"window is {window!r}, expected a whole number >= 0")
        if not (points is None or isinstance(points, bool | np.bool_)):
            raise TypeError(f"points is {points!r}, expected True, False or None")
        self._keep, self._points = bool(keep), None if points is None else bool(points)
        self._kept: list[tuple[np.ndarray, float, np.ndarray]] = []
        self._window: deque[float] = deque(maxlen=window)
        self._sums: Sums | None = None
        self._shape: tuple[int, ...] = ()
        self._bounds: tuple[np.ndarray, np.ndarray] = (np.empty(0), np.empty(0))
        self._compared, self._comparator = 0, 0.0
        self._course: list[tuple[int, float, float]] = []
        # Rounds that runs have played, as functions of the comparator.
        self._runs: list[PlayedRows] = []

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_runs": []}  # they hold the functions and data of the user

    def __repr__(self) -> str:
        if self._sums is None:
            return f"<{type(self).__name__}: no rounds>"
        loss = f"mean loss {self.cumulative_loss / self.rounds:.6g}"
        return (
            f"<{type(self).__name__}: {self.rounds} rounds, points of shape {self._shape}, {loss}>"
        )

    def play(self, x: ArrayLike, f: float, g: Matrix, *, comparator: float | None = None) -> None:
        """Add a round.

        Parameters
        ----------
        x : array_like
            The point played: finite, with the same shape in all rounds.
        f : float
            The loss at ``x``.
        g : array_like or sparse array
            A (sub)gradient of the loss at ``x``, of the same shape, or one row of a sparse array.
            With ``points=False`` a sparse round costs its entries, not the size of ``x``.
        comparator : float, optional
            The loss of the comparator in this round: ``f_t(u)`` if it is fixed, ``f_t(u_t)`` if it
            moves.

        Raises
        ------
        ValueError
            If an argument is not finite or has another shape. The tracker is unchanged then.
        """
        f = read_number("f", f)
        lost = None if comparator is None else read_number("comparator", comparator)
        entries = None
        if hasattr(g, "tocsr"):
            point = read_real("x", x)
            entries = read_entries("g", g, point.shape)
        if entries is not None and self._points is False and self._sums and not self._keep:
            self._check_shape("x", point)
            if not np.isfinite(point.reshape(-1)[entries[0]]).all():
                raise ValueError("x has entries that are not finite, expected finite numbers")
            self._sums.add_entries(np.ascontiguousarray(point), f, *entries)
        else:
            x = read_finite("x", x)
            if entries is None:
                g = read_finite("g", g)
            else:
                g = np.zeros(x.shape)
                g.reshape(-1)[entries[0]] = entries[1]
            shape = x.shape if self._sums is None else self._shape
            self._check_shape("x", x, shape)
            self._check_shape("g", g, shape)
            self._begin(x, self._points is not False).add(x, f, g)
            if self._keep:
                self._kept.append((x.copy(), f, g.copy()))
        if lost is not None:
            self._compared += 1
            self._comparator += lost
        self._window.append(math.nan if lost is None else f - lost)
        self._note()

    def _begin(self, x: np.ndarray, points: bool) -> Sums:
        """Return the sums, which begin at ``x`` if no round has been played."""
        if self._sums is None:
            self._bounds, self._shape = self._read_bounds(x.shape), x.shape
            self._sums = Sums.before(x)
        if not points:
            self._sums.leave_out_points()
        return self._sums

    def _note(self) -> None:
        """Record the regret if a record is due."""
        if self._until_due() <= 0:
            self._course.append(self._now())

    def _until_due(self) -> int:
        """Return the number of rounds until the next record of the regret."""
        due = math.ceil(SPACING * self._course[-1][0]) if self._course else 1
        return due - self.rounds

    # -- sums --------------------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """T, the number of rounds played."""
        return 0 if self._sums is None else self._sums.rounds

    @property
    def cumulative_loss(self) -> float:
        """The sum of the losses ``f_t(x_t)`` over all rounds."""
        return 0.0 if self._sums is None else self._sums.loss

    @property
    def average(self) -> np.ndarray:
        """The mean of the points played, if they were all summed: see ``points``."""
        return self._with_points("average").average().reshape(self._shape)

    @property
    def gradient_sum(self) -> np.ndarray:
        """The sum of the gradients, z."""
        return np.array(self._played().gradient_sum.reshape(self._shape))

    @property
    def squared_gradients(self) -> np.ndarray:
        """The sum of the squared gradients of each coordinate: AdaGrad's accumulator G."""
        return np.array(self._played().squared_gradients.reshape(self._shape))

    @property
    def points(self) -> np.ndarray:
        """All points played, along the first axis, with ``keep=True``."""
        return np.stack([x for x, _, _ in self._all()])

    @property
    def losses(self) -> np.ndarray:
        """All losses, with ``keep=True``."""
        return np.array([f for _, f, _ in self._all()])

    @property
    def gradients(self) -> np.ndarray:
        """All gradients, along the first axis, with ``keep=True``."""
        return np.stack([g for _, _, g in self._all()])

    # -- reading -----------------------------------------------------------------------------------

    def _played(self) -> Sums:
        if self._sums is None:
            raise ValueError("no round has been played yet, expected at least one")
        return self._sums

    def _with_points(self, name: str) -> Sums:
        """Return the sums if those of the points are complete, for what needs them."""
        sums = self._played()
        if not sums.has_points:
            why = "points is False" if self._points is False else "a run did not sum its points"
            raise ValueError(
                f"{name} needs the points of all rounds, but {why}, expected Tracker(points=True)"
            )
        return sums

    def _check_shape(
        self, name: str, array: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> None:
        shape = self._shape if shape is None else shape
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")

    def _all(self) -> list[tuple[np.ndarray, float, np.ndarray]]:
        if not self._keep:
            raise ValueError("keep is False, expected Tracker(keep=True)")
        self._played()
        return self._kept

    def _read_bounds(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the domain's bounds, flat."""
        lo, hi = (-np.inf, np.inf) if self.domain is None else (self.domain.lo, self.domain.hi)
        try:
            low, high = (np.broadcast_to(bound, shape).flatten() for bound in (lo, hi))
        except ValueError:
            raise ValueError(
                f"domain has bounds of shapes {np.shape(lo)} and {np.shape(hi)}, expected shapes "
                f"that broadcast to {shape} like x"
            ) from None
        return low, high

    def _read_point(self, u: ArrayLike) -> np.ndarray:
        point = read_finite("u", u)
        if point.shape != self._shape:
            raise ValueError(f"u has shape {point.shape}, expected {self._shape} like x")
        return point

    def _now(self) -> tuple[int, float, float]:
        """Return the number of rounds, the regret and the linearised regret."""
        raise NotImplementedError


def read_entries(
    name: str, matrix: Matrix, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat places of the entries of a sparse array, and the entries as float64."""
    if matrix.shape not in (shape, (1, *shape)):
        raise ValueError(f"{name} has shape {matrix.shape}, expected {shape} like x, or one row")
    rows = matrix.tocsr()
    check_csr(name, rows)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    *row, column = rows.tocoo().coords
    places = column.astype(np.intp)
    if row:
        places += row[0].astype(np.intp) * matrix.shape[-1]
    return places, read_finite(name, rows.data[: places.size])


def read_finite(name: str, value: ArrayLike) -> np.ndarray:
    """Return an array of finite numbers as float64."""
    numbers: np.ndarray = read_real(name, value).astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} has entries that are not finite, expected finite numbers")
    return numbers


def read_number(name: str, value: ArrayLike) -> float:
    """Return a finite number as a float."""
    array = read_array(name, value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise TypeError(f"{name} is {value!r}, expected a number")
    number = float(array.item())
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, expected a finite number")
    return number


def read_positive(name: str, value: object) -> float:
    """Return a finite number > 0 as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}, expected a number > 0")
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number > 0")
    return number
