"""Epochs of a problem over CSR rows in compiled calls, if method and proximal map allow it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import DType
from ..kernels.averages import fold_kernel
from ..kernels.classes_epoch import make_classes_epoch
from ..kernels.rates import RateTable
from ..kernels.records import FIELDS
from ..kernels.rounds import GRADIENTS, NONE, POINTS
from ..kernels.sparse_epoch import RATES, STEPS, SparseEpoch, make_sparse_epoch
from ..methods import decay
from ..methods.base import Method
from ..methods.momentum import sgd_rate, stays
from ..optimizer.optimizer import Optimizer
from ..optimizer.table import misses_steps, moves_alone, sums_rates, why_not_exact
from ..problems.problem import Problem
from ..prox.base import Proximal
from ..scalar import LONGEST, ScalarFunction
from .averaging import Average
from .online import Online, PackedSums

# Entries of the matrix in one call: some hundredths of a second, after which Ctrl-C and limits of
# time are seen.
ENTRIES = 2_000_000


def _kept(method: Method, number: DType) -> tuple[float, ...]:
    """Return the factor of a coordinate that decays in a step."""
    coefficients: ScalarFunction = decay.decoupled_decay_coefficients
    return tuple(map(number.type, coefficients(method.lr_at(1), method.weight_decay)))


class SparseEpochs:
    """Steps over batches of rows at the cost of their nonzeros; see `of`.

    Its attributes are those of `epoch_calls.EpochCalls`.
    """

    keeps_finite = False

    def __init__(
        self,
        optimizer: Optimizer,
        problem: Problem,
        prox: Proximal,
        average: Average | None = None,
        touched: bool = False,
        every: int = 0,
        online: Online | None = None,
    ) -> None:
        plan = optimizer._plan()
        method, penalty = plan.method, plan.penalty
        self._plan = plan
        self._optimizer, self._method = optimizer, method
        A = problem.A
        number = plan.number
        hyper = plan.hyper
        arrays, scalars = prox.parameters(optimizer.params.shape, number)
        mapped = prox.prox, prox.repeat
        self._decays = bool(method.weight_decay) and not touched
        if self._decays:
            mapped, scalars = (decay.stays, decay.decayed_repeatedly), _kept(method, number)
        lazy = 0
        if misses_steps(method, prox) and not touched:
            lazy = RATES if not prox.is_projection and sums_rates(method, prox) else STEPS
        self._sums_rates = lazy == RATES
        self._online, self._sums = online, PackedSums()
        self._past, self._base = np.zeros(1), 0  # sums of the rates of the steps after a base
        stay = touched or not moves_alone(method, prox)
        self._plays = NONE
        if online is not None:
            self._plays = POINTS if stay and online.wants_points is not False else GRADIENTS
        self._rates = RateTable(method)
        self._kernels = SparseEpoch(
            (problem.loss.value, problem.loss.slope),
            (
                *(method.carry, method.coefficients, method.decay_coefficients, method.decay),
                *(method.rule, method.rate or sgd_rate, method.idle or stays),
            ),
            (*mapped, penalty.residual),
            not penalty.is_zero,
            every > 0,
            lazy,
            self._plays,
            make_classes_epoch if problem.loss.classes else make_sparse_epoch,
            (
                number.name,
                A.dtype.name,
                A.indices.dtype.name,
                tuple(type(value) for value in hyper),
                len(problem.loss.params),
                len(method.slots),
                len(arrays),
                len(scalars),
                len(plan.stored_rates),
                len(method.scalars),
                len(penalty.coefs),
            ),
        )
        self._every, self._residual_coefs = every, penalty.coefs
        self._spare = np.zeros(plan.x.size if every and not penalty.is_zero else 0, number)
        self.norm, self.records = math.nan, np.empty((0, FIELDS))
        self._stored, self._scalars = plan.stored_rates, tuple(np.zeros(1) for _ in method.scalars)
        self._rows = (A.data, A.indices, A.indptr, problem.targets, problem.weights)
        self._params = problem.loss.params
        self._hyper = hyper
        self._prox_coefs = scalars
        self._state = (plan.x, plan.slots, tuple(w.astype(number) for w in arrays))
        n = plan.x.size
        self._last, *self._rest = self._scratch(problem)
        classes = max(1, problem.loss.classes)
        self._intercept = n - classes if problem.intercept else -1
        self._width = max(1, int(A.nnz) * classes // max(1, int(A.shape[0])))
        self.taken, self.losses = np.zeros(2, np.int64), np.zeros(2)
        self._t = self._caught_up = 0
        self._average, self._count = average, 0
        # Up to which iterate each coordinate is in the average.
        self._averaged = np.zeros(n if average is not None else 0, np.int64)

    def _scratch(self, problem: Problem) -> tuple[Any, ...]:
        """Return what the kernel writes to besides the state.

        Steps at which coordinates were last touched, a gradient and the coordinates that it has,
        and one row's coordinates, slots, arrays of the map and last steps. With classes it is a
        prediction instead of a row.
        """
        (x, slots, prox_arrays), number = self._state, self._state[0].dtype
        longest = problem.loss.classes or int(np.diff(problem.A.indptr).max(initial=0))
        return (
            np.zeros(x.size, np.int64),
            np.zeros(x.size, number),
            np.zeros(x.size, np.intp),
            np.zeros(longest, number),
            tuple(np.zeros(longest, number) for _ in slots),
            tuple(np.zeros(longest, number) for _ in prox_arrays),
            np.zeros(longest, np.int64),
        )

    @classmethod
    def of(
        cls,
        optimizer: Optimizer,
        problem: object,
        prox: Proximal,
        average: Average | None = None,
        touched: bool = False,
        every: int = 0,
        online: Online | None = None,
    ) -> SparseEpochs | str:
        """Return what steps as the optimizer would, or why nothing does.

        There is one for sparse matrices, if what a coordinate misses while it has no gradient has a
        closed form (`optimizer.table.why_not_exact`): for SGD, Momentum, AdaGrad, RMSProp,
        AdaGradDA and FTRL. Weight decay has one at a constant rate and without a proximal map, if
        it is decoupled or the method is SGD, for which both are the same. An average takes in a
        coordinate that stays where it is when that is touched next. With ``touched``, coordinates
        without a gradient are left alone, which every method allows.
        """
        if not isinstance(problem, Problem) or not problem.is_sparse:
            return "fun is no problem over a sparse matrix"
        if type(problem).batch is not Problem.batch:
            return f"{type(problem).__name__} evaluates batches itself"
        plan = optimizer._plan()
        method = plan.method
        name = type(method).__name__
        if why := plan.why_not_compilable:
            return why
        if every and problem.loss.classes:
            return "losses of several classes record no history in compiled calls"
        if problem.loss.classes and plan.x.dtype != problem.A.dtype:
            return f"rows of {problem.A.dtype} with x0 of {plan.x.dtype}, for several classes"
        if method.measures:
            return f"{name} measures the whole gradient"
        if online is not None and online.why_python:
            return online.why_python
        if touched:
            return cls(optimizer, problem, prox, average, touched, every, online)
        if why := why_not_exact(method, prox, with_sums=True):
            return why
        if method.weight_decay and type(prox) is not Proximal:
            return f"{name} has weight_decay besides a proximal map"
        if method.weight_decay and callable(method.lr):  # type: ignore[attr-defined]
            return f"{name} has weight_decay at rates that change"
        if average is not None and moves_alone(method, prox):
            return "an average takes in coordinates that move without a gradient at every step"
        if online is not None and online.wants_points and moves_alone(method, prox):
            return "a tracker with points=True sums coordinates that move without a gradient"
        return cls(optimizer, problem, prox, average, touched, every, online)

    def follow(self, method: Method) -> None:
        """Take the learning rates of a method, which otherwise is as before."""
        self._method, self._rates = method, RateTable(method)
        if self._decays:
            self._prox_coefs = _kept(method, self._plan.number)

    def begin(self) -> None:
        """Begin at the optimizer's step, with all coordinates brought up to it."""
        self._t = self._optimizer.t
        for array, value in zip(self._scalars, self._optimizer._position()[1], strict=True):
            array[0] = value
        self._last.fill(self._t)
        self._past, self._base = np.zeros(1), self._t
        self.taken[:] = 0
        self.losses[:] = 0
        self._caught_up = 0
        if self._average is not None:
            self._count = self._average.count
            self._averaged.fill(self._count)
        if self._online is not None:
            points = self._plays == POINTS
            self._sums.begin(self._online.begin(self._state[0], points), points)

    def rows_a_call(self, batch: int) -> int:
        """Return how many rows to take at once."""
        return max(1, min(ENTRIES // self._width // batch, LONGEST)) * batch

    def run(self, rows: np.ndarray, batch: int) -> bool:
        """Take the steps over rows, in batches; tell whether all values were finite."""
        before = int(self.taken[1])
        if int(self.taken[0]) - self._caught_up + -(-rows.size // batch) > LONGEST:
            self._catch_up()
        first, rows, rates = self._rated(rows, batch)
        here = np.zeros(2, np.int64)
        averaged, mean, eta = self._count + int(self.taken[0]), np.empty(0), 0.0
        if self._average is not None:
            mean, eta = self._average.mean, self._average.eta
        steps = -(-rows.size // batch)
        past = self._past
        if self._sums_rates:
            past = np.concatenate([past, past[-1] + np.cumsum(rates[1:])])
        records = np.full(1 + FIELDS * (steps // self._every + 1 if self._every else 0), math.nan)
        recorded = np.zeros(1, np.int64)
        try:
            self._kernels.epoch(
                *self._rows, self._params, rows, batch, rates, self._hyper, self._prox_coefs,
                *self._state, self._last, *self._rest, self._intercept, first - 1,
                self.losses, here, mean, self._averaged, averaged, eta,
                self._method.weight_decay, self._stored, self._scalars, self._every,
                self._residual_coefs, self._spare, records, recorded, self._sums.rounds, past,
                self._base, 0.0,
            )  # fmt: skip
        finally:
            # A Ctrl-C arrives when the call returns.
            self.taken += here
            if self._sums_rates:
                self._past = past[: self._past.size + int(here[0])]
            stop = 1 + FIELDS * int(recorded[0])
            self.norm, self.records = float(records[0]), records[1:stop].reshape(-1, FIELDS)
        return int(self.taken[1]) - before == rows.size

    def _rated(self, rows: np.ndarray, batch: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the next step, the rows whose steps have a known rate, and the rates.

        These are the rate of the step before and those of the steps; or the one that all share.
        """
        first = self._t + int(self.taken[0]) + 1
        rates = self._rates.fill(first, -(-rows.size // batch))
        if not rates.size:
            self._method.lr_at(first)  # It says what is wrong.
        if self._rates.most is None:
            return first, rows, rates
        before = self._method.lr_at(first - 1) if first > 1 else rates[0]
        return first, rows[: rates.size * batch], np.concatenate([[before], rates])

    def _catch_up(self) -> None:
        """Bring all coordinates up to the last step."""
        self._caught_up = int(self.taken[0])
        if self._kernels.catch_up is None:
            return
        t = self._t + self._caught_up
        lr = 1.0 if self._sums_rates else self._method.lr_at(max(t, 1))
        self._kernels.catch_up(
            lr, self._hyper, self._prox_coefs, *self._state, self._last, t, self._scalars,
            self._past, self._base, 0.0,
        )  # fmt: skip
        self._past, self._base = np.zeros(1), t

    def rates(self) -> np.ndarray:
        """Return the effective rates of the last step, after bringing all coordinates up to it."""
        self._catch_up()
        if self._stored:
            return np.asarray(self._stored[0])
        t = self._t + int(self.taken[0])
        scalars = tuple(float(array[0]) for array in self._scalars)
        plan = self._plan._replace(method=self._method)
        rates: np.ndarray = plan.rates_after(t, self._state[1], scalars, self._last.size)
        return rates

    def end(self) -> None:
        """Bring all coordinates up to the last step; and move optimizer and average there."""
        self._catch_up()
        t = self._t + int(self.taken[0])
        self._sums.settle(self._state[0])
        self._optimizer._move_to(t, tuple(float(array[0]) for array in self._scalars))
        if self._average is not None:
            x, average = self._state[0], self._average
            count = self._count + int(self.taken[0])
            fold_kernel(x.dtype.name)(average.mean, self._averaged, x, count, average.eta)
            average.advance(count - average.count)
