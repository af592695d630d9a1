"""One step of an optimizer: its time, and the memory bandwidth that it reaches."""

import time
from itertools import cycle

import numba
import numpy as np

import adaptopt as ao

METHODS = {
    "sgd": ao.SGD(),
    "momentum": ao.Momentum(),
    "adagrad": ao.AdaGrad(),
    "rmsprop": ao.RMSProp(),
    "adam": ao.Adam(),
    "rmsprop_centered_momentum": ao.RMSProp(centered=True, momentum=0.9),
}


class Step:
    """The step on one thread."""

    threads = 1
    params = (list(METHODS), [10**k for k in range(2, 8)], ["float32", "float64"])
    param_names = ("method", "n", "dtype")

    def setup(self, method, n, dtype):
        if self.threads > numba.config.NUMBA_NUM_THREADS:
            raise NotImplementedError(f"needs {self.threads} threads")  # asv's word for a skip
        numba.set_num_threads(self.threads)
        rng = np.random.default_rng(0)
        self.optimizer = ao.Optimizer(rng.standard_normal(n).astype(dtype), METHODS[method])
        # Both signs in turn: no coordinate drifts away, no accumulator fades into denormals.
        gradient = rng.standard_normal(n).astype(dtype)
        self.gradients = cycle((gradient, -gradient))
        self.time_step()  # compiles the kernel, touches every page

    def time_step(self, *params):
        self.optimizer.step(next(self.gradients))

    def track_bandwidth(self, *params):
        """Bytes that a step must move, over the median time of one."""
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
    """The step on two threads, where it takes more than one."""

    threads = 2
    params = (list(METHODS), [10**k for k in range(5, 8)], ["float32", "float64"])
