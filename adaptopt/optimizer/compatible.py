"""Check once, in plain Python, whether a method and a proximal map can step a group."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import DType, check_fits, compute_dtype
from ..methods.base import Method
from ..prox.base import Proximal


def check_method(
    method: Method, prox: Proximal, number: DType
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the coefficients of decay and rule in the first step of a method.

    Raise an error if the method is incompatible with the map, or if one of its numbers becomes 0 in
    the arithmetic.
    """
    if method.from_sums and prox.has_penalty:
        raise ValueError(
            f"prox is {prox!r} with {method!r}, expected a map without a penalty, such as "
            "Box(0, 1): the point is computed anew from sums of gradients, so a penalty is "
            "forgotten; the method's own l1 and l2 are not"
        )
    if not (prox.is_separable or method.takes_tied_maps):
        raise ValueError(
            f"prox is a {type(prox).__name__} with {method!r}, expected l1 and l2 0.0: "
            "where the method's own penalty moves the point, its rates are not those in which "
            "such a map is a projection"
        )
    decay_coefs, coefs = method.coefficients_at(1)
    _check_rule(method, coefs)
    for name, value in vars(method).items():
        if isinstance(value, float):
            check_fits(name, value, number)
    return decay_coefs, coefs


def _check_rule(method: Method, coefs: tuple[float, ...]) -> None:
    """Run a rule once as plain Python, to check that its result fits the slots."""
    try:
        returned = method.rule(0.0, 1.0, *[0.0] * len(method.slots), *coefs)
    except ArithmeticError:
        return
    name = type(method).__name__
    if not (isinstance(returned, tuple) and len(returned) == 3 and isinstance(returned[2], tuple)):
        raise TypeError(f"{name}.rule returned {returned!r}, expected (x, rate, new slots)")
    if len(returned[2]) != len(method.slots):
        raise ValueError(
            f"{name}.rule returned {len(returned[2])} new slots, expected {len(method.slots)} "
            f"like slots {method.slots}"
        )


def parameters_of_map(
    prox: Proximal, shapes: Sequence[tuple[int, ...]], dtype: DType
) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """Return the arrays and coefficients of a map, over parameters of these shapes."""
    number = compute_dtype(dtype)
    arrays, coefs = zip(*[prox.parameters(shape, dtype) for shape in shapes], strict=True)
    joined = [np.concatenate(pieces) for pieces in zip(*arrays, strict=True)]
    for value in (*joined, *coefs[0]):
        check_fits(f"a parameter of prox, {type(prox).__name__},", value, number)
    return [array.astype(number) for array in joined], coefs[0]


def replaced(what: str, method: Method, hyperparameters: Mapping[str, Any]) -> Method:
    """Return a method with other hyperparameters and the same state."""
    name = type(method).__name__
    fields = [field.name for field in dataclasses.fields(method) if field.init]
    for key in hyperparameters:
        if key not in fields:
            raise TypeError(
                f"set got {key!r}, which {what}, {name}, does not have: expected "
                f"one of {', '.join(fields)}"
            )
    new = dataclasses.replace(method, **hyperparameters)
    for aspect in _KEPT:
        old, other = getattr(method, aspect), getattr(new, aspect)
        old, other = (v() if callable(v) else v for v in (old, other))
        if old != other:
            raise ValueError(
                f"set would change {what} to {new}, whose {aspect.replace('_', ' ')} would be "
                f"{other!r}, expected {old!r} as it is: make another Optimizer for it"
            )
    if (new.rate is None) != (method.rate is None):
        raise ValueError(f"set would change how {what} keeps its rates: make another Optimizer")
    return new


# Attributes of a method that determine the arrays of an optimizer.
_KEPT = (
    "slots",
    "initial_state",
    "scalars",
    "measures",
    "rowwise",
    "second_moments",
    "state_name",
)
