"""One step on some rows of an embedding table."""

from itertools import cycle

import numpy as np

import adaptopt as ao

from .data import fix_threads

METHODS = {
    "adagrad": ao.AdaGrad(),
    "rmsprop": ao.RMSProp(),
    "rmsprop_momentum": ao.RMSProp(momentum=0.9),
    "row_wise_adagrad": ao.RowWiseAdaGrad(),
}


class StepRows:
    """4,096 indices of unequal popularity, on one thread."""

    params = (list(METHODS), [32, 512], [50_000, 500_000])
    param_names = ("method", "width", "rows")

    def setup(self, method, width, rows):
        if width * rows > 100_000_000:
            raise NotImplementedError("needs some GB of memory")  # asv then skips it
        fix_threads(1)
        rng = np.random.default_rng(0)
        popularity = np.arange(1, rows + 1) ** -0.68
        popularity /= popularity.sum()
        self.batches = cycle([rng.choice(rows, 4_096, p=popularity) for _ in range(5)])
        self.gradients = rng.standard_normal((4_096, width), np.float32)
        table = rng.standard_normal((rows, width), np.float32)
        self.optimizer = ao.Optimizer(table, METHODS[method])
        for _ in range(5):
            self.time_step_rows()  # compiles the kernel, touches the pages

    def time_step_rows(self, *params):
        self.optimizer.step_rows(next(self.batches), self.gradients)

    def peakmem_step_rows(self, *params):
        self.time_step_rows()
