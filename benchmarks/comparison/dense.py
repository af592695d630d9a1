"""One step on one array, by its length: time, bandwidth, and comparison with the limit."""

import numpy as np
from benchmarks.data import signed

from . import machine, peers, steppers
from .timing import compare

TITLE = "A step on one array"
PEERS = steppers.PEERS
THREADS = ("all", "one")
# The memory of all candidates together, in arrays: this many, and this many per slot.
COPIES, STATES = 19, 11


def run(plan):
    """Yield a comparison for every method and length."""
    sizes = [10**k for k in ((3, 5, 7) if plan.brief else range(2, 9))]
    if plan.quick:
        sizes = 1_000, 10_000
    for n in sizes:
        for method, slots in steppers.SLOTS.items():
            yield contest(method, n, slots, plan)


def contest(method, n, slots, plan):
    case = {"method": method, "n": n}
    facts = {"bytes": 4 * (3 + 2 * slots) * n}  # x and g are read, x is written, each slot is both
    needed = 4 * n * (COPIES + STATES * slots)
    if needed > machine.available_bytes():
        return {"case": case, **facts, "entries": [], "left_out": f"needs {needed / 1e9:.0f} GB"}
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal(n, np.float32), signed(rng, n)
    gradients = [g], [-g]
    ours = {}
    if method == "AdaGrad" and peers.why_missing("ml_dtypes") is None:
        ours["with bfloat16 state"] = steppers.Ours(
            method, [x], gradients, state_dtype="bfloat16", says="the state is rounded at random"
        )
    entries = steppers.entries(method, [x], gradients, ours, {})
    return compare(case, entries, plan.seconds, **facts)


REASONS = {
    "torch compiled": "one kernel for the same arrays: both run at the speed of memory",
    "torch fused": "one vectorised kernel for the same arrays: both run at the speed of memory",
    "DeepSpeed": "one vectorised kernel for the same arrays: both run at the speed of memory",
    "JAX + optax": "XLA fuses the update into one loop over the same arrays, and queues the calls",
    "NumPy": "a few ufuncs on so few elements cost as little as one call",
}
