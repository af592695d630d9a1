"""Inspect a group: its state, its learning rates, and its residual of optimality."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..arrays import Array, storage
from ..prox.separable import l1_gradients
from .group import Group
from .state import Entry


def entries(group: Group) -> list[Entry]:
    """Return views of the complete state of each parameter."""
    method, part = group.method, group.whole
    slots = dict(zip(method.slots, part.slots, strict=True))
    # Internal arrays: master copies, and stored rates.
    hidden = dict(zip(["rates"], part.stored_rates, strict=False))
    if group.has_master:
        hidden["master"] = part.x
    scalars = dict(zip(method.scalars, group.scalars, strict=True))

    def shown(array: Array, lo: int, hi: int, shape: tuple[int, ...]) -> Array:
        """Return a parameter's part of an array, in its shape or with one number per row."""
        if array.dtype == np.uint16:
            array = array.view("bfloat16")
        if array.size == group.flat.size:
            return array[lo:hi].reshape(shape)
        return array.reshape(shape[:1])  # the only parameter of its group

    return [
        {
            "method": method.state_name,
            "scalars": dict(scalars),
            "params": group.flat[lo:hi].reshape(shape),
            "state": {name: shown(array, lo, hi, shape) for name, array in slots.items()},
            "hidden": {name: shown(array, lo, hi, shape) for name, array in hidden.items()},
        }
        for (lo, hi), shape in zip(group.places.spans, group.places.shapes, strict=True)
    ]


def learning_rates(group: Group, t: int, coefs: tuple[float, ...]) -> list[Array]:
    """Return new arrays of the effective rates of the last step ``t``; NaN if it is 0.

    ``coefs`` are the rule's coefficients in that step.
    """
    backend, part = group.backend, group.whole
    out = backend.empty(group.flat.size, group.number, group.flat)
    backend.wait(group.flat)
    if part.stored_rates:
        backend.copy(out, part.stored_rates[0])
    elif t:
        _compute_rates(group, out, coefs)
    else:
        backend.fill(out, np.nan)
    backend.wait(out)
    return group.places.views(out)


def _compute_rates(group: Group, out: Array, coefs: tuple[float, ...]) -> None:
    backend, slots, rate = group.backend, group.whole.slots, group.method.rate
    assert rate is not None
    by_row = bool(slots) and slots[0].size < out.size  # one for each row
    of_each = backend.empty(slots[0].size, group.number, out) if by_row else out
    backend.rate_kernel(rate, group.layout)(of_each, slots, coefs)
    if by_row:
        backend.spread(of_each, out)


def gradient_norms(group: Group, gradients: Sequence[Array]) -> list[float]:
    """Return for each parameter the residual of optimality with its gradient."""
    return [gradient_norm(group, k, g) for k, g in enumerate(gradients)]


def gradient_norm(group: Group, k: int, g: Array) -> float:
    """Return the residual of optimality of one parameter with its gradient."""
    lo, hi = group.places.spans[k]
    if not group.prox.is_separable:
        return _distance(group, lo, hi, g)
    part, kernel = group.part(lo, hi), group.norm_kernel(g.dtype)
    return float(kernel(part.x, storage(g), part.prox_arrays, group.penalty.coefs, 0.0, np.nan))


def _distance(group: Group, lo: int, hi: int, g: Array) -> float:
    """Return the largest move of a coordinate in a step of rate 1."""
    x = group.backend.to_host(group.flat[lo:hi]).astype(np.float64)
    g = group.backend.to_host(g).astype(np.float64)
    if not (np.isfinite(g).all() and np.isfinite(x).all()):
        return math.nan
    l1, l2 = group.method.penalty
    if l1 or l2:
        g = l1_gradients(x, g + l2 * x, l1)  # type: ignore[no-untyped-call]
    return float(np.max(np.abs(x - group.prox.solve(x - g, np.ones(x.shape))), initial=0.0))
