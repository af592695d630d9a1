"""Linear classification in two or more classes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from .. import problems
from .linear import LinearModel, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from .. import Method
    from ..arrays import Matrix
    from .units import Targets

# What "auto" of l2 is, as LogisticRegression counts it: of the powers of 4 that
# benchmarks/penalty.py tries on 15 data sets, the one with the best mean score.
C = {"logistic": 4.0, "hinge": 1.0, "squared_hinge": 1.0, "modified_huber": 1.0}

_PROBLEMS = {
    "logistic": problems.Logistic,
    "hinge": problems.Hinge,
    "squared_hinge": problems.SquaredHinge,
    "modified_huber": problems.ModifiedHuber,
}


def _has_probabilities(self: LinearClassifier) -> bool:
    if self.loss not in ("logistic", "modified_huber"):
        raise AttributeError(f"loss={self.loss!r} gives no probabilities, expected 'logistic'")
    return True


class LinearClassifier(ClassifierMixin, LinearModel):  # type: ignore[misc]  # without types
    r"""Linear classification with one of several losses, and no learning rate to tune.

    Minimises the mean loss plus ``l1 * sum(abs(coef_)) + l2 / 2 * sum(coef_**2)``.

    Parameters
    ----------
    loss : {"logistic", "hinge", "squared_hinge", "modified_huber"}
        `problems.Logistic` (with more than two classes `problems.Multinomial`), `problems.Hinge`,
        `problems.SquaredHinge` or `problems.ModifiedHuber`. The first and the last have
        `predict_proba`.
    multi_class : {"auto", "multinomial", "ovr"}
        With more than two classes: by softmax ("logistic" only), or one against the rest. "auto" is
        "multinomial" for "logistic".
    method : str or Method, default "adagrad"
        A method, or its name.
    lr : "auto", float or callable, default "auto"
        The learning rate, or a schedule. "auto" finds one; a method that allows no search keeps the
        rate it has, or its default.
    l1 : float, default 0
        Strength of the L1 penalty, at least 0. The intercept has no penalty.
    l2 : float or "auto", default "auto"
        Strength of the squared penalty, at least 0. "auto" is 1 over the number of rows
        (the sum of their weights), and a quarter of it for "logistic", which is ``C=4`` of
        `sklearn.linear_model.LogisticRegression`; in `partial_fit`, whose rows have no end, it
        is 0, as it is for the methods that `LinearRegressor` names.
    fit_intercept : bool, default True
        Add a constant to the scores.
    class_weight : dict, "balanced" or None
        Weights of classes, by label; "balanced" gives all classes the same sum. `partial_fit` takes
        a dict only.
    max_iter, batch_size, tol, shuffle
        As for `LinearRegressor`.
    early_stopping, validation_fraction, n_iter_no_change
        As for `LinearRegressor`. The rows held back have all classes in proportion, if there are
        enough.
    average, warm_start, random_state, verbose
        As for `LinearRegressor`.
    n_jobs : int, optional
        Processes that share the classes, for one against the rest.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        The coefficients, of the dtype of the data, float32 or float64.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        The constants.
    n_iter_, loss_curve_, n_features_in_, feature_names_in_
        As for `LinearRegressor`; over classes the largest number and the mean curve.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, there is only one class, or the fit overflows.

    Notes
    -----
    As for `LinearRegressor`.

    References
    ----------
    Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic
    optimization", JMLR 12 (2011).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from adaptopt.estimators import LinearClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LinearClassifier().fit(X, y)
    >>> model.coef_.shape, model.score(X, y) > 0.95
    ((3, 4), True)
    """

    LOSSES: ClassVar[tuple[str, ...]] = tuple(_PROBLEMS)

    def __init__(
        self,
        loss: str = "logistic",
        *,
        multi_class: str = "auto",
        method: str | Method = "adagrad",
        lr: float | str | Callable[[int], float] = "auto",
        l1: float = 0.0,
        l2: float | str = "auto",
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
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
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.loss = loss
        self.multi_class = multi_class
        self.method = method
        self.lr = lr
        self.l1 = l1
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
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
        self.n_jobs = n_jobs
        self.verbose = verbose

    # -- fitting -----------------------------------------------------------------------------------

    def fit(
        self, X: Matrix, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> LinearClassifier:
        """Fit the model to rows.

        Parameters
        ----------
        X : array_like, data frame or sparse matrix of shape (n_samples, n_features)
            The rows.
        y : array_like of shape (n_samples,)
            A label for each: numbers, strings or booleans, of at least two classes.
        sample_weight : array_like of shape (n_samples,), optional
            A weight >= 0 for each. k is k rows.
        """
        X, y, weights = self._read(X, y, sample_weight, reset=True)
        classes, codes = np.unique(y, return_inverse=True)
        if classes.size < 2:
            raise ValueError(
                f"y holds the one class {classes[0]!r}, expected samples of at least 2 classes"
            )
        weights = self._with_class_weights(codes, classes, weights)
        before = vars(self).get("classes_")
        if self.warm_start and before is not None and not np.array_equal(before, classes):
            raise ValueError(
                f"y has the classes {classes}, expected {before}: warm_start goes on with them"
            )
        self.classes_ = classes
        try:
            self._fit(X, codes, weights)
        except BaseException:  # the model is the one of before
            if before is None:
                del self.classes_
            else:
                self.classes_ = before
            raise
        return self

    def partial_fit(
        self,
        X: Matrix,
        y: ArrayLike,
        classes: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> LinearClassifier:
        """Go on with one pass over more rows, in their order.

        Calls with parts of the rows do what one call with all of them does, to the last bit; up to
        rounding over sparse rows with ``l1``, ``l2`` or ``average``. If ``batch_size`` is a number,
        a part that is no multiple of it ends in a shorter batch.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`. Not all classes need occur.
        classes : array_like, optional
            All labels that will ever occur. The first call needs it; later ones may repeat it.
        """
        first = not hasattr(self, "classes_")
        if first and classes is None:
            raise ValueError(
                "classes is None, expected all labels in the first call of partial_fit"
            )
        known = np.unique(classes) if first else self.classes_
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{known!r}"
            )
        if known.size < 2:
            raise ValueError(f"classes holds the one class {known}, expected at least 2 classes")
        X, y, weights = self._read(X, y, sample_weight, reset=first)
        codes = np.minimum(np.searchsorted(known, y), known.size - 1)
        strange = known[codes] != y
        if strange.any():
            raise ValueError(f"y holds {y[strange][:1]}, expected one of the classes {known}")
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight is {self.class_weight!r}, expected a dict or None: partial_fit does "
                "not know how often the classes will occur"
            )
        weights = self._with_class_weights(codes, known, weights)
        self.classes_ = known
        try:
            self._go_on(X, codes, weights)
        except BaseException:
            if first:
                del self.classes_
            raise
        return self

    def _read(self, X: Matrix, y: Any, sample_weight: ArrayLike | None, reset: bool) -> Rows:
        if self.multi_class not in ("auto", "multinomial", "ovr"):
            raise ValueError(
                f"multi_class is {self.multi_class!r}, expected 'auto', 'multinomial' or 'ovr'"
            )
        if self.multi_class == "multinomial" and self.loss != "logistic":
            raise ValueError(
                f"multi_class is 'multinomial' with loss={self.loss!r}, expected 'logistic'"
            )
        X, y = self._read_matrix(X, y=y, reset=reset)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return X, y, self._read_weights(sample_weight, X)

    def _with_class_weights(
        self, codes: np.ndarray, classes: np.ndarray, weights: np.ndarray | None
    ) -> np.ndarray | None:
        if self.class_weight is None:
            return weights
        given = self.class_weight
        if isinstance(given, str):
            present = np.unique(codes)
            each = np.ones(classes.size)
            each[present] = compute_class_weight(
                given, classes=present, y=codes, sample_weight=weights
            )
        else:
            each = compute_class_weight(given, classes=classes, y=classes[codes])
        if not (np.isfinite(each).all() and (each >= 0).all()):
            raise ValueError(f"class_weight is {given!r}, expected finite weights >= 0")
        return np.asarray(each[codes] * (1.0 if weights is None else weights))

    @property
    def _is_multinomial(self) -> bool:
        return self.loss == "logistic" and self.multi_class != "ovr" and self.classes_.size > 2

    def _columns(self, y: np.ndarray) -> list[np.ndarray]:
        if self._is_multinomial:
            return [y]
        positive = [1] if self.classes_.size == 2 else range(self.classes_.size)
        return [np.where(y == c, 1.0, -1.0) for c in positive]

    def _stratifies(self, y: np.ndarray) -> bool:
        return bool(np.bincount(y).min() >= 2 and y.size * self.validation_fraction >= 10)

    def _starts(self) -> list[np.ndarray]:
        points = self._points()
        return [np.ascontiguousarray(points.T)] if self._is_multinomial else list(points)

    def _usual_l2(self, rows: float) -> float:
        return 1.0 / (C[self.loss] * rows) if math.isfinite(rows) else 0.0

    def _problem(
        self,
        X: Matrix,
        y: np.ndarray,
        weights: Any,
        raw: bool = False,
        unit: Targets | None = None,
    ) -> problems.Problem:
        options: dict[str, Any] = {"intercept": bool(self.fit_intercept)}
        if not raw:
            options["sample_weight"] = weights
        if self._is_multinomial:
            made: problems.Problem = problems.Multinomial(X, y, self.classes_.size, **options)
        else:
            made = _PROBLEMS[self.loss](X, y, **options)
        return made.with_weights(weights) if raw else made

    # -- predicting --------------------------------------------------------------------------------

    def decision_function(self, X: Matrix) -> np.ndarray:
        """Return scores: of the second class, or one for each of more than two classes."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Matrix) -> np.ndarray:
        """Return the label of the highest score for each row."""
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        return np.asarray(self.classes_[codes])

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Matrix) -> np.ndarray:
        """Return the probability of each class, for the losses "logistic" and "modified_huber".

        For one against the rest, the probabilities of the classes are divided by their sum. Those
        of "modified_huber" are ``(clip(score, -1, 1) + 1) / 2`` (Zhang 2004).
        """
        check_is_fitted(self)
        z = self.decision_function(X)
        if z.ndim == 2 and self._is_multinomial:
            p = np.exp(z - z.max(axis=1, keepdims=True))
            return np.asarray(p / p.sum(axis=1, keepdims=True))
        if self.loss == "logistic":
            with np.errstate(over="ignore"):
                p = 1 / (1 + np.exp(-z))
        else:
            p = (np.clip(z, -1, 1) + 1) / 2
        if z.ndim == 1:
            return np.stack([1 - p, p], axis=1)
        total = p.sum(axis=1, keepdims=True)
        none = total == 0
        return np.asarray(np.where(none, 1 / p.shape[1], p / np.where(none, 1, total)))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Matrix) -> np.ndarray:
        """Return the logarithms of `predict_proba`."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.predict_proba(X)))
