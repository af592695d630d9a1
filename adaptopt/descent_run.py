"""A run of minimize, step by step in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import placement
from .descent_state import DescentState
from .history import dying_rate
from .monitor import CONVERGED, MAXITER, SUCCESS, Monitor, Stop
from .objective import Objective
from .optimizer import Optimizer
from .proximal import Domain
from .regret import Sums, gap

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["FIXED", "DescentRun", "median_rates"]


FIXED = Stop(CONVERGED, "All independent variables were fixed by bounds.")


def median_rates(method: Any, rates: np.ndarray, t: int) -> Any:
    """Return the medians of effective rates along the last axis, over a schedule's learning rate.

    Coordinates that have not seen a gradient do not count: their rate is lr / eps or the like. NaN
    where that is so of all of them, or the learning rate is 0.
    """
    lr = method.lr_at(t)
    kept = rates
    if method.slots and method.rate is not None and not method.scalars:
        kept = np.where(rates < _rate_of_nothing(method, t) * (1 - 1e-6), rates, np.nan)
    # NumPy warns of a median of nothing, and filters of warnings are those of all threads.
    nothing = np.isnan(kept).all(axis=-1)
    median = np.nanmedian(np.where(nothing[..., None], 0.0, kept), axis=-1)
    return np.where(nothing, np.nan, median) / (lr or np.nan)


def _rate_of_nothing(method: Any, t: int) -> float:
    """Return the effective rate of a coordinate that has seen no gradient."""
    initial = method.initial_state()
    slots = [initial.get(name, 0.0) for name in method.slots]
    try:
        return float(method.rate(*slots, *method.coefficients_at(t)[1]))
    except ZeroDivisionError:
        return np.inf


class DescentRun:
    """The iterate, what is known about it, and what moves and watches it."""

    def __init__(
        self,
        optimizer: Optimizer,
        objective: Objective,
        monitor: Monitor,
        domain: Domain | None,
        every: int = 1,
    ) -> None:
        self.optimizer, self.objective, self.monitor = optimizer, objective, monitor
        self._group = optimizer._groups[0]
        self._every = every
        self.nit = 0
        self.x = optimizer.params
        self._flat = self._group.flat
        # The first step since the last look whose value or gradient was not finite.
        self._strange: int | None = None
        self._domain = domain
        self._sums = None if domain is None else Sums.before(self._flat)
        self.f, self.norm = np.nan, np.nan
        self.g: Any = None
        self._first = (np.nan, np.nan)

    @property
    def t(self) -> int:
        """Steps of the optimizer."""
        return self.optimizer.t

    def evaluate(self) -> Stop | None:
        """Evaluate the objective where that is still to do, and look at the iterate."""
        if self.g is None:
            self._evaluate()
        moved = self._look()
        return self.monitor.look(
            self.t, self._flat, self.g, self.f, self.norm, moved, self._strange
        )

    def _evaluate(self) -> None:
        """Evaluate the objective at the iterate."""
        f, self.g = self.objective(self._flat)
        self.f = f + self._group.penalty()
        self._count()

    def _look(self) -> float:
        """Measure the iterate; return how far the last step has moved it, where that is asked."""
        self.norm = float(self.optimizer.gradient_norm(self._shaped(self.g)))
        before = self.monitor.previous_x
        return np.nan if before is None else float(np.max(np.abs(self._flat - before)))

    def _watch(self) -> None:
        """Remember the iterate's step where its value or gradient is not finite."""
        if self._strange is None and not self._finite():
            self._strange = self.t

    def _count(self) -> None:
        """Count the evaluated iterate into the certificate."""
        if self._sums is not None and self._finite():
            self._sums.add(self._flat, self.f, self.g)

    def _finite(self) -> bool:
        return self.g is not None and bool(np.isfinite(self.f) and np.isfinite(self.g).all())

    def limit(self) -> Stop | None:
        """Say whether the budget forbids one more step."""
        return self.monitor.limit(self.nit, self.objective.nfev, self.objective.cost)

    def advance(self, most: int | None) -> Stop | None:
        """Take steps up to the next look, at most so many; return why the run has ended, if so."""
        steps = self._every - self.t % self._every
        for _ in range(min(steps, most or steps) - 1):
            self._step(seen=False)
            self._evaluate()
            self._watch()
        self._step()
        return self.evaluate()

    def _step(self, seen: bool = True) -> None:
        """Take a step, to an iterate that is looked at, or not.

        One along a gradient that is known not to be finite is left out.
        """
        self.nit += 1
        g, self.g = self.g, None
        if self._every == 1 and not (np.isfinite(self.f) and np.isfinite(self.norm)):
            return
        if seen:
            self._leave()
        self.optimizer.step(self._shaped(g))
        if self.t == 1:
            self._note_first(self.norm)

    def _shaped(self, g: Any) -> Any:
        return g.reshape(self.x.shape)

    def _leave(self) -> None:
        """Remember the iterate that the step to the next look starts from."""
        self.monitor.leave(self._flat, self.f)

    def _note_first(self, norm: float) -> None:
        """Remember the first step and its gradient's norm, for the diagnosis of dying rates."""
        self._first = (self._median_rate(), norm)

    def _median_rate(self) -> float:
        """Return the median effective rate, over the learning rate that a schedule gives."""
        method = self.optimizer.method
        if not method.rates_only_fall:
            return np.nan
        return float(median_rates(method, self.optimizer.learning_rates().reshape(-1), self.t))

    def state(self) -> DescentState:
        """Return where the run stands."""
        m = self.monitor
        f, g = self._known()
        return DescentState(
            optimizer=self.optimizer.state_dict(),
            fun=f,
            jac=g,
            best_x=placement.on_host(m.best_x),
            best_jac=placement.on_host(m.best_jac),
            best_fun=m.best_fun,
            best_t=m.best_t,
            previous_fun=m.previous_fun,
            previous_x=None if m.previous_x is None else placement.on_host(m.previous_x),
            first=self._first,
            sums=None if self._sums is None else self._sums.copy(),
        )

    def _known(self) -> tuple[float, np.ndarray | None]:
        """Return value and gradient on the host, where they are known.

        Once something was not finite, they are not: no part of the run that goes on is a success.
        """
        if self._strange is not None:
            return np.nan, np.full(self._flat.shape, np.nan, self._flat.dtype)
        return self.f, None if self.g is None else placement.on_host(self.g)

    def restore(self, state: Any) -> None:
        """Go on from a state, or say why it does not fit."""
        state = DescentState.read(state)
        self.optimizer.load_state_dict(state.optimizer)
        self.f = state.fun
        self.g = None if state.jac is None else placement.moved(state.jac.copy(), self._flat)
        m = self.monitor
        placement.copy(m.best_x, state.best_x)
        placement.copy(m.best_jac, state.best_jac)
        m.best_fun, m.best_t, m.previous_fun = state.best_fun, state.best_t, state.previous_fun
        if m.previous_x is not None and state.previous_x is not None:
            placement.copy(m.previous_x, state.previous_x)
        self._first = state.first
        if self._sums is not None and state.sums is not None:
            self._sums = state.sums.copy()
        elif self._sums is not None:
            self._sums = Sums.before(self._flat)
            self._count()

    def result(self, stop: Stop) -> OptimizeResult:
        """Return the result of a run that has ended."""
        from scipy.optimize import OptimizeResult

        m = self.monitor
        found = np.isfinite(m.best_fun)
        message = stop.message
        if stop.status == MAXITER:
            message += dying_rate(self._first, (self._median_rate(), self.norm), self.t)
        return OptimizeResult(
            x=self.shown(m.best_x if found else self._flat),
            fun=m.best_fun if found else self.f,
            jac=self.shown(self.objective.known(m.best_jac if found else self.g)),
            nit=self.nit,
            nfev=self.objective.nfev,
            njev=self.objective.njev,
            status=stop.status,
            success=stop.status in SUCCESS,
            message=message,
            learning_rates=self.optimizer.learning_rates(),
            state=self.state(),
            **self._certified(),
        )

    def iterate(self) -> Any:
        """Return a copy of the iterate, as the user is to see it."""
        return self.shown(self._flat)

    def shown(self, flat: Any) -> Any:
        """Return a copy of a flat array as the user is to see it."""
        return flat.reshape(self.x.shape).copy()

    def _certified(self) -> dict[str, Any]:
        """Return what is known of the minimum over a bounded domain."""
        names = ("x_average", "certificate", "lower_bound", "regret_bound")
        sums, m = self._sums, self.monitor
        if self._domain is None or sums is None or not sums.rounds:
            return dict.fromkeys(names)
        domain = self._domain
        certificate = sums.worst_regret(domain) / sums.rounds
        tangent = m.best_fun - gap(m.best_x, m.best_fun, m.best_jac, domain)
        bound = None
        # Where it has seen the whole run, and the gradients are all that there is.
        if sums.rounds == self.t + self._finite() and not (domain.l1 or domain.l2):
            widths = domain.hi - domain.lo
            bound = self.optimizer.method.regret_bound(sums.squared_gradients, widths)
        average = sums.average().reshape(self.x.shape).astype(self.x.dtype)
        lower_bound = max(sums.loss / sums.rounds - certificate, tangent)
        return dict(zip(names, (average, certificate, lower_bound, bound), strict=True))
