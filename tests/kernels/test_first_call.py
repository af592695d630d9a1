"""The first compilation says what takes long, once, to a terminal; `warm` compiles ahead."""

import io
import sys

import numpy as np
import pytest

import adaptopt as ao
from adaptopt.demo import warm
from adaptopt.kernels import disk


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def unsaid(monkeypatch):
    monkeypatch.setattr(disk, "_said", False)


@pytest.mark.parametrize(("stream", "lines"), [(Terminal, 1), (io.StringIO, 0)])
def test_a_terminal_alone_is_told_once(unsaid, monkeypatch, stream, lines):
    monkeypatch.setattr(sys, "stderr", stream())
    for _ in range(2):
        disk.say_why_it_takes_long()
    assert sys.stderr.getvalue().count("adaptopt warm") == lines


def test_a_kernel_that_cannot_be_stored_is_told_of(monkeypatch, no_cache):
    from adaptopt.kernels import compile as build

    said = []
    monkeypatch.setattr(build, "say_why_it_takes_long", lambda: said.append(1))
    ao.Optimizer(np.zeros(2), ao.SGD()).step(np.ones(2))
    assert said  # without a cache


def test_warming_makes_every_call_once(monkeypatch, capsys):
    called = []
    monkeypatch.setattr(warm, "_jobs", lambda: {name: lambda: called.append(1) for name in "abc"})
    assert warm.warm() == 0
    assert len(called) == 3
    assert "[ 3/3]" in capsys.readouterr().out


def test_what_is_warmed_are_calls_that_succeed():
    jobs = warm._jobs()
    assert len(jobs) == 17
    jobs["a step of AdaGrad, float64"]()
    jobs["minimize_finite_sum of LeastSquares, dense rows"]()
