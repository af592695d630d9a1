"""The compiled loop: time of a number of steps, and many problems at once."""

import numba
import numpy as np

import adaptopt as ao

from .data import fix_threads

METHODS = {"adagrad": ao.AdaGrad(0.1), "rmsprop": ao.RMSProp(1e-3), "adam": ao.Adam(1e-3)}


@numba.njit
def rosenbrock(x, g_out):
    """A function as a user would write it."""
    f = 0.0
    g_out[0] = 0.0
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        f += 100.0 * a * a + b * b
        g_out[i] -= 400.0 * a * x[i] + 2.0 * b
        g_out[i + 1] = 200.0 * a
    return f


def value_and_gradient(x):
    """The same function for the loop in Python."""
    g = np.empty_like(x)
    return rosenbrock(x, g), g


class CompiledLoop:
    """A number of steps that takes some milliseconds."""

    params = (list(METHODS), [2, 100, 10_000])
    param_names = ("method", "n")
    steps = {2: 100_000, 100: 20_000, 10_000: 300}  # noqa: RUF012

    def setup(self, method, n):
        fix_threads(1)
        self.x0 = np.linspace(-1.2, 1.0, n)
        self.options = {"maxiter": self.steps[n], "gtol": 0.0}
        self.time_minimize(method, n)  # compiles

    def time_minimize(self, method, n):
        ao.minimize(rosenbrock, self.x0, method=METHODS[method], options=self.options)

    def peakmem_minimize(self, method, n):
        self.time_minimize(method, n)


class PythonLoop(CompiledLoop):
    """The same with an objective in Python."""

    params = (["adagrad"], [2, 10_000])
    steps = {2: 1000, 10_000: 300}  # noqa: RUF012

    def time_minimize(self, method, n):
        ao.minimize(value_and_gradient, self.x0, jac=True, method=METHODS[method],
                    options=self.options)  # fmt: skip


class Many:
    """A thousand starting points."""

    params = ([1, 2],)
    param_names = ("threads",)

    def setup(self, threads):
        fix_threads(threads)
        self.starts = np.random.default_rng(0).standard_normal((1000, 10))
        self.options = {"maxiter": 500, "gtol": 0.0}
        self.time_minimize_many(threads)

    def time_minimize_many(self, threads):
        ao.minimize_many(rosenbrock, self.starts, method=ao.AdaGrad(0.1), options=self.options)
