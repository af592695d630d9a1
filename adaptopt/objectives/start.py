"""Where a run starts: the starting point, the bounds and the map, read from what a user gave."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, new_point, read_array, read_real
from ..placement import HOST, backend_of
from ..prox.base import Box, Proximal
from .exchange import Exchange, HostExchange, read_value

# SciPy's sentence, which programs look for.
_WRONG_COUNT = "The number of bounds is not compatible with the length of `x0`."


def read_start(
    x0: ArrayLike, bounds: object, prox: Proximal | None
) -> tuple[Exchange, Box | None, Proximal]:
    """Return the exchange of a run from a feasible copy of ``x0``, the bounds, and both maps.

    The bounds are a box, or None; bounds and map are one map.
    """
    backend = backend_of(x0)
    if backend is HOST:
        x = new_point("x0", x0)
        box, both = _read_maps(bounds, prox, x)
        return HostExchange(both.feasible(x)), box, both
    from ..cuda.exchange import DeviceExchange

    exchange = DeviceExchange(x0, backend, read_value)
    box, both = _read_maps(bounds, prox, exchange.seen)
    if not both.is_separable:
        raise ValueError(
            f"prox is a {type(both).__name__} with x0 a CUDA array, expected a map of each "
            "coordinate alone whose penalty is the sum of its cost, such as L1"
        )
    backend.feasible(both, exchange.flat, exchange.shape)  # in place
    return exchange, box, both


def _read_maps(bounds: object, prox: Proximal | None, x: Array) -> tuple[Box | None, Proximal]:
    """Return the bounds as a box, if there are any, and bounds and map as one map."""
    box = _read_bounds(bounds, x)
    if prox is not None and not isinstance(prox, Proximal):
        raise TypeError(f"prox is {prox!r}, expected a Proximal such as Box(0, 1)")
    return box, (prox or Proximal()) if box is None else box if prox is None else prox.within(box)


def _read_bounds(bounds: object, x: np.ndarray) -> Box | None:
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


def _read_pairs(bounds: Any) -> list[tuple[Any, Any]]:
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
