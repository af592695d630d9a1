"""What both linear models share: reading parameters and data, fitting, and predicting."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import Method
from .fitting import (
    BATCH,
    Fit,
    Settings,
    fit,
    go_on,
    named,
    order_for_a_rate,
    rows_for_a_rate,
    size_of,
)
from .rows import merged
from .units import Targets, Units

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..arrays import Matrix
    from ..problems import Problem

# A matrix, its targets and their weights.
Rows: TypeAlias = "tuple[Matrix, np.ndarray, np.ndarray | None]"

KINKED = ("hinge", "epsilon_insensitive", "quantile")
KEPT = ("_states", "_collected", "_seen", "_units", "_found")


class LinearModel(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A linear model that one of the minimisers fits; a subclass says what the losses are."""

    LOSSES: ClassVar[tuple[str, ...]] = ()

    def _problem(
        self,
        X: Matrix,
        y: np.ndarray,
        weights: np.ndarray | None,
        raw: bool = False,
        unit: Targets | None = None,
    ) -> Problem:
        raise NotImplementedError

    def _columns(self, y: np.ndarray) -> list[np.ndarray]:
        """Return the targets of each output that is fitted by itself."""
        return [y]

    # -- reading -----------------------------------------------------------------------------------

    def _settings(self, rows: float) -> Settings:
        """Check the parameters; ``rows`` is the sum of weights, or infinite for a stream."""
        if self.loss not in self.LOSSES:
            raise ValueError(f"loss is {self.loss!r}, expected one of {', '.join(self.LOSSES)}")
        if not isinstance(self.method, str | Method):
            raise TypeError(f"method is {self.method!r}, expected a method of adaptopt or its name")
        whole = isinstance(self.batch_size, Integral) and not isinstance(self.batch_size, bool)
        if not (self.batch_size in ("auto", "all") if not whole else self.batch_size >= 1):
            raise ValueError(
                f"batch_size is {self.batch_size!r}, expected 'auto', 'all' or a whole number >= 1"
            )
        for name, least, none in (("max_iter", 1, True), ("n_iter_no_change", 1, False)):
            value = getattr(self, name)
            if value is None and none:
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} is {value!r}, expected a whole number >= {least}")
        method = named(self.method) if isinstance(self.method, str) else self.method
        from_sums = method is not None and method.from_sums
        numbers: dict[str, float] = {}
        for name in ("l1", "l2", "tol"):
            value = getattr(self, name)
            if name == "l2" and value == "auto":
                value = 0.0 if from_sums else self._usual_l2(rows)
            if not isinstance(value, Real) or not 0 <= float(value) < math.inf:
                extra = " or 'auto'" * (name == "l2")
                raise ValueError(f"{name} is {value!r}, expected a finite number >= 0{extra}")
            if name != "tol" and value and from_sums:
                raise ValueError(
                    f"{name} is {value!r} with method {self.method!r}, expected 0: it computes "
                    f"each point from sums. Its own {name} is for the intercept too"
                )
            numbers[name] = float(value)
        if isinstance(self.lr, str) and self.lr != "auto":
            raise ValueError(f"lr is {self.lr!r}, expected 'auto', a number or a schedule")
        return Settings(
            self.method, self.lr, numbers["l1"], numbers["l2"], self.max_iter, self.batch_size,
            numbers["tol"], self.shuffle, self.average, self.n_iter_no_change, bool(self.verbose),
        )  # fmt: skip

    def _usual_l2(self, rows: float) -> float:
        raise NotImplementedError

    def _l2_for(self, targets: Targets, l2: float) -> float:
        """Return the strength that is the usual one for targets in their unit."""
        return l2

    def _read_matrix(self, X: Matrix, **more: object) -> Any:
        if hasattr(type(X), "over_blocks"):
            raise TypeError(
                f"X is {X!r:.60}, expected a matrix: ao.minimize(X, x0, prox=...) minimises a sum"
            )
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", **more
        )

    def _read_weights(self, sample_weight: ArrayLike | None, X: Matrix) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if (weights < 0).any():
            where = int(np.argmax(weights < 0))
            raise ValueError(
                f"Negative values in data passed to `sample_weight`: sample_weight[{where}] is "
                f"{weights[where]}, expected at least 0"
            )
        if not weights.any():
            raise ValueError("sample_weight is 0 for all rows, expected a positive weight")
        return np.asarray(weights)

    # -- fitting -----------------------------------------------------------------------------------

    def _fit(self, X: Matrix, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Fit to rows; attributes change only when all is done."""
        if weights is not None and not weights.all():  # not even units may depend on these rows
            X, y, weights = (array[weights > 0] for array in (X, y, weights))
        total = float(X.shape[0]) if weights is None else float(weights.sum())
        settings = self._settings(total)
        rng = check_random_state(self.random_state)
        held = None
        if self.early_stopping:
            X, y, weights, held = self._split(X, y, weights, rng)
        starts = self._starts() if self.warm_start and hasattr(self, "coef_") else None
        if starts is not None:
            self._check_width(starts, X)
        seeds = rng.randint(2**31 - 1, size=len(columns := self._columns(y)))
        jobs = [
            delayed(self._fit_one)(
                X, column, weights, settings, None if starts is None else starts[k], int(seeds[k]),
                None if held is None else (held[0], self._columns(held[1])[k], held[2]),
            )
            for k, column in enumerate(columns)
        ]  # fmt: skip
        n_jobs = getattr(self, "n_jobs", None) if len(jobs) > 1 else None
        fits: list[Fit] = Parallel(n_jobs=n_jobs)(jobs)
        for name in KEPT:
            self.__dict__.pop(name, None)
        self._take(fits)
        self.n_iter_ = max(found.n_iter for found in fits)
        self.loss_curve_ = _mean_curve([found.losses for found in fits])
        if not all(found.converged for found in fits):
            warnings.warn(
                f"max_iter ({settings.max_iter or self.n_iter_}) was reached before the objective "
                f"settled to tol={self.tol}. Scale the columns of X, or raise max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _fit_one(
        self, X: Matrix, y: np.ndarray, weights: np.ndarray | None, settings: Settings,
        start: np.ndarray | None, seed: int, held: Rows | None,
    ) -> Fit:  # fmt: skip
        problem, units = self._problem(X, y, weights), None
        intercept = bool(self.fit_intercept)
        targets = self._targets(y) if settings.searches else None
        if targets is not None and self.l2 == "auto":
            settings = settings._replace(l2=self._l2_for(targets, settings.l2))
        # The search stalls at kinks: epochs came to a fifth of its objective (8 data sets).
        epochs = self.loss in KINKED and settings.batch_size != "all"
        joined = settings.joins_rows(size_of(problem), held is not None)
        joined = joined and (settings.shuffle or not epochs)
        if joined:
            ones = np.ones(X.shape[0]) if weights is None else weights
            X, y, weights = merged(X, y, ones)
            settings = settings._replace(batch_size=BATCH if epochs else "all")
            units = Units.of_columns(X, weights, intercept) if settings.searches else None
        elif settings.searches:
            units = Units.if_needed(X, weights, intercept)
        units = Units.with_targets(units, targets)
        if joined or units is not None:
            problem = self._in_units(X, y, weights, units)
        validation = None if held is None else self._in_units(held[0], held[1], held[2], units)
        return fit(problem, start, settings, seed, validation, units)

    def _check_width(self, points: Sequence[np.ndarray], X: Matrix) -> None:
        """Raise an error if a run cannot go on from points."""
        width = X.shape[1] + bool(self.fit_intercept)
        if points[0].shape[0] != width:
            raise ValueError(
                f"the fit to go on with has {points[0].shape[0]} coefficients with its intercept, "
                f"expected {width}: X has {X.shape[1]} columns, and fit_intercept is "
                f"{self.fit_intercept}"
            )

    def _targets(self, y: np.ndarray) -> Targets | None:
        """Return the unit of targets, if they need one."""
        return None

    def _in_units(
        self,
        X: Matrix,
        y: np.ndarray,
        weights: np.ndarray | None,
        units: Units | None,
        raw: bool = False,
    ) -> Problem:
        if units is None:
            return self._problem(X, y, weights, raw)
        targets = units.targets
        y = y if targets is None else targets.of(y)
        return self._problem(units.of_rows(X), y, weights, raw, targets)

    def _split(
        self, X: Matrix, y: np.ndarray, weights: np.ndarray | None, rng: np.random.RandomState
    ) -> tuple[Matrix, np.ndarray, np.ndarray | None, Rows]:
        """Hold rows back for early stopping."""
        share = self.validation_fraction
        if not (isinstance(share, Real) and 0 < float(share) < 1):
            raise ValueError(f"validation_fraction is {share!r}, expected 0 < fraction < 1")
        rows = np.arange(X.shape[0])
        stratify = y if self._stratifies(y) else None
        kept, held = train_test_split(rows, test_size=share, random_state=rng, stratify=stratify)
        of = (lambda r: None) if weights is None else (lambda r: weights[r])
        return X[kept], y[kept], of(kept), (X[held], y[held], of(held))

    def _stratifies(self, y: np.ndarray) -> bool:
        return False

    # -- a stream of rows --------------------------------------------------------------------------

    def _go_on(self, X: Matrix, y: np.ndarray, weights: np.ndarray | None) -> None:
        """Go on over the next rows.

        A rate that is found needs some rows. Until there are so many they are kept, and fitted from
        the start with each call. What results depends only on all rows so far.
        """
        settings = self._settings(math.inf)
        ones = np.ones(X.shape[0]) if weights is None else weights
        if not ones.all():
            X, y, ones = X[ones > 0], y[ones > 0], ones[ones > 0]
        states, kept, seen, units, found = (getattr(self, name, None) for name in KEPT)
        if found is not None:
            self._check_width(found, X)
            if not all(map(np.array_equal, found, self._starts())):
                states = kept = None  # coef_ or intercept_ was edited: go on from there
        if states is None and kept is None:
            starts = self._starts() if hasattr(self, "coef_") else None
            kept = X[:0], y[:0], ones[:0], starts
        fits: list[Fit] = []
        if kept is not None:
            *kept, starts = kept
            room, enough = X.shape[0], True
            if settings.searches:
                needed = rows_for_a_rate(_join(kept[1], y))
                room, enough = needed - len(kept[1]), needed <= len(kept[1]) + len(y)
            kept = [_join(a, b[:room]) for a, b in zip(kept, (X, y, ones), strict=True)]
            X, y, ones = X[room:], y[room:], ones[room:]
            none = [None] * len(self._columns(y))
            units = None
            if settings.searches:
                units = Units.with_targets(Units.of_all(kept[0]), self._targets(kept[1]))
            if enough or starts is None:  # few rows give no rate that a model could go on with
                order = order_for_a_rate(kept[1]) if settings.searches else slice(None)
                first = [array[order] for array in kept]
                fits = self._pass(first[0], first[1], first[2], none, starts, settings, units)
            kept = None if enough else (*kept, starts)
            states = [found.state for found in fits] if enough else None
        if X.shape[0]:
            fits = self._pass(X, y, ones, states, None, settings, units)
            states = [found.state for found in fits]
        if fits:
            self._take(fits)
        self._states, self._collected, self._units = states, kept, units
        self._found = self._starts()
        self._seen = (seen or 0) + 1
        self.n_iter_ = self._seen
        if not fits:
            return
        before = getattr(self, "loss_curve_", np.empty(0)) if seen else np.empty(0)
        self.loss_curve_ = np.append(before, _mean_curve([found.losses for found in fits])[-1:])

    def _pass(
        self, X: Matrix, y: np.ndarray, weights: np.ndarray, states: Any,
        starts: Sequence[np.ndarray] | None,
        settings: Settings, units: Units | None,
    ) -> list[Fit]:  # fmt: skip
        return [
            go_on(
                self._in_units(X, column, weights, units, raw=True), states[k],
                None if starts is None else starts[k], settings, units,
            )
            for k, column in enumerate(self._columns(y))
        ]  # fmt: skip

    # -- the model ---------------------------------------------------------------------------------

    def _take(self, fits: list[Fit]) -> None:
        """Make ``coef_`` and ``intercept_`` of the points found."""
        rows = [found.x.T if found.x.ndim == 2 else found.x[None] for found in fits]
        points = np.ascontiguousarray(np.concatenate(rows))
        if self.fit_intercept:
            self.coef_, self.intercept_ = points[:, :-1].copy(), points[:, -1].copy()
        else:
            self.coef_, self.intercept_ = points, np.zeros(points.shape[0], points.dtype)

    def _dense_coef(self) -> np.ndarray:
        coef = self.coef_.toarray() if scipy.sparse.issparse(self.coef_) else self.coef_
        return np.asarray(np.atleast_2d(coef))

    def _points(self) -> np.ndarray:
        """Return ``coef_`` and ``intercept_`` as points of the problems, one a row."""
        coef = self._dense_coef()
        if not self.fit_intercept:
            return np.array(coef)
        return np.column_stack([coef, np.atleast_1d(self.intercept_).astype(coef.dtype)])

    def _starts(self) -> list[np.ndarray]:
        return list(self._points())

    def _scores(self, X: Matrix) -> np.ndarray:
        check_is_fitted(self)
        X = self._read_matrix(X, reset=False)
        coef = self.coef_ if scipy.sparse.issparse(self.coef_) else np.atleast_2d(self.coef_)
        scores = X @ coef.T
        scores = scores.toarray() if scipy.sparse.issparse(scores) else np.asarray(scores)
        scores += np.atleast_1d(self.intercept_).astype(scores.dtype)
        return np.asarray(scores)

    def sparsify(self) -> Any:
        """Make ``coef_`` a CSR matrix, which saves memory if most entries are 0; return self."""
        check_is_fitted(self)
        if not scipy.sparse.issparse(self.coef_):
            self.coef_ = scipy.sparse.csr_matrix(np.atleast_2d(self.coef_))
        return self

    def densify(self) -> Any:
        """Undo `sparsify`; return self."""
        check_is_fitted(self)
        if scipy.sparse.issparse(self.coef_):
            coef = self.coef_.toarray()
            self.coef_ = coef if self._keeps_rows else coef[0]
        return self

    _keeps_rows = True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _join(a: Matrix, b: Matrix) -> Matrix:
    """Return rows one after the other."""
    if scipy.sparse.issparse(a) or scipy.sparse.issparse(b):
        return scipy.sparse.vstack([a, b], format="csr")
    return np.concatenate([a, b])


def _mean_curve(curves: list[np.ndarray]) -> np.ndarray:
    """Return the mean of curves of several lengths; those that have ended keep their last value."""
    longest = max(len(curve) for curve in curves)
    padded = [np.pad(c, (0, longest - len(c)), mode="edge") if len(c) else c for c in curves]
    return np.mean([c for c in padded if len(c)], axis=0) if longest else np.empty(0)
