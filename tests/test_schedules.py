"""Schedules: values, picklable, checked."""

import math
import pickle

import numpy as np
import pytest

import adaptopt as ao
from adaptopt import schedules as s

pytestmark = pytest.mark.quick

ALL = [
    s.constant(0.1),
    s.inverse_time(0.1, 0.5),
    s.exponential(0.1, 0.9, steps=3),
    s.cosine(0.1, 10, final=0.01),
    s.linear_warmup(0.1, 5),
    s.piecewise([2, 4], [0.3, 0.2, 0.1]),
    s.linear_warmup(s.cosine(0.1, 10), 5),
]


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (s.constant(0.1), {1: 0.1, 999: 0.1}),
        (s.inverse_time(0.1, 0.5), {1: 0.1, 3: 0.05, 11: 0.1 / 6}),
        (s.exponential(0.1, 0.5, steps=2), {1: 0.1, 3: 0.05, 5: 0.025}),
        (s.cosine(0.2, 10, final=0.1), {1: 0.2, 6: 0.15, 11: 0.1, 50: 0.1}),
        (s.linear_warmup(0.1, 4), {1: 0.025, 4: 0.1, 9: 0.1}),
        (s.piecewise([2, 4], [0.3, 0.2, 0.1]), {1: 0.3, 2: 0.3, 3: 0.2, 4: 0.2, 5: 0.1}),
        (s.linear_warmup(s.inverse_time(0.4, 1.0), 2), {1: 0.2, 2: 0.2, 4: 0.1}),
    ],
    ids=repr,
)
def test_values(schedule, values):
    assert {t: schedule(t) for t in values} == pytest.approx(values)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_schedules_pickle_and_compare(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_a_schedule_prints_as_it_is_made():
    assert repr(s.linear_warmup(s.cosine(0.1, 10), 5)) == ("linear_warmup(cosine(0.1, 10, 0.0), 5)")


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_is_finite_and_never_negative(schedule):
    assert all(math.isfinite(schedule(t)) and schedule(t) >= 0 for t in range(1, 200))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: s.constant(-1.0), "lr is -1.0, expected a finite number > 0"),
        (lambda: s.constant(math.nan), "lr is nan"),
        (lambda: s.inverse_time(0.1, -1.0), "decay is -1.0, expected a finite number >= 0"),
        (lambda: s.exponential(0.1, 0.5, steps=0), "steps is 0, expected a whole number >= 1"),
        (lambda: s.cosine(0.1, 0), "steps is 0"),
        (lambda: s.cosine(0.1, 5, final=-0.1), "final is -0.1"),
        (lambda: s.linear_warmup(0.1, -3), "steps is -3"),
        (lambda: s.piecewise([1], [0.1]), "values has 1 entries, expected 2"),
        (lambda: s.piecewise([3, 2], [0.1, 0.2, 0.3]), "expected strictly rising"),
        (lambda: s.piecewise([2], [0.1, -0.2]), "values is -0.2"),
    ],
)
def test_a_schedule_is_checked_when_made(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: s.constant("0.1"),
        lambda: s.inverse_time(0.1, decay=None),
        lambda: s.piecewise(["a"], [0.1, 0.2]),
        lambda: s.cosine(0.1, steps="9"),
    ],
)
def test_parameters_are_numbers(make):
    with pytest.raises(TypeError, match="expected a number"):
        make()


def test_half_a_step_is_refused():
    with pytest.raises(ValueError, match=r"steps is 2\.5, expected a whole number >= 1"):
        s.linear_warmup(0.1, steps=2.5)


def test_a_power_that_overflows_is_no_rate():
    method = ao.SGD(s.exponential(0.1, 2.0))
    with pytest.raises(ValueError, match=r"lr\(5000\) is inf, expected a finite number"):
        method.lr_at(5000)


@pytest.mark.parametrize("rate", [None, "a", "0.1", 1j, np.ones(2)])
def test_a_rate_that_is_no_number_is_named(rate):
    with pytest.raises(TypeError, match=r"lr\(1\) is .*, expected a number"):
        ao.Optimizer(np.ones(2), ao.SGD(lambda t: rate)).step(np.ones(2))
