"""``python -m adaptopt``: what it prints, what it draws, and what it does without the extras."""

import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import adaptopt as ao

METHODS = ["SGD", "AdaGrad", "RMSProp", "Adam"]
PROBLEMS = ["breast cancer", "digits", "bag of words"]
EXTRAS = ["matplotlib", "sklearn", "tqdm"]
LIMIT = 120  # seconds


def start(*arguments):
    """Run the command as a user does; a numerical warning would be an error."""
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "adaptopt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)


def start_without(packages, *arguments):
    """Run it where some packages cannot be imported."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({packages!r})); "
        "from adaptopt.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)


def table(printed):
    """Return {(problem, method): numbers} of the table of results."""
    row = re.compile(rf"^  ({'|'.join(PROBLEMS)}) +({'|'.join(METHODS)}) +(\d.*)$", re.MULTILINE)
    return {
        (problem, method): [float(number.rstrip("%")) for number in numbers.split()]
        for problem, method, numbers in row.findall(printed)
    }


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return tmp_path_factory.mktemp("demonstration") / "picture.png"


@pytest.fixture(scope="module")
def complete(picture):
    return start("--quick", "--output", str(picture))


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    return start_without(EXTRAS, "--quick", "--output", str(folder / "picture.png"))


def test_all_goes_well(complete):
    assert complete.returncode == 0, complete.stderr


def test_the_table_has_all_problems_and_methods(complete):
    assert list(table(complete.stdout)) == [(p, m) for p in PROBLEMS for m in METHODS]


def test_the_table_holds_finite_numbers(complete):
    # lr, two losses, accuracy, steps, seconds, seconds in updates
    rows = table(complete.stdout).values()
    assert all(len(row) == 7 and all(map(math.isfinite, row)) for row in rows)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_learning_rate_is_shown_and_one_wins(complete, problem):
    part = complete.stdout.split(f"\n{problem}: ")[1]
    for method in METHODS:
        cells = re.search(rf"^  {method} +(\d.*)$", part, re.MULTILINE)[1]
        losses = [float(loss) for loss in cells.replace("*", " ").split()]
        assert len(losses) == 3
        assert cells.count("*") == 1
        assert f"{min(losses):.4f}*" in cells


def test_training_lowers_the_loss(complete):
    untrained = {"breast cancer": math.log(2), "digits": math.log(10), "bag of words": math.log(2)}
    assert all(row[1] < untrained[key[0]] for key, row in table(complete.stdout).items())


def test_calls_without_a_rate_reach_their_optimum(complete):
    printed = " ".join(complete.stdout.split())
    loss, optimum = map(
        float, re.search(r"loss (\d\S+) after .*? scale 1, is (\S+)\.", printed).groups()
    )
    assert loss < optimum + 1e-8
    assert float(re.search(r"compiled: (\S+) after", printed)[1]) < 1e-10


def test_the_rates_of_adagrad_never_rise(complete):
    printed = " ".join(complete.stdout.split())
    assert len(re.findall(r"- AdaGrad, \d+ (?:rare|frequent) words.*?rose in 0 of", printed)) == 2


def test_the_picture_is_where_it_says(complete, picture):
    assert complete.stdout.rstrip().endswith(f"The picture is in {picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_it_fits_the_terminal(complete):
    # Only the folder of the kernels and the picture may be longer.
    lines = [x for x in complete.stdout.splitlines() if not re.match("kernels|The picture", x)]
    assert max(map(len, lines)) <= 100


def test_without_a_terminal_there_is_no_progress_bar(complete):
    assert "run/s" not in complete.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the kernels in the process below."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def environment(folder):
    code = (
        "import sys; from adaptopt.__main__ import main; "
        f"sys.exit(main(['--environment']) or bool(set({EXTRAS!r}) & set(sys.modules)))"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=env
    )


def test_the_environment_names_the_versions(environment):
    printed = environment.stdout
    versions = [ao.__version__, platform.python_version(), np.__version__, numba.__version__]
    assert all(version in printed for version in versions)
    names = [line.split()[0] for line in printed.splitlines()]
    assert names == ["adaptopt", "versions", "processor", "threads", "CUDA", "kernels"]


def test_the_environment_names_the_folder_of_the_kernels(environment, folder):
    named = Path(re.search("^kernels +stored in (.+)$", environment.stdout, re.MULTILINE)[1])
    assert named.is_relative_to(folder)
    assert list(named.glob("*.nbi"))


def test_the_environment_imports_no_extra(environment):
    assert environment.returncode == 0


def test_missing_extras_are_named_with_the_remedy(bare):
    assert bare.stderr.splitlines() == [
        "scikit-learn is not installed: the problems on real data are left out.",
        "matplotlib is not installed: there will be no picture.",
        "tqdm is not installed: there will be no progress bar.",
        'For all of it: pip install "adaptopt[demo]"',
    ]


def test_something_left_out_is_status_1(bare):
    assert bare.returncode == 1


def test_without_the_extras_the_made_up_problem_gives_the_same_numbers(bare, complete):
    untimed = {key: row[:5] for key, row in table(complete.stdout).items() if key[0] == PROBLEMS[2]}
    assert {key: row[:5] for key, row in table(bare.stdout).items()} == untimed


def test_an_output_that_cannot_be_a_file_is_refused_at_once(tmp_path):
    refused = start("--output", str(tmp_path / "nowhere" / "picture.png"))
    assert refused.returncode == 2
    assert "expected a file in a folder that exists" in refused.stderr
