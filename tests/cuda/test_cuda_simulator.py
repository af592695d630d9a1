"""The tests of tests/cuda, in Numba's simulator: it must be chosen before Numba is imported.

The host's kernels, to which the device's are compared, run in Python too: to compile them took
most of the time. That they come to what the compiled ones do is shown in test_without_compiler.py.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import adaptopt as ao

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]

# Fewer would mean that something was not collected.
AT_LEAST = {
    "test_steps.py": 43,
    "test_device_arrays.py": 30,
    "test_minimize.py": 100,
    "test_rows.py": 102,
    "test_finite_sum.py": 95,
    "test_deferred_steps.py": 45,
    "test_tying_maps.py": 40,
    "test_turns.py": 4,
}


# Each process imports everything anew: there are two.
HALVES = {
    "finite sums": ["test_finite_sum.py"],
    "others": sorted({*AT_LEAST} - {"test_finite_sum.py"}),
}


@pytest.mark.parametrize("modules", HALVES.values(), ids=HALVES)
def test_in_the_simulator(modules):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-v", "-n0", "-p", "no:cacheprovider"),
            *(TESTS / module for module in modules),
        ],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.fullmatch(r"=+ \d+ passed in .*", run.stdout.strip().splitlines()[-1]), run.stdout
    for module in modules:
        passed = re.findall(rf"^\S*{re.escape(module)}::.* PASSED", run.stdout, re.MULTILINE)
        assert len(passed) >= AT_LEAST[module], module


def test_every_module_is_run():
    modules = {path.name for path in TESTS.glob("test_*.py")}
    assert modules - {path.name for path in TESTS.glob("test_cuda_*.py")} == AT_LEAST.keys()


def test_the_check_for_a_gpu_runs(tmp_path):
    """Its plumbing: the figures mean nothing in a simulator."""
    path = tmp_path / "figures.json"
    script = ROOT / "benchmarks" / "gpu_check.py"
    run = subprocess.run(
        [sys.executable, script, "--skip-tests", "--sizes", "40", "--json", path],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(path.read_text())
    ours = [row for row in figures["rows"] if row["library"] == "adaptopt"]
    assert len(ours) == 13
    assert all(row["gb_per_s"] > 0 for row in ours)
    assert figures["short_step"]["us_in_a_series"] > 0
    assert len(figures["row_steps"]["steps"]) >= 6
    assert all(row["us"] > 0 for row in figures["row_steps"]["steps"])
    peers = {row["library"] for row in figures["rows"]} | figures["missing"].keys()
    assert peers == {"device", "adaptopt", "torch", "cupy"}


# -- without a device ------------------------------------------------------------------------------


class Foreign:
    """What any library's CUDA array looks like."""

    __cuda_array_interface__ = {  # noqa: RUF012
        "shape": (3,),
        "typestr": "<f4",
        "data": (256, False),
        "version": 3,
    }


def test_without_a_driver_it_is_said_what_to_install(monkeypatch):
    import numba.cuda

    monkeypatch.setattr(numba.cuda, "is_available", lambda: False)
    with pytest.raises(
        RuntimeError, match=r"params is a CUDA array, .* pip install \"adaptopt\[cu"
    ):
        ao.Optimizer(Foreign(), ao.SGD())
