"""Tests that need a device are collected in Numba's simulator, or where there is a GPU.

Tests of what kernels compile to, ``test_cuda_*.py``, need none, and no simulator.
"""

import os
from pathlib import Path

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def device_is_there():
    try:
        from numba import cuda

        return cuda.is_available()
    except Exception:
        return False


if SIMULATED:
    import simulator

    simulator.install()

WITHOUT_A_DEVICE = {path.name for path in Path(__file__).parent.glob("test_cuda_*.py")}
ON_A_DEVICE = {path.name for path in Path(__file__).parent.glob("test_*.py")} - WITHOUT_A_DEVICE

collect_ignore = [
    *(WITHOUT_A_DEVICE if SIMULATED else ()),
    *(() if SIMULATED or device_is_there() else ON_A_DEVICE),
]


@pytest.fixture(autouse=True)
def quiet_scalars():
    """The simulator computes with NumPy's scalars, which warn where compiled code does not."""
    import numpy as np

    with np.errstate(all="ignore"):
        yield


@pytest.fixture(autouse=True)
def no_streams_of_other_tests():
    """Tests put objects of their own in the place of Numba's streams."""
    from adaptopt.cuda import arrays as device

    device._external.cache_clear()
    yield
    device._external.cache_clear()


@pytest.fixture
def launches(monkeypatch):
    """The streams of the launches made."""
    from adaptopt.cuda.launch import DeviceKernel

    made = []
    launch = DeviceKernel.launch

    def counted(self, size, stream, *arguments):
        made.append(stream)
        launch(self, size, stream, *arguments)

    monkeypatch.setattr(DeviceKernel, "launch", counted)
    return made


@pytest.fixture
def hopper(monkeypatch, tmp_path_factory):
    """Numba asks the device for its capability whenever a kernel calls a function."""
    from types import SimpleNamespace

    import device_code
    import numba.cuda.dispatcher

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # one for all workers
    device_code.MODULES = folder / "modules"
    device_code.MODULES.mkdir(exist_ok=True)

    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: device)
