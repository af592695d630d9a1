"""When to stop, and why: a monitor of the iterates of a run, and a judge of its epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..arrays import Array, DType
from ..kernels import stopping
from ..placement import backend_of
from .options import EpochOptions, Options

CONVERGED, MAXITER, MAXFEV, NONFINITE, MAXTIME, TARGET, PATIENCE, WORSE, LINE_SEARCH = range(9)
CALLBACK = 99
SUCCESS = (CONVERGED, TARGET)

# Units in the last place by which a value may differ from another and be equal to it: each is a sum
# of its own.
ROUNDING = 64


class Stop(NamedTuple):
    """Why a run ended."""

    status: int
    message: str
    here: bool = False
    """Whether it is the last iterate that met a test, so that it is the answer, not the best."""


CALLED_BACK = Stop(CALLBACK, "`callback` raised `StopIteration`.")


class Timer:
    """Says when ``maxtime`` seconds have passed since it was made."""

    def __init__(self, maxtime: float | None) -> None:
        self._maxtime, self._start = maxtime, time.perf_counter()

    def limit(self) -> Stop | None:
        """Say whether the time is over."""
        if self._maxtime is None or time.perf_counter() - self._start < self._maxtime:
            return None
        return Stop(MAXTIME, f"Time limit (maxtime={self._maxtime:g} s) reached.")


def non_finite(what: str, policy: str) -> Stop | None:
    """Return what follows from ``nan_policy`` if something that is not finite was returned."""
    if policy == "raise":
        raise FloatingPointError(what)
    return None if policy == "omit" else Stop(NONFINITE, what)


class Monitor:
    """Keeps the best iterate that was checked, and applies the stopping tests.

    Parameters
    ----------
    options : Options
        The stopping tests.
    x : ndarray or CUDA array
        The flat iterate, for its place, shape and dtype.
    has_objective : bool
        Whether what the method goes down is the function. Else its gradient says nothing about
        the end of the run: ``gtol`` is not tested, and the last iterate is the answer.

    Attributes
    ----------
    best_x, best_jac, best_fun, best_t
        The best finite iterate so far, its gradient, value and step.
    tests : tuple
        What `reason` takes last.
    """

    def __init__(self, options: Options, x: Array, has_objective: bool = True) -> None:
        self._options, self._has_objective = options, has_objective
        self._backend = backend_of(x)
        gtol = options.gtol if has_objective else None
        self.tests = read_tests(
            options.f_target, gtol, options.ftol, options.xtol, options.patience
        )
        self._timer = Timer(options.maxtime)
        self.best_x, self.best_jac = _unknown(x), _unknown(x)
        self._backend.copy(self.best_x, x)
        self.best_fun, self.best_t = math.inf, 0
        self.previous_fun = math.nan
        self.previous_x = None if options.xtol is None else _unknown(x)
        # A new best iterate that is still to be settled, and the step that was left last.
        self._found: tuple[Array, Array, float, int] | None = None
        self._left = -1

    def check(
        self, t: int, x: Array, g: Array, f: float, norm: float, moved: float, nonfinite: int | None
    ) -> Stop | None:
        """Take in the iterate of step ``t``; return why the run has ended, if it has.

        ``nonfinite`` is the first step since the last check whose value or gradient was not finite.
        """
        if nonfinite is not None:
            return self._non_finite(f"value or gradient that is not finite at step {nonfinite}")
        if f < self.best_fun and math.isfinite(f) and math.isfinite(norm):
            self._found = x, g, f, t
            self.settle()
        return self.judge(t, x, f, norm, moved)

    def settle(self) -> None:
        """Adopt the best iterate found last; one that was interrupted may be repeated."""
        if self._found is not None:
            x, g, f, t = self._found
            self._backend.copy(self.best_x, x)
            self._backend.copy(self.best_jac, g)
            self.best_fun, self.best_t, self._found = f, t, None

    def judge(self, t: int, x: Array, f: float, norm: float, moved: float) -> Stop | None:
        """Return why the run has ended at the iterate ``x`` of step ``t``, if it has."""
        if not math.isfinite(f):
            return self._non_finite(f"value {f} at step {t}")
        if not math.isfinite(norm):
            if self._backend.is_finite(x):
                return self._non_finite(f"gradient with a non-finite entry at step {t}")
            return self._ended(f"The iterate of step {t} has a non-finite entry.")
        since_best = t - self.best_t
        why = stopping.reason(f, norm, self.previous_fun, moved, since_best, *self.tests)
        return self._stop(why, t, x, f, norm, moved) if why else None

    def leave(self, t: int, x: Array, f: float) -> None:
        """Remember the iterate of step ``t``, from which the step to the next check starts."""
        self._left = t  # first: until that step is taken, what was before is not known
        self.previous_fun = f
        if self.previous_x is not None:
            self._backend.copy(self.previous_x, x)

    def before(self, t: int) -> tuple[float, Array]:
        """Return value and point of the iterate before that of step ``t``, if they are known.

        They are not once it has been left: then it met no test, and need not be tested again.
        """
        if self._left == t:
            return math.nan, None
        return self.previous_fun, self.previous_x

    def limit(self, nit: int, nfev: int, cost: int) -> Stop | None:
        """Say whether the budget forbids one more step, which takes ``cost`` evaluations."""
        o = self._options
        if o.maxiter is not None and nit >= o.maxiter:
            message = f"Maximum number of iterations (maxiter={o.maxiter}) reached."
            if not self._has_objective and o.gtol is not None:
                message += (
                    " Decoupled weight decay is the gradient of no function: gtol is not tested, "
                    "and x is the last iterate."
                )
            return Stop(MAXITER, message)
        if o.maxfev is not None and nfev + cost > o.maxfev:
            return Stop(
                MAXFEV, f"Maximum number of function evaluations (maxfev={o.maxfev}) reached."
            )
        return self._timer.limit()

    def evaluations_left(self, nfev: int) -> int | None:
        """Return how many evaluations the budget still allows; None if it sets no limit."""
        most = self._options.maxfev
        return None if most is None else max(most - nfev, 0)

    def answers_here(self, stop: Stop) -> bool:
        """Tell whether the last iterate is the answer; else the best one is, if there is one."""
        return stop.here or not (self._has_objective or stop.status == NONFINITE)

    def _non_finite(self, what: str) -> Stop | None:
        return self._ended(f"The objective returned a {what}.")

    def _ended(self, what: str) -> Stop | None:
        stop = non_finite(what, self._options.nan_policy)
        if stop is not None and math.isfinite(self.best_fun):
            best = f" x is the best finite iterate, of step {self.best_t}."
            return stop._replace(message=stop.message + best)
        return stop

    def _stop(self, why: int, t: int, x: Array, f: float, norm: float, moved: float) -> Stop:
        o = self._options
        best = f"the best f = {self.best_fun:.6g} is of step {self.best_t}"
        if why == stopping.TARGET:
            return Stop(TARGET, f"Target reached: f = {f:.6g} <= f_target = {o.f_target:g}.", True)
        if why == stopping.PATIENCE:
            return Stop(
                PATIENCE,
                f"No improvement for {t - self.best_t} steps (patience={o.patience}); {best}.",
            )
        slack = 0.0
        if why == stopping.GTOL:
            met = f"gradient norm {norm:.2g} <= gtol = {o.gtol:g}"
        elif why == stopping.FTOL:
            change = stopping.relative_change(f, self.previous_fun)
            met = f"relative change of f {change:.2g} <= ftol = {o.ftol:g}"
            slack = self.tests[2] * max(abs(f), 1.0)
        else:
            met = f"last step {moved:.2g} <= xtol = {o.xtol:g}"
        if self._has_objective and self._is_above(x, f, norm, slack):
            return Stop(
                WORSE,
                f"Stalled above the best: {met} at step {t}, but f = {f:.6g} there, and {best}: "
                "x is that iterate, which has not met the test.",
            )
        return Stop(CONVERGED, f"Converged: {met}.", True)

    def _is_above(self, x: Array, f: float, norm: float, slack: float) -> bool:
        """Tell whether ``f`` at ``x`` is above the best by more than its gradient explains.

        A convex function is above another point by at most ``<g, x - best_x>``. Less than rounding
        is nothing.
        """
        above = f - self.best_fun
        eps = float(np.finfo(x.dtype).eps)
        slack += ROUNDING * eps * max(abs(f), abs(self.best_fun))
        if above <= slack:
            return False
        x, best_x = (self._backend.to_host(a).astype(np.float64) for a in (x, self.best_x))
        with np.errstate(over="ignore"):
            return not above <= slack + norm * float(np.abs(x - best_x).sum())


def read_tests(
    f_target: float | None,
    gtol: float | None,
    ftol: float | None,
    xtol: float | None,
    patience: int | None,
) -> tuple[float, float, float, float, int]:
    """Return the last arguments of `reason`: for None, numbers that never stop a run."""
    target = -math.inf if f_target is None else f_target
    gtol, ftol, xtol = (-1.0 if tol is None else tol for tol in (gtol, ftol, xtol))
    return target, gtol, ftol, xtol, 2**62 if patience is None else patience


def _unknown(like: Array) -> Array:
    """Return a flat array beside another, NaN everywhere."""
    backend = backend_of(like)
    array = backend.empty(like.size, like.dtype, like)
    backend.fill(array, math.nan)
    return array


class Position(NamedTuple):
    """The position of a run in its data. A step, or an epoch, replaces it as a whole.

    An interrupt then finds the old one or the new one.
    """

    done: int = 0
    """Rows that have been taken of the current epoch."""
    order: np.ndarray | None = None
    """The order of its rows, if it is shuffled."""
    loss_sum: float = 0.0
    """What its mean loss is made of: the sum so far ..."""
    loss_rows: int = 0
    """... and of how many rows."""
    epoch: int = 0
    """Epochs that have ended, over all runs."""
    previous_loss: float = math.nan
    """Mean loss of the last of them, with the penalty at its end."""
    best_fun: float = math.inf
    """The best validation, or that mean loss if there is no validation."""
    best_epoch: int = 0
    """Its epoch."""
    best_x: np.ndarray | None = None
    """Its iterate, if there is a validation."""


def judge(
    at: Position,
    loss: float,
    validation: float | None,
    x: np.ndarray,
    options: EpochOptions,
    measured: Callable[[], float],
) -> tuple[Position, Stop | None]:
    """End the epoch, which led to ``x``; return the new position and why the run has ended, if so.

    If there is a validation it is what counts, else ``loss``, the epoch's mean loss with the
    penalty. A target that it meets has to be met at ``x`` too, by the objective over all rows,
    which ``measured`` returns.
    """
    name, value = ("mean loss", loss) if validation is None else ("validation", validation)
    finite = math.isfinite(value)
    new = Position(0, None, 0.0, 0, at.epoch + 1, loss, at.best_fun, at.best_epoch, at.best_x)
    if finite and value < at.best_fun:
        best_x = None if validation is None else x
        new = new._replace(best_fun=value, best_epoch=new.epoch, best_x=best_x)
    o, before = options, at.previous_loss
    if o.f_target is not None and finite and value <= o.f_target:
        if validation is None:
            name, value = "fun", measured()
        if value <= o.f_target:
            what = f"Target reached: {name} = {value:.6g} <= f_target = {o.f_target:g}."
            return new, Stop(TARGET, what)
    if o.tol is not None and math.isfinite(before) and math.isfinite(loss):
        difference, scale = abs(before - loss), max(abs(before), abs(loss))
        if difference <= o.tol * scale:
            what = (
                f"Converged: the mean loss of the epoch changed by {difference:.2g}, "
                f"at most tol = {o.tol:g} of {scale:.6g}."
            )
            return new, Stop(CONVERGED, what)
    if o.patience is not None and new.epoch - new.best_epoch >= o.patience:
        what = (
            f"No improvement for {new.epoch - new.best_epoch} epochs (patience={o.patience}); "
            f"the best {name} = {new.best_fun:.6g} is of epoch {new.best_epoch}."
        )
        return new, Stop(PATIENCE, what)
    return new, None


def left_out(steps: int, of: int) -> str:
    """Return a sentence that says how many steps were left out."""
    why = "left out: the losses or gradients of their batches are not finite."
    if steps < of:
        return f" {steps} of {of} steps were {why}"
    return f" All {of} steps were {why} Smaller batches may help."


def tangent(value: float, gradient: np.ndarray, x: np.ndarray, at: np.ndarray) -> float:
    """Return at a point what the tangent at ``x`` says of a function."""
    at, x, g = (array.astype(np.float64) for array in (at, x, gradient))
    with np.errstate(over="ignore", invalid="ignore"):
        return value + float(((at - x) * g).sum())


def risen(first: float, end: float, dtype: DType, advice: str) -> str:
    """Return a sentence that says so if an objective ended above its start, else nothing."""
    if not end > first + 8 * float(np.finfo(dtype).eps) * max(abs(first), abs(end)):
        return ""
    return (
        f" The objective ended at {end:.6g}, above its start, {first:.6g}: this is no success. "
        f"{advice}"
    )
