"""One step on one array, by its length: time, bandwidth, and the part of what the machine allows."""

import numpy as np

from . import machine, peers
from .limits import plain_steps
from .timing import Entry, compare, stepping

TITLE = "A step on one array"
PEERS = peers.STEPPERS
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
    x, g = rng.standard_normal(n, np.float32), peers.signed(rng, n)
    gradients = [g], [-g]
    made = {"adaptopt": peers.Ours(method, [x], gradients)}
    made |= peers.steppers(method, [x], gradients)
    entries = []
    for name, (check, same) in peers.checked(made, "adaptopt").items():
        kind = "ours" if name == "adaptopt" else "peer"
        measure = stepping(made[name]) if same else None
        entries.append(Entry(name, kind, measure, "adaptopt", check))
    for name, stepper in plain_steps(slots, x, [g, gradients[1][0]]).items():
        entries.append(Entry(name, "limit", stepping(stepper), "adaptopt", "moves the same bytes"))
    return compare(case, entries, plan.seconds, **facts)


REASONS = {
    "torch fused": "the same streams through one vectorised kernel: both run at the memory's speed",
    "DeepSpeed": "the same streams through one vectorised kernel: both run at the memory's speed",
    "JAX + optax": "XLA fuses the update into one loop over the same streams, and queues the calls",
    "NumPy": "a few ufuncs on so few elements cost as little as one call",
}
