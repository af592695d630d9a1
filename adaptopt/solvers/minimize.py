"""minimize: a SciPy-shaped front end, and the loop behind it: evaluate, check, step."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.base import Method, minimise_by
from ..methods.names import read_named
from ..objectives.function import Objective
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .compiled_descent import start_run
from .descent import FIXED, DescentRun
from .history import History
from .options import Options, read_domain, read_options, warn_of_eps, with_tol
from .reporting import display, progress_bar, read_callback, state_on_error
from .state import DescentState
from .stopping import CALLBACK, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | Method = "adagrad",
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    *,
    prox: Proximal | None = None,
    state: DescentState | str | PathLike[str] | None = None,
    progress: bool = False,
) -> OptimizeResult:
    """Minimise a function of one or more variables with an adaptive first-order method.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or ``-> (float, gradient)`` with ``jac=True``; a problem of
        `adaptopt.problems` needs no ``jac``. ``x`` has the shape and dtype of ``x0``. A function
        compiled with `numba.njit` may also be ``fun(x, g_out, *args) -> float``, and write the
        gradient to every entry of ``g_out``. It is told by the number of its arguments; if defaults
        leave that open, by the name of this one (``g_out``, ``g``, ``grad``, ``gradient`` or
        ``out``). If a function is compiled and so is its gradient, the whole loop runs compiled,
        with the same result.
    x0 : array_like or CUDA array
        Starting point of any shape. It is copied; float32 and float64 are kept, integers become
        float64, and a tensor of torch is detached. Masked arrays are refused, here and wherever
        arrays are taken: NumPy would take what lies under the mask. With a CUDA array of float32 or
        float64 (``__cuda_array_interface__``: CuPy, torch, Numba) all runs on its device; see
        Notes.
    args : tuple
        Extra arguments of ``fun`` and ``jac``.
    method : str or Method, default "adagrad"
        A method such as ``AdaGrad(lr=0.5)``, or its lower-case name.
    jac : callable, True, None, "2-point", "3-point" or "cs"
        ``jac(x, *args) -> gradient``, or True if ``fun`` returns it too, or which finite
        differences (`scipy.optimize`'s) to take, at ``n + 1`` evaluations a step or more; None
        takes ``options["fd_method"]``. In float32 they are rough: ``gtol`` may be met while the
        gradient is far above it. None or True if ``fun`` takes ``g_out``.
    hess, hessp
        Not used; a RuntimeWarning says so.
    bounds : Bounds or sequence of pairs, optional
        As in SciPy, ``(lower, upper)`` for each element; None or an infinity for no bound, and None
        instead of a pair for neither. ``x0`` is clipped, each step is projected, and if both are
        equal the element is frozen.
    constraints
        Refused: there is no support for constraints but bounds.
    tol : float, optional
        Stands for ``options["gtol"]``.
    callback : callable, optional
        ``callback(xk)`` or ``callback(*, intermediate_result)``, as in SciPy, after every
        ``callback_every``-th step; the intermediate result holds ``x, fun, nit, nfev``. It ends
        the run by raising StopIteration.
    options : dict, optional
        Hyperparameters of the method to override, such as ``{"lr": 0.5}``, and those below.
        ``eps`` is that of the method, not the step of finite differences as in SciPy: with those,
        and from `scipy.optimize.minimize`, it gives a `scipy.optimize.OptimizeWarning`.

        maxiter : int, default 10000
            Most steps.
        maxfev : int
            Most evaluations of ``fun``, those for finite differences too.
        maxtime : float
            Most seconds.
        gtol : float, default 1e-5
            Converged if the largest absolute entry of the (projected) gradient of the objective
            is at most this. Not tested under decoupled weight decay; see Notes.
        ftol : float
            Converged if ``abs(f_prev - f) <= ftol * max(abs(f_prev), abs(f), 1)``.
        xtol : float
            Converged if no element moved by more than this in a step.
        f_target : float
            Done if ``f`` is at most this.
        patience : int
            Stop after so many steps without a new best ``f``.
        disp : bool
            Print a summary; a run without success also gives a
            `scipy.optimize.OptimizeWarning`.
        return_all : bool
            Keep all iterates as ``allvecs``.
        history : bool or int
            Record the course of every step, or every so many: see Returns.
        callback_every : int, default 1
            Steps between callbacks.
        check_every : int, default 1, or 10 with a CUDA array
            Steps from one check of the run to the next; the start and the end are checked too. All
            that is recorded or tested waits for a check: the stopping tests (each is that of a
            single step, applied less often), what is not finite, the best iterate, callbacks,
            history, ``return_all``, ``maxtime`` and progress. More than 1 needs a ``nan_policy``
            other than "omit", and is refused for a compiled ``fun``, whose loop checks every step.
        nan_policy : {"stop", "raise", "omit"}
            What a value or gradient that is not finite does: end the run with status 3, raise
            FloatingPointError, or leave that step out (for noisy objectives).
        fd_method : {"2-point", "3-point", "cs"}
            Finite differences for ``jac=None``; by default "2-point", and "3-point" in float32.
        certificate : {None, True, False}
            For convex objectives under bounds that are all finite: say how far from the minimum the
            result is at most. See Returns; a step then takes one more pass over the arrays. True
            vouches that ``fun`` is convex, and raises ValueError if there can be no certificate.
            None gives one if ``fun`` is one of `adaptopt.problems`, which are known to be convex.

        ``None`` switches a test off. Unknown names give a `scipy.optimize.OptimizeWarning`.
    prox : Proximal, optional
        A proximal map applied in each step, such as ``L1(0.1)`` or ``Simplex()``; its penalty is
        added to ``fun``. ``x0`` is first replaced by the nearest point of its domain, such as the
        simplex. With bounds too, a separable map is followed by clipping, which is exact; others
        are refused.
    state : DescentState or path, optional
        The ``state`` of an earlier result of the same problem and method, or the file that its
        ``save`` wrote: the run goes on from there exactly, and takes only the shape and dtype of
        ``x0``. Budgets (``maxiter``, ...) count anew. With other bounds or penalties than the
        earlier run had (``prox``, ``weight_decay``, ...), it goes on from the last iterate, made
        feasible, with the method's state, and forgets the values and the best iterate of before.
        ``fun`` and ``args`` must be the same, which is not checked.
    progress : bool
        Show a progress bar (needs tqdm).

    Returns
    -------
    scipy.optimize.OptimizeResult
        x : ndarray
            The iterate that met the test, if ``success``; else the best finite iterate. Both are
            of those checked.
        fun, jac : float, ndarray
            Value of the objective there, penalties included (see Notes), and gradient of ``fun``,
            without them. Finite differences leave out what the bounds fix: NaN.
        nit, nfev, njev : int
            Steps, evaluations of the function and of the gradient.
        status, success, message : int, bool, str
            0 converged, 1 maxiter, 2 maxfev, 3 non-finite, 4 maxtime, 5 f_target reached,
            6 patience, 7 stalled above the best, 99 the callback raised StopIteration. 0 and 5 are
            successes: ``x`` meets the test that the message names. Status 7 is that of an iterate
            that meets ``gtol``, ``ftol`` or ``xtol`` while its value is above the best by more than
            rounding and its gradient explain, as on a flat place far away. The message of
            a run of AdaGrad that ended with maxiter says so if its effective rates have died:
            their median fell below a tenth of the first while the gradient norm stayed above a
            thousandth of the first.
        learning_rates : ndarray
            The effective rates of the last step; NaN where there was none.
        state : DescentState
            Pass it as ``state`` to go on.
        history : dict or None
            With the option: arrays ``t``, ``fun``, ``gradient_norm`` (the largest absolute entry,
            as for ``gtol``) and ``learning_rate_quantiles``, whose columns are the ``quantiles``.
        certificate, x_average, lower_bound, regret_bound : float, ndarray, float, float or None
            With the option ``certificate``, if all variables have finite bounds, with ``prox``
            None, or L1, L2 or ElasticNet of one strength for all; else None. They hold up to
            rounding, for convex ``fun`` with exact gradients only. ``x_average`` is the mean of all
            iterates evaluated. The objective, penalty included, is at ``x_average`` and at ``x``
            above its minimum over the bounds by at most ``certificate``, the mean regret of the
            linearised objective: `regret.Tracker.certificate` has the formula. The minimum is at
            least ``lower_bound``, so that ``res.fun - res.lower_bound`` bounds the gap of ``x``
            more tightly. ``regret_bound`` is what AdaGrad with one learning rate and no penalty has
            for ``certificate`` times the number of iterates by theory, at most; None for other
            methods. All go on with ``state``, if the first part had them too; if not, they are
            those of the later part, without a ``regret_bound``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, before ``fun`` is called; also if a compiled ``fun``
        takes another number of arguments or does not compile for these.
    BaseException
        What ``fun`` or the callback raises arrives as it is (KeyboardInterrupt too), with the
        state up to the last step in its attribute ``state``: the run that goes on from it has the
        result of one that was not interrupted.

    Notes
    -----
    The objective is ``fun``, the penalty of ``prox``, and the penalty that the method brings: that
    of coupled weight decay, ``weight_decay / 2 * sum(x**2)``, and those of `AdaGradDA`. All tests
    are of the objective. Decoupled weight decay is the gradient of no function: then ``fun`` alone
    is what values are of, ``gtol`` is not tested, since steps go on when the gradient is zero, and
    ``x`` is the last iterate. Such a run ends by ``xtol`` (with rates that fall), another test, or
    its budget.

    With ``x0`` on a CUDA device, ``fun`` gets the iterate as an array of the library of ``x0``
    (CuPy, torch; else Numba). It is not a copy: ``fun`` must not write to it, and what it keeps
    will move. ``fun`` returns a number, or an array of one number on the device, and ``jac`` an
    array of the shape and dtype of ``x`` on the device. From one check to the next
    (``check_every``) nothing waits for the device, if ``fun`` does not. ``x``, ``jac`` and
    ``learning_rates`` of the result lie there, ``state`` on the host: a run goes on from it on a
    device or on the host. The work goes to the stream that CuPy or torch had for its current one
    when `minimize` was called. Finite differences, certificates, the diagnosis of dying rates and
    objectives on the host (``njit``, `problems`) are not supported on a device.

    Examples
    --------
    A quadratic whose two variables differ by 1e4 in scale; AdaGrad gives each its own rate.

    >>> import numpy as np
    >>> import adaptopt as ao
    >>> scale = np.array([1e4, 1.0])
    >>> res = ao.minimize(lambda x: (scale @ (x - 3)**2, 2 * scale * (x - 3)), [0.0, 0.0],
    ...                   jac=True, method="adagrad", options={"lr": 1.0})
    >>> res.success, res.x.round(6)
    (True, array([3., 3.]))
    """
    return descend(
        read_method(method),
        fun,
        x0,
        args,
        jac,
        hess,
        hessp,
        bounds,
        constraints,
        callback,
        with_tol(options, tol),
        prox=prox,
        state=state,
        progress=progress,
    )


def read_method(method: Any) -> Method:
    """Return a method, given as it is, as its class or by its name."""
    method = read_named("method", method)
    if not isinstance(method, Method):
        raise TypeError(f"method is {method!r}, expected a Method or the name of one")
    return method


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
    exchange, box, prox = read_start(x0, bounds, prox)
    optimizer = Optimizer(exchange.x, method, prox)
    objective = Objective(fun, jac, args, exchange, opts.fd_method, box, batch=())
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


def _most(opts: Options, run: DescentRun, every: int, calls_back: bool) -> int | None:
    """Return for how many steps nobody wants to look, or None; the budget allows at least one.

    If not every step is checked, callbacks and the history come with the next that is.
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
