"""The machine and the versions of a measurement."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path


def describe(packages=()):
    """Return the date, the machine, and the versions of the installed packages."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": {
            "processor": _from_file("/proc/cpuinfo", "model name") or platform.processor(),
            "cpus": os.cpu_count(),
            "simd": _simd(),
            "caches": _caches(),
            "memory_gb": round(_memory("MemTotal") / 1e9),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {"python": platform.python_version()}
        | {name: found for name in packages if (found := version(name)) is not None},
    }


def version(package):
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def available_bytes():
    """Return the available memory, or a large number if the system does not report it."""
    return _memory("MemAvailable") or 1 << 40


def _memory(name):
    entry = _from_file("/proc/meminfo", name)
    return int(entry.split()[0]) * 1024 if entry else 0


def _from_file(path, name):
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)


def _simd():
    flags = (_from_file("/proc/cpuinfo", "flags") or "").split()
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "sse2": "SSE2"}
    return next((shown for flag, shown in names.items() if flag in flags), "")


def _caches():
    """Return the caches of the first processor, such as ``{"L2": "2048K"}``."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (
            (folder / name).read_text().strip() for name in ("type", "level", "size")
        )
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found
