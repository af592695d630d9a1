"""A method whose coordinates have units of their own."""

from __future__ import annotations

from functools import lru_cache

from ..scalar import ScalarFunction
from .base import Method

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


@lru_cache(maxsize=64)
def rule_in_units(rule: ScalarFunction) -> ScalarFunction:
    """Return a rule for ``x / unit``; it must move every point alike."""

    def in_units(x, g, unit, *rest):
        step, rate, slots = rule(x - x, unit * g, *rest)
        return x + unit * step, unit * (unit * rate), (unit, *slots)

    return in_units


@lru_cache(maxsize=64)
def rate_in_units(rate: ScalarFunction) -> ScalarFunction:
    """Return the effective rate of `rule_in_units`."""

    def in_units(unit, *rest):
        return unit * (unit * rate(*rest))

    return in_units


@lru_cache(maxsize=64)
def idle_in_units(idle: ScalarFunction) -> ScalarFunction:
    """Return the effect of steps without a gradient of `rule_in_units`."""

    def in_units(k, x, unit, *rest):
        step, slots = idle(k, x - x, *rest)
        return x + unit * step, (unit, *slots)

    return in_units


def name_in_units(name: str) -> str:
    """Return the name of the states of a method in units, from that of its own."""
    return f"{name} in units (lr='auto')"


@lru_cache(maxsize=64)
def _class_in_units(kind: type[Method]) -> type[Method]:
    class InUnits(kind):  # type: ignore[valid-type, misc]
        """The method with the slot ``unit`` before its own."""

    InUnits.__name__ = InUnits.__qualname__ = kind.__name__
    # After the class has been made: a class that brings a rule loses what is known of its parent's.
    for name, change in _CHANGES.items():
        setattr(InUnits, name, _derived(InUnits, name, change))
    return InUnits


def _derived(kind, name, change):
    """Return a property that is that of the parent class, changed."""
    return property(lambda self: change(getattr(super(kind, self), name)))


_CHANGES = {
    "slots": lambda slots: ("unit", *slots),
    "rule": rule_in_units,
    "rate": lambda rate: None if rate is None else rate_in_units(rate),
    "idle": lambda idle: None if idle is None else idle_in_units(idle),
    "state_name": name_in_units,
}


def in_units(method: Method) -> Method:
    """Return a method that takes its steps in ``x / unit``, with the slot ``unit`` before its own.

    The units are put into the slot before the first step.
    """
    fields = {name: getattr(method, name) for name in (*method.own_fields(), *_OF_ALL)}
    return _class_in_units(type(method))(**fields)  # type: ignore[arg-type]


_OF_ALL = ("weight_decay", "decoupled")
