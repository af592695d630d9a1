"""The loop behind every front end: evaluate, look, step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from .descent_state import DescentState
from .history import History, dying_rate
from .monitor import CALLBACK, CONVERGED, MAXITER, SUCCESS, Monitor, Stop
from .objective import Objective, read_start
from .optimizer import Optimizer
from .options import read_options
from .proximal import Box, Proximal
from .regret import Sums
from .reporting import display, progress_bar, read_callback, state_on_error

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["descend"]


def descend(
    method: Any,
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Callable[..., Any] | None = None,
    options: Any = None,
    *,
    prox: Proximal | None = None,
    state: DescentState | str | PathLike[str] | None = None,
    progress: bool = False,
) -> OptimizeResult:
    """Minimise ``fun``; the arguments are those of `adaptopt.minimize`."""
    if not (constraints is None or (isinstance(constraints, tuple | list) and not constraints)):
        raise ValueError(
            f"constraints is {constraints!r}, expected none: only bounds are supported"
        )
    for name, unused in (("hess", hess), ("hessp", hessp)):
        if unused is not None:
            warnings.warn(
                f"Method {type(method).__name__} does not use Hessian information ({name}).",
                RuntimeWarning,
                stacklevel=3,
            )
    method, opts = read_options(method, options)
    x, box, prox = read_start(x0, bounds, prox)
    run = _Run(
        Optimizer(x, method, prox),
        Objective(fun, jac, args, x, opts.fd_method, box),
        Monitor(opts, x.reshape(-1)),
        prox,
        _read_domain(prox, x.shape) if opts.certificate else None,
    )
    if state is not None:
        run.restore(state)
    callback = read_callback(callback)
    history = History(opts.history)
    allvecs = [x.copy()]
    nit = 0

    with (
        progress_bar(progress, opts.maxiter, type(method).__name__) as bar,
        state_on_error(run, "minimize"),
    ):
        stop = run.evaluate()
        if box is not None and not box.leaves_free() and np.isfinite(run.monitor.best_fun):
            stop = Stop(CONVERGED, "All independent variables were fixed by bounds.")
        history.record(run.t, run.f, run.norm, run.optimizer, last=stop is not None)
        while stop is None and not (stop := run.limit(nit)):
            nit += 1
            run.step()
            stop = run.evaluate()
            bar(run.f)
            if opts.return_all:
                allvecs.append(x.copy())
            history.record(run.t, run.f, run.norm, run.optimizer, last=stop is not None)
            if callback is not None and nit % opts.callback_every == 0:
                try:
                    callback(_intermediate(run, nit))
                except StopIteration:
                    stop = Stop(CALLBACK, "`callback` raised `StopIteration`.")
        history.record(run.t, run.f, run.norm, run.optimizer, last=True)

    result = run.result(stop, nit)
    result.history = history.arrays()
    if opts.return_all:
        result.allvecs = allvecs
    if opts.disp:
        display(result)
    return result


class _Run:
    """The iterate, what is known about it, and what moves and watches it."""

    def __init__(
        self,
        optimizer: Optimizer,
        objective: Objective,
        monitor: Monitor,
        prox: Proximal,
        domain: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.optimizer, self.objective, self.monitor = optimizer, objective, monitor
        self._penalty = prox.penalty
        self.x = optimizer.params
        self._flat = self.x.reshape(-1)
        self._domain = domain
        self._sums = None if domain is None else Sums.before(self._flat)
        self.f, self.norm = np.nan, np.nan
        self.g: Any = None
        self._first = (np.nan, np.nan)

    @property
    def t(self) -> int:
        return self.optimizer.t

    def evaluate(self) -> Stop | None:
        """Evaluate the objective where that is still to do, and look at the iterate."""
        if self.g is None:
            f, self.g = self.objective(self._flat)
            self.f = f + self._penalty(self.x)
            self._count()
        self.norm = float(self.optimizer.gradient_norm(self.g.reshape(self.x.shape)))
        return self.monitor.look(self.t, self._flat, self.f, self.g, self.norm)

    def _count(self) -> None:
        """Count the evaluated iterate into the certificate."""
        if self._sums is not None and self._finite():
            self._sums.add(self._flat, self.f, self.g)

    def _finite(self) -> bool:
        return self.g is not None and bool(np.isfinite(self.f) and np.isfinite(self.g).all())

    def limit(self, nit: int) -> Stop | None:
        return self.monitor.limit(nit, self.objective.nfev, self.objective.cost)

    def step(self) -> None:
        """Take a step; one along a gradient that is not finite is left out."""
        g, self.g = self.g, None
        if not (np.isfinite(self.f) and np.isfinite(self.norm)):
            return
        self.monitor.leave(self._flat, self.f)
        self.optimizer.step(g.reshape(self.x.shape))
        if self.t == 1:
            self._first = (self._median_rate(), self.norm)

    def _median_rate(self) -> float:
        """Return the median effective rate, over the learning rate that a schedule gives."""
        method = self.optimizer.method
        if not method.rates_only_fall:
            return np.nan
        return float(np.median(self.optimizer.learning_rates()) / method.lr_at(self.t))

    def state(self) -> DescentState:
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

    def result(self, stop: Stop, nit: int) -> OptimizeResult:
        from scipy.optimize import OptimizeResult

        m = self.monitor
        found = np.isfinite(m.best_fun)
        message = stop.message
        if stop.status == MAXITER and self._first[0] > 0 and self._first[1] > 0:
            message += dying_rate(self._first, (self._median_rate(), self.norm), self.t)
        return OptimizeResult(
            x=(m.best_x if found else self.x).reshape(self.x.shape).copy(),
            fun=m.best_fun if found else self.f,
            jac=self.objective.known(m.best_jac if found else self.g).reshape(self.x.shape),
            nit=nit,
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
        """Return what is known of the minimum over a bounded domain, where it was asked for."""
        names = ("x_average", "certificate", "lower_bound", "regret_bound")
        sums, m = self._sums, self.monitor
        if self._domain is None or sums is None or not sums.rounds:
            return dict.fromkeys(names)
        lo, hi = self._domain
        certificate = sums.worst_regret(lo, hi, 0.0, 0.0) / sums.rounds
        best, g = (array.astype(np.float64) for array in (m.best_x, m.best_jac))
        tangent = m.best_fun - float(np.maximum(g * (best - lo), g * (best - hi)).sum())
        bound = None
        if sums.rounds == self.t + self._finite():  # it has seen the whole run
            bound = self.optimizer.method.regret_bound(sums.squared_gradients, hi - lo)
        average = sums.average().reshape(self.x.shape).astype(self.x.dtype)
        lower_bound = max(sums.loss / sums.rounds - certificate, tangent)
        return dict(zip(names, (average, certificate, lower_bound, bound), strict=True))


def _read_domain(prox: Proximal, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat bounds of a bounded domain, which a certificate needs."""
    if not isinstance(prox, Box) and type(prox) is not Proximal:
        raise ValueError(
            f"options['certificate'] is True with prox {prox!r}, expected bounds alone: the "
            "certificate of minimize knows no penalties (that of regret.Tracker does)"
        )
    lo, hi = (prox.lo, prox.hi) if isinstance(prox, Box) else (-np.inf, np.inf)
    if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
        raise ValueError(
            "options['certificate'] is True without finite bounds on every variable, expected "
            "bounds such as Bounds(-10, 10)"
        )
    low, high = (np.broadcast_to(bound, shape).flatten() for bound in (lo, hi))
    return low, high


def _intermediate(run: _Run, nit: int) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    return OptimizeResult(x=run.x.copy(), fun=run.f, nit=nit, nfev=run.objective.nfev)
