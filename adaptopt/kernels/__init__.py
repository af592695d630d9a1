"""Builders that turn scalar rules into compiled kernels over flat arrays."""

from .dense import DenseStep, Layout, rate_kernel
from .formats import step_key
from .reductions import SumOfSquares, cost_kernel, norm_kernel

__all__ = [
    "DenseStep",
    "Layout",
    "SumOfSquares",
    "cost_kernel",
    "norm_kernel",
    "rate_kernel",
    "step_key",
]
