"""A run of minimize whose steps are taken in compiled calls, with no Python between them."""

from __future__ import annotations

import time
import warnings
from typing import NamedTuple

import numpy as np
from numba import get_num_threads
from numba.core.errors import NumbaError

from ..kernels.certificate import LANES
from ..kernels.compile import Kernel, what_numba_says
from ..kernels.descent import LOOK, MISFIT, Counts, DescentKinds, Numbers, descent_kernel
from ..kernels.parallel import THREADED_FROM, alone
from ..kernels.plan import Plan
from ..kernels.rates import RateTable
from ..kernels.reductions import BLOCK
from ..objectives.compiled import CompiledFunction
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer
from ..prox.base import Domain
from ..scalar import ScalarFunction
from .descent import DescentRun, Evaluated
from .options import Options
from .pace import Pace
from .stopping import Monitor, Stop

# So few steps are sooner taken in Python: a call costs 60 us (2 variables) more than a step there.
FEW = 2

_NO_STEPS = np.empty(0)


class Begun(NamedTuple):
    """A call of the kernel: what it records, and what was so before it."""

    counts: np.ndarray
    numbers: np.ndarray
    t: int
    norm: float
    nit: int
    nfev: int
    njev: int


class CompiledRun(DescentRun):
    """The same run; between calls, its position is that of the run in Python."""

    def __init__(
        self,
        optimizer: Optimizer,
        objective: Objective,
        monitor: Monitor,
        domain: Domain | None,
        compiled: CompiledFunction,
    ) -> None:
        super().__init__(optimizer, objective, monitor, domain, path="compiled loop")
        method, x = self._plan.method, optimizer.params
        self._rates = RateTable(method)
        self._hyper = self._plan.hyper
        self._functions, self._kinds = loop_parts(self._plan, compiled, x.ndim)
        points = np.empty((3, *x.shape), x.dtype)
        gradients = np.empty((2, *x.shape), x.dtype)
        self._points, self._gradients = points.reshape(3, -1), gradients.reshape(2, -1)
        # Before the first step there is no gradient: entries that fun does not write stay NaN.
        gradients.fill(np.nan)
        spare = np.empty_like(x)
        self._objective = (*compiled.passed(), compiled.args)
        self._rows = (points, self._points, gradients, self._gradients, spare)
        self._scalars = tuple(np.empty(1) for _ in method.scalars)
        self._ends = x.dtype.type(0), x.dtype.type(np.nan)
        self._blocks = np.empty(-(-x.size // BLOCK) if method.measures else 0)
        self._lanes = np.empty(3 * LANES)
        if domain is not None:
            self._kinds = self._kinds._replace(memory=6)
        self._serial = descent_kernel(self._functions, self._kinds, False)
        self._pace = Pace()
        self._begun: Begun | None = None

    def evaluate(self) -> Stop | None:
        """Evaluate the objective if that is still to do, and check the iterate."""
        return self._call(0, _NO_STEPS) if self.g is None else super().evaluate()

    def advance(self, most: int | None) -> Stop | None:
        """Take at most so many steps, as many as a call may take; return why the run has ended."""
        if most is not None and most <= FEW:
            return self._advance_in_python()
        # The first step's rates are part of the diagnosis of dying ones: it is a call of its own.
        steps = self._pace.steps if self.t else 1
        if most is not None:
            steps = min(steps, most)
        start = time.perf_counter()
        table = self._rates.fill(self.t + 1, steps)
        if not table.size:
            return self._advance_in_python()  # which says what is wrong with the next rate
        if self._rates.most is not None:
            steps = min(steps, table.size)
        before = self.nit
        stop = self._call(steps, table)
        self._pace.measure(time.perf_counter() - start, self.nit - before)
        return stop

    def _advance_in_python(self) -> Stop | None:
        self._step()
        return super().evaluate()

    def _call(self, most: int, table: np.ndarray) -> Stop | None:
        """Evaluate if that is to do, take the steps, and adopt the position at their end."""
        plan, tests = self._plan, self.monitor.tests
        counts, numbers = self._enter()
        memory = () if self._sums is None else self._sums.memory(self._lanes)
        zero, nan = self._ends

        def call(kernel: Kernel, chunks: int) -> int:
            return kernel(  # type: ignore[no-any-return]
                *self._objective, *self._rows, plan.slots, plan.prox_arrays, plan.stored_rates,
                self._hyper, plan.method.weight_decay, plan.prox_coefs, plan.penalty.coefs,
                table, self._scalars, self._blocks, memory, tests, counts, numbers, most, chunks,
                zero, nan,
            )  # fmt: skip

        calls = self.objective.nfev, self.objective.njev
        self._begun = Begun(counts, numbers, self.t, self.norm, self.nit, *calls)
        try:
            threads = get_num_threads() if self._flat.size >= THREADED_FROM else 1
            if threads == 1:
                code = call(self._serial, 1)
            else:
                with alone() as free:
                    code = call(self._threaded, threads) if free else call(self._serial, 1)
        finally:
            # What the objective raises, and a Ctrl-C, which arrives when the call returns.
            self._settle()
        if code == MISFIT:
            return super().evaluate()  # Python says what is wrong with the gradient.
        self._check_written()
        if code == LOOK:
            return self.monitor.judge(self.t, self._flat, self.f, self.norm, float(numbers[-1]))
        return None

    @property
    def _threaded(self) -> Kernel:
        return descent_kernel(self._functions, self._kinds, True)

    def _enter(self) -> tuple[np.ndarray, np.ndarray]:
        """Write the position of the run to the arrays of the kernel."""
        m, points, gradients = self.monitor, self._points, self._gradients
        points[0], points[1] = self._flat, m.best_x
        points[2] = np.nan if m.previous_x is None else m.previous_x
        known = self.g is not None
        if known:
            gradients[0] = self.at.g
            self.at = self.at._replace(g=gradients[0])  # it may lie where the best one goes now
        gradients[1] = m.best_jac
        for place, value in zip(self._scalars, self.optimizer._position()[1], strict=True):
            place[0] = value
        counts = Counts(self.t, known=known, best_t=m.best_t)
        numbers = Numbers(self.f, self.norm, m.previous_fun, m.best_fun)
        return np.array(counts, np.int64), np.array(numbers, np.float64)

    def _settle(self) -> None:
        """Adopt the position recorded by the kernel; this may be repeated."""
        begun = self._begun
        if begun is not None:
            self._adopt(Counts(*begun.counts.tolist()), Numbers(*begun.numbers.tolist()), begun)
            self._begun = None
        super()._settle()

    def _adopt(self, counts: Counts, numbers: Numbers, begun: Begun) -> None:
        m, objective = self.monitor, self.objective
        points, gradients = self._points, self._gradients
        self.norm = numbers.norm
        self.nit = begun.nit + counts.taken
        objective.nfev = begun.nfev + counts.calls
        objective.njev = begun.njev + counts.calls
        if numbers.best_f < m.best_fun:
            np.copyto(m.best_x, points[counts.best])
            np.copyto(m.best_jac, gradients[counts.best_gradient])
            m.best_fun, m.best_t = numbers.best_f, counts.best_t
        m.previous_fun = numbers.previous_f
        if m.previous_x is not None:
            np.copyto(m.previous_x, points[counts.previous])
        if counts.t != begun.t:
            np.copyto(self._flat, points[counts.current])
            scalars = tuple(float(place[0]) for place in self._scalars)
            self.optimizer._move_to(counts.t, scalars)
        if begun.t == 0 and counts.t == 1:
            self._first = self._median_rate(), begun.norm
        g = gradients[counts.gradient] if counts.known else None
        self.at = Evaluated(counts.t, numbers.f, g)


def loop_parts(
    plan: Plan, compiled: CompiledFunction, dimensions: int
) -> tuple[tuple[ScalarFunction | int, ...], DescentKinds]:
    """Return what the loop of a plan's method and map is made of, and for which types."""
    method, penalty = plan.method, plan.penalty
    kinds = DescentKinds(
        plan.number.name,
        dimensions,
        compiled.kinds,
        len(plan.slots),
        len(plan.prox_arrays),
        len(plan.stored_rates),
        tuple(type(value) for value in plan.hyper),
        len(plan.prox_coefs),
        len(penalty.coefs),
        len(method.scalars),
        compiled.counted,
    )
    functions = (
        compiled.evaluate(),
        *(method.carry, method.coefficients, method.decay_coefficients),
        *(method.decay, method.rule),
        *(plan.prox.prox, penalty.residual, penalty.cost),
        len(method.measures),
    )
    return functions, kinds


def start_run(
    optimizer: Optimizer,
    objective: Objective,
    monitor: Monitor,
    domain: Domain | None,
    options: Options,
    every: int,
    average: str | None,
) -> DescentRun:
    """Return a run, compiled if the objective, method and map allow it."""
    compiled, plan = objective.compiled, optimizer._plan()
    why = why_python(objective, options, average) or plan.why_not_compilable
    if compiled is not None and why is None:
        if every > 1:
            raise ValueError(
                f"options['check_every'] is {every} with a compiled fun, expected 1: the compiled "
                "loop looks at every step as it goes"
            )
        try:
            return CompiledRun(optimizer, objective, monitor, domain, compiled)
        except NumbaError as error:
            why = f"the loop of {plan.method!r} with {plan.prox!r} does not compile"
            warnings.warn(
                f"{why}, and runs in Python: {what_numba_says(error)}",
                RuntimeWarning,
                stacklevel=4,
            )
    return DescentRun(optimizer, objective, monitor, domain, every, average, f"Python loop: {why}")


def why_python(objective: Objective, options: Options, average: str | None) -> str | None:
    """Return why the loop is in Python for the sake of the objective or the options, or None."""
    if objective.on_device:
        return "x0 lies on a CUDA device"
    if objective.compiled is None:
        return f"fun is {objective.kind}"
    if average is not None:
        return f"average={average!r}"
    return "return_all=True" if options.return_all else None
