"""What a kernel of many steps computes once a step: scalars and coefficients, as Python does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from .compile import inlinable

# mypy: disable-error-code="no-untyped-def, no-untyped-call"


def make_prepare(
    carry: Callable[..., Any],
    coefficients: Callable[..., Any],
    decay_coefficients: Callable[..., Any],
) -> Callable[..., Any]:
    """Compose a method's functions into what one step needs, in float64.

    ``prepare(t, lr, hyper, weight_decay, scalars, measured)`` returns the new scalars and the
    coefficients of decay and rule. ``t`` is a float64: so a power of it is the C library's, as in
    Python, to the last bit, where Numba would multiply up a power of an integer. ``hyper`` are the
    hyperparameters after ``lr``.
    """
    carry = inlinable(carry)
    coefficients, decay_coefficients = inlinable(coefficients), inlinable(decay_coefficients)

    def prepare(t, lr, hyper, weight_decay, scalars, measured):
        new = carry(t, lr, *hyper, *scalars, *measured)
        coefs = coefficients(t, lr, *hyper, *new)
        return new, decay_coefficients(lr, weight_decay), coefs

    return prepare


def narrow(values, like):
    """Cast the numbers of a tuple to the type of ``like``."""
    return tuple(np.dtype(type(like)).type(value) for value in values)


@overload(narrow, target="generic")
def _narrow(values, like):
    if len(values) == 0:
        return lambda values, like: ()
    if like == types.float32:
        return lambda values, like: (np.float32(values[0]),) + narrow(values[1:], like)
    return lambda values, like: (np.float64(values[0]),) + narrow(values[1:], like)
