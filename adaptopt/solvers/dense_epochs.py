"""Steps along whole gradients in compiled calls: what the loop over batches in Python does."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np
from numba.core.errors import NumbaError

from ..kernels.certificate import LANES
from ..kernels.compile import what_numba_says
from ..kernels.dense_epoch import (
    Evaluation,
    MethodParts,
    cleared,
    dense_epoch,
    over_rows,
    work_arrays,
)
from ..kernels.evaluate import IN_PLACE
from ..kernels.rates import RateTable
from ..methods.base import Method
from ..objectives.compiled import CompiledFunction
from ..objectives.finite_sum import FiniteSum
from ..optimizer.optimizer import Optimizer
from ..problems.problem import Problem
from .averaging import Average
from .online import Online
from .pace import Pace

# Coordinates from which the loop in Python takes the steps, on threads. On two of them the one
# thread of a call was still faster, but by less and less: at 115,000 coordinates 2.1 times with a
# row a batch and 1.13 times with 32, at a million 1.5 and 1.06 times. More threads gain more.
SERIAL_BELOW = 131_072


class DenseEpochs:
    """Steps over batches, to the last bit those of the loop in Python; see `of`.

    Its attributes are those of `epoch_calls.EpochCalls`.
    """

    keeps_finite = True
    norm, records = math.nan, np.empty((0, 3))

    def __init__(
        self,
        optimizer: Optimizer,
        total: FiniteSum,
        evaluation: Evaluation,
        average: Average | None,
        finite: np.ndarray,
        online: Online | None = None,
    ) -> None:
        self._plan = plan = optimizer._plan()
        self._optimizer, self._method = optimizer, (method := plan.method)
        self._average, self._finite = average, finite
        self._rates, self._hyper = RateTable(method), plan.hyper
        parts = MethodParts(
            method.carry,
            method.coefficients,
            method.decay_coefficients,
            tuple(type(value) for value in self._hyper),
            len(method.scalars),
            len(method.measures),
        )
        point = optimizer.params.reshape(-1) if evaluation.flat else optimizer.params
        self._kernel = dense_epoch(
            evaluation.function,
            evaluation.types,
            evaluation.counted,
            point.ndim,
            parts,
            plan.functions,
            plan.layout,
            online is not None,
        )
        self._online = online
        self._memory = tuple(np.empty(0) for _ in range(6))
        self._total, self._given = total, evaluation.given
        self._points = (point, optimizer.grads.reshape(point.shape), np.empty_like(point))
        self._arrays = (
            *(plan.x, optimizer.grads.reshape(-1)),
            *(plan.slots, plan.prox_arrays, plan.stored_rates),
        )
        self._scalars = tuple(np.zeros(1) for _ in method.scalars)
        self._work = work_arrays(point.size, parts.measures)
        self._pace = Pace()
        self.taken, self.losses = np.zeros(2, np.int64), np.zeros(2)
        self._t = self._count = 0

    @classmethod
    def of(
        cls,
        optimizer: Optimizer,
        total: FiniteSum,
        average: Average | None,
        finite: np.ndarray,
        online: Online | None = None,
    ) -> DenseEpochs | str:
        """Return what steps as the loop in Python would, or why nothing does.

        There is one for problems, and for compiled functions of row numbers; for methods whose
        coefficients are made of ``lr``, then of numbers; and for separable maps. ``finite`` keeps
        the last iterate of a finite loss.
        """
        plan = optimizer._plan()
        evaluation = _evaluation(total, optimizer.params)
        if isinstance(evaluation, str):
            return evaluation
        if why := plan.why_not_compilable:
            return why
        if online is not None and online.why_python:
            return online.why_python
        if plan.x.size >= SERIAL_BELOW:
            return f"{plan.x.size} coordinates are stepped on several threads"
        try:
            return cls(optimizer, total, evaluation, average, finite, online)
        except NumbaError as error:
            name = type(plan.method).__name__
            what = f"the coefficients or carry of {name} could not be compiled"
            warnings.warn(
                f"{what}, so every step goes through Python: {what_numba_says(error)}",
                RuntimeWarning,
                stacklevel=6,
            )
            return what

    def follow(self, method: Method) -> None:
        """Take the learning rates of a method, which otherwise is as before."""
        self._method, self._rates = method, RateTable(method)

    def begin(self) -> None:
        """Begin at the optimizer's step."""
        self._t = self._optimizer.t
        self._count = 0 if self._average is None else self._average.count
        for array, value in zip(self._scalars, self._optimizer._position()[1], strict=True):
            array[0] = value
        self.taken[:] = 0
        self.losses[:] = 0
        if self._online is not None:
            self._memory = self._online.begin(self._plan.x, True).memory(np.empty(3 * LANES))

    def rows_a_call(self, batch: int) -> int:
        """Return how many rows to take at once."""
        return self._pace.steps * batch

    def run(self, rows: np.ndarray, batch: int) -> bool:
        """Take the steps over rows, in batches; tell whether all values were finite."""
        start = time.perf_counter()
        steps, before = (int(count) for count in self.taken)
        rates = self._rates.fill(self._t + steps + 1, -(-rows.size // batch))
        if not rates.size:
            self._method.lr_at(self._t + steps + 1)  # It says what is wrong.
        if self._rates.most is not None:
            rows = rows[: rates.size * batch]
        mean, eta = np.empty(0), 0.0
        if self._average is not None:
            mean, eta = self._average.mean, self._average.eta
        # A copy of the rows: what a function does to them stays there.
        fits = self._kernel(
            *self._given, rows.copy(), batch, *self._points, rates, self._hyper,
            self._method.weight_decay, self._plan.prox_coefs, *self._arrays, self._scalars,
            self._finite, *self._work, mean, eta, self._count, self._t, self.losses, self.taken,
            self._memory, 0.0,
        )  # fmt: skip
        self._pace.measure(time.perf_counter() - start, int(self.taken[0]) - steps)
        if not fits:
            # Called from Python, it says what is wrong; but there a row fits a column.
            done = int(self.taken[1])
            self._total.over(self._plan.x, rows, done - before, batch)
            raise ValueError(f"the gradient has another shape, expected {self._points[0].shape}")
        return int(self.taken[1]) - before == rows.size

    def rates(self) -> np.ndarray:
        """Return the effective rates, which no history asks for here."""
        return np.asarray(self._optimizer.learning_rates()).reshape(-1)

    def end(self) -> None:
        """Move the optimizer and the average to the last step."""
        steps = int(self.taken[0])
        if not steps:
            return
        scalars = tuple(float(array[0]) for array in self._scalars)
        self._optimizer._move_to(self._t + steps, scalars)
        if self._average is not None:
            self._average.advance(self._count + steps - self._average.count)


def _evaluation(total: FiniteSum, x: np.ndarray) -> Evaluation | str:
    """Return how compiled code evaluates a batch, or why only Python can."""
    problem = total.problem
    if total.objective.compiled is not None:
        return _over_numbers(total.objective.compiled)
    if not isinstance(problem, Problem):
        return "fun is a Python function"
    if type(problem).batch is not Problem.batch:
        return f"{type(problem).__name__} evaluates batches itself"
    return over_rows(problem._rows, x)


def _over_numbers(compiled: CompiledFunction) -> Evaluation:
    """Return how a function of row numbers is evaluated."""
    evaluate = compiled.evaluate()
    if compiled.form == IN_PLACE:
        evaluate = cleared(evaluate)
    return Evaluation(
        evaluate,
        (*compiled.passed(), compiled.args),
        compiled.kinds,
        compiled.counted,
        flat=False,
    )
