"""What the library finds on this machine: versions, SIMD, threads, CUDA, the cache of kernels."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import scipy

import adaptopt as ao

from ..kernels.step import Layout, rate_kernel

# Numba exports the names that are used here without saying so to type checkers.
_numba: Any = numba
# The widest first; the names on the right are LLVM's.
_SIMD = {"AVX-512": "avx512f", "AVX2": "avx2", "AVX": "avx", "SSE2": "sse2", "NEON": "neon"}


def describe() -> str:
    """Return a few lines about the machine and the libraries that a run depends on.

    Returns
    -------
    str
        One line each for the versions, the processor, the threads, CUDA and the cache of kernels.

    Notes
    -----
    Numba chooses its threading layer when it starts its threads, so this starts them. It compiles
    the smallest kernel, or loads it, because that is what finds out where kernels can be kept.
    """
    versions = ", ".join(
        f"{module.__name__} {module.__version__}" for module in (np, scipy, numba, llvmlite)
    )
    lines = {
        "adaptopt": f"{ao.__version__}, {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "versions": versions,
        "processor": f"{llvmlite.binding.get_host_cpu_name()}, widest SIMD: {_widest_simd()}",
        "threads": _threads(),
        "CUDA": _cuda(),
        "kernels": _cache(),
    }
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def _widest_simd() -> str:
    try:
        has = dict(llvmlite.binding.get_host_cpu_features())
    except RuntimeError:
        has = {}
    if not has and platform.machine().lower() in ("arm64", "aarch64"):
        return "NEON"  # LLVM cannot ask every ARM processor, but all of 64 bits have it.
    return next((name for name, feature in _SIMD.items() if has.get(feature)), "none known")


def _threads() -> str:
    try:
        count = _numba.get_num_threads()
        return f"{count}, Numba's threading layer is {_numba.threading_layer()}"
    except ValueError as error:
        return f"no threading layer of Numba can be loaded ({_first_line(error)})"


def _cuda() -> str:
    if importlib.util.find_spec("numba_cuda") is None:
        return 'numba-cuda is not installed (pip install "adaptopt[cuda]")'
    found = f"numba-cuda {importlib.metadata.version('numba-cuda')}"
    # A driver can fail in many ways, and none of them is a reason not to print the rest.
    try:
        cuda: Any = importlib.import_module("numba.cuda")
        if not cuda.is_available():
            return f"{found}, no device: {_first_line(cuda.cuda_error())}"
        device = cuda.gpus[0]
        name = getattr(device, "name", device)
        name = name.decode() if isinstance(name, bytes) else name
        major, minor = device.compute_capability
        return f"{found}, {name} (compute capability {major}.{minor})"
    except Exception as error:
        return f"{found} cannot be used: {_first_line(error)}"


def _cache() -> str:
    if _numba.config.DISABLE_JIT:
        return "none: NUMBA_DISABLE_JIT is set, and all that follows is slow"
    method = ao.SGD()
    kernel: Any = rate_kernel(method.rate, Layout("float64", "float64", coefs=(0, 0, 1, 0)))
    if kernel.stats.cache_path is None:
        return "nowhere to keep them: every process compiles anew (set NUMBA_CACHE_DIR)"
    return f"kept in {kernel.stats.cache_path}"


def _first_line(error: object) -> str:
    """Return the first line of a message that may have many."""
    return next(iter(str(error).strip().splitlines()), "no reason given")
