"""Check the CUDA kernels on real hardware, and measure them beside other libraries: one command.

It runs the device's tests. Then it measures a plain copy, every method's step at several sizes,
torch's optimizers and CuPy's fused kernels if they are installed, the shortest step, and steps on
rows of a table. It prints one table and writes JSON. Nothing else may use the GPU meanwhile.
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
from numba import cuda

import adaptopt as ao

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "cuda"
CODE = TESTS / "test_cuda_code.py"
SIZES = [10**5, 10**6, 10**7, 10**8, 10**9]
SHORT = 1000
# A table's rows, their width, and the row numbers of a batch, which repeat some rows.
TABLE = (50_000, 512, 4_096)
SMALL_TABLE = (40, 3, 8)  # for the simulator

METHODS = {
    "SGD": ao.SGD(1e-3),
    "Momentum": ao.Momentum(1e-3),
    "AdaGrad": ao.AdaGrad(1e-3),
    "RMSProp": ao.RMSProp(1e-3),
    "RMSProp, centered, momentum": ao.RMSProp(1e-3, centered=True, momentum=0.9),
    "AdaDelta": ao.AdaDelta(),
    "Adam": ao.Adam(1e-3),
    "AdamW": ao.AdamW(1e-3),
    "Adamax": ao.Adamax(1e-3),
    "Nadam": ao.Nadam(1e-3),
    "AMSGrad": ao.AMSGrad(1e-3),
    "AdaGradDA": ao.AdaGradDA(1e-3),
    "FTRL": ao.FTRL(1e-3),
}

# torch: name, arguments, implementation, and the number of slots that it reads and writes.
TORCH = [
    *[("Adagrad", {}, flags, 1) for flags in ({"foreach": True},)],
    *[("RMSprop", {}, flags, 1) for flags in ({"foreach": True},)],
    *[("Adam", {}, flags, 2) for flags in ({"foreach": True}, {"fused": True})],
    *[("SGD", {"momentum": 0.9}, flags, 1) for flags in ({"foreach": True}, {"fused": True})],
]

# CuPy: the step as one fused kernel written by hand, and its slots.
CUPY = {
    "AdaGrad": ("G += g * g; x -= 1e-3f * g / (sqrtf(G) + 1e-8f)", ["G"]),
    "RMSProp": ("E = 0.9f * E + 0.1f * g * g; x -= 1e-3f * g / (sqrtf(E) + 1e-8f)", ["E"]),
    "Adam": (
        "m = 0.9f * m + 0.1f * g; v = 0.999f * v + 0.001f * g * g;"
        "x -= 1e-3f * m / (sqrtf(v) + 1e-8f)",
        ["m", "v"],
    ),
}


def seconds(run, wait, repeat):
    """Return the least time per call over several series. Each ends when the device is idle."""
    run()
    wait()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        wait()
        best = min(best, (time.perf_counter() - start) / repeat)
    return best


def repeats(n):
    """Return the number of calls in a series: about 4e9 bytes, but at least 3 calls."""
    return int(min(max(2e8 / n, 3), 300)) if n >= SHORT else 3


def copy_ceiling(n):
    """Return the seconds and bytes of a plain copy on the device."""
    a, b = cuda.device_array(n, np.float32), cuda.to_device(np.zeros(n, np.float32))
    return seconds(lambda: a.copy_to_device(b), cuda.synchronize, repeats(n)), 8 * n


def step(method, n):
    """Return the seconds and bytes of one step of float32."""
    x = cuda.to_device(np.ones(n, np.float32))
    g = cuda.to_device(np.full(n, 1e-3, np.float32))
    opt = ao.Optimizer(x, method)
    written = 0 if method.rate else 1  # the rates, if there is no formula for them
    streams = 3 + 2 * len(method.slots) + written
    return seconds(lambda: opt.step(g), cuda.synchronize, repeats(n)), 4 * streams * n


def torch_step(name, arguments, flags, slots, n):
    """Return seconds and bytes of one step of an optimizer of torch."""
    import torch

    x = torch.ones(n, device="cuda", requires_grad=True)
    x.grad = torch.full_like(x, 1e-3)
    opt = getattr(torch.optim, name)([x], lr=1e-3, **arguments, **flags)
    return seconds(opt.step, torch.cuda.synchronize, repeats(n)), 4 * (3 + 2 * slots) * n


def cupy_step(code, slots, n):
    """Return seconds and bytes of one fused kernel of CuPy."""
    import cupy

    state = [cupy.zeros(n, cupy.float32) for _ in slots]
    x, g = cupy.ones(n, cupy.float32), cupy.full(n, 1e-3, cupy.float32)
    outputs = ", ".join(f"float32 {name}" for name in ["x", *slots])
    kernel = cupy.ElementwiseKernel("float32 g", outputs, code, "fused_step")
    wait = cupy.cuda.Device().synchronize
    return seconds(lambda: kernel(g, x, *state), wait, repeats(n)), 4 * (3 + 2 * len(slots)) * n


def candidates():
    """Yield the library, a name and ``measure(n)`` of each candidate."""
    yield "device", "copy", copy_ceiling
    for name, method in METHODS.items():
        yield "adaptopt", name, lambda n, method=method: step(method, n)
    for name, arguments, flags, slots in TORCH:
        label = f"{name} {next(iter(flags))}"
        yield "torch", label, lambda n, a=(name, arguments, flags, slots): torch_step(*a, n)
    for name, (code, slots) in CUPY.items():
        yield "cupy", name, lambda n, a=(code, slots): cupy_step(*a, n)


def is_missing(library):
    """Return why a peer cannot be measured, or None."""
    try:
        if library == "torch":
            import torch

            return None if torch.cuda.is_available() else "torch sees no CUDA device"
        if library == "cupy":
            import cupy

            cupy.cuda.Device().compute_capability  # noqa: B018  (asks the driver)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def run_tests():
    """Run the device's tests here, and return their last lines.

    Each module has its own process: after an illegal access a process cannot use the device.
    """
    outcomes = {}
    on_device = set(TESTS.glob("test_*.py")) - set(TESTS.glob("test_cuda_*.py"))
    for module in [*sorted(on_device), CODE]:
        command = [sys.executable, "-m", "pytest", "-q", "-n0", module]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        text = run.stdout + run.stderr
        print(text[-4000:])
        outcomes[module.name] = {
            "returncode": run.returncode,
            "outcome": (text.strip().splitlines() or ["no output"])[-1],
        }
    return outcomes


def attempt(measured, *given):
    """Return a measurement, or the error, so that the others still run."""
    try:
        return measured(*given)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def let_go():
    """Release memory that libraries hold, because the next one may need it."""
    gc.collect()
    cuda.current_context().deallocations.clear()
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()


def measure(sizes):
    """Return one row for each candidate and size."""
    rows, missing = [], {library: is_missing(library) for library in ("torch", "cupy")}
    for library, name, timed in candidates():
        if missing.get(library):
            continue
        for n in sizes:
            row = {"library": library, "name": name, "n": n}
            try:
                taken, moved = timed(n)
            except Exception as error:  # not enough memory, or a peer that lacks the option
                rows.append(row | {"error": f"{type(error).__name__}: {error}"})
                continue
            finally:
                if not is_simulated():
                    let_go()
            rows.append(row | {"seconds": taken, "gb_per_s": moved / taken / 1e9})
    return rows, {library: why for library, why in missing.items() if why}


def is_simulated():
    """Return whether this is Numba's simulator."""
    return not hasattr(cuda.current_context().device, "name")


def row_steps(count, width, indices):
    """Return the time and the bandwidth of steps on rows of a table."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, count, indices)
    values = rng.standard_normal((indices, width)).astype(np.float32)
    distinct = np.unique(rows).size
    repeat = 3 if is_simulated() else 100
    result = {"rows": count, "width": width, "indices": indices, "distinct": distinct}
    g = cuda.to_device(values)
    # Each method with the number of reads and writes of an array like the table.
    methods = {
        "AdaGrad": (ao.AdaGrad(1e-3), 4),
        "RMSProp, exact": (ao.RMSProp(1e-3), 4),
        "RowWiseAdaGrad": (ao.RowWiseAdaGrad(1e-3), 2),
    }
    taken = []

    def add(library, name, streams, run, wait):
        moved = 4 * width * (indices + streams * distinct)
        us = 1e6 * seconds(run, wait, repeat)
        taken.append({"library": library, "name": name, "us": us, "gb_per_s": moved / us / 1e3})

    for name, (method, streams) in methods.items():
        table = cuda.to_device(np.ones((count, width), np.float32))
        opt = ao.Optimizer(table, method)
        for where, given in (("host", rows), ("device", cuda.to_device(rows))):
            run = partial(opt.step_rows, given, g)
            add("adaptopt", f"{name}, rows on the {where}", streams, run, cuda.synchronize)
    if is_missing("torch") is None:
        add("torch", "Adagrad, sparse", 4, *torch_row_step(count, width, rows, values))
    return result | {"steps": taken}


def torch_row_step(count, width, rows, values):
    """Return torch's step with a sparse gradient, which each step coalesces, and its wait."""
    import torch

    x = torch.ones(count, width, device="cuda", requires_grad=True)
    places = torch.from_numpy(rows[None]).cuda()
    g = torch.from_numpy(values).cuda()
    opt = torch.optim.Adagrad([x], lr=1e-3)

    def run():
        x.grad = torch.sparse_coo_tensor(places, g, (count, width))
        opt.step()

    return run, torch.cuda.synchronize


def short_step():
    """Return the time of a step with almost nothing to compute, in microseconds."""
    n = min(SHORT, 64) if is_simulated() else SHORT
    x, g = (cuda.to_device(np.ones(n, np.float32)) for _ in range(2))
    opt = ao.Optimizer(x, ao.AdaGrad())
    wait = cuda.synchronize
    many = 1000 if n == SHORT else 3
    return {
        "n": n,
        "us_in_a_series": 1e6 * seconds(lambda: opt.step(g), wait, many),
        "us_waited_for": 1e6 * seconds(lambda: (opt.step(g), wait()), wait, many),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=lambda text: int(float(text)), default=SIZES)
    parser.add_argument("--json", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--skip-tests", action="store_true")
    given = parser.parse_args()
    if not cuda.is_available():
        sys.exit(f"no CUDA device: {cuda.cuda_error()}")
    device = cuda.current_context().device
    name = getattr(device, "name", "simulator")
    result = {
        "device": name.decode() if isinstance(name, bytes) else name,
        "compute_capability": list(device.compute_capability),
        "tests": "skipped" if given.skip_tests else run_tests(),
        "short_step": attempt(short_step),
        "row_steps": attempt(row_steps, *(SMALL_TABLE if is_simulated() else TABLE)),
    }
    result["rows"], result["missing"] = measure(given.sizes)
    ceilings = {r["n"]: r.get("gb_per_s") for r in result["rows"] if r["library"] == "device"}
    print(f"{result['device']}: GB/s, fraction of a copy's, time")
    for row in result["rows"]:
        what = f"  {row['library']:<9}{row['name']:<29}{row['n']:>14,}"
        if "error" in row:
            print(f"{what}  {row['error']}")
            continue
        ceiling = ceilings[row["n"]]
        part = f"{row['gb_per_s'] / ceiling:6.2f}" if ceiling else "     -"
        print(f"{what}{row['gb_per_s']:9.1f} {part}{row['seconds'] * 1e6:12.1f} us")
    for library, why in result["missing"].items():
        print(f"  {library} is missing: {why}")
    print("  short step:", result["short_step"])
    table = result["row_steps"]
    if "error" in table:
        table |= dict.fromkeys(("indices", "rows", "width"), 0) | {"steps": []}
        print("  rows of a table:", table["error"])
    print(f"  {table['indices']:,} rows of a table of {table['rows']:,} x {table['width']:,}:")
    for row in table["steps"]:
        what = f"    {row['library']:<9}{row['name']:<36}"
        print(f"{what}{row['us']:12.1f} us{row['gb_per_s']:9.1f} GB/s")
    if not given.skip_tests:
        for name, outcome in result["tests"].items():
            print(f"  {name:<28}{outcome['outcome']}")
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {given.json}")


if __name__ == "__main__":
    main()
