"""The user's problem on a CUDA device: value and gradient stay there, and nothing waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..arrays import storage
from ..cuda.libraries import copied, current_stream, detached
from ..placement import flat_view, is_on_device
from ..problems.problem import Problem
from .compiled import is_compiled
from .function import read_pair, read_value


class Value(NamedTuple):
    """What an objective returned: a number, or the array on the device that it lies in."""

    number: Any
    form: str | None
    """The format of the array, or None."""

    @classmethod
    def of(cls, value: Any, flat: Any) -> Value:
        """Read what ``fun`` returned."""
        value = detached(value)
        if not is_on_device(value):
            return cls(read_value("fun", value), None)
        size = int(np.prod(value.shape))
        if size != 1:
            raise ValueError(
                f"fun returned a value of shape {tuple(value.shape)}, expected one number"
            )
        seen = flat_view("the value of fun", value).bind(flat.stream)
        return cls(storage(seen), seen.dtype.name)


def _named(value: Any) -> str:
    """Return what an error shows: the numbers of a CUDA array would have to be waited for."""
    return f"a {type(value).__name__}"


class DeviceObjective:
    """Value and gradient of ``fun`` at a point on a device.

    Parameters
    ----------
    fun : callable
        ``fun(x, *batch, *args) -> (value, gradient)``, or ``-> value`` where ``jac`` is callable.
    jac : callable or True
        What gives the gradient.
    args : tuple
        Passed on to ``fun`` and ``jac``.
    x : CUDA array
        The iterate of the run, which ``fun`` sees as it is.

    Attributes
    ----------
    x : CUDA array
        The iterate.
    flat : CUDA array
        Numba's flat view of the iterate, bound to the stream on which all that belongs to the run
        is to go.
    nfev, njev, cost
        As of `Objective`.
    """

    cost = 1
    compiled = None
    is_convex = False

    def __init__(self, fun: Callable[..., Any], jac: Any, args: Any, x: Any) -> None:
        if isinstance(fun, Problem):
            raise TypeError(
                f"fun is a {type(fun).__name__} of data on the host with x0 a CUDA array, expected "
                "a function that takes and returns CUDA arrays"
            )
        if not callable(fun):
            raise TypeError(f"fun is {fun!r}, expected a callable")
        if is_compiled(fun) or is_compiled(jac):
            raise TypeError(
                "fun is compiled for the CPU (numba.njit) with x0 a CUDA array, expected a Python "
                "function that starts kernels (numba.cuda.jit, CuPy, torch)"
            )
        if jac is not True and not callable(jac):
            raise ValueError(
                f"jac is {jac!r} with x0 a CUDA array, expected True or a callable: finite "
                "differences would wait for the device at each of n + 1 values a step"
            )
        self._fun, self._jac = fun, jac
        self._args = args if isinstance(args, tuple) else (args,)
        self.x = x
        self.flat = flat_view("x0", x, stream=current_stream(x))
        # Numba's view in the shape, which gradients are compared with.
        shape = tuple(x.shape)
        self._like = self.flat.reshape(*shape).bind(self.flat.stream)
        self.nfev = self.njev = 0

    def __call__(self, x: Any, *batch: Any) -> tuple[Value, Any]:
        """Return value and flat gradient at ``x``, of the iterate's shape and kind."""
        self.nfev += 1
        self.njev += 1
        if self._jac is not True:
            value = self._fun(x, *self._args)
            return Value.of(value, self.flat), self._gradient(self._jac(x, *self._args))
        pair = self._fun(x, *batch, *self._args)
        value, gradient = read_pair(pair, bool(batch), _named)
        return Value.of(value, self.flat), self._gradient(gradient)

    def _gradient(self, gradient: Any) -> Any:
        seen = flat_view("the gradient", detached(gradient), like=self._like)
        return seen.bind(self.flat.stream)

    def known(self, gradient: Any) -> Any:
        """Return what is known of a gradient: all of it."""
        return gradient

    def shown(self, flat: Any) -> Any:
        """Return a copy of a flat array of the device, of the kind and shape of the iterate."""
        return copied("x0", self.x, flat)
