"""minimize_finite_sum: the front end for mean losses over rows of data, with batches of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, UserFunction
from ..methods.base import Method
from ..methods.in_units import in_units
from ..objectives.batches import Batches, Draws, read_count, read_flag
from ..objectives.exchange import Data
from ..objectives.finite_sum import read_sum, read_validation
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from ..regret.tracker import Tracker
from .averaging import read_average
from .epoch_calls import slowness
from .epoch_loop import run_epochs
from .epochs import EpochRun
from .local_pass import Blocks
from .minimize import read_or_search
from .online import read_tracker
from .options import read_epoch_options
from .over_blocks import minimize_blocks
from .pilot import FoundRate, check_pilot, why_no_pilot
from .piloted_epochs import PilotedRun
from .reporting import read_callback, warn_of_slowness
from .searchable import with_rate
from .state import EpochState

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


LAZY = ("exact", "touched")
PARALLEL = ("deterministic", "hogwild")


def minimize_finite_sum(
    fun: UserFunction,
    x0: ArrayLike,
    data: Data,
    *,
    args: object = (),
    method: str | Method = "adagrad",
    prox: Proximal | None = None,
    bounds: object = None,
    batch_size: int = 32,
    epochs: int = 10,
    shuffle: bool = True,
    drop_last: bool = False,
    rng: int | np.random.Generator | None = None,
    parallel: str | None = None,
    lazy: str = "exact",
    average: str | None = None,
    validation: Data | UserFunction = None,
    tracker: Tracker | None = None,
    tol: float | None = None,
    callback: Callable[..., object] | None = None,
    options: Mapping[str, object] | None = None,
    state: EpochState | str | PathLike[str] | None = None,
    progress: bool = False,
) -> OptimizeResult:
    r"""Minimise a mean loss over the rows of data, with a batch of rows in each step.

    Parameters
    ----------
    fun : callable or problem
        ``fun(x, *batch, *args) -> (mean loss, gradient)`` over the rows in ``batch``; or
        ``fun(x, idx, *args)`` if ``data`` is a number of rows; or, with ``data=None``, an object
        with a length and ``batch(x, idx) -> (mean loss, gradient)``. If rows have weights, divide
        by the number of rows and the mean weight of all data, not by the weight of the batch.
        ``x`` has the shape and dtype of ``x0``. A function of row numbers that Numba compiles
        (``@njit``) may write its gradient to an array: ``fun(x, idx, g_out, *args) -> mean loss``.
        It must write every entry, because the array arrives filled with NaN. Or a
        `distributed.Sum` of blocks, over which the run goes in rounds.
    x0 : array_like or CUDA array
        Starting point of any shape. It is copied. float32 and float64 are kept, integers become
        float64. With a CUDA array of float32 or float64 (``__cuda_array_interface__``: CuPy,
        torch, Numba) the run takes place on its device; see Notes.
    data : array_like, sparse array, tuple of them, int or None
        Arrays with equal numbers of rows; ``batch`` holds ``array[idx]`` of each. Sparse arrays are
        converted to CSR. Or the number of rows, for a ``fun`` that takes row numbers; or None, for
        a ``fun`` that contains its data.
    args : tuple
        Extra arguments of ``fun``.
    method : str or Method, default "adagrad"
        A method such as ``AdaGrad(lr=0.5)``, or its lower-case name. A name, without
        ``options["lr"]``, means ``lr="auto"``: the learning rate is found; see Notes. It is not
        for methods whose steps grow with the gradients (SGD, Momentum), `AdaDelta`, dual averaging,
        FTRL, `RowWiseAdaGrad`, decoupled weight decay, maps that tie coordinates, "hogwild" and
        CUDA arrays: with them a name means the method's default rate, and ``lr="auto"`` is refused.
    prox : Proximal, optional
        A proximal map applied after each step, such as ``NonNegative()``.
    bounds : Bounds or sequence of pairs, optional
        As in `minimize`.
    batch_size : int, default 32
        Rows per batch, at least 1. The last batch of an epoch has the remaining rows.
    epochs : int, default 10
        Number of passes over the data, at least 1.
    shuffle : bool, default True
        Draw a new order of the rows for each epoch. Otherwise the rows keep their order.
    drop_last : bool, default False
        Omit the last batch of an epoch if it is short.
    rng : None, int or numpy.random.Generator
        The source of the orders, which depend on nothing else. A Generator is used, and advanced,
        by one permutation per epoch, or by one number per round over blocks (and one for the
        pilot). An int is a seed. None draws a new seed each time.
    parallel : {None, "deterministic", "hogwild"}
        What threads share. They always share the steps of large arrays. None: the batches run one
        after the other. "deterministic": threads also share the rows of a large batch of a problem,
        with the same result for any number of threads. "hogwild": each thread takes its own steps
        over its part of the rows, and sees the additions of the others with a delay [2]_. No
        addition is lost, but a run cannot be repeated. Because the additions of the threads add up,
        SGD can diverge on many threads at a rate at which it converges on one. It is available for
        problems over CSR matrices, with SGD, AdaGrad or AdaGradDA, without weight decay or a map
        other than bounds. Python functions are called on one thread; see Notes for what runs
        without Python.
    lazy : {"exact", "touched"}
        For problems over sparse rows: what a step does to coordinates that do not occur in its
        batch. "exact": what a step along the whole gradient does. "touched": nothing. For methods
        whose means decay, for momentum, weight decay and penalties this is another algorithm, which
        forgets by occurrences, not by steps. In return every method takes steps at the cost of the
        entries, Adam too, with every separable map. torch's SparseAdam does the same.
    average : {None, "last", "uniform", "polynomial"}
        Return the last iterate, or an average of the iterates after all steps: their mean, or an
        average with weights that grow like the cube of the step [1]_. It is kept in float64, and
        updated in place. None is the last iterate if the learning rate is given. If it is found,
        None is the polynomial average, or with a penalty ``prox``, which the last iterate meets
        with exact zeros, "last".
    validation : callable, or data like ``data``, optional
        ``validation(x) -> float``, or held-out data: row numbers for ``fun`` if ``data`` is a
        number, a problem if ``fun`` is one. It is evaluated after each epoch at the last iterate,
        or at the average if there is one. The result is then the iterate with the lowest
        validation loss.
    tracker : adaptopt.regret.Tracker, optional
        Count each batch as a round of online play: its mean loss and gradient at the iterate enter
        the tracker before the step along them. It needs a method with a learning rate, because the
        pilot of ``lr="auto"`` learns from rows before they are played. If the data are a stream,
        give ``shuffle=False, epochs=1``. ``tracker.best_fixed()`` is the best fixed point in
        hindsight.
    tol : float, optional
        Converged if the mean loss of an epoch, with the penalty, differs from that of the previous
        epoch by at most ``tol`` times the larger of the two.
    callback : callable, optional
        ``callback(xk)`` or ``callback(*, intermediate_result)``, as in SciPy, called after every
        ``callback_every``-th epoch. The intermediate result holds ``x``, ``fun`` (the mean loss of
        the epoch, with the penalty), ``epoch, nit, nfev``, ``validation`` (or None) and ``state``,
        which is copied when it is read. The callback can end the run by raising StopIteration.
    options : dict, optional
        Hyperparameters that override those of the method, such as ``{"lr": 0.5}``, and:

        maxtime : float
            Largest run time in seconds. It is checked before each step, or before each call of
            compiled steps, which takes some hundredths of a second; over blocks, before each round.
        f_target : float
            Stop with success if the validation loss is at most ``f_target``; without validation, if
            ``fun`` of the result is. ``fun`` is evaluated after each epoch whose mean loss, with
            the penalty, is at most ``f_target``.
        patience : int
            Stop after this number of epochs without a new best validation loss; without validation,
            without a new best mean loss, penalty included.
        disp : bool
            Print a summary. A run without success also gives a `scipy.optimize.OptimizeWarning`.
        history : bool or int
            Record every step, or every ``history``-th: see Returns.
        history_rates : bool or int
            Add quantiles of the effective rates to every record, or every ``history_rates``-th.
            They take a pass over all rates, and a sort.
        callback_every : int, default 1
            Epochs between callbacks, and between checkpoints.
        checkpoint : path
            Save the state to this file after every ``callback_every``-th epoch, to go on from it.
        check_every : int, default 1, or 10 with a CUDA array
            Steps between two checks. A check tests whether the losses and gradients since the last
            check are finite, and records the history. The end of an epoch is checked too. A value
            above 1 needs a ``nan_policy`` other than "omit". It raises an error if the epochs run
            compiled, which check every batch.
        nan_policy : {"stop", "raise", "omit"}
            What to do if a loss or gradient is not finite: end the run with status 3, raise
            FloatingPointError, or skip the step of that batch (the message reports their number).
            "omit" also leaves such rows out of the means over all rows: a part of the data that is
            not finite is evaluated again in halves.
        stream : bool
            True: the data are the next rows of a stream, or one block of rows of larger data. With
            ``shuffle=False``, runs over the parts of a stream, each from the ``state.for_rows(n)``
            of the one before, do what one run over all rows does, to the last bit, if all parts but
            the last have a multiple of ``batch_size`` rows, and with a rate that is found the first
            at least 64. (Over sparse rows, averages and penalties agree up to rounding.) So such a
            rate does not fall to 0 at the end, the pilot takes the first 32 rows, and the rate
            changes at powers of two of the step. There is no evaluation over all rows at the end:
            ``fun`` and ``jac`` are NaN, and a rise is not reported.
        certificate : {None, True, False}
            True declares that ``fun`` is convex. None gives a certificate if it is known to be.

        ``None`` switches a test off. Unknown names give a `scipy.optimize.OptimizeWarning`.
    state : EpochState, OptimizeResult or path, optional
        The ``state`` of an earlier result for the same data, that result, or the file that its
        ``save`` wrote.
        The run continues from it exactly, even within an epoch. It uses only the shape and dtype of
        ``x0``. ``rng`` is used only if it is a Generator, which is set to its earlier position.
        Budgets (``epochs``, ...) count anew, and the rest of an epoch counts as one. An average
        that the earlier run did not keep starts now. If bounds or penalties differ from those of
        the earlier run (``prox``, ``weight_decay``, ...), the run continues from the last iterate,
        made feasible, with the method's state. The average, the best epoch and the start then
        count from this point.
    progress : bool
        Show a progress bar of the steps (needs tqdm).

    Returns
    -------
    scipy.optimize.OptimizeResult
        x : ndarray
            The last iterate, the average, or the iterate with the lowest validation loss; never the
            iterate that is best on a batch. With status 3, the last iterate with a finite loss.
        fun, jac : float, ndarray
            The mean loss over all rows at ``x``, with penalties, and the gradient of the mean loss.
            They are evaluated once at the end, in parts. The penalties are that of ``prox``, that
            of coupled weight decay, ``weight_decay / 2 * x**2``, and ``l1`` and ``l2`` of
            AdaGradDA. Decoupled weight decay is the gradient of no function and not a part of the
            objective.
        omitted : int
            Number of rows that ``fun`` and ``jac`` leave out; 0 unless ``nan_policy`` is "omit".
        certificate, lower_bound : float or None
            ``fun`` exceeds its minimum within the bounds by at most ``certificate``. That is the
            largest ``<jac, x - u>`` over points u within the bounds, penalties included [3]_. The
            minimum is at least ``lower_bound``. They need finite bounds on all variables, ``prox``
            None, or L1, L2 or ElasticNet with one strength for all, and a convex ``fun``: one of
            `adaptopt.problems`, or declared by the option ``certificate``. Otherwise they are None.
        nit, nfev, njev : int
            Numbers of steps, and of calls of ``fun``: one per step, and those for ``fun``, ``jac``,
            validation data and the pilot.
        lr : float
            With ``lr="auto"``: the learning rate of the last step, in units of the coordinates.
        epochs : int
            Number of completed epochs.
        epoch_losses, validation_losses : ndarray
            For each completed epoch, the mean of the losses of its batches, weighted by batch size,
            without penalties (tests and callbacks add the penalty at its end); and the validation
            loss (empty without validation).
        status, success, message : int, bool, str
            0 converged (``tol``), 1 all epochs done, 3 non-finite, 4 maxtime, 5 f_target reached,
            6 patience, 99 the callback raised StopIteration. 0 and 5 are successes. 1 is a success
            if neither ``tol`` nor ``f_target`` is given, as with SciPy's solvers that run for a
            fixed time, such as `scipy.optimize.basinhopping`. But a run that ends above its start
            is no success: then status is 1 and the message says so. The start is that of the first
            run if this one continues from a state. It is evaluated too, unless the loss is at most
            that of the first epoch, and the tangent at ``x`` proves that a convex loss has fallen.
        path : str
            How the run went, and why not faster, such as "compiled sparse epochs" or
            "Python loop: nan_policy='omit'". If a run over a problem loses more than a few times
            its time and a tenth of a second, a `scipy.optimize.OptimizeWarning` says so at its
            start.
        learning_rates : ndarray
            The effective rates of the last step, or NaN if there was none.
        state : EpochState
            Pass it as ``state`` to continue.
        rounds : dict
            Over blocks: arrays of the ``loss`` and the ``seconds`` of each round, the ``bytes``
            that it moved, and how often it was ``redone``.
        history : dict or None
            With the option: arrays ``t``, ``fun`` and ``gradient_norm`` (the largest absolute
            entry, with a penalty how far from stationary) of the batch of the step. With
            ``history_rates`` also ``learning_rate_quantiles`` of the steps ``rates_t``, whose
            columns are the ``quantiles``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above, before ``fun`` is called.
    BaseException
        An exception in ``fun``, the validation or the callback, or KeyboardInterrupt, is passed on
        unchanged. Its attribute ``state`` holds the state after the last step.

    Notes
    -----
    Epochs run in compiled calls of some hundredths of a second if ``fun`` is a problem, or if Numba
    compiles it and ``data`` is a number: ``fun(x, idx, g, *args) -> mean loss``, which writes the
    gradient to ``g``, or ``fun(x, idx, *args)``. Then no step runs
    Python, for every method and separable map, with averages and validation. A ``history`` and
    ``nan_policy="omit"`` need Python in each step. The iterates are the same.

    The cost of a batch of sparse rows depends on its entries, not on the number of columns, for
    SGD, Momentum, AdaGrad, RMSProp, AdaGradDA and FTRL without weight decay (under a schedule,
    momentum needs ``lr_inside=True``, and FTRL neither ``l1`` nor ``l2``); also with bounds; with
    separable penalties for SGD and AdaGrad at a constant rate; and with an average if coordinates
    stay where they are without a gradient: for SGD, AdaGrad and RMSProp, without momentum and
    penalty. Penalties, momentum, the decay of running means and averaging also change coordinates
    that do not occur in the batch. These changes are applied, exactly, when the coordinate next
    occurs. Everything else has the same cost with ``lazy="touched"``.

    With ``lr="auto"``, methods that divide by gradients first learn the units of the coordinates.
    The unit of one is the inverse of the root mean square of its gradients that are not 0: for
    `adaptopt.problems` from the columns of up to 4096 rows, for other functions from 32 to 256 rows
    that are evaluated one by one, in a stream from 32. Units are brought to their geometric mean as
    far as they differ by chance; a coordinate without gradients gets the mean. Steps are those of
    :math:`x_i` over its unit: columns of data need no scaling. (Over blocks, all have one unit.)
    Gradients are also small for small targets: for other functions whose units differ, the pilot
    runs with and without them, and the lower end decides.

    Then a pilot takes five steps of the search of `minimize` with AdaGrad, on the first rows of the
    first order: a sixtieth of them, but at least 32 and at most 512, or more if most have no
    gradient. This costs some twelve evaluations of them, a fifth of an epoch. If as many
    other rows rise at its end by more than its own have fallen, the way is halved until they do
    not, and the distance is twice what is left. The run starts where the pilot ended. The distance
    between its start :math:`x_0` and its end :math:`\tilde x`,

    .. math:: w = \Big(\sum_i \sqrt{G_i} \, (\tilde x_i - x_{0,i})^2 \Big/
              \sum_i \sqrt{G_i}\Big)^{1/2},

    estimates the way to the minimum. AdaGrad takes :math:`0.7 w`: its regret is bounded by
    :math:`\sum_i \sqrt{G_i} (w^2 / (2 \eta) + \eta)`, which is least at :math:`w / \sqrt 2` [4]_.
    It is measured in units, as is the same distance of the run's own iterates from :math:`x_0`,
    which replaces w when it becomes longer [5]_. `AdaGradNorm` takes the Euclidean distance.
    Methods that forget old gradients, such as RMSProp and Adam, take
    :math:`0.7 w / (\sqrt t \rho_t)`, where :math:`\rho_t` is their effective
    rate after t gradients of 1. The rate is constant between steps 1, 2, 4, 8, ... and parts of an
    epoch, at most eight. With ``average="last"`` it also falls linearly to 0 at the last step of
    the call [6]_.

    If ``x0`` lies on a CUDA device, ``data`` are C-contiguous arrays on it, of any dtype, or a
    number of rows. The rows of a batch are gathered there into an array that is made once, of the
    same library as the data. The row numbers for ``fun(x, idx)`` are int64, in an array of the same
    library as ``x0``. The orders are those of the host. As in `minimize`, the iterate is not a
    copy, and the loss may lie on the device. Between checks (``check_every``) the run does not wait
    for the device, unless ``fun`` does. Losses are summed and averages kept on the device. ``x``,
    ``jac`` and ``learning_rates`` of the result lie on the device, ``state`` on the host. Sparse
    data, problems, functions compiled for the CPU, ``parallel`` and certificates are not supported
    on a device.

    References
    ----------
    .. [1] Shamir & Zhang, "Stochastic gradient descent for non-smooth optimization: convergence
       results and optimal averaging schemes", ICML 2013, section 4, with eta = 3.
    .. [2] Niu, Recht, Re & Wright, "Hogwild!: a lock-free approach to parallelizing stochastic
       gradient descent", NeurIPS 2011. There, threads write to the same numbers. Here, each thread
       keeps its additions apart, and reads those of the others at intervals.
    .. [3] Jaggi, "Revisiting Frank-Wolfe: projection-free sparse convex optimization", ICML 2013,
       eq. 2, the duality gap.
    .. [4] Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
       optimization", JMLR 2011, theorem 5.
    .. [5] Ivgi, Hinder & Carmon, "DoG is SGD's best friend", ICML 2023, eq. 1.
    .. [6] Defazio, Cutkosky, Mehta & Mishchenko, "Optimal linear decay learning rate schedules and
       further refinements", 2023, section 3.

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
    >>> res = ao.minimize_finite_sum(logistic, np.zeros(3), (A, y), rng=0, epochs=20)
    >>> res.message, res.nit
    ('All epochs (epochs=20) are done.', 320)
    >>> bool(abs(res.jac).max() < 0.01)
    True
    """
    _check_choices(parallel, lazy)
    if isinstance(fun, Blocks):
        return minimize_blocks(
            fun,
            x0,
            data,
            args=args,
            method=method,
            prox=prox,
            bounds=bounds,
            batch_size=batch_size,
            epochs=epochs,
            shuffle=shuffle,
            drop_last=drop_last,
            rng=rng,
            parallel=parallel,
            lazy=lazy,
            average=average,
            validation=validation,
            tracker=tracker,
            tol=tol,
            callback=callback,
            options=options,
            state=state,
            progress=progress,
        )
    why_not = partial(why_no_pilot, parallel=parallel)
    method = read_or_search(method, options, prox, x0, why_not)
    epochs, batch_size = read_count("epochs", epochs), read_count("batch_size", batch_size)
    shuffle, drop_last = read_flag("shuffle", shuffle), read_flag("drop_last", drop_last)
    callback = read_callback(callback)
    read_average(average)
    method, opts = read_epoch_options(method, options, tol)
    exchange, _, prox = read_start(x0, bounds, prox)
    if exchange.on_device and parallel is not None:
        raise ValueError(
            f"parallel is {parallel!r} with x0 a CUDA array, expected None: it is about threads of "
            "the host"
        )
    if method.searches:
        check_pilot(method, prox, exchange.x, parallel)
    kind = average or ("polynomial" if method.searches and not prox.has_penalty else "last")
    total = read_sum(fun, data, args, exchange, parallel == "deterministic")
    held_out = read_validation(validation, total, fun, data, args, exchange)
    batches = Batches(total.n, batch_size, shuffle, drop_last)
    average = None if kind == "last" else kind
    online = read_tracker(tracker, total, batches, opts, parallel, method.searches)
    arguments = (
        *(total, batches, Draws(rng), average, held_out, prox, opts, parallel),
        opts.checks_every(exchange.on_device),
        lazy == "touched",
        online,
    )
    if method.searches:
        has_units = method.range_decay is not None
        found = FoundRate(method, total, batches, prox, average is None, opts.stream, has_units)
        stepped = with_rate(method, 1.0)
        if has_units:
            stepped = in_units(stepped)
        optimizer = Optimizer._of_run(exchange.x, stepped, prox, exchange.backend)
        run: EpochRun = PilotedRun(found, optimizer, *arguments)
    else:
        optimizer = Optimizer._of_run(exchange.x, method, prox, exchange.backend)
        run = EpochRun(optimizer, *arguments)
    if state is not None:
        run.restore(EpochState.read(state))
    steps = run.batches.left(run.position.done) + (epochs - 1) * run.batches.left(0)
    if slow := slowness(run.way, total, batch_size, steps):
        warn_of_slowness(slow, stacklevel=3)

    def shown() -> Array:
        return exchange.shown(run.candidate())

    return run_epochs(run, shown, steps, epochs, callback, progress)


def _check_choices(parallel: object, lazy: object) -> None:
    if lazy not in LAZY:
        raise ValueError(f"lazy is {lazy!r}, expected {' or '.join(map(repr, LAZY))}")
    if parallel is not None and parallel not in PARALLEL:
        raise ValueError(f"parallel is {parallel!r}, expected None, {' or '.join(PARALLEL)}")
