"""What the kernels compile to. Each of these was once a silent loss of speed or of a result."""

import ast
import inspect
from dataclasses import dataclass

import numba
import numpy as np
import pytest
from host_code import dense_step, functions, multiplies_vectors
from methods_table import EACH_SHAPE, KERNELS, METHODS, RATED_KERNELS, FiveSlots

import adaptopt as ao
from adaptopt import scalar
from adaptopt.kernels import compile as build
from adaptopt.kernels.parallel import THREADED_FROM
from adaptopt.kernels.reductions import norm_kernel
from adaptopt.kernels.step import rate_kernel
from adaptopt.methods import adagrad, adam, dual_averaging, momentum, nadam, rmsprop
from adaptopt.prox.base import Proximal

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def layout(method, dtype, prox=None):
    return ao.Optimizer(np.zeros(1, dtype), method, prox)._plan().layout


@pytest.mark.usefixtures("no_cache")
def test_float32_steps_compute_in_float32_and_in_vectors(kernel):
    step = dense_step(kernel, FLOAT32)
    code = "\n".join(functions(step.serial))
    assert "float" in code
    assert "double" not in code
    assert multiplies_vectors(step.serial, FLOAT32)


@pytest.mark.parametrize("name", [name for name in KERNELS if METHODS[name].idle])
def test_closed_forms_compile_to_what_python_computes(name):
    plan = ao.Optimizer(np.zeros(1), METHODS[name])._plan()
    method = plan.method
    coefs = method.coefficients(3.0, method.lr_at(3), *plan.hyper, *method.scalars.values())
    numbers = [5.0, 0.7, *[0.3 + 0.1 * k for k in range(len(method.slots))], *map(float, coefs)]
    x, slots = numba.njit(error_model="numpy")(build.inlinable(method.idle))(*numbers)
    expected, kept = method.idle(*numbers)
    np.testing.assert_allclose([x, *slots], [expected, *kept], rtol=1e-14)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("name", {METHODS[name].rate: name for name in RATED_KERNELS}.values())
def test_float32_rates_compute_in_float32(name):
    method = METHODS[name]
    code = "\n".join(functions(rate_kernel(method.rate, layout(method, FLOAT32))))
    assert "float" in code
    assert "double" not in code


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("prox", [Proximal(), ao.Box(0.0, 1.0)])
def test_float32_norms_compute_in_float32(prox):
    code = "\n".join(functions(norm_kernel(prox.residual, layout(ao.SGD(), FLOAT32, prox))))
    assert "float" in code
    assert "double" not in code


@pytest.mark.usefixtures("no_cache")
def test_a_bare_literal_in_a_rule_would_be_seen():
    @dataclass(frozen=True)
    class Literal(ao.Method):
        lr: float = 0.1

        @staticmethod
        def rule(x, g, lr):
            return x - 2.0 * lr * g, lr, ()

    assert "double" in "\n".join(functions(dense_step(Literal(), FLOAT32).serial))


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("name", EACH_SHAPE[::3])  # in float32, all above
def test_float64_steps_use_vector_instructions(name):
    assert multiplies_vectors(dense_step(METHODS[name], FLOAT64).serial, FLOAT64)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize(
    ("dtype", "prox"), [(FLOAT32, ao.Box(0.0, 1.0)), (FLOAT64, ao.Box([0.0], [1.0]))]
)
def test_bounded_steps_use_vector_instructions(dtype, prox):
    assert multiplies_vectors(dense_step(ao.AdaGrad(), dtype, prox).serial, dtype)


@pytest.mark.usefixtures("no_cache")
def test_a_kernel_has_one_signature_and_casts_python_floats():
    step = dense_step(ao.AdaGrad(), FLOAT32)
    x, G = np.zeros(3, np.float32), np.zeros(3, np.float32)
    step(x, np.ones(3, np.float32), (G,), (0.1, 0.0, 1e-8), ())
    assert len(step.serial.signatures) == 1
    assert x[0] == np.float32(-0.1)


@pytest.mark.parametrize(
    "family",
    [momentum, adagrad, rmsprop, adam, nadam, dual_averaging, scalar],
    ids=lambda m: m.__name__,
)
def test_rules_call_nothing_slower_than_a_square_root(family):
    """exp, tanh and ** cost 10 to 60 square roots an element: Numba's wheels ship no SVML."""
    tree = ast.parse(inspect.getsource(family))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    imported = {
        a.name for n in tree.body if isinstance(n, ast.ImportFrom) and n.level == 0 for a in n.names
    }
    # What runs once a step may take powers: beta**t.
    a_step = ("_coefficients", "_carry", "correction", "_nadam_momentum", "_bound")
    per_element = [n for n in functions if not n.name.endswith(a_step)]
    names = {p.id for n in per_element for p in ast.walk(n) if isinstance(p, ast.Name)}
    assert names & imported <= {"sqrt"}
    assert not names & {"math", "np"}
    assert not [p for n in per_element for p in ast.walk(n) if isinstance(p, ast.Pow)]


# The first row of each pair of functions: another row has other numbers only.
ONCE_A_STEP = {(m.carry, m.coefficients): name for name, m in reversed(METHODS.items())}


@pytest.mark.parametrize("name", ONCE_A_STEP.values())
def test_what_runs_once_a_step_compiles(name):
    method = METHODS[name]
    values = method._hyperparameters_at(1)
    carried = numba.njit(build.inlinable(method.carry))(1, *values, *method.initial_scalars())
    assert carried == method.carry(1, *values, *method.initial_scalars())
    coefficients = numba.njit(build.inlinable(method.coefficients))(3, *values, *carried)
    np.testing.assert_allclose(coefficients, method.coefficients(3, *values, *carried), rtol=1e-12)


@pytest.mark.parametrize(("n", "dtype"), [(3, FLOAT64), (THREADED_FROM + 1, FLOAT32)])
def test_any_number_of_slots_is_read_and_written(n, dtype):
    x = np.zeros(n, dtype)
    opt = ao.Optimizer(x, FiveSlots())
    opt.step(np.ones(n, dtype))
    opt.step(np.ones(n, dtype))
    assert [np.unique(slot).tolist() for slot in opt.state.values()] == [[2], [3], [4], [5], [6]]
    assert np.unique(x).tolist() == [-0.5 - 3.0]
