"""minimize_finite_sum: the front end for mean losses over the rows of data, taken in batches."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from ..methods.base import Method
from ..objectives.batches import Batches, Draws, read_count, read_flag
from ..objectives.finite_sum import read_sum, read_validation
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .averaging import AVERAGES
from .epochs import EpochRun
from .minimize import read_method
from .options import read_epoch_options
from .reporting import display, progress_bar, read_callback, state_on_error
from .state import EpochState
from .stopping import CALLBACK, MAXITER, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


PARALLEL = ("deterministic", "hogwild")


def minimize_finite_sum(
    fun: Callable[..., Any],
    x0: Any,
    data: Any,
    *,
    args: Any = (),
    method: str | Method = "adagrad",
    prox: Proximal | None = None,
    bounds: Any = None,
    batch_size: int = 32,
    epochs: int = 10,
    shuffle: bool = True,
    drop_last: bool = False,
    rng: int | np.random.Generator | None = None,
    parallel: str | None = None,
    average: str | None = None,
    validation: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: dict[str, Any] | None = None,
    state: EpochState | str | PathLike[str] | None = None,
    progress: bool = False,
) -> OptimizeResult:
    """Minimise a mean of losses over the rows of data, a batch of rows at each step.

    Parameters
    ----------
    fun : callable or problem
        ``fun(x, *batch, *args) -> (mean loss, gradient)`` over the rows in ``batch``; or
        ``fun(x, idx, *args)`` where ``data`` is a number of rows; or, with ``data=None``, an object
        with a length and ``batch(x, idx) -> (mean loss, gradient)``. If rows have weights, divide
        by the number of rows and the mean weight of all data, not by the weight of the batch.
        ``x`` has the shape and dtype of ``x0``. A ``fun`` of row numbers that Numba compiled
        (``@njit``) may take an array to write the gradient to, ``fun(x, idx, g_out, *args) -> mean
        loss``. Write every entry: the array arrives filled with NaN.
    x0 : array_like or CUDA array
        Starting point of any shape. It is copied; float32 and float64 are kept, integers become
        float64. With a CUDA array of float32 or float64 (``__cuda_array_interface__``: CuPy,
        torch, Numba) all runs on its device; see Notes.
    data : array_like, sparse array, tuple of them, int or None
        Arrays of equally many rows. ``batch`` has those of them that are its turn, ``array[idx]``;
        sparse arrays are taken in CSR. Or the number of rows, for a ``fun`` that takes their
        numbers; or None for a ``fun`` that has its data with it.
    args : tuple
        Extra arguments of ``fun``.
    method : str or Method, default "adagrad"
        A method such as ``AdaGrad(lr=0.5)``, or its lower-case name.
    prox : Proximal, optional
        A proximal map applied after each step, such as ``NonNegative()``.
    bounds : Bounds or sequence of pairs, optional
        As in `minimize`.
    batch_size : int, default 32
        Rows of a batch, at least 1; the last of an epoch has those that are left.
    epochs : int, default 10
        How many times to go through the data, at least 1.
    shuffle : bool, default True
        Draw a new order of the rows for each epoch; else they are taken as they lie.
    drop_last : bool, default False
        Leave the last batch of an epoch out if it is short.
    rng : None, int or numpy.random.Generator
        What the orders are drawn from: nothing else has a say in them. A Generator is used, and
        advanced, by one permutation an epoch; an int is a seed; None is a new seed each time.
    parallel : {None, "deterministic", "hogwild"}
        What threads do, beyond the steps of large arrays, which they always share. None: one batch
        after the other. "deterministic": the rows of a large batch of a problem are shared too,
        with the same result for any number of threads. "hogwild": each thread takes its own steps
        over its part of the rows, with what it knows of the others' [2]_; a run cannot be
        repeated, and threads lose none of each other's additions. What they add meanwhile adds up,
        so that SGD diverges on many threads at rates that do on one. It is for problems over CSR
        matrices with SGD, AdaGrad or AdaGradDA without weight decay, and bounds at most. Python
        functions are called on one thread; see Notes for what runs without Python.
    average : {None, "uniform", "polynomial"}
        Return an average of the iterates after every step since the start, instead of the last
        one: their mean, or one whose weights grow like the cube of the step [1]_. It is kept in
        float64, and updated in place.
    validation : callable, or data like ``data``, optional
        ``validation(x) -> float`` or held-out data (row numbers for ``fun`` if ``data`` is a
        number, a problem if ``fun`` is one), evaluated after every epoch at the last iterate, or
        the average if there is one. The result is then the iterate with the least.
    tol : float, optional
        Converged if the mean loss of an epoch, with the penalty, differs from that of the epoch
        before by at most ``tol`` times the larger of the two.
    callback : callable, optional
        ``callback(xk)`` or ``callback(*, intermediate_result)``, as in SciPy, after every
        ``callback_every``-th epoch; the intermediate result holds ``x``, ``fun`` (mean loss of the
        epoch, with the penalty), ``epoch, nit, nfev`` and ``validation`` (None without). It ends
        the run by raising StopIteration.
    options : dict, optional
        Hyperparameters of the method to override, such as ``{"lr": 0.5}``, and:

        maxtime : float
            Most seconds, checked before every step, or every call of compiled steps: some
            hundredths of a second.
        f_target : float
            Done if the validation, or else ``fun`` of the result, is at most this. ``fun`` is
            evaluated after an epoch whose mean loss, with the penalty, is at most this.
        patience : int
            Stop after so many epochs without a new best validation, or else mean loss, with the
            penalty.
        disp : bool
            Print a summary; a run without success also gives a
            `scipy.optimize.OptimizeWarning`.
        history : bool or int
            Record every step, or every so many: see Returns.
        callback_every : int, default 1
            Epochs between callbacks.
        check_every : int, default 1, or 10 with a CUDA array
            Steps from one check of a batch to the next: whether its loss and gradient, and
            those since the last check, are finite, and for the history. The end of an epoch is
            checked too. More than 1 needs a ``nan_policy`` other than "omit", and is refused
            if epochs run compiled, which check every batch as they go.
        nan_policy : {"stop", "raise", "omit"}
            What a loss or gradient that is not finite does: end the run with status 3, raise
            FloatingPointError, or leave out the step along that batch (the message says how many),
            and of the means over all rows those rows: a part that is not finite is evaluated again
            in halves.
        certificate : {None, True, False}
            True vouches that ``fun`` is convex; None gives a certificate if it is known to be.

        ``None`` switches a test off. Unknown names give a `scipy.optimize.OptimizeWarning`.
    state : EpochState or path, optional
        The ``state`` of an earlier result over the same data, or the file that its ``save`` wrote:
        the run goes on from there exactly, within an epoch too. It takes only the shape and dtype
        of ``x0``, and of ``rng`` only a Generator, which is set to where it stood. Budgets
        (``epochs``, ...) count anew; the rest of an epoch counts as one. An average that the
        earlier run did not keep starts here. With other bounds or penalties than the earlier run
        had (``prox``, ``weight_decay``, ...), it goes on from the last iterate, made feasible, with
        the method's state: the average, the best epoch and the start are then those from here on.
    progress : bool
        Show a progress bar of the steps (needs tqdm).

    Returns
    -------
    scipy.optimize.OptimizeResult
        x : ndarray
            The last iterate, the average, or the one of the best validation; never one that is
            best on a batch. With status 3, the last iterate seen with a finite loss.
        fun, jac : float, ndarray
            Mean loss over all rows at ``x``, and its gradient, evaluated once at the end, some
            rows at a time; ``fun`` with the penalty: that of ``prox``, that of coupled weight
            decay, ``weight_decay / 2 * x**2``, and ``l1`` and ``l2`` of AdaGradDA. Decoupled
            weight decay is the gradient of no function, so it is in no objective: such a run is
            judged by its loss.
        omitted : int
            Rows that ``fun`` and ``jac`` leave out; 0 unless ``nan_policy`` is "omit".
        certificate, lower_bound : float or None
            If all variables have finite bounds, with ``prox`` None, or L1, L2 or ElasticNet of
            one strength for all, if ``fun`` is one of `adaptopt.problems`, which are convex, or the
            option ``certificate`` vouches for it: ``fun`` is above its minimum over the
            bounds by at most ``certificate``, the largest ``<jac, x - u>`` over the bounds
            (penalties included) [3]_, and that minimum is at least ``lower_bound``.
        nit, nfev, njev : int
            Steps, and calls of ``fun``: one a step, and those for ``fun``, ``jac`` and validation
            data.
        epochs : int
            Epochs that have ended.
        epoch_losses, validation_losses : ndarray
            For each of them: the mean of the losses at its steps, each weighted by the size of its
            batch, without a penalty (tests and callbacks add the one at its end); and the
            validation (empty without).
        status, success, message : int, bool, str
            0 converged (``tol``), 1 all epochs done, 3 non-finite, 4 maxtime, 5 f_target reached,
            6 patience, 99 the callback raised StopIteration. 0 and 5 are successes. So is 1 if
            neither ``tol`` nor ``f_target`` asked for more, as with SciPy's solvers that run for a
            set time, such as `scipy.optimize.basinhopping`. But a run that ends above its start is
            no success: then status is 1 and the message says so. The start is that of the first
            run if this one goes on from a state. It is evaluated, too, unless the loss is at most
            that of the first epoch and its tangent at ``x`` proves a convex one to have fallen.
        learning_rates : ndarray
            The effective rates of the last step; NaN where there was none.
        state : EpochState
            Pass it as ``state`` to go on.
        history : dict or None
            With the option: arrays ``t``, ``fun`` and ``gradient_norm`` (the largest absolute
            entry) of the batch of the step, and ``learning_rate_quantiles``, whose columns are the
            ``quantiles``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, before ``fun`` is called.
    BaseException
        What ``fun``, the validation or the callback raises arrives as it is (KeyboardInterrupt
        too), with the state after the last step in its attribute ``state``.

    Notes
    -----
    Epochs run in compiled calls of some hundredths of a second if ``fun`` is a problem over rows
    of the dtype of ``x0``, or compiled by Numba, with ``data`` a number: ``fun(x, idx, g, *args) ->
    mean loss``, which writes the gradient to ``g``, or ``fun(x, idx, *args)``. Then steps cost no
    Python, with every method and separable map, with averages and validation; a ``history`` and
    ``nan_policy="omit"`` need Python at each step. The iterates are the same.

    A batch of CSR rows costs what it touches, whatever the number of columns, with SGD, Momentum,
    AdaGrad, RMSProp and AdaGradDA without weight decay (under a schedule, momentum needs
    ``lr_inside=True``), with bounds, and with separable penalties for SGD and AdaGrad with a
    constant rate; an average only with SGD and AdaGrad without penalty. What penalties, momentum,
    forgetting or averaging do to the other coordinates is then done when
    they are touched next, exactly.

    With ``x0`` on a CUDA device, ``data`` are C-contiguous arrays on it, of any dtype, or a number
    of rows. Rows are gathered there, into an array that is made once, of the library of the data;
    the row numbers that ``fun(x, idx)`` gets are int64, of the library of ``x0``. The orders are
    those of the host. Whatever `minimize` says of ``fun`` holds here: the iterate is not a copy,
    the loss may lie on the device. Between checks (``check_every``) nothing waits for the device if
    ``fun`` does not; losses are added up, and averages kept, there. ``x``, ``jac`` and
    ``learning_rates`` of the result lie there, ``state`` on the host. Sparse data, problems,
    functions compiled for the CPU, ``parallel`` and certificates are not supported on a device.

    References
    ----------
    .. [1] Shamir & Zhang, "Stochastic gradient descent for non-smooth optimization: convergence
       results and optimal averaging schemes", ICML 2013, section 4, with eta = 3.
    .. [2] Niu, Recht, Re & Wright, "Hogwild!: a lock-free approach to parallelizing stochastic
       gradient descent", NeurIPS 2011. There threads write to the same numbers; here each keeps
       what it adds apart, and takes in the others' additions every so often.
    .. [3] Jaggi, "Revisiting Frank-Wolfe: projection-free sparse convex optimization", ICML 2013,
       eq. 2, the duality gap.

    Examples
    --------
    Logistic regression of labels -1 and 1:

    >>> import numpy as np, adaptopt as ao
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((500, 3))
    >>> y = np.where(A @ [1.0, -2.0, 0.0] + rng.logistic(size=500) > 0, 1.0, -1.0)
    >>> def logistic(x, A, y):
    ...     margin = y * (A @ x)
    ...     return np.logaddexp(0, -margin).mean(), -(y / (1 + np.exp(margin))) @ A / len(y)
    >>> res = ao.minimize_finite_sum(logistic, np.zeros(3), (A, y), method="adagrad", rng=0,
    ...                              epochs=20, average="polynomial", options={"lr": 0.5})
    >>> res.message, res.nit
    ('All epochs (epochs=20) are done.', 320)
    >>> bool(abs(res.jac).max() < 0.01)
    True
    """
    method = read_method(method)
    epochs, batch_size = read_count("epochs", epochs), read_count("batch_size", batch_size)
    shuffle, drop_last = read_flag("shuffle", shuffle), read_flag("drop_last", drop_last)
    callback = read_callback(callback)
    _check_choices(parallel, average)
    method, opts = read_epoch_options(method, options, tol)
    exchange, _, prox = read_start(x0, bounds, prox)
    if exchange.on_device and parallel is not None:
        raise ValueError(
            f"parallel is {parallel!r} with x0 a CUDA array, expected None: it is about threads of "
            "the host"
        )
    total = read_sum(fun, data, args, exchange, parallel == "deterministic")
    held_out = read_validation(validation, total, fun, data, args, exchange)
    run = EpochRun(
        Optimizer(exchange.x, method, prox),
        total,
        Batches(total.n, batch_size, shuffle, drop_last),
        Draws(rng),
        average,
        held_out,
        prox,
        opts,
        parallel,
        opts.checks_every(exchange.on_device),
    )
    if state is not None:
        run.restore(EpochState.read(state))
    return _run(run, epochs, callback, progress)


def _run(
    run: EpochRun,
    epochs: int,
    callback: Callable[[OptimizeResult], Any] | None,
    progress: bool,
) -> OptimizeResult:
    """Go on for so many epochs, or until there is a reason to stop."""
    opts = run.options
    steps = run.batches.left(run.position.done) + (epochs - 1) * run.batches.left(0)
    name = type(run.optimizer.method).__name__
    stop: Stop | None = None
    with (
        progress_bar(progress, steps, name) as bar,
        state_on_error(run, "minimize_finite_sum"),
    ):
        while stop is None and (stop := run.sweep(bar)) is None:
            stop = run.close()
            if callback is not None and run.epochs % opts.callback_every == 0:
                try:
                    callback(run.intermediate())
                except StopIteration:
                    stop = Stop(CALLBACK, "`callback` raised `StopIteration`.")
            if stop is None and run.epochs >= epochs:
                stop = Stop(MAXITER, f"All epochs (epochs={epochs}) are done.")
        run.history.record(run.t, run.f, run.norm, run.optimizer, last=True)
        result = run.result(stop)
    if opts.disp:
        display(result)
    return result


def _check_choices(parallel: Any, average: Any) -> None:
    if parallel is not None and parallel not in PARALLEL:
        raise ValueError(f"parallel is {parallel!r}, expected None, {' or '.join(PARALLEL)}")
    if average is not None and average not in AVERAGES:
        raise ValueError(f"average is {average!r}, expected None, {' or '.join(AVERAGES)}")
