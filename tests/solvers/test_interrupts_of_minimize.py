"""Interrupt a run of minimize at each line in turn: its state goes on as if nothing had been."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit

import adaptopt as ao

FOLDER = str(Path(ao.__file__).parent)
# A few steps: each line that one of them runs is interrupted, each at a run of its own.
STEPS = 2
SCALE = np.array([10.0, 1.0, 0.1])


def bowl(x):
    return float(SCALE @ (x - 0.7) ** 2), 2 * SCALE * (x - 0.7)


@njit
def compiled_bowl(x, g_out):
    f = 0.0
    for i in range(x.size):
        f += SCALE[i] * (x[i] - 0.7) ** 2
        g_out[i] = 2 * SCALE[i] * (x[i] - 0.7)
    return f


RUNS = {
    "compiled, with callbacks": {
        "fun": compiled_bowl,
        "jac": None,
        "options": {"certificate": True, "xtol": 1e-9, "ftol": 1e-9, "callback_every": 4},
        "bounds": [(-1, 1)] * 3,
        "callback": lambda intermediate_result: None,
        "steps": 6,
    },
    "ftol": {"options": {"ftol": 1e-9, "gtol": None}},
    "xtol and patience": {"options": {"xtol": 1e-9, "patience": 3}},
    "certificate": {
        "options": {"certificate": True, "ftol": 1e-9},
        "bounds": [(-1, 1)] * 3,
        "method": ao.AdaGrad(lr=0.2),
    },
    "scalars and a schedule": {"method": ao.Nadam(lr=lambda t: 0.1 / t)},
    "checked every second step": {"options": {"check_every": 2}},
}
RESULT = ("x", "fun", "jac", "status", "learning_rates", "certificate", "lower_bound")


def run(steps, state=None, fun=bowl, method=None, options=None, **others):
    return ao.minimize(
        *(fun, np.zeros(3)),
        method=method or ao.AdaGrad(lr=0.5),
        options={**(options or {}), "maxiter": steps},
        state=state,
        **{"jac": True, **others},
    )


def interrupted(call, k):
    """Raise KeyboardInterrupt before the k-th line of ours; return it, or None if there is none."""
    seen = 0

    def at_line(frame, event, arg):
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == k:
                sys.settrace(None)
                raise KeyboardInterrupt
        return at_line

    def at_call(frame, event, arg):
        return at_line if frame.f_code.co_filename.startswith(FOLDER) else None

    before = sys.gettrace()  # a debugger's, or that of coverage
    sys.settrace(at_call)
    try:
        call()
    except KeyboardInterrupt as error:
        return error
    finally:
        sys.settrace(before)
    return None


def flat(state):
    """Return the numbers and arrays of a state by name."""
    sums = {} if state.sums is None else vars(state.sums)
    entry = state.optimizer["parameters"][""]
    others = ("optimizer", "sums", "added")
    fields = {name: value for name, value in vars(state).items() if name not in others}
    fields = {name: np.nan if value is None else value for name, value in fields.items()}
    return {**fields, **sums, "x": state.x, "t": state.t, **entry["state"], **entry["scalars"]}


def with_state(call):
    """Interrupt at each line of the run; return where it was, and the state that the error has."""
    k, found = 1, []
    while (error := interrupted(call, k)) and not hasattr(error, "state"):  # arguments are read
        k += 20
    k = max(1, k - 20)
    while (error := interrupted(call, k)) is not None:
        trace = error.__traceback__
        while trace.tb_next.tb_next:
            trace = trace.tb_next
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        found.append((where, getattr(error, "state", None)))
        k += 1
    return found


@pytest.mark.parametrize("others", RUNS.values(), ids=RUNS)
def test_the_state_of_an_interrupt_goes_on_as_if_nothing_had_been(others):
    others = dict(others)
    steps = others.pop("steps", STEPS)
    whole = run(steps, **others)
    found = with_state(lambda: run(steps, **others))
    wrong, expected = [], flat(whole.state)
    # Of states that are the same one goes on: few lines change them.
    states = {pickle.dumps(state): (where, state) for where, state in found if state is not None}
    assert len({state.t for _, state in states.values()}) > STEPS
    for where, state in states.values():
        rest = run(steps - state.t, state, **others)
        for name in RESULT:
            if not np.array_equal(rest[name], whole[name]):
                wrong.append(f"{where} in step {state.t}: {name} {rest[name]} not {whole[name]}")
        for name, value in flat(rest.state).items():
            if not np.array_equal(value, expected[name], equal_nan=True):
                wrong.append(f"{where} in step {state.t}: {name} {value}")
    assert not wrong, f"{len(wrong)} of {len(states)}: " + "\n".join(wrong[:20])
