"""The compiled loop: a step on Rosenbrock's function, and the first calls of a new process.

The method is AdaGrad, in float64.
"""

import inspect
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
from benchmarks.loop import rosenbrock, value_and_gradient

import adaptopt as ao

from . import peers
from .timing import Entry, compare, spread

TITLE = "The compiled loop"
THREADS = ("all",)
LR, EPS = 0.1, 1e-10
STEPS = {2: 2_000_000, 100: 200_000, 10_000: 4_000}
CHECKED, TOLERANCE = 20, 1e-9

FIRST_CALL = """
import time
import numpy as np
import scipy.optimize
import adaptopt as ao
from numba.core.registry import cpu_target
from objective import rosenbrock

start = time.perf_counter()
# With the first kernel of a process, Numba imports its implementations of NumPy.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
imported = time.perf_counter()
ao.minimize(rosenbrock, np.zeros(2), method=ao.AdaGrad(0.1), options={"maxiter": 1000})
print(imported - start, time.perf_counter() - imported)
"""

FIRST_STEP = """
import numpy as np, adaptopt as ao
x = np.ones(1000, np.float32)
ao.Optimizer(x, ao.AdaGrad()).step(x.copy())
"""


# The same function in its own module, cached on the disk.
OBJECTIVE = "from numba import njit\n\n" + inspect.getsource(rosenbrock.py_func).replace(
    "@numba.njit", "@njit(cache=True)"
)


def ours(n, fun=rosenbrock, jac=None, **options):
    def run(steps):
        given = {"maxiter": steps, "gtol": None, **options}
        method = ao.AdaGrad(LR, eps=EPS)
        ao.minimize(fun, np.zeros(n), jac=jac, method=method, options=given)

    return run


def jax_loop(n):
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_enable_x64", True)
    optimizer = optax.adagrad(LR, initial_accumulator_value=0.0, eps=EPS)

    def value(x):
        return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    @jax.jit
    def loop(steps, x, state):
        def body(_, carried):
            x, state = carried
            updates, state = optimizer.update(jax.grad(value)(x), state)
            return optax.apply_updates(x, updates), state

        return jax.lax.fori_loop(0, steps, body, (x, state))

    x = jnp.zeros(n)
    state = optimizer.init(x)
    return lambda steps: np.asarray(loop(steps, x, state)[0].block_until_ready())


def torch_loop(n):
    import torch

    def run(steps):
        x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adagrad([x], LR, eps=EPS, fused=True)
        for _ in range(steps):
            optimizer.zero_grad()
            value = (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()
            value.backward()
            optimizer.step()
        return x.detach().numpy()

    return run


PEERS = (
    peers.Peer(
        "JAX + optax",
        "optax",
        "the whole loop in one jitted lax.fori_loop, gradient by jax.grad",
        "optax",
        jax_loop,
    ),
    peers.Peer(
        "torch fused",
        "torch",
        "autograd and Adagrad(fused=True) in a loop of Python",
        "torch",
        torch_loop,
    ),
)


def run(plan):
    """Yield steps by the number of variables, then many starts, then the first calls."""
    for n, steps in STEPS.items():
        yield compare_steps(n, min(steps, 2_000) if plan.quick else steps, plan)
    yield many(plan)
    yield first_calls(plan)


def compare_steps(n, steps, plan):
    runs = {
        "adaptopt": (ours(n), steps),
        "adaptopt, loop in Python": (ours(n, value_and_gradient, True), max(steps // 1000, 100)),
    }
    makers = {"JAX + optax": (jax_loop, steps), "torch fused": (torch_loop, max(steps // 5000, 50))}
    for peer in PEERS:
        if peers.why_missing(peer.needs) is None:
            make, count = makers[peer.name]
            runs[peer.name] = make(n), count
    reached = ao.minimize(
        rosenbrock, np.zeros(n), method=ao.AdaGrad(LR, eps=EPS),
        options={"maxiter": CHECKED, "gtol": None},
    )  # fmt: skip
    entries = []
    for name, (run, count) in runs.items():
        kind = "ours" if name.startswith("adaptopt") else "peer"
        check, same = "", True
        if kind == "peer":
            # Ours returns the best point, here the last: the function falls in each step.
            difference = np.max(np.abs(run(CHECKED) - reached.x))
            check, same = peers.judge(difference, TOLERANCE)
        against = "adaptopt" if name != "adaptopt" else None
        entries.append(Entry(name, kind, per_step(run, count) if same else None, against, check))
    case = {"what": "steps", "function": "Rosenbrock", "n": n}
    return compare(case, entries, plan.seconds * 2)


def per_step(run, steps):
    def measure(_):
        start = time.perf_counter()
        run(steps)
        return (time.perf_counter() - start) / steps

    return measure


def many(plan):
    """Return the time of many starts on all threads and on one."""
    X = np.random.default_rng(0).standard_normal((1000, 10))
    steps = 100 if plan.quick else 10_000

    def measured(threads):
        def measure(_):
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            start = time.perf_counter()
            ao.minimize_many(rosenbrock, X, method=ao.AdaGrad(0.5), options={"maxiter": steps})
            taken = time.perf_counter() - start
            numba.set_num_threads(before)
            return taken

        return measure

    threads = numba.get_num_threads()
    entries = [Entry(f"adaptopt, {threads} threads", "ours", measured(threads))]
    if threads > 1:
        entries.append(Entry("adaptopt, 1 thread", "ours", measured(1), entries[0].name))
    return compare({"what": "minimize_many, 1000 starts", "n": 10}, entries, plan.seconds * 2)


def first_calls(plan):
    """Return how long a new process takes for its first calls, with its kernels on the disk."""
    rounds = 2 if plan.quick else 4
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "objective.py").write_text(OBJECTIVE)
        Path(folder, "first.py").write_text(FIRST_CALL)
        Path(folder, "step.py").write_text(FIRST_STEP)
        imports, calls, bare, steps = [], [], [], []
        for _ in range(rounds):
            imported, called = map(float, _output(folder, "first.py").split())
            imports.append(imported)
            calls.append(called)
            start = time.perf_counter()
            _output(folder, "-c", "import numba")
            middle = time.perf_counter()
            _output(folder, "step.py")
            bare.append(middle - start)
            steps.append(time.perf_counter() - middle)
    found = {
        "process: import numba, nothing else": bare[1:],
        "process: import adaptopt, take a step": steps[1:],
        "Numba's own imports at its first kernel": imports[1:],
        "first minimize of a compiled function, its kernels on the disk": calls[1:],
        "the same, with its kernels compiled (or less, if the loop is cached)": calls[:1],
    }
    entries = [
        {"name": name, "kind": "ours", "check": "", "seconds": spread(times), "rounds": len(times)}
        for name, times in found.items()
    ]
    return {"case": {"what": "first calls"}, "entries": entries}


def _output(folder, *arguments):
    root = str(Path(ao.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return run.stdout


REASONS = {
    "JAX + optax": "XLA compiles the function into its loop and vectorises it; ours calls the "
    "user's loop over the variables",
}
