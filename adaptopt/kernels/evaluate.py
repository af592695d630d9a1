"""How a kernel calls what a user compiled: plain functions, one for each form."""

from __future__ import annotations

import numpy as np

from .compile import (
    Make,
    inlinable,
    memoised,
)

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# These functions are compiled.

IN_PLACE, PAIR, SEPARATE = "in place", "pair", "separate"


def as_it_is(x, spare):
    """Pass the point on: the function was compiled for one that is read-only."""
    return x


def copied(x, spare):
    """Pass on a copy, as the loop in Python does."""
    for i, value in enumerate(x.flat):
        spare.flat[i] = value
    return spare


# The function comes second: Numba warns of tuples that begin with one, and calls with * make them.
def passed(x, fun, *rest):
    """Call the function that the kernel was passed."""
    return fun(x, *rest)


@memoised
def make_in_place(point):
    """Evaluate a function that writes its gradient."""
    point, call = inlinable(point), inlinable(passed)

    def evaluate(fun, jac, x, batch, g, spare, args):
        return np.float64(call(point(x, spare), fun, *batch, g, *args)), True

    return evaluate


@memoised
def make_pair(point):
    """Evaluate a function that returns value and gradient."""
    point, call, take = inlinable(point), inlinable(passed), inlinable(take_gradient)

    def evaluate(fun, jac, x, batch, g, spare, args):
        value, gradient = call(point(x, spare), fun, *batch, *args)
        return np.float64(value), take(gradient, g)

    return evaluate


@memoised
def make_separate(point):
    """Evaluate two functions."""
    point, call, take = inlinable(point), inlinable(passed), inlinable(take_gradient)

    def evaluate(fun, jac, x, batch, g, spare, args):
        value = np.float64(call(point(x, spare), fun, *batch, *args))
        return value, take(call(point(x, spare), jac, *batch, *args), g)

    return evaluate


def take_gradient(gradient, g):
    """Copy a gradient that was returned; tell whether it has the shape."""
    if gradient.shape != g.shape:
        return False
    for i, value in enumerate(gradient.flat):
        g.flat[i] = value
    return True


EVALUATE: dict[str, Make] = {
    IN_PLACE: make_in_place,
    PAIR: make_pair,
    SEPARATE: make_separate,
}
