"""Builders that turn scalar rules into compiled kernels over flat arrays."""

from .catch_up import CatchUp
from .coalesce import coalesce
from .dense import DenseStep, Layout, rate_kernel
from .formats import step_key
from .loops import hands
from .reductions import SumOfSquares, cost_kernel, norm_kernel, squares_of_parts
from .row_sums import RowSums
from .table_rows import RowStep, scratch_width

__all__ = [
    "CatchUp",
    "DenseStep",
    "Layout",
    "RowStep",
    "RowSums",
    "SumOfSquares",
    "coalesce",
    "cost_kernel",
    "hands",
    "norm_kernel",
    "rate_kernel",
    "scratch_width",
    "squares_of_parts",
    "step_key",
]
