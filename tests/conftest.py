"""Fixtures for all tests."""

import pytest
from methods_table import METHODS


@pytest.fixture(params=METHODS.values(), ids=METHODS.keys())
def method(request):
    """Every row of the table of methods."""
    return request.param
