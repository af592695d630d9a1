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


class NaiveOptimizer:
    """`ao.Optimizer` of named parameters, each stepped as a whole, without anything that waits."""

    def __init__(self, params, methods, proxes, clip_norm=None, skips=False):
        self.params, self.methods, self.proxes = params, methods, proxes
        self.clip_norm, self.skips = clip_norm, skips
        self.reset()

    def reset(self):
        self.taken, self.skipped, self.slots = dict.fromkeys(self.params, 0), 0, {}
        self.scalars = {
            key: method.initial_scalars()
            for name, method in self.methods.items()
            for key in (name, method)
        }
        for name, method in self.methods.items():
            initial = method.initial_state()
            self.slots[name] = [
                np.full(self.params[name].shape, initial.get(slot, 0.0)) for slot in method.slots
            ]

    @property
    def t(self):
        return max(self.taken.values())

    def scalars_of(self, name):
        """Return a parameter's scalars: what is measured is one for all that share a method."""
        return self.scalars[self.methods[name] if self.methods[name].measures else name]

    def step(self, gradients):
        """Step along whole gradients; parameters with None stay as they are."""
        given = {name: g for name, g in gradients.items() if g is not None}
        squares = {name: float(np.sum(g * g)) for name, g in given.items()}
        if self.skips and not np.isfinite(sum(squares.values())):
            self.skipped += 1
            return
        norm = np.sqrt(sum(squares.values()))
        factor = self.clip_norm / norm if self.clip_norm and norm > self.clip_norm else 1.0
        shared = {}
        for name in given:
            method = self.methods[name]
            if method.measures:
                shared[method] = shared.get(method, 0.0) + factor**2 * squares[name]
        for method, measured in shared.items():
            self.scalars[method] = method.carried(0, self.scalars[method], (measured,))
        for name, g in given.items():
            self._step_one(name, factor * g)

    def _step_one(self, name, g):
        method, x, slots = self.methods[name], self.params[name], self.slots[name]
        prox = self.proxes.get(name)
        walls, numbers = prox.parameters(x.shape, x.dtype) if prox else ((), ())
        self.taken[name] += 1
        t = self.taken[name]
        if not method.measures:
            self.scalars[name] = method.carried(t, self.scalars[name])
        decay_coefs, coefs = method.coefficients_at(t, self.scalars_of(name))
        for i in np.ndindex(x.shape):
            flat = int(np.ravel_multi_index(i, x.shape))
            x_i, g_i = method.decay(float(x[i]), float(g[i]), *decay_coefs)
            x_i, rate, new = method.rule(x_i, g_i, *[float(s[i]) for s in slots], *coefs)
            if prox:
                x_i = prox.prox(x_i, rate, *[float(w[flat]) for w in walls], *numbers)
            x[i] = x_i
            for slot, value in zip(slots, new, strict=True):
                slot[i] = value
