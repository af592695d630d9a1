"""Exchange arrays between a run on a CUDA device and the user's function, without waiting."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, demand_finite, storage
from . import batches, looks
from .arrays import empty, flat_view, moved, on_host, rows_in_words, write
from .gauge import Value
from .launch import device_of
from .libraries import copied, current_stream, detached, dtype_of, is_on_device, seen_as
from .step import fill

_UNASKED = "nothing is copied between host and device unasked"


class DeviceExchange:
    """Passes the iterate of a run to ``fun`` without a copy, and accepts results on the device.

    It has the methods of `objectives.exchange.Exchange`.

    Parameters
    ----------
    x0 : CUDA array
        The starting point; the iterate is a copy of its kind.
    backend : Backend
        The backend of the device.
    read_number : callable
        ``read_number(name, value)`` reads a value that a function returns on the host.

    Attributes
    ----------
    x : CUDA array
        The iterate of the run, of the library of ``x0``.
    seen, flat : CUDA array
        Numba's view of it, and a flat one, bound to the stream on which all that belongs to the run
        is to go.
    """

    on_device = True

    def __init__(
        self, x0: Array, backend: Any, read_number: Callable[[str, object], float]
    ) -> None:
        dtype = dtype_of(x0)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"x0 has dtype {dtype}, expected float32 or float64 on a CUDA device")
        self.backend, self._read_number = backend, read_number
        self.x = x = copied("x0", x0)
        self.shape = tuple(x.shape)
        self.flat = flat_view("x0", x, writable=True, stream=current_stream(x))
        self.seen = self.flat.reshape(*self.shape).bind(self.flat.stream)
        if not backend.is_finite(self.flat):
            demand_finite("x0", backend.to_host(self.seen))

    def point(self, flat: Array, writable: bool) -> Array:
        """Return a point in the form for ``fun``: the iterate itself, or a copy of another."""
        return self.x if flat is self.flat else self.shown(flat)

    def shown(self, flat: Array) -> Array:
        """Return a copy of a flat array, of the library and shape of ``x0``."""
        return copied("x0", self.x, flat)

    def shaped(self, g: Array) -> Array:
        """Return a flat gradient with the shape of the iterate."""
        return g.reshape(*self.shape).bind(g.stream)

    def value(self, name: str, returned: Array) -> Value:
        """Read the value that the function ``name`` returned."""
        returned = detached(returned)
        if not is_on_device(returned):
            return Value(self._read_number(name, returned), None)
        size = int(np.prod(returned.shape))
        if size != 1:
            raise ValueError(
                f"{name} returned a value of shape {tuple(returned.shape)}, expected one number"
            )
        seen = flat_view(f"the value of {name}", returned).bind(self.flat.stream)
        return Value(storage(seen), seen.dtype.name)

    def gradient(self, returned: Array) -> Array:
        """Read a gradient, as a flat array."""
        returned = detached(returned)
        if not is_on_device(returned):
            raise TypeError(
                f"the gradient is a NumPy array, expected a CUDA array like params: {_UNASKED}"
            )
        seen = flat_view("the gradient", returned, like=self.seen)
        return seen.bind(self.flat.stream)

    def words_for(self, returned: object) -> str:
        """Return a value's text for error messages, without waiting for a CUDA array."""
        return f"a {type(returned).__name__}"

    def array(self, name: str, given: Array) -> Rows:
        """Read an array of rows of data."""
        given = detached(given)
        if not is_on_device(given):
            sparse = ": sparse rows are taken on the host" if hasattr(given, "tocsr") else ""
            raise TypeError(
                f"{name} is a {type(given).__name__}, expected a CUDA array of rows like x0{sparse}"
            )
        if not len(given.shape):
            raise TypeError(f"{name} is one number, expected an array of at least one dimension")
        words, width = rows_in_words(name, given, self.flat)
        return Rows(given, words, width)

    def rows(
        self, n: int, arrays: tuple[Rows, ...] | None, numbers: np.ndarray | None = None
    ) -> DeviceRows:
        """Return the gatherer of batches of rows; see `DeviceRows`."""
        return DeviceRows(self.x, self.flat, n, arrays, numbers)

    def mean(self) -> DeviceMean:
        """Return the accumulator of losses and gradients of batches."""
        return DeviceMean(self.flat)


class Rows(NamedTuple):
    """An array of rows in the form that the gathering kernel takes."""

    array: Array
    """The user's array."""
    words: Array
    """A flat view as integers."""
    width: int
    """Number of these integers per row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return tuple(self.array.shape)


class DeviceRows:
    """Gathers the rows of a batch, or their numbers, on the device.

    Parameters
    ----------
    x : CUDA array
        The iterate. Row numbers are passed as arrays of its library.
    flat : CUDA array
        The flat view of the iterate.
    n : int
        Number of rows.
    arrays : tuple of Rows, or None
        The data, or None if ``fun`` takes row numbers.
    numbers : ndarray, optional
        The numbers of the rows, if they are not 0 to ``n - 1``.
    """

    def __init__(
        self,
        x: Array,
        flat: Array,
        n: int,
        arrays: tuple[Rows, ...] | None,
        numbers: np.ndarray | None,
    ) -> None:
        self.n, self.arrays = n, arrays
        self._x, self._flat = x, flat
        self._natural = self._there(np.arange(n) if numbers is None else numbers)
        # The order of the epoch, on the host and on the device.
        self._order: tuple[np.ndarray | None, Array] = (None, self._natural)
        self._room = 0
        self._buffers: list[Rows] = []

    def _there(self, numbers: np.ndarray) -> Array:
        return moved(np.ascontiguousarray(numbers, np.int64), self._flat)

    def take(self, order: np.ndarray | None, start: int, count: int) -> tuple[Array, ...]:
        """Return the arguments of ``fun`` for rows of an order, or of the natural order."""
        if self._order[0] is not order:
            self._order = (order, self._natural if order is None else self._there(order))
        numbers = self._order[1]
        self._make_room(count)
        if self.arrays is None:
            place = self._buffers[0]
            write(place.words[:count], numbers[start : start + count])
            return (place.array[:count],)
        for place, rows in zip(self._buffers, self.arrays, strict=True):
            batches.gather_rows(place.words, rows.words, numbers, start, count, rows.width)
        return tuple(place.array[:count] for place in self._buffers)

    def _make_room(self, count: int) -> None:
        """Make the buffers for gathered batches, once for each size."""
        if count <= self._room:
            return
        if self.arrays is None:
            numbers = empty(count, np.int64, self._flat)
            self._buffers = [Rows(seen_as(numbers, self._x), numbers, 1)]
        else:
            self._buffers = [_room_for(rows, count, self._flat) for rows in self.arrays]
        self._room = count


class DeviceMean:
    """Sums losses and gradients of batches in float64. Only `result` waits for the device."""

    def __init__(self, flat: Array) -> None:
        self._flat = flat
        self._gradient = empty(flat.size, np.float64, flat)
        fill(self._gradient, 0.0)
        self._blank = np.zeros(looks.FIGURES, np.int64)
        self._blank[looks.NONFINITE] = looks.NEVER
        self._figures = moved(self._blank, flat)
        self._rows = self._taken = 0

    def is_finite(self, value: Value, g: Array) -> bool:
        """Return whether a loss and its gradient are finite. This waits for the device."""
        looks.watch(value.form, value.number, g, 0, self._figures)
        if on_host(self._figures)[looks.NONFINITE] == looks.NEVER:
            return True
        write(self._figures[: looks.LOSSES], self._blank[: looks.LOSSES])
        return False

    def add(self, value: Value, g: Array, rows: int) -> None:
        """Add a mean loss over some rows, and its gradient."""
        self._taken += 1
        with device_of(self._flat):
            batches.count_kernel(value.form).launch(
                *((1, 1), self._flat.stream, value.number, rows, self._taken, True, self._figures)
            )
        batches.accumulate(self._gradient, g, rows)
        self._rows += rows

    def result(self) -> tuple[float, Array, int]:
        """Return the mean loss, its gradient, and the number of rows."""
        if not self._rows:
            fill(self._gradient, math.nan)
            return math.nan, self._gradient, 0
        batches.divide(self._gradient, self._rows)
        sums = on_host(self._figures)[looks.LOSSES :].view(np.float64)
        return float(sums[self._taken % 2]) / self._rows, self._gradient, self._rows


def _room_for(rows: Rows, count: int, flat: Array) -> Rows:
    """Return a buffer for ``count`` rows, of the same library as an array."""
    words = empty(count * rows.width, rows.words.dtype, flat)
    array = rows.array
    shape = (count, *array.shape[1:])
    own = words.view(dtype_of(array)).reshape(*shape).bind(flat.stream)
    return Rows(seen_as(own, array), words, rows.width)
