"""Why a search for the learning rate has ended."""

from __future__ import annotations

import math

from ..kernels import search_numbers as kernel
from ..kernels.search_progress import has_converged, promise_left
from .search_state import EndedSearch, SearchState
from .stopping import CONVERGED, LINE_SEARCH, NONFINITE, Monitor, Stop


def follow(monitor: Monitor, search: SearchState | EndedSearch) -> None:
    """Let a monitor know the best point of a search and the value before."""
    counts, numbers = search.counts, search.numbers
    best = float(numbers[kernel.BEST_F])
    monitor.best_fun = best if math.isfinite(best) else math.inf
    monitor.best_t = int(counts[kernel.BEST_T])
    monitor.best_x = search.points[counts[kernel.BEST]]
    monitor.best_jac = search.gradients[counts[kernel.BEST]]
    monitor.previous_fun = float(numbers[kernel.PREVIOUS_F])


def judge(
    monitor: Monitor, search: SearchState | EndedSearch, task: int, rtol: float
) -> Stop | None:
    """Return why a search has ended that a call has left with a task, if it has."""
    counts, numbers = search.counts, search.numbers
    t, x = int(counts[kernel.STEPS]), search.points[counts[kernel.X]]
    f, norm, promised = (float(numbers[k]) for k in (kernel.F, kernel.NORM, kernel.ASKED))
    if task == kernel.NOT_FINITE:
        return Stop(
            NONFINITE,
            f"None of the {counts[kernel.TRIALS]} trial points of step {t + 1} has a finite "
            "objective: it is undefined there, or unbounded below. x is the best finite iterate.",
        )
    if task not in (kernel.FAILED, kernel.AT_REST):
        stop = monitor.judge(t, x, f, norm, float(numbers[kernel.MOVED]) if t else math.nan)
        if stop is None and has_converged(numbers, counts, rtol):  # type: ignore[no-untyped-call]
            if counts[kernel.JUMPS]:
                return Stop(
                    LINE_SEARCH,
                    "Stalled: steps lower f no further, but near x it does not change as the "
                    "gradient says. The gradient jumps, is noisy, or is not that of fun.",
                )
            left = float(promise_left(numbers, counts))  # type: ignore[no-untyped-call]
            return Stop(
                CONVERGED,
                f"Converged: none of the last {kernel.PROMISES} steps promised to lower f, or "
                f"lowered it, by more than {left:.1g} of its fall so far, <= rtol = {rtol:g}.",
            )
        return stop
    if norm == 0.0:
        return Stop(CONVERGED, "Converged: the gradient, with bounds and penalties, is zero.", True)
    if task == kernel.AT_REST:
        return Stop(
            CONVERGED,
            "Converged to rounding: no step along the search direction changes f by more than "
            f"rounding does; the gradient norm is {norm:.2g}.",
        )
    if not counts[kernel.TRIALS]:
        return Stop(
            LINE_SEARCH,
            f"The line search failed at step {t}: no step promises to lower f. The gradient jumps, "
            "or is not that of fun. x is the best iterate.",
        )
    return Stop(
        LINE_SEARCH,
        f"The line search failed at step {t}: the gradient promises that f falls by "
        f"{-promised:.2g}, and at {counts[kernel.TRIALS]} trial points it does not. Values are "
        "noisy, or jac is not the gradient of fun. x is the best iterate.",
    )
