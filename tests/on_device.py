"""What the device's tests share: data there and back, and how equal is equal."""

import os

import numpy as np
from numba import cuda

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def there(value):
    """Copy arrays to the device, in dicts too."""
    if isinstance(value, dict):
        return {name: there(array) for name, array in value.items()}
    if value.dtype.name == "bfloat16":
        return cuda.to_device(value.view(np.uint16)).view(value.dtype)
    return cuda.to_device(value)


def back(value):
    """Copy arrays to the host, in dicts too; what is there already stays."""
    if hasattr(value, "items"):
        return {name: back(array) for name, array in value.items()}
    return value if isinstance(value, np.ndarray) else value.copy_to_host()


def assert_same(device, host):
    """Equal to the last bit in the simulator; a GPU may round a product and a sum together."""
    device, host = back(device), back(host)
    if isinstance(host, dict):
        assert device.keys() == host.keys()
        for name in host:
            assert_same(device[name], host[name])
        return
    assert device.dtype == host.dtype
    if SIMULATED:
        np.testing.assert_array_equal(device, host)
    else:
        rtol = {2: 2.0**-6, 4: 1e-5, 8: 1e-12}[host.dtype.itemsize]
        np.testing.assert_allclose(
            device.astype(np.float64), host.astype(np.float64), rtol=rtol, atol=rtol
        )


def refuse_to_wait_or_copy(monkeypatch, kind):
    """Have whatever waits for a device, copies or allocates there fail; arrays are of a kind."""

    def refuse(*args, **kwargs):
        raise AssertionError("it waited or copied")

    monkeypatch.setattr(cuda, "synchronize", refuse)
    for name in ("copy_to_host", "copy_to_device"):
        monkeypatch.setattr(kind, name, refuse)
    for name in ("to_device", "device_array"):
        monkeypatch.setattr(cuda, name, refuse)


class CuPyLike:
    """What CuPy's arrays have of what is used here."""

    __module__ = "cupy"

    def __init__(self, array):
        self.array = array

    shape = property(lambda self: self.array.shape)

    @property
    def __cuda_array_interface__(self):
        return {
            "shape": self.array.shape,
            "typestr": self.array.dtype.str,
            "data": (self.array.ctypes.data, False),
            "strides": None,
            "version": 3,
        }

    def copy(self):
        return type(self)(self.array.copy())

    def reshape(self, *shape):
        return type(self)(self.array.reshape(*shape))

    def __getitem__(self, key):
        return type(self)(self.array[key])
