"""A pass over one block of a finite sum: a state in, compiled steps, and a state that adds up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np

from ..methods.base import Method
from ..objectives.batches import Batches, Draws
from ..objectives.finite_sum import FiniteSum, read_sum
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..optimizer.state import Taken
from ..problems.problem import Problem
from ..prox.base import Proximal
from .epochs import EpochRun
from .options import EpochOptions
from .pilot import FoundRate

_Result = TypeVar("_Result")


@runtime_checkable
class Blocks(Protocol):
    """A finite sum whose rows lie in blocks, wherever they are; `minimize_finite_sum` takes it.

    Attributes
    ----------
    count : int
        Number of blocks.
    weights : ndarray or None
        The weight of each block; None: each row counts the same.
    moved, redone : int
        Bytes that the calls so far have moved between processes, and calls that were repeated
        because a part of them was lost.
    """

    count: int
    weights: np.ndarray | None
    moved: int
    redone: int

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean loss over all rows, and its gradient."""

    def sizes(self) -> Sequence[int]:
        """Return the number of rows of each block; it may take a pass to learn them."""

    def over_blocks(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Return the sum of ``function(problem, scale, k, *arguments)`` over the blocks ``k``.

        The losses of a block count ``scale`` times. The order of the additions depends on the
        number of blocks alone.
        """

    def on_block(self, k: int, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Return ``function(problem, scale, k, *arguments)`` of one block."""


@dataclass(frozen=True)
class Pass:
    """What the blocks are told of a run: how a pass goes."""

    method: Method
    prox: Proximal
    batch_size: int
    shuffle: bool
    drop_last: bool
    parallel: str | None
    evens: tuple[float, ...] = ()
    """What the losses of each block are multiplied by in its steps; see `even_out`."""

    def even_out(self, sizes: Sequence[int]) -> tuple[float, ...]:
        """Return what makes passes over blocks of so many rows count by their rows.

        A pass moves by the number of its steps times a mean gradient, and a last batch of few rows
        is a step too. So the losses of a block count by its rows a step, divided by those of all
        blocks. That is 1 for blocks of equal size.
        """
        steps = []
        for k, n in enumerate(sizes):
            if self.drop_last and n < self.batch_size:
                raise ValueError(
                    f"batch_size is {self.batch_size} with drop_last=True, expected at most {n}, "
                    f"the rows of block {k}: no batch of it would be left"
                )
            steps.append(Batches(n, self.batch_size, self.shuffle, self.drop_last).left(0))
        mean = sum(sizes) / sum(steps)
        return tuple(n / taken / mean for n, taken in zip(sizes, steps, strict=True))

    def begin(
        self, problem: Any, scale: float, x: np.ndarray
    ) -> tuple[FiniteSum, Batches, Optimizer]:
        """Return the sum over a block, how it is cut, and an optimizer that starts at ``x``."""
        if scale != 1.0 and isinstance(problem, Problem):
            problem = problem.with_weights(problem.weights * scale)
        elif scale != 1.0:
            problem = Multiple(problem, scale)
        exchange, _, prox = read_start(x, None, self.prox)
        total = read_sum(problem, None, (), exchange, self.parallel == "deterministic")
        batches = Batches(total.n, self.batch_size, self.shuffle, self.drop_last)
        optimizer = Optimizer._of_run(exchange.x, self.method, prox, exchange.backend)
        return total, batches, optimizer


@dataclass(frozen=True)
class Multiple:
    """A problem of the user, times a number."""

    problem: Any
    factor: float

    def __len__(self) -> int:
        return len(self.problem)

    def batch(self, x: np.ndarray, idx: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the multiple of the mean loss over some rows, and of its gradient."""
        loss, gradient = self.problem.batch(x, idx)
        return self.factor * loss, self.factor * np.asarray(gradient)


@dataclass(eq=False)
class Passed:
    """What passes over blocks have led to: their states and losses, summed.

    Attributes
    ----------
    arrays, scalars : dict of ndarray, dict of float
        The slots and, unless the point follows from them, the point (under ``""``); the scalars.
    steps, rows, loss : int, int, float
        Steps, rows, and the sum of the losses.
    failed : str or None
        Which block had a loss or gradient that is not finite, the first of them.
    path : str
        How the passes went.
    """

    arrays: dict[str, np.ndarray]
    scalars: dict[str, float]
    steps: int
    rows: int
    loss: float
    failed: str | None
    path: str

    def __add__(self, other: Passed) -> Passed:
        """Return the sum; the two stay as they are."""
        return Passed(
            {name: array + other.arrays[name] for name, array in self.arrays.items()},
            {name: value + other.scalars[name] for name, value in self.scalars.items()},
            self.steps + other.steps,
            self.rows + other.rows,
            self.loss + other.loss,
            self.failed or other.failed,
            self.path if self.path == other.path else "blocks of several kinds",
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def pass_over(problem: Any, scale: float, k: int, how: Pass, state: Taken, seed: int) -> Passed:
    """Go once over the rows of block ``k`` from an optimizer's state; nothing given is modified."""
    (entry,) = state["parameters"].values()
    even = how.evens[k]
    total, batches, optimizer = how.begin(problem, scale * even, entry["params"])
    optimizer.load_state_dict(state)
    rng = np.random.default_rng([seed, k])
    run = EpochRun(
        *(optimizer, total, batches, Draws(rng), None, None, how.prox, EpochOptions()),
        *(how.parallel, 1),
    )
    stop = run.sweep(lambda *_: None)
    after = optimizer.state_dict()
    (entry,) = after["parameters"].values()
    arrays, done = dict(entry["state"]), run.position
    if not how.method.from_sums:
        arrays[""] = entry["params"]
    return Passed(
        arrays,
        entry["scalars"],
        after["t"] - state["t"],
        total.n,
        done.loss_sum / done.loss_rows / even * total.n if stop is None else math.nan,
        None if stop is None else f"block {k}: {stop.message}",
        run.way.path,
    )


def find_distance(
    problem: Any, scale: float, k: int, how: Pass, x: np.ndarray, seed: int
) -> tuple[np.ndarray, float] | None:
    """Run the pilot of ``lr="auto"`` on rows of a block; None if it is not finite at ``x``."""
    total, batches, _ = how.begin(problem, scale, x)
    order = batches.order(np.random.default_rng([seed, k]))
    found = FoundRate(how.method, total, batches, how.prox, falls=True)
    flat = x.reshape(-1)
    piloted = found.pilot(flat.copy(), flat, order, False)
    return None if piloted is None else (piloted.x, piloted.distance)
