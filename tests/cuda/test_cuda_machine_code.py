"""What the CUDA kernels become as machine code of compute capability 9.0, without a device."""

import re
import subprocess

import numpy as np
import pytest
from cuda_tools import tool
from device_code import (
    BFLOAT16,
    FLOAT32,
    FLOAT64,
    OPTIONS,
    ROWS,
    STEPS,
    decided,
    maps,
    module,
    needs_numba_cuda,
    reductions,
    row_kernels,
    step,
    verdicts,
)
from methods_table import EACH_SHAPE, METHODS, RATED_KERNELS

import adaptopt as ao

missing = [name for name in ("ptxas", "nvdisasm") if tool(name) is None]
pytestmark = [
    needs_numba_cuda,
    pytest.mark.usefixtures("hopper"),
    pytest.mark.skipif(
        bool(missing), reason=f'{" and ".join(missing)} missing: pip install "adaptopt[cuda-check]"'
    ),
]

WIDTHS = {"U8": 8, "U16": 16, "S16": 16, "32": 32, "64": 64, "128": 128}


def together(modules):
    """Return the entry functions of modules as one: the tools take longer to start than to run."""
    head = modules[0][: modules[0].index(".address_size 64")] + ".address_size 64\n"
    bodies = [
        re.findall(r"^\.visible \.entry .*?^\}", text, re.MULTILINE | re.DOTALL) for text in modules
    ]
    return head + "\n".join(body for (body,) in bodies)


def assembled(modules, folder):
    """Return what the assembler says of each function, and the instructions of all."""
    modules = list(dict.fromkeys(modules))  # some methods share a rate
    source, binary = folder / "kernels.ptx", folder / "kernels.cubin"
    source.write_text(together(modules) if len(modules) > 1 else modules[0])
    report = subprocess.run(
        [tool("ptxas"), "-v", "-arch=sm_90", source, "-o", binary],
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    listing = subprocess.run(
        [tool("nvdisasm"), binary], capture_output=True, text=True, check=True
    ).stdout
    frames = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report
    )
    assert len(frames) >= len(modules)
    return frames, re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", listing)


def widths(instructions, name):
    """Return how many bits the instructions that read or write global memory move."""
    found = set()
    for instruction in instructions:
        operation, *modifiers = instruction.split(".")
        if operation == name:
            (width,) = [WIDTHS[m] for m in modifiers if m in WIDTHS] or [32]
            found.add(width)
    return found


def float64_operations(instructions):
    """Return what computes with float64, converts it or approximates for it."""
    arithmetic = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX)\b|MUFU\.\w*64H|[FI]2[FI]\.(\w+\.)*F64")
    return {name for name in instructions if arithmetic.match(name)}


def assert_in_registers(frames, instructions):
    assert set(frames) == {("0", "0", "0")}
    assert not {name for name in instructions if name.split(".")[0] in ("LDL", "STL")}


@pytest.mark.parametrize(
    ("dtype", "width", "state"),
    [(FLOAT32, 32, 32), (FLOAT64, 64, 64), (BFLOAT16, 16, 32)],
    ids=["float32", "float64", "bfloat16"],
)
def test_steps(dtype, width, state, tmp_path):
    modules = [module(step(METHODS[name], each)) for name, each in STEPS if each == dtype]
    frames, instructions = assembled(modules, tmp_path)
    assert_in_registers(frames, instructions)
    assert widths(instructions, "LDG") == widths(instructions, "STG") == {width, state}
    assert bool(float64_operations(instructions)) == (dtype == FLOAT64)


def test_steps_with_options(tmp_path):
    modules = [module(step(ao.AdaGrad(), dtype, **given)) for dtype, given, _ in OPTIONS.values()]
    frames, instructions = assembled(modules, tmp_path)
    assert_in_registers(frames, instructions)
    assert not float64_operations(instructions)
    assert widths(instructions, "LDG") == widths(instructions, "STG") == {16, 32}


def test_steps_that_the_device_decides_on(tmp_path):
    modules = [module(decided(METHODS[name], FLOAT32, clip_norm=1.0)) for name in EACH_SHAPE]
    frames, instructions = assembled(modules, tmp_path)
    assert_in_registers(frames, instructions)
    assert not float64_operations(instructions)
    assert widths(instructions, "LDG") == {32, 64}  # 64: whether it is taken
    assert widths(instructions, "STG") == {32}


def test_rates(tmp_path):
    from adaptopt.cuda.step import RateKernel

    modules = []
    for name in RATED_KERNELS:
        layout = ao.Optimizer(np.zeros(1, np.float32), METHODS[name])._plan().layout
        modules.append(module(RateKernel(METHODS[name].rate, layout)))
    frames, instructions = assembled(modules, tmp_path)
    assert_in_registers(frames, instructions)
    assert not float64_operations(instructions)


SHARING = reductions() | maps()


@pytest.mark.parametrize("name", SHARING)
def test_threads_that_share_memory(name, tmp_path):
    frames, instructions = assembled([module(SHARING[name]())], tmp_path)
    assert_in_registers(frames, instructions)
    assert "BAR" in {instruction.split(".")[0] for instruction in instructions}


@pytest.mark.parametrize("name", verdicts())
def test_what_decides(name, tmp_path):
    frames, instructions = assembled([module(verdicts()[name]())], tmp_path)
    assert_in_registers(frames, instructions)


@pytest.mark.parametrize("name", [name for name in ROWS if not name.startswith("touched")])
def test_rows(name, tmp_path):
    method, options = ROWS[name]
    for kernel in row_kernels(method, **options).values():
        frames, instructions = assembled([module(kernel)], tmp_path)
        assert_in_registers(frames, instructions)
        assert not float64_operations(instructions)


def looks():
    """Return what looks at runs on a device, and what feeds them, by name."""
    from adaptopt.cuda import (
        batches as cuda_epochs,
    )
    from adaptopt.cuda import (
        looks as cuda_looks,
    )
    from adaptopt.cuda import (
        step as cuda_steps,
    )
    from adaptopt.cuda import (
        table as cuda_rows,
    )

    prox = ao.L1(0.1).within(ao.Box([0.0], [1.0]))
    layout = ao.Optimizer(np.zeros(1, np.float32), ao.SGD(), prox)._plan().layout
    walls, coefs = prox.parameters((1,), FLOAT32)
    return {
        "watch": cuda_looks.watch_kernel("float32", "float32"),
        "value": cuda_looks.value_kernel("float32"),
        "move": cuda_looks.move_kernel("float32"),
        "costs": cuda_looks.costs_kernel(prox.cost, layout),
        "project": cuda_looks.project_kernel(prox.prox, "float32", len(walls), len(coefs)),
        "gather": cuda_epochs.gather_kernel("uint32"),
        "average": cuda_epochs.average_kernel("float32"),
        "accumulate": cuda_epochs.accumulate_kernel("float32"),
        "divide": cuda_epochs.divide_kernel(),
        "count": cuda_epochs.count_kernel("float32"),
        "row-sums": cuda_rows.RowSums("float32", "float32"),
        "fill": cuda_steps.fill_kernel("float32"),
        "spread": cuda_steps.spread_kernel("float32"),
        "widen": cuda_steps.widen_kernel("bfloat16"),
        "narrow": cuda_steps.narrow_kernel("float32"),
    }


LOOKS = (
    *("watch", "value", "move", "costs", "project", "gather", "average", "accumulate", "divide"),
    *("count", "row-sums", "fill", "spread", "widen", "narrow"),
)


@pytest.mark.parametrize("name", LOOKS)
def test_what_looks_at_a_run_and_feeds_it(name, tmp_path):
    frames, instructions = assembled([module(looks()[name])], tmp_path)
    assert_in_registers(frames, instructions)


def test_float64_in_a_kernel_would_be_seen(tmp_path):
    _, instructions = assembled([module(step(ao.SGD(), FLOAT64))], tmp_path)
    assert float64_operations(instructions) & {"DFMA", "DADD", "DMUL"}
