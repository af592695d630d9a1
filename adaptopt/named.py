"""Methods by name: the modules that define them put them here."""

from __future__ import annotations

import difflib
from typing import Any

__all__ = ["METHODS", "read_named"]

# In lower case. It is filled by `minimize`, which knows the modules: an optimizer lies below them.
METHODS: dict[str, Any] = {}


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
