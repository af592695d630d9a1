"""Describe this machine: versions, SIMD, threads, CUDA, and the cache of compiled kernels."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
from types import ModuleType
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
import scipy

import adaptopt as ao

from ..kernels.step import Layout, rate_kernel

# Numba does not declare to type checkers the names that are used here.
_numba: ModuleType = numba
# The widest first. The names on the right are LLVM's.
_SIMD = {"AVX-512": "avx512f", "AVX2": "avx2", "AVX": "avx", "SSE2": "sse2", "NEON": "neon"}


def describe() -> str:
    """Return a few lines about the machine and the libraries.

    Returns
    -------
    str
        One line each for the versions, the processor, the threads, CUDA and the cache of kernels.

    Notes
    -----
    Numba chooses its threading layer when it starts its threads, so this function starts them. It
    also compiles or loads the smallest kernel, because that shows where Numba can store kernels.
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
        return "NEON"  # LLVM cannot query every ARM processor, but all 64-bit ones have NEON.
    return next((name for name, feature in _SIMD.items() if has.get(feature)), "none known")


def _threads() -> str:
    try:
        count = _numba.get_num_threads()
        return f"{count}, Numba's threading layer is {_numba.threading_layer()}"
    except ValueError as error:
        return f"Numba can load no threading layer ({_first_line(error)})"


def _cuda() -> str:
    if importlib.util.find_spec("numba_cuda") is None:
        return 'numba-cuda is not installed (pip install "adaptopt[cuda]")'
    found = f"numba-cuda {importlib.metadata.version('numba-cuda')}"
    # A driver can fail in many ways. Whatever happens, print the other lines.
    try:
        cuda = importlib.import_module("numba.cuda")
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
        return "none: NUMBA_DISABLE_JIT is set, so kernels run as plain Python and are slow"
    method = ao.SGD()
    kernel: Any = rate_kernel(method.rate, Layout("float64", "float64", coefs=(0, 0, 1, 0)))
    if kernel.stats.cache_path is None:
        return "not stored, no folder is writable: every process compiles (set NUMBA_CACHE_DIR)"
    return f"stored in {kernel.stats.cache_path}"


def _first_line(error: object) -> str:
    """Return the first line of a message."""
    return next(iter(str(error).strip().splitlines()), "no reason given")
