"""The digest of what a function computes: another one for all that changes it, or none."""

import sys
import textwrap
from types import ModuleType

import pytest

from adaptopt.kernels.contents import digest

pytestmark = pytest.mark.quick

RULE = """
from collections import namedtuple
from enum import Enum
from math import sqrt
import numba
import numpy as np
from numba import njit
{define}
def rule(x, g, lr):
    return x - lr * {result}
"""


def digest_of(define, result, **modules):
    """Return the digest of a rule; a module's name stands for the source of it."""
    space = {"__name__": "mine"}
    for name, source in modules.items():
        module = space[name] = ModuleType(name)
        exec(source, module.__dict__)
    exec(RULE.format(define=textwrap.dedent(define), result=result), space)
    return digest(space["rule"])


CHANGES = {
    "code": ("", "g", "2 * g"),
    "constant": ("K = {}", 1, 2),
    "type of a constant": ("K = {}", 1, 1.0),
    "negative zero": ("K = {}", 0.0, -0.0),
    "default argument": ("def f(g, k={}): return k * g", 1.0, 2.0),
    "keyword default": ("def f(g, *, k={}): return k * g", 1.0, 2.0),
    "helper": ("def f(g): return {}", "g", "g * g"),
    "helper of a helper": ("def h(g): return {}\ndef f(g): return h(g)", "g", "g * g"),
    "njit helper": ("@njit\ndef f(g): return {}", "g", "g * g"),
    "option of an njit helper": ("@njit(fastmath={})\ndef f(g): return g", False, True),
    "captured variable": ("def m(k):\n  def f(g): return k * g\n  return f\nf = m({})", 1, 2),
    "array in the middle": ("K = np.ones(3000); K[1500] = {}", 1.0, 2.0),
    "dtype": ("K = np.ones(3, {})", "'f4'", "'f8'"),
    "shape": ("K = np.ones({})", 4, "(2, 2)"),
    "order": ("K = np.ones((2, 3), order={})", "'C'", "'F'"),
    "NumPy scalar": ("K = np.float32({})", 1.0, 2.0),
    "tuple of arrays": ("K = (1, (np.array([{}]),))", 1.0, 2.0),
    "named tuple": ("K = namedtuple('T', 'a b')(1, {})", 1, 2),
    "field of a named tuple": ("K = namedtuple('T', {})(1, 2)", "'a b'", "'b a'"),
    "enum": ("class E(Enum):\n  A = {}\nK = E.A", 1, 2),
    "which of two helpers": (
        "def a(g): return g\ndef b(g): return 2 * g\ndef c(g): return a(g) + b(g)\n"
        "def f(g, h={}): return c(g) + h(g)",
        "a",
        "b",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_changes_the_result_changes_the_digest(case):
    define, *values = CHANGES[case]
    result = "{}" if case == "code" else "f(g)" if " f" in define else "(K, g)"
    digests = [digest_of(define.format(v), result.format(v)) for v in values]
    assert None not in digests
    assert digests[0] != digests[1]
    assert digests[0] == digest_of(define.format(values[0]), result.format(values[0]))


@pytest.mark.parametrize("result", ["cfg.K * g", "cfg.sub.K * g", "cfg.f(g)", "cfg.T.a * g"])
def test_attributes_of_modules_are_read(result):
    define = "cfg.sub = sub"
    source = "from collections import namedtuple\nK = {k}\nT = namedtuple('T', 'a')({k})\n"
    source += "def f(g, k={k}): return k * g\n"
    digests = [
        digest_of(define, result, cfg=source.format(k=k), sub=source.format(k=k)) for k in (1, 2)
    ]
    assert None not in digests
    assert digests[0] != digests[1]


def test_attributes_that_are_not_read_do_not_count():
    digests = [digest_of("", "cfg.K * g", cfg=f"K = 1\nM = {m}") for m in (1, [2])]
    assert digests[0] == digests[1] is not None


@pytest.mark.parametrize("name", ["np.sqrt(g)", "sqrt(g)", "np.float32(g)", "numba.int64(g)"])
def test_what_numpy_and_numba_hold_is_known(name):
    assert digest_of("", name) is not None


NOT_READ = {
    "list": "K = [1]",
    "object": "K = object()",
    "array of objects": "K = np.array([None])",
    "class": "class K: a = 1",
    "subclass of float": "class F(float): pass\nK = F(1)",
    "intrinsic": "from numba.extending import intrinsic\n@intrinsic\ndef K(typing, x): return None",
    "another module as a whole": "import textwrap as K",
    "function with another body": (
        "from numba.extending import overload\ndef K(g): return g\n"
        "@overload(K)\ndef _K(g): return lambda g: 2 * g"
    ),
    "C function": "import ctypes\nK = ctypes.CFUNCTYPE(ctypes.c_double)(lambda: 1.0)",
}


@pytest.mark.parametrize("case", NOT_READ)
def test_what_is_not_read_in_full_has_no_digest(case):
    assert digest_of(NOT_READ[case], "(K, g)") is None


def test_the_versions_and_options_count(monkeypatch):
    from adaptopt.kernels import contents

    def again():
        contents._surroundings.cache_clear()
        return digest(1)

    before = again()
    with monkeypatch.context() as patch:
        patch.setattr("numba.config.BOUNDSCHECK", 1)
        assert again() != before
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version", "4.0")
        assert again() != before
    assert again() == before


def test_every_function_of_a_method_has_one(kernel):
    parts = (kernel.rule, kernel.rate, kernel.idle, kernel.coefficients, kernel.carry)
    assert all(digest(part) is not None for part in parts if part is not None)
