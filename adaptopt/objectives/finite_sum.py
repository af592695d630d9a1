"""A finite sum behind one call: mean loss and gradient at a flat point over some rows of data."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np

from ..arrays import check_csr, read_array
from ..placement import demand_host
from ..problems.problem import Problem
from .function import UNASKED, Objective

_Take = Callable[[np.ndarray], tuple[Any, ...]]


class FiniteSum:
    """Mean loss and gradient over rows.

    Parameters
    ----------
    objective : Objective
        Takes a flat point and what ``take`` returns.
    take : callable
        Turns row numbers into the arguments of ``fun``.
    n : int
        Number of rows.
    problem : object, optional
        What has its data with it, where that is what is summed.
    shared : bool
        Whether threads may share the rows of a batch of a problem.
    """

    def __init__(
        self,
        objective: Objective,
        take: _Take,
        n: int,
        problem: Any = None,
        shared: bool = False,
    ) -> None:
        self.objective, self.take, self.n = objective, take, n
        self.problem, self.shared = problem, shared

    def __call__(self, x: np.ndarray, rows: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss over rows and its flat gradient at the flat point ``x``."""
        return self.objective(x, *self.take(rows))

    def shares(self, rows: int) -> bool:
        """Tell whether threads may share the evaluation of so many rows."""
        return self.shared and isinstance(self.problem, Problem) and self.problem.shares(rows)

    def mean(self, x: np.ndarray, size: int, omit: bool) -> tuple[float, np.ndarray, int]:
        """Return mean loss and gradient over all rows in their order, and how many are left out.

        Sums are in float64, of so many rows at a time. With ``omit``, rows whose loss or gradient
        is not finite are left out.
        """
        total, count, gradient = 0.0, 0, np.zeros(x.shape)
        parts = cut(self.n, size)
        while parts:
            start, stop = parts.pop()
            rows = np.arange(start, stop)
            f, g = self(x, rows)
            if omit and not (math.isfinite(f) and np.isfinite(g).all()):
                parts += halved(start, stop)
                continue
            total += f * rows.size
            count += rows.size
            with np.errstate(invalid="ignore", over="ignore"):
                gradient += g * np.float64(rows.size)
        if not count:
            return math.nan, np.full(x.shape, math.nan), self.n
        return total / count, gradient / count, self.n - count


def cut(n: int, size: int) -> list[tuple[int, int]]:
    """Return the ends of parts of so many rows, the first part last: a stack of what is to do."""
    return [(start, min(start + size, n)) for start in range(0, n, size)][::-1]


def halved(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the halves of a part, likewise; none of a single row."""
    middle = (start + stop) // 2
    return [(middle, stop), (start, middle)] if middle > start else []


def is_problem(fun: Any) -> bool:
    """Tell whether ``fun`` has its data with it, as those of `adaptopt.problems` do."""
    return callable(getattr(fun, "batch", None)) and hasattr(fun, "__len__")


def read_sum(fun: Any, data: Any, args: Any, x: np.ndarray, shared: bool = False) -> FiniteSum:
    """Return ``fun`` over ``data`` as one sum, or say what does not fit."""
    if data is None:
        return _sum_of_problem("fun", fun, args, x, shared)
    if isinstance(fun, Problem):
        raise ValueError(f"data is {_kind(data)}, expected None: fun has its data with it")
    if _is_int(data):
        n = int(data)
        if n < 1:
            raise ValueError(f"data is {n}, expected at least 1 row")
        return FiniteSum(_of_numbers(fun, args, x), lambda rows: (rows,), n)
    return _sum_of_arrays("data", Objective(fun, True, args, x, "2-point", None), data)


def read_validation(
    validation: Any, total: FiniteSum, fun: Any, data: Any, args: Any, x: np.ndarray
) -> Any:
    """Return the validation: a callable as it is, data as a sum, or None."""
    if validation is None:
        return None
    if is_problem(validation):
        return _sum_of_problem("validation", validation, (), x)
    if callable(validation):
        return validation
    if data is None:
        raise TypeError(
            f"validation is {_kind(validation)}, expected a callable or a problem like fun"
        )
    if not _is_int(data):
        objective = Objective(fun, True, args, x, "2-point", None)
        found = _sum_of_arrays("validation", objective, validation)
        count, expected = (len(s.take(np.arange(0))) for s in (found, total))
        if count != expected:
            raise ValueError(f"validation has {count} arrays, expected {expected} like data")
        return found
    numbers = read_array("validation", validation)
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
        raise TypeError(
            f"validation is {_kind(validation)}, expected a callable or an array of row numbers "
            "for fun, as data is a number of rows"
        )
    if numbers.min() < 0:
        raise ValueError(f"validation holds {numbers.min()}, expected row numbers >= 0")
    return FiniteSum(_of_numbers(fun, args, x), lambda rows: (numbers[rows],), numbers.size)


def _of_numbers(fun: Any, args: Any, x: np.ndarray) -> Objective:
    """Return what takes row numbers; compiled, it may take a gradient to write to as well."""
    return Objective(fun, True, args, x, "2-point", None, batch=(np.zeros(1, np.intp),))


def _sum_of_problem(
    name: str, problem: Any, args: Any, x: np.ndarray, shared: bool = False
) -> FiniteSum:
    if not is_problem(problem):
        raise TypeError(
            f"data is None and {name} is {_kind(problem)}, expected data, or a problem with "
            "batch(x, idx) and a length"
        )
    if args not in ((), None):
        raise ValueError(f"args is {args!r}, expected (): {name} has its data with it")
    n, features = len(problem), getattr(problem, "n_features", x.size)
    if n < 1:
        raise ValueError(f"{name} has {n} rows, expected at least 1")
    if features != x.size:
        raise ValueError(f"x0 has {x.size} elements, expected {features}, the features of {name}")
    if isinstance(problem, Problem):
        problem.check_shape("x0", x)
    batch = problem.shared_batch if shared and isinstance(problem, Problem) else problem.batch
    objective = Objective(batch, True, (), x, "2-point", None)
    return FiniteSum(objective, lambda rows: (rows,), n, problem, shared=shared)


def _sum_of_arrays(name: str, objective: Objective, data: Any) -> FiniteSum:
    """Return the sum over the rows of one array or of several."""
    if isinstance(data, list) and all(getattr(array, "ndim", 0) for array in data):
        data = tuple(data)
    if isinstance(data, tuple):
        arrays = [_read_array(f"{name}[{i}]", array) for i, array in enumerate(data)]
    else:
        arrays = [_read_array(name, data)]
    if not arrays:
        raise ValueError(f"{name} is (), expected at least one array")
    lengths = [array.shape[0] for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name} has arrays of {lengths} rows, expected as many in each")
    if not lengths[0]:
        raise ValueError(f"{name} has 0 rows, expected at least 1")
    return FiniteSum(objective, lambda rows: tuple(a[rows] for a in arrays), lengths[0])


def _read_array(name: str, array: Any) -> Any:
    """Return what gives rows by their numbers: a NumPy array, or a sparse one in CSR."""
    from scipy.sparse import issparse

    if issparse(array):
        if array.format in ("csr", "csc"):
            check_csr(name, array if array.format == "csr" else array.T)
        return array.tocsr()
    demand_host(name, array, UNASKED)
    array = read_array(name, array)
    if not array.ndim:
        raise TypeError(f"{name} is {array.item()!r}, expected an array of at least one dimension")
    return array


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
