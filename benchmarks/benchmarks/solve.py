"""Whole runs of minimize on standard problems, down to a value that can be reached."""

import numpy as np
from scipy.optimize import rosen, rosen_der

import adaptopt as ao

from .data import dense_rows, fix_threads, sparse_rows


def least_squares():
    """Least squares with columns whose scales differ by a factor of 1000."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((500, 50)) * np.logspace(-1.5, 1.5, 50)
    b = A @ rng.standard_normal(50) + 0.1 * rng.standard_normal(500)
    return ao.problems.LeastSquares(A, b), np.zeros(50)


def logistic():
    return ao.problems.Logistic(*dense_rows(2000, 100)), np.zeros(100)


def sparse_logistic():
    return ao.problems.Logistic(*sparse_rows(2000, 5000, 30)), np.zeros(5000)


def huber():
    """Huber's loss; a tenth of the rows are outliers."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((1000, 50))
    b = A @ rng.standard_normal(50)
    b[::10] += 50 * rng.standard_normal(100)
    return ao.problems.Huber(A, b, delta=1.0), np.zeros(50)


def valley():
    """Rosenbrock's function, from SciPy."""
    return lambda x: (rosen(x), rosen_der(x)), np.full(10, -0.5)


PROBLEMS = {f.__name__: f for f in (least_squares, logistic, sparse_logistic, huber, valley)}
METHODS = {
    "adagrad": {"least_squares": 1.0, "logistic": 0.5, "sparse_logistic": 1.0, "huber": 1.0,
                "valley": 0.5},
    "rmsprop": dict.fromkeys(PROBLEMS, 1e-2) | {"logistic": 2e-3},
    "adam": dict.fromkeys(PROBLEMS, 1e-2),
}  # fmt: skip


class Minimize:
    """A run that covers 99.9 % of the way down to the minimum that SciPy's L-BFGS-B finds."""

    timeout = 120
    params = (list(METHODS), list(PROBLEMS))
    param_names = ("method", "problem")

    def setup(self, method, problem):
        from scipy.optimize import minimize

        fix_threads(1)
        self.fun, self.x0 = PROBLEMS[problem]()
        best = minimize(self.fun, self.x0, jac=True, method="L-BFGS-B").fun
        start = self.fun(self.x0)[0]
        self.options = {
            "lr": METHODS[method][problem],
            "f_target": best + 0.001 * (start - best),
            "maxiter": 20_000,
        }
        self.track_evaluations(method, problem)

    def time_minimize(self, method, problem):
        return ao.minimize(
            self.fun, self.x0, jac=True, method=method, options=self.options
        )  # fmt: skip

    def peakmem_minimize(self, method, problem):
        self.time_minimize(method, problem)

    def track_evaluations(self, method, problem):
        """The number of evaluations, which does not depend on the machine's noise."""
        result = self.time_minimize(method, problem)
        if not result.success:
            raise RuntimeError(result.message)
        return result.nfev

    track_evaluations.unit = "evaluations"
