"""A run of minimize, step by step in Python."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a median of nothing
        return np.nanmedian(kept, axis=-1) / (lr or np.nan)


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
    ) -> None:
        self.optimizer, self.objective, self.monitor = optimizer, objective, monitor
        self._group = optimizer._groups[0]
        self.nit = 0
        self.x = optimizer.params
        self._flat = self.x.reshape(-1)
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
            f, self.g = self.objective(self._flat)
            self.f = f + self._group.penalty()
            self._count()
        self.norm = float(self.optimizer.gradient_norm(self.g.reshape(self.x.shape)))
        return self.monitor.look(self.t, self._flat, self.f, self.g, self.norm)

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
        """Take at most so many steps (here, one); return why the run has ended, if it has."""
        self._step()
        return self.evaluate()

    def _step(self) -> None:
        """Take a step; one along a gradient that is not finite is left out."""
        self.nit += 1
        g, self.g = self.g, None
        if not (np.isfinite(self.f) and np.isfinite(self.norm)):
            return
        self.monitor.leave(self._flat, self.f)
        self.optimizer.step(g.reshape(self.x.shape))
        if self.t == 1:
            self._note_first(self.norm)

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
        return DescentState(
            optimizer=self.optimizer.state_dict(),
            fun=self.f,
            jac=None if self.g is None else self.g.copy(),
            best_x=m.best_x.copy(),
            best_jac=m.best_jac.copy(),
            best_fun=m.best_fun,
            best_t=m.best_t,
            previous_fun=m.previous_fun,
            previous_x=None if m.previous_x is None else m.previous_x.copy(),
            first=self._first,
            sums=None if self._sums is None else self._sums.copy(),
        )

    def restore(self, state: Any) -> None:
        """Go on from a state, or say why it does not fit."""
        state = DescentState.read(state)
        self.optimizer.load_state_dict(state.optimizer)
        self.f, self.g = state.fun, None if state.jac is None else state.jac.copy()
        m = self.monitor
        np.copyto(m.best_x, state.best_x)
        np.copyto(m.best_jac, state.best_jac)
        m.best_fun, m.best_t, m.previous_fun = state.best_fun, state.best_t, state.previous_fun
        if m.previous_x is not None and state.previous_x is not None:
            np.copyto(m.previous_x, state.previous_x)
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
            x=(m.best_x if found else self.x).reshape(self.x.shape).copy(),
            fun=m.best_fun if found else self.f,
            jac=self.objective.known(m.best_jac if found else self.g).reshape(self.x.shape),
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
