"""One problem of a linear model, minimised: over all rows, or over those of a stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import adaptopt as _public

from .. import L1, L2, ElasticNet, Method, minimize, minimize_finite_sum
from .units import Units

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

    from ..problems import Problem
    from ..prox.base import Proximal
    from ..solvers.state import EpochState

# Numbers that a pass multiplies, up to which a step takes all rows: a second for some 300 steps.
WHOLE = 2_000_000
STEPS = 300  # passes over all rows, at most
ROWS = 1_000_000  # that epochs take in all, but at least 10 epochs and at most 100
BATCH = 32
# Rows that a stream collects before its rate is found; see the option "stream".
COLLECTED, DIFFERENT, LONGEST = 64, 16, 1024
_OVERFLOW = "Floating-point under-/overflow"
_ADVICE = "Scale the columns of X, for example with StandardScaler, or lower lr if it is given."


class Fit(NamedTuple):
    """What a run has found."""

    x: np.ndarray
    n_iter: int
    losses: np.ndarray
    state: EpochState | None
    converged: bool


class Settings(NamedTuple):
    """How to fit, read from an estimator."""

    method: str | Method
    lr: float | str | Callable[[int], float]
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
        """Whether the learning rate is found."""
        if not isinstance(self.method, str):
            return isinstance(self.read_method().lr, str)
        made = named(self.method)
        possible = made is None or (made.has_objective and not made.from_sums and not made.rowwise)
        return possible and isinstance(self.lr, str)

    def read_method(self) -> Any:
        """Return the method, with the learning rate if one is given."""
        if isinstance(self.method, str) or self.lr == "auto":
            return self.method
        return replace(self.method, lr=self.lr)  # type: ignore[call-arg]  # each has one

    @property
    def options(self) -> dict[str, object]:
        """A learning rate for a method given by name."""
        given = isinstance(self.method, str) and self.lr != "auto"
        return {"lr": self.lr} if given else {}

    def joins_rows(self, entries: float, validated: bool) -> bool:
        """Tell whether the rows are so few that equal ones are joined, in a copy."""
        if self.batch_size == "all":
            return True
        return self.batch_size == "auto" and not validated and self.searches and entries <= WHOLE

    def prox(self, problem: Problem, units: Units | None) -> Proximal | None:
        """Return the map of the penalties, which leave the intercept alone."""
        l1, l2 = (self._strengths(power, problem, units) for power in (1, 2))
        if self.l1 and self.l2:
            return ElasticNet(l1, l2)
        return L1(l1) if self.l1 else (L2(l2) if self.l2 else None)

    def _strengths(self, power: int, problem: Problem, units: Units | None) -> float | np.ndarray:
        strength = self.l1 if power == 1 else self.l2
        if units is None and not problem.intercept:
            return strength
        shape = shape_of(problem)
        each: float | np.ndarray = strength
        if units is not None:
            each = units.strengths(strength, power, problem.A.dtype)
        strengths = np.zeros(shape)
        own = strengths[:-1] if problem.intercept else strengths
        own[...] = np.reshape(each, (-1, *(1,) * (len(shape) - 1)))
        return strengths


def named(name: str) -> Method | None:
    """Return the method of a name; None if there is none, which the minimisers refuse."""
    for known, made in vars(_public).items():
        if known.lower() == name.lower() and isinstance(made, type) and issubclass(made, Method):
            return made()
    return None


def rows_for_a_rate(y: np.ndarray) -> int:
    """Return how many rows of a stream it takes to find a rate; more than there are if too few.

    They are 64 rows, 16 of which have another target than the first; but at most 1,024.
    """
    other = np.flatnonzero(y != y[:1])
    if other.size < DIFFERENT:
        return LONGEST
    return min(max(COLLECTED, int(other[DIFFERENT - 1]) + 1), LONGEST)


def order_for_a_rate(y: np.ndarray) -> np.ndarray:
    """Return an order of the first rows of a stream in which the pilot sees targets that differ."""
    rows = np.arange(len(y))
    if np.count_nonzero(y[: COLLECTED // 2] != y[:1]) < DIFFERENT // 4:
        return np.random.default_rng(0).permutation(rows)
    return rows


def size_of(problem: Problem) -> float:
    """Return how many numbers a pass over a problem multiplies."""
    return float(problem.entries_per_row * len(problem) * max(1, problem.loss.classes))


def shape_of(problem: Problem) -> tuple[int, ...]:
    """Return the shape of a problem's point."""
    return getattr(problem, "shape", (problem.n_features,))


def fit(
    problem: Problem, x0: np.ndarray | None, settings: Settings, rng: int,
    validation: Problem | None = None, units: Units | None = None,
) -> Fit:  # fmt: skip
    """Minimise a problem's mean loss with penalties; its rows and the validation's have units."""
    shape = shape_of(problem)
    if x0 is not None and units is not None:
        x0 = units.to_point(x0, problem.intercept)
    x0 = np.zeros(shape, problem.A.dtype) if x0 is None else x0
    prox = settings.prox(problem, units)
    if settings.batch_size == "all":
        found = _whole(problem, x0, settings, prox)
    else:
        found = _epochs(problem, x0, settings, prox, rng, validation)
    return _in_units(found, problem, units)


def _in_units(found: Fit, problem: Problem, units: Units | None) -> Fit:
    """Return what has been found for the rows as they came."""
    if units is None:
        return found
    x = units.from_point(found.x, problem.intercept)
    check_point(x)
    losses = found.losses if units.targets is None else units.targets.losses(found.losses)
    return found._replace(x=x, losses=losses)


def _epochs(
    problem: Problem,
    x0: np.ndarray,
    settings: Settings,
    prox: Proximal | None,
    rng: int,
    validation: Problem | None,
) -> Fit:
    """Minimise in epochs of batches."""
    rows = len(problem)
    epochs = settings.max_iter or min(100, max(10, math.ceil(ROWS / rows)))
    options = dict(settings.options)
    if validation is not None:
        options["patience"] = settings.n_iter_no_change
    size = BATCH if settings.batch_size == "auto" else int(settings.batch_size)
    res = minimize_finite_sum(
        problem, x0, None, method=settings.read_method(), prox=prox, batch_size=size, epochs=epochs,
        shuffle=settings.shuffle, rng=rng, average=settings.average, validation=validation,
        tol=settings.tol if settings.max_iter else None, options=options, progress=settings.verbose,
    )  # fmt: skip
    check_finite(res)
    losses = res.epoch_losses if validation is None else res.validation_losses
    done = settings.max_iter is None or res.status != 1
    return Fit(res.x, res.epochs, losses, res.state, done)


def _whole(problem: Problem, x0: np.ndarray, settings: Settings, prox: Proximal | None) -> Fit:
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


def go_on(
    problem: Problem,
    state: EpochState | None,
    x0: np.ndarray | None,
    settings: Settings,
    units: Units | None,
) -> Fit:
    """Take one pass over the next rows of a stream, in their order; they have the units."""
    shape = shape_of(problem)
    dtype = problem.A.dtype if state is None else state.x.dtype
    if x0 is not None and units is not None:
        x0 = units.to_point(x0, problem.intercept)
    x0 = np.zeros(shape, dtype) if x0 is None else x0
    size = settings.batch_size
    res = minimize_finite_sum(
        problem, x0, None, method=settings.read_method(),
        prox=settings.prox(problem, units), epochs=1, shuffle=False, rng=0,
        batch_size=1 if isinstance(size, str) else int(size), average=settings.average or "last",
        options={"stream": True, **settings.options},
        state=None if state is None else state.for_rows(len(problem)),
    )  # fmt: skip
    check_finite(res)
    return _in_units(Fit(res.x, 1, res.epoch_losses, res.state, True), problem, units)


def check_finite(res: OptimizeResult) -> None:
    """Raise an error if a run has met numbers that are not finite."""
    if res.status == 3:
        raise ValueError(f"{_OVERFLOW}: {res.message} {_ADVICE}")
    check_point(res.x)


def check_point(x: np.ndarray) -> None:
    """Raise an error if coefficients are not finite."""
    if not np.isfinite(x).all():
        raise ValueError(f"{_OVERFLOW} in coef_, expected finite coefficients. {_ADVICE}")
