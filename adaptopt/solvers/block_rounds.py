"""Rounds over blocks of a finite sum: each passes over its rows, then the states are averaged.

This is local AdaGrad. The mean of G over K blocks is a K-th of the sum that one pass over all rows
would have; so the learning rate within the blocks is sqrt(K) times the given one, and a round goes
as far as that pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..methods.base import Method
from ..objectives.batches import Draws, GeneratorState, rng_state
from ..objectives.exchange import Exchange
from ..optimizer.optimizer import Optimizer
from ..optimizer.state import Taken
from . import stopping
from .added import added_to
from .distance import SHARE
from .gauge import HostGauge
from .history import History
from .local_pass import Blocks, Pass, Passed, find_distance, pass_over
from .options import EpochOptions
from .pilot import FoundRate
from .searchable import with_rate
from .state import EpochState
from .stopping import Position, Stop, Timer

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


@dataclass(frozen=True)
class Scaled:
    """A schedule, times a factor."""

    lr: Callable[[int], float]
    factor: float

    def __call__(self, t: int) -> float:
        """Return the rate of step ``t``."""
        return self.lr(t) * self.factor


def why_no_rounds(method: Method) -> str | None:
    """Say why states of a method cannot be averaged over blocks; None if they can.

    Sums of squares can, with the rate that belongs to them, and a point without a state.
    """
    if method.rates_only_fall and (method.additive or not method.slots):
        return None
    if method.additive and not (method.slots or method.scalars):
        return None
    return (
        f"method is {method!r} with fun in blocks, expected AdaGrad, AdaGradNorm, AdaGradDA or "
        "SGD: means over blocks are known to be the states of a run only for sums of gradients and "
        "of their squares, whose rate grows with the number of blocks"
    )


def scaled(method: Method, lr: float | Callable[[int], float], blocks: int) -> Method:
    """Return the method of the passes over so many blocks if a pass over all rows had rate ``lr``.

    SGD keeps its rate: a mean of its iterates, with a rate K times as large, would diverge.
    """
    factor = math.sqrt(blocks) if method.rates_only_fall else 1.0
    if factor == 1.0:
        return with_rate(method, lr)
    return with_rate(method, Scaled(lr, factor) if callable(lr) else lr * factor)


def _point(taken: Taken) -> np.ndarray:
    """Return the flat point of an optimizer's state."""
    (entry,) = taken["parameters"].values()
    return cast(np.ndarray, entry["params"].reshape(-1))


def same_weights(given: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Tell whether blocks count the same with the one and the other weights."""
    if given is None or other is None:
        return given is other
    return bool(np.allclose(given / given.sum(), other / other.sum(), rtol=1e-12, atol=0.0))


class Stand(NamedTuple):
    """Where a run is after a round; the next one replaces it as a whole."""

    optimizer: Taken
    position: Position
    rng: GeneratorState
    distance: float
    rows: int
    """Of all blocks; 0 until the first round."""


class BlockRounds:
    """A run of `minimize_finite_sum` over blocks.

    Parameters
    ----------
    method : Method
        With the rate that the user gave, or "auto".
    blocks : Blocks
        The objective, without the penalty.
    how : Pass
        How a pass goes; its method is the given one, with any rate.
    exchange : Exchange
        Holds the start.
    draws : Draws
        Where the seeds of the rounds come from.
    validation : callable or None
        What chooses among the rounds.
    options : EpochOptions
        When to stop.

    Attributes
    ----------
    rounds : dict of list
        What `OptimizeResult.rounds` holds.
    """

    def __init__(
        self,
        method: Method,
        blocks: Blocks,
        how: Pass,
        exchange: Exchange,
        draws: Draws,
        validation: Callable[[np.ndarray], float] | None,
        options: EpochOptions,
    ) -> None:
        self._method, self._blocks, self._how = method, blocks, how
        self._exchange, self._draws = exchange, draws
        self.validation, self.options = validation, options
        self._start = exchange.flat.copy()
        plain = with_rate(method, 1.0) if method.searches else method
        stepped = scaled(plain, getattr(plain, "lr", 1.0), blocks.count)
        self.optimizer = Optimizer._of_run(exchange.x, stepped, how.prox, exchange.backend)
        self._gauge = HostGauge(self.optimizer, penalised=False)
        total = cast(Any, None)  # the driver has no rows
        self._found = FoundRate(plain, total, total, how.prox, falls=True)
        self._timer = Timer(options.maxtime)
        taken = self.optimizer.state_dict()
        self._now = Stand(taken, Position(), draws.state(), math.nan, 0)
        self.rounds: dict[str, list[float]] = {
            name: [] for name in ("loss", "seconds", "bytes", "redone")
        }
        self.epochs = self.nit = self.evaluations = 0
        self.judged = self.lr = math.nan
        self.path = "rounds over blocks"
        self.f = self.norm = math.nan
        self.history = History(0, 0)
        self._last = 0
        # A round that is still to be closed: where it leads, its steps, and its figures.
        self._passed: tuple[Stand, int, tuple[float, ...]] | None = None
        # Whether a round has begun and is not closed: only then has the generator moved past it.
        self._within = False
        self._measured: tuple[np.ndarray, tuple[float, np.ndarray]] | None = None
        self.epoch_losses: list[float] = []
        self.validation_losses: list[float] = []

    # -- what reports read ------------------------------------------------------------------------

    @property
    def t(self) -> int:
        """Mean number of steps of the blocks, over all runs."""
        return cast(int, self._now.optimizer["t"])

    def shown(self) -> np.ndarray:
        """Return a copy of the iterate, in its shape."""
        return cast(np.ndarray, self._exchange.shown(self._flat))

    @property
    def _flat(self) -> np.ndarray:
        return _point(self._now.optimizer)

    @property
    def nfev(self) -> int:
        """Calls of the function over batches, and over all rows."""
        return self.nit + self.evaluations

    # -- a round ----------------------------------------------------------------------------------

    def plan(self, steps: int) -> None:
        """Take in after how many rounds the run ends."""
        self._last = self._now.position.epoch + steps

    def sweep(self, bar: Callable[..., None]) -> Stop | None:
        """Pass over all blocks and take the mean of their states; return why the run ended."""
        if stop := self._timer.limit():
            return stop
        # A callback may have drawn from the user's generator.
        self._now, self._within = self._now._replace(rng=self._draws.state()), True
        clock, moved, redone = time.perf_counter(), self._blocks.moved, self._blocks.redone
        if self._method.searches and math.isnan(self._now.distance) and (stop := self._pilot()):
            return stop
        now = self._now
        method, (rng, seed) = self._of_round(), self._drawn(now.rng)
        if not self._how.evens:
            self._how = replace(self._how, evens=self._how.even_out(self._blocks.sizes()))
        how = replace(self._how, method=method)
        passed = self._blocks.over_blocks(pass_over, how, now.optimizer, seed)
        if passed.failed is not None:
            where = f"In round {now.position.epoch + 1}, {passed.failed}"
            return stopping.non_finite(where, self.options.nan_policy)
        expected = now.rows or sum(self._blocks.sizes())
        if passed.rows != expected:
            raise ValueError(
                f"the blocks of fun have {passed.rows} rows, expected {expected}, "
                + ("as before" if now.rows else "their sizes (those of Dask's chunks, if it says)")
            )
        taken = self._mean(passed, method)
        flat = _point(taken)
        if not np.isfinite(flat).all():
            where = f"In round {now.position.epoch + 1}, the mean of the iterates is not finite."
            return stopping.non_finite(where, self.options.nan_policy)
        after = Stand(taken, now.position, rng, self._travelled(taken), passed.rows)
        loss = passed.loss / passed.rows
        figures = (
            *(loss, time.perf_counter() - clock),
            *(self._blocks.moved - moved, self._blocks.redone - redone),
        )
        self.path = f"rounds over {self._blocks.count} blocks, {passed.path}"
        self._passed = after, passed.steps, figures
        bar(loss, 1, MB=f"{figures[2] / 1e6:.3g}", seconds=f"{figures[1]:.3g}")
        return None

    def close(self) -> Stop | None:
        """End the round: the validation, and what follows from it and from the mean loss."""
        assert self._passed is not None
        after, steps, figures = self._passed
        self._draws.move_to(self._draws.position(after.rng))
        flat, loss = _point(after.optimizer), figures[0]
        validation, stop = None, None
        if self.validation is not None:
            validation = float(self.validation(self._exchange.shown(flat)))
            if not math.isfinite(validation):
                what = f"The validation returned the value {validation} after step {self.t}."
                stop = stopping.non_finite(what, self.options.nan_policy)
            self.validation_losses.append(validation)
        if self.options.patience is not None and validation is None:
            loss = self._evaluate(flat)[0]  # each block's loss is that along its own way
        self.judged = loss + self._gauge.penalty(flat)
        position, verdict = stopping.judge(
            *(after.position, self.judged, validation, flat.copy(), self.options),
            lambda: self._evaluate(flat)[0] + self._gauge.penalty(flat),
        )
        self._now = after._replace(position=position, rng=self._draws.state())
        self._passed, self._within = None, False
        self.nit += steps
        self.epochs += 1
        self.epoch_losses.append(figures[0])
        for name, value in zip(self.rounds, figures, strict=True):
            self.rounds[name].append(value)
        return stop or verdict

    def _drawn(self, rng: GeneratorState) -> tuple[GeneratorState, int]:
        """Return the generator's next position, and the seed that it draws for a round."""
        generator = np.random.Generator(self._draws.position(rng))
        seed = int(generator.integers(2**63))
        return rng_state(generator), seed

    def _of_round(self) -> Method:
        """Return the method of the next round's passes."""
        plain, lr = self._method, getattr(self._method, "lr", 1.0)
        if plain.searches:
            done = self._now.position.epoch + 0.5
            lr = self.lr = SHARE * self._now.distance * max(1.0 - done / max(self._last, 1), 0.0)
        return scaled(plain, lr, self._blocks.count)

    def _mean(self, passed: Passed, method: Method) -> Taken:
        """Return the optimizer's state of the mean, with the point that belongs to it."""
        blocks = self._blocks.count
        before = self._now.optimizer
        (entry,) = before["parameters"].values()
        arrays = {name: array / array.dtype.type(blocks) for name, array in passed.arrays.items()}
        # The mean of the steps need not be whole: over the rounds, no part of it is lost.
        done = self._now.position.epoch
        steps = (done + 1) * passed.steps // blocks - done * passed.steps // blocks
        from_sums = method.from_sums
        point = arrays.pop("", entry["params"])
        if not from_sums:
            # Rounding may carry a mean of points of a convex set out of the set.
            point = self._how.prox.feasible(point)
        entry = {
            **entry,
            "params": point,
            "state": arrays,
            "scalars": {name: value / blocks for name, value in passed.scalars.items()},
        }
        taken = {**before, "t": before["t"] + steps - from_sums, "parameters": {"": entry}}
        if not from_sums:
            return taken
        # The point follows from the sums: a step along no gradient changes nothing else.
        x = np.array(point)
        anew = Optimizer(x, replace(method, weight_decay=0.0), self._how.prox)
        anew.load_state_dict(taken)
        anew.step(np.zeros_like(x))
        return anew.state_dict()

    # -- a rate that is found ---------------------------------------------------------------------

    def _pilot(self) -> Stop | None:
        """Run the pilot on rows of three blocks, and start where the middle distance is found.

        Blocks may differ: of one alone, whose targets were tiny, the rate was too small for all.
        """
        now, last = self._now, self._blocks.count - 1
        rng, seed = self._drawn(now.rng)
        how = replace(self._how, method=with_rate(self._method, 1.0))
        (entry,) = now.optimizer["parameters"].values()
        pilots = []
        for k in sorted({0, (last + 1) // 2, last}):
            found = self._blocks.on_block(k, find_distance, how, entry["params"], seed)
            if found is None:
                what = f"The objective or its gradient is not finite at the start, in block {k}."
                stop = stopping.non_finite(what, self.options.nan_policy)
                return stop or Stop(stopping.NONFINITE, what)
            pilots.append(found)
        better, distance = sorted(pilots, key=lambda pilot: pilot[1])[len(pilots) // 2]
        entry = {**entry, "params": better.reshape(entry["params"].shape)}
        optimizer = {**now.optimizer, "parameters": {"": entry}}
        self._now = now._replace(optimizer=optimizer, rng=rng, distance=distance)
        return None

    def _travelled(self, taken: Taken) -> float:
        """Return the distance, longer if the run has travelled further by a state."""
        if not self._method.searches:
            return math.nan
        self._found.distance = self._now.distance
        self.optimizer.load_state_dict(taken)
        self._found.measure(_point(taken), self._start, self.optimizer.learning_rates())
        return self._found.distance

    # -- the result -------------------------------------------------------------------------------

    def _evaluate(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Return mean loss and gradient over all rows; the last point is not evaluated again."""
        if self._measured is None or not np.array_equal(self._measured[0], flat):
            self.evaluations += 1
            f, g = self._blocks(self._exchange.shown(flat))
            self._measured = flat.copy(), (float(f), np.asarray(g).reshape(-1))
        return self._measured[1]

    def result(self, stop: Stop) -> OptimizeResult:
        """Evaluate all rows at the answer, and return the result."""
        from .results import Result

        opts, best = self.options, self._now.position.best_x
        x = self._flat.copy() if best is None else best.copy()
        loss, jac = self._evaluate(x)
        fun = loss + self._gauge.penalty(x)
        finite = math.isfinite(fun) and bool(np.isfinite(jac).all())
        if not finite and stop.status != stopping.NONFINITE:
            what = "The mean loss over all data or its gradient is not finite at the end."
            stop = stopping.non_finite(what, opts.nan_policy) or Stop(stopping.NONFINITE, what)
        rise = ""
        if stop.status in (stopping.CONVERGED, stopping.MAXITER):
            rise = self._rise(x, loss, fun, jac)
            stop = stop._replace(status=stopping.MAXITER) if rise else stop
            stop = stop._replace(message=stop.message + rise)
        asked = opts.tol is not None or opts.f_target is not None or bool(rise)
        done = stop.status == stopping.MAXITER and not asked
        self.optimizer.load_state_dict(self._now.optimizer)
        result = Result(
            x=self._exchange.shown(x),
            fun=fun,
            jac=self._exchange.shown(jac),
            nit=self.nit,
            nfev=self.nfev,
            njev=self.nfev,
            epochs=self.epochs,
            epoch_losses=np.array(self.epoch_losses),
            validation_losses=np.array(self.validation_losses),
            rounds={name: np.array(values) for name, values in self.rounds.items()},
            status=stop.status,
            success=stop.status in stopping.SUCCESS or done,
            message=stop.message,
            path=self.path,
            learning_rates=self.optimizer.learning_rates(),
            state=self.state(),
            history=self.history.arrays(),
            certificate=None,
            lower_bound=None,
        )
        if self._method.searches:
            result.lr = self.lr
        return result

    def _rise(self, x: np.ndarray, loss: float, fun: float, jac: np.ndarray) -> str:
        """Return a sentence that says so if the objective ended above its start, else nothing."""
        penalty = self._gauge.penalty(self._start)
        line = stopping.tangent(loss, jac, x, self._start) + penalty
        if not self.epoch_losses or (fun <= line < math.inf and loss <= self.epoch_losses[0]):
            return ""
        first = self._evaluate(self._start)[0] + penalty
        return stopping.risen(first, fun, x.dtype, "A lower learning rate may help.")

    # -- going on ---------------------------------------------------------------------------------

    def state(self) -> EpochState:
        """Return all that is needed to go on exactly."""
        now = self._now
        return EpochState(
            optimizer=deepcopy(now.optimizer),
            rng=now.rng if self._within else self._draws.state(),
            n=now.rows,
            average=None,
            average_kind=None,
            average_count=0,
            validated=self.validation is not None,
            start=self._start.copy(),
            added=added_to(self._method, self._how.prox),
            distance=None if math.isnan(now.distance) else now.distance,
            blocks=self._blocks.count,
            weights=None if self._blocks.weights is None else self._blocks.weights.copy(),
            **now.position._asdict(),
        )

    def restore(self, state: EpochState) -> None:
        """Go on from a state, or say why it does not fit."""
        if state.blocks != self._blocks.count:
            what = "a run that is not in blocks" if state.blocks is None else f"{state.blocks}"
            raise ValueError(f"fun has {self._blocks.count} blocks, expected {what} like state")
        state.check(state.n, self._exchange.flat, in_blocks=True)
        if not same_weights(self._blocks.weights, state.weights):
            raise ValueError(
                f"weights of fun are {self._blocks.weights!r:.60}, expected {state.weights!r:.60} "
                "like state"
            )
        bits = self._draws.position(state.rng)
        self.optimizer.load_state_dict(state.optimizer)
        taken = self.optimizer.state_dict()
        same = state.added in (None, added_to(self._method, self._how.prox))
        if not same:
            (entry,) = taken["parameters"].values()
            entry["params"] = self._how.prox.feasible(entry["params"])
        position = state.position(same, self.validation is not None)
        distance = math.nan if state.distance is None else state.distance
        self._now = Stand(taken, position, dict(state.rng), distance, state.n)
        kept = same and state.start is not None
        self._start[:] = state.start if kept else _point(taken)
        self._draws.move_to(bits)
