"""The loop behind every front end: evaluate, look, step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.base import Method, minimise_by
from ..objectives.function import Objective
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..prox.base import Domain, Proximal
from .compiled_descent import start_run
from .descent import FIXED, DescentRun
from .descent_state import DescentState
from .history import History
from .monitor import CALLBACK, Monitor, Stop
from .options import Options, read_options, warn_of_eps
from .reporting import display, progress_bar, read_callback, state_on_error

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


@minimise_by
def descend(
    method: Method,
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
    by_scipy: bool = False,
) -> OptimizeResult:
    """Minimise ``fun``; the arguments are those of `adaptopt.minimize`.

    ``by_scipy`` says that `scipy.optimize.minimize` has passed on the options that it does not
    know.
    """
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
    overrides_eps = "eps" in (options or {})
    if overrides_eps and by_scipy and jac is not None:
        warn_of_eps(method, stacklevel=5)
    method, opts = read_options(method, options)
    x, box, prox = read_start(x0, bounds, prox)
    optimizer = Optimizer(x, method, prox)
    objective = Objective(fun, jac, args, x, opts.fd_method, box, batch=())
    every = opts.checks_every(objective.on_device)
    if overrides_eps and objective.cost > 1:
        warn_of_eps(method, stacklevel=4)
    domain = read_domain(method, prox, objective, opts.certificate, objective.is_convex)
    monitor = Monitor(opts, objective.flat, method.has_objective)
    run = start_run(optimizer, objective, monitor, domain, opts, every)
    if state is not None:
        run.restore(state)
    callback = read_callback(callback)
    history = History(opts.history)
    allvecs = [run.iterate()]

    with (
        progress_bar(progress, opts.maxiter, type(method).__name__) as bar,
        state_on_error(run, "minimize"),
    ):
        stop = run.evaluate()
        if box is not None and not box.leaves_free() and np.isfinite(run.monitor.best_fun):
            stop = FIXED
        history.record(run.t, run.f, run.norm, run.optimizer, last=stop is not None)
        while stop is None and not (stop := run.limit()):
            before = run.nit
            stop = run.advance(_most(opts, run, every, callback is not None))
            bar(run.f, run.nit - before)
            if opts.return_all:
                allvecs.append(run.iterate())
            history.record(run.t, run.f, run.norm, run.optimizer, last=stop is not None)
            turns = run.nit // opts.callback_every - before // opts.callback_every
            if callback is not None and turns:
                run.keep_gradient()
                try:
                    callback(_intermediate(run))
                except StopIteration:
                    stop = Stop(CALLBACK, "`callback` raised `StopIteration`.")
        history.record(run.t, run.f, run.norm, run.optimizer, last=True)
        result = run.result(stop)
    result.history = history.arrays()
    if opts.return_all:
        result.allvecs = allvecs
    if opts.disp:
        display(result)
    return result


def read_domain(
    method: Method, prox: Proximal, objective: Objective, wanted: bool | None, convex: bool
) -> Domain | None:
    """Return the bounded domain of a certificate, if the function is known or said to be convex."""
    if objective.on_device:
        if wanted:
            raise ValueError(
                "options['certificate'] is True with x0 a CUDA array, expected None: every iterate "
                "and gradient would be copied to the host, where it is summed"
            )
        return None
    if not (convex if wanted is None else wanted):
        return None
    domain = prox.domain()
    if domain is not None and domain.is_bounded:
        return domain.plus(*method.penalty).flat(objective.shape)
    if wanted and domain is None:
        raise ValueError(
            f"options['certificate'] is True with prox {prox!r}, expected bounds and at most a "
            "penalty L1, L2 or ElasticNet of one strength: the certificate knows no others"
        )
    if wanted:
        raise ValueError(
            "options['certificate'] is True without finite bounds on every variable, expected "
            "bounds such as Bounds(-10, 10)"
        )
    return None


def _most(opts: Options, run: DescentRun, every: int, calls_back: bool) -> int | None:
    """Return for how many steps nobody wants to look, or None; the budget allows at least one.

    Where not every step is looked at, callbacks and the history come with the next that is.
    """
    limits = []
    if opts.maxiter is not None:
        limits.append(opts.maxiter - run.nit)
    if opts.maxfev is not None:
        limits.append((opts.maxfev - run.objective.nfev) // run.objective.cost)
    if calls_back and every == 1:
        limits.append(opts.callback_every - run.nit % opts.callback_every)
    if opts.history and every == 1:
        limits.append(opts.history - run.t % opts.history)
    return min(limits, default=None)


def _intermediate(run: DescentRun) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    return OptimizeResult(x=run.iterate(), fun=run.f, nit=run.nit, nfev=run.objective.nfev)
