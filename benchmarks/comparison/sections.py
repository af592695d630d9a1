"""The sections of the comparison, and their measurement."""

import importlib
import time
from dataclasses import dataclass

import adaptopt as ao

from . import machine, peers

MODULES = {
    "dense": "dense",
    "dict": "dictionary",
    "rows": "rows",
    "sparse": "sparse",
    "dense-epochs": "dense_epochs",
    "loop": "loop",
    "solve": "solve",
    "growth": "growth",
}
OWN = ("numba", "llvmlite", "numpy", "scipy")


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    quick: bool
    seconds: float
    threads: int
    brief: bool = False  # fewer sizes, for sections that are also measured on one thread


def module(name):
    """Return the module of a section."""
    return importlib.import_module(f".{MODULES[name]}", __package__)


def jobs(names, threads, quick):
    """Yield for each process its sections, its number of threads, and whether it is brief."""
    if quick:
        yield list(names), threads, False
        return
    for name in names:
        yield [name], threads, False
        if "one" in module(name).THREADS and threads > 1:
            yield [name], 1, True


def measure(names, plan):
    """Return the measurements by section."""
    return {name: _measure(name, plan) for name in names}


def _measure(name, plan):
    section, start = module(name), time.perf_counter()
    contests = []
    for contest in section.run(plan):
        contest["case"]["threads"] = plan.threads
        contests.append(contest)
        _show(contest)
    found = {peer.name: peers.found(peer) for peer in section.PEERS}
    packages = {peer.package for peer in section.PEERS if found[peer.name]["missing"] is None}
    packages |= {"jax", "jaxlib"} if "optax" in packages else set()
    ran = machine.describe((*OWN, *sorted(packages - set(OWN))))
    ran["versions"] = {"adaptopt": ao.__version__, **ran["versions"]}
    return {
        **ran,
        "settings": {"quick": plan.quick, "seconds": plan.seconds},
        "took": round(time.perf_counter() - start),
        "peers": found,
        "contests": contests,
    }


def _show(contest):
    """Print the result of a contest in one line."""
    case = ", ".join(f"{key} {value}" for key, value in contest["case"].items())
    cells = [
        f"{entry['name']} {entry['seconds']['median']:.3g} s"
        + (f" ({entry['ratio']['median']:.3g}x)" if "ratio" in entry else "")
        if "seconds" in entry
        else f"{entry['name']}: {entry['check']}"
        for entry in contest["entries"]
    ]
    for point in contest.get("points", ()):
        cells.append(f"{point['size']:,}: {point['seconds']:.3g} s")
    print(f"  {case}: {'; '.join(cells) or contest['left_out']}", flush=True)
