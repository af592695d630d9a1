"""The user's problem behind one call: f and its gradient at a flat point, counted and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from inspect import isfunction
from typing import Any

import numpy as np
from numba import config

from .. import placement
from ..arrays import read_array, read_real
from ..cuda.libraries import read_device_start
from ..placement import demand_host
from ..problems.problem import Problem, is_convex
from ..prox.base import Box, Proximal
from .compiled import (
    CompiledFunction,
    is_compiled,
    read_compiled,
    taken_for_gradient,
    takes_gradient,
)

FD_METHODS = ("2-point", "3-point", "cs")
_NO_JIT = config.DISABLE_JIT  # type: ignore[attr-defined]  # numba sets it at run time

# SciPy's sentence, which programs look for.
_WRONG_COUNT = "The number of bounds is not compatible with the length of `x0`."

_ROUGH = (
    ". In float32 they may be off by far more than gtol, which is then met where the gradient does "
    "not: x0.astype(numpy.float64) makes them accurate"
)

UNASKED = "x0 lies there, and nothing is copied between host and device unasked"


class Objective:
    """Value and gradient of ``fun`` at a flat point.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or ``-> (float, gradient)`` where ``jac`` is True.
    jac : callable, bool, str or None
        As in `scipy.optimize.minimize`.
    args : tuple
        Passed on to ``fun`` and ``jac``.
    x : ndarray
        A point, for its shape and dtype; ``fun`` sees copies of that shape.
    fd_method : str or None
        Which finite differences, where ``jac`` names none; None for those that suit the dtype.
    box : Box or None
        Finite differences stay inside.
    batch : tuple, optional
        Examples of what ``fun`` takes after ``x``, where a compiled one may take a gradient to
        write to, ``fun(x, *batch, g_out, *args)``. Without it none is read as such.

    Attributes
    ----------
    nfev, njev : int
        Evaluations of ``fun`` (those for finite differences too) and of the gradient.
    cost : int
        Evaluations of ``fun`` that one call takes.
    is_convex : bool
        Whether ``fun`` is one of `adaptopt.problems`, which are convex; of others nobody knows.
    compiled : CompiledFunction or None
        The same for a kernel, where there is such a thing.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Any,
        args: Any,
        x: np.ndarray,
        fd_method: str | None,
        box: Box | None,
        batch: tuple[Any, ...] | None = None,
    ) -> None:
        if not callable(fun):
            raise TypeError(f"fun is {fun!r}, expected a callable")
        if type(fun).__name__ == "MemoizeJac" and getattr(jac, "__self__", None) is fun:
            # SciPy's wrapper for jac=True remembers the last x whatever the args were.
            fun, jac = fun.fun, True
        self.is_convex = is_convex(fun)
        jac = bool(jac) if isinstance(jac, np.bool_) else jac
        if isinstance(fun, Problem):
            fun.check_shape("x0", x)
            if args not in ((), None):
                raise ValueError(f"args is {args!r}, expected (): fun has its data with it")
            jac = jac or True  # it returns its gradient
        self._args = args if isinstance(args, tuple) else (args,)
        self._fun = fun
        self._evaluate: Callable[..., tuple[float, np.ndarray]]
        self._shape, self._size, self._dtype = x.shape, x.size, x.dtype
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
            self._evaluate = self._in_place
        elif jac is True:
            self._evaluate = self._pair
        elif callable(jac):
            self._jac = jac
            self._evaluate = self._separate
        elif jac is None or jac is False or (isinstance(jac, str) and jac in FD_METHODS):
            narrow = x.dtype == np.float32
            # In float32 one-sided differences are off by 3e-4 of x times the curvature.
            fd_method = fd_method or ("3-point" if narrow else "2-point")
            self._differences = _Differences(jac or fd_method, x, box)
            self.cost += self._differences.cost
            self._evaluate = self._difference
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

    def __call__(self, x: np.ndarray, *batch: Any) -> tuple[float, np.ndarray]:
        """Return the value and the flat gradient at the flat point ``x``.

        Where ``jac`` is True, ``fun`` gets the ``batch`` before ``args``.
        """
        self.njev += 1
        return self._evaluate(x, *batch)

    def check_written(self, x: np.ndarray, *batch: Any) -> None:
        """Refuse a compiled function that writes nothing to what was taken for its gradient."""
        if self._evaluate != self._in_place:
            return
        for value in (1.0, 2.0):  # one of them may be the gradient
            given = np.full(self._shape, value, self._dtype)
            self._fun(self._point(x), *batch, given, *self._args)
            if not given.size or (given != value).any():
                return
        taken = taken_for_gradient(self._fun, 1 + len(batch), self._args)
        raise TypeError(f"fun writes nothing to g_out, expected the gradient{taken}")

    def known(self, gradient: np.ndarray) -> np.ndarray:
        """Return a copy, NaN where bounds fix what finite differences then leave out, as SciPy."""
        gradient = gradient.copy()
        if self._evaluate == self._difference:
            gradient[self._differences.fixed] = np.nan
        return gradient

    def _point(self, x: np.ndarray) -> Any:
        # A copy each time, as SciPy does: users keep and change what they are given.
        point = x.reshape(self._shape).copy()
        # Kernels call what was compiled for a read-only point: let it be compiled only once.
        point.flags.writeable = self.compiled is None or self.compiled.guarded
        return point

    def _pair(self, x: np.ndarray, *batch: Any) -> tuple[float, np.ndarray]:
        self.nfev += 1
        pair = self._fun(self._point(x), *batch, *self._args)
        value, gradient = read_pair(pair, bool(batch), _short)
        return read_value("fun", value), self._gradient(gradient)

    def _in_place(self, x: np.ndarray, *batch: Any) -> tuple[float, np.ndarray]:
        self.nfev += 1
        gradient = np.full(self._shape, np.nan, self._dtype)
        value = self._fun(self._point(x), *batch, gradient, *self._args)
        return read_value("fun", value), gradient.reshape(-1)

    def _separate(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value = self._count(x)
        return value, self._gradient(self._jac(self._point(x), *self._args))

    def _difference(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value = self._count(x)
        if not np.isfinite(value):
            return value, np.full(x.shape, np.nan, self._dtype)
        return value, self._gradient(self._differences(self._count, x, value))

    def _count(self, x: np.ndarray) -> Any:
        self.nfev += 1
        value = self._fun(self._point(x), *self._args)
        if np.iscomplexobj(x) and np.iscomplexobj(value):
            return np.asarray(value).item()
        return read_value("fun", value)

    def _gradient(self, gradient: Any) -> np.ndarray:
        array = gradient
        if type(array) is not np.ndarray or array.dtype != self._dtype:
            demand_host("the gradient", gradient, UNASKED)
            array = read_real("the gradient", gradient)
        if array.size != self._size or (
            array.shape != self._shape and max(array.shape, default=1) != self._size
        ):
            raise ValueError(f"the gradient has shape {array.shape}, expected {self._shape}")
        return np.ascontiguousarray(array, self._dtype).reshape(-1)


class _Differences:
    """SciPy's finite differences over the coordinates that the bounds leave free."""

    def __init__(self, method: str, x: np.ndarray, box: Box | None) -> None:
        self.method = method
        lo, hi = (-np.inf, np.inf) if box is None else (box.lo, box.hi)
        self._lo, self._hi = (np.broadcast_to(b, x.shape).reshape(-1) for b in (lo, hi))
        self._free = np.flatnonzero(self._lo < self._hi)
        self.fixed = np.flatnonzero(self._lo == self._hi)
        self.cost = self._free.size * (2 if method == "3-point" else 1)

    def __call__(self, fun: Callable[..., Any], x: np.ndarray, value: float) -> np.ndarray:
        from scipy.optimize._numdiff import approx_derivative

        free, gradient = self._free, np.zeros_like(x)
        if free.size:
            kind = np.complex128 if self.method == "cs" else x.dtype
            point = x.astype(kind)

            def fun_of_free(part: np.ndarray) -> Any:
                point[free] = part
                return fun(point)

            gradient[free] = approx_derivative(
                fun_of_free,
                x[free],
                method=self.method,
                f0=value,
                bounds=(self._lo[free], self._hi[free]),
            )
        return gradient


def read_pair(pair: Any, batched: bool, shown: Callable[[Any], str]) -> tuple[Any, Any]:
    """Return value and gradient of what ``fun`` returned, or say what that is instead."""
    try:
        if isinstance(pair, np.ndarray):
            raise ValueError  # two numbers may be two residuals
        value, gradient = pair
    except (TypeError, ValueError):
        asked = "" if batched else " with jac=True"
        raise TypeError(
            f"fun returned {shown(pair)}, expected a pair (value, gradient){asked}"
        ) from None
    return value, gradient


def read_value(name: str, value: Any) -> float:
    """Return what the function ``name`` returned, where it is one real number."""
    if isinstance(value, float):
        return float(value)
    returned = f"{name} returned {_short(value)}, expected"
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


def read_start(x0: Any, bounds: Any, prox: Proximal | None) -> tuple[Any, Box | None, Proximal]:
    """Return a feasible copy of the starting point, the bounds as a box, and both maps as one."""
    there = placement.is_on_device(x0)
    # What is read from a CUDA array is read from Numba's view, whatever library it is of.
    seen: Any
    x, seen = read_device_start(x0) if there else (None, _read_x0(x0))
    box = _read_bounds(bounds, seen)
    if prox is not None and not isinstance(prox, Proximal):
        raise TypeError(f"prox is {prox!r}, expected a Proximal such as Box(0, 1)")
    both = (prox or Proximal()) if box is None else box if prox is None else prox.within(box)
    if not there:
        return both.feasible(seen), box, both
    if not both.is_separable:
        raise ValueError(
            f"prox is a {type(both).__name__} with x0 a CUDA array, expected a map of each "
            "coordinate alone whose penalty is the sum of its cost, such as L1"
        )
    flat = seen.reshape(seen.size).bind(seen.stream)
    if not placement.is_finite(flat):
        _demand_finite(placement.on_host(seen))
    placement.feasible(both, flat, tuple(seen.shape))  # in place
    return x, box, both


def _read_x0(x0: Any) -> np.ndarray:
    """Return a writable copy of the starting point, float32 or float64, at least 1-d."""
    array = read_point("x0", x0)
    array = np.array(np.atleast_1d(array), order="C", copy=True, subok=False)
    _demand_finite(array)
    return array


def read_point(name: str, value: Any) -> np.ndarray:
    """Return an array of float32 or float64; integers become float64."""
    expected = "float32, float64 or integers"
    array = read_real(name, value, expected)
    if array.dtype.kind in "biu":
        array = array.astype(np.float64)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected {expected}: use {name}.astype(numpy.float64)"
        )
    return array


def _demand_finite(x: np.ndarray) -> None:
    if not np.isfinite(x).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise ValueError(f"x0{list(where)} is {x[where]}, expected finite numbers")


def _read_bounds(bounds: Any, x: np.ndarray) -> Box | None:
    """Return SciPy's bounds, a Bounds object or pairs, as a box of the shape of ``x``."""
    if bounds is None:
        return None
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        lo, hi = (read_real(f"bounds.{k}", getattr(bounds, k)) for k in ("lb", "ub"))
    else:
        pairs = _read_pairs(bounds)
        if len(pairs) != x.size:
            raise ValueError(
                f"bounds has {len(pairs)} entries, expected {x.size} pairs (lower, upper), "
                f"one for each element of x0. {_WRONG_COUNT}"
            )
        lo, hi = (
            read_real("bounds", [sign * np.inf if p[k] is None else p[k] for p in pairs]).reshape(
                x.shape
            )
            for k, sign in ((0, -1), (1, 1))
        )
    for name, bound in (("lb", lo), ("ub", hi)):
        try:
            np.broadcast_to(bound, x.shape)
        except ValueError:
            raise ValueError(
                f"bounds.{name} has shape {bound.shape}, expected {x.shape} like x0. {_WRONG_COUNT}"
            ) from None
    return Box(np.broadcast_to(lo, x.shape), np.broadcast_to(hi, x.shape))


def _read_pairs(bounds: Any) -> list[tuple[Any, ...]]:
    """Return SciPy's pairs (lower, upper); None stands for one without either."""
    expected = "expected Bounds, or a pair (lower, upper) for each element of x0"
    if isinstance(bounds, np.ma.MaskedArray):
        bounds = read_array("bounds", bounds)
    if hasattr(bounds, "to_numpy"):  # a data frame, whose entries are the names of its columns
        raise TypeError(f"bounds is a {type(bounds).__name__}, {expected}: use bounds.to_numpy()")
    try:
        entries = list(bounds)
    except TypeError:
        raise TypeError(f"bounds is {bounds!r}, {expected}") from None
    pairs = []
    for k, entry in enumerate(entries):
        try:
            lower, upper = (None, None) if entry is None else entry
        except (TypeError, ValueError):
            raise ValueError(
                f"bounds[{k}] is {entry!r}, {expected}, such as [(0, 4)] for one. {_WRONG_COUNT}"
            ) from None
        pairs.append((lower, upper))
    return pairs


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
