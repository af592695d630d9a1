"""NVIDIA's compilers for the tests: those that pip has installed, else those of a toolkit."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

PACKAGES = ("nvidia-cuda-nvcc", "nvidia-cuda-nvdisasm", "nvidia-nvvm")


def installed(pattern):
    """Return the file of the packages above whose path matches, or None."""
    for package in PACKAGES:
        try:
            found = [path.locate() for path in files(package) or () if path.match(pattern)]
        except PackageNotFoundError:
            continue
        if found:
            return Path(found[0])
    return None


@cache
def tool(name):
    """Return the path of "ptxas" or "nvdisasm", or None."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    places = os.pathsep.join([*[str(Path(home, "bin")) for home in homes if home]])
    found = installed(f"bin/{name}")
    return str(found) if found else shutil.which(name) or shutil.which(name, path=places)


def show_numba_the_compiler():
    """Lay what pip has installed out as a toolkit, in which Numba looks for NVVM.

    It is to be called before Numba first compiles for CUDA, and changes nothing where ``CUDA_HOME``
    is set.
    """
    library, devices = installed("lib/libnvvm.so*"), installed("libdevice/libdevice.*.bc")
    if "CUDA_HOME" in os.environ or not (library and devices):
        return
    home = Path(tempfile.mkdtemp(prefix="cuda-home-"))
    atexit.register(shutil.rmtree, home)
    (home / "nvvm" / "lib64").mkdir(parents=True)
    (home / "nvvm" / "lib64" / library.name).symlink_to(library)
    (home / "nvvm" / "libdevice").symlink_to(devices.parent)
    os.environ["CUDA_HOME"] = str(home)
