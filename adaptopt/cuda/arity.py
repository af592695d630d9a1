"""Functions with ``*args`` for Numba's own CUDA target, which cannot call them (numba-cuda can)."""

from __future__ import annotations

import inspect
from types import FunctionType

from ..kernels.compile import inlinable, memoised
from ..scalar import ScalarFunction

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return"

# By the number of arguments: a function that puts them into a tuple.
_GATHERED: tuple[ScalarFunction, ...] = (
    lambda f: lambda: f(()),
    lambda f: lambda a: f((a,)),
    lambda f: lambda a, b: f((a, b)),
    lambda f: lambda a, b, c: f((a, b, c)),
    lambda f: lambda a, b, c, d: f((a, b, c, d)),
    lambda f: lambda a, b, c, d, e: f((a, b, c, d, e)),
    lambda f: lambda a, b, c, d, e, g: f((a, b, c, d, e, g)),
    lambda f: lambda a, b, c, d, e, g, h: f((a, b, c, d, e, g, h)),
    lambda f: lambda a, b, c, d, e, g, h, i: f((a, b, c, d, e, g, h, i)),
    lambda f: lambda a, b, c, d, e, g, h, i, j: f((a, b, c, d, e, g, h, i, j)),
    lambda f: lambda a, b, c, d, e, g, h, i, j, k: f((a, b, c, d, e, g, h, i, j, k)),
    lambda f: lambda a, b, c, d, e, g, h, i, j, k, m: f((a, b, c, d, e, g, h, i, j, k, m)),
    lambda f: lambda a, b, c, d, e, g, h, i, j, k, m, n: f((a, b, c, d, e, g, h, i, j, k, m, n)),
    lambda f: (
        lambda a, b, c, d, e, g, h, i, j, k, m, n, p: f((a, b, c, d, e, g, h, i, j, k, m, n, p))
    ),
    lambda f: (
        lambda a, b, c, d, e, g, h, i, j, k, m, n, p, q: f(
            (a, b, c, d, e, g, h, i, j, k, m, n, p, q)
        )
    ),
    lambda f: (
        lambda a, b, c, d, e, g, h, i, j, k, m, n, p, q, r: f(
            (a, b, c, d, e, g, h, i, j, k, m, n, p, q, r)
        )
    ),
    lambda f: (
        lambda a, b, c, d, e, g, h, i, j, k, m, n, p, q, r, s: f(
            (a, b, c, d, e, g, h, i, j, k, m, n, p, q, r, s)
        )
    ),
)


@memoised
def taking(function: ScalarFunction, count: int) -> ScalarFunction:
    """Return a function with a fixed number of arguments for one that may have ``*args``."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_VARARGS:
        return function
    if count >= len(_GATHERED):
        raise ValueError(
            f"{function.__name__} has *args and is given {count} numbers, expected at most "
            f"{len(_GATHERED) - 1} on a CUDA device: name them"
        )
    # Without the flag, the tuple of the remaining arguments would be passed as one argument.
    body = inlinable(
        FunctionType(
            code.replace(
                co_flags=code.co_flags & ~inspect.CO_VARARGS, co_argcount=code.co_argcount + 1
            ),
            function.__globals__,
            function.__name__,
            None,
            function.__closure__,
        ),
        True,
    )
    named = code.co_argcount

    def parted(values):
        return body(*values[:named], values[named:])

    return _GATHERED[count](inlinable(parted, True))
