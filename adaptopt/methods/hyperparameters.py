"""Read the hyperparameters of methods: numbers within the ranges of the papers."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from functools import lru_cache
from numbers import Real
from typing import Any

# The range of a hyperparameter, by its name in the literature: its text, and its test.
_EXPECTED: dict[str, tuple[str, Callable[[float], bool]]] = {
    "lr": ("> 0", lambda v: v > 0),
    "eps": (">= 0", lambda v: v >= 0),
    "eps_root": (">= 0", lambda v: v >= 0),
    "rho": ("in [0, 1)", lambda v: 0 <= v < 1),
    "beta1": ("in [0, 1)", lambda v: 0 <= v < 1),
    "beta2": ("in [0, 1)", lambda v: 0 <= v < 1),
    "momentum": ("in [0, 1)", lambda v: 0 <= v < 1),
    "momentum_decay": (">= 0", lambda v: v >= 0),
    "dampening": ("in [0, 1)", lambda v: 0 <= v < 1),
    "initial_accumulator": (">= 0", lambda v: v >= 0),
    "l1": (">= 0", lambda v: v >= 0),
    "l2": (">= 0", lambda v: v >= 0),
    "beta": (">= 0", lambda v: v >= 0),
    "weight_decay": (">= 0", lambda v: v >= 0),
}


def read_hyperparameter(owner: str, name: str, value: Any, default: object) -> Any:
    """Return the checked value of a method's field, with numbers as floats."""
    if (
        type(value) is float
        and value < math.inf
        and name in _EXPECTED
        and _EXPECTED[name][1](value)
    ):
        return value  # at once: the text below takes as long as all other checks
    where = f"{owner}.{name} is {value!r}, expected"
    if name == "lr" and isinstance(value, str):
        if value != "auto":
            raise ValueError(f"{where} a number > 0, a function of the step, or 'auto'")
        return value
    if isinstance(default, bool):
        if value not in (True, False):
            raise TypeError(f"{where} True or False")
        return bool(value)
    if (name == "lr" and callable(value)) or not (name in _EXPECTED or type(default) is float):
        return value
    expected, holds = _EXPECTED.get(name, ("", math.isfinite))
    also = " or a function of the step" if name == "lr" else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{where} a number {expected}{also}")
    if not (math.isfinite(value) and holds(float(value))):
        raise ValueError(f"{where} a finite number {expected}{also}")
    # A float32 scalar would make the coefficients float32.
    return float(value)


@lru_cache(maxsize=256)
def fields_beyond(kind: type, base: type) -> tuple[str, ...]:
    """Return the names of a dataclass's fields that a class above it does not have."""
    inherited = {f.name for f in dataclasses.fields(base)}
    return tuple(f.name for f in dataclasses.fields(kind) if f.name not in inherited)


def as_float(value: Any) -> float | None:
    """Return a number as a float, and anything else as None."""
    try:
        return None if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None


class SignatureOfInit:
    """The signature that a class shows: that of ``__init__``, whatever ``__new__`` takes."""

    def __get__(self, instance: object, owner: type[Any]) -> inspect.Signature:
        if instance is not None:
            raise AttributeError("__signature__")  # instances are called otherwise
        signature = inspect.signature(owner.__init__)
        return signature.replace(parameters=[*signature.parameters.values()][1:])


def without_defaults(method: Any) -> str:
    """Return the call that makes a method, without the arguments that are its class's defaults."""
    given = {f.name: (getattr(method, f.name), f) for f in dataclasses.fields(method) if f.init}
    order = [*given][2:] + [*given][:2]  # those of all methods come last
    shown = [
        f"{name}={value!r}"
        for name, (value, field) in ((name, given[name]) for name in order)
        if field.repr and value != field.default
    ]
    return f"{type(method).__qualname__}({', '.join(shown)})"
