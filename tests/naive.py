"""The optimizer as a Python loop over coordinates: slow, obvious, and without a kernel."""

import numpy as np


def naive_steps(method, x, gradients, clip=None):
    """Return x, the slots and the last rates after one step for each row of gradients."""
    x = [float(v) for v in x]
    initial = method.initial_state()
    slots = [tuple(initial.get(name, 0.0) for name in method.slots) for _ in x]
    rates = [0.0] * len(x)
    scalars = method.initial_scalars()
    for t, g in enumerate(gradients, start=1):
        scalars = method.carried(t, scalars)
        decay_coefs, coefs = method.coefficients_at(t, scalars)
        for i in range(len(x)):
            x_i, g_i = method.decay(x[i], float(g[i]), *decay_coefs)
            x[i], rates[i], slots[i] = method.rule(x_i, g_i, *slots[i], *coefs)
            if clip:
                x[i] = min(max(x[i], clip[0]), clip[1])
    return np.array(x), np.array(slots).T, np.array(rates)
