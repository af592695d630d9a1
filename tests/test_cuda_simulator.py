"""The tests of tests/cuda, in Numba's simulator: it must be chosen before Numba is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# Fewer would mean that something was not collected.
AT_LEAST = {"test_steps.py": 400, "test_device_arrays.py": 30}


@pytest.mark.parametrize("module", AT_LEAST)
def test_in_the_simulator(module):
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider"),
            TESTS / "cuda" / module,
        ],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    outcome = re.fullmatch(r"(\d+) passed in .*", run.stdout.strip().splitlines()[-1])
    assert outcome, run.stdout
    assert int(outcome[1]) >= AT_LEAST[module]


def test_every_module_is_run():
    assert {path.name for path in (TESTS / "cuda").glob("test_*.py")} == AT_LEAST.keys()
