"""The operations of a device that the host has too, by the same names."""

from __future__ import annotations

from .arrays import (
    empty,
    flat_view,
    handle_of,
    index_of,
    join,
    moved,
    on_host,
    read_integers,
    read_stream,
    rows_in_words,
    wait,
    write,
)
from .batches import average
from .launch import device_of
from .looks import project
from .maps import TyingMap
from .reductions import NormKernel, SumOfSquares
from .step import DecidedStep, DenseStep, RateKernel, fill, narrow, spread, widen
from .table import CatchUp, RowStep, RowSums
from .uploads import Mirror, Upload

__all__ = [
    "CatchUp",
    "DecidedStep",
    "DenseStep",
    "Mirror",
    "NormKernel",
    "RateKernel",
    "RowStep",
    "RowSums",
    "SumOfSquares",
    "TyingMap",
    "Upload",
    "average",
    "device_of",
    "empty",
    "fill",
    "flat_view",
    "handle_of",
    "index_of",
    "join",
    "moved",
    "narrow",
    "on_host",
    "project",
    "read_integers",
    "read_stream",
    "rows_in_words",
    "spread",
    "wait",
    "widen",
    "write",
]
