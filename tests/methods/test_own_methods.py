"""A user's optimizer gets what the built-in ones have, wherever it is defined: here, Lion.

Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023, algorithm 2.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from math import copysign

import ml_dtypes
import numba
import numpy as np
import pytest
from naive import naive_steps

import adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM

DTYPES = [np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]


def lion(x, g, m, lr, beta1, one_minus_beta1, beta2, one_minus_beta2):
    direction = beta1 * m + one_minus_beta1 * g
    return x - copysign(lr, direction), lr, (beta2 * m + one_minus_beta2 * g,)


def lion_coefficients(t, lr, beta1, beta2):
    return lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2


@dataclass(frozen=True)
class Lion(ao.Method):
    """In a module."""

    lr: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.99
    slots = ("m",)
    rule = staticmethod(lion)
    coefficients = staticmethod(lion_coefficients)


def lion_in_a_closure(sign):
    """Return the method with a rule that captures a function and a number."""
    unused = 2

    def rule(x, g, m, lr, beta1, one_minus_beta1, beta2, one_minus_beta2):
        direction = beta1 * m + one_minus_beta1 * g
        m = beta2 * m + one_minus_beta2 * g
        return x - sign(lr, direction), lr, (m,) if unused == 2 else (g,)

    @dataclass(frozen=True)
    class Lion(ao.Method):
        lr: float = 1e-2
        beta1: float = 0.9
        beta2: float = 0.99
        slots = ("m",)
        coefficients = staticmethod(lion_coefficients)

    Lion.rule = staticmethod(rule)
    return Lion


MAKERS = {"module": Lion, "closure": lion_in_a_closure(copysign)}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS)
def make(request):
    return request.param


def gradients(dtype, n, steps=4):
    return np.random.default_rng(0).standard_normal((steps, n)).astype(dtype)


def test_the_steps_are_the_papers(make):
    x0, gs = np.linspace(-1, 1, 9), gradients(np.float64, 9)
    x = x0.copy()
    opt = ao.Optimizer(x, make(0.1))
    for g in gs:
        opt.step(g)
    expected, (m,), rates = naive_steps(make(0.1), x0, gs)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(opt.state["m"], m)
    np.testing.assert_array_equal(opt.learning_rates(), rates)


# One kernel of 16 bits and one of 64, of the one and of the other rule.
@pytest.mark.parametrize(
    ("dtype", "make"),
    [(DTYPES[1], MAKERS["closure"]), (DTYPES[3], MAKERS["module"])],
    ids=["bfloat16-closure", "float64-module"],
)
def test_threaded_equals_serial(make, dtype):
    n = THREADED_FROM + 5
    digests = set()
    before = numba.get_num_threads()
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            x = np.zeros(n, dtype)
            opt = ao.Optimizer(x, make(ao.schedules.cosine(0.1, 9)))
            for g in gradients(dtype, n, 2):
                opt.step(g)
            digests.add(hashlib.sha256(x.tobytes() + opt.state["m"].tobytes()).digest())
    finally:
        numba.set_num_threads(before)
    assert len(digests) == 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_groups_decay_bounds_and_checkpoints(make, dtype, tmp_path, request):
    if dtype != np.float32 or make is not Lion:
        request.getfixturevalue("in_python")

    def optimizer():
        params = {"a": np.ones(4, dtype), "b": np.ones((2, 3), dtype), "c": np.ones(3, dtype)}
        methods = {
            "a": make(0.1, weight_decay=0.1, decoupled=True),
            "b": ao.AdaGrad(0.1),
            "c": make(0.1, weight_decay=0.1, decoupled=True),
        }
        return ao.Optimizer(params, methods, {"a": ao.Box(0.8, 0.95)})

    gs = [{"a": g[:4], "b": g[4:10].reshape(2, 3), "c": g[10:]} for g in gradients(dtype, 13, 6)]
    whole, first, second = optimizer(), optimizer(), optimizer()
    for g in gs:
        whole.step(g)
    for g in gs[:3]:
        first.step(g)
    first.save(tmp_path / "run.npz")
    second.load(tmp_path / "run.npz")
    for g in gs[3:]:
        second.step(g)
    for name, x in whole.params.items():
        np.testing.assert_array_equal(second.params[name], x)
    a = whole.params["a"].astype(np.float64)
    assert ((a >= 0.8) & (a <= 0.95)).all()


def test_minimize_and_scipy_take_it(make):
    def bowl(x):
        return float(x @ x), 2 * x

    method = make(ao.schedules.exponential(0.1, 0.9))
    res = ao.minimize(bowl, np.ones(3), jac=True, method=method, options={"f_target": 1e-3})
    assert res.success


IN_MAIN = """
from dataclasses import dataclass
from math import copysign
import hashlib, ml_dtypes, numba, numpy as np, adaptopt as ao
from adaptopt.kernels.parallel import THREADED_FROM

def rule(x, g, m, lr, beta1, one_minus_beta1, beta2, one_minus_beta2):
    direction = beta1 * m + one_minus_beta1 * g
    return x - copysign(lr, direction), lr, (beta2 * m + one_minus_beta2 * g,)

@dataclass(frozen=True)
class Lion(ao.Method):
    lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    slots = ("m",)
    rule = staticmethod(rule)
    coefficients = staticmethod(lambda t, lr, b1, b2: (lr, b1, 1 - b1, b2, 1 - b2))

for dtype in ("float32", "float64", "bfloat16"):
    size = THREADED_FROM + 3 if dtype == "float32" else 3
    x = {"a": np.ones(5).astype(dtype), "b": np.zeros(size).astype(dtype)}
    opt = ao.Optimizer(x, Lion())
    opt.step(x)
    opt.save("run.npz")
    opt.step(x)
    again = ao.Optimizer(x, Lion())
    again.load("run.npz")
    again.step(x)
    assert (opt.params["a"] == again.params["a"]).all() and opt.t == 2
    print(f"{float(opt.params['a'][0]):.3f}")
"""


def test_a_method_of_a_script_takes_part(tmp_path):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_MAIN],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.split() == ["0.800", "0.800", "0.797"], result.stderr


def shrinking(x, g, lr):
    return x * (1 - lr) - lr * g, lr, ()


@dataclass(frozen=True)
class Shrinking(ao.SGD):
    rule = staticmethod(shrinking)


@dataclass(frozen=True)
class Slower(ao.AdaGrad):
    coefficients = staticmethod(lambda t, lr, *rest: ao.AdaGrad.coefficients(t, lr / t, *rest))


def test_a_rule_of_its_own_inherits_nothing_that_is_said_of_its_parents(in_python):
    method = Shrinking()
    known = (method.rests, method.additive, method.idle, method.rate)
    assert known == (False, False, None, None)
    with pytest.raises(ValueError, match="Shrinking has no closed form"):
        ao.Optimizer(np.ones((3, 1)), Shrinking(0.5)).step_rows([1], np.ones((1, 1)))


def test_coefficients_of_its_own_inherit_no_bound():
    assert Slower().regret_bound(np.ones(2), np.ones(2)) is None
    assert Slower().idle is not None
    assert not Slower.rates_only_fall


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"slots": ("m", "m")}, "slots is .*expected each name once"),
        ({"initial_state": lambda self: {"M": 1.0}}, r"initial_state\(\) is .*expected names of"),
        ({"second_moments": ("M",)}, "second_moments is .*expected names of slots"),
    ],
)
def test_names_of_slots_are_checked(change, words):
    with pytest.raises(ValueError, match=words):
        type("Odd", (Lion,), change)()


def test_decoupled_decay_needs_a_rate():
    @dataclass(frozen=True)
    class NoRate(ao.Method):
        rule = staticmethod(lambda x, g: (x - g, 1.0, ()))

    with pytest.raises(ValueError, match="decoupled is True, expected False: it has no lr"):
        NoRate(weight_decay=0.1, decoupled=True)
