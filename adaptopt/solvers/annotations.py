"""Whether values that come from files or users are of the annotated types."""

from __future__ import annotations

from numbers import Integral, Real
from types import UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np


def is_a(value: object, hint: Any) -> bool:
    """Tell whether a value is of an annotated type, which JSON or a file can hold."""
    kinds, of = get_args(hint), get_origin(hint)
    if of in (UnionType, Union):
        return any(is_a(value, kind) for kind in kinds)
    if of is tuple:
        return (
            isinstance(value, tuple) and len(value) == len(kinds) and all(map(is_a, value, kinds))
        )
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool | np.bool)
    return hint is Any or isinstance(value, of or hint)


def in_words(hint: object) -> str:
    """Return an annotation as an error message names it."""
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
