"""Blocks from Dask's arrays and data frames: one for each chunk of rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .sizes import tell_sizes
from .tasks import Problem, as_array, holds_futures, is_problem, make_problem, rows_and_weight

if TYPE_CHECKING:
    from dask.delayed import Delayed
    from distributed import Client

# An array or data frame of Dask's, or an array of this process.
Collection: TypeAlias = Any
# The rows of each chunk; NaN where Dask does not know them.
Chunks: TypeAlias = tuple[float, ...]


def parts_of(
    kind: Callable[..., Problem],
    X: Collection,
    y: Collection,
    sample_weight: Collection | None,
    client: Client | None,
    options: dict[str, object],
) -> tuple[list[Delayed], list[str], list[int], np.ndarray | None]:
    """Return a Delayed problem for each chunk with rows that count, its name, rows and weight."""
    import dask
    from dask.local import get_sync

    tell_sizes()
    _check_kind(kind, sample_weight is not None, options)
    if not hasattr(X, "dask"):
        raise TypeError(
            f"X is a {type(X).__name__}, expected a Dask array or data frame: {_name(kind)}(X, y) "
            "takes arrays of this process"
        )
    for name, array in (("X", X), ("y", y), ("sample_weight", sample_weight)):
        as_array(name, getattr(array, "_meta", None) if hasattr(array, "dask") else array)
        if client is None and hasattr(array, "dask") and holds_futures(array):
            raise TypeError(f"{name} is on a cluster (persisted), expected client=, which has it")
    x_parts = _row_parts("X", X, None)
    chunks = X.chunks[0] if hasattr(X, "chunks") else None
    y_parts = _row_parts("y", y, chunks, len(x_parts))
    w_parts: list[Delayed | None] = [None] * len(x_parts)
    if sample_weight is not None:
        w_parts = _row_parts("sample_weight", sample_weight, chunks, len(x_parts))
    if sample_weight is None and chunks is not None and not np.isnan(chunks).any():
        counted = [(int(n), float(n)) for n in chunks]
    else:
        counts = [
            dask.delayed(rows_and_weight)(*pair) for pair in zip(x_parts, w_parts, strict=True)
        ]
        how = get_sync if client is None else client
        counted = list(dask.compute(*counts, scheduler=how))
    used = [k for k, (rows, weight) in enumerate(counted) if rows and weight]
    if not used:
        raise ValueError("X has no rows that count, expected at least one with a weight > 0")
    ends = np.cumsum([rows for rows, _ in counted])
    names = [f"rows {ends[k] - counted[k][0]} to {ends[k] - 1} of X" for k in used]
    make = dask.delayed(make_problem, pure=False)
    blocks = [make(kind, x_parts[k], y_parts[k], w_parts[k], options) for k in used]
    weights = None if sample_weight is None else np.array([counted[k][1] for k in used])
    return blocks, names, [counted[k][0] for k in used], weights


def _check_kind(kind: object, weighted: bool, options: dict[str, object]) -> None:
    """Raise if ``kind`` makes no problem, or does not take the options."""
    if not callable(kind) or is_problem(kind) is not isinstance(kind, type):
        raise TypeError(
            f"kind is {kind!r:.60}, expected one of adaptopt.problems, such as Logistic"
        )
    given = {**options, "sample_weight": None} if weighted else options
    try:
        takes = inspect.signature(kind)
    except ValueError:  # of what is not written in Python
        return
    try:
        takes.bind(None, None, **given)
    except TypeError as error:
        known = ", ".join([*takes.parameters][2:]) or "none"
        raise TypeError(f"options of {_name(kind)}: {error}, expected some of {known}") from None


def _row_parts(
    name: str, array: Collection, chunks: Chunks | None, count: int | None = None
) -> list[Delayed]:
    """Return the Delayed parts of an array along its rows, in chunks like those of X."""
    if hasattr(array, "partitions") and not hasattr(array, "chunks"):  # a data frame
        parts = list(array.to_delayed())
    else:
        array = _as_dask(name, array, chunks)
        if array.ndim == 2 and array.numblocks[1] > 1:
            array = array.rechunk({1: -1})
        if chunks is not None and array.chunks[0] != chunks and not _unknown(array.chunks[0]):
            if _unknown(chunks):
                raise ValueError(
                    f"X has chunks of unknown size and {name} of known size, expected X of known "
                    "size: use X.compute_chunk_sizes()"
                )
            if array.shape[0] != sum(chunks):
                raise ValueError(f"{name} has {array.shape[0]} rows, expected {sum(chunks)} like X")
            array = array.rechunk({0: chunks})
        parts = list(array.to_delayed().reshape(-1))
    if count is not None and len(parts) != count:
        raise ValueError(f"{name} has {len(parts)} chunks of rows, expected {count} like X")
    return parts


def _as_dask(name: str, array: Collection, chunks: Chunks | None) -> Collection:
    """Return a Dask array as it is, and an array of this process in chunks."""
    if hasattr(array, "chunks"):
        return array
    import dask.array

    plain = np.asarray(array)
    if chunks is None or _unknown(chunks):
        raise TypeError(
            f"{name} is a {type(array).__name__}, expected a Dask array with the chunks of X, "
            "whose sizes are not known"
        )
    if plain.ndim < 1 or plain.shape[0] != sum(chunks):
        raise ValueError(f"{name} has shape {plain.shape}, expected {sum(chunks)} rows like X")
    return dask.array.from_array(plain, (chunks, *((n,) for n in plain.shape[1:])))


def _unknown(chunks: Chunks) -> bool:
    return bool(np.isnan(np.asarray(chunks, np.float64)).any())


def _name(kind: object) -> str:
    return str(getattr(kind, "__name__", kind))
