"""What the CUDA kernels compile to, for compute capability 9.0, without a device."""

import re
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from methods_table import METHODS, RATED

import adaptopt as ao

BFLOAT16, FLOAT16, FLOAT32, FLOAT64 = (
    np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64)
)


def nvvm_is_missing():
    try:
        from numba.cuda.cudadrv import nvvm

        nvvm.NVVM()
    except Exception as error:
        return f"Numba finds no NVVM: {str(error).strip().splitlines()[0]}"
    return None


pytestmark = pytest.mark.skipif(nvvm_is_missing() is not None, reason=str(nvvm_is_missing()))


@pytest.fixture(autouse=True)
def hopper(monkeypatch):
    """Numba asks the device for its capability whenever a kernel calls a function."""
    import numba.cuda.dispatcher

    device = SimpleNamespace(compute_capability=(9, 0))
    monkeypatch.setattr(numba.cuda.dispatcher, "get_current_device", lambda: device)


def ptx(kernel):
    """Return the instructions of a kernel."""
    from numba import cuda

    code, _ = cuda.compile(
        kernel.function, kernel.signature, device=False, cc=(9, 0), abi="numba"
    )
    (body,) = re.findall(r"^\.visible \.entry .*?^\}", code, re.MULTILINE | re.DOTALL)
    return body


def accesses(body, kind):
    """Return which loads or stores there are: address space and type of each."""
    found = re.findall(rf"\b{kind}\.((?:global\.)?(?:nc\.)?\w+)", body)
    return {name for name in found if not name.startswith("param")}
