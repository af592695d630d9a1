"""Where a run stands among its epochs: the best so far, and whether it is time to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .monitor import CONVERGED, PATIENCE, TARGET, Stop
from .options import EpochOptions


class Standing(NamedTuple):
    """Where a run stands, but for its iterates. A step, or an epoch, replaces it as a whole.

    An interrupt then finds the old one or the new one.
    """

    done: int = 0
    """Rows that have been taken of the current epoch."""
    order: np.ndarray | None = None
    """The order of its rows, where it is shuffled."""
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
    """Its iterate, where there is a validation."""


def judge(
    at: Standing,
    loss: float,
    validation: float | None,
    x: np.ndarray,
    options: EpochOptions,
    measured: Callable[[], float],
) -> tuple[Standing, Stop | None]:
    """End the epoch, which led to ``x``; return the new standing and why the run has ended, if so.

    If there is a validation it is what counts, else ``loss``, the epoch's mean loss with the
    penalty. A target that it meets has to be met at ``x`` too, by the objective over all rows,
    which ``measured`` returns.
    """
    name, value = ("mean loss", loss) if validation is None else ("validation", validation)
    finite = math.isfinite(value)
    new = Standing(0, None, 0.0, 0, at.epoch + 1, loss, at.best_fun, at.best_epoch, at.best_x)
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
