"""The disk cache of kernels: it hits in the next process, and only where nothing changed."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

import adaptopt as ao

STEP = """
import numpy as np, adaptopt as ao
{define}
x = np.zeros(3, np.float32)
opt = ao.Optimizer(x, {method})
opt.step(np.ones(3, np.float32))
group = opt._parameters.groups[0].group
stats = group._steps[x.dtype].serial.stats
print(float(x[0]), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""

THREADED = """
import os, numpy as np, adaptopt as ao
x = np.zeros(600_000, np.float32)
opt = ao.Optimizer(x, ao.AdaGrad(0.5))
opt.step(np.ones(x.size, np.float32))
group = opt._parameters.groups[0].group
stats = group._steps[x.dtype].threaded.stats
print(float(x[0]), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""

# Epochs of a problem, with what can go into the kernel, and of a function: another one each time.
EPOCHS = """
import sys, numpy as np, adaptopt as ao
from numba import njit
from adaptopt.solvers import dense_epochs
p = ao.problems.LeastSquares(np.ones((4, 2)), np.ones(4))

@njit
def fun(x, idx, g_out):
    g_out[0] = {slope}
    return 1.0

run, data = {run}
ao.minimize_finite_sum(run, np.zeros(2), data, method=ao.{method}, prox=ao.L1(0.1), epochs=1)
made, dense_epochs.dense_epoch = dense_epochs.dense_epoch, None
kernels = []
dense_epochs.dense_epoch = lambda *arguments: kernels.append(made(*arguments)) or kernels[0]
ao.minimize_finite_sum(run, np.zeros(2), data, method=ao.{method}, prox=ao.L1(0.1), epochs=1)
stats = kernels[0].stats
dense_epochs.dense_epoch = made
print(0.0, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""

RULE = """
from dataclasses import dataclass
import adaptopt as ao

SCALE = {scale}

def helper(g):
    return {helper}

def rule(x, g, lr, scale=SCALE):
    return {result}, lr, ()

@dataclass(frozen=True)
class Mine(ao.Method):
    lr: float = 0.5
    rule = staticmethod(rule)
"""

LOOP = """
import gc
import numpy as np, adaptopt as ao
from objective import {name}
res = ao.minimize({name}, np.ones(3), method=ao.AdaGrad(0.5), options={{"maxiter": 1}})
loop = next(o for o in gc.get_objects() if getattr(o, "__name__", "") == "descent" and
            hasattr(o, "stats"))
print(float(res.state.x[0]), sum(loop.stats.cache_hits.values()),
      sum(loop.stats.cache_misses.values()))
"""

OBJECTIVES = """
from numba import njit

@njit(cache=True)
def one(x, g_out):
    for i in range(x.size):
        g_out[i] = x[i]
    return x[0] + x[1] + x[2]

@njit(cache=True)
def another(x, g_out):
    for i in range(x.size):
        g_out[i] = -x[i]
    return x[0]
"""


def run_all(codes, folder, **env):
    """Run code in a new process whose kernels are cached in ``folder``; return what it printed.

    Each piece of code has a namespace of its own, and its own kernels.
    """
    program = f"for code in {codes!r}: exec(code, {{'__name__': '__main__'}})"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    return [(float(value), int(hits), int(misses)) for value, hits, misses in lines]


def run(code, folder, **env):
    """Run one piece of code."""
    (found,) = run_all([code], folder, **env)
    return found


class Rule:
    """A module with a rule of the user's; equal ones would share a kernel, so each has a scale."""

    def __init__(self, k, name):
        self.file, self.k = f"{name}.py", k
        self.code = STEP.format(define=f"from {name} import Mine", method="Mine()")

    def write(self, folder, before="", scale="1", helper="g", result="x - {k} * lr * helper(g)"):
        rule = RULE.format(scale=scale, helper=helper, result=result.format(k=self.k))
        (folder / self.file).write_text(before + rule)


# What an edit changes in a rule of the user's, by what is edited: before and after.
EDITS = {
    "nothing": ({}, {}),
    "comment": ({}, {"before": "# a remark\n"}),
    "rule": ({}, {"result": "x + {k} * lr * helper(g)"}),
    "helper": ({}, {"helper": "g + g"}),
    "constant": tuple(
        {"result": "x - {k} * SCALE * lr * g", "scale": scale} for scale in ("1", "4")
    ),
    # Numba compiles one body, and the digest would be that of another.
    "not understood": tuple(
        {
            "result": "x - {k} * lr * f(g)",
            "scale": "1\nfrom numba.extending import overload\ndef f(g):\n    return g\n"
            f"@overload(f)\ndef _(g):\n    return lambda g: {scale} * g\n",
        }
        for scale in ("1", "4")
    ),
    "attribute": ({"result": "x - {k} * cfg.SCALE * lr * g", "scale": "1\nimport cfg"},) * 2,
}
RULES = {name: Rule(k, f"edited_{k}") for k, name in enumerate(EDITS, start=1)}

IN_A_SCRIPT = RULE.format(scale=1, helper="g", result="x - g")
OWN_KERNELS = {
    "a step": STEP.format(define="", method="ao.AdaGrad()"),
    "a threaded step": THREADED,
    "compiled epochs": EPOCHS.format(
        run="(p, None)", method="Nadam(0.1, weight_decay=0.1)", slope=1
    ),
    "a rule in a script": STEP.format(define=IN_A_SCRIPT, method="Mine()"),
}
# These are arguments of the kernel, not a part of it: another one each time.
ANOTHER_FUNCTION = {
    "compiled epochs of another function": [
        EPOCHS.format(run="(fun, 4)", method="Adam()", slope=slope) for slope in (1, 2)
    ],
    "the loop of another objective": [LOOP.format(name=name) for name in ("one", "another")],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """For each kernel what the first process and, after the edits, the second printed of it."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "objective.py").write_text(OBJECTIVES)
    names = [*OWN_KERNELS, *ANOTHER_FUNCTION, *RULES]
    printed = []
    for process in (0, 1):
        (folder / "cfg.py").write_text(f"SCALE = {(1, 4)[process]}")
        for name, rule in RULES.items():
            rule.write(folder, **EDITS[name][process])
        codes = [*OWN_KERNELS.values(), *[codes[process] for codes in ANOTHER_FUNCTION.values()]]
        codes += [rule.code for rule in RULES.values()]
        printed.append(run_all(codes, folder))
    return dict(zip(names, zip(*printed, strict=True), strict=True))


@pytest.mark.parametrize("name", [*OWN_KERNELS, *ANOTHER_FUNCTION])
def test_a_second_process_hits_the_cache(name, found):
    assert [counts for _, *counts in found[name]] == [[0, 1], [1, 0]]


def test_what_is_loaded_computes_the_same(found):
    for name in OWN_KERNELS:
        (first, *_), (second, *_) = found[name]
        assert first == second
    values = [value for value, *_ in found["the loop of another objective"]]
    assert values == pytest.approx([0.5, 1.5])
    assert [value for value, *_ in found["a threaded step"]] == [-0.5, -0.5]
    assert [value for value, *_ in found["a rule in a script"]] == [-1.0, -1.0]


@pytest.mark.parametrize("name", ["nothing", "comment"])
def test_a_rule_of_the_user_that_is_the_same_hits_the_cache(name, found):
    value = -0.5 * RULES[name].k
    assert found[name] == ((value, 0, 1), (value, 1, 0))


@pytest.mark.parametrize(
    ("name", "factor"),
    [("rule", -1), ("helper", 2), ("constant", 4), ("attribute", 4), ("not understood", 4)],
)
def test_a_rule_with_an_edit_misses_the_cache(name, factor, found):
    value = -0.5 * RULES[name].k
    assert found[name] == ((value, 0, 1), (factor * value, 0, 1))


def changed(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "empty": ("*", lambda content: b""),
    "one bit": ("*.nbc", changed),
    "a pickle that raises": ("*", lambda content: b"cos\nabort2\n(tR."),
    "no index": ("*.nbi", None),
}


def step():
    """Step in this process; return the result, and how often the cache was hit and missed."""
    x = np.zeros(3, np.float32)
    opt = ao.Optimizer(x, ao.SGD(0.5))
    opt.step(np.ones(3, np.float32))
    stats = opt._parameters.groups[0].group._steps[x.dtype].serial.stats
    return float(x[0]), sum(stats.cache_hits.values()), sum(stats.cache_misses.values())


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_files_are_replaced(case, tmp_path, new_process):
    pattern, damage = DAMAGES[case]
    assert step() == (-0.5, 0, 1)
    for path in (tmp_path / "cache").rglob(pattern):
        if path.is_file() and damage:
            path.write_bytes(damage(path.read_bytes()))
        elif path.is_file():
            path.unlink()
    for found in ((-0.5, 0, 1), (-0.5, 1, 0)):
        new_process()
        assert step() == found


def test_processes_that_replace_damaged_files_at_once_do_not_fail(tmp_path, new_process):
    assert step() == (-0.5, 0, 1)
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-99])
    code = STEP.format(define="", method="ao.SGD(0.5)")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: run(code, tmp_path)[0], range(2))) == [-0.5, -0.5]
    new_process()
    assert step() == (-0.5, 1, 0)


def test_a_full_disk_costs_the_cache_only(monkeypatch, new_process):
    def write(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", write)
    for _ in range(2):
        new_process()
        assert step() == (-0.5, 0, 1)


def test_a_read_only_install_without_a_home_works(tmp_path):
    """Files in the place of folders: not even root can write there."""
    package = tmp_path / "adaptopt"
    shutil.copytree(Path(ao.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").write_text("")
    env = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": os.devnull,
        "XDG_CACHE_HOME": os.path.join(os.devnull, "cache"),
        "NUMBA_CACHE_DIR": "",
    }
    code = STEP.format(define="", method="ao.AdaGrad(0.5)")
    for _ in range(2):  # the second time, too, there is nothing to hit
        assert run(code, tmp_path, **env) == (-0.5, 0, 1)
