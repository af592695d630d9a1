"""A step that is interrupted, at any line of its Python, was taken or was not: `t` tells which."""

import sys
from pathlib import Path

import numpy as np
import pytest

import adaptopt as ao

PACKAGE = str(Path(ao.__file__).parent)


class Interrupt(BaseException):
    """What no handler expects."""


def tracer(line):
    """Return what raises at the line of the package that is executed as that in number."""
    left = [line]

    def trace(frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise Interrupt
        return trace

    return trace


def falling(t):
    return 0.1 / t


DECAYING = ao.RMSProp(falling, weight_decay=0.1, decoupled=True)
SCALARS = {"table": DECAYING, "b": ao.Nadam(0.1), "c": ao.RMSProp(0.1), "d": ao.RMSProp(0.1)}
MOVING = {**SCALARS, "table": ao.RMSProp(0.1, momentum=0.9), "b": ao.AdaGradNorm(0.1)}
KINDS = {
    "one array": (ao.AdaGrad(0.1), {}),
    "groups": (SCALARS, {"clip_norm": 3.0}),
    "rows that decay": (SCALARS, {}),
    "rows that move": (MOVING, {}),
    "maps that tie": (ao.AdaGrad(0.1), {"prox": {"b": ao.Simplex(), "d": ao.L2Ball(1.0)}}),
}


def make(kind):
    method, options = KINDS[kind]
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(n) for name, n in {"b": 5, "c": 4, "d": 4}.items()}
    params["table"] = rng.standard_normal((6, 2))
    return ao.Optimizer(params["b"] if kind == "one array" else params, method, **options)


def gradients(kind, t):
    rng = np.random.default_rng(t)
    gs = {"table": rng.standard_normal((6, 2))}
    gs |= {name: rng.standard_normal(n) for name, n in {"b": 5, "c": 4, "d": 4}.items()}
    if kind == "one array":
        return gs["b"]
    if kind.startswith("rows"):
        if t % 3:
            gs["table"] = ([0, t, t], gs["table"][:3])
        if t % 2:
            gs["d"] = None
    return gs


def run(kind, opt, steps):
    for t in range(opt.t + 1, steps + 1):
        opt.step(gradients(kind, t))
    return opt


def leaves(state):
    """Return all that is in a state, flat."""
    if isinstance(state, dict):
        return [leaf for key in sorted(state) for leaf in leaves(state[key])]
    return [state]


@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_step_is_taken_or_not(kind, at):
    expected = leaves(run(kind, make(kind), at + 2).state_dict())
    found = set()
    interrupted, line = True, 0
    while interrupted:
        opt = run(kind, make(kind), at - 1)
        # The first lines one by one, later ones with gaps that have no factor in common with loops.
        line += 1 if line < 40 else 7
        before = sys.gettrace()
        sys.settrace(tracer(line))
        try:
            opt.step(gradients(kind, at))
            interrupted = False
        except Interrupt:
            pass
        finally:
            sys.settrace(before)
        found.add(opt.t)
        for ours, theirs in zip(leaves(run(kind, opt, at + 2).state_dict()), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert found == {at - 1, at}
