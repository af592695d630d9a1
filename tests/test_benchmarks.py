"""Every benchmark of the asv suite runs: with each name once, and the smallest of every size."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numba
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODULES = sorted(path.stem for path in (FOLDER / "benchmarks").glob("[a-z]*.py"))
KINDS = ("time_", "track_", "peakmem_", "timeraw_")


@pytest.fixture(autouse=True)
def threads():
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def classes():
    """Return every class of the suite that has a benchmark."""
    sys.path.insert(0, str(FOLDER))
    try:
        modules = [importlib.import_module(f"benchmarks.{name}") for name in MODULES]
    finally:
        sys.path.remove(str(FOLDER))
    return {
        f"{module.__name__.split('.')[1]}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    }


def choices(benchmark):
    """Return combinations with each name in one of them, and the smallest sizes."""
    lists = getattr(benchmark, "params", [])
    sizes = (int, float)
    lists = [[min(values)] if isinstance(values[0], sizes) else values for values in lists]
    # The lists in turn: the longest once, the others as often as they fit in.
    count = max(map(len, lists), default=1)
    return [tuple(values[i % len(values)] for values in lists) for i in range(count)]


CLASSES = classes()
RUNS = [
    pytest.param(name, params, id="-".join([name, *map(str, params)]))
    for name, benchmark in CLASSES.items()
    for params in choices(benchmark)
]


@pytest.mark.parametrize(("name", "params"), RUNS)
def test_it_runs(name, params):
    benchmark = CLASSES[name]()
    methods = [kind for kind in dir(benchmark) if kind.startswith(KINDS)]
    assert methods
    try:
        benchmark.setup(*params)
    except NotImplementedError as skip:
        pytest.skip(str(skip))
    for method in methods:
        value = getattr(benchmark, method)(*params)
        if method.startswith("track_"):
            assert value > 0
        if method.startswith("timeraw_"):
            code, before = value if isinstance(value, tuple) else (value, "")
            subprocess.run([sys.executable, "-c", before + "\n" + code], check=True)


def test_there_is_one_of_each_kind():
    kinds = {name.split("_")[0] for c in CLASSES.values() for name in dir(c) if "_" in name}
    assert {kind.rstrip("_") for kind in KINDS} <= kinds
