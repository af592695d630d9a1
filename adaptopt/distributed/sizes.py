"""How large sparse arrays are, for Dask: it sees no more than the object, of 56 bytes."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..arrays import Matrix


def tell_sizes() -> None:
    """Tell Dask, if it runs in this process. Problems tell themselves, by ``__sizeof__``."""
    if "dask" in sys.modules:
        _register()


@cache
def _register() -> None:
    from dask.sizeof import sizeof
    from scipy.sparse import csc_array, csr_array

    for kind in (csr_array, csc_array):
        sizeof.register(kind, _of_compressed)


def _of_compressed(array: Matrix) -> int:
    return int(array.data.nbytes + array.indices.nbytes + array.indptr.nbytes)
