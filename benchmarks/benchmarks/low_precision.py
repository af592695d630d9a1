"""Steps on 16-bit numbers, and with 16-bit state: less memory to move."""

import numpy as np

import adaptopt as ao

from .data import fix_threads, gradients, point

FORMATS = {
    "float16": ("float16", {}),
    "bfloat16": ("bfloat16", {}),
    "bfloat16_stochastic": ("bfloat16", {"rounding": "stochastic"}),
    "bfloat16_master": ("bfloat16", {"master": True}),
    "bfloat16_all": ("bfloat16", {"rounding": "stochastic", "state_dtype": "bfloat16"}),
    "float32_bfloat16_state": ("float32", {"state_dtype": "bfloat16"}),
}
METHODS = {"adagrad": ao.AdaGrad(), "rmsprop": ao.RMSProp(), "adam": ao.Adam()}


class NarrowStep:
    """The step on one thread."""

    params = (list(METHODS), list(FORMATS), [1000, 1_000_000, 10_000_000])
    param_names = ("method", "format", "n")

    def setup(self, method, form, n):
        import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy)

        fix_threads(1)
        dtype, options = FORMATS[form]
        dtype = np.dtype(dtype)
        self.optimizer = ao.Optimizer(point(n, dtype), METHODS[method], **options)
        self.gradients = gradients(n, dtype)
        self.time_step()

    def time_step(self, *params):
        self.optimizer.step(next(self.gradients))

    def peakmem_step(self, *params):
        self.time_step()
