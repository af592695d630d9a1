"""What runs beside a block, here or on a worker: load it, check it, evaluate it, say who failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numba
import numpy as np

from .sizes import tell_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from ..arrays import Array, Matrix


# A block as it is given: a problem, a loader of one, or a Delayed or Future of Dask's.
Source: TypeAlias = Any
# What a function makes of a block: the sum over blocks adds them by ``+``.
Summand: TypeAlias = Any


class Problem(Protocol):
    """What `minimize_finite_sum` takes as a problem, of `adaptopt.problems` or of the user."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def batch(self, x: np.ndarray, idx: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss over some rows, and its gradient."""


class BlockError(RuntimeError):
    """A block that could not be loaded or evaluated.

    Attributes
    ----------
    block : int
        Its number; -1 if Dask does not tell which of several it is.
    """

    def __init__(self, block: int, message: str) -> None:
        super().__init__(message)
        self.block = block

    def __reduce__(self) -> tuple[object, ...]:
        return BlockError, (self.block, str(self))


@dataclass(frozen=True)
class Block:
    """A block and what it is called: its number, and how it is made."""

    k: int
    source: Source
    """A loader, or what Dask makes of it; a problem stands for itself."""
    name: str
    weighted: bool
    """Whether the weight of the whole block is known."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Name the block in errors."""
        try:
            yield
        except BlockError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise BlockError(self.k, f"block {self.k} ({self.name}): {said}") from error

    def read(self, loaded: Problem) -> Problem:
        """Return a loaded problem, after checking that it is one."""
        if not (callable(getattr(loaded, "batch", None)) and hasattr(loaded, "__len__")):
            raise TypeError(f"it is {loaded!r:.60}, expected a problem such as Logistic(A, y)")
        if not self.weighted and getattr(loaded, "is_weighted", False):
            raise ValueError(
                "its rows have a sample_weight, expected Sum(blocks, weights=...) with the sum of "
                "the weights of each block: a problem knows only how its own rows compare"
            )
        return loaded


def load(block: Block, source: Source) -> Problem:
    """Return the problem of a block."""
    tell_sizes()
    with block.named():
        return block.read(source() if callable(source) and not is_problem(source) else source)


def is_problem(source: object) -> bool:
    """Tell whether a block is given as a problem."""
    return callable(getattr(source, "batch", None))


def is_future(source: object) -> bool:
    """Tell whether a block is given as a future of a cluster."""
    return type(source).__module__.startswith("distributed") and hasattr(source, "key")


def holds_futures(collection: Any) -> bool:
    """Tell whether a Delayed or an array of Dask consists of what a cluster has computed."""
    return any(map(is_future, dict(collection.__dask_graph__()).values()))


def run_on(block: Block, source: Source, scale: float, sent: Sent) -> Summand:
    """Return what a function makes of a block: of its loader, or of its problem."""
    problem = load(block, source)
    with block.named(), worker_threads():
        return sent.function(problem, scale, block.k, *sent.arguments)


@dataclass(frozen=True)
class Sent:
    """What all blocks get: a function, and its arguments after the block."""

    function: Callable[..., Summand]
    arguments: tuple[object, ...]

    def __sizeof__(self) -> int:
        """Return the bytes of the arguments, which Dask asks for."""
        from dask.sizeof import sizeof

        return int(sizeof(list(self.arguments)))


@contextmanager
def worker_threads() -> Iterator[None]:
    """Let kernels use the threads of a Dask worker: Numba takes all cores otherwise."""
    threads = _threads_of_worker()
    if threads is None:
        yield
        return
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _threads_of_worker() -> int | None:
    """Return how many threads the worker has whose task this is; None outside of tasks."""
    import sys

    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return int(get_worker().state.nthreads)
    except (ValueError, AttributeError):
        return None


@dataclass(eq=False)
class Evaluated:
    """Losses and gradients of blocks, summed in float64."""

    loss: float
    gradient: np.ndarray
    rows: float

    def __add__(self, other: Evaluated) -> Evaluated:
        """Return the sum; the two stay as they are."""
        return Evaluated(
            self.loss + other.loss, self.gradient + other.gradient, self.rows + other.rows
        )

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + int(self.gradient.nbytes)


def evaluate(problem: Problem, scale: float, k: int, x: np.ndarray) -> Evaluated:
    """Return the loss and the gradient of a block, times its rows and its scale."""
    rows = scale * len(problem)
    if callable(problem):
        loss, gradient = problem(x)
    else:
        loss, gradient = problem.batch(x, np.arange(len(problem)))
    return Evaluated(rows * float(loss), rows * np.asarray(gradient, np.float64), rows)


class Kinds(tuple):  # type: ignore[type-arg]
    """What blocks are, one entry a block; their sum joins them in the order of the blocks."""

    __slots__ = ()

    def __add__(self, other: tuple[object, ...]) -> Kinds:
        return Kinds((*self, *other))


def describe(problem: Problem, scale: float, k: int) -> Kinds:
    """Return the number of rows and of features of a block, in a list."""
    return Kinds([(len(problem), int(getattr(problem, "n_features", -1)))])


def make_problem(
    kind: Callable[..., Problem],
    X: Matrix,
    y: Array,
    weight: ArrayLike | None,
    options: dict[str, object],
) -> Problem:
    """Return a problem over parts of Dask's arrays or data frames."""
    # What comes from another worker may lie at any address of its message.
    X, y = as_array("X", X), np.require(as_array("y", y), requirements=["C", "ALIGNED"])
    if isinstance(X, np.ndarray):
        X = np.require(X, requirements=["C", "ALIGNED"])
    if weight is not None:
        weight = one_column(np.asarray(as_array("sample_weight", weight)))
        options = {**options, "sample_weight": weight}
    return kind(X, one_column(y), **options)


def one_column(part: np.ndarray) -> np.ndarray:
    """Return a column of a data frame as a flat array."""
    return part.reshape(-1) if part.ndim == 2 and part.shape[1] == 1 else part


def as_array(name: str, part: Matrix) -> Matrix:
    """Return a part of an array or data frame as an array, unless it has a mask."""
    if isinstance(part, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a MaskedArray, expected an array without a mask: fill its masked entries, "
            "or leave them out"
        )
    return part.to_numpy() if hasattr(part, "to_numpy") else part


def rows_and_weight(X: Matrix, weight: ArrayLike | None) -> tuple[int, float]:
    """Return the number of rows of a part, and the sum of their weights."""
    rows = int(X.shape[0])
    if weight is None:
        return rows, float(rows)
    weight = one_column(np.asarray(as_array("sample_weight", weight), np.float64))
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight has {weight.shape} for {rows} rows of X, expected as many")
    wrong = ~(np.isfinite(weight) & (weight >= 0))
    if wrong.any():
        value = weight[np.argmax(wrong)]
        raise ValueError(f"sample_weight holds {value}, expected finite numbers >= 0")
    with np.errstate(over="ignore"):
        total = float(weight.sum())
    if total == np.inf:
        raise ValueError("sample_weight adds up to infinity, expected it divided by its maximum")
    return rows, total


def short(source: object) -> str:
    """Return what a block is called in errors."""
    if isinstance(source, partial):
        given = [repr(value) for value in source.args]
        given += [f"{name}={value!r}" for name, value in source.keywords.items()]
        name = getattr(source.func, "__qualname__", repr(source.func))
        text = f"{name}({', '.join(given)})"
    else:
        text = getattr(source, "__qualname__", None) or repr(source)
    return text if len(text) <= 100 else f"{text[:48]} ... {text[-47:]}"
