"""Builders that turn scalar rules into compiled kernels over flat arrays."""

from .dense import DenseStep, rate_kernel
from .reductions import norm_kernel

__all__ = ["DenseStep", "norm_kernel", "rate_kernel"]
