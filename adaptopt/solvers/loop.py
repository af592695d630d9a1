"""The loop of minimize: check, step, and tell those who watch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array
from .descent import FIXED, DescentRun
from .history import History
from .options import Options
from .reporting import call_back
from .stopping import CALLED_BACK, Stop


class Loop:
    """The loop, and what it records of the runs of one call, of which one may follow another.

    Parameters
    ----------
    options : Options
        When to stop and what to record.
    every : int
        Steps between two checks.
    callback : callable or None
        What `read_callback` returned.
    first : ndarray
        The starting point, as the user is to see it.
    """

    def __init__(
        self, options: Options, every: int, callback: Callable[..., object] | None, first: Array
    ) -> None:
        self._options, self._every, self._callback = options, every, callback
        self.history = History(options.history, options.history_rates)
        self.allvecs = [first]

    def take(self, run: DescentRun, bar: Callable[..., None], is_fixed: bool) -> Stop:
        """Take steps until the run has ended; return why.

        With ``is_fixed``, bounds fix all variables.
        """
        opts = self._options
        stop = run.evaluate()
        if is_fixed and np.isfinite(run.monitor.best_fun):
            stop = FIXED
        self.record(run, stop is not None)
        while stop is None and not (stop := run.limit()):
            before = run.nit
            stop = run.advance(self._most(run))
            bar(run.f, run.nit - before)
            if opts.return_all and run.nit > before:
                self.allvecs.append(run.iterate())
            self.record(run, stop is not None)
            turns = run.nit // opts.callback_every - before // opts.callback_every
            if self._callback is not None and turns:
                run.keep_gradient()
                told = {"x": run.iterate(), "fun": run.f, "nit": run.nit}
                if call_back(self._callback, run, nfev=run.objective.nfev, **told):
                    stop = CALLED_BACK
        return stop

    def record(self, run: DescentRun, last: bool) -> None:
        """Record the iterate if its turn has come, or if it is the last."""
        self.history.record(run.t, run.f, run.norm, run.learning_rates, last=last)

    def _most(self, run: DescentRun) -> int | None:
        """Return for how many steps nobody wants to look, or None; the budget allows at least one.

        If not every step is checked, callbacks and the history come with the next that is.
        """
        opts, limits = self._options, []
        if opts.maxiter is not None:
            limits.append(opts.maxiter - run.nit)
        if opts.maxfev is not None:
            limits.append((opts.maxfev - run.objective.nfev) // run.objective.cost)
        if self._callback is not None and self._every == 1:
            limits.append(opts.callback_every - run.nit % opts.callback_every)
        if opts.history and self._every == 1:
            limits.append(opts.history - run.t % opts.history)
        return min(limits, default=None)
