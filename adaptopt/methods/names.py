"""Methods by name."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from .adagrad import AdaGrad, AdaGradNorm, RowWiseAdaGrad
from .adam import Adam, Adamax, AdamW, AMSGrad
from .base import Method
from .dual_averaging import FTRL, AdaGradDA
from .momentum import SGD, Momentum
from .nadam import Nadam
from .rmsprop import AdaDelta, RMSProp

METHODS: dict[str, type[Method]] = {
    method.__name__.lower(): method
    for method in (
        *(SGD, AMSGrad, AdaDelta, AdaGrad, Adam, AdamW, Adamax, Momentum, Nadam, RMSProp),
        *(RowWiseAdaGrad, FTRL, AdaGradDA, AdaGradNorm),
    )
}


@cache
def _by_name(name: str) -> Method:
    return METHODS[name]()


def read_named(what: str, method: object) -> Any:
    """Return the method for a name or a class, and any other object unchanged."""
    if isinstance(method, type) and hasattr(method, "coefficients_at"):
        return method()
    if not isinstance(method, str):
        return method
    name = method.lower()
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{what} is {method!r}, expected one of {', '.join(METHODS)}{hint}")
    return _by_name(name)
