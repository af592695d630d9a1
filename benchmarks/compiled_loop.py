"""What a step of the compiled loop costs, beside JAX's, torch's and Python's; what threads gain.

Run it on a machine that does nothing else; peers that are not installed are reported as missing.
Rosenbrock's function, AdaGrad, float64. Everything is compiled first, all in one process; loops are
measured in turns, and the figures are medians.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before numba loads OpenMP

import inspect
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np

import adaptopt as ao

ROUNDS, LR = 7, 0.1
STEPS = {2: 5_000_000, 100: 500_000, 10_000: 8000}

FIRST_CALL = """
import time
import numpy as np
import scipy.optimize
import adaptopt as ao
from numba.core.registry import cpu_target
from objective import rosenbrock

start = time.perf_counter()
# The first kernel of a process, whatever it is, has Numba import its implementations of NumPy.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
imported = time.perf_counter()
ao.minimize(rosenbrock, np.zeros(2), method=ao.AdaGrad(0.1), options={"maxiter": 1000})
print(imported - start, time.perf_counter() - imported)
"""


@numba.njit
def rosenbrock(x, g_out):
    """As a user writes it."""
    f = 0.0
    g_out[0] = 0.0
    for i in range(x.size - 1):
        a, b = x[i + 1] - x[i] * x[i], 1.0 - x[i]
        f += 100.0 * a * a + b * b
        g_out[i] -= 400.0 * a * x[i] + 2.0 * b
        g_out[i + 1] = 200.0 * a
    return f


# The same in a module of its own, cached on the disk.
OBJECTIVE = "from numba import njit\n\n" + inspect.getsource(rosenbrock.py_func).replace(
    "@numba.njit", "@njit(cache=True)"
)


def plain(x):
    """The same for the loop in Python."""
    g = np.empty_like(x)
    return rosenbrock(x, g), g


def ours(n, steps, fun=rosenbrock, jac=None, **options):
    options = {"maxiter": steps, "gtol": None, **options}
    return lambda: ao.minimize(fun, np.zeros(n), jac=jac, method=ao.AdaGrad(LR), options=options)


def jax_loop(n, steps):
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_enable_x64", True)
    optimizer = optax.adagrad(LR)

    def value(x):
        return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    @jax.jit
    def run(x, state):
        def body(_, carried):
            x, state = carried
            updates, state = optimizer.update(jax.grad(value)(x), state)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, steps, body, (x, state))

    x = jnp.zeros(n)
    state = optimizer.init(x)
    return lambda: run(x, state)[0].block_until_ready()


def torch_loop(n, steps):
    import torch

    def run():
        x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adagrad([x], LR)
        for _ in range(steps):
            optimizer.zero_grad()
            value = (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()
            value.backward()
            optimizer.step()

    return run


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare_steps(n):
    """Print nanoseconds a step, and ratios to the compiled loop."""
    steps = STEPS[n]
    makers = {
        "compiled": (lambda k: ours(n, k), steps),
        "specialize": (lambda k: ours(n, k, specialize=True), steps),
        "Python loop": (lambda k: ours(n, k, plain, True), max(steps // 1000, 100)),
        "jax": (lambda k: jax_loop(n, k), steps),
        "torch": (lambda k: torch_loop(n, k), max(steps // 5000, 100)),
    }
    runs, missing = {}, []
    for name, (make, k) in makers.items():
        try:
            run = make(k)
            run()
        except ImportError:
            missing.append(name)
            continue
        runs[name] = (run, k)
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (run, k) in runs.items():
            times[name].append(seconds(run) / k * 1e9)
    base = np.array(times["compiled"])
    for name, values in times.items():
        ratio = np.median(np.array(values) / base)
        print(
            f"n = {n:6}  {name:12} {np.median(values):12.1f} ns a step   {ratio:10.2f} x compiled"
            f"   (compiled is {np.median(base / np.array(values)):.2f} x it)"
        )
    for name in missing:
        print(f"n = {n:6}  {name:12} missing")


def first_call():
    """Print what the first call of a process takes that finds everything in the disk cache."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "objective.py").write_text(OBJECTIVE)
        Path(folder, "first.py").write_text(FIRST_CALL)
        root = str(Path(ao.__file__).parents[1])
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path}
        times = [
            [
                float(value)
                for value in subprocess.run(
                    [sys.executable, "first.py"],
                    cwd=folder,
                    env=env,
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.split()
            ]
            for _ in range(ROUNDS + 1)
        ]  # fmt: skip
    imports, first = np.median(times[1:], axis=0)
    print(f"Numba's own imports in a process: {imports:.3f} s; the first call then: {first:.3f} s")
    print(f"the first call where it compiles: {times[0][1]:.3f} s (or less, if the loop is cached)")


def many():
    """Print what a second thread gains in 1000 runs."""
    X = np.random.default_rng(0).standard_normal((1000, 10))
    threads = (1, min(2, numba.config.NUMBA_NUM_THREADS))

    def run():
        ao.minimize_many(rosenbrock, X, method=ao.AdaGrad(0.5), options={"maxiter": 20_000})

    run()
    times = []
    for _ in range(ROUNDS):
        row = []
        for count in threads:
            numba.set_num_threads(count)
            row.append(seconds(run))
        times.append(row)
    one, two = np.median(times, axis=0)
    gain = np.median([row[0] / row[1] for row in times])
    print(f"minimize_many, 1000 starts: {one:.3f} s on 1 thread, {two:.3f} s on 2: {gain:.2f} x")


def main():
    for n in STEPS:
        compare_steps(n)
    first_call()
    many()


if __name__ == "__main__":
    main()
