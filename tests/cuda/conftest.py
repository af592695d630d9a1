"""Tests that need a device: collected in Numba's simulator, or where there is a GPU."""

import os

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def device_is_there():
    try:
        from numba import cuda

        return cuda.is_available()
    except Exception:
        return False


collect_ignore_glob = [] if SIMULATED or device_is_there() else ["test_*.py"]


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
