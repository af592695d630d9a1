"""What a run adds to its function: bounds and penalties, in a digest."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from ..kernels.compile import REMEMBERED
from ..methods.base import Method
from ..prox.base import Proximal


def added_to(method: Method, prox: Proximal) -> str:
    """Return a digest of what a run adds to its function: bounds and penalties.

    A value found under others says nothing about the objective.
    """
    parts = (*method.penalty, method.has_objective)
    return _added_alone(parts) if type(prox) is Proximal else _digest((*parts, prox))


@lru_cache(maxsize=REMEMBERED)
def _added_alone(parts: tuple[float, ...]) -> str:
    return _digest((*parts, Proximal()))


def _digest(parts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(_content(parts)).encode()).hexdigest()[:16]


def _content(value: object) -> object:
    """Return what tells a parameter of a map from others, the same in every process.

    An array of one number everywhere is that number. Of what is not known only the type counts.
    """
    if isinstance(value, Proximal):
        return type(value).__qualname__, [(k, _content(v)) for k, v in sorted(vars(value).items())]
    if isinstance(value, tuple | list):
        return [_content(part) for part in value]
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        return type(value).__qualname__
    array = array.astype(np.float64) + 0.0  # without -0
    if array.size and (array == array.flat[0]).all():
        return float(array.flat[0])
    return array.shape, hashlib.sha256(array.tobytes()).hexdigest()
