"""Finite sums over blocks of rows: streamed from files here, or on the workers of a Dask cluster.

It needs ``pip install "adaptopt[dask]"``, unless all blocks are on this machine.
"""

from .sums import Sum
from .tasks import BlockError

__all__ = ["BlockError", "Sum"]
