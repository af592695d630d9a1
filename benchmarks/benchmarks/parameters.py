"""Many small parameters in one dict."""

import numpy as np

import adaptopt as ao

from .data import fix_threads


class StepOfDict:
    """One step of AdaGrad on a dict of parameters."""

    params = ([1, 10, 100, 1000, 10_000], [100, 1000], ["of_their_own", "in_place"], [None, 1.0])
    param_names = ("parameters", "elements", "gradients", "clip_norm")

    def setup(self, parameters, elements, place, clip_norm):
        fix_threads(1)
        rng = np.random.default_rng(0)
        draw = lambda: rng.standard_normal(elements, np.float32)  # noqa: E731
        params = {f"p{k}": draw() for k in range(parameters)}
        self.optimizer = ao.Optimizer(params, ao.AdaGrad(), clip_norm=clip_norm)
        self.gradients = {name: draw() for name in params}
        if place == "in_place":
            for name, gradient in self.optimizer.grads.items():
                gradient[:] = self.gradients[name]
            self.gradients = self.optimizer.grads
        self.time_step()

    def time_step(self, *params):
        self.optimizer.step(self.gradients)

    def peakmem_step(self, *params):
        self.time_step()
