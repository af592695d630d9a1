"""Runs of many problems, one in each row of every array."""

from __future__ import annotations

import time
from _thread import LockType, allocate_lock, get_ident, start_new_thread
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from numba import get_num_threads, typeof, types

from ..kernels.compile import NumbaFunction, NumbaType, Parts
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
    DescentKinds,
    F,
    T,
    many_kernel,
    row_of,
)
from ..kernels.rates import RateTable
from ..kernels.reductions import BLOCK
from ..methods.base import Method
from ..objectives.compiled import read_compiled
from ..objectives.exchange import Exchange
from ..objectives.function import Objective
from ..optimizer.optimizer import Optimizer
from ..prox.base import Proximal
from .compiled_descent import loop_parts
from .descent import FIXED, median_rates
from .history import dying_rate
from .options import Options
from .pace import MOST, SECONDS, Pace
from .stopping import MAXITER, SUCCESS, Monitor, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


# Problems that a thread takes on at once, at most. A call takes a step of each at least: with a
# slow objective, more of them would make Ctrl-C wait.
PROBLEMS = 16

# Seconds for which an interrupt waits for the calls of other threads.
PATIENCE = 1.0


class Problems:
    """The runs of all problems, one in each row of every array."""

    def __init__(
        self,
        fun: NumbaFunction,
        X: np.ndarray,
        rows: tuple[np.ndarray, ...],
        args: tuple[object, ...],
        method: Method,
        prox: Proximal,
        opts: Options,
        exchange: Exchange,
        fixed: bool,
    ) -> None:
        m = len(X)
        self._fun, self._rows, self._args, self._opts = fun, rows, args, opts
        start = exchange.x
        self._exchange, self._x, self._fixed = exchange, start, fixed
        self._plan = plan = Optimizer._of_run(start, method, prox, exchange.backend)._plan()
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
        self._objective = (*compiled.passed(), compiled.args[len(rows) :])
        self._monitor = Monitor(opts, start, method.has_objective)
        limits = [MOST]
        if opts.maxiter is not None:
            limits.append(opts.maxiter)
        if opts.maxfev is not None:
            limits.append(opts.maxfev - 1)  # the first evaluation is that of the start
        self._limit = min(limits)

        self._slots, self._stored_rates = (
            tuple(np.tile(array, (m, 1)) for array in arrays)
            for arrays in (plan.slots, plan.stored_rates)
        )
        self._scalars = tuple(np.full((m, 1), value) for value in method.initial_scalars())
        self._codes, self._ended = np.zeros(m, np.int64), np.zeros(m, np.bool_)
        self._blocks = np.array_split(
            np.arange(m), -(-m // max(1, min(PROBLEMS, m // (8 * get_num_threads()))))
        )
        self._make(functions, kinds, row_kinds, X)

    def _make(
        self, functions: Parts, kinds: DescentKinds, row_kinds: NumbaType, X: np.ndarray
    ) -> None:
        """Compile the loop and allocate the records of the runs."""
        m, n = X.shape
        self._kernel = many_kernel(functions, kinds, row_kinds)
        self._rates = RateTable(self._plan.method)
        self._points = np.full((m, 3, n), np.nan, X.dtype)
        self._points[:, 0] = self._points[:, 1] = X
        self._gradients = np.full((m, 2, n), np.nan, X.dtype)
        self._counts, self._numbers = np.zeros((m, 10), np.int64), np.full((m, 5), np.nan)
        self._counts[:, [BEST, BEST_GRADIENT]], self._counts[:, PREVIOUS] = 1, 2
        self._numbers[:, BEST_F] = np.inf
        self._nits = np.zeros(m, np.int64)
        self._first = np.full((m, 2), np.nan)  # median rate of the first step, and its norm
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

    def _say_what_is_wrong(self, misfits: np.ndarray, nowhere: np.ndarray, X: np.ndarray) -> None:
        """Call functions whose gradient does not fit from Python, which says what is wrong."""
        for r in misfits:  # Python says what is wrong
            args = (*row_of(self._rows, r), *self._args)
            Objective(self._fun, True, args, self._exchange)(X[r])
        for r in nowhere[:1]:
            args = (*row_of(self._rows, r), *self._args)
            objective = Objective(self._fun, None, args, self._exchange, batch=())
            objective.check_written(X[r])

    def result(self) -> OptimizeResult:
        """Return the results, stacked."""
        from .results import Result

        self._say_what_is_wrong(
            np.flatnonzero(self._codes == MISFIT),
            np.flatnonzero(np.isnan(self._numbers[:, NORM]) & (self._counts[:, T] == 0)),
            self._points[:, 0],
        )
        every, counts = np.arange(len(self._nits)), self._counts
        stops = [self._stop(r) for r in every]
        here = np.array([self._monitor.answers_here(stop) for stop in stops])
        found = np.isfinite(self._numbers[:, BEST_F]) & ~here
        status = np.array([stop.status for stop in stops])
        point = np.where(found, counts[:, BEST], counts[:, CURRENT])
        gradient = np.where(found, counts[:, BEST_GRADIENT], counts[:, GRADIENT])
        return Result(
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
