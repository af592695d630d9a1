"""What a kernel of the device compiles to, for compute capability 9.0, without a device."""

import os
import re
from functools import cache
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from cuda_tools import show_numba_the_compiler
from methods_table import EACH_SHAPE, KERNELS, METHODS, in_turn

import adaptopt as ao

BFLOAT16, FLOAT16, FLOAT32, FLOAT64 = (
    np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64)
)


@cache
def what_is_missing():
    """Return why not even an empty kernel can be compiled, or None."""
    show_numba_the_compiler()
    try:
        from numba import cuda, types

        cuda.compile(lambda: None, types.void(), device=False, cc=(9, 0), abi="numba")
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


needs_numba_cuda = pytest.mark.skipif(
    what_is_missing() is not None, reason=f"numba.cuda cannot compile: {what_is_missing()}"
)


# A folder of this run, in which its processes find what one of them has compiled.
MODULES = None


def module(kernel):
    """Return what a kernel compiles to."""
    from numba import cuda

    # The name has a digest of all sources and of the signature.
    kept = MODULES and kernel._cached and MODULES / f"{kernel.function.__qualname__[-60:]}.ptx"
    if kept and kept.exists():
        return kept.read_text()
    code, _ = cuda.compile(kernel.function, kernel.signature, device=False, cc=(9, 0), abi="numba")
    if kept:
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_text(code)
        part.replace(kept)
    return code


def ptx(kernel):
    """Return the instructions of a kernel."""
    (body,) = re.findall(r"^\.visible \.entry .*?^\}", module(kernel), re.MULTILINE | re.DOTALL)
    return body


def accesses(body):
    """Return the types of what is read and what is written, as "f32" or "b16"."""
    read = re.findall(r"\bld\.global(?:\.nc)?\.(\w+)", body)
    written = re.findall(r"\bst\.global\.(\w+)", body)
    # What is only moved is typed as bits or as a whole number of as many bytes.
    return [
        {kind.replace("u16", "b16").replace("u32", "f32") for kind in kinds}
        for kinds in (read, written)
    ]


def step(method, dtype, gradient=None, **options):
    """Return the device's step for what a host group would run."""
    from adaptopt.cuda.step import DenseStep

    plan = ao.Optimizer(np.zeros(1, dtype), method, **options)._plan()
    layout = plan.layout
    if gradient is not None:
        layout = layout._replace(gradient=gradient.name)
    return DenseStep(plan.functions, layout)


def row_kernels(method, dtype=FLOAT32, prox=None, gradient=None, lazy="exact", **options):
    """Return what steps rows of a device, and catches up with them, for what a host table would."""
    from adaptopt.cuda.table import CatchUp, RowStep

    shape = (3, 2)
    opt = ao.Optimizer(np.zeros(shape, dtype), method, prox, lazy=lazy, **options)
    made = {}
    table = opt._parameters.groups[0].admit(0, 0)
    table._steps.clear()  # row-wise methods have one
    table._backend = SimpleNamespace(
        prepare=lambda kernel, near: None,
        row_step=lambda *given: made.setdefault("step", RowStep(*given)),
        catch_up=lambda *given: made.setdefault("catch up", CatchUp(*given)),
    )
    table.kernel((gradient or dtype).name)
    if table.lazy:
        table.late_kernel()
    return made


def decided(method, dtype, **options):
    """Return the step that a device decides on."""
    from adaptopt.cuda.step import DecidedStep

    plan = ao.Optimizer(np.zeros(1, dtype), method, **options)._plan()
    return DecidedStep(plan.functions, plan.layout)


def reductions():
    """Return functions that make the kernels in which threads share memory, by name."""

    def norm(dtype):
        from adaptopt.cuda.reductions import NormKernel

        penalty = ao.Optimizer(np.zeros(1, dtype), ao.SGD())._plan().penalty
        return NormKernel(penalty.residual, penalty.layout)

    def squares(dtype):
        from adaptopt.cuda.reductions import SumOfSquares

        return SumOfSquares(dtype.name)

    def wanted(dtype):
        from adaptopt.cuda.reductions import WantedSquares

        return WantedSquares(dtype.name)

    return {
        f"{make.__name__}-{dtype}": lambda make=make, dtype=dtype: make(dtype)
        for make in (norm, squares, wanted)
        for dtype in (BFLOAT16, FLOAT32, FLOAT64)
    }


def maps():
    """Return functions that make the kernels of maps that tie coordinates together, by name."""

    def kernel(prox, dtype, **options):
        from adaptopt.cuda.maps import itself, listed, map_kernel

        layout = ao.Optimizer(np.zeros(3, dtype), ao.SGD(), prox, **options)._plan().layout
        place = itself if prox.tied(3)[0] is None else listed
        return map_kernel((prox.alone, prox.terms, prox.advance, prox.result), place, layout)

    named = {
        "simplex": (ao.Simplex(), FLOAT32, {}),
        "ball": (ao.L2Ball(1.0), FLOAT64, {}),
        "groups": (ao.GroupL2(0.1, [0, 0, 1]), BFLOAT16, {}),
        "groups-master": (ao.GroupL2(0.1, [0, 0, 1]), BFLOAT16, {"master": True}),
    }
    return {
        name: lambda prox=prox, dtype=dtype, options=options: kernel(prox, dtype, **options)
        for name, (prox, dtype, options) in named.items()
    }


def verdicts():
    """Return functions that make the kernels of one thread, by name."""

    def verdict():
        from adaptopt.cuda.verdict import Verdict
        from adaptopt.optimizer.clipping import factors_for

        return Verdict(factors_for)

    def coefficients(method, **options):
        from adaptopt.cuda.verdict import Coefficients

        layout = ao.Optimizer(np.zeros(1, np.float32), method, **options)._plan().layout
        return Coefficients(method, "float32", *layout.coefs[:3])

    named = {
        "adagrad-norm": (ao.AdaGradNorm(), {}),
        "adagrad": (ao.AdaGrad(), {"clip_norm": 1.0, "clip_value": 1.0}),
        "adam": (ao.Adam(), {"clip_norm": 1.0}),
        "nadam-decoupled": (ao.Nadam(weight_decay=0.1, decoupled=True), {"loss_scale": 8.0}),
        "ftrl": (ao.FTRL(), {"loss_scale": 8.0}),
    }
    made = {
        name: lambda method=method, options=options: coefficients(method, **options)
        for name, (method, options) in named.items()
    }
    return {"verdict": verdict, **made}


STEPS = in_turn(KERNELS, [FLOAT32, BFLOAT16, FLOAT64])
OPTIONS = {
    "float16": (FLOAT16, {}, {"b16", "f32"}),
    "bfloat16-stochastic": (BFLOAT16, {"rounding": "stochastic"}, {"b16", "f32"}),
    "float16-stochastic": (FLOAT16, {"rounding": "stochastic"}, {"b16", "f32"}),
    "bfloat16-master": (BFLOAT16, {"master": True}, {"b16", "f32"}),
    "bfloat16-all": (BFLOAT16, {"state_dtype": "bfloat16"}, {"b16"}),
    "float32-narrow-state": (FLOAT32, {"state_dtype": "bfloat16"}, {"b16", "f32"}),
    "clip-norm": (FLOAT32, {"clip_norm": 1.0}, {"f32"}),
    "clip-value": (FLOAT32, {"clip_value": 1.0, "loss_scale": 2.0}, {"f32"}),
    "box": (FLOAT32, {"prox": ao.Box([0.0], [1.0])}, {"f32"}),
    "elastic-net": (FLOAT32, {"prox": ao.ElasticNet(0.1, 0.2)}, {"f32"}),
    "elastic-net-in-box": (
        FLOAT32, {"prox": ao.ElasticNet(0.1, 0.2).within(ao.Box([0.0], [1.0]))}, {"f32"},
    ),
}  # fmt: skip

ROWS = {
    **{f"touched-{name}": (METHODS[name], {"lazy": "touched"}) for name in EACH_SHAPE},
    "rmsprop": (ao.RMSProp(), {}),
    "rmsprop-centered-nesterov": (ao.RMSProp(centered=True, momentum=0.9, nesterov=True), {}),
    "momentum": (ao.Momentum(), {}),
    "dual-averaging": (ao.AdaGradDA(0.1, l1=0.1), {}),
    "elastic-net": (ao.AdaGrad(), {"prox": ao.ElasticNet(0.1, 0.2)}),
    "elastic-net-in-box": (
        ao.AdaGrad(), {"prox": ao.ElasticNet(0.1, 0.2).within(ao.Box(0.0, 1.0))},
    ),
    "row-wise": (ao.RowWiseAdaGrad(), {}),
    "row-wise-l1": (ao.RowWiseAdaGrad(), {"prox": ao.L1(0.1)}),
    "bfloat16": (ao.RMSProp(), {"dtype": BFLOAT16, "rounding": "stochastic"}),
    "bfloat16-row-wise": (ao.RowWiseAdaGrad(), {"dtype": BFLOAT16, "rounding": "stochastic"}),
    "float16-master": (ao.Momentum(), {"dtype": FLOAT16, "master": True}),
    "narrow-state": (ao.RMSProp(), {"state_dtype": "bfloat16"}),
    "narrow-gradients": (ao.RMSProp(), {"gradient": FLOAT16}),
    "clip-value": (ao.RMSProp(), {"clip_value": 1.0}),
}  # fmt: skip
