"""One step of an optimizer: time, memory bandwidth, and memory."""

import time

import numpy as np

import adaptopt as ao

from .data import fix_threads, gradients, point

METHODS = {
    "sgd": ao.SGD(),
    "momentum": ao.Momentum(),
    "adagrad": ao.AdaGrad(),
    "rmsprop": ao.RMSProp(),
    "adam": ao.Adam(),
    "rmsprop_centered_momentum": ao.RMSProp(centered=True, momentum=0.9),
}
OTHERS = {
    "nesterov": ao.Momentum(nesterov=True),
    "adadelta": ao.AdaDelta(),
    "adamw": ao.AdamW(),
    "adamax": ao.Adamax(),
    "nadam": ao.Nadam(),
    "amsgrad": ao.AMSGrad(),
    "adagrad_da": ao.AdaGradDA(0.1, l1=1e-3),
    "ftrl": ao.FTRL(),
    "adagrad_norm": ao.AdaGradNorm(),
    "adagrad_scheduled": ao.AdaGrad(ao.schedules.inverse_time(0.1, 0.01)),
    "adamw_clipped": ao.AdamW(),
    "adagrad_l1": ao.AdaGrad(),
    "adagrad_box": ao.AdaGrad(),
}
OPTIONS = {
    "adamw_clipped": {"clip_norm": 1.0},
    "adagrad_l1": {"prox": ao.L1(1e-3)},
    "adagrad_box": {"prox": ao.Box(-1.0, 1.0)},
}
EACH = METHODS | OTHERS


class Step:
    """The step on one thread."""

    threads = 1
    timeout = 300
    params = (list(METHODS), [10**k for k in range(2, 9)], ["float32", "float64"])
    param_names = ("method", "n", "dtype")

    def setup(self, method, n, dtype):
        fix_threads(self.threads)
        self.optimizer = ao.Optimizer(point(n, dtype), EACH[method], **OPTIONS.get(method, {}))
        self.gradients = gradients(n, dtype)
        self.time_step()  # compiles the kernel, touches every page

    def time_step(self, *params):
        self.optimizer.step(next(self.gradients))

    def peakmem_step(self, *params):
        self.time_step()

    def track_bandwidth(self, *params):
        """The bytes that a step must move, divided by its median time."""
        seconds = []
        while len(seconds) < 10 or sum(seconds) < 0.1:
            start = time.perf_counter()
            self.time_step()
            seconds.append(time.perf_counter() - start)
        # Read x and g, write x; read and write each slot.
        arrays = 3 + 2 * len(self.optimizer.state)
        return arrays * self.optimizer.params.nbytes / np.median(seconds) / 1e9

    track_bandwidth.unit = "GB/s"


class ThreadedStep(Step):
    """The step on two threads, for arrays that are long enough."""

    threads = 2
    params = (list(METHODS), [10**k for k in range(5, 9)], ["float32", "float64"])


class OtherSteps(Step):
    """Other methods, and operations fused with a step, for arrays within and beyond the caches."""

    params = (list(OTHERS), [1000, 1_000_000, 10_000_000], ["float32"])
