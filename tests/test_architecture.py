"""The layers: imports point downward only, and optional parts are imported where they are used."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import adaptopt

pytestmark = pytest.mark.quick

PACKAGE = Path(adaptopt.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)

# From the ground up: a room imports rooms of lower floors only, and modules of its own.
FLOORS = [
    {"scalar", "arrays", "schedules", "plot"},
    {"methods", "prox"},
    {"kernels"},
    {"cuda", "problems", "regret"},
    {"placement"},
    {"optimizer", "objectives"},
    {"solvers", "interchange"},
    {"__init__"},
    {"demo", "distributed", "estimators"},
    {"__main__"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 450  # lines
FORBIDDEN_NAMES = {"utils", "core", "helpers", "common", "misc", "config"}


def imports(module):
    """Yield (module, top-level package) for every import of a module of ours."""
    path = PACKAGE / Path(*module.split(".")).with_suffix(".py")
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            for alias in node.names:
                full = ".".join([*base, alias.name])
                inside = next(
                    name
                    for name in (full, ".".join([full, "__init__"]), ".".join(base),
                                 ".".join([*base, "__init__"]))
                    if name in MODULES
                )  # fmt: skip
                yield f"adaptopt.{inside}"


def room_of(module):
    room = module.removeprefix("adaptopt.").partition(".")[0]
    return room if room in FLOOR else "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_rooms_import_only_rooms_of_lower_floors(module):
    assert module.partition(".")[0] in FLOOR
    room = room_of(module)
    others = {room_of(name) for name in imports(module) if name.startswith("adaptopt.")} - {room}
    assert all(FLOOR[other] < FLOOR[room] for other in others)


def test_modules_of_a_room_import_each_other_in_no_circle():
    graph = {m: {n.removeprefix("adaptopt.") for n in imports(m)} & set(MODULES) for m in MODULES}
    TopologicalSorter(graph).prepare()  # raises where there is a circle


def test_the_guide_lists_the_floors():
    guide = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", guide, re.MULTILINE)
    listed = {
        room: int(floor) - 1
        for floor, cell in rows
        for room in re.findall(r"`(\w+)(?:\.py|/)`", cell)
    }
    assert listed == FLOOR


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module):
    path = PACKAGE / Path(*module.split("."))
    assert len(path.with_suffix(".py").read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_named_for_what_they_hold(module):
    assert not FORBIDDEN_NAMES & set(module.split("."))


@pytest.mark.parametrize("module", MODULES)
def test_no_code_is_made_with_exec(module):
    source = (PACKAGE / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
    calls = [n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    assert not {c.id for c in calls if isinstance(c, ast.Name)} & {"exec", "eval", "compile"}


@pytest.mark.parametrize(
    "package",
    [
        *("numba.cuda", "matplotlib", "sklearn", "tqdm", "torch", "dask", "ml_dtypes"),
        *("scipy.optimize", "scipy.sparse"),
    ],
)
def test_importing_adaptopt_does_not_import(package):
    code = f"import sys, adaptopt; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there_and_documented():
    for name in adaptopt.__all__:
        assert getattr(adaptopt, name).__doc__, name
