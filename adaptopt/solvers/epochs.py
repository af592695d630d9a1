"""A run over the batches of a finite sum: take rows, check, step; after an epoch, judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, UserFunction
from ..objectives.batches import Batches, Draws
from ..objectives.finite_sum import FiniteSum
from ..optimizer.optimizer import Optimizer
from ..problems.problem import is_convex
from ..prox.base import Proximal
from ..regret.certificate import gap
from . import stopping
from .added import added_to
from .averaging import Average
from .epoch_calls import EpochCalls, choose_calls
from .gauge import Gauge, gauge_of
from .history import History
from .online import NoPlay, Online, Round
from .options import EpochOptions, read_domain
from .state import EpochState
from .stopping import Position, Stop, Timer

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


# Rows that an evaluation over all data takes at a time, unless batch_size is more.
FULL_ROWS = 1024


class EpochRun:
    """The iterate, its position in the data, and what moves and checks it.

    Parameters
    ----------
    optimizer, total, batches, draws
        What moves the iterate; the objective, without the penalty; how its rows are cut; and where
        the orders come from.
    average, validation : str or None; FiniteSum, callable or None
        One of `AVERAGES`; and what chooses among the epochs.
    prox : Proximal
        For its penalty, and for the set that averages stay in.
    options, parallel, every
        When to stop and what to record; what threads share; and batches from one check to the next.
    touched, online : bool, Online or None
        Whether idle coordinates are left alone; and what counts each batch as a round of play.

    Attributes
    ----------
    position : Position
        Its position in the data, its losses, and the best epoch so far.
    epochs, nit : int
        Epochs and batches of this run.
    judged : float
        The mean loss of the last epoch, with the penalty at its end.
    """

    advice = "A lower learning rate may help."  # to a run that ends above its start

    def __init__(
        self,
        optimizer: Optimizer,
        total: FiniteSum,
        batches: Batches,
        draws: Draws,
        average: str | None,
        validation: FiniteSum | UserFunction | None,
        prox: Proximal,
        options: EpochOptions,
        parallel: str | None,
        every: int,
        touched: bool = False,
        online: Online | None = None,
    ) -> None:
        self.optimizer, self.total, self.batches, self.options = optimizer, total, batches, options
        self._draws, self._exchange = draws, total.objective.exchange
        self._flat, self._backend = self._exchange.flat, self._exchange.backend
        self.gauge: Gauge = gauge_of(optimizer, total.objective, penalised=False)
        self._finite, self._start = (self._backend.duplicate(self._flat) for _ in range(2))
        self.average = None if average is None else Average(average, self._flat)
        self.validation, self.prox = validation, prox
        self._domain = read_domain(
            *(optimizer.method, prox, total.objective),
            *(options.certificate, is_convex(total.problem)),
        )
        self.history = History(options.history, options.history_rates)
        made = optimizer, total, prox, self.average, self._finite, options, parallel
        self.way = choose_calls(*made, batches.size, touched, online)
        self._calls, self._online = self.way.calls, online or NoPlay()
        self._every, self._timer = every, Timer(options.maxtime)
        self.f = self.norm = self.judged = math.nan
        # The last point at which all rows were evaluated, with the results.
        self._measured: tuple[Array, tuple[float, Array, int]] | None = None
        self.position = Position()
        # What has been begun and is still to be settled: a step, or compiled calls from here on.
        self._begun: tuple[int, int, Position, Round | None] | None = None
        self._swept: Position | None = None
        self.epochs = self.nit = self._left_out = 0  # the last: batches without a step
        self.epoch_losses, self.validation_losses = list[float](), list[float]()

    @property
    def t(self) -> int:
        """Steps taken, over all runs."""
        return self.optimizer.t

    @property
    def nfev(self) -> int:
        """Calls of ``fun``."""
        held_out = self.validation.objective.nfev if isinstance(self.validation, FiniteSum) else 0
        return self.total.objective.nfev + held_out

    def plan(self, steps: int) -> None:
        """Take in after how many steps the run ends."""

    # -- an epoch ----------------------------------------------------------------------------------

    def sweep(self, bar: Callable[..., None]) -> Stop | None:
        """Take the steps that are left of the epoch; return why the run ended within it, if so."""
        if self.position.done == 0 and self.position.order is None:
            order = self._draws.during(self.batches.order, self._draws.rng, hold=True)
            self.position = self.position._replace(order=order)
        if stop := self._prepare():
            return stop
        if self.gauge.nonfinite is not None:
            return self._what_follows(math.nan)
        while steps := self._next_steps():
            if self._calls is not None:
                stop = self._sweep_compiled(self._calls, steps, bar)
            else:
                stop = self._sweep_in_python(steps, bar)
            if stop is not None:
                return stop
        self._counted()
        return None if self.gauge.nonfinite is None else self._what_follows(math.nan)

    def _prepare(self) -> Stop | None:
        """Do what comes before the first step; return why the run ended with it, if so."""
        return None

    def _next_steps(self) -> int:
        """Return how many of the steps that are left of the epoch come next; 0 at its end."""
        return self.batches.left(self.position.done)

    def _sweep_in_python(self, steps: int, bar: Callable[..., None]) -> Stop | None:
        for _ in range(steps):
            rows = self.batches.next(self.position.done)
            if (stop := self._timer.limit()) or (stop := self._step(rows)):
                return stop
            bar(self.f)
        return None

    def _sweep_compiled(
        self, calls: EpochCalls, most: int, bar: Callable[..., None]
    ) -> Stop | None:
        start, size = self.position, self.batches.size
        end = min(start.done + most * size, self.batches.n)
        order = np.arange(end) if start.order is None else start.order[:end]
        order = np.ascontiguousarray(order[start.done :], np.intp)
        if not calls.keeps_finite:
            self._backend.copy(self._finite, self._flat)
        calls.begin()
        calls.losses[1] = start.loss_sum
        self._swept = start
        stop, finite, steps, before = None, True, 0, self.t
        try:
            while (first := int(calls.taken[1])) < order.size and finite:
                if stop := self._timer.limit():
                    break
                most = self.history.most(before + steps, calls.rows_a_call(size), size)
                count = self._online.most(most, size)
                finite = calls.run(order[first : first + count], size)
                bar(float(calls.losses[0]), int(calls.taken[0]) - steps)
                steps = int(calls.taken[0])
                self.history.extend(calls.records)
                self._online.note()
                if finite:
                    self.norm = calls.norm
                    self.history.record_rates(before + steps, calls.rates)
        finally:
            self._settle()
        self.nit += steps
        self.total.objective.nfev += steps + (not finite)
        self.total.objective.njev += steps + (not finite)
        self.f = float(calls.losses[0])
        if not finite:
            return self._what_follows(self.f)
        if not calls.keeps_finite:
            self._backend.copy(self._finite, self._flat)
        return stop

    def _what_follows(self, f: float) -> Stop | None:
        """Return what follows if a batch's value or gradient is not finite."""
        step = self.t
        if step == 0:
            self.total.objective.check_written(self._flat, *self.total.rows.take(None, 0, 1))
        if self.gauge.nonfinite is not None:
            what, step = "value or gradient that is not finite", self.gauge.nonfinite
        else:
            what = f"value {f}" if not math.isfinite(f) else "gradient with a non-finite entry"
        return stopping.non_finite(
            f"The objective returned a {what} over a batch after step {step}.",
            self.options.nan_policy,
        )

    def _step(self, rows: int) -> Stop | None:
        """Evaluate a batch and step along its gradient, unless a check finds that not finite."""
        checked = self.t % self._every == 0
        at, gauge = self.position, self.gauge
        value, g = self._draws.during(self.total.over, self._flat, at.order, at.done, rows)
        f, norm = gauge.value(value), math.nan
        if checked:
            f, norm, *_ = gauge.measure(f, g, None)
            if gauge.nonfinite is not None or not (math.isfinite(f) and math.isfinite(norm)):
                if (stop := self._what_follows(f)) is not None:
                    return stop
                self.position = at._replace(done=at.done + rows)
                self.nit += 1
                self._left_out += 1
                return None
            self._backend.copy(self._finite, self._flat)
        else:
            gauge.watch(f, g, self.t)
        count = self.average.count if self.average is not None else 0
        after = at._replace(
            done=at.done + rows,
            loss_sum=gauge.add(at.loss_sum, value, rows),
            loss_rows=at.loss_rows + rows,
        )
        self._begun = self.t + 1, count + 1, after, self._online.round(self._flat, f, g)
        self.optimizer.step(self._exchange.shaped(g))
        self._settle()
        if checked:
            self.f, self.norm = f, norm
            self.history.record(self.t, f, norm, self.optimizer.learning_rates, last=False)
        self.nit += 1
        return None

    def _settle(self) -> None:
        """Account for the steps begun last, if they were taken.

        A call that is interrupted may be repeated: a Ctrl-C between a step and what belongs to it
        loses nothing.
        """
        if self._swept is not None and self._calls is not None:
            self._calls.end()
            rows = int(self._calls.taken[1])
            self.position = self._swept._replace(
                done=self._swept.done + rows,
                loss_sum=float(self._calls.losses[1]),
                loss_rows=self._swept.loss_rows + rows,
            )
            self._online.settle(self._swept, self.position)
            self._swept = None
        if self._begun is None:
            return
        t, count, after, played = self._begun
        if self.t == t:
            if self.average is not None and self.average.count < count:
                self.average.update(self._flat)
            self.gauge.count(t, self.position.loss_rows > 0)
            self._online.play(played)
            self._online.settle(self.position, after)
            self.position = after
        self._begun = None

    def close(self) -> Stop | None:
        """End the epoch: its mean loss, the validation, and what follows from them."""
        candidate = self.candidate()
        validation, stop = None, None
        if self.validation is not None:
            validation = self._draws.during(self._validate, candidate)
            if not math.isfinite(validation):
                stop = stopping.non_finite(
                    f"The validation returned the value {validation} after step {self.t}.",
                    self.options.nan_policy,
                )
            self.validation_losses.append(validation)
        self.position = at = self._counted()
        loss = at.loss_sum / at.loss_rows if at.loss_rows else math.nan
        self.judged = loss + self.gauge.penalty(self._flat)
        self.position, verdict = stopping.judge(
            *(self.position, self.judged, validation, candidate, self.options),
            lambda: self._evaluate_all(candidate)[0] + self.gauge.penalty(candidate),
        )
        self.epoch_losses.append(loss)
        self.epochs += 1
        return stop or verdict

    def _evaluate_all(self, x: Array) -> tuple[float, Array, int]:
        """Return mean loss and gradient over all rows at a point, and the rows left out."""
        if self.options.stream:
            self._backend.fill(unknown := self._backend.duplicate(x), math.nan)
            return math.nan, unknown, 0
        if self._measured is None or self._measured[0] is not x:
            self._measured = x, self._draws.during(self._mean, self.total, x)
        return self._measured[1]

    def _counted(self) -> Position:
        """Return the position, with all losses in it."""
        at = self.position
        return at._replace(loss_sum=self.gauge.losses(at.loss_sum, at.loss_rows, self.t))

    def _validate(self, x: Array) -> float:
        if isinstance(self.validation, FiniteSum):  # held-out data
            return self._mean(self.validation, x)[0]
        returned = self.validation(self._exchange.shown(x))  # type: ignore[misc]
        return self.gauge.number(self._exchange.value("validation", returned))

    def _mean(self, total: FiniteSum, x: Array) -> tuple[float, Array, int]:
        omit = self.options.nan_policy == "omit"
        return total.mean(x, max(self.batches.size, FULL_ROWS), omit)

    # -- the result --------------------------------------------------------------------------------

    def candidate(self) -> Array:
        """Return a flat copy of the last iterate, or of the average if there is one."""
        if self.average is None or not self.average.count:
            return self._backend.duplicate(self._flat)
        x = self._backend.rounded(self.average.mean, self._flat.dtype)
        # Rounding may carry a mean of points of a convex set out of the set.
        return self._backend.feasible(self.prox, x, self.total.objective.shape)

    def result(self, stop: Stop) -> OptimizeResult:
        """Evaluate all rows at the answer, and return the result."""
        from .results import Result

        state, opts = self.state(), self.options
        self._draws.hold(state.rng)  # fun may draw from the generator again
        x = self._answer(stop)
        if stop.status == stopping.TARGET and self._measured is not None:
            x = self._measured[0]
        fun, jac, omitted = self._evaluate_all(x)
        finite = math.isfinite(fun) and self._backend.is_finite(jac)
        if not (finite or opts.stream) and stop.status != stopping.NONFINITE:
            what = "The mean loss over all data or its gradient is not finite at the end."
            stop = stopping.non_finite(what, opts.nan_policy) or Stop(stopping.NONFINITE, what)
            x = self._answer(stop)
            fun, jac, omitted = self._evaluate_all(x)
        if self._left_out and stop.status == stopping.MAXITER:
            stop = stop._replace(message=stop.message + stopping.left_out(self._left_out, self.nit))
        by_itself = stop.status in (stopping.CONVERGED, stopping.MAXITER)
        if rise := self._rise(x, fun, jac) if by_itself and not opts.stream else "":
            stop = Stop(stopping.MAXITER, stop.message + rise)
        jac = self._backend.rounded(jac, self._flat.dtype)
        asked = opts.tol is not None or opts.f_target is not None or bool(rise)
        done = stop.status == stopping.MAXITER and not (asked or 0 < self.nit == self._left_out)
        fun += self.gauge.penalty(x)
        certificate = None
        if self._domain is not None and math.isfinite(fun) and self._backend.is_finite(jac):
            certificate = gap(x, fun, jac, self._domain)
        return Result(
            x=self._exchange.shown(x),
            fun=fun,
            certificate=certificate,
            lower_bound=None if certificate is None else fun - certificate,
            jac=self._exchange.shown(jac),
            omitted=omitted,
            nit=self.nit,
            nfev=self.nfev,
            njev=self.nfev,
            epochs=self.epochs,
            epoch_losses=np.array(self.epoch_losses),
            validation_losses=np.array(self.validation_losses),
            status=stop.status,
            success=stop.status in stopping.SUCCESS or done,
            message=stop.message,
            path=self.way.path,
            learning_rates=self.optimizer.learning_rates(),
            state=state,
            history=self.history.arrays(),
        )

    def _rise(self, x: Array, loss: float, jac: Array) -> str:
        """Return a sentence that says so if the objective ended above its start, else nothing.

        A convex loss lies above its tangent at the end, so that the start is evaluated only if it
        lies below the end on it; or if the loss is above the mean of the first epoch.
        """
        start, end = self._start, loss + self.gauge.penalty(x)
        penalty = self.gauge.penalty(start)
        line = stopping.tangent(loss, *map(self._backend.to_host, (jac, x, start))) + penalty
        if end <= line < math.inf and loss <= self.epoch_losses[0]:
            return ""
        first = self._draws.during(self._mean, self.total, start)[0] + penalty
        return stopping.risen(first, end, self._flat.dtype, self.advice)

    def _answer(self, stop: Stop) -> Array:
        """Return the iterate that is the answer of the run."""
        if self.position.best_x is not None:
            return self._backend.duplicate(self.position.best_x)
        x = self.candidate()
        if stop.status == stopping.NONFINITE:
            sound = self.average is not None and self.gauge.nonfinite is None
            return x if sound and self._backend.is_finite(x) else self._finite
        return x

    # -- going on ----------------------------------------------------------------------------------

    def state(self) -> EpochState:
        """Return all that is needed to go on exactly."""
        self._settle()
        average, at = self.average, self._counted()
        if self.gauge.nonfinite is not None:
            at = at._replace(loss_sum=math.nan)  # no part of the run that goes on is a success
        if at.best_x is not None:
            at = at._replace(best_x=self._backend.to_host(at.best_x))
        return EpochState(
            optimizer=self.optimizer.state_dict(),
            rng=self._draws.state(),
            n=self.batches.n,
            average=None if average is None else self._backend.to_host(average.mean),
            average_kind=None if average is None else average.kind,
            average_count=0 if average is None else average.count,
            validated=self.validation is not None,
            start=self._backend.to_host(self._start),
            added=added_to(self.optimizer.method, self.prox),
            **at._asdict(),
        )

    def restore(self, state: EpochState) -> None:
        """Go on from a state, or say why it does not fit."""
        state.check(self.batches.n, self._flat, in_blocks=False)
        bits = self._draws.position(state.rng)
        self.optimizer.load_state_dict(state.optimizer)
        self._draws.move_to(bits)
        same = state.added in (None, added_to(self.optimizer.method, self.prox))
        if not same:
            feasible = self._backend.feasible(self.prox, self._flat, self.total.objective.shape)
            self._backend.copy(self._flat, feasible)
        self._backend.copy(self._finite, self._flat)
        start = state.start if same and state.start is not None else self._flat
        self._backend.copy(self._start, start)
        if self._calls is None and self.options.nan_policy != "omit":
            self.gauge.nonfinite = None if math.isfinite(state.loss_sum) else state.t
        position = state.position(same, self.validation is not None)
        if position.best_x is not None:
            best_x = self._backend.from_host(position.best_x, self._flat)
            position = position._replace(best_x=best_x)
        self.position = position
        if self.average is not None and self.average.kind == state.average_kind and same:
            assert state.average is not None
            self.average.restore(state.average, state.average_count)
        self.gauge.begin(self.position.loss_sum)
        self._backend.wait(self._flat)
