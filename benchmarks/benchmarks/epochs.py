"""An epoch over the rows of a problem: compiled, and as a function called from Python."""

import numpy as np

import adaptopt as ao

METHODS = {"sgd": ao.SGD(0.01), "adagrad": ao.AdaGrad(0.1), "adam": ao.Adam(0.01)}
ROWS = 5_000


class DenseEpoch:
    """Logistic regression over dense rows."""

    params = (list(METHODS), [1, 32, 256], [10, 100, 1000], [None, "uniform"])
    param_names = ("method", "batch", "columns", "average")

    def setup(self, method, batch, columns, average):
        rng = np.random.default_rng(0)
        A = rng.standard_normal((ROWS, columns)).astype(np.float32)
        y = np.where(rng.random(ROWS) < 0.5, 1.0, -1.0)
        self.problem = ao.problems.Logistic(A, y)
        self.x0 = np.zeros(columns, np.float32)
        self.time_epoch(method, batch, columns, average)  # compiles the kernels

    def time_epoch(self, method, batch, columns, average):
        ao.minimize_finite_sum(
            self.problem, self.x0, None, method=METHODS[method], batch_size=batch, epochs=1,
            average=average, rng=0,
        )  # fmt: skip


class DenseEpochInPython(DenseEpoch):
    """The same steps, each batch evaluated and each step taken from Python."""

    params = (["adagrad"], [32, 256], [100], [None])

    def time_epoch(self, method, batch, columns, average):
        ao.minimize_finite_sum(
            self.problem.batch, self.x0, ROWS, method=METHODS[method], batch_size=batch, epochs=1,
            average=average, rng=0,
        )  # fmt: skip
