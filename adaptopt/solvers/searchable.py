"""Which methods and maps a search for the learning rate takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ..arrays import Array
from ..kernels.compile import REMEMBERED
from ..methods.base import Method
from ..placement import HOST, backend_of
from ..prox.base import Proximal

ON_DEVICE = "x0 a CUDA array"


def with_rate(method: Method, lr: float | str | Callable[[int], float]) -> Method:
    """Return a method with another learning rate."""
    make = _with_rate if is_hashable(method) else _with_rate.__wrapped__
    return make(method, lr)


@lru_cache(maxsize=REMEMBERED)
def _with_rate(method: Method, lr: float | str | Callable[[int], float]) -> Method:
    return replace(method, lr=lr)  # type: ignore[call-arg]


def is_hashable(method: Method) -> bool:
    """Tell whether what depends on a method alone can be kept for the next call with an equal one.

    To make and check a method takes 20 us, and a short run makes several.
    """
    try:
        hash(method)
    except TypeError:  # a field of the user's is an array or a list
        return False
    return True


def why_no_search(method: Method, prox: object, x: Array) -> str | None:
    """Say with what there is no search for the learning rate; None if there is one."""
    why = _why_no_search(method, prox)
    return ON_DEVICE if why is None and backend_of(x) is not HOST else why


def _why_no_search(method: Method, prox: object) -> str | None:
    if not method.has_objective:
        return f"{method!r}: decoupled weight decay is the gradient of no function"
    if method.from_sums:
        return f"{method!r}, which computes each point anew from sums"
    if method.rowwise:
        return f"{method!r}: the rows of a table share a rate, which the search does not know"
    if method.numbers_after_lr is None:
        return f"{method!r}, whose fields are not lr, then numbers"
    shifts_alike = _shifts_alike if is_hashable(method) else _shifts_alike.__wrapped__
    if not shifts_alike(method):
        return f"{method!r}, whose steps depend on x itself"
    if isinstance(prox, Proximal) and not (
        prox.is_separable and type(prox).penalty is Proximal.penalty
    ):
        return f"prox {prox!r}, a map that ties coordinates together"
    return None


@lru_cache(maxsize=REMEMBERED)
def _shifts_alike(method: Method) -> bool:
    """Tell whether a rule moves every point alike: the search asks it for displacements from 0."""
    plain = replace(method, weight_decay=0.0, lr=1.0)  # type: ignore[call-arg]
    initial = plain.initial_state()
    slots = tuple(initial.get(name, 0.0) for name in plain.slots)
    coefs = plain.coefficients_at(1)[1]
    try:
        with np.errstate(all="ignore"):
            moves = [
                float(plain.rule(np.float64(x), np.float64(0.7), *slots, *coefs)[0]) - x
                for x in (0.0, 1.0, -2.0)
            ]
    except (ArithmeticError, ValueError):
        return True  # a kernel computes on
    return not np.ptp(moves) > 1e-6 * max(map(abs, moves), default=0.0)


def can_search(method: Method, prox: Proximal) -> bool:
    """Tell whether there is a search for the rate of a method under a map, on the host."""
    return _why_no_search(method, prox) is None


def check_search(method: Method, prox: Proximal | None) -> None:
    """Raise if there is no search for the rate of a method under a map."""
    if (why := _why_no_search(method, prox)) is not None:
        refuse_auto(why)


def check_place(on_device: bool) -> None:
    """Raise if there is no search where an array lies."""
    if on_device:
        refuse_auto(ON_DEVICE)


def refuse_auto(why: str) -> None:
    """Raise, because there is no rate to be found."""
    raise ValueError(
        f"lr is 'auto' with {why}, expected a learning rate, such as options={{'lr': 0.1}}"
    )
