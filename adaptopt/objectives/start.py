"""Where a run starts: the starting point, the bounds and the map, read from what a user gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, read_array, read_real
from ..cuda.libraries import read_device_start
from ..placement import HOST, backend_of
from ..prox.base import Box, Proximal

# SciPy's sentence, which programs look for.
_WRONG_COUNT = "The number of bounds is not compatible with the length of `x0`."


def read_start(
    x0: Any, bounds: object, prox: Proximal | None
) -> tuple[Array, Box | None, Proximal]:
    """Return a feasible copy of the starting point, the bounds as a box, and both maps as one."""
    backend = backend_of(x0)
    # Of a CUDA array of any library, Numba's view is read.
    seen: Array
    x, seen = read_device_start(x0) if backend is not HOST else (None, _read_x0(x0))
    box = _read_bounds(bounds, seen)
    if prox is not None and not isinstance(prox, Proximal):
        raise TypeError(f"prox is {prox!r}, expected a Proximal such as Box(0, 1)")
    both = (prox or Proximal()) if box is None else box if prox is None else prox.within(box)
    if backend is HOST:
        return both.feasible(seen), box, both
    if not both.is_separable:
        raise ValueError(
            f"prox is a {type(both).__name__} with x0 a CUDA array, expected a map of each "
            "coordinate alone whose penalty is the sum of its cost, such as L1"
        )
    flat = seen.reshape(seen.size).bind(seen.stream)
    if not backend.is_finite(flat):
        _demand_finite(backend.to_host(seen))
    backend.feasible(both, flat, tuple(seen.shape))  # in place
    return x, box, both


def _read_x0(x0: ArrayLike) -> np.ndarray:
    """Return a writable copy of the starting point, float32 or float64, at least 1-d."""
    array = read_point("x0", x0)
    array = np.array(np.atleast_1d(array), order="C", copy=True, subok=False)
    _demand_finite(array)
    return array


def read_point(name: str, value: ArrayLike) -> np.ndarray:
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
