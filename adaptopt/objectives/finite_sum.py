"""A finite sum behind one call: mean loss and gradient at a flat point over some rows of data."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np

from ..arrays import Array, UserFunction, read_array
from ..placement import HOST, backend_of
from ..problems.problem import Problem
from .compiled import is_compiled
from .exchange import Data, Exchange, RowsOfData
from .function import Objective


class FiniteSum:
    """Mean loss and gradient over rows.

    Parameters
    ----------
    objective : Objective
        Takes a flat point and what ``rows`` give.
    rows : RowsOfData
        Gives ``fun`` its arguments for a batch.
    problem : object, optional
        What has its data with it, if that is what is summed.
    shared : bool
        Whether threads may share the rows of a batch of a problem.
    """

    def __init__(
        self, objective: Objective, rows: RowsOfData, problem: object = None, shared: bool = False
    ) -> None:
        self.objective, self.rows, self.n = objective, rows, rows.n
        self.problem, self.shared = problem, shared

    def over(self, x: Array, order: np.ndarray | None, start: int, count: int) -> tuple[Any, Array]:
        """Return the mean loss over so many rows of an order, and its flat gradient.

        None stands for the rows' own order.
        """
        return self.objective(x, *self.rows.take(order, start, count))

    def shares(self, rows: int) -> bool:
        """Tell whether threads may share the evaluation of so many rows."""
        return self.shared and isinstance(self.problem, Problem) and self.problem.shares(rows)

    def mean(self, x: Array, size: int, omit: bool) -> tuple[float, Array, int]:
        """Return mean loss and gradient over all rows in their order, and how many are left out.

        Sums are in float64, of so many rows at a time, or of as many rows of a problem as have an
        entry for each variable. With ``omit``, rows whose loss or gradient is not finite are left
        out.
        """
        mean = self.objective.exchange.mean()
        if isinstance(self.problem, Problem):
            size = max(size, math.ceil(x.size / max(1.0, self.problem.entries_per_row)))
        # A stack of parts to evaluate, the first part on top.
        parts = [(start, min(start + size, self.n)) for start in range(0, self.n, size)][::-1]
        while parts:
            start, stop = parts.pop()
            value, g = self.over(x, None, start, stop - start)
            if omit and not mean.is_finite(value, g):
                middle = (start + stop) // 2
                if middle > start:
                    parts += [(middle, stop), (start, middle)]
                continue
            mean.add(value, g, stop - start)
        f, gradient, count = mean.result()
        return f, gradient, self.n - count


def is_problem(fun: object) -> bool:
    """Tell whether ``fun`` has its data with it, as those of `adaptopt.problems` do."""
    return callable(getattr(fun, "batch", None)) and hasattr(fun, "__len__")


def read_sum(
    fun: UserFunction, data: Data, args: object, exchange: Exchange, shared: bool = False
) -> FiniteSum:
    """Return ``fun`` over ``data`` as one sum, or say what does not fit."""
    if data is None:
        return _sum_of_problem("fun", fun, args, exchange, shared)
    if isinstance(fun, Problem) and not exchange.on_device:
        raise ValueError(f"data is {_kind(data)}, expected None: fun has its data with it")
    if _is_int(data):
        if data < 1:
            raise ValueError(f"data is {data}, expected at least 1 row")
        return _sum_of_numbers(fun, args, exchange, int(data))
    return _sum_of_arrays("data", Objective(fun, True, args, exchange), data)


def read_validation(
    validation: Data | UserFunction,
    total: FiniteSum,
    fun: Any,
    data: Data,
    args: object,
    exchange: Exchange,
) -> Any:
    """Return the validation: a callable as it is, data as a sum, or None."""
    if validation is None:
        return None
    if exchange.on_device and (is_problem(validation) or is_compiled(validation)):
        raise TypeError(
            f"validation is {validation!r} with x0 a CUDA array, expected a Python function, or "
            "data like data"
        )
    if is_problem(validation):
        return _sum_of_problem("validation", validation, (), exchange)
    if callable(validation):
        return validation
    if data is None:
        raise TypeError(
            f"validation is {_kind(validation)}, expected a callable or a problem like fun"
        )
    if not _is_int(data):
        found = _sum_of_arrays("validation", Objective(fun, True, args, exchange), validation)
        count, expected = (len(s.rows.arrays or ()) for s in (found, total))
        if count != expected:
            raise ValueError(f"validation has {count} arrays, expected {expected} like data")
        return found
    if backend_of(validation) is not HOST:
        raise TypeError("validation is a CUDA array of row numbers, expected one on the host")
    numbers = read_array("validation", validation)
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
        raise TypeError(
            f"validation is {_kind(validation)}, expected a callable or an array of row numbers "
            "for fun, as data is a number of rows"
        )
    if numbers.min() < 0:
        raise ValueError(f"validation holds {numbers.min()}, expected row numbers >= 0")
    return _sum_of_numbers(fun, args, exchange, numbers.size, numbers)


def _sum_of_numbers(
    fun: UserFunction,
    args: object,
    exchange: Exchange,
    n: int,
    numbers: np.ndarray | None = None,
) -> FiniteSum:
    """Return the sum of what takes row numbers; compiled, it may take a gradient to write to."""
    objective = Objective(fun, True, args, exchange, batch=(np.zeros(1, np.intp),))
    return FiniteSum(objective, exchange.rows(n, None, numbers))


def _sum_of_problem(
    name: str, problem: Any, args: object, exchange: Exchange, shared: bool = False
) -> FiniteSum:
    if exchange.on_device:
        is_one = is_problem(problem)
        what = "a problem of data on the host" if is_one else f"{problem!r} with data None"
        raise TypeError(
            f"fun is {what} with x0 a CUDA array, expected a function, and data: CUDA arrays or a "
            "number of rows"
        )
    if not is_problem(problem):
        raise TypeError(
            f"data is None and {name} is {_kind(problem)}, expected data, or a problem with "
            "batch(x, idx) and a length"
        )
    if args not in ((), None):
        raise ValueError(f"args is {args!r}, expected (): {name} has its data with it")
    x = exchange.x
    n, features = len(problem), getattr(problem, "n_features", x.size)
    if n < 1:
        raise ValueError(f"{name} has {n} rows, expected at least 1")
    if isinstance(problem, Problem):
        problem.check_shape("x0", x)
    elif features != x.size:
        raise ValueError(f"x0 has {x.size} elements, expected {features}, the features of {name}")
    batch = problem.shared_batch if shared and isinstance(problem, Problem) else problem.batch
    objective = Objective(batch, True, (), exchange)
    return FiniteSum(objective, exchange.rows(n, None), problem, shared=shared)


def _sum_of_arrays(name: str, objective: Objective, data: Data) -> FiniteSum:
    """Return the sum over the rows of one array or of several."""
    if isinstance(data, list) and all(getattr(array, "ndim", 0) for array in data):
        data = tuple(data)
    exchange = objective.exchange
    if isinstance(data, tuple):
        arrays = tuple(exchange.array(f"{name}[{k}]", array) for k, array in enumerate(data))
    else:
        arrays = (exchange.array(name, data),)
    if not arrays:
        raise ValueError(f"{name} is (), expected at least one array")
    lengths = [array.shape[0] for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"{name} has arrays of {lengths} rows, expected as many in each")
    if not lengths[0]:
        raise ValueError(f"{name} has 0 rows, expected at least 1")
    return FiniteSum(objective, exchange.rows(int(lengths[0]), arrays))


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _kind(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"
