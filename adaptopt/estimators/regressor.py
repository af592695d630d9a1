"""Linear regression."""

from __future__ import annotations

import math
import warnings
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import column_or_1d

from .. import problems
from .linear import LinearModel, Rows
from .units import Targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from .. import Method
    from ..arrays import Matrix
    from .fitting import Fit

# As in LinearClassifier, of benchmarks/penalty.py on 7 data sets; smaller strengths score as well.
C = 256.0


class LinearRegressor(RegressorMixin, LinearModel):  # type: ignore[misc]  # without types
    r"""Linear regression with one of several losses, and no learning rate to tune.

    Minimises the mean loss plus ``l1 * sum(abs(coef_)) + l2 / 2 * sum(coef_**2)``.

    Parameters
    ----------
    loss : {"squared", "huber", "epsilon_insensitive", "quantile", "poisson"}
        `problems.LeastSquares`, `problems.Huber`, `problems.EpsilonInsensitive`,
        `problems.Quantile` or `problems.Poisson`, which needs targets >= 0 and predicts means.
    method : str or Method, default "adagrad"
        A method, or its name.
    lr : "auto", float or callable, default "auto"
        The learning rate, or a schedule. "auto" finds one; a method that allows no search keeps the
        rate it has, or its default.
    l1 : float, default 0
        Strength of the L1 penalty, at least 0. The intercept has no penalty.
    l2 : float or "auto", default "auto"
        Strength of the squared penalty, at least 0. "auto" is 1 / 256 over the number of
        rows (the sum of their weights) in `fit`. It is 0 in `partial_fit`, and for methods that
        compute each point from sums (`FTRL`, `AdaGradDA`), which take no such penalty: they have an
        l1 and an l2 of their own, for the intercept too.
    epsilon : float, optional
        ``delta`` of "huber" (default 1.35) or ``epsilon`` of "epsilon_insensitive" (default 0.1),
        in the unit of the targets.
    quantile : float, default 0.5
        Of the loss "quantile", between 0 and 1.
    fit_intercept : bool, default True
        Add a constant to the predictions.
    max_iter : int, optional
        Largest number of passes over the data. By default 300 if each step takes all rows, else
        from 10 to 100 epochs, about a million rows in all.
    batch_size : "auto", "all" or int
        Rows of a step. "auto" takes all rows if the data have at most two million entries, and
        batches of 32 rows if they have more, if a rate is given, or with ``early_stopping``. In
        `partial_fit`, "auto" and "all" take steps of one row.
    tol : float, default 1e-4
        The fit has converged if no step lowers the objective by more than ``tol`` of its fall so
        far (all rows). Epochs test it only if ``max_iter`` is given: the mean loss of an epoch then
        differs by at most ``tol`` of it from that of the one before.
    shuffle : bool, default True
        Take the rows in a new order in each epoch. `partial_fit` keeps their order.
    early_stopping : bool, default False
        Hold back rows, stop when their loss has had no minimum for ``n_iter_no_change`` epochs, and
        take the model of its minimum.
    validation_fraction : float, default 0.1
        The share of rows held back.
    n_iter_no_change : int, default 5
        Epochs without a new minimum.
    average : {None, "last", "uniform", "polynomial"}
        Average of the iterates, as in `minimize_finite_sum`.
    warm_start : bool, default False
        `fit` begins at the coefficients that are there.
    random_state : int, RandomState or None
        Source of the orders and of the rows held back.
    verbose : bool, default False
        Show a progress bar (needs tqdm).

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        The coefficients, of the dtype of the data, float32 or float64.
    intercept_ : ndarray of shape (1,)
        The constant.
    n_iter_ : int
        Passes over the data, or calls of `partial_fit`.
    loss_curve_ : ndarray
        The objective at each step (all rows); the mean loss of each epoch, or the validation loss;
        the mean loss of each call of `partial_fit`, before each of its steps.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or the fit overflows.

    Notes
    -----
    If each step takes all rows, equal rows are first joined, in a copy, and the order does not
    matter: a weight k is k equal rows, to the last bit. Otherwise dense C-contiguous and canonical
    CSR rows of float32 or float64 are not copied.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011).

    Examples
    --------
    >>> import numpy as np
    >>> from adaptopt.estimators import LinearRegressor
    >>> X = np.arange(20.0).reshape(10, 2) % 7
    >>> model = LinearRegressor().fit(X, X @ [1.0, -2.0] + 3.0)
    >>> model.coef_.round(2), model.intercept_.round(2)
    (array([ 1., -2.]), array([3.]))
    """

    LOSSES: ClassVar[tuple[str, ...]] = (
        "squared", "huber", "epsilon_insensitive", "quantile", "poisson",
    )  # fmt: skip
    _keeps_rows = False

    def __init__(
        self,
        loss: str = "squared",
        *,
        method: str | Method = "adagrad",
        lr: float | str | Callable[[int], float] = "auto",
        l1: float = 0.0,
        l2: float | str = "auto",
        epsilon: float | None = None,
        quantile: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int | None = None,
        batch_size: int | str = "auto",
        tol: float = 1e-4,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        average: str | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool = False,
    ) -> None:
        self.loss = loss
        self.method = method
        self.lr = lr
        self.l1 = l1
        self.l2 = l2
        self.epsilon = epsilon
        self.quantile = quantile
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.tol = tol
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.average = average
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LinearRegressor:
        """Fit the model to rows.

        Parameters
        ----------
        X : array_like, data frame or sparse matrix of shape (n_samples, n_features)
            The rows.
        y : array_like of shape (n_samples,)
            A finite number for each.
        sample_weight : array_like of shape (n_samples,), optional
            A weight >= 0 for each. k is k rows.
        """
        X, y, weights = self._read(X, y, sample_weight, reset=True)
        spread = float(np.ptp(y))
        if self.loss == "epsilon_insensitive" and 0 < spread <= 2 * self._epsilon:
            warnings.warn(
                f"epsilon is {self._epsilon}, and no target is farther than {spread} from another: "
                "a constant fits them as well as anything. Lower epsilon",
                stacklevel=2,
            )
        self._fit(X, y, weights)
        return self

    def partial_fit(
        self, X: Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LinearRegressor:
        """Go on with one pass over more rows, in their order.

        Calls with parts of the rows do what one call with all of them does, to the last bit; up to
        rounding over sparse rows with ``l1``, ``l2`` or ``average``. If ``batch_size`` is a number,
        a part that is no multiple of it ends in a shorter batch.
        """
        X, y, weights = self._read(X, y, sample_weight, reset=not hasattr(self, "coef_"))
        self._go_on(X, y, weights)
        return self

    def predict(self, X: Matrix) -> np.ndarray:
        """Return the predictions: the mean (or the quantile, or the median) for each row."""
        z = self._scores(X)[:, 0]
        if self.loss != "poisson":
            return z
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(z))

    def _read(self, X: Matrix, y: Any, sample_weight: ArrayLike | None, reset: bool) -> Rows:
        X, y = self._read_matrix(X, y=y, reset=reset, y_numeric=True)
        y = column_or_1d(y, warn=True).astype(np.float64)
        size, strict = self._epsilon, self.loss == "huber"
        fits = isinstance(size, Real) and 0 <= float(size) < math.inf and (size or not strict)
        if (strict or self.loss == "epsilon_insensitive") and not fits:
            least = "> 0" if strict else ">= 0"
            raise ValueError(f"epsilon is {size!r}, expected a finite number {least}")
        if self.loss == "poisson" and (y < 0).any():
            where = int(np.argmax(y < 0))
            raise ValueError(f"y[{where}] is {y[where]}, expected a count >= 0 for loss='poisson'")
        return X, y, self._read_weights(sample_weight, X)

    def _usual_l2(self, rows: float) -> float:
        return 1.0 / (C * rows) if math.isfinite(rows) else 0.0

    def _l2_for(self, targets: Targets, l2: float) -> float:
        if not targets.degree:
            return l2
        # Far from its minimum Huber's loss rises by its delta.
        steep = min(1.0, targets.amount(self._epsilon)) if self.loss == "huber" else 1.0
        return float(np.ldexp(l2 * steep, (targets.degree - 2) * targets.exponent))

    @property
    def _epsilon(self) -> float:
        if self.epsilon is not None:
            return self.epsilon
        return 1.35 if self.loss == "huber" else 0.1

    def _targets(self, y: np.ndarray) -> Targets | None:
        if self.loss == "poisson":
            return Targets.of_counts(y, bool(self.fit_intercept))
        degree = 1 if self.loss in ("epsilon_insensitive", "quantile") else 2
        return Targets.if_needed(y, degree, bool(self.fit_intercept))

    def _problem(
        self,
        X: Matrix,
        y: np.ndarray,
        weights: Any,
        raw: bool = False,
        unit: Targets | None = None,
    ) -> problems.Problem:
        options: dict[str, Any] = {"intercept": bool(self.fit_intercept)}
        size = unit.amount(self._epsilon) if unit else self._epsilon
        if not raw:
            options["sample_weight"] = weights
        if self.loss == "huber":
            made: problems.Problem = problems.Huber(X, y, size, **options)
        elif self.loss == "epsilon_insensitive":
            made = problems.EpsilonInsensitive(X, y, size, **options)
        elif self.loss == "quantile":
            made = problems.Quantile(X, y, self.quantile, **options)
        elif self.loss == "poisson":
            made = problems.Poisson(X, y, **options)
        else:
            made = problems.LeastSquares(X, y, **options)
        return made.with_weights(weights) if raw else made

    def _take(self, fits: list[Fit]) -> None:
        super()._take(fits)
        self.coef_ = self.coef_[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags
