"""The user's problem behind one call: f and its gradient at a flat point, counted and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import isfunction
from typing import Any

import numpy as np
from numba import config

from ..arrays import Array, UserFunction
from ..problems.problem import Problem, is_convex
from ..prox.base import Box
from .compiled import (
    CompiledFunction,
    is_compiled,
    read_compiled,
    taken_for_gradient,
    takes_gradient,
)
from .differences import FD_METHODS, Differences
from .exchange import Exchange

_NO_JIT = config.DISABLE_JIT  # type: ignore[attr-defined]  # numba sets it at run time

_ROUGH = (
    ". In float32 they may be off by far more than gtol, which is then met where the gradient does "
    "not: x0.astype(numpy.float64) makes them accurate"
)


class Objective:
    """Value and gradient of ``fun`` at a flat point.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or ``-> (float, gradient)`` if ``jac`` is True.
    jac : callable, bool, str or None
        As in `scipy.optimize.minimize`.
    args : tuple
        Passed on to ``fun`` and ``jac``.
    exchange : Exchange
        What hands points to ``fun`` and reads what it returns.
    fd_method : str or None
        Which finite differences if ``jac`` names none; None for those that suit the dtype.
    box : Box or None
        Finite differences stay inside.
    batch : tuple, optional
        Examples of what ``fun`` takes after ``x``, if a compiled one may take a gradient to write
        to, ``fun(x, *batch, g_out, *args)``. Without it none is read as such.

    Attributes
    ----------
    nfev, njev : int
        Evaluations of ``fun`` (those for finite differences too) and of the gradient.
    cost : int
        Evaluations of ``fun`` that one call takes.
    is_convex : bool
        Whether ``fun`` is one of `adaptopt.problems`, which are convex; of others nobody knows.
    compiled : CompiledFunction or None
        The same for a kernel, if a kernel can call it.
    backend, on_device, flat, shape
        Those of the exchange.
    """

    def __init__(
        self,
        fun: UserFunction,
        jac: object,
        args: object,
        exchange: Exchange,
        fd_method: str | None = None,
        box: Box | None = None,
        batch: tuple[object, ...] | None = None,
    ) -> None:
        x, self.exchange = exchange.x, exchange
        self.backend, self.on_device = exchange.backend, exchange.on_device
        self.flat, self.shape = exchange.flat, exchange.shape
        if self.on_device:
            _demand_device_function(fun, jac)
            batch = None
        if not callable(fun):
            raise TypeError(f"fun is {fun!r}, expected a callable")
        if type(fun).__name__ == "MemoizeJac" and getattr(jac, "__self__", None) is fun:
            # SciPy's wrapper for jac=True remembers the last x whatever the args were.
            fun, jac = fun.fun, True
        self.is_convex = is_convex(fun)
        jac = bool(jac) if isinstance(jac, np.bool_) else jac
        if isinstance(fun, Problem):
            fun.check_shape("x0", x)
        if isinstance(fun, Problem) or hasattr(fun, "over_blocks"):  # the latter is a sum of them
            if args not in ((), None):
                raise ValueError(f"args is {args!r}, expected (): fun has its data with it")
            jac = jac or True  # it returns its gradient
        self._args = args if isinstance(args, tuple) else (args,)
        self._fun = fun
        # A function of the class: a bound method would keep the data until Python looks for cycles.
        self._evaluate: Callable[..., tuple[Any, Array]]
        self._dtype = self.flat.dtype
        self.nfev = self.njev = 0
        self.cost = 1
        self.compiled: CompiledFunction | None = None
        writes = False
        if batch is not None and is_compiled(fun):
            self.compiled = read_compiled(fun, jac, x, batch, self._args)
            writes = takes_gradient(fun, 1 + len(batch), len(self._args))
        elif batch is not None and _NO_JIT and isfunction(fun) and not callable(jac):
            # An njit function is then a plain one, which may write its gradient.
            writes = takes_gradient(fun, 1 + len(batch), len(self._args))
        if writes:
            self._evaluate = Objective._in_place
        elif jac is True:
            self._evaluate = Objective._pair
        elif callable(jac):
            self._jac = jac
            self._evaluate = Objective._separate
        elif jac is None or jac is False or (isinstance(jac, str) and jac in FD_METHODS):
            narrow = x.dtype == np.float32
            # In float32 one-sided differences are off by 3e-4 of x times the curvature.
            fd_method = fd_method or ("3-point" if narrow else "2-point")
            self._differences = Differences(jac or fd_method, x, box)
            self.cost += self._differences.cost
            self._evaluate = Objective._difference
            warnings.warn(
                f"no gradient was given (jac is {jac!r}): each step costs {self.cost} evaluations "
                f"of fun for {self._differences.method} finite differences" + _ROUGH * narrow,
                RuntimeWarning,
                stacklevel=4,
            )
        else:
            raise ValueError(
                f"jac is {jac!r}, expected a callable, True, None or one of {', '.join(FD_METHODS)}"
            )

    def __call__(self, x: Array, *batch: object) -> tuple[Any, Array]:
        """Return the value and the flat gradient at the flat point ``x``.

        If ``jac`` is True, ``fun`` gets the ``batch`` before ``args``.
        """
        self.njev += 1
        return self._evaluate(self, x, *batch)

    def value(self, x: Array) -> float:
        """Return the value alone, of a ``fun`` that returns nothing else."""
        return float(self._count(x))

    @property
    def kind(self) -> str:
        """What is evaluated, in words."""
        if isinstance(self._fun, Problem):
            return "a problem, whose evaluation is compiled"
        return "compiled, but jac is not" if is_compiled(self._fun) else "a Python function"

    def check_written(self, x: np.ndarray, *batch: object) -> None:
        """Refuse a compiled function that writes nothing to what was taken for its gradient."""
        if self._evaluate is not Objective._in_place:
            return
        for value in (1.0, 2.0):  # one of them may be the gradient
            given = np.full(self.shape, value, self._dtype)
            self._fun(self._point(x), *batch, given, *self._args)
            if not given.size or (given != value).any():
                return
        taken = taken_for_gradient(self._fun, 1 + len(batch), self._args)
        raise TypeError(f"fun writes nothing to g_out, expected the gradient{taken}")

    @property
    def sizes(self) -> np.ndarray | None:
        """The sizes of variables that finite differences have measured, for a run that goes on."""
        differences: Differences | None = getattr(self, "_differences", None)
        return None if differences is None else differences.sizes

    @sizes.setter
    def sizes(self, sizes: np.ndarray | None) -> None:
        if (differences := getattr(self, "_differences", None)) is not None:
            differences.sizes = sizes

    def shown_gradient(self, gradient: Array) -> Array:
        """Return a copy as the user is to see it.

        As in SciPy, it is NaN where bounds fix a variable that finite differences leave out.
        """
        shown = self.exchange.shown(gradient)
        if self._evaluate is Objective._difference:
            shown.reshape(-1)[self._differences.fixed] = np.nan
        return shown

    def _point(self, x: Array) -> Array:
        # Kernels call what was compiled for a read-only point: let it be compiled only once.
        return self.exchange.point(x, self.compiled is None or self.compiled.guarded)

    def _pair(self, x: Array, *batch: object) -> tuple[Any, Array]:
        self.nfev += 1
        pair = self._fun(self._point(x), *batch, *self._args)
        try:
            if isinstance(pair, np.ndarray):
                raise ValueError  # two numbers may be two residuals
            value, gradient = pair
        except (TypeError, ValueError):
            asked = "" if batch else " with jac=True"
            raise TypeError(
                f"fun returned {self.exchange.words_for(pair)}, expected a pair "
                f"(value, gradient){asked}"
            ) from None
        return self.exchange.value("fun", value), self.exchange.gradient(gradient)

    def _in_place(self, x: np.ndarray, *batch: object) -> tuple[float, np.ndarray]:
        self.nfev += 1
        gradient = np.full(self.shape, np.nan, self._dtype)
        value = self._fun(self._point(x), *batch, gradient, *self._args)
        return self.exchange.value("fun", value), gradient.reshape(-1)

    def _separate(self, x: Array) -> tuple[Any, Array]:
        value = self._count(x)
        return value, self.exchange.gradient(self._jac(self._point(x), *self._args))

    def _difference(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value = self._count(x)
        if not np.isfinite(value):
            return value, np.full(x.shape, np.nan, self._dtype)
        return value, self.exchange.gradient(self._differences(self._count, x, value))

    def _count(self, x: Array) -> Any:
        self.nfev += 1
        value = self._fun(self._point(x), *self._args)
        if np.iscomplexobj(x) and np.iscomplexobj(value):
            return np.asarray(value).item()
        return self.exchange.value("fun", value)


def _demand_device_function(fun: object, jac: object) -> None:
    """Refuse what cannot be evaluated on a CUDA device."""
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
