"""Formats of parameters and state, and how 16-bit numbers are rounded."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ..arrays import DType, compute_dtype
from ..methods.base import Method

ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True)
class Precision:
    """The arguments of `Optimizer` with these names."""

    state_dtype: str | None = None
    rounding: str = "nearest"
    master: bool = False

    def slot_forms(self, method: Method, number: DType) -> tuple[str, ...]:
        """Return the formats of a method's slots for an arithmetic in ``number``."""
        narrow = method.second_moments if self.state_dtype else ()
        return tuple("bfloat16" if name in narrow else number.name for name in method.slots)


def read_precision(
    state_dtype: object,
    rounding: str,
    master: bool,
    dtypes: Collection[DType],
    methods: Collection[Method],
) -> Precision:
    """Check the arguments of `Optimizer` against its parameters' dtypes and their methods."""
    if state_dtype is not None:
        name = state_dtype if isinstance(state_dtype, str) else getattr(state_dtype, "name", None)
        if name is None:
            name = getattr(state_dtype, "__name__", repr(state_dtype))
        if name != "bfloat16":
            raise ValueError(f"state_dtype is {state_dtype!r}, expected None or 'bfloat16'")
        if importlib.util.find_spec("ml_dtypes") is None:
            raise ImportError("state_dtype='bfloat16' needs ml_dtypes: pip install ml_dtypes")
        importlib.import_module("ml_dtypes")  # registers the dtype with NumPy
        if wide := [dtype for dtype in dtypes if compute_dtype(dtype) == np.float64]:
            raise ValueError(
                f"state_dtype is 'bfloat16' with parameters of {wide[0]}, expected narrower ones: "
                "their state is float64, and bfloat16 would drop 45 of its 53 bits"
            )
        if not any(method.second_moments for method in methods):
            names = ", ".join(dict.fromkeys(type(method).__name__ for method in methods))
            raise ValueError(
                f"state_dtype is 'bfloat16' with {names}, expected a method that accumulates "
                "squared gradients: only those are kept narrow (a momentum buffer loses too much)"
            )
        state_dtype = "bfloat16"
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding is {rounding!r}, expected one of {', '.join(ROUNDINGS)}")
    if master not in (True, False):
        raise TypeError(f"master is {master!r}, expected True or False")
    narrow = any(dtype.itemsize == 2 for dtype in dtypes)
    for name, asked in (("rounding", rounding == "stochastic"), ("master", master)):
        if asked and not narrow:
            raise ValueError(
                f"{name} is {rounding if name == 'rounding' else master!r} with parameters of "
                f"{', '.join(map(str, dict.fromkeys(dtypes)))}, expected float16 or bfloat16 ones"
            )
    return Precision(state_dtype, rounding, bool(master))


def bfloat16_bits(value: float) -> int:
    """Return the bits of a number in bfloat16, as a whole number."""
    return int(np.array([value]).astype("bfloat16").view(np.uint16)[0])
