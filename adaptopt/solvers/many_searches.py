"""Runs of many problems with a search for the learning rate of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..kernels import search_numbers as search
from ..kernels.compile import NumbaType, Parts
from ..kernels.descent import DescentKinds
from ..kernels.search_loop import DONE as LOOP_DONE
from ..kernels.search_loop import MISFIT as LOOP_MISFIT
from ..kernels.search_loop import many_searches
from .descent import FIXED
from .many_descents import Problems
from .pace import MOST, Pace
from .search import SearchParts, work_arrays
from .search_end import follow, judge
from .search_state import EndedSearch, SearchState
from .stopping import SUCCESS, Stop

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class ProblemSearches(Problems):
    """The same with a search for the rate of each problem."""

    def _make(
        self, functions: Parts, kinds: DescentKinds, row_kinds: NumbaType, X: np.ndarray
    ) -> None:
        m = len(X)
        self._parts = parts = SearchParts.of(self._plan)
        loop = (functions[0], *parts.functions)
        self._kernel = many_searches(loop, parts.kinds, kinds, row_kinds)
        self._rtol = -1.0 if self._opts.rtol is None else self._opts.rtol
        self._most_calls = MOST if self._opts.maxfev is None else self._opts.maxfev
        self._limit = MOST if self._opts.maxiter is None else self._opts.maxiter
        first = SearchState.before(X[0])
        self._all = SearchState(
            **{name: np.tile(array, (m, *[1] * array.ndim)) for name, array in vars(first).items()}
        )
        self._all.points[:, 0] = X
        self._done = np.zeros((m, 1), np.int64)

    def _ended_searches(self) -> list[EndedSearch]:
        """Return the search of each problem; its numbers are Python's, for speed."""
        a = self._all
        rows = zip(a.points, a.gradients, a.counts.tolist(), a.numbers.tolist(), strict=True)
        return [EndedSearch(*row) for row in rows]

    def _run_block(self, lo: int, hi: int, spare: np.ndarray, sums: np.ndarray, pace: Pace) -> None:
        here, work = slice(lo, hi), work_arrays(self._x.size)
        ended, done = self._ended[here], self._all.counts[here, search.STEPS]
        self._search(lo, hi, spare, work, 0)
        if self._fixed:
            ended |= np.isfinite(self._all.numbers[here, search.BEST_F])
        while not (ended.all() or self._stopped or self._monitor.limit(0, 0, 0)):
            start, before = time.perf_counter(), done.sum()
            self._search(lo, hi, spare, work, pace.steps)
            active = max(int(np.count_nonzero(~ended)), 1)
            pace.measure((time.perf_counter() - start) * active, int(done.sum() - before))

    def _search(
        self, lo: int, hi: int, spare: np.ndarray, work: tuple[np.ndarray, ...], most: int
    ) -> None:
        plan, every, parts = self._plan, self._all, self._parts
        self._kernel(
            *self._objective, self._rows, spare, self._monitor.tests, self._rtol, most,
            self._most_calls, self._done, every.points, every.gradients, self._slots, every.ranges,
            every.displacement, every.rates, plan.prox_arrays, parts.hyper,
            plan.method.weight_decay, plan.prox_coefs, plan.penalty.coefs, self._scalars, *work,
            every.counts, every.numbers, parts.share, parts.eps, *parts.ends, self._limit,
            self._codes, self._ended, lo, hi,
        )  # fmt: skip

    def _why_ended(self, r: int, row: EndedSearch) -> Stop:
        m = self._monitor
        follow(m, row)
        if self._fixed and np.isfinite(m.best_fun):
            return FIXED
        code = int(self._codes[r])
        task = code if code >= 0 else search.ACCEPTED
        stop = judge(m, row, task, self._rtol) if code != LOOP_DONE else None
        stop = stop or m.limit(int(row.counts[search.STEPS]), int(self._done[r, 0]), 1)
        assert stop is not None
        return stop

    def result(self) -> OptimizeResult:
        """Return the results, stacked."""
        from .results import Result

        every, counts, numbers = np.arange(len(self._ended)), self._all.counts, self._all.numbers
        self._say_what_is_wrong(
            np.flatnonzero(self._codes == LOOP_MISFIT),
            np.flatnonzero(np.isnan(numbers[:, search.NORM]) & (counts[:, search.STEPS] == 0)),
            self._all.points[:, 0],
        )
        stops = [self._why_ended(r, row) for r, row in enumerate(self._ended_searches())]
        here = np.array([self._monitor.answers_here(stop) for stop in stops])
        found = np.isfinite(numbers[:, search.BEST_F]) & ~here
        status = np.array([stop.status for stop in stops])
        row = np.where(found, counts[:, search.BEST], counts[:, search.X])
        taken, lr = counts[:, search.STEPS] > 0, numbers[:, search.ALPHA]
        rates = self._all.rates * lr.astype(self._x.dtype)[:, None]
        return Result(
            x=self._all.points[every, row],
            fun=np.where(found, numbers[:, search.BEST_F], numbers[:, search.F]),
            jac=self._all.gradients[every, row],
            nit=counts[:, search.STEPS].copy(),
            nfev=self._done[:, 0].copy(),
            njev=self._done[:, 0].copy(),
            status=status,
            success=np.isin(status, SUCCESS),
            message=[stop.message for stop in stops],
            learning_rates=np.where(taken[:, None], rates, self._x.dtype.type(np.nan)),
            lr=np.where(taken, lr, np.nan),
        )
