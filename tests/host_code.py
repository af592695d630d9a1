"""What a kernel of the host compiles to."""

import platform
import re

import numpy as np

import adaptopt as ao
from adaptopt.kernels.step import DenseStep


def dense_step(method, dtype, prox=None, **options):
    """Return the method's step, compiled anew."""
    plan = ao.Optimizer(np.zeros(1, dtype), method, prox, **options)._plan()
    return DenseStep(plan.functions, plan.layout)


def functions(kernel):
    """Return the LLVM code of a kernel's functions, without the wrappers that unbox floats."""
    (code,) = kernel.inspect_llvm().values()
    bodies = re.findall(r"^define .*?^}", code, re.MULTILINE | re.DOTALL)
    return [b for b in bodies if not re.search(r"cpython|cfunc|NRT_|pycc", b.split("\n", 1)[0])]


def multiplies_vectors(kernel, dtype):
    (code,) = kernel.inspect_asm().values()
    single = dtype == np.float32
    if platform.machine().lower() in ("x86_64", "amd64"):
        vector = r"\bv?mulps\b.*%[xyz]mm" if single else r"\bv?mulpd\b.*%[xyz]mm"
    else:
        vector = r"\bfmul(\.4s|\s+v\d+\.4s)" if single else r"\bfmul(\.2d|\s+v\d+\.2d)"
    return re.search(vector, code)
