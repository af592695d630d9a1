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


def run(code, folder, **env):
    """Run code in a new process whose kernels are cached in ``folder``; return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache"), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    value, hits, misses = result.stdout.split()
    return float(value), int(hits), int(misses)


def write_rule(folder, scale="1", helper="g", result="x - lr * helper(g)"):
    (folder / "mine.py").write_text(RULE.format(scale=scale, helper=helper, result=result))


MINE = STEP.format(define="from mine import Mine", method="Mine()")


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    """A folder in which a process has run `MINE` with the rule as it is first written."""
    folder = tmp_path_factory.mktemp("first")
    write_rule(folder)
    assert run(MINE, folder) == (-0.5, 0, 1)
    return folder


@pytest.fixture
def after_first_run(first_run, tmp_path):
    """The same folder, copied."""
    shutil.copytree(first_run, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_second_process_hits_the_cache(tmp_path):
    code = STEP.format(define="", method="ao.AdaGrad()")
    assert run(code, tmp_path)[1:] == (0, 1)
    assert run(code, tmp_path)[1:] == (1, 0)


def test_a_second_process_hits_the_cache_for_a_threaded_step(tmp_path):
    assert run(THREADED, tmp_path) == (-0.5, 0, 1)
    assert run(THREADED, tmp_path) == (-0.5, 1, 0)


@pytest.mark.parametrize("method", ["Nadam(0.1, weight_decay=0.1)"])
def test_a_second_process_hits_the_cache_for_compiled_epochs(method, tmp_path):
    code = EPOCHS.format(run="(p, None)", method=method, slope=1)
    assert run(code, tmp_path)[1:] == (0, 1)
    assert run(code, tmp_path)[1:] == (1, 0)


def test_compiled_epochs_of_another_function_hit_the_cache(tmp_path):
    """The function is an argument of the kernel, not a part of it."""
    for slope, found in ((1, (0, 1)), (2, (1, 0))):
        code = EPOCHS.format(run="(fun, 4)", method="Adam()", slope=slope)
        assert run(code, tmp_path)[1:] == found


def test_a_second_process_hits_the_cache_for_a_rule_of_the_user(after_first_run):
    assert run(MINE, after_first_run) == (-0.5, 1, 0)


def test_a_second_process_hits_the_cache_for_a_rule_in_a_script(tmp_path):
    code = STEP.format(define=RULE.format(scale=1, helper="g", result="x - g"), method="Mine()")
    assert run(code, tmp_path) == (-1.0, 0, 1)
    assert run(code, tmp_path) == (-1.0, 1, 0)


@pytest.mark.parametrize(
    ("edit", "value"),
    [
        ({"result": "x + lr * helper(g)"}, 0.5),
        ({"helper": "g + g"}, -1.0),
    ],
    ids=["rule", "helper"],
)
def test_an_edited_rule_misses_the_cache(after_first_run, edit, value):
    write_rule(after_first_run, **edit)
    assert run(MINE, after_first_run) == (value, 0, 1)


def test_an_edited_constant_misses_the_cache(tmp_path):
    write_rule(tmp_path, result="x - SCALE * lr * g")
    run(MINE, tmp_path)
    write_rule(tmp_path, result="x - SCALE * lr * g", scale="4")
    assert run(MINE, tmp_path) == (-2.0, 0, 1)


def test_an_edited_attribute_of_a_module_misses_the_cache(tmp_path):
    for scale in ("1", "4"):
        (tmp_path / "cfg.py").write_text(f"SCALE = {scale}")
        write_rule(tmp_path, result="x - cfg.SCALE * lr * g", scale="1\nimport cfg")
        assert run(MINE, tmp_path) == (-0.5 * int(scale), 0, 1)


def test_a_rule_that_is_not_understood_is_compiled_anew(tmp_path):
    """Numba compiles one body, and the digest would be that of another."""
    other = "1\nfrom numba.extending import overload\ndef f(g):\n    return g\n@overload(f)\n"
    for scale in ("1", "4"):
        body = f"def _(g):\n    return lambda g: {scale} * g\n"
        write_rule(tmp_path, result="x - lr * f(g)", scale=other + body)
        assert run(MINE, tmp_path) == (-0.5 * int(scale), 0, 1)


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


def test_processes_that_replace_damaged_files_at_once_do_not_fail(tmp_path):
    code = STEP.format(define="", method="ao.SGD(0.5)")
    run(code, tmp_path)
    for path in (tmp_path / "cache").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:-99])
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: run(code, tmp_path)[0], range(2))) == [-0.5, -0.5]
    assert run(code, tmp_path) == (-0.5, 1, 0)


def test_a_full_disk_costs_the_cache_only(monkeypatch, new_process):
    def write(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_open_for_write", write)
    for _ in range(2):
        new_process()
        assert step() == (-0.5, 0, 1)


def test_an_edited_comment_hits_the_cache(after_first_run):
    rule = after_first_run / "mine.py"
    rule.write_text("# a remark\n" + rule.read_text())
    assert run(MINE, after_first_run) == (-0.5, 1, 0)


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
    g_out[:] = x
    return x.sum()

@njit(cache=True)
def another(x, g_out):
    g_out[:] = -x
    return x[0]
"""


def test_a_second_process_hits_the_cache_for_the_loop_of_any_objective(tmp_path):
    (tmp_path / "objective.py").write_text(OBJECTIVES)
    x, *counts = run(LOOP.format(name="one"), tmp_path)
    assert counts == [0, 1]
    assert x == pytest.approx(0.5)
    assert run(LOOP.format(name="one"), tmp_path) == (x, 1, 0)
    x, *counts = run(LOOP.format(name="another"), tmp_path)
    assert counts == [1, 0]
    assert x == pytest.approx(1.5)
