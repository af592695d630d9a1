"""What passes between a run and the user's function: points there, values and gradients back."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..arrays import Array, Matrix, check_csr, read_array, read_real
from ..placement import HOST, Backend, demand_host

# What a sum is over: the rows of an array or of several, their number, or None beside a problem.
Data: TypeAlias = "Matrix | tuple[Matrix, ...] | int | None"

UNASKED = "x0 lies there, and nothing is copied between host and device unasked"


class RowsOfData(Protocol):
    """The rows of data that batches are taken from.

    Attributes
    ----------
    n : int
        How many there are.
    arrays : tuple or None
        The arrays of data; None if ``fun`` takes row numbers.
    """

    n: int
    arrays: tuple[Array, ...] | None

    def take(self, order: np.ndarray | None, start: int, count: int) -> tuple[Array, ...]:
        """Return what ``fun`` takes of so many rows of an order, or of their own order."""


class Mean(Protocol):
    """A mean over rows, to which batches are added."""

    def is_finite(self, value: Any, g: Array) -> bool:
        """Tell whether a loss and its gradient are finite."""

    def add(self, value: Any, g: Array, rows: int) -> None:
        """Add a mean loss over so many rows, and its gradient."""

    def result(self) -> tuple[float, Array, int]:
        """Return mean loss and gradient, and of how many rows they are."""


class Exchange(Protocol):
    """Hands points to the user's functions, and reads what they return.

    Attributes
    ----------
    backend : Backend
        What works where the iterate lies.
    on_device : bool
        Whether that is a CUDA device.
    x, flat, shape
        The iterate, a flat view of it, and its shape.
    """

    backend: Backend
    on_device: bool
    x: Array
    flat: Array
    shape: tuple[int, ...]

    def point(self, flat: Array, writable: bool) -> Array:
        """Return a flat point as ``fun`` takes it."""

    def shown(self, flat: Array) -> Array:
        """Return a copy of a flat array, of the kind and shape of ``x0``."""

    def shaped(self, g: Array) -> Array:
        """Return a flat gradient in the shape of the iterate."""

    def value(self, name: str, returned: object) -> Any:
        """Read the value that the function ``name`` returned."""

    def gradient(self, returned: Array) -> Array:
        """Read a gradient, as a flat array."""

    def words_for(self, returned: object) -> str:
        """Return how an error names what was returned."""

    def array(self, name: str, given: Matrix) -> Array:
        """Read an array of rows of data."""

    def rows(
        self, n: int, arrays: tuple[Array, ...] | None, numbers: np.ndarray | None = None
    ) -> RowsOfData:
        """Return what takes batches of rows: of arrays, or the numbers of rows."""

    def mean(self) -> Mean:
        """Return what adds up the losses and gradients of batches."""


class HostExchange:
    """Copies each point for ``fun``, as SciPy does, and reads NumPy's numbers; see `Exchange`."""

    backend, on_device = HOST, False

    def __init__(self, x: np.ndarray) -> None:
        self.shape, self._size, self._dtype = x.shape, x.size, x.dtype
        self.x, self.flat = x, x.reshape(-1)

    def point(self, flat: np.ndarray, writable: bool) -> np.ndarray:
        """Return a copy: users keep and change what they are given."""
        point: np.ndarray = flat.reshape(self.shape).copy()
        point.flags.writeable = writable
        return point

    def shown(self, flat: np.ndarray) -> np.ndarray:
        """Return a copy of a flat array in the shape of ``x0``."""
        copied: np.ndarray = flat.reshape(self.shape).copy()
        return copied

    def shaped(self, g: np.ndarray) -> np.ndarray:
        """Return a flat gradient in the shape of the iterate."""
        shaped: np.ndarray = g.reshape(self.shape)
        return shaped

    def value(self, name: str, returned: object) -> float:
        """Read the value that the function ``name`` returned."""
        return read_value(name, returned)

    def gradient(self, returned: Array) -> np.ndarray:
        """Read a gradient, as a flat array of the dtype of the iterate."""
        array = returned
        if type(array) is not np.ndarray or array.dtype != self._dtype:
            demand_host("the gradient", returned, UNASKED)
            array = read_real("the gradient", returned)
        if array.size != self._size or (
            array.shape != self.shape and max(array.shape, default=1) != self._size
        ):
            raise ValueError(f"the gradient has shape {array.shape}, expected {self.shape}")
        return np.ascontiguousarray(array, self._dtype).reshape(-1)

    def words_for(self, returned: object) -> str:
        """Return how an error names what was returned."""
        return shortened(returned)

    def array(self, name: str, given: Matrix) -> Matrix:
        """Read an array of rows of data: a NumPy array, or a sparse one in CSR."""
        from scipy.sparse import issparse

        if issparse(given):
            if given.format in ("csr", "csc"):
                check_csr(name, given if given.format == "csr" else given.T)
            return given.tocsr()
        demand_host(name, given, UNASKED)
        array = read_array(name, given)
        if not array.ndim:
            raise TypeError(
                f"{name} is {array.item()!r}, expected an array of at least one dimension"
            )
        return array

    def rows(
        self, n: int, arrays: tuple[Array, ...] | None, numbers: np.ndarray | None = None
    ) -> HostRows:
        """Return what takes batches of rows; see `HostRows`."""
        return HostRows(n, arrays, numbers)

    def mean(self) -> HostMean:
        """Return what adds up the losses and gradients of batches."""
        return HostMean(self._size)


class HostRows:
    """Takes rows by NumPy's indexing.

    Parameters
    ----------
    n : int
        Number of rows.
    arrays : tuple or None
        The data, or None if ``fun`` takes row numbers.
    numbers : ndarray, optional
        The numbers of the rows, if they are not 0 to ``n - 1``.
    """

    def __init__(
        self, n: int, arrays: tuple[Array, ...] | None, numbers: np.ndarray | None = None
    ) -> None:
        self.n, self.arrays, self._numbers = n, arrays, numbers

    def take(self, order: np.ndarray | None, start: int, count: int) -> tuple[Array, ...]:
        """Return what ``fun`` takes of so many rows of an order, or of their own order."""
        stop = start + count
        # A copy: what fun does to it stays there.
        rows = np.arange(start, stop) if order is None else order[start:stop].copy()
        if self.arrays is not None:
            return tuple(array[rows] for array in self.arrays)
        return (rows if self._numbers is None else self._numbers[rows],)


class HostMean:
    """Adds up losses and gradients of batches in float64."""

    def __init__(self, size: int) -> None:
        self._total, self._rows, self._gradient = 0.0, 0, np.zeros(size)

    def is_finite(self, value: float, g: np.ndarray) -> bool:
        """Tell whether a loss and its gradient are finite."""
        return math.isfinite(value) and bool(np.isfinite(g).all())

    def add(self, value: float, g: np.ndarray, rows: int) -> None:
        """Add a mean loss over so many rows, and its gradient."""
        self._total += value * rows
        self._rows += rows
        with np.errstate(invalid="ignore", over="ignore"):
            self._gradient += g * np.float64(rows)

    def result(self) -> tuple[float, np.ndarray, int]:
        """Return mean loss and gradient, and of how many rows they are."""
        if not self._rows:
            return math.nan, np.full(self._gradient.shape, math.nan), 0
        return self._total / self._rows, self._gradient / self._rows, self._rows


def read_value(name: str, value: Any) -> float:
    """Return what the function ``name`` returned, if it is one real number."""
    if isinstance(value, float):
        return float(value)
    returned = f"{name} returned {shortened(value)}, expected"
    demand_host(f"what {name} returned", value, UNASKED)
    is_list = isinstance(value, list) and any(np.ndim(part) for part in value)
    if (is_list or isinstance(value, tuple)) and len(value) > 1:
        pass_jac = ": if it returns its gradient too, pass jac=True" * (name == "fun")
        raise TypeError(f"{returned} a scalar{pass_jac}")
    array = read_array(f"what {name} returned", value)
    if array.size != 1:
        more = ""
        if name == "fun":
            more = (
                " The user-provided objective function must return a scalar value. Of residuals r, "
                "return r @ r / 2 and the gradient J.T @ r; adaptopt.problems has linear ones."
            )
        raise ValueError(f"{returned} a scalar.{more}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{returned} a real number")
    return float(array.item())


def shortened(value: object) -> str:
    """Return a value's text, cut short if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
