"""Interrupts at random times; ``python tests/interrupts.py`` has more of them."""

import pytest
from interrupts import count_outcomes


@pytest.mark.parametrize("kind", ["many", "compiled", "python", "own-loop-over-groups"])
def test_an_interrupted_run_ends_with_the_interrupt(kind):
    outcomes = count_outcomes(kind, 30)
    assert set(outcomes) <= {"right", "ended"}
