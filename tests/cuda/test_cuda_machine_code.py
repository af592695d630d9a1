"""What the CUDA kernels become as machine code of compute capability 9.0, without a device."""

import itertools
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
    parts = []
    for k, text in enumerate(modules):
        found = re.findall(
            r"^\.visible \.(?:shared .*?;|entry .*?^\})", text, re.MULTILINE | re.DOTALL
        )
        # Modules of several processes give one name to what their threads share.
        parts += [part.replace("_cudapy_smem_", f"_cudapy_smem_{k}_") for part in found]
    return "\n".join(
        [modules[0][: modules[0].index(".address_size 64")], ".address_size 64", *parts]
    )


def assembled(modules, folder):
    """Return what the assembler says of each function, and the instructions of each."""
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
    functions = [
        re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", function)
        for function in re.split(r"^\.text\.", listing, flags=re.MULTILINE)[1:]
    ]
    assert len(frames) >= len(modules)
    assert len(functions) == len(modules)
    return frames, functions


def widths(functions, name):
    """Return how many bits the instructions that read or write global memory move."""
    found = set()
    for instruction in itertools.chain(*functions):
        operation, *modifiers = instruction.split(".")
        if operation == name:
            (width,) = [WIDTHS[m] for m in modifiers if m in WIDTHS] or [32]
            found.add(width)
    return found


def operations(function):
    """Return the names of a function's instructions."""
    return {instruction.split(".")[0] for instruction in function}


def float64_operations(functions):
    """Return what computes with float64, converts it or approximates for it."""
    arithmetic = re.compile(r"D(ADD|MUL|FMA|SETP|MNMX)\b|MUFU\.\w*64H|[FI]2[FI]\.(\w+\.)*F64")
    return {name for name in itertools.chain(*functions) if arithmetic.match(name)}


def assert_in_registers(frames, functions):
    assert set(frames) == {("0", "0", "0")}
    assert not operations(itertools.chain(*functions)) & {"LDL", "STL"}


@pytest.mark.parametrize(
    ("dtype", "width", "state"),
    [(FLOAT32, 32, 32), (FLOAT64, 64, 64), (BFLOAT16, 16, 32)],
    ids=["float32", "float64", "bfloat16"],
)
def test_steps(dtype, width, state, tmp_path):
    modules = [module(step(METHODS[name], each)) for name, each in STEPS if each == dtype]
    frames, functions = assembled(modules, tmp_path)
    assert_in_registers(frames, functions)
    assert widths(functions, "LDG") == widths(functions, "STG") == {width, state}
    assert bool(float64_operations(functions)) == (dtype == FLOAT64)


def test_steps_with_options(tmp_path):
    modules = [module(step(ao.AdaGrad(), dtype, **given)) for dtype, given, _ in OPTIONS.values()]
    frames, functions = assembled(modules, tmp_path)
    assert_in_registers(frames, functions)
    assert not float64_operations(functions)
    assert widths(functions, "LDG") == widths(functions, "STG") == {16, 32}


def test_steps_that_the_device_decides_on(tmp_path):
    modules = [module(decided(METHODS[name], FLOAT32, clip_norm=1.0)) for name in EACH_SHAPE]
    frames, functions = assembled(modules, tmp_path)
    assert_in_registers(frames, functions)
    assert not float64_operations(functions)
    assert widths(functions, "LDG") == {32, 64}  # 64: whether it is taken
    assert widths(functions, "STG") == {32}


def test_rates(tmp_path):
    from adaptopt.cuda.step import RateKernel

    modules = []
    for name in RATED_KERNELS:
        layout = ao.Optimizer(np.zeros(1, np.float32), METHODS[name])._plan().layout
        modules.append(module(RateKernel(METHODS[name].rate, layout)))
    frames, functions = assembled(modules, tmp_path)
    assert_in_registers(frames, functions)
    assert not float64_operations(functions)


def test_threads_that_share_memory(tmp_path):
    makers = reductions() | maps()
    frames, functions = assembled([module(make()) for make in makers.values()], tmp_path)
    assert_in_registers(frames, functions)
    assert all("BAR" in operations(function) for function in functions)


@pytest.mark.parametrize("name", verdicts())
def test_what_decides(name, tmp_path):
    frames, functions = assembled([module(verdicts()[name]())], tmp_path)
    assert_in_registers(frames, functions)


def test_rows(tmp_path):
    chosen = [given for name, given in ROWS.items() if not name.startswith("touched")]
    kernels = [row_kernels(method, **options).values() for method, options in chosen]
    modules = [module(kernel) for kernel in itertools.chain(*kernels)]
    frames, functions = assembled(modules, tmp_path)
    assert_in_registers(frames, functions)
    assert not float64_operations(functions)


def looks():
    """Return what looks at runs on a device, and what feeds them."""
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
    return [
        cuda_looks.watch_kernel("float32", "float32"),
        cuda_looks.value_kernel("float32"),
        cuda_looks.move_kernel("float32"),
        cuda_looks.costs_kernel(prox.cost, layout),
        cuda_looks.project_kernel(prox.prox, "float32", len(walls), len(coefs)),
        cuda_epochs.gather_kernel("uint32"),
        cuda_epochs.average_kernel("float32"),
        cuda_epochs.accumulate_kernel("float32"),
        cuda_epochs.divide_kernel(),
        cuda_epochs.count_kernel("float32"),
        cuda_rows.RowSums("float32", "float32"),
        cuda_steps.fill_kernel("float32"),
        cuda_steps.spread_kernel("float32"),
        cuda_steps.widen_kernel("bfloat16"),
        cuda_steps.narrow_kernel("float32"),
    ]


def test_what_looks_at_a_run_and_feeds_it(tmp_path):
    frames, functions = assembled([module(kernel) for kernel in looks()], tmp_path)
    assert_in_registers(frames, functions)


def test_float64_in_a_kernel_would_be_seen(tmp_path):
    _, functions = assembled([module(step(ao.SGD(), FLOAT64))], tmp_path)
    assert float64_operations(functions) & {"DFMA", "DADD", "DMUL"}
