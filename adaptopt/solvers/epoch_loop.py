"""The loop over epochs: sweep, judge, save, call back, until there is a reason to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..arrays import Array
from .reporting import call_back, display, progress_bar, state_on_error
from .stopping import CALLED_BACK, MAXITER, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    from .block_rounds import BlockRounds
    from .epochs import EpochRun


def run_epochs(
    run: EpochRun | BlockRounds,
    shown: Callable[[], Array],
    steps: int,
    epochs: int,
    callback: Callable[[OptimizeResult], object] | None,
    progress: bool,
    unit: str = "step",
) -> OptimizeResult:
    """Go on for so many epochs, or until there is a reason to stop.

    ``shown`` returns the iterate that a callback is told, and ``unit`` is what a progress bar
    counts, ``steps`` of them.
    """
    opts = run.options
    run.plan(steps)
    stop: Stop | None = None
    with (
        progress_bar(progress, steps, type(run.optimizer.method).__name__, unit) as bar,
        state_on_error(run, "minimize_finite_sum"),
    ):
        while stop is None and (stop := run.sweep(bar)) is None:
            stop = run.close()
            if run.epochs % opts.callback_every == 0:
                if opts.checkpoint is not None:
                    run.state().save(opts.checkpoint)
                if callback is not None and call_back(callback, run, **_told(run, shown())):
                    stop = CALLED_BACK
            if stop is None and run.epochs >= epochs:
                stop = Stop(MAXITER, f"All epochs (epochs={epochs}) are done.")
        run.history.record(run.t, run.f, run.norm, run.optimizer.learning_rates, last=True)
        result = run.result(stop)
    if opts.disp:
        display(result)
    return result


def _told(run: EpochRun | BlockRounds, x: Array) -> dict[str, object]:
    """Return what a callback is told at the end of an epoch."""
    return {
        "x": x,
        "fun": run.judged,
        "epoch": run.epochs,
        "nit": run.nit,
        "nfev": run.nfev,
        "validation": run.validation_losses[-1] if run.validation_losses else None,
    }
