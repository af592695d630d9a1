"""Watch a run: keep its best iterate and say when it is time to stop, and why."""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

from . import placement, stopping
from .options import Options

__all__ = [
    "CALLBACK",
    "CONVERGED",
    "MAXITER",
    "NONFINITE",
    "PATIENCE",
    "SUCCESS",
    "TARGET",
    "Monitor",
    "Stop",
    "Timer",
    "non_finite",
]

CONVERGED, MAXITER, MAXFEV, NONFINITE, MAXTIME, TARGET, PATIENCE, CALLBACK = 0, 1, 2, 3, 4, 5, 6, 99
SUCCESS = (CONVERGED, TARGET)


class Stop(NamedTuple):
    """Why a run ended."""

    status: int
    message: str


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
    """Return what follows from ``nan_policy`` where something that is not finite was returned."""
    if policy == "raise":
        raise FloatingPointError(what)
    return None if policy == "omit" else Stop(NONFINITE, what)


class Monitor:
    """Sees the iterates of a run that are looked at.

    Parameters
    ----------
    options : Options
        The stopping tests.
    x : ndarray or CUDA array
        The flat iterate, for its place, shape and dtype.

    Attributes
    ----------
    best_x, best_jac, best_fun, best_t
        The best finite iterate so far, its gradient, value and step.
    tests : tuple
        What `stopping.reason` takes last.
    """

    def __init__(self, options: Options, x: Any) -> None:
        self._options = options
        self.tests = stopping.read_tests(
            options.f_target, options.gtol, options.ftol, options.xtol, options.patience
        )
        self._timer = Timer(options.maxtime)
        self.best_x, self.best_jac = _filled(x, math.nan), _filled(x, math.nan)
        placement.copy(self.best_x, x)
        self.best_fun, self.best_t = math.inf, 0
        self.previous_fun = math.nan
        self.previous_x = None if options.xtol is None else _filled(x, math.nan)

    def look(
        self, t: int, x: Any, g: Any, f: float, norm: float, moved: float, strange: int | None
    ) -> Stop | None:
        """Take in the iterate of step ``t``; return why the run has ended, if it has.

        ``strange`` is the first step since the last look whose value or gradient was not finite.
        """
        if strange is not None:
            return self._non_finite(f"value or gradient that is not finite at step {strange}")
        if f < self.best_fun and math.isfinite(f) and math.isfinite(norm):
            placement.copy(self.best_x, x)
            placement.copy(self.best_jac, g)
            self.best_fun, self.best_t = f, t
        return self.judge(t, f, norm, moved)

    def judge(self, t: int, f: float, norm: float, moved: float) -> Stop | None:
        """Return why the run has ended at the iterate of step ``t``, if it has, by its numbers."""
        if not math.isfinite(f):
            return self._non_finite(f"value {f} at step {t}")
        if not math.isfinite(norm):
            return self._non_finite(f"gradient with a non-finite entry at step {t}")
        since_best = t - self.best_t
        why = stopping.reason(f, norm, self.previous_fun, moved, since_best, *self.tests)
        return self._stop(why, t, f, norm, moved) if why else None

    def leave(self, x: Any, f: float) -> None:
        """Remember the iterate that the step to the next look starts from."""
        self.previous_fun = f
        if self.previous_x is not None:
            placement.copy(self.previous_x, x)

    def limit(self, nit: int, nfev: int, cost: int) -> Stop | None:
        """Say whether the budget forbids one more step, which takes ``cost`` evaluations."""
        o = self._options
        if o.maxiter is not None and nit >= o.maxiter:
            return Stop(MAXITER, f"Maximum number of iterations (maxiter={o.maxiter}) reached.")
        if o.maxfev is not None and nfev + cost > o.maxfev:
            return Stop(
                MAXFEV, f"Maximum number of function evaluations (maxfev={o.maxfev}) reached."
            )
        return self._timer.limit()

    def _non_finite(self, what: str) -> Stop | None:
        stop = non_finite(f"The objective returned a {what}.", self._options.nan_policy)
        if stop is not None and math.isfinite(self.best_fun):
            best = f" x is the best finite iterate, of step {self.best_t}."
            return stop._replace(message=stop.message + best)
        return stop

    def _stop(self, why: int, t: int, f: float, norm: float, moved: float) -> Stop:
        o = self._options
        if why == stopping.TARGET:
            return Stop(TARGET, f"Target reached: f = {f:.6g} <= f_target = {o.f_target:g}.")
        if why == stopping.PATIENCE:
            return Stop(
                PATIENCE,
                f"No improvement for {t - self.best_t} steps (patience={o.patience}); "
                f"the best f = {self.best_fun:.6g} is of step {self.best_t}.",
            )
        if why == stopping.GTOL:
            met = f"gradient norm {norm:.2g} <= gtol = {o.gtol:g}"
        elif why == stopping.FTOL:
            change = stopping.relative_change(f, self.previous_fun)
            met = f"relative change of f {change:.2g} <= ftol = {o.ftol:g}"
        else:
            met = f"last step {moved:.2g} <= xtol = {o.xtol:g}"
        return Stop(CONVERGED, f"Converged: {met}.")


def _filled(like: Any, value: float) -> Any:
    """Return a flat array beside another, with one number everywhere."""
    array = placement.empty(like.size, like.dtype, like)
    placement.fill(array, value)
    return array
