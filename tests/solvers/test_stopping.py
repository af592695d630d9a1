"""The stopping tests, one by one, as plain Python."""

import math

import pytest

from adaptopt.kernels.stopping import FTOL, GTOL, PATIENCE, TARGET, XTOL, reason
from adaptopt.solvers.stopping import read_tests

pytestmark = pytest.mark.quick

# f, gradient norm, previous f, move, steps since the best.
FIGURES = (1.0, 0.5, 1.5, 0.25, 3)


def why(figures=FIGURES, **tests):
    names = ("f_target", "gtol", "ftol", "xtol", "patience")
    return reason(*figures, *read_tests(*[tests.get(name) for name in names]))


@pytest.mark.parametrize(
    ("name", "met", "missed", "code"),
    [
        ("f_target", 1.0, 0.99, TARGET),
        ("gtol", 0.5, 0.49, GTOL),
        ("ftol", 0.34, 0.33, FTOL),
        ("xtol", 0.25, 0.24, XTOL),
        ("patience", 3, 4, PATIENCE),
    ],
)
def test_a_test_fires_at_its_limit(name, met, missed, code):
    assert why(**{name: met}) == code
    assert why(**{name: missed}) == 0


def test_without_tests_nothing_fires():
    assert why() == 0
    assert why((-1e308, 0.0, 0.0, 0.0, 10**9)) == 0


def test_the_first_that_fires_is_named():
    tests = {"f_target": 1.0, "gtol": 1.0, "ftol": 1.0, "xtol": 1.0, "patience": 1}
    codes = []
    while tests:
        codes.append(why(**tests))
        tests.pop(next(iter(tests)))
    assert codes == [TARGET, GTOL, FTOL, XTOL, PATIENCE]


def test_what_is_not_known_fires_nothing():
    assert why((1.0, 0.5, math.nan, math.nan, 0), ftol=math.inf, xtol=1e9) == 0
