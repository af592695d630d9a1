"""One step on a dict of many parameters of 1,000 elements."""

import numpy as np
from benchmarks.data import signed

from . import steppers
from .timing import compare

TITLE = "A step on a dict of parameters"
PEERS = steppers.PEERS
THREADS = ("all",)
SIZE = 1_000
# These compile one program for all parameters, in a time that grows faster than their number.
MOST = {"JAX + optax": 1_000, "torch compiled": 10}


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
    ours = {}
    if count > 1:
        own = "with gradients in a dict of their own"
        ours[own] = steppers.Ours(method, starts, gradients, in_place=False)
    reason = "not run: it compiles for minutes"
    leave_out = {name: reason for name, most in MOST.items() if count > most}
    entries = steppers.entries(method, starts, gradients, ours, leave_out)
    case = {"method": method, "parameters": count, "elements": SIZE}
    return compare(case, entries, plan.seconds, bytes=20 * count * SIZE)


REASONS = {}
