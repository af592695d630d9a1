"""Fixtures for all tests."""

import os

# Before numba loads OpenMP: threads that spin after a kernel would slow the other workers' tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from methods_table import KERNELS, METHODS


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request):
    """Every row of the table of methods."""
    return request.param


@pytest.fixture
def no_cache(monkeypatch):
    """Compile without the disk cache: what is loaded from one has no code to look at."""
    from adaptopt.kernels import compile as build

    monkeypatch.setattr(build, "enable_cache", lambda dispatcher: None)


@pytest.fixture(params=KERNELS)
def kernel(request):
    """One row of the table of methods for every kernel."""
    return METHODS[request.param]
