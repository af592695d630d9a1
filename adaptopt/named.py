"""Methods by name."""

from __future__ import annotations

import difflib
from typing import Any

from . import dual_averaging, methods
from .method import Method

__all__ = ["METHODS", "read_named"]

METHODS: dict[str, type[Method]] = {
    name.lower(): getattr(module, name)
    for module in (methods, dual_averaging)
    for name in module.__all__
}


def read_named(what: str, method: Any) -> Any:
    """Return the method of a name, or that a class makes; others as they are."""
    if isinstance(method, type) and hasattr(method, "coefficients_at"):
        return method()
    if not isinstance(method, str):
        return method
    name = method.lower()
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{what} is {method!r}, expected one of {', '.join(METHODS)}{hint}")
    return METHODS[name]()
