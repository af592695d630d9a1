"""An epoch over the rows of a problem: compiled, and as a function called from Python."""

import numpy as np

import adaptopt as ao

from .data import dense_rows, fix_threads, sparse_rows

METHODS = {"sgd": ao.SGD(0.01), "adagrad": ao.AdaGrad(0.1), "adam": ao.Adam(0.01)}
ROWS = 5_000


class DenseEpoch:
    """Logistic regression over dense rows."""

    params = (list(METHODS), [1, 32, 256], [10, 100, 1000], [None, "uniform"])
    param_names = ("method", "batch", "columns", "average")

    def setup(self, method, batch, columns, average):
        fix_threads(1)
        self.problem = ao.problems.Logistic(*dense_rows(ROWS, columns))
        self.x0 = np.zeros(columns, np.float32)
        self.time_epoch(method, batch, columns, average)  # compiles the kernels

    def time_epoch(self, method, batch, columns, average):
        ao.minimize_finite_sum(
            self.problem, self.x0, None, method=METHODS[method], batch_size=batch, epochs=1,
            average=average, rng=0,
        )  # fmt: skip

    def peakmem_epoch(self, *params):
        self.time_epoch(*params)


class DenseEpochInPython(DenseEpoch):
    """The same steps, with each batch evaluated and each step taken in Python."""

    params = (["adagrad"], [32, 256], [100], [None])

    def time_epoch(self, method, batch, columns, average):
        ao.minimize_finite_sum(
            self.problem.batch, self.x0, ROWS, method=METHODS[method], batch_size=batch, epochs=1,
            average=average, rng=0,
        )  # fmt: skip


SPARSE = {
    "sgd": (ao.SGD(0.01), {}),
    "adagrad": (ao.AdaGrad(0.1), {}),
    "adagrad_average": (ao.AdaGrad(0.1), {"average": "uniform"}),
    "adagrad_l1": (ao.AdaGrad(0.1), {"prox": ao.L1(1e-5)}),
    "adagrad_elastic_net": (ao.AdaGrad(0.1), {"prox": ao.ElasticNet(1e-5, 1e-5)}),
    "adagrad_hogwild": (ao.AdaGrad(0.1), {"parallel": "hogwild"}),
    "dual_averaging_l1": (ao.AdaGradDA(0.1, l1=1e-5), {}),
    "rmsprop": (ao.RMSProp(0.01), {}),
}


class SparseEpoch:
    """Logistic regression over rows of 60 entries. Hogwild uses two threads, all else one."""

    timeout = 120
    params = (list(SPARSE), [1, 256], [1_000, 100_000])
    param_names = ("method", "batch", "columns")

    def setup(self, name, batch, columns):
        self.method, self.options = SPARSE[name]
        fix_threads(2 if "parallel" in self.options else 1)
        A, y = sparse_rows(ROWS, columns, 60)
        self.nonzeros = A.nnz
        self.problem = ao.problems.Logistic(A, y)
        self.x0 = np.zeros(columns, np.float32)
        self.time_epoch()

    def time_epoch(self, *params):
        ao.minimize_finite_sum(
            self.problem, self.x0, None, method=self.method, epochs=1, rng=0,
            batch_size=params[1] if params else 1, **self.options,
        )  # fmt: skip

    def peakmem_epoch(self, *params):
        self.time_epoch(*params)
