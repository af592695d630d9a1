"""One step on a dict of many parameters of 1,000 elements."""

import numpy as np

from . import steppers
from .data import signed
from .limits import plain_steps
from .timing import Entry, compare, stepping

TITLE = "A step on a dict of parameters"
PEERS = steppers.PEERS
THREADS = ("all",)
SIZE = 1_000
# XLA compiles one program for all leaves, in a time that grows faster than their number.
MOST_JAX_LEAVES = 1_000


def run(plan):
    """Yield a comparison for every number of parameters."""
    counts = (1, 20) if plan.quick else (1, 10, 100, 1_000, 10_000)
    for count in counts:
        yield contest("AdaGrad", count, plan)
    yield contest("RMSProp", counts[-2], plan)


def contest(method, count, plan):
    rng = np.random.default_rng(0)
    starts = list(rng.standard_normal((count, SIZE), np.float32))
    g = signed(rng, (count, SIZE))
    gradients = list(g), list(-g)
    leave_out = ["JAX + optax"] if count > MOST_JAX_LEAVES else []
    made = {"adaptopt": steppers.Ours(method, starts, gradients)}
    if count > 1:
        made["with gradients in a dict of their own"] = steppers.Ours(
            method, starts, gradients, False
        )
    made |= steppers.those_of_peers(method, starts, gradients, leave_out)
    entries = []
    for name, (check, same) in steppers.checked(made, "adaptopt").items():
        kind = "ours" if isinstance(made[name], steppers.Ours) else "peer"
        entries.append(Entry(name, kind, stepping(made[name]) if same else None, "adaptopt", check))
    for name in leave_out:
        entries.append(Entry(name, "peer", None, None, "not run: it compiles for minutes"))
    flat = np.concatenate(starts)
    for name, stepper in plain_steps(1, flat, [g.ravel(), -g.ravel()]).items():
        entries.append(Entry(name, "limit", stepping(stepper), "adaptopt", "moves the same bytes"))
    case = {"method": method, "parameters": count, "elements": SIZE}
    return compare(case, entries, plan.seconds, bytes=20 * count * SIZE)


REASONS = {}
