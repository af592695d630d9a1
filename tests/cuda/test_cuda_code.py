"""What the CUDA kernels compile to, for compute capability 9.0, without a device."""

import os
import re
import subprocess
import sys
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from device_code import (
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    OPTIONS,
    ROWS,
    STEPS,
    accesses,
    decided,
    maps,
    needs_numba_cuda,
    ptx,
    row_kernels,
    step,
    verdicts,
)
from methods_table import EACH_SHAPE, METHODS, RATED_KERNELS, FiveSlots, in_turn

import adaptopt as ao

pytestmark = [needs_numba_cuda, pytest.mark.usefixtures("hopper")]


def uses_float64(body):
    return re.search(r"\.f64\b", body) is not None


def assert_stays_in_registers(body):
    assert not re.search(r"\.local\b|__local_depot", body)


def assert_rounds_correctly(body):
    """No approximate division or root, and nothing subnormal is flushed to zero."""
    assert not re.search(r"\.approx|\.ftz", body)


BITS = {BFLOAT16: "b16", FLOAT16: "b16", FLOAT32: "f32", FLOAT64: "f64"}


@pytest.mark.parametrize(("name", "dtype"), STEPS)
def test_steps(name, dtype):
    method = METHODS[name]
    body = ptx(step(method, dtype))
    assert uses_float64(body) == (dtype == FLOAT64)
    assert_stays_in_registers(body)
    assert_rounds_correctly(body)
    read, written = accesses(body)
    # The point and the gradient in their own width; state and rates in that of the arithmetic.
    plan = ao.Optimizer(np.zeros(1, dtype), method)._plan()
    number = "f64" if dtype == FLOAT64 else "f32"
    state = {number} if method.slots else set()
    assert read == {BITS[dtype]} | state
    assert written == {BITS[dtype]} | state | ({number} if plan.stored_rates else set())


@pytest.mark.parametrize(("dtype", "options", "kinds"), OPTIONS.values(), ids=OPTIONS)
def test_steps_with_options(dtype, options, kinds):
    body = ptx(step(ao.AdaGrad(), dtype, **options))
    assert not uses_float64(body)
    assert_stays_in_registers(body)
    assert_rounds_correctly(body)
    assert set().union(*accesses(body)) == kinds


@pytest.mark.parametrize("name", EACH_SHAPE)
def test_steps_that_the_device_decides_on(name):
    body = ptx(decided(METHODS[name], FLOAT32, clip_norm=1.0))
    assert not uses_float64(body)
    assert_stays_in_registers(body)
    assert_rounds_correctly(body)
    read, written = accesses(body)
    assert "f32" in read
    assert read <= {"f32", "u64", "b64", "s64"}  # whether it is taken
    assert written == {"f32"}


@pytest.mark.parametrize("name", maps())
def test_maps_that_tie_coordinates_together_stay_in_registers(name):
    body = ptx(maps()[name]())
    assert_stays_in_registers(body)
    assert "bar.sync" in body


@pytest.mark.parametrize("name", verdicts())
def test_what_decides_stays_in_registers(name):
    assert_stays_in_registers(ptx(verdicts()[name]()))


def test_float32_gradients_of_narrow_parameters():
    read, written = accesses(ptx(step(ao.SGD(), BFLOAT16, FLOAT32)))
    assert (read, written) == ({"b16", "f32"}, {"b16"})


@pytest.mark.parametrize(("method", "options"), ROWS.values(), ids=ROWS)
def test_rows(method, options):
    for kernel in row_kernels(method, **options).values():
        body = ptx(kernel)
        assert not uses_float64(body)
        assert_stays_in_registers(body)
        assert_rounds_correctly(body)


def test_rows_of_float64():
    for kernel in row_kernels(ao.RMSProp(), FLOAT64).values():
        body = ptx(kernel)
        assert not re.search(r"\.f32\b", body)
        assert_stays_in_registers(body)


@pytest.mark.parametrize("method", [ao.AdaGrad, ao.RowWiseAdaGrad])
def test_what_decay_left_of_a_row_is_a_float64_and_nothing_else_is(method):
    """One exponential of a difference of sums for each row, then rounded to float32."""
    for kernel in row_kernels(method(weight_decay=0.1, decoupled=True)).values():
        body = ptx(kernel)
        assert_stays_in_registers(body)
        assert len(re.findall(r"\bld\.global\.f64", body)) == 2
        assert not re.search(r"\bst\.global\.f64|\b(div|sqrt)[\w.]*\.f64", body)
        assert re.findall(r"\bcvt\.rn\.f32\.f64", body)
        assert not re.search(r"\bcvt\.f64\.f32", body)


def test_only_rows_that_wait_for_one_another_have_barriers():
    def barriers(method, what="step", **options):
        return ptx(row_kernels(method, **options)[what]).count("bar.sync")

    assert barriers(ao.AdaGrad()) == 0
    assert barriers(ao.RMSProp()) == barriers(ao.RMSProp(), "catch up") == 1
    assert barriers(ao.RowWiseAdaGrad()) == 2


@pytest.mark.parametrize("dtype", BITS, ids=str)
def test_sums_of_rows(dtype):
    from adaptopt.cuda.table import RowSums

    number = FLOAT64 if dtype == FLOAT64 else FLOAT32
    body = ptx(RowSums(dtype.name, number.name))
    assert uses_float64(body) == (dtype == FLOAT64)
    assert_stays_in_registers(body)
    assert accesses(body)[1] == {BITS[number]}


@pytest.mark.parametrize("name", RATED_KERNELS)
def test_rates(name):
    from adaptopt.cuda.step import RateKernel

    method = METHODS[name]
    layout = ao.Optimizer(np.zeros(1, np.float32), method)._plan().layout
    body = ptx(RateKernel(method.rate, layout))
    assert not uses_float64(body)
    assert_stays_in_registers(body)
    assert accesses(body)[1] == {"f32"}


NORMS = {
    "none": None,
    "box": ao.Box([0.0], [1.0]),
    "l1": ao.L1(0.1),
    "l1-in-box": ao.L1(0.1).within(ao.Box([0.0], [1.0])),
}


@pytest.mark.parametrize(
    ("name", "dtype"), [("none", FLOAT32), ("l1-in-box", FLOAT32), *in_turn(NORMS, BITS)]
)
def test_norms(name, dtype):
    prox = NORMS[name]
    from adaptopt.cuda.reductions import NormKernel

    penalty = ao.Optimizer(np.zeros(1, dtype), ao.SGD(), prox)._plan().penalty
    body = ptx(NormKernel(penalty.residual, penalty.layout))
    assert uses_float64(body) == (dtype == FLOAT64)
    assert_stays_in_registers(body)
    assert "atom.global.max.s64" in body


@pytest.mark.parametrize("dtype", BITS, ids=str)
def test_sums_of_squares(dtype):
    from adaptopt.cuda.reductions import SumOfSquares

    body = ptx(SumOfSquares(dtype.name))
    assert_stays_in_registers(body)
    assert accesses(body) == [{BITS[dtype]}, {"f64"}]
    assert "bar.sync" in body


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("value", [None, "float32", "float64"])
def test_what_watches_for_numbers_that_are_not_finite(value, dtype):
    from adaptopt.cuda.looks import watch_kernel

    body = ptx(watch_kernel(value, dtype.name))
    assert uses_float64(body) == ("float64" in (value, dtype.name))
    assert_stays_in_registers(body)
    assert "atom.global.min.s64" in body


@pytest.mark.parametrize("value", [None, "float16", "float32", "float64"])
def test_values_are_written_down_in_their_bits(value):
    """Values and penalties are float64."""
    from adaptopt.cuda.looks import value_kernel

    body = ptx(value_kernel(value))
    assert_stays_in_registers(body)
    assert uses_float64(body)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_the_largest_move(dtype):
    from adaptopt.cuda.looks import move_kernel

    body = ptx(move_kernel(dtype.name))
    assert uses_float64(body) == (dtype == FLOAT64)
    assert_stays_in_registers(body)


PENALTIES = {
    "l1": ao.L1(0.1),
    "arrays": ao.ElasticNet([0.1], [0.2]),
    "bounded": ao.L1(0.1).within(ao.Box([0.0], [1.0])),
}


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("prox", PENALTIES.values(), ids=PENALTIES)
def test_sums_of_penalties(prox, dtype):
    from adaptopt.cuda.looks import costs_kernel

    layout = ao.Optimizer(np.zeros(1, dtype), ao.SGD(), prox)._plan().layout
    body = ptx(costs_kernel(prox.cost, layout))
    assert_stays_in_registers(body)
    assert "bar.sync" in body


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("prox", [ao.Box([0.0], [1.0]), PENALTIES["bounded"]], ids=["box", "l1"])
def test_projections(prox, dtype):
    from adaptopt.cuda.looks import project_kernel

    walls, coefs = prox.parameters((1,), dtype)
    body = ptx(project_kernel(prox.prox, dtype.name, len(walls), len(coefs)))
    assert uses_float64(body) == (dtype == FLOAT64)
    assert_stays_in_registers(body)


@pytest.mark.parametrize("words", ["uint8", "uint16", "uint32", "uint64"])
def test_rows_are_gathered_without_a_division(words):
    from adaptopt.cuda.batches import gather_kernel

    body = ptx(gather_kernel(words))
    assert_stays_in_registers(body)
    assert not re.search(r"\b(div|rem)\.", body)
    assert not uses_float64(body)


@pytest.mark.parametrize("form", ["float32", "float64"])
def test_means_are_kept_in_float64(form):
    from adaptopt.cuda import batches as cuda_epochs
    from adaptopt.cuda import step as cuda_steps

    kind = BITS[np.dtype(form)]
    average = accesses(ptx(cuda_epochs.average_kernel(form)))
    assert average == [{kind, "f64"}, {"f64"}]
    assert accesses(ptx(cuda_epochs.accumulate_kernel(form))) == [{kind, "f64"}, {"f64"}]
    assert accesses(ptx(cuda_steps.narrow_kernel(form))) == [{"f64"}, {kind}]
    assert accesses(ptx(cuda_epochs.divide_kernel())) == [{"f64"}, {"f64"}]


@pytest.mark.parametrize("value", [None, "float32", "float64"])
def test_sums_of_losses(value):
    from adaptopt.cuda.batches import count_kernel

    body = ptx(count_kernel(value))
    assert_stays_in_registers(body)
    assert "atom" not in body


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_what_fills_arrays(form):
    from adaptopt.cuda.step import fill_kernel, widen_kernel

    assert accesses(ptx(fill_kernel("float32"))) == [set(), {"f32"}]
    assert accesses(ptx(fill_kernel(form))) == [set(), {"b16"}]
    assert accesses(ptx(widen_kernel(form))) == [{"b16"}, {"f32"}]


# -- launches, without a device --------------------------------------------------------------------


class Driver:
    """What a compiled kernel is to a launch: it warns of small grids, as Numba does."""

    def __init__(self):
        self.configured, self.launched = [], []

    def __getitem__(self, configuration):
        warnings.warn("Grid size 1 will likely result in GPU under-utilization", stacklevel=1)
        self.configured.append(configuration)
        return lambda *given: self.launched.append((configuration, given))


def test_a_kernel_is_configured_once_for_each_size_and_stream_without_a_warning():
    from adaptopt.cuda.step import fill_kernel

    kernel, driver = fill_kernel.__wrapped__("float32"), Driver()
    vars(kernel)["compiled"] = driver
    for blocks, stream in ((1, "a"), (1, "a"), (2, "a"), (1, "b"), (1, "a")):
        kernel.launch((blocks, 32), stream, "array", 0.5)
    assert driver.configured == [(1, 32, "a"), (2, 32, "a"), (1, 32, "b")]
    assert len(driver.launched) == 5
    assert driver.launched[-1] == ((1, 32, "a"), ("array", np.float32(0.5)))


def test_a_kernel_does_not_keep_itself_ready_for_ever_more_sizes():
    from adaptopt.cuda import launch as cuda_launch
    from adaptopt.cuda.step import fill_kernel

    kernel = fill_kernel.__wrapped__("float32")
    vars(kernel)["compiled"] = Driver()
    for blocks in range(1, 200):
        kernel.launch((blocks, 32), 0, "array", 0.5)
    assert len(kernel._ready) <= cuda_launch.CONFIGURATIONS


def test_the_device_that_numba_returns_has_no_hash():
    from adaptopt.cuda.launch import _multiprocessors

    class Device:
        MULTIPROCESSOR_COUNT = 132

    device = Device()
    assert _multiprocessors(weakref.proxy(device)) == 132


def test_a_bare_literal_in_a_rule_would_be_seen():
    @dataclass(frozen=True)
    class Literal(ao.Method):
        lr: float = 0.1

        @staticmethod
        def rule(x, g, lr):
            return x - 2.0 * lr * g, lr, ()

    assert uses_float64(ptx(step(Literal(), FLOAT32)))


def test_five_slots_stay_in_registers():
    """Tuples of any length are taken apart by the compiler."""
    body = ptx(step(FiveSlots(), FLOAT32))
    assert_stays_in_registers(body)


# -- the disk cache --------------------------------------------------------------------------------

# A process that compiles one kernel as it would with a device of this capability, and says how
# often the cache had it. Nothing is loaded into a device: there is none.
COMPILE_ONE = """
from types import SimpleNamespace
import numba.cuda.dispatcher as dispatcher
from numba.cuda import codegen
device = SimpleNamespace(compute_capability=(9, 0))
dispatcher.get_current_device = lambda: device
codegen.devices.get_context = lambda *args: SimpleNamespace(device=device)
dispatcher._Kernel.bind = lambda self: None

import numpy as np, adaptopt as ao
from adaptopt.cuda.step import DenseStep
def rule(x, g, G, lr, other):
    G = G + g * g
    return x - lr / (G + {term}) * g, lr, (G,)

plan = ao.Optimizer(np.zeros(1, np.float32), ao.AdaGrad())._plan()
transform, decay, _, prox = plan.functions
step = DenseStep((transform, decay, rule, prox), plan.layout._replace(coefs=(0, 0, 2, 0)))
print(sum(step.compiled._cache_hits.values()))
"""


def test_another_process_finds_a_kernel_on_the_disk_unless_its_rule_is_another(tmp_path):
    def hits(term):
        run = subprocess.run(
            [sys.executable, "-c", COMPILE_ONE.replace("{term}", term)],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return int(run.stdout)

    assert [hits("lr"), hits("lr"), hits("other")] == [0, 1, 0]
