"""One step on one array, by its length: time, bandwidth, and the part of the limit."""

import numpy as np

from . import machine, peers, steppers
from .data import signed
from .limits import plain_steps
from .timing import Entry, compare, stepping

TITLE = "A step on one array"
PEERS = steppers.PEERS
THREADS = ("all", "one")
SLOTS = {"AdaGrad": 1, "RMSProp": 1, "Adam": 2}
COPIES = 13  # arrays of the length that all peers take together at most, beside their slots


def run(plan):
    """Yield a comparison for every method and length."""
    sizes = (1_000, 100_000) if plan.quick else [10**k for k in range(2, 9)]
    for n in sizes:
        for method, slots in SLOTS.items():
            yield contest(method, n, slots, plan)


def contest(method, n, slots, plan):
    case = {"method": method, "n": n}
    facts = {"bytes": 4 * (3 + 2 * slots) * n}  # x and g read, x written; each slot both
    needed = 4 * n * (COPIES + 8 * slots)
    if needed > machine.available_bytes():
        return {"case": case, **facts, "entries": [], "left_out": f"needs {needed / 1e9:.0f} GB"}
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(n, np.float32), signed(rng, n)
    gradients = [g], [-g]
    made = {"adaptopt": steppers.Ours(method, [x], gradients)}
    made |= steppers.those_of_peers(method, [x], gradients)
    entries = []
    for name, (check, same) in steppers.checked(made, "adaptopt").items():
        kind = "ours" if name == "adaptopt" else "peer"
        measure = stepping(made[name]) if same else None
        entries.append(Entry(name, kind, measure, "adaptopt", check))
    if method == "AdaGrad" and peers.why_missing("ml_dtypes") is None:
        narrow = steppers.Ours(method, [x], gradients, state_dtype="bfloat16")
        check = "the state is rounded at random"
        entries.append(Entry("with bfloat16 state", "ours", stepping(narrow), "adaptopt", check))
    for name, stepper in plain_steps(slots, x, [g, gradients[1][0]]).items():
        entries.append(Entry(name, "limit", stepping(stepper), "adaptopt", "moves the same bytes"))
    return compare(case, entries, plan.seconds, **facts)


REASONS = {
    "torch fused": "the same streams through one vectorised kernel: both run at the memory's speed",
    "DeepSpeed": "the same streams through one vectorised kernel: both run at the memory's speed",
    "JAX + optax": "XLA fuses the update into one loop over the same streams, and queues the calls",
    "NumPy": "a few ufuncs on so few elements cost as little as one call",
}
