"""A run of minimize without a learning rate to tune: the rate is searched for, step by step."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..arrays import Array
from ..kernels import search_numbers as kernel
from ..kernels.compile import Kernel, Parts
from ..kernels.parallel import hands
from ..kernels.plan import Plan
from ..kernels.reductions import BLOCK
from ..kernels.search_loop import MISFIT, SearchKinds, search_kernel, search_loop
from ..kernels.search_passes import SUMS, TILE
from ..kernels.search_progress import row_to_evaluate
from ..objectives.compiled import CompiledFunction
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer
from ..prox.base import Domain
from ..regret.certificate import Sums
from .compiled_descent import loop_parts
from .descent import DescentRun, Evaluated
from .gauge import is_finite
from .pace import Pace
from .search_end import follow, judge
from .search_state import SearchState
from .state import DescentState
from .stopping import LINE_SEARCH, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

MANY = 8.0  # trials a step, on average, with a gradient that is in doubt
FAR_APART = 10.0  # units that a search begins with: nearer ones it learns from its steps
# Evaluations of a compiled call when there is no limit.
_ENDLESS = 2**62


class SearchParts(NamedTuple):
    """What the search of a plan is made of."""

    functions: Parts
    kinds: SearchKinds
    hyper: tuple[bool | float, ...]
    share: float
    """What a squared step adds to the mean of them."""
    eps: float
    ends: tuple[np.floating, np.floating]
    """Zero and NaN, as numbers of the dtype."""

    @classmethod
    def of(cls, plan: Plan) -> SearchParts:
        """Return those of a plan."""
        method, number, initial = plan.method, plan.number.type, plan.method.initial_state()
        names, hyper = method.own_fields()[1:], plan.hyper
        if not method.search_keeps_eps:
            zeros = ("eps", "eps_root")
            hyper = tuple(
                0.0 if name in zeros else number for name, number in zip(names, hyper, strict=True)
            )
        kinds = SearchKinds(
            plan.number.name,
            len(plan.slots),
            len(plan.prox_arrays),
            tuple(type(value) for value in hyper),
            len(plan.prox_coefs),
            len(plan.penalty.coefs),
            len(method.scalars),
        )
        functions = (
            *(method.carry, method.coefficients, method.decay_coefficients),
            *(method.decay, method.rule, plan.prox.prox),
            *(plan.penalty.residual, plan.penalty.cost, len(method.measures)),
            method.range_decay is not None,
            tuple(name not in method.second_moments for name in method.slots),
            tuple(float(initial.get(name, 0.0)) for name in method.slots),
            method.initial_scalars(),
            not plan.penalty.is_zero,
        )
        share, eps = 1.0 - (method.range_decay or 0.0), float(np.finfo(plan.number).eps)
        return cls(functions, kinds, hyper, share, eps, (number(0), number(np.nan)))


def work_arrays(n: int, threads: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the sums of a search over so many variables are made in."""
    blocks = -(-n // BLOCK)
    terms = np.empty((threads, SUMS, TILE))
    return np.empty(blocks), terms, np.empty((SUMS, blocks))


class SearchRun(DescentRun):
    """A run whose rate is searched for; a step is one that the search accepts."""

    def __init__(
        self,
        optimizer: Optimizer,
        objective: Objective,
        monitor: Monitor,
        domain: Domain | None,
        rtol: float | None,
        compiled: CompiledFunction | None = None,
        average: str | None = None,
        path: str = "search in Python loop",
    ) -> None:
        super().__init__(optimizer, objective, monitor, domain, average=average, path=path)
        plan = self._plan
        method = plan.method
        self._rtol = -1.0 if rtol is None else rtol
        self._parts = SearchParts.of(plan)
        self._search = SearchState.before(self._flat)
        self._scalars = tuple(np.array([value]) for value in method.initial_scalars())
        self._compiled = compiled
        if compiled is not None:
            self._objective = (*compiled.passed(), compiled.args)
            self._spare = np.empty(plan.shape, self._flat.dtype)
        self._made: dict[int, tuple[Kernel, tuple[np.ndarray, ...]]] = {}
        self._kernel(1)  # an interrupt in the compiler may leave its locks taken
        self._pace = Pace()
        self._done = np.zeros(1, np.int64)
        self._steps_before = 0
        self.failed: str | None = None
        self.first_norm = 0.0  # of a run that goes on it is not known
        self._follow()

    def begin_in(self, units: np.ndarray) -> None:
        """Begin with units of the coordinates, as if each had taken steps of that size.

        If they are near each other, the search's own steps tell more.
        """
        ratios = units / units.min(initial=np.inf)
        if ratios.max(initial=1.0) > FAR_APART:
            most = math.sqrt(float(np.finfo(self._flat.dtype).max)) / 4.0
            np.square(np.minimum(ratios, most), out=self._search.ranges, casting="same_kind")

    @property
    def plan(self) -> Plan:
        """The method and the map, as kernels take them."""
        return self._plan

    @property
    def first_fun(self) -> float:
        """The objective at the start of the search, over all runs."""
        return float(self._search.numbers[kernel.FIRST_F])

    @property
    def displacement(self) -> np.ndarray:
        """The displacement of the last direction, flat."""
        return self._search.displacement

    @property
    def rates(self) -> np.ndarray:
        """The rates of the last direction, flat, without the one that is searched for."""
        return self._search.rates

    # -- what the loop in front asks for -----------------------------------------------------------

    @property
    def t(self) -> int:
        """Steps accepted, over all runs."""
        return self._search.steps

    @property
    def g(self) -> Array:
        """Gradient at the iterate; None before it is evaluated."""
        counts = self._search.counts
        if counts[kernel.PHASE] == kernel.START:
            return None
        return self._search.gradients[counts[kernel.X]]

    def evaluate(self) -> Stop | None:
        """Evaluate the objective at the start, if that is still to do, and test the iterate."""
        if self._search.counts[kernel.PHASE] == kernel.START:
            if self._compiled is not None:
                start = time.perf_counter()
                self._run_loop(0, 1)
                self._pace.measure(time.perf_counter() - start, 1)
            else:
                self._advance_search()
            self.first_norm = float(self._search.numbers[kernel.NORM])
        self._follow()
        self._check_written()
        if self.failed is not None:
            return Stop(LINE_SEARCH, self.failed)
        return self._after(kernel.ACCEPTED)

    def advance(self, most: int | None) -> Stop | None:
        """Take a step; in compiled code as many as a call may take, at most ``most``."""
        if self._compiled is not None:
            return self._advance_compiled(most)
        while True:
            if self._search.counts[kernel.PHASE] != kernel.GO and (stop := self.limit()):
                self._follow()
                return stop
            task = self._advance_search()
            if task not in (kernel.EVALUATE, kernel.AGAIN):
                return self._after(task)

    def _kernel(self, threads: int) -> Kernel:
        """Return the compiled search, or its loop for a compiled function; made once a run."""
        if threads not in self._made:
            self._made[threads] = self._make(threads > 1), work_arrays(self._flat.size, threads)
        return self._made[threads][0]

    def _make(self, threaded: bool) -> Kernel:
        functions, kinds = self._parts.functions, self._parts.kinds
        if self._compiled is None:
            return search_kernel(functions, kinds, threaded)
        _, objective = loop_parts(self._plan, self._compiled, len(self._plan.shape))
        functions = (self._compiled.evaluate(), *functions)
        return search_loop(functions, kinds, objective, threaded)

    def _advance_search(self) -> int:
        """Evaluate if the search waits for it, and go on with it; return what is next."""
        search = self._search
        counts, value = search.counts, 0.0
        if counts[kernel.PHASE] != kernel.GO:
            row = row_to_evaluate(counts)  # type: ignore[no-untyped-call]
            value, g = self.objective(search.points[row])
            search.gradients[row] = g
        with hands(self._flat.size) as threads:
            task = int(self._kernel(threads)(value, *self._arguments(threads)))
        if task == kernel.ACCEPTED and self._sums is not None:
            self._follow()
            if is_finite(self.f, self.g):
                self._sums.add(self._flat, self.f, self.g)
        return task

    def _arguments(self, threads: int) -> tuple[object, ...]:
        s, plan, parts = self._search, self._plan, self._parts
        return (
            *(s.points, s.gradients, plan.slots, s.ranges, s.displacement, s.rates),
            *(plan.prox_arrays, parts.hyper, plan.method.weight_decay, plan.prox_coefs),
            *(plan.penalty.coefs, self._scalars, *self._made[threads][1]),
            *(s.counts, s.numbers, parts.share, parts.eps, self._rtol, threads, *parts.ends),
        )

    def _advance_compiled(self, most: int | None) -> Stop | None:
        steps = self._pace.steps if most is None else min(self._pace.steps, most)
        limit = self.monitor.evaluations_left(self.objective.nfev)
        if limit == 0 and (stop := self.limit()):
            return stop
        start, before = time.perf_counter(), self.t
        task = self._run_loop(steps, _ENDLESS if limit is None else limit)
        self._pace.measure(time.perf_counter() - start, self.t - before)
        return self._after(task)

    def _run_loop(self, steps: int, evaluations: int) -> int:
        """Take at most so many steps and evaluations in one compiled call; return what is next."""
        search, objective = self._search, self.objective
        shaped = (3, *self._plan.shape)
        nfev, njev = objective.nfev, objective.njev
        self._done[0] = 0
        try:
            with hands(self._flat.size) as threads:
                task = self._kernel(threads)(
                    *(self.monitor.tests, steps, evaluations, self._done),
                    *self._objective,
                    *(search.points.reshape(shaped), search.gradients.reshape(shaped)),
                    self._spare,
                    *self._arguments(threads),
                )
        finally:
            calls = int(self._done[0])
            objective.nfev, objective.njev = nfev + calls, njev + calls
        if task == MISFIT:
            row = row_to_evaluate(search.counts)  # type: ignore[no-untyped-call]
            objective(search.points[row])  # called from Python, it says what is wrong
            raise ValueError(f"the gradient has another shape, expected {self._plan.shape}")
        return int(task)

    def _after(self, task: int) -> Stop | None:
        """Test the iterate that the search has come to; say why the run has ended, if it has."""
        self._follow()
        stop = judge(self.monitor, self._search, task, self._rtol)
        if stop is not None and stop.status == LINE_SEARCH:
            self.failed = stop.message  # unless values are noisy, which is still to be seen
        return stop

    def again(self) -> tuple[float, np.ndarray]:
        """Evaluate the objective once more at the iterate; finite differences only its value."""
        x, penalty = self._flat, float(self._search.numbers[kernel.PENALTY])
        if self.objective.cost > 1:
            return self.objective.value(x) + penalty, self.g
        value, g = self.objective(x)
        return value + penalty, g

    def _follow(self) -> None:
        """Take over where the search stands."""
        search = self._search
        self._flat = search.points[search.counts[kernel.X]]
        self.nit = self.t - self._steps_before
        self.norm = float(search.numbers[kernel.NORM])
        self.at = Evaluated(self.t, float(search.numbers[kernel.F]), self.g)
        follow(self.monitor, search)
        self._take_average()

    # -- state and result --------------------------------------------------------------------------

    def _settle(self) -> None:
        """Nothing is begun that is not settled by the search itself."""

    def _sync(self) -> None:
        """Bring the optimizer to where the search stands."""
        counts = self._search.counts
        np.copyto(self._plan.x, self._flat)
        scalars = tuple(float(place[0]) for place in self._scalars)
        self.optimizer._move_to(int(counts[kernel.T]), scalars)

    def state(self) -> DescentState:
        """Return where the run stands."""
        self._follow()
        self._sync()
        m, known = self.monitor, self.g is not None
        return DescentState(
            optimizer=self.optimizer.state_dict(),
            fun=self.f if known else math.nan,
            jac=self.g.copy() if known else None,
            best_x=m.best_x.copy(),
            best_jac=m.best_jac.copy(),
            best_fun=m.best_fun,
            best_t=m.best_t,
            previous_fun=m.previous_fun,
            previous_x=None,
            first=self._first,
            sums=None if self._sums is None else self._sums.copy(),
            added=self._added(),
            search=self._search.copy(),
            sizes=self.objective.sizes,
            start=self.start.copy(),
            failed=self.failed,
            **self._average_so_far(),
        )

    def restore(self, state: object) -> None:
        """Go on from a state, or say why it does not fit; then nothing has been modified."""
        state = DescentState.read(state)
        if state.noise is not None:  # its bounds or penalties are others
            x = state.x.reshape(-1)
            state.check(self._flat.size, self._flat.dtype)
            self._restart(x)
            return
        if state.search is None:
            raise ValueError(
                "state is of a run with a learning rate, expected that of one with lr='auto'"
            )
        if state.x.size == self._flat.size and state.x.dtype == self._flat.dtype:
            state.check(self._flat.size, self._flat.dtype)
        self.optimizer.load_state_dict(state.optimizer)
        for place, value in zip(self._scalars, self.optimizer._position()[1], strict=True):
            place[0] = value
        same = state.added in (None, self._added())
        if same:
            self._search = state.search.copy()
            self.objective.sizes, self.failed = state.sizes, state.failed
        else:  # of another objective: begin at the last iterate, with nothing known
            self._restart(state.search.points[state.search.counts[kernel.X]])
        if self._sums is not None:
            self._sums = Sums.before(self._flat) if state.sums is None else state.sums.copy()
        self._steps_before = self._averaged_t = self.t
        if same:
            self._restore_average(state)
            self.start = self._flat.copy() if state.start is None else state.start.copy()
        self._follow()

    def _restart(self, x: np.ndarray) -> None:
        """Begin at a point, with nothing known."""
        self.optimizer.reset()
        feasible = self._plan.prox.feasible(x.reshape(self._plan.shape)).reshape(-1)
        self.start = feasible.astype(self._flat.dtype)
        self._search = SearchState.before(self.start)
        self._follow()

    def _certified(self, fun: float) -> dict[str, object]:
        """Return the certificate; the bound of the regret is one of runs at a given rate."""
        found = super()._certified(fun)
        return {**found, "regret_bound": None}

    def learning_rates(self) -> np.ndarray:
        """Return the effective rates of the last step."""
        s = self._search
        if not s.counts[kernel.STEPS]:
            return np.full(self._plan.shape, np.nan, s.rates.dtype)
        rates: np.ndarray = s.rates * s.rates.dtype.type(s.numbers[kernel.ALPHA])
        return rates.reshape(self._plan.shape)

    def result(self, stop: Stop) -> OptimizeResult:
        """Return the result of a run that has ended."""
        self._sync()
        found = super().result(stop)
        found.lr = float(self._search.numbers[kernel.ALPHA]) if self.t else math.nan
        return found

    def _diagnosis(self) -> str:
        """Say if steps took so many trials that the gradient is in doubt."""
        each = self.objective.njev / max(self.nit, 1)
        if each < MANY:
            return ""
        return (
            f" A step took {each:.0f} evaluations of the gradient on average: is it that of "
            "fun? adaptopt.check_gradient tells."
        )

    def keep_gradient(self) -> None:
        """Leave the gradient: it lies in the search's own array."""
