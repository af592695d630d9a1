"""The loop over the batches of a finite sum: take rows, look, step; after an epoch, judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .averaging import Average
from .batches import FiniteSum
from .epoch_calls import EpochCalls, choose_calls
from .epoch_state import EpochState
from .history import History
from .judging import Standing, judge
from .monitor import CALLBACK, MAXITER, NONFINITE, SUCCESS, Stop, Timer, non_finite
from .objective import read_value
from .optimizer import Optimizer
from .options import EpochOptions
from .proximal import Proximal
from .regret import gap
from .reporting import display, progress_bar, state_on_error
from .shuffling import Batches, generator_at, rng_state

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["EpochRun", "run_epochs"]

# Rows that an evaluation over all data takes at a time, where batch_size is not more: calls are few
# and memory is bounded.
FULL_ROWS = 1024


def run_epochs(
    run: EpochRun,
    epochs: int,
    callback: Callable[[OptimizeResult], Any] | None,
    progress: bool,
) -> OptimizeResult:
    """Go on for so many epochs, or until there is a reason to stop."""
    opts = run.options
    steps = run.batches.left(run.at.done) + (epochs - 1) * run.batches.left(0)
    name = type(run.optimizer.method).__name__
    stop: Stop | None = None
    with (
        progress_bar(progress, steps, name) as bar,
        state_on_error(run, "minimize_finite_sum"),
    ):
        while stop is None and (stop := run.sweep(bar)) is None:
            stop = run.close()
            if callback is not None and run.epochs % opts.callback_every == 0:
                try:
                    callback(run.intermediate())
                except StopIteration:
                    stop = Stop(CALLBACK, "`callback` raised `StopIteration`.")
            if stop is None and run.epochs >= epochs:
                stop = Stop(MAXITER, f"All epochs (epochs={epochs}) are done.")
        run.history.record(run.t, run.f, run.norm, run.optimizer, last=True)
        result = run.result(stop)
    if opts.disp:
        display(result)
    return result


class EpochRun:
    """The iterate, its place in the data, and what moves and watches it.

    Parameters
    ----------
    optimizer : Optimizer
        Of the iterate.
    total : FiniteSum
        What is minimised.
    batches : Batches
        How its rows are cut.
    rng : numpy.random.Generator
        Where the orders come from.
    shared_rng : bool
        Whether others may draw from it too.
    average : str or None
        Which average of the iterates, one of `AVERAGES`.
    validation : FiniteSum, callable or None
        What chooses among the epochs.
    prox : Proximal
        For its penalty, and for the set that averages stay in.
    options : EpochOptions
        When to stop and what to record.
    parallel : str or None
        What threads share.

    Attributes
    ----------
    at : Standing
        Where it stands, but for the iterates.
    epochs, nit : int
        Epochs and batches of this run.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total: FiniteSum,
        batches: Batches,
        rng: np.random.Generator,
        shared_rng: bool,
        average: str | None,
        validation: Any,
        prox: Proximal,
        options: EpochOptions,
        parallel: str | None,
    ) -> None:
        self.optimizer, self.total, self.batches, self.options = optimizer, total, batches, options
        self.rng, self._shared_rng = rng, shared_rng
        self._held: dict[str, Any] | None = None
        self.x = optimizer.params
        self._flat = self.x.reshape(-1)
        self._finite = self._flat.copy()
        self.average = None if average is None else Average(average, self._flat)
        self.validation = validation
        self.prox = prox
        self.history = History(options.history)
        self._calls = choose_calls(
            optimizer, total, prox, self.average, self._finite, options, parallel, batches.size
        )
        self._timer = Timer(options.maxtime)
        self.f = self.norm = math.nan
        self.at = Standing()
        # What has been begun and is still to be settled: a step, or compiled calls from here on.
        self._begun: tuple[int, int, Standing] | None = None
        self._swept: Standing | None = None
        self.epochs = self.nit = 0
        self.epoch_losses: list[float] = []
        self.validation_losses: list[float] = []

    @property
    def t(self) -> int:
        """Steps taken, over all runs."""
        return self.optimizer.t

    @property
    def nfev(self) -> int:
        """Calls of ``fun``."""
        more = self.validation.objective.nfev if isinstance(self.validation, FiniteSum) else 0
        return self.total.objective.nfev + more

    # -- an epoch ----------------------------------------------------------------------------------

    def sweep(self, bar: Callable[..., None]) -> Stop | None:
        """Take the steps that are left of the epoch; return why the run ended within it, if it did.

        A compiled epoch stands in for it where there is one: it too starts where ``at`` says, and
        leaves all as it is after the last batch that it took.
        """
        if self.at.done == 0 and self.at.order is None:
            order = self._outside(self.batches.order, self.rng, hold=True)
            self.at = self.at._replace(order=order)
        if self._calls is not None:
            return self._sweep_compiled(self._calls, bar)
        while (rows := self.batches.rows(self.at.order, self.at.done)) is not None:
            if (stop := self._timer.limit()) or (stop := self._step(rows)):
                return stop
            bar(self.f)
        return None

    def _sweep_compiled(self, calls: EpochCalls, bar: Callable[..., None]) -> Stop | None:
        start, size = self.at, self.batches.size
        end = min(start.done + self.batches.left(start.done) * size, self.batches.n)
        order = np.arange(end) if start.order is None else start.order[:end]
        order = np.ascontiguousarray(order[start.done :], np.intp)
        if not calls.keeps_finite:
            np.copyto(self._finite, self._flat)
        calls.begin()
        calls.losses[1] = start.loss_sum
        self._swept = start
        stop, finite, steps = None, True, 0
        try:
            while (first := int(calls.taken[1])) < order.size:
                if stop := self._timer.limit():
                    break
                finite = calls.run(order[first : first + calls.rows_a_call(size)], size)
                bar(float(calls.losses[0]), int(calls.taken[0]) - steps)
                steps = int(calls.taken[0])
                if not finite:
                    break
        finally:
            self._settle()
        self.nit += steps
        self.total.objective.nfev += steps + (not finite)
        self.total.objective.njev += steps + (not finite)
        self.f = float(calls.losses[0])
        if not finite:
            return self._strange(self.f)
        if not calls.keeps_finite:
            np.copyto(self._finite, self._flat)
        return stop

    def _strange(self, f: float) -> Stop | None:
        """Return what follows where a batch's value or gradient is not finite."""
        what = f"value {f}" if not math.isfinite(f) else "gradient with a non-finite entry"
        return non_finite(
            f"The objective returned a {what} over a batch after step {self.t}.",
            self.options.nan_policy,
        )

    def _step(self, rows: np.ndarray) -> Stop | None:
        """Evaluate a batch and step along its gradient, unless that is not finite."""
        f, g = self._outside(self.total, self._flat, rows)
        g = g.reshape(self.x.shape)
        norm = float(self.optimizer.gradient_norm(g))
        at, k = self.at, rows.size
        if math.isfinite(f) and math.isfinite(norm):
            np.copyto(self._finite, self._flat)
            after = at._replace(
                done=at.done + k, loss_sum=at.loss_sum + f * k, loss_rows=at.loss_rows + k
            )
            count = self.average.count if self.average is not None else 0
            self._begun = self.t + 1, count + 1, after
            self.optimizer.step(g)
            self._settle()
            self.f, self.norm = f, norm
            self.history.record(self.t, f, norm, self.optimizer, last=False)
        else:
            if (stop := self._strange(f)) is not None:
                return stop
            self.at = at._replace(done=at.done + k)
        self.nit += 1
        return None

    def _settle(self) -> None:
        """Account for the steps begun last, where taken; an interrupted call may be repeated.

        So a Ctrl-C between a step and what belongs to it loses nothing.
        """
        if self._swept is not None and self._calls is not None:
            self._calls.end()
            rows = int(self._calls.taken[1])
            self.at = self._swept._replace(
                done=self._swept.done + rows,
                loss_sum=float(self._calls.losses[1]),
                loss_rows=self._swept.loss_rows + rows,
            )
            self._swept = None
        if self._begun is None:
            return
        t, count, after = self._begun
        if self.t == t:
            if self.average is not None and self.average.count < count:
                self.average.update(self._flat)
            self.at = after
        self._begun = None

    def close(self) -> Stop | None:
        """End the epoch: its mean loss, the validation, and what follows from them."""
        candidate = self.candidate()
        validation, stop = None, None
        if self.validation is not None:
            validation = self._outside(self._validate, candidate)
            if not math.isfinite(validation):
                stop = non_finite(
                    f"The validation returned the value {validation} after step {self.t}.",
                    self.options.nan_policy,
                )
            self.validation_losses.append(validation)
        self.at, verdict = judge(self.at, validation, candidate, self.options)
        self.epoch_losses.append(self.at.previous_loss)
        self.epochs += 1
        return stop or verdict

    def _validate(self, x: np.ndarray) -> float:
        if isinstance(self.validation, FiniteSum):
            return self._mean(self.validation, x)[0]
        return read_value("validation", self.validation(x.reshape(self.x.shape).copy()))

    def _mean(self, total: FiniteSum, x: np.ndarray) -> tuple[float, np.ndarray]:
        size = max(self.batches.size, FULL_ROWS)
        return total.mean(x, size, omit=self.options.nan_policy == "omit")

    def _outside(self, call: Callable[..., Any], *arguments: Any, hold: bool = False) -> Any:
        """Call what may draw from the generator; where it fails, the state is that of before."""
        self._held = rng_state(self.rng) if hold or self._shared_rng else None
        value = call(*arguments)
        self._held = None
        return value

    # -- what comes of it --------------------------------------------------------------------------

    def candidate(self) -> np.ndarray:
        """Return a copy of the last iterate, or of the average where there is one, flat."""
        if self.average is None or not self.average.count:
            return self._flat.copy()  # type: ignore[no-any-return]
        with np.errstate(over="ignore"):
            x = self.average.mean.astype(self.x.dtype)
        # Rounding may carry a mean of points of a convex set beyond its walls.
        return self.prox.feasible(x.reshape(self.x.shape)).reshape(-1)

    def intermediate(self) -> OptimizeResult:
        """Return what a callback is told at the end of an epoch."""
        from scipy.optimize import OptimizeResult

        return OptimizeResult(
            x=self.candidate().reshape(self.x.shape),
            fun=self.epoch_losses[-1],
            epoch=self.epochs,
            nit=self.nit,
            nfev=self.nfev,
            validation=self.validation_losses[-1] if self.validation_losses else None,
        )

    def result(self, stop: Stop) -> OptimizeResult:
        """Evaluate all data where the run has come to, and return all there is to know."""
        from scipy.optimize import OptimizeResult

        state, opts = self.state(), self.options  # before fun may draw from the generator again
        x = self._answer(stop)
        fun, jac = self._outside(self._mean, self.total, x)
        if not (math.isfinite(fun) and np.isfinite(jac).all()) and stop.status != NONFINITE:
            what = "The mean loss over all data or its gradient is not finite at the end."
            stop = non_finite(what, opts.nan_policy) or Stop(NONFINITE, what)
            x = self._answer(stop)
            fun, jac = self._outside(self._mean, self.total, x)
        with np.errstate(over="ignore"):
            jac = jac.astype(self.x.dtype)
        x = x.reshape(self.x.shape)
        asked = opts.tol is not None or opts.f_target is not None
        fun += float(self.prox.penalty(x))
        certificate = None
        domain = self.prox.domain()
        finite = math.isfinite(fun) and bool(np.isfinite(jac).all())
        if domain is not None and domain.is_bounded and finite:
            certificate = gap(x, fun, jac, domain.flat(x.shape))
        return OptimizeResult(
            x=x,
            fun=fun,
            certificate=certificate,
            lower_bound=None if certificate is None else fun - certificate,
            jac=jac.reshape(self.x.shape),
            nit=self.nit,
            nfev=self.nfev,
            njev=self.nfev,
            epochs=self.epochs,
            epoch_losses=np.array(self.epoch_losses),
            validation_losses=np.array(self.validation_losses),
            status=stop.status,
            success=stop.status in SUCCESS or (stop.status == MAXITER and not asked),
            message=stop.message,
            learning_rates=self.optimizer.learning_rates(),
            state=state,
            history=self.history.arrays(),
        )

    def _answer(self, stop: Stop) -> np.ndarray:
        """Return the iterate that the run has come to."""
        if self.at.best_x is not None:
            return self.at.best_x.copy()  # type: ignore[no-any-return]
        x = self.candidate()
        if stop.status == NONFINITE and (self.average is None or not np.isfinite(x).all()):
            x = self._finite
        return x

    # -- going on ----------------------------------------------------------------------------------

    def state(self) -> EpochState:
        """Return all that is needed to go on exactly."""
        self._settle()
        average = self.average
        return EpochState(
            optimizer=self.optimizer.state_dict(),
            rng=self._held or rng_state(self.rng),
            n=self.batches.n,
            average=None if average is None else average.mean.copy(),
            average_kind=None if average is None else average.kind,
            average_count=0 if average is None else average.count,
            validated=self.validation is not None,
            **self.at._asdict(),
        )

    def restore(self, state: EpochState) -> None:
        """Go on from a state, or say why it does not fit."""
        if state.n != self.batches.n:
            raise ValueError(f"data has {self.batches.n} rows, expected {state.n} like state")
        self.optimizer.load_state_dict(state.optimizer)
        self.rng = generator_at(state.rng, self.rng if self._shared_rng else None)
        np.copyto(self._finite, self._flat)
        self.at = Standing(*(getattr(state, name) for name in Standing._fields))
        if state.validated != (self.validation is not None):
            # What was best by another measure says nothing here.
            self.at = self.at._replace(best_fun=math.inf, best_epoch=state.epoch, best_x=None)
        if self.average is not None and self.average.kind == state.average_kind:
            assert state.average is not None
            self.average.restore(state.average, state.average_count)
