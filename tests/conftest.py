"""Fixtures for all tests."""

import gc
import os
import sys
from types import SimpleNamespace

# Before numba loads OpenMP: threads that spin after a kernel would slow the other workers' tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from methods_table import KERNELS, METHODS

# Compilation makes many objects and hardly a cycle: with Python's thresholds, a sixth of the time
# went to the search for garbage.
gc.set_threshold(100_000, 50, 50)


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request):
    """Every row of the table of methods."""
    return request.param


def forget_kernels():
    """Have every kernel made anew when it is next wanted."""
    from adaptopt.kernels.compile import REMEMBERED

    modules = [module for name, module in sys.modules.items() if name.startswith("adaptopt.")]
    for maker in [value for module in modules for value in vars(module).values()]:
        parameters = getattr(maker, "cache_parameters", dict)()
        if parameters.get("maxsize") == REMEMBERED:
            maker.cache_clear()


@pytest.fixture
def no_cache(monkeypatch):
    """Compile anew, without the disk cache: a kernel loaded from it has no code to look at."""
    from adaptopt.kernels import compile as build

    monkeypatch.setattr(build, "enable_cache", lambda dispatcher: None)
    forget_kernels()


@pytest.fixture
def new_process(tmp_path, monkeypatch):
    """Return what makes this process look for its kernels as a new one would, in a new folder."""
    from numba import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "cache"))
    forget_kernels()
    yield forget_kernels
    forget_kernels()


@pytest.fixture
def in_python(monkeypatch):
    """Have Python run the kernels, as it runs the first calls of a search, to the same numbers.

    What a kernel computes from many methods and maps is tested so, in a tenth of the time that
    compiling takes; that a compiler makes the same of it, with one kernel of each shape.
    """
    import numpy as np

    from adaptopt.kernels import compile as build
    from adaptopt.kernels import rates
    from adaptopt.objectives import compiled

    monkeypatch.setattr(build, "config", SimpleNamespace(DISABLE_JIT=True))
    for taker in (rates, compiled):  # of functions, whose addresses are for compiled kernels
        monkeypatch.setattr(taker, "address", lambda function, signature: function)
    forget_kernels()
    with np.errstate(all="ignore"):
        yield
    forget_kernels()


@pytest.fixture(params=KERNELS)
def kernel(request):
    """One row of the table of methods for every kernel."""
    return METHODS[request.param]
