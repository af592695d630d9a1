"""A finite sum on a CUDA device: rows gathered there, and what comes of them left there."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from .. import placement
from ..cuda import batches as cuda_epochs
from ..cuda import looks
from ..cuda.arrays import rows_in_words
from ..cuda.launch import device_of
from ..cuda.libraries import detached, dtype_of, seen_as
from .compiled import is_compiled
from .device_function import DeviceObjective, Value
from .finite_sum import cut, halved, is_problem


class Rows(NamedTuple):
    """An array of rows as the kernel that gathers them sees it."""

    array: Any
    """As the user gave it."""
    words: Any
    """Flat, in whole numbers."""
    width: int
    """How many of them make a row."""


class DeviceSum:
    """Mean loss and gradient over rows of data on a device.

    Parameters
    ----------
    objective : DeviceObjective
        Takes a point and the arrays of a batch.
    arrays : sequence of Rows, or None
        The data, or None where ``fun`` takes row numbers.
    n : int
        Number of rows.
    numbers : ndarray, optional
        The numbers of the rows, where they are not all there are.
    """

    problem = None

    def __init__(
        self,
        objective: DeviceObjective,
        arrays: tuple[Rows, ...] | None,
        n: int,
        numbers: np.ndarray | None = None,
    ) -> None:
        self.objective, self.n, self.arrays = objective, n, arrays
        natural = np.arange(n) if numbers is None else numbers
        self._natural = self._there(natural)
        # The order of the epoch, there; it is that of the array beside it.
        self._order: tuple[Any, Any] = (None, self._natural)
        self._room = 0
        self._buffers: list[Rows] = []

    def _there(self, numbers: np.ndarray) -> Any:
        return placement.moved(np.ascontiguousarray(numbers, np.int64), self.objective.flat)

    def over(self, x: Any, order: np.ndarray | None, start: int, count: int) -> tuple[Value, Any]:
        """Return the mean loss over rows of an order, or of their own, and its flat gradient."""
        if self._order[0] is not order:
            numbers = self._natural if order is None else self._there(order)
            self._order = (order, numbers)
        return self.objective(x, *self._take(self._order[1], start, count))

    def _take(self, order: Any, start: int, count: int) -> tuple[Any, ...]:
        self._make_room(count)
        if self.arrays is None:
            place = self._buffers[0]
            placement.copy(place.words[:count], order[start : start + count])
            return (place.array[:count],)
        for place, rows in zip(self._buffers, self.arrays, strict=True):
            cuda_epochs.gather_rows(place.words, rows.words, order, start, count, rows.width)
        return tuple(place.array[:count] for place in self._buffers)

    def _make_room(self, count: int) -> None:
        """Make the buffers that batches are gathered into, once for all of a size."""
        if count <= self._room:
            return
        flat = self.objective.flat
        if self.arrays is None:
            numbers = placement.empty(count, np.int64, flat)
            self._buffers = [Rows(seen_as(numbers, self.objective.x), numbers, 1)]
        else:
            self._buffers = [_room_for(rows, count, flat) for rows in self.arrays]
        self._room = count

    def mean(self, x: Any, size: int, omit: bool) -> tuple[float, Any, int]:
        """Return mean loss and gradient over all rows in their order, and how many are left out.

        Sums are in float64, of so many rows at a time. With ``omit``, rows whose loss or gradient
        is not finite are left out.
        """
        flat = self.objective.flat
        point = self.objective.shown(x)
        gradient = placement.empty(flat.size, np.float64, flat)
        placement.fill(gradient, 0.0)
        blank = np.zeros(looks.FIGURES, np.int64)
        blank[looks.STRANGE] = looks.NEVER
        figures = placement.moved(blank, flat)
        count = taken = 0
        parts = cut(self.n, size)
        while parts:
            start, stop = parts.pop()
            rows = stop - start
            value, g = self.objective(point, *self._take(self._natural, start, rows))
            if omit:
                looks.watch(value.form, value.number, g, 0, figures)
                if placement.on_host(figures)[looks.STRANGE] != looks.NEVER:
                    placement.copy(figures[: looks.LOSSES], blank[: looks.LOSSES])
                    parts += halved(start, stop)
                    continue
            taken += 1
            with device_of(flat):
                kernel = cuda_epochs.count_kernel(value.form)
                kernel.launch((1, 1), flat.stream, value.number, rows, taken, True, figures)
            cuda_epochs.accumulate(gradient, g, rows)
            count += rows
        if not count:
            placement.fill(gradient, math.nan)
            return math.nan, gradient, self.n
        cuda_epochs.divide(gradient, count)
        sums = placement.on_host(figures)[looks.LOSSES :].view(np.float64)
        return float(sums[taken % 2]) / count, gradient, self.n - count


def _room_for(rows: Rows, count: int, flat: Any) -> Rows:
    """Return place for so many rows, of the kind of an array."""
    words = placement.empty(count * rows.width, rows.words.dtype, flat)
    array = rows.array
    shape = (count, *array.shape[1:])
    own = words.view(dtype_of(array)).reshape(*shape).bind(flat.stream)
    return Rows(seen_as(own, array), words, rows.width)


def read_device_sum(fun: Any, data: Any, args: Any, x: Any) -> DeviceSum:
    """Return ``fun`` over ``data`` as one sum on the device, or say what does not fit."""
    if data is None:
        what = "a problem of data on the host" if is_problem(fun) else f"{fun!r} with data None"
        raise TypeError(
            f"fun is {what} with x0 a CUDA array, expected a function, and data: CUDA arrays or a "
            "number of rows"
        )
    objective = DeviceObjective(fun, True, args, x)
    if _is_int(data):
        if data < 1:
            raise ValueError(f"data is {data}, expected at least 1 row")
        return DeviceSum(objective, None, int(data))
    return _sum_of_arrays("data", objective, data)


def read_device_validation(validation: Any, total: DeviceSum, fun: Any, args: Any, x: Any) -> Any:
    """Return the validation: a callable as it is, data as a sum, or None."""
    if validation is None:
        return None
    if is_problem(validation) or is_compiled(validation):
        raise TypeError(
            f"validation is {validation!r} with x0 a CUDA array, expected a Python function, or "
            "data like data"
        )
    if callable(validation):
        return validation
    objective = DeviceObjective(fun, True, args, x)
    if total.arrays is not None:
        found = _sum_of_arrays("validation", objective, validation)
        assert found.arrays is not None
        if len(found.arrays) != len(total.arrays):
            raise ValueError(
                f"validation has {len(found.arrays)} arrays, expected {len(total.arrays)} like data"
            )
        return found
    if placement.is_on_device(validation):
        raise TypeError("validation is a CUDA array of row numbers, expected one on the host")
    numbers = np.asarray(validation)
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
        raise TypeError(
            f"validation is {validation!r}, expected a callable or an array of row numbers for "
            "fun, as data is a number of rows"
        )
    return DeviceSum(objective, None, numbers.size, numbers)


def _sum_of_arrays(name: str, objective: DeviceObjective, data: Any) -> DeviceSum:
    """Return the sum over the rows of one array or of several."""
    if isinstance(data, tuple | list):
        arrays = [_read_rows(f"{name}[{k}]", a, objective.flat) for k, a in enumerate(data)]
    else:
        arrays = [_read_rows(name, data, objective.flat)]
    if not arrays:
        raise ValueError(f"{name} is (), expected at least one array")
    lengths = [rows.array.shape[0] for rows in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name} has arrays of {lengths} rows, expected as many in each")
    if not lengths[0]:
        raise ValueError(f"{name} has 0 rows, expected at least 1")
    return DeviceSum(objective, tuple(arrays), int(lengths[0]))


def _read_rows(name: str, array: Any, flat: Any) -> Rows:
    array = detached(array)
    if not placement.is_on_device(array):
        sparse = ": sparse rows are taken on the host" if issparse(array) else ""
        raise TypeError(
            f"{name} is a {type(array).__name__}, expected a CUDA array of rows like x0{sparse}"
        )
    if not len(array.shape):
        raise TypeError(f"{name} is one number, expected an array of at least one dimension")
    return Rows(array, *rows_in_words(name, array, flat))


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
