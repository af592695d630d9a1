"""A run of minimize, step by step in Python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..methods.base import Method
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer
from ..prox.base import Domain
from ..regret.certificate import Sums, gap
from .added import added_to
from .averaging import Average
from .gauge import Gauge, gauge_of, is_finite
from .history import dying_rate, never_lower, short_steps
from .state import DescentState
from .stopping import CONVERGED, MAXITER, SUCCESS, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


FIXED = Stop(CONVERGED, "All independent variables were fixed by bounds.")


def median_rates(method: Method, rates: np.ndarray, t: int) -> np.ndarray:
    """Return the medians of effective rates along the last axis, over a schedule's learning rate.

    Coordinates that have not seen a gradient do not count: their rate is lr / eps or the like. NaN
    if that is so of all of them, or the learning rate is 0.
    """
    if not t:
        return np.full(rates.shape[:-1], np.nan)[()]
    lr = method.lr_at(t)
    kept = rates
    if method.slots and method.rate is not None and not method.scalars:
        kept = np.where(rates < _rate_of_nothing(method, t) * (1 - 1e-6), rates, np.nan)
    # NumPy warns of a median of nothing, and filters of warnings are those of all threads.
    nothing = np.isnan(kept).all(axis=-1)
    median = np.nanmedian(np.where(nothing[..., None], 0.0, kept), axis=-1)
    return np.where(nothing, np.nan, median) / (lr or np.nan)


def _rate_of_nothing(method: Method, t: int) -> float:
    """Return the effective rate of a coordinate that has seen no gradient."""
    initial = method.initial_state()
    slots = [initial.get(name, 0.0) for name in method.slots]
    assert method.rate is not None
    try:
        return float(method.rate(*slots, *method.coefficients_at(t)[1]))
    except ZeroDivisionError:
        return np.inf


class Evaluated(NamedTuple):
    """What the objective returned. An evaluation replaces it as a whole."""

    t: int = -1
    """The step of the iterate: after one more, nothing is known."""
    f: float = math.nan
    """Value there, with penalties."""
    g: Array = None
    """Gradient there; None if it is to be evaluated (again)."""
    rounds: int = 0
    """Rounds of the certificate, this one included."""


class DescentRun:
    """The iterate, what is known about it, and what moves and watches it.

    An interrupt may come at any line. What is changed in place is therefore begun in an attribute
    and settled by what may be repeated: `state` does so, too.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        objective: Objective,
        monitor: Monitor,
        domain: Domain | None,
        every: int = 1,
        average: str | None = None,
        path: str = "Python loop",
    ) -> None:
        self.path = path
        self.optimizer, self.objective, self.monitor = optimizer, objective, monitor
        self._average = None if average is None else Average(average, objective.flat)
        self._averaged_t = 0
        self._plan = optimizer._plan()
        self.gauge: Gauge = gauge_of(optimizer, objective, penalised=True)
        self._every = every
        self.nit = 0
        self._flat, self._backend = objective.flat, objective.backend
        self._domain = domain
        self._sums = None if domain is None else Sums.before(self._flat)
        self.start = self._backend.duplicate(self._flat)  # of this call
        self.can_search = False
        self.norm = math.nan
        self.at = Evaluated()
        self._found: Evaluated | None = None  # an evaluation that is still to be settled
        self._first = (math.nan, math.nan)

    @property
    def t(self) -> int:
        """Steps of the optimizer."""
        return self.optimizer.t

    @property
    def f(self) -> float:
        """Value at the iterate evaluated last, with penalties."""
        return self.at.f

    @property
    def g(self) -> Array:
        """Gradient at the iterate; None if it is to be evaluated."""
        return self.at.g if self.at.t == self.t else None

    def evaluate(self) -> Stop | None:
        """Evaluate the objective if that is still to do, and check the iterate."""
        if self.g is None:
            self._evaluate()
        moved = self._measure()
        self._check_written()
        t, f, g, _ = self.at
        return self.monitor.check(t, self._flat, g, f, self.norm, moved, self.gauge.nonfinite)

    def _evaluate(self) -> None:
        """Evaluate the objective at the iterate."""
        value, g = self.objective(self._flat)
        f = self.gauge.value(value)
        rounds = 0 if self._sums is None else self._sums.rounds + is_finite(f, g)
        self._found = Evaluated(self.t, f, g, rounds)
        self._settle()

    def _settle(self) -> None:
        """Account for the evaluation and the step begun last; this may be repeated."""
        found = self._found
        if found is not None:
            if self._sums is not None and self._sums.rounds < found.rounds:
                self._sums.add(self._flat, found.f, found.g)
            self.at, self._found = found, None
        self._take_average()
        if self.t == 1 and self.nit and math.isnan(self._first[1]):
            self._first = (self._median_rate(), self.norm)

    def _take_average(self) -> None:
        """Take the iterate into the average, unless it is in it."""
        if self._average is not None and self.t > self._averaged_t:
            self._average.update(self._flat)
            self._averaged_t = self.t

    def _check_written(self) -> None:
        """Say so if the first gradient is not one because nothing was written to it."""
        if self.t == 0 and math.isnan(self.norm):
            self.objective.check_written(self._flat)

    def _measure(self) -> float:
        """Measure the iterate; return how far the last step has moved it, if that is asked."""
        m = self.monitor
        found = self.gauge.measure(self.at.f, self.at.g, m.previous_x)
        self.norm = found.norm
        if found.f != self.at.f:
            self.at = self.at._replace(f=found.f)
        self.gauge.settle()
        if not math.isnan(found.previous_f):
            m.previous_fun = found.previous_f
        return found.moved

    def keep_gradient(self) -> None:
        """Copy the gradient: a callback may call ``fun``, which may use its array again."""
        if self.g is not None:
            self.at = self.at._replace(g=self._backend.duplicate(self.g))

    def _is_finite(self) -> bool:
        return self.g is not None and is_finite(self.f, self.g)

    def limit(self) -> Stop | None:
        """Say whether the budget forbids one more step."""
        return self.monitor.limit(self.nit, self.objective.nfev, self.objective.cost)

    def advance(self, most: int | None) -> Stop | None:
        """Take steps up to the next check, at most so many; return why the run has ended, if so."""
        steps = self._every - self.t % self._every
        for _ in range(min(steps, most or steps) - 1):
            self._step(checked=False)
            self._evaluate()
            self.gauge.watch(self.at.f, self.at.g, self.t)
        self._step()
        return self.evaluate()

    def _step(self, checked: bool = True) -> None:
        """Take a step, to an iterate that is checked, or not.

        One along a gradient that is known not to be finite is left out.
        """
        self.nit += 1
        if self._every == 1 and not (math.isfinite(self.f) and math.isfinite(self.norm)):
            self.at = self.at._replace(g=None)
            return
        if checked:
            self.monitor.leave(self.t, self._flat, self.f)
            self.gauge.leave()
        self.optimizer.step(self.objective.exchange.shaped(self.at.g))
        self._settle()

    def _median_rate(self) -> float:
        """Return the median effective rate, over the learning rate that a schedule gives."""
        method = self.optimizer.method
        if not method.rates_only_fall or self.objective.on_device:
            return math.nan  # a device would have to sort all rates
        return float(median_rates(method, self.learning_rates().reshape(-1), self.t))

    def state(self) -> DescentState:
        """Return the state of the run."""
        self._settle()
        m = self.monitor
        m.settle()
        f, g = self._known()
        previous_fun, previous_x = m.before(self.t)
        return DescentState(
            optimizer=self.optimizer.state_dict(),
            fun=f,
            jac=g,
            best_x=self._backend.to_host(m.best_x),
            best_jac=self._backend.to_host(m.best_jac),
            best_fun=m.best_fun,
            best_t=m.best_t,
            previous_fun=previous_fun,
            previous_x=None if previous_x is None else self._backend.to_host(previous_x),
            first=self._first,
            sums=None if self._sums is None else self._sums.copy(),
            added=self._added(),
            sizes=self.objective.sizes,
            **self._average_so_far(),
        )

    def _average_so_far(self) -> dict[str, Any]:
        average = self._average
        if average is None or not average.count:
            return {}
        mean = self._backend.to_host(average.mean)
        return {"average": mean, "average_kind": average.kind, "average_count": average.count}

    def _restore_average(self, state: DescentState) -> None:
        """Go on with the average of a state; one that it does not have begins now."""
        self._averaged_t = self.t
        if self._average is not None and state.average_kind == self._average.kind:
            assert state.average is not None
            self._average.restore(state.average, state.average_count)

    def _added(self) -> str:
        """Return a digest of what is added to the function."""
        return added_to(self._plan.method, self._plan.prox)

    def _known(self) -> tuple[float, np.ndarray | None]:
        """Return value and gradient on the host, if they are known.

        Once something was not finite, they are not: no part of the run that goes on is a success.
        """
        if self.g is not None and self.gauge.pending:
            self._measure()
        elif self.gauge.nonfinite is None:
            self.gauge.update()
        if self.gauge.nonfinite is not None:
            return math.nan, np.full(self._flat.shape, np.nan, self._flat.dtype)
        g = self.g
        return (math.nan, None) if g is None else (self.f, self._backend.to_host(g))

    def restore(self, state: object) -> None:
        """Go on from a state, or say why it does not fit; then nothing has been modified."""
        state = DescentState.read(state)
        if state.x.size == self._flat.size and state.x.dtype == self._flat.dtype:
            state.check(self._flat.size, self._flat.dtype)
        self.optimizer.load_state_dict(state.optimizer)
        self._backend.copy(self.start, self._flat)
        if state.added not in (None, self._added()):
            self._averaged_t = self.t
            self._begin_anew()
            self._backend.wait(self._flat)
            return
        self._restore_average(state)
        self.objective.sizes = state.sizes
        if state.jac is not None:
            g = self._backend.from_host(state.jac.copy(), self._flat)
            self.at = Evaluated(self.t, state.fun, g)
        m = self.monitor
        self._backend.copy(m.best_x, state.best_x)
        self._backend.copy(m.best_jac, state.best_jac)
        m.best_fun, m.best_t, m.previous_fun = state.best_fun, state.best_t, state.previous_fun
        if m.previous_x is not None and state.previous_x is not None:
            self._backend.copy(m.previous_x, state.previous_x)
        self._first = state.first
        if self._sums is not None and state.sums is not None:
            self._sums = state.sums.copy()
        elif self._sums is not None:
            self._sums = Sums.before(self._flat)
            if self._is_finite():
                self._sums.add(self._flat, self.f, self.g)
        self._backend.wait(self._flat)

    def _begin_anew(self) -> None:
        """Know nothing about the iterate: what was known is of another objective."""
        feasible = self._backend.feasible(self._plan.prox, self._flat, self._plan.shape)
        self._backend.copy(self._flat, feasible)
        self._backend.copy(self.monitor.best_x, feasible)
        self.monitor.best_t = self.t
        if self._sums is not None:
            self._sums = Sums.before(self._flat)

    def result(self, stop: Stop) -> OptimizeResult:
        """Return the result of a run that has ended."""
        from .results import Result

        x, fun, jac = self._answer(stop)
        message = stop.message
        if stop.status == MAXITER:
            message += self._diagnosis()
        return Result(
            x=self.objective.exchange.shown(x),
            fun=fun,
            jac=self.objective.shown_gradient(jac),
            nit=self.nit,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            status=stop.status,
            success=stop.status in SUCCESS,
            message=message,
            learning_rates=self.learning_rates(),
            state=self.state(),
            **self._certified(fun),
        )

    def _diagnosis(self) -> str:
        """Say why the budget may not have been enough, if that can be told."""
        if self.nit and self.monitor.best_t == 0 and math.isfinite(self.monitor.best_fun):
            return never_lower(self.can_search)
        if dying := dying_rate(self._first, (self._median_rate(), self.norm), self.t):
            return dying
        return short_steps(self._onward(), self.can_search)

    def _onward(self) -> float:
        """Return the cosine between the way from the start and the descent of the gradient.

        NaN if one step more may be as long as half the way: then steps are not short.
        """
        if self.g is None:
            return math.nan
        x, start, g, rates = (
            self._backend.to_host(array).astype(np.float64).reshape(-1)
            for array in (self._flat, self.start, self.g, self.learning_rates())
        )
        way = x - start
        with np.errstate(all="ignore"):
            length = np.sqrt((way * way).sum())
            if not np.sqrt(np.square(rates * g).sum()) < 0.5 * length:
                return math.nan
            return float(-(way * g).sum() / (length * np.sqrt((g * g).sum())))

    def _answer(self, stop: Stop) -> tuple[Array, float, Array]:
        """Return the point that the run has come to, and value and gradient there."""
        m, average = self.monitor, self._average
        averaged = average is not None and average.count and stop.status not in SUCCESS
        if average is not None and averaged and self._backend.is_finite(average.mean):
            x = self._backend.rounded(average.mean, self._flat.dtype)
            # Rounding may carry a mean of points of a convex set out of the set.
            x = self._backend.feasible(self._plan.prox, x, self._plan.shape)
            value, g = self.objective(x)
            return x, self.gauge.number(value) + self.gauge.penalty(x), g
        if m.answers_here(stop) or not math.isfinite(m.best_fun):
            return self._flat, self.f, self.g
        return m.best_x, m.best_fun, m.best_jac

    def learning_rates(self) -> Array:
        """Return the effective rates of the last step."""
        return self.optimizer.learning_rates()

    def iterate(self) -> Array:
        """Return a copy of the iterate, as the user is to see it."""
        return self.objective.exchange.shown(self._flat)

    def _certified(self, fun: float) -> dict[str, object]:
        """Return what is known of the minimum over a bounded domain, and of the value found."""
        names = ("x_average", "certificate", "lower_bound", "regret_bound")
        sums, m = self._sums, self.monitor
        if self._domain is None or sums is None or not sums.rounds:
            return dict.fromkeys(names)
        domain = self._domain
        certificate = sums.worst_regret(domain) / sums.rounds
        tangent = m.best_fun - gap(m.best_x, m.best_fun, m.best_jac, domain)
        bound = None
        # Where it has seen the whole run, and the gradients are all that there is.
        if sums.rounds == self.t + self._is_finite() and not (domain.l1 or domain.l2):
            with np.errstate(over="ignore"):  # of bounds near the largest number
                widths = domain.hi - domain.lo
            bound = self.optimizer.method.regret_bound(sums.squared_gradients, widths)
        average = sums.average().reshape(self._plan.shape).astype(self._flat.dtype)
        lower_bound = max(sums.loss / sums.rounds - certificate, tangent)
        # The last iterate may be above the best by what rounding and its gradient explain.
        certificate = max(certificate, fun - lower_bound)
        return dict(zip(names, (average, certificate, lower_bound, bound), strict=True))
