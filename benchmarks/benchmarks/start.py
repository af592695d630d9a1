"""Start-up of a new process: the import, and the first step with and without cached kernels."""

IMPORT = "import adaptopt"
STEP = """
import numpy as np, adaptopt as ao
x = np.linspace(-1, 1, 1000, dtype=np.float32)
ao.Optimizer(x, ao.AdaGrad()).step(x.copy())
"""
LOOP = """
import numpy as np, adaptopt as ao
ao.minimize(lambda x: (x @ x, 2 * x), np.linspace(-1, 1, 9), jac=True, options={"maxiter": 10})
"""
NO_CACHE = "import os, tempfile; os.environ['NUMBA_CACHE_DIR'] = tempfile.mkdtemp()"


class Start:
    """The time of a process from start to end, without that of the interpreter."""

    timeout = 120
    number, repeat = 1, 5

    def setup(self):
        for code in (STEP, LOOP):  # writes the caches
            exec(code, {})

    def timeraw_import_numba(self):
        return "import numba"

    def timeraw_import(self):
        return IMPORT

    def timeraw_first_step(self):
        return STEP

    def timeraw_first_step_without_cache(self):
        return STEP, NO_CACHE

    def timeraw_first_minimize(self):
        return LOOP

    def timeraw_first_minimize_without_cache(self):
        return LOOP, NO_CACHE
