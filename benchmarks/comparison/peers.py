"""Libraries to compare with: which are installed, their settings, and checks of their results."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from . import machine

TOLERANCE = 1e-6  # of float32 results, relative to max(1, abs(x)): some rounding errors


@dataclass(frozen=True)
class Peer:
    """A library, the part of it that is needed, and its fastest setting."""

    name: str
    package: str
    setting: str
    needs: str  # the module whose import shows whether it is installed
    make: Callable | None = None
    methods: tuple[str, ...] = ()  # those of the steppers' methods that it has


def found(peer):
    """Return a peer's entry for the JSON: version, setting, and why it is missing, or None."""
    return {
        "package": peer.package,
        "version": machine.version(peer.package),
        "setting": peer.setting,
        "missing": why_missing(peer.needs),
    }


@cache
def why_missing(module):
    """Return why a module cannot be imported, or None."""
    try:
        importlib.import_module(module)
        if module == "deepspeed":
            deepspeed_optimizers()
    except Exception as error:  # a peer can fail in any way, and each is reported
        first = next(iter(str(error).strip().splitlines()), "no reason given")
        return f"{type(error).__name__}: {first}"
    return None


def largest_difference(theirs, ours):
    """Return the largest difference of results, relative to max(1, abs(x)), using little memory."""
    worst = 0.0
    for a, b in zip(theirs, ours, strict=True):
        a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
        for low in range(0, a.size, 1 << 20):
            p, q = a[low : low + (1 << 20)], b[low : low + (1 << 20)]
            worst = np.maximum(worst, np.max(np.abs(p - q) / np.maximum(1, np.abs(q))))
    return float(worst)


def judge(difference, tolerance=TOLERANCE):
    """Return the verdict of the check, and whether the result agrees with ours."""
    same = difference <= tolerance  # false for NaN
    return f"{'equal' if same else 'differs'}, largest difference {difference:.1e}", same


def deepspeed_optimizers():
    """Return DeepSpeed's optimizers by method. The first call builds their code.

    DeepSpeed logs to the standard output.
    """
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    bin_folder = os.path.dirname(sys.executable)  # where pip puts ninja
    if bin_folder not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = bin_folder + os.pathsep + os.environ["PATH"]
    from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
    from deepspeed.ops.adam import DeepSpeedCPUAdam
    from deepspeed.ops.op_builder import CPUAdagradBuilder, CPUAdamBuilder

    for builder in (CPUAdagradBuilder, CPUAdamBuilder):
        builder().load(verbose=False)

    def adam(params, **options):
        return DeepSpeedCPUAdam(params, adamw_mode=False, **options)

    return {"AdaGrad": DeepSpeedCPUAdagrad, "Adam": adam}
