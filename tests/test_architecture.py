"""The layers: imports point downward only, and optional parts are imported where they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import adaptopt

PACKAGE = Path(adaptopt.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)

# From the top down; modules of one layer may import each other.
LAYERS = [
    {"__main__", "demonstration", "environment"},
    {"__init__"},
    {"finite_sum", "interchange", "many"},
    {"device_epochs"},
    {"minimize"},
    {"descent", "epochs"},
    {"epoch_calls"},
    {"dense_epochs", "hogwild"},
    {"compiled_run"},
    {"device_run"},
    {"descent_run"},
    {"device_figures", "device_batches"},
    {"device_objective"},
    {"descent_state", "epoch_state", "judging", "batches", "averaging", "compiled_epochs"},
    {
        *("run_state", "monitor", "history", "objective", "options", "reporting", "shuffling"),
        *("regret", "compiled_function", "evaluation"),
    },
    {"optimizer", "problems"},
    {"sparse_rows"},
    {"groups", "rate_table", "deferral"},
    {"tables"},
    {"packing", "precision", "snapshot", "transformation"},
    {"foreign"},
    {"placement", "device", "uploads"},
    {"kernels.cuda_epochs"},
    {"kernels.cuda_looks"},
    {
        *("kernels.cuda_steps", "kernels.cuda_reductions", "kernels.cuda_verdict"),
        *("kernels.cuda_maps", "kernels.cuda_rows"),
    },
    {"kernels.cuda_arity", "kernels.cuda_launch"},
    {"kernels.dense_epochs", "kernels.hogwild"},
    {
        *("kernels.__init__", "kernels.dense", "kernels.reductions", "kernels.rows"),
        *("kernels.epochs", "kernels.descent", "kernels.many", "kernels.rates"),
        *("kernels.coalesce", "kernels.table_rows", "kernels.catch_up", "kernels.row_sums"),
    },
    {"kernels.loops", "kernels.threads", "kernels.per_step", "kernels.averages", "kernels.sums"},
    {"kernels.access"},
    {"kernels.build", "kernels.formats", "kernels.exact_sums", "kernels.pointers"},
    {"kernels.contents", "kernels.disk"},
    {"checkpoint", "nonseparable"},
    {"named"},
    {"methods", "dual_averaging", "method"},
    {"rules", "losses", "schedules", "stopping", "proximal", "gradients"},
    {"arrays"},
]
LEVEL = {module: -depth for depth, layer in enumerate(LAYERS) for module in layer}
MATHS = {"rules": {"math"}, "losses": {"math"}, "schedules": {"math"}, "stopping": {"math"}}
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


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_layer(module):
    assert module in LEVEL


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module):
    ours = [name.removeprefix("adaptopt.") for name in imports(module) if "adaptopt." in name]
    assert all(LEVEL[name] <= LEVEL[module] for name in ours)


@pytest.mark.parametrize("module", MATHS)
def test_the_maths_imports_only_math(module):
    standard = {"__future__", "collections.abc", "dataclasses", "itertools", "typing"}
    assert set(imports(module)) - standard == MATHS[module]


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
