"""minimize_many: many independent problems, or one from many starts, in parallel compiled loops."""

from __future__ import annotations

import time
from _thread import LockType, allocate_lock, get_ident, start_new_thread
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import config, get_num_threads, typeof, types
from numpy.typing import ArrayLike

from ..arrays import demand_finite, read_array, read_point
from ..kernels.descent import (
    BEST,
    BEST_F,
    BEST_GRADIENT,
    BEST_T,
    CALLS,
    CURRENT,
    DONE,
    GRADIENT,
    MISFIT,
    MOVED,
    NORM,
    PREVIOUS,
    PREVIOUS_F,
    F,
    T,
    many_kernel,
    row_of,
)
from ..kernels.rates import RateTable
from ..kernels.reductions import BLOCK
from ..methods.base import Method
from ..objectives.compiled import is_compiled, read_compiled
from ..objectives.exchange import Exchange
from ..objectives.function import Objective
from ..objectives.start import read_start
from ..optimizer.optimizer import Optimizer
from ..placement import demand_host
from ..prox.base import Proximal
from .compiled_descent import loop_parts
from .descent import FIXED, median_rates
from .history import dying_rate
from .minimize import read_method
from .options import Options, read_options
from .pace import MOST, SECONDS, Pace
from .stopping import MAXITER, SUCCESS, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


# Problems that a thread takes on at once, at most. A call takes a step of each at least: with a
# slow objective, more of them would make Ctrl-C wait.
PROBLEMS = 16

# Seconds for which an interrupt waits for the calls of other threads.
PATIENCE = 1.0


def minimize_many(
    fun: Any,
    X0: Any,
    args: Any = (),
    method: str | Method = "adagrad",
    prox: Proximal | None = None,
    bounds: Any = None,
    options: dict[str, Any] | None = None,
    *,
    row_args: Sequence[Any] = (),
) -> OptimizeResult:
    """Minimise a compiled function from many starting points, or many similar ones, in parallel.

    Parameters
    ----------
    fun : njit function
        ``fun(x, g_out, *entries, *args) -> float``, which writes the gradient to ``g_out``, or
        ``fun(x, *entries, *args) -> (float, gradient)``. Several threads run it at once, so it must
        not write to ``args``.
    X0 : array_like, shape (m, n)
        A starting point in each row. float32 and float64 are kept.
    args : tuple
        Arguments of all problems: numbers, arrays, and tuples of these.
    method, prox, bounds
        As in `minimize`, for all problems. ``prox`` must be separable.
    options : dict, optional
        As in `minimize`, except ``history``, ``return_all``, ``certificate`` and ``disp``. Budgets
        apply to each problem, and ``maxtime`` to all together.
    row_args : sequence of array_like
        Arrays of length ``m``. Their entries ``i`` are arguments of problem ``i``, before ``args``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x, fun, jac, nit, nfev, njev, status, success, message, learning_rates`` as in `minimize`,
        stacked along axis 0. Each row has the bits of a separate run, for any number of threads
        (`numba.set_num_threads`).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above.
    BaseException
        An exception in ``fun`` is passed on unchanged; that of the first problem if there are
        several.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> from numba import njit
    >>> @njit
    ... def bowl(x, g_out, centre):
    ...     g_out[:] = x - centre
    ...     return (g_out * g_out).sum() / 2
    >>> res = ao.minimize_many(bowl, np.zeros((3, 2)), method=ao.AdaGrad(1.0),
    ...                        row_args=(np.array([1.0, 2.0, 3.0]),))
    >>> res.x.round(3), res.success.all()
    (array([[1., 1.],
           [2., 2.],
           [3., 3.]]), np.True_)
    """
    method, opts = read_options(read_method(method), options)
    for name in ("history", "return_all", "certificate", "disp"):
        if getattr(opts, name):
            raise ValueError(
                f"options[{name!r}] is {getattr(opts, name)!r}, expected False: minimize_many "
                "records nothing on the way"
            )
    if opts.checks_every(on_device=False) > 1:
        raise ValueError(
            f"options['check_every'] is {opts.check_every!r}, expected 1: the compiled loop looks "
            "at every step as it goes"
        )
    X = _read_starts(X0)
    rows = tuple(_read_row_args(k, array, len(X)) for k, array in enumerate(row_args))
    args = args if isinstance(args, tuple) else (args,)
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, expected 0: minimize_many runs in compiled threads; "
            "minimize runs one problem without"
        )
    if not is_compiled(fun):
        raise TypeError(f"fun is {fun!r}, expected a function compiled with numba.njit")
    if not len(X):
        raise ValueError("X0 has no rows, expected at least one starting point")
    exchange, box, both = read_start(X[0], bounds, prox)
    fixed = box is not None and not box.leaves_free()
    problems = _Problems(fun, both.feasible(X), rows, args, method, both, opts, exchange, fixed)
    in_parallel = fun.targetoptions.get("parallel")  # threads of its own
    problems.run(1 if in_parallel else get_num_threads())
    return problems.result()


class _Problems:
    """The runs of all problems, one in each row of every array."""

    def __init__(
        self,
        fun: Any,
        X: np.ndarray,
        rows: tuple[np.ndarray, ...],
        args: tuple[Any, ...],
        method: Method,
        prox: Proximal,
        opts: Options,
        exchange: Exchange,
        fixed: bool,
    ) -> None:
        m, n = X.shape
        self._fun, self._rows, self._args, self._opts = fun, rows, args, opts
        start = exchange.x
        self._exchange, self._x, self._fixed = exchange, start, fixed
        self._plan = plan = Optimizer(start, method, prox).plan()
        if not plan.is_compilable:
            raise ValueError(
                f"method is {method!r} and prox {prox!r}, expected a method of numbers and a "
                "separable map: others are not compiled"
            )
        compiled = read_compiled(fun, True, start, (), (*row_of(rows, 0), *args))
        if compiled is None:
            raise TypeError(
                f"fun is {fun!r}, expected one that writes its gradient to g_out, or returns a "
                "pair (value, gradient): a number and an array like x; with a name for each "
                "argument, which are numbers, arrays, or tuples of them"
            )
        rows = tuple(
            row.astype(kind.name, copy=False) if isinstance(kind, types.Float) else row
            for row, kind in zip(rows, compiled.kinds[2].types, strict=False)
        )
        self._rows = rows
        functions, kinds = loop_parts(plan, compiled, 1)
        shared = types.Tuple(compiled.kinds[2].types[len(rows) :])  # type: ignore[no-untyped-call]
        kinds = kinds._replace(objective=(*kinds.objective[:2], shared))
        row_kinds = typeof(rows)  # type: ignore[no-untyped-call]
        self._kernel = many_kernel(functions, kinds, row_kinds)
        self._objective = (*compiled.passed(), compiled.args[len(rows) :])
        self._rates = RateTable(method)
        self._monitor = Monitor(opts, start, method.has_objective)
        limits = [MOST]
        if opts.maxiter is not None:
            limits.append(opts.maxiter)
        if opts.maxfev is not None:
            limits.append(opts.maxfev - 1)  # the first evaluation is that of the start
        self._limit = min(limits)

        self._points = np.full((m, 3, n), np.nan, X.dtype)
        self._points[:, 0] = self._points[:, 1] = X
        self._gradients = np.full((m, 2, n), np.nan, X.dtype)
        self._slots, self._stored_rates = (
            tuple(np.tile(array, (m, 1)) for array in arrays)
            for arrays in (plan.slots, plan.stored_rates)
        )
        self._scalars = tuple(np.full((m, 1), value) for value in method.initial_scalars())
        self._counts, self._numbers = np.zeros((m, 10), np.int64), np.full((m, 5), np.nan)
        self._counts[:, [BEST, BEST_GRADIENT]], self._counts[:, PREVIOUS] = 1, 2
        self._numbers[:, BEST_F] = np.inf
        self._nits, self._codes = np.zeros((2, m), np.int64)
        self._ended = np.zeros(m, np.bool_)
        self._first = np.full((m, 2), np.nan)  # median rate of the first step, and its norm
        self._blocks = np.array_split(
            np.arange(m), -(-m // max(1, min(PROBLEMS, m // (8 * get_num_threads()))))
        )
        # Compiled here, as all else: an interrupt in the compiler may leave its locks taken.
        self._median_rates(0, 1)

    # -- running -----------------------------------------------------------------------------------

    def run(self, threads: int) -> None:
        """Run all problems to their ends."""
        self._turn, self._stopped = count(), False
        self._failed: list[tuple[int, BaseException]] = []
        self._caller = get_ident()
        # Each thread holds a lock while it works. An interrupt in `Thread.start` may arrive as a
        # RuntimeError, and one in `Thread.join` has a thread that runs taken for one that ended.
        working: list[LockType] = []
        try:
            for _ in range(threads - 1):
                lock = allocate_lock()
                lock.acquire()
                start_new_thread(self._work_beside, (lock,))
                working.append(lock)
            self._work()
            _wait(working)
        except BaseException:
            self._stopped = True
            _wait(working, PATIENCE)
            raise
        if self._failed:
            raise min(self._failed, key=lambda pair: pair[0])[1]

    def _work_beside(self, lock: LockType) -> None:
        try:
            self._work()
        finally:
            lock.release()

    def _work(self) -> None:
        """Take on blocks of problems until there are no more."""
        spare = np.empty_like(self._x)
        sums = np.empty(-(-self._x.size // BLOCK))
        pace = Pace()
        while (k := next(self._turn)) < len(self._blocks) and not self._stopped:
            lo, hi = int(self._blocks[k][0]), int(self._blocks[k][-1]) + 1
            try:
                self._run_block(lo, hi, spare, sums, pace)
            except BaseException as error:
                self._stopped = True
                if get_ident() == self._caller and not isinstance(error, Exception):
                    raise
                self._failed.append((lo, error))

    def _run_block(self, lo: int, hi: int, spare: np.ndarray, sums: np.ndarray, pace: Pace) -> None:
        """Run some problems."""
        here = slice(lo, hi)
        counts, ended = self._counts[here], self._ended[here]
        self._call(lo, hi, spare, sums, 0)
        if self._fixed:
            ended |= np.isfinite(self._numbers[here, BEST_F])
        while not (ended.all() or self._stopped or self._monitor.limit(0, 0, 0)):
            fresh = ~ended & (counts[:, T] == 0)
            self._first[here, 1][fresh] = self._numbers[here, NORM][fresh]
            start = time.perf_counter()
            before = self._nits[here].sum()
            self._call(lo, hi, spare, sums, 1 if fresh.any() else pace.steps)
            active = max(int(np.count_nonzero(~ended)), 1)
            seconds = (time.perf_counter() - start) * active
            pace.measure(seconds, int(self._nits[here].sum() - before))
            if self._plan.method.rates_only_fall and (first := fresh & (counts[:, T] == 1)).any():
                self._first[here, 0][first] = self._median_rates(lo, hi)[first]

    def _call(self, lo: int, hi: int, spare: np.ndarray, sums: np.ndarray, most: int) -> None:
        plan, method = self._plan, self._plan.method
        first, table = -1, np.zeros(1)
        active = ~self._ended[lo:hi]
        if self._rates.most is not None:
            first = int(self._counts[lo:hi, T][active].min(initial=MOST)) + 1
            table = self._rates.fill(first, max(most, 1))
            if not table.size and most:
                method.lr_at(first)  # it says what is wrong
            first -= 1
        else:
            table = self._rates.fill(1, 1)
        zero = self._x.dtype.type(0)
        self._kernel(
            *self._objective, self._rows, self._points, self._gradients, spare, self._slots,
            plan.prox_arrays, self._stored_rates, method.numbers_after_lr, method.weight_decay,
            plan.prox_coefs, plan.penalty.coefs, table, first, self._scalars, sums,
            self._monitor.tests, self._counts, self._numbers, self._nits, self._codes,
            self._ended, lo, hi, most, self._limit, self._opts.nan_policy == "omit", zero,
            zero * np.nan,
        )  # fmt: skip

    # -- results -----------------------------------------------------------------------------------

    def _learning_rates(self, r: int | np.signedinteger) -> np.ndarray:
        """Return the effective rates of a problem's last step."""
        if self._stored_rates:
            return self._stored_rates[0][r]  # type: ignore[no-any-return]
        scalars = tuple(float(value[0]) for value in row_of(self._scalars, r))
        t, n = int(self._counts[r, T]), self._x.size
        return self._plan.rates_after(t, row_of(self._slots, r), scalars, n)

    def _median_rates(self, lo: int, hi: int) -> np.ndarray:
        """Return the median rates of the first step of some problems."""
        method, n = self._plan.method, self._x.size
        if self._stored_rates or self._scalars:
            rates = np.array([self._learning_rates(r) for r in range(lo, hi)])
        else:
            slots = tuple(slot[lo:hi].reshape(-1) for slot in self._slots)
            rates = self._plan.rates_after(1, slots, (), (hi - lo) * n).reshape(-1, n)
        return median_rates(method, rates, 1)

    def _stop(self, r: int | np.signedinteger) -> Stop:
        """Say why a problem's run has ended, as the loop of minimize would."""
        counts, numbers, m = self._counts[r], self._numbers[r], self._monitor
        m.best_fun, m.best_t = float(numbers[BEST_F]), int(counts[BEST_T])
        m.previous_fun = float(numbers[PREVIOUS_F])
        m.best_x = self._points[r, counts[BEST]]
        if self._fixed and np.isfinite(m.best_fun):
            return FIXED
        t = int(counts[T])
        stop = None
        if self._codes[r] != DONE:
            x = self._points[r, counts[CURRENT]]
            stop = m.judge(t, x, *map(float, numbers[[F, NORM, MOVED]]))
        stop = stop or m.limit(int(self._nits[r]), int(counts[CALLS]), 1)
        assert stop is not None
        method = self._plan.method
        if stop.status == MAXITER and method.rates_only_fall and t:
            first = float(self._first[r, 0]), float(self._first[r, 1])
            median = float(median_rates(method, self._learning_rates(r), t))
            said = dying_rate(first, (median, float(numbers[NORM])), t)
            stop = stop._replace(message=stop.message + said)
        return stop

    def result(self) -> OptimizeResult:
        """Return the results, stacked."""
        from scipy.optimize import OptimizeResult

        for r in np.flatnonzero(self._codes == MISFIT):  # Python says what is wrong
            args = (*row_of(self._rows, r), *self._args)
            Objective(self._fun, True, args, self._exchange)(self._points[r, 0])
        nowhere = np.isnan(self._numbers[:, NORM]) & (self._counts[:, T] == 0)
        for r in np.flatnonzero(nowhere)[:1]:
            args = (*row_of(self._rows, r), *self._args)
            objective = Objective(self._fun, None, args, self._exchange, batch=())
            objective.check_written(self._points[r, 0])
        every, counts = np.arange(len(self._nits)), self._counts
        stops = [self._stop(r) for r in every]
        here = np.array([self._monitor.answers_here(stop) for stop in stops])
        found = np.isfinite(self._numbers[:, BEST_F]) & ~here
        status = np.array([stop.status for stop in stops])
        point = np.where(found, counts[:, BEST], counts[:, CURRENT])
        gradient = np.where(found, counts[:, BEST_GRADIENT], counts[:, GRADIENT])
        return OptimizeResult(
            x=self._points[every, point],
            fun=np.where(found, self._numbers[:, BEST_F], self._numbers[:, F]),
            jac=self._gradients[every, gradient],
            nit=self._nits,
            nfev=counts[:, CALLS].copy(),
            njev=counts[:, CALLS].copy(),
            status=status,
            success=np.isin(status, SUCCESS),
            message=[stop.message for stop in stops],
            learning_rates=np.array([self._learning_rates(r) for r in every]),
        )


def _wait(working: list[LockType], seconds: float = np.inf) -> None:
    """Wait for the threads that hold these locks, for so many seconds at most."""
    end = time.perf_counter() + seconds
    while working and time.perf_counter() < end:
        if working[-1].acquire(timeout=SECONDS):  # in pieces, so that a Ctrl-C is seen
            working.pop()


def _read_starts(X0: ArrayLike) -> np.ndarray:
    demand_host("X0", X0, "the compiled loop runs there")
    X = read_point("X0", X0)
    if X.ndim != 2:
        raise ValueError(f"X0 has shape {X.shape}, expected (m, n): a starting point in each row")
    demand_finite("X0", X)
    return np.array(X, order="C")


def _read_row_args(k: int, given: ArrayLike, m: int) -> np.ndarray:
    array = np.ascontiguousarray(read_array(f"row_args[{k}]", given))
    if array.dtype.kind not in "biufc":
        raise TypeError(f"row_args[{k}] has dtype {array.dtype}, expected numbers")
    if array.ndim == 0 or len(array) != m:
        raise ValueError(
            f"row_args[{k}] has shape {array.shape}, expected {m} entries, one for each row of X0"
        )
    return array
