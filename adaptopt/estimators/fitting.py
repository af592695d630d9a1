"""One problem of a linear model, minimised: over all rows, or over those of a stream."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .. import L1, L2, ElasticNet, Method, minimize, minimize_finite_sum

# Numbers that a pass multiplies, up to which a step takes all rows: a second for some 300 steps.
WHOLE = 2_000_000
STEPS = 300  # passes over all rows, at most
ROWS = 1_000_000  # that epochs take in all, but at least 10 epochs and at most 100
BATCH = 32
# Rows that a stream collects before its rate is found; see the option "stream".
COLLECTED = 64


class Fit(NamedTuple):
    """What a run has found."""

    x: np.ndarray
    n_iter: int
    losses: np.ndarray
    state: Any
    converged: bool


class Settings(NamedTuple):
    """How to fit, read from an estimator."""

    method: str | Method
    lr: Any
    l1: float
    l2: float
    max_iter: int | None
    batch_size: str | int
    tol: float
    shuffle: bool
    average: str | None
    n_iter_no_change: int
    verbose: bool

    @property
    def searches(self) -> bool:
        """Whether the learning rate is found, if the method allows it."""
        given = self.lr if isinstance(self.method, str) else self.read_method().lr
        return isinstance(given, str)

    def read_method(self) -> Any:
        """Return the method, with the learning rate if one is given."""
        if isinstance(self.method, str) or self.lr == "auto":
            return self.method
        return replace(self.method, lr=self.lr)  # type: ignore[call-arg]  # each has one

    @property
    def options(self) -> dict[str, Any]:
        """A learning rate for a method given by name."""
        given = isinstance(self.method, str) and self.lr != "auto"
        return {"lr": self.lr} if given else {}

    def takes_all_rows(self, entries: float, validated: bool) -> bool:
        """Tell whether each step takes all rows."""
        if self.batch_size == "all":
            return True
        return self.batch_size == "auto" and not validated and self.searches and entries <= WHOLE

    def prox(self, shape: tuple[int, ...], intercept: bool) -> Any:
        """Return the map of the penalties, which leave the intercept alone."""
        strengths: list[Any] = [self.l1, self.l2]
        if intercept:
            strengths = [np.full(shape, strength) for strength in strengths]
            for array in strengths:
                array[-1] = 0.0
        l1, l2 = strengths
        if self.l1 and self.l2:
            return ElasticNet(l1, l2)
        return L1(l1) if self.l1 else (L2(l2) if self.l2 else None)


def size_of(problem: Any) -> float:
    """Return how many numbers a pass over a problem multiplies."""
    return float(problem.entries_per_row * len(problem) * max(1, problem.loss.classes))


def shape_of(problem: Any) -> tuple[int, ...]:
    """Return the shape of a problem's point."""
    return getattr(problem, "shape", (problem.n_features,))


def fit(
    problem: Any, x0: np.ndarray | None, settings: Settings, rng: Any, validation: Any = None
) -> Fit:
    """Minimise a problem's mean loss with penalties."""
    shape = shape_of(problem)
    x0 = np.zeros(shape, problem.A.dtype) if x0 is None else x0
    prox = settings.prox(shape, problem.intercept)
    method = settings.read_method()
    if settings.takes_all_rows(size_of(problem), validation is not None):
        return _whole(problem, x0, settings, prox)
    rows = len(problem)
    epochs = settings.max_iter or min(100, max(10, math.ceil(ROWS / rows)))
    options = dict(settings.options)
    if validation is not None:
        options["patience"] = settings.n_iter_no_change
    size = BATCH if settings.batch_size == "auto" else int(settings.batch_size)
    res = minimize_finite_sum(
        problem, x0, None, method=method, prox=prox, batch_size=size, epochs=epochs,
        shuffle=settings.shuffle, rng=rng, average=settings.average, validation=validation,
        tol=settings.tol if settings.max_iter else None, options=options, progress=settings.verbose,
    )  # fmt: skip
    check_finite(res)
    losses = res.epoch_losses if validation is None else res.validation_losses
    done = settings.max_iter is None or res.status != 1
    return Fit(res.x, res.epochs, losses, res.state, done)


def _whole(problem: Any, x0: np.ndarray, settings: Settings, prox: Any) -> Fit:
    """Minimise with all rows in each step."""
    steps = settings.max_iter or STEPS
    options = {"maxiter": steps, "history": True, **settings.options}
    if settings.searches:
        options["rtol"] = settings.tol
    else:
        options["ftol"] = settings.tol
    res = minimize(
        problem, x0, method=settings.read_method(), prox=prox, options=options,
        progress=settings.verbose, average=settings.average,
    )  # fmt: skip
    check_finite(res)
    losses = res.history["fun"]
    # Status 8: at a kink of the loss no step along the gradient is shorter than the way left.
    return Fit(res.x, max(res.nit, 1), losses, None, res.success or res.status == 8)


def go_on(problem: Any, state: Any, x0: np.ndarray | None, settings: Settings) -> Fit:
    """Take one pass over the next rows of a stream, in their order."""
    shape = shape_of(problem)
    dtype = problem.A.dtype if state is None else state.x.dtype
    x0 = np.zeros(shape, dtype) if x0 is None else x0
    size = settings.batch_size
    res = minimize_finite_sum(
        problem, x0, None, method=settings.read_method(),
        prox=settings.prox(shape, problem.intercept), epochs=1, shuffle=False, rng=0,
        batch_size=1 if isinstance(size, str) else int(size), average=settings.average or "last",
        options={"stream": True, **settings.options},
        state=None if state is None else state.for_rows(len(problem)),
    )  # fmt: skip
    check_finite(res)
    return Fit(res.x, 1, res.epoch_losses, res.state, True)


def check_finite(res: Any) -> None:
    """Raise an error if a run has met numbers that are not finite."""
    if res.status == 3 or not np.isfinite(res.x).all():
        raise ValueError(
            f"Floating-point under-/overflow: {res.message} Scale the columns of X, for example "
            "with StandardScaler, or lower lr if it is given."
        )
