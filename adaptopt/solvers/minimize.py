"""minimize: a front end with SciPy's interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import UserFunction
from ..methods.base import Method, minimise_by
from ..methods.names import read_named
from ..objectives.function import Objective
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .added import added_to
from .averaging import read_average
from .compiled_descent import start_run, why_python
from .descent import DescentRun
from .loop import Loop
from .noise import DistanceRun, after_search
from .options import read_domain, read_options, warn_of_eps, with_tol
from .reporting import display, progress_bar, read_callback, state_on_error
from .search import SearchRun
from .searchable import can_search, check_place, check_search, why_no_search, with_rate
from .state import DescentState
from .stopping import CONVERGED, LINE_SEARCH, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


def minimize(
    fun: UserFunction,
    x0: ArrayLike,
    args: object = (),
    method: str | Method | None = None,
    jac: object = None,
    hess: object = None,
    hessp: object = None,
    bounds: object = None,
    constraints: object = (),
    tol: float | None = None,
    callback: Callable[..., object] | None = None,
    options: Mapping[str, object] | None = None,
    *,
    prox: Proximal | None = None,
    state: DescentState | str | PathLike[str] | None = None,
    progress: bool = False,
    average: str | None = None,
) -> OptimizeResult:
    """Minimise a function of one or more variables with an adaptive first-order method.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args) -> float``, or ``fun(x, *args) -> (float, gradient)`` with ``jac=True``. A
        problem of `adaptopt.problems` needs no ``jac``. ``x`` has the shape and dtype of ``x0``. A
        function compiled with `numba.njit` may also be ``fun(x, g_out, *args) -> float``, which
        writes the gradient to all entries of ``g_out``. This form is recognised by the number of
        arguments. If default arguments leave it open, the name of the second argument decides:
        ``g_out``, ``g``, ``grad``, ``gradient`` or ``out``. If the function and its gradient are
        compiled, the whole loop runs in compiled code, with the same result.
    x0 : array_like or CUDA array
        Starting point of any shape. It is copied. float32 and float64 are kept, integers become
        float64, and a torch tensor is detached. Masked arrays raise an error, for this and all
        other arguments, because NumPy would use the values under the mask. With a CUDA array of
        float32 or float64 (``__cuda_array_interface__``: CuPy, torch, Numba) the run takes place on
        its device; see Notes.
    args : tuple
        Extra arguments of ``fun`` and ``jac``.
    method : str or Method, optional
        A method such as ``AdaGrad(lr=0.5)``, or its lower-case name; None is "adagrad". Without a
        number for its learning rate, the rate is searched for in each step, as it is with
        ``AdaGrad(lr="auto")``. If no search is possible (on a CUDA device, under a map that ties
        coordinates together, and for decoupled weight decay, `AdaGradDA`, `FTRL` and
        `RowWiseAdaGrad`), a name stands for the method with its default rate.
    jac : callable, True, None, "2-point", "3-point" or "cs"
        ``jac(x, *args) -> gradient``; or True if ``fun`` also returns the gradient; or the kind of
        `scipy.optimize`'s finite differences, which take at least ``n + 1`` evaluations per step.
        None uses the kind in ``options["fd_method"]``. In float32 finite differences are
        inaccurate: ``gtol`` may be met while the true gradient is far above it. If ``fun`` takes
        ``g_out``, pass None or True.
    hess, hessp
        Ignored, with a RuntimeWarning.
    bounds : Bounds or sequence of pairs, optional
        As in SciPy: ``(lower, upper)`` for each element, with None or an infinity for no bound, and
        None instead of a pair for neither. ``x0`` is clipped and each step is projected. An element
        whose bounds are equal is fixed.
    constraints
        Must be empty: no constraints except bounds are supported.
    tol : float, optional
        The same as ``options["gtol"]``.
    callback : callable, optional
        ``callback(xk)`` or ``callback(*, intermediate_result)``, as in SciPy, called after every
        ``callback_every``-th step. The intermediate result holds ``x, fun, nit, nfev`` and
        ``state``, which is copied when it is read. The callback can end the run by raising
        StopIteration.
    options : dict, optional
        Hyperparameters that override those of the method, such as ``{"lr": 0.5}``, and the options
        below. ``eps`` is the method's hyperparameter, not the step of finite differences as in
        SciPy. With finite differences, and in calls through `scipy.optimize.minimize`, it gives a
        `scipy.optimize.OptimizeWarning`.

        maxiter : int, default 10000
            Largest number of steps.
        maxfev : int
            Largest number of evaluations of ``fun``, including those for finite differences.
        maxtime : float
            Largest run time in seconds.
        rtol : float, default 1e-10
            With a search for the learning rate only: converged if the decrease that the gradient
            promises for a step was at most ``rtol`` times the decrease of the objective so far, in
            each of the last 10 steps.
        gtol : float, default 1e-5, or None with a search for the learning rate
            Converged if the largest absolute entry of the (projected) gradient of the objective is
            at most ``gtol``. Not tested under decoupled weight decay; see Notes.
        ftol : float
            Converged if ``abs(f_prev - f) <= ftol * max(abs(f_prev), abs(f), 1)``.
        xtol : float
            Converged if no element moved by more than ``xtol`` in a step.
        f_target : float
            Stop with success if ``f`` is at most ``f_target``.
        patience : int
            Stop after this number of steps without a new best ``f``.
        disp : bool
            Print a summary. A run without success also gives a `scipy.optimize.OptimizeWarning`.
        return_all : bool
            Keep all iterates as ``allvecs``.
        history : bool or int
            Record every step, or every ``history``-th: see Returns.
        history_rates : bool or int
            Add quantiles of the effective rates to every record, or every ``history_rates``-th.
            They take a pass over all rates, and a sort.
        callback_every : int, default 1
            Steps between callbacks.
        check_every : int, default 1, or 10 with a CUDA array
            Steps between two checks of the run. The start and the end are checked too. Only a check
            evaluates the stopping tests (each applies to a single step, but is evaluated less
            often), finiteness, the best iterate, callbacks, history, ``return_all``, ``maxtime``
            and progress. A value above 1 needs a ``nan_policy`` other than "omit". It raises an
            error for a compiled ``fun``, whose loop checks every step.
        nan_policy : {"stop", "raise", "omit"}
            What to do if a value or gradient is not finite: end the run with status 3, raise
            FloatingPointError, or skip that step (for noisy objectives).
        fd_method : {"2-point", "3-point", "cs"}
            The finite differences for ``jac=None``. By default "2-point", and "3-point" in float32.
        certificate : {None, True, False}
            For convex objectives with finite bounds on all variables: compute a bound on how far
            the result is above the minimum; see Returns. This takes one more pass over the arrays
            in each step. True declares that ``fun`` is convex, and raises ValueError if no
            certificate is possible. None computes one if ``fun`` is one of `adaptopt.problems`,
            which are known to be convex.

        ``None`` switches a test off. Unknown names give a `scipy.optimize.OptimizeWarning`.
    prox : Proximal, optional
        A proximal map applied in each step, such as ``L1(0.1)`` or ``Simplex()``. Its penalty is
        added to ``fun``. First ``x0`` is replaced by the nearest point of the map's domain, such as
        the simplex. If there are bounds as well, clipping follows a separable map, which is exact;
        other maps raise an error.
    state : DescentState, OptimizeResult or path, optional
        The ``state`` of an earlier result for the same problem and method, that result, or the file
        that its ``save`` wrote. The run continues from it exactly, and uses only the shape and
        dtype of ``x0``. Budgets (``maxiter``, ...) count anew. If bounds or penalties differ from
        those of the earlier run (``prox``, ``weight_decay``, ...), the run continues from the last
        iterate, made feasible, with the method's state. It then discards the earlier values and
        best iterate. ``fun`` and ``args`` must be the same, which is not checked.
    progress : bool
        Show a progress bar (needs tqdm).
    average : {None, "last", "uniform", "polynomial"}
        For noisy objectives: return an average of the iterates after all steps, their mean or one
        with weights that grow like the cube of the step, as `minimize_finite_sum` does. The tests
        are those of the iterates, and a run that one of them ends with success returns its iterate.
        Otherwise ``fun`` and ``jac`` of the result are evaluated once more, at the average. Each
        step then passes through Python. None and "last" return no average, unless noise ends a
        search: see Notes.

    Returns
    -------
    scipy.optimize.OptimizeResult
        x : ndarray
            The iterate that met the test if ``success``, otherwise the best finite iterate. Only
            iterates that were checked count. With ``average`` and no success, or after a search
            that noise has ended, the average.
        fun, jac : float, ndarray
            The objective at ``x``, with penalties (see Notes), and the gradient of ``fun``, without
            penalties. Finite differences give NaN for variables that the bounds fix.
        nit, nfev, njev : int
            Numbers of steps, of evaluations of the function, and of those of the gradient. A search
            may take several evaluations for a step.
        status, success, message : int, bool, str
            0 converged, 1 maxiter, 2 maxfev, 3 non-finite, 4 maxtime, 5 f_target reached,
            6 patience, 7 stalled above the best, 8 no step of the search lowers the objective, 99
            the callback raised StopIteration. 0 and 5 are successes: ``x`` meets the test that the
            message names, or no step changes the objective by more than rounding. Status 8 means
            that ``jac`` jumps, or is not the gradient of ``fun``; or that values are noisy, and
            the run cannot go on as described in Notes, which the message says. Status 7 means
            that the iterate meets ``gtol``, ``ftol`` or ``xtol``, but its value exceeds the best
            one by more than rounding and its gradient explain, for example in a flat region far
            away. If a run of AdaGrad ends with maxiter and its effective rates have died, the
            message says so: their median fell below a tenth of the first while the gradient norm
            stayed above a thousandth of the first.
        path : str
            How the run went: "compiled loop", or "Python loop" and why; "search in ..." if the
            learning rate was searched for.
        lr : float
            With a search: the rate of all coordinates in the step taken or tried last, or NaN if
            none was taken. ``learning_rates`` are it times the rates of the method. After a search
            that noise has ended, each coordinate counts in units of what it has travelled.
        learning_rates : ndarray
            The effective rates of the last step, or NaN if there was none.
        state : DescentState
            Pass it as ``state`` to continue.
        history : dict or None
            With the option: arrays ``t``, ``fun`` and ``gradient_norm`` (the largest absolute
            entry, as for ``gtol``). With ``history_rates`` also ``learning_rate_quantiles`` of the
            steps ``rates_t``, whose columns are the ``quantiles``.
        certificate, x_average, lower_bound, regret_bound : float, ndarray, float, float or None
            With the option ``certificate``, for finite bounds on all variables and ``prox`` None,
            or L1, L2 or ElasticNet with one strength for all variables; otherwise None. They hold
            up to rounding for convex ``fun`` with exact gradients. ``x_average`` is the mean of all
            evaluated iterates. At ``x_average`` and at ``x``, the objective with its penalty
            exceeds its minimum within the bounds by at most ``certificate``. This is the mean
            regret of the linearised objective; `regret.Tracker.certificate` has the formula. The
            minimum is at least ``lower_bound``, so ``res.fun - res.lower_bound`` is a tighter bound
            for ``x``. For AdaGrad with a constant learning rate and no penalty, ``regret_bound`` is
            the theoretical bound on ``certificate`` times the number of iterates. For other methods
            it is None. All of these continue with ``state`` if the earlier run had them. Otherwise
            they cover only the later part, without a ``regret_bound``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above, before ``fun`` is called. Also if a compiled
        ``fun`` takes another number of arguments, or does not compile for these arguments.
    BaseException
        An exception in ``fun`` or the callback, or KeyboardInterrupt, is passed on unchanged. Its
        attribute ``state`` holds the state after the last step. A run that continues from it has
        the same result as an uninterrupted run.

    Notes
    -----
    The objective is the sum of ``fun``, the penalty of ``prox``, and the penalty of the method:
    that of coupled weight decay, ``weight_decay / 2 * sum(x**2)``, and those of `AdaGradDA`. All
    tests apply to the objective. Decoupled weight decay is the gradient of no function. With it,
    the objective is ``fun`` alone, and ``x`` is the last iterate. ``gtol`` is not tested, because
    steps continue even if the gradient is zero. Such a run ends by ``xtol`` (with falling rates),
    another test, or its budget.

    The manual has the formulas of the search for the learning rate. It does without the method's
    ``eps``. A run that continues under other bounds or penalties begins its search anew. If a trial
    point has a value or gradient that is not finite, the search shortens the step, whatever
    ``nan_policy``.

    If no step of a search lowers the objective, ``fun`` is evaluated once more at the same point.
    If it gives the same, it is evaluated in up to 16 pairs of points on both sides of the best one:
    if it rises there as around a smooth minimum, the run has converged, otherwise it has status 8.
    Likewise, a search that has converged is believed only if the objective does not fall at two
    pairs of points nearby, and, with a gradient above 1e-4 of the first, if it changes around the
    point as the gradient says. A test that you ask for, such as ``gtol``, is met whatever it does.

    If value or gradient differ by more than rounding, they are noisy. The run then goes on in
    Python, with an empty state of the method and a rate from the distance travelled (the manual has
    the formula), until a test or its budget ends it. ``x`` is the polynomial average of the
    iterates since, or the one that ``average`` names, with ``fun`` and ``jac`` evaluated there. If
    its value exceeds that where the search ended by more than three times the difference of two
    values there, ``x`` is that point. The message says which. There is no certificate, as it needs
    exact gradients. With finite differences, and for AdaDelta, the status is 8. A run that ends by
    its budget during the search returns the best value seen, which noise flatters.

    If ``x0`` lies on a CUDA device, ``fun`` gets the iterate as an array of the same library
    (CuPy, torch, otherwise Numba). It is not a copy: ``fun`` must not write to it, and must copy
    what it keeps. ``fun`` returns a number or an array of one number on the device, and ``jac`` an
    array on the device with the shape and dtype of ``x``. Between checks (``check_every``) the run
    does not wait for the device, unless ``fun`` does. ``x``, ``jac`` and ``learning_rates`` of the
    result lie on the device, and ``state`` on the host: a run can continue from it on either. The
    work uses the stream that was current in CuPy or torch when `minimize` was called. Finite
    differences, certificates, the diagnosis of dying rates and objectives on the host (``njit``,
    `problems`) are not supported on a device.

    Examples
    --------
    The two variables of this quadratic differ in scale. AdaGrad gives each its own rate.

    >>> import numpy as np
    >>> import adaptopt as ao
    >>> scale = np.array([1e4, 1.0])
    >>> res = ao.minimize(lambda x: (scale @ (x - 3)**2, 2 * scale * (x - 3)), [0.0, 0.0],
    ...                   jac=True, method="adagrad", options={"lr": 1.0})
    >>> res.success, res.x.round(6)
    (True, array([3., 3.]))
    """
    options = with_tol(options, tol)
    return descend(
        read_or_search(method, options, prox, x0),
        fun,
        x0,
        args,
        jac,
        hess,
        hessp,
        bounds,
        constraints,
        callback,
        options,
        prox=prox,
        state=state,
        progress=progress,
        average=average,
    )


def read_or_search(
    method: object,
    given: object,
    prox: object,
    x0: ArrayLike,
    why_not: Callable[..., str | None] = why_no_search,
) -> Method:
    """Return a method; one that is not given with its numbers gets its learning rate found.

    If it cannot be, for a reason that ``why_not`` gives, it keeps the rate that is its default.
    """
    read = read_method("adagrad" if method is None else method)
    options = given if isinstance(given, Mapping) else {}
    given_rate = options.get("lr") is not None or options.get("check_every") not in (None, 1)
    if isinstance(method, Method) or given_rate:
        return read
    given_fields = {f.name: options[f.name] for f in fields(read) if f.name in options}
    chosen = replace(read, **given_fields) if given_fields else read
    return read if why_not(chosen, prox, x0) else with_rate(read, "auto")


def read_method(method: object) -> Method:
    """Return a method, given as an instance, as its class or by its name."""
    method = read_named("method", method)
    if not isinstance(method, Method):
        raise TypeError(f"method is {method!r}, expected a Method or the name of one")
    return method


@minimise_by
def descend(
    method: Method,
    fun: UserFunction,
    x0: ArrayLike,
    args: object = (),
    jac: object = None,
    hess: object = None,
    hessp: object = None,
    bounds: object = None,
    constraints: object = (),
    callback: Callable[..., object] | None = None,
    options: Mapping[str, object] | None = None,
    *,
    prox: Proximal | None = None,
    state: DescentState | str | PathLike[str] | None = None,
    progress: bool = False,
    average: str | None = None,
    by_scipy: bool = False,
    units: np.ndarray | None = None,
) -> OptimizeResult:
    """Minimise ``fun``; the arguments are those of `adaptopt.minimize`.

    ``by_scipy`` says that `scipy.optimize.minimize` has passed on the options that it does not
    know. A search begins with ``units`` of the coordinates, if they are known.
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
    average = read_average(average)
    method, opts = read_options(method, options)
    searches = method.searches
    stepped = with_rate(method, 1.0) if searches else method
    if searches:
        check_search(method, prox)
    exchange, box, prox = read_start(x0, bounds, prox)
    if searches:
        check_place(exchange.on_device)
    optimizer = Optimizer._of_run(exchange.x, stepped, prox, exchange.backend)
    objective = Objective(fun, jac, args, exchange, opts.fd_method, box, batch=())
    every = opts.checks_every(objective.on_device)
    if searches and every > 1:
        raise ValueError(
            f"options['check_every'] is {every} with lr='auto', expected 1: the search checks "
            "every step"
        )
    if overrides_eps and objective.cost > 1:
        warn_of_eps(method, stacklevel=4)
    domain = read_domain(method, prox, objective, opts.certificate, objective.is_convex)
    monitor = Monitor(opts, objective.flat, method.has_objective)
    run: DescentRun
    if searches:
        why = why_python(objective, opts, average)
        if why is None and domain is not None:
            why = "certificate"
        path = "search in " + ("compiled loop" if why is None else f"Python loop: {why}")
        compiled = None if why else objective.compiled
        run = SearchRun(optimizer, objective, monitor, domain, opts.rtol, compiled, average, path)
        if units is not None:
            run.begin_in(units)
    else:
        run = start_run(optimizer, objective, monitor, domain, opts, every, average)
        run.can_search = not exchange.on_device and can_search(method, prox)
    if state is not None:
        state = DescentState.read(state)
        if searches and state.noise is not None and state.added == added_to(method, prox):
            run = DistanceRun.before(method, prox, objective, monitor, average, state)
        run.restore(state)
    loop = Loop(opts, every, read_callback(callback), run.iterate())
    is_fixed = box is not None and not box.leaves_free()
    with progress_bar(progress, opts.maxiter, type(method).__name__) as bar:
        stop: Stop | None = None
        while stop is None:
            with state_on_error(run, "minimize"):
                stop = loop.take(run, bar, is_fixed)
                if stop.status in (CONVERGED, LINE_SEARCH) and isinstance(run, SearchRun):
                    run, stop = after_search(run, stop, method, prox, average)
                if stop is not None:
                    loop.record(run, last=True)
                    result = run.result(stop)
    result.history = loop.history.arrays()
    result.path = run.path
    if opts.return_all:
        result.allvecs = loop.allvecs
    if opts.disp:
        display(result)
    return result
