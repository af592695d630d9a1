"""Learning rates that change with the step: ``schedule(t)`` is the rate of step t, from t = 1.

Any function of ``t`` can be a method's ``lr``. The schedules made here can be compared, printed and
pickled, and a parameter of a schedule may itself be a schedule.

Examples
--------
>>> import adaptopt as ao
>>> lr = ao.schedules.linear_warmup(ao.schedules.inverse_time(0.5, decay=0.1), steps=4)
>>> [round(lr(t), 3) for t in (1, 2, 4, 11)]
[0.125, 0.227, 0.385, 0.25]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse_time",
    "linear_warmup",
    "piecewise",
]


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step.

    Parameters
    ----------
    formula : callable
        ``formula(t, *parameters) -> float``, a plain scalar function.
    parameters : tuple
        The arguments of the formula after ``t``. A parameter that is callable is first evaluated
        at ``t``.
    """

    formula: Callable[..., float]
    parameters: tuple[object, ...]

    def __call__(self, t: int) -> float:
        """Return the learning rate of step ``t``, counted from 1."""
        parameters = [p(t) if callable(p) else p for p in self.parameters]
        try:
            return self.formula(t, *parameters)
        except OverflowError:  # of a power: compiled code gives infinity
            return math.inf

    def __repr__(self) -> str:
        name = self.formula.__name__.lstrip("_")
        return f"{name}({', '.join(map(repr, self.parameters))})"


def constant(lr: float) -> Schedule:
    """Keep the rate constant: ``lr``."""
    return Schedule(_constant, (_rate("lr", lr),))


def inverse_time(lr: float | Schedule, decay: float) -> Schedule:
    """Let the rate fall like 1 / t: ``lr / (1 + decay * (t - 1))``, torch's ``lr_decay``."""
    return Schedule(_inverse_time, (_rate("lr", lr), _at_least_zero("decay", decay)))


def exponential(lr: float | Schedule, decay: float, steps: int = 1) -> Schedule:
    """Multiply the rate by ``decay`` every ``steps`` steps: ``lr * decay**((t - 1) / steps)``."""
    return Schedule(
        _exponential, (_rate("lr", lr), _at_least_zero("decay", decay), _count("steps", steps))
    )


def cosine(lr: float | Schedule, steps: int, final: float = 0.0) -> Schedule:
    """Fall along half a cosine from ``lr`` at t = 1 to ``final``, reached after ``steps`` steps.

    The rate then stays at ``final``. This is one period of Loshchilov & Hutter, SGDR, ICLR 2017,
    eq. 5.
    """
    return Schedule(
        _cosine, (_rate("lr", lr), _count("steps", steps), _at_least_zero("final", final))
    )


def linear_warmup(lr: float | Schedule, steps: int) -> Schedule:
    """Rise linearly over the first ``steps`` steps: ``lr * min(1, t / steps)``.

    ``lr`` may be a schedule. It counts its steps from the start of the warm-up.
    """
    return Schedule(_linear_warmup, (_rate("lr", lr), _count("steps", steps)))


def piecewise(boundaries: Sequence[int], values: Sequence[float]) -> Schedule:
    """Use ``values[k]`` after ``k`` boundaries: ``values[0]`` is used up to ``boundaries[0]``.

    The boundaries are the last steps of the values, and increase strictly. ``values`` has one entry
    more than ``boundaries``.
    """
    for name, numbers in (("boundaries", boundaries), ("values", values)):
        if hasattr(numbers, "filled"):
            raise TypeError(f"{name} is a masked array, expected numbers without a mask")
    boundaries, values = tuple(boundaries), tuple(values)
    if len(values) != len(boundaries) + 1:
        raise ValueError(
            f"values has {len(values)} entries, expected {len(boundaries) + 1}: "
            "one more than boundaries"
        )
    for boundary in boundaries:
        _number("boundaries", boundary)
    rising = all(a < b for a, b in pairwise(boundaries))
    if not rising or any(map(math.isnan, boundaries)):
        raise ValueError(f"boundaries is {boundaries}, expected strictly rising steps")
    for value in values:
        _at_least_zero("values", value)
    return Schedule(_piecewise, (boundaries, values))


# -- the formulas, plain scalar functions ----------------------------------------------------------


def _constant(t: int, lr: float) -> float:
    return lr


def _inverse_time(t: int, lr: float, decay: float) -> float:
    return lr / (1.0 + decay * (t - 1))


def _exponential(t: int, lr: float, decay: float, steps: int) -> float:
    return float(lr * decay ** ((t - 1) / steps))


def _cosine(t: int, lr: float, steps: int, final: float) -> float:
    done = min(1.0, (t - 1) / steps)
    return final + (lr - final) * 0.5 * (1.0 + math.cos(math.pi * done))


def _linear_warmup(t: int, lr: float, steps: int) -> float:
    return lr * min(1.0, t / steps)


def _piecewise(t: int, boundaries: tuple[int, ...], values: tuple[float, ...]) -> float:
    k = 0
    for boundary in boundaries:
        if t > boundary:
            k += 1
    return values[k]


# -- checks of the parameters ----------------------------------------------------------------------


def _rate(name: str, lr: float | Schedule) -> float | Schedule:
    if callable(lr):
        return lr
    _number(name, lr)
    if not (math.isfinite(lr) and lr > 0):
        raise ValueError(f"{name} is {lr!r}, expected a finite number > 0 or a schedule")
    return lr


def _number(name: str, value: Any) -> None:
    try:
        math.isfinite(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a number") from None


def _at_least_zero(name: str, value: float) -> float:
    _number(name, value)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value!r}, expected a finite number >= 0")
    return value


def _count(name: str, steps: int) -> int:
    _number("steps", steps)
    if not (steps >= 1 and steps == math.floor(steps)):
        raise ValueError(f"{name} is {steps!r}, expected a whole number >= 1")
    return steps
