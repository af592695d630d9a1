"""The loss of a row: two scalar functions, and a check that those of a user can be compiled."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import NamedTuple

from numba import config, njit, types

from ..scalar import ScalarFunction
from .compile import NumbaFunction, inlinable, memoised, number_type, what_numba_says
from .contents import plain


class Loss(NamedTuple):
    """A loss: ``value(z, y, *params)``, and ``slope(z, y, *params)``, its derivative by ``z``.

    With classes, ``z`` is an array with a number for each. ``value`` may overwrite it. ``slope`` is
    then called with what ``value`` has made of it, and returns it as the derivative.
    """

    value: ScalarFunction
    slope: ScalarFunction
    params: tuple[float, ...]
    classes: int = 0


def check_function(name: str, function: object, params: int, form: str) -> None:
    """Raise an error unless kernels can call a function of ``z``, ``y`` and so many parameters.

    Parameters
    ----------
    name : str
        What errors call the function.
    function : callable
        A Python function, or one of `numba.njit`.
    params : int
        Parameters after ``z`` and ``y``.
    form : str
        dtype of all arguments.
    """
    python = plain(function)
    if not isinstance(python, FunctionType):
        raise TypeError(f"{name} is {function!r}, expected a Python function or one of numba.njit")
    signature = inspect.signature(python)
    try:
        signature.bind(*[None] * (2 + params))
    except TypeError:
        raise TypeError(
            f"{name} is {python.__name__}{signature}, expected a function of {2 + params} numbers: "
            f"the prediction, the target and the {params} in params"
        ) from None
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        return
    if wrong := _what_is_wrong(python, 2 + params, form):
        raise TypeError(f"{name} is {python.__name__}{signature}, {wrong}")


@memoised
def _what_is_wrong(function: ScalarFunction, arguments: int, form: str) -> str:
    """Say why a function of numbers does not compile to one that returns a number, or nothing."""
    dispatcher: NumbaFunction = njit(error_model="numpy")(inlinable(function, True))
    try:
        dispatcher.compile((number_type(form),) * arguments)
    except Exception as error:  # Numba raises errors of many types
        return f"expected one that Numba compiles for {form}: {what_numba_says(error)}"
    (returned,) = (overload.signature.return_type for overload in dispatcher.overloads.values())
    if isinstance(returned, types.Float | types.Integer | types.Boolean):
        return ""
    return f"which returns {returned}, expected one that returns a real number"
