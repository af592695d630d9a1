"""adaptopt in benchopt's benchmark_logreg_l2: copy this file to its ``solvers/adaptopt.py``."""

import numpy as np
import scipy.sparse
from benchopt import BaseSolver
from benchopt.stopping_criterion import SufficientProgressCriterion

import adaptopt as ao


class Solver(BaseSolver):
    """Proximal steps by AdaGrad's or RMSProp's rule, whose learning rate is found as they go.

    The benchmark counts sums over rows; adaptopt counts means.
    """

    name = "adaptopt"
    install_cmd = "conda"
    requirements = ["pip::adaptopt"]
    references = ["Duchi, Hazan & Singer, JMLR 12 (2011)"]
    sampling_strategy = "iteration"
    # The search is not monotone: some steps in a row may not lower the objective.
    stopping_criterion = SufficientProgressCriterion(patience=15)
    parameters = {"method": ["adagrad", "rmsprop"]}
    parameter_template = "{method}"

    def set_objective(self, X, y, lmbd):
        """Keep the problem, whose dense rows are contiguous."""
        X = X if scipy.sparse.issparse(X) else np.ascontiguousarray(X)
        self.problem = ao.problems.Logistic(X, y)
        self.prox = ao.L2(lmbd / X.shape[0])
        self.start = np.zeros(X.shape[1])

    def warm_up(self):
        """Compile the kernels."""
        self.run(1)

    def run(self, n_iter):
        """Take so many steps from the start."""
        self.beta = self.start
        if n_iter:
            options = {"maxiter": n_iter, "rtol": 0.0}
            self.beta = ao.minimize(
                self.problem, self.start, method=self.method, prox=self.prox, options=options
            ).x

    def get_result(self):
        """Return the point."""
        return {"beta": self.beta}
