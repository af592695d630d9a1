"""Linear models as users meet them."""

import pickle
import subprocess
import sys

import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import Lasso, QuantileRegressor, Ridge

import adaptopt as ao
from adaptopt.estimators import LinearClassifier, LinearRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 6)) * (RNG.random((300, 6)) < 0.6)
TRUTH = np.array([2.0, -1.0, 0.0, 0.5, 0.0, 1.0])
Y = (X @ TRUTH + RNG.logistic(size=300) > 0).astype(int)
T = X @ TRUTH + 1.0 + 0.1 * RNG.standard_normal(300)
THREE = np.digitize(X @ TRUTH, [-1.0, 1.0])


def test_it_is_imported_when_used():
    code = "import sys, adaptopt as ao; a = 'sklearn' in sys.modules; ao.estimators.LinearRegressor"
    code += "; sys.exit(a)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_scikit_learn_the_error_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import adaptopt; adaptopt.estimators"
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "pip install 'adaptopt[sklearn]'" in run.stderr


# -- partial_fit -----------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [(10, 20, 270), (64, 236), (299, 1), (63, 1, 1, 235)])
def test_parts_equal_one_pass_to_the_last_bit(parts):
    whole = LinearClassifier().partial_fit(X, Y, [0, 1])
    model, first = LinearClassifier(), 0
    for n in parts:
        rows = slice(first, first + n)
        model.partial_fit(X[rows], Y[rows], [0, 1])
        first += n
    np.testing.assert_array_equal(model.coef_, whole.coef_)
    np.testing.assert_array_equal(model.intercept_, whole.intercept_)


def in_parts(model, X, y, *more, **keywords):
    for rows in (slice(0, 33), slice(33, 50), slice(50, 300)):
        given = {name: value[rows] for name, value in keywords.items()}
        model.partial_fit(X[rows], y[rows], *more, **given)
    return model


@pytest.mark.usefixtures("in_python")
@pytest.mark.parametrize("method", ["adam", "sgd", ao.RMSProp(0.01)], ids=str)
def test_parts_equal_one_pass_for_other_methods(method):
    whole = LinearRegressor(method=method).partial_fit(X, T)
    np.testing.assert_array_equal(in_parts(clone(whole), X, T).coef_, whole.coef_)


@pytest.mark.usefixtures("in_python")
def test_parts_of_sparse_rows_with_weights_equal_one_pass():
    w, A = RNG.random(300), scipy.sparse.csr_array(X)
    model = LinearClassifier(class_weight={0: 2.0, 1: 1.0, 2: 0.5})
    whole = clone(model).partial_fit(A, THREE, [0, 1, 2], sample_weight=w)
    parts = in_parts(model, A, THREE, [0, 1, 2], sample_weight=w)
    np.testing.assert_array_equal(parts.coef_, whole.coef_)


@pytest.mark.usefixtures("in_python")
def test_parts_of_sparse_rows_with_a_penalty_equal_one_pass_up_to_rounding():
    A = scipy.sparse.csr_array(X)
    whole = LinearRegressor(l2=0.01).partial_fit(A, T)
    np.testing.assert_allclose(in_parts(clone(whole), A, T).coef_, whole.coef_, rtol=1e-10)


def test_parts_equal_one_pass_after_a_pickle():
    model = LinearRegressor().partial_fit(X[:100], T[:100])
    model = pickle.loads(pickle.dumps(model)).partial_fit(X[100:], T[100:])
    np.testing.assert_array_equal(model.coef_, LinearRegressor().partial_fit(X, T).coef_)


def test_partial_fit_learns():
    assert LinearClassifier().partial_fit(X, Y, [0, 1]).score(X, Y) > 0.75
    assert LinearRegressor().partial_fit(X, T).score(X, T) > 0.9


@pytest.mark.usefixtures("in_python")
def test_a_class_may_be_missing_in_a_part():
    model = LinearClassifier("hinge").partial_fit(X[Y == 0], Y[Y == 0], [0, 1])
    model.partial_fit(X[Y == 1], Y[Y == 1])
    assert model.coef_.shape == (1, 6)


def test_a_label_that_is_no_class_is_refused():
    model = LinearClassifier().partial_fit(X, Y, [0, 1])
    before = model.coef_
    with pytest.raises(ValueError, match=r"y holds \[2\], expected one of the classes"):
        model.partial_fit(X, Y + 1)
    assert model.coef_ is before


# -- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame])
def test_data_frames_keep_names(frame):
    names = list("abcdef")
    model = LinearRegressor().fit(frame(dict(zip(names, X.T, strict=True))), T)
    assert list(model.feature_names_in_) == names
    np.testing.assert_array_equal(model.coef_, LinearRegressor().fit(X, T).coef_)


@pytest.mark.parametrize(
    "make",
    [
        scipy.sparse.csc_matrix,
        scipy.sparse.coo_array,
        lambda X: scipy.sparse.csr_array(X)[:, ::-1][:, ::-1],
        lambda X: _with_int64(scipy.sparse.csr_array(X)),
        np.asfortranarray,
        lambda X: _read_only(X.copy()),
    ],
    ids=["csc", "coo", "unsorted", "int64", "fortran", "read-only"],
)
def test_every_format_gives_the_same_model(make):
    model = LinearRegressor(tol=1e-12).fit(make(X), T)
    np.testing.assert_allclose(model.coef_, LinearRegressor(tol=1e-12).fit(X, T).coef_, atol=1e-6)


def _with_int64(A):
    A.indices, A.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return A


def _read_only(X):
    X.flags.writeable = False
    return X


def test_the_data_are_not_changed():
    A = scipy.sparse.csr_array(X)
    A.data[0] = 0.0  # an explicit zero
    before = [A.data.copy(), A.indices.copy(), A.indptr.copy()]
    LinearRegressor().fit(A, T)
    for array, kept in zip((A.data, A.indices, A.indptr), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_float32_stays_float32():
    model = LinearRegressor().fit(X.astype(np.float32), T)
    assert model.coef_.dtype == model.predict(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([False, True])])
def test_labels_of_other_types(labels):
    model = LinearClassifier().fit(X, labels[Y])
    assert model.predict(X).dtype == labels.dtype
    assert model.score(X, labels[Y]) > 0.75


def test_a_column_of_targets_warns():
    with pytest.warns(DataConversionWarning):
        LinearRegressor().fit(X, T[:, None])


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match=r"y\[0\] is -1.0, expected a count >= 0"):
        LinearRegressor("poisson").fit(X, np.r_[-1.0, np.ones(299)])


def test_columns_of_any_scale_give_the_same_predictions():
    scales = 10.0 ** np.array([6, -6, 3, -3, 0, 1])
    model = LinearRegressor(l2=0, tol=1e-8).fit(X, T)
    other = LinearRegressor(l2=0, tol=1e-8).fit(X * scales, T)
    np.testing.assert_allclose(other.predict(X * scales), model.predict(X), atol=1e-3)


def raw_cancer(scale):
    X, y = load_breast_cancer(return_X_y=True)
    return X * scale, y


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e15])
def test_a_fit_with_all_rows_does_not_depend_on_the_unit(scale):
    X, y = raw_cancer(scale)
    assert LinearClassifier(l2=0).fit(X, y).score(X, y) > 0.97  # the majority is 0.63


@pytest.mark.parametrize("scale", [1e-30, 1e-12])
def test_epochs_do_not_depend_on_the_unit(scale):
    X, y = raw_cancer(scale)
    model = LinearClassifier(l2=0, batch_size=32, max_iter=10, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("batch_size", ["all", 32])
def test_columns_far_from_zero_are_fitted(batch_size):
    model = LinearRegressor(batch_size=batch_size, random_state=0, max_iter=100)
    assert model.fit(X + 1e6, T).score(X + 1e6, T) > 0.99


def test_a_tiny_column_beside_others_is_found_in_epochs():
    A = X * [1e-12, 1.0, 1.0, 1.0, 1.0, 1.0]
    model = LinearRegressor(l2=0, batch_size=32, random_state=0).fit(A, T)
    assert model.score(A, T) > 0.99


@pytest.mark.parametrize("shift", [20.0, 100.0])
def test_epochs_fit_columns_some_spreads_from_zero(shift):
    model = LinearRegressor(batch_size=32, random_state=0).fit(X + shift, T)
    assert model.score(X + shift, T) > 0.99


@pytest.mark.parametrize("loss", ["epsilon_insensitive", "quantile"])
def test_losses_with_kinks_come_near_their_minimum(loss):
    model = LinearRegressor(loss, l2=0, epsilon=0.0, random_state=0).fit(X, T)
    exact = QuantileRegressor(alpha=0).fit(X, T)
    ours, least = (abs(T - m.predict(X)).mean() for m in (model, exact))
    assert ours < 1.01 * least


@pytest.mark.parametrize("loss", ["squared", "huber", "epsilon_insensitive", "quantile"])
@pytest.mark.parametrize("batch_size", ["auto", 32])
@pytest.mark.parametrize(("scale", "shift"), [(1e8, 0.0), (1e-20, 0.0), (1.0, 1e8)])
def test_targets_of_any_unit_are_fitted(loss, batch_size, scale, shift):
    y = T * scale + shift
    epsilon = {"huber": scale, "epsilon_insensitive": 0.1 * scale}.get(loss)
    model = LinearRegressor(loss, epsilon=epsilon, batch_size=batch_size, random_state=0)
    assert model.fit(X, y).score(X, y) > 0.9  # a constant: 0


@pytest.mark.usefixtures("in_python")
def test_parts_of_targets_in_any_unit_equal_one_pass_to_the_last_bit():
    whole = LinearRegressor("huber", epsilon=1e9).partial_fit(X, 1e9 * T)
    np.testing.assert_array_equal(in_parts(clone(whole), X, 1e9 * T).coef_, whole.coef_)
    assert whole.score(X, 1e9 * T) > 0.8


def test_an_epsilon_that_holds_all_targets_is_a_warning():
    with pytest.warns(UserWarning, match="epsilon is 0.1, and no target is farther"):
        LinearRegressor("epsilon_insensitive").fit(X, 1e-3 * T)


@pytest.mark.parametrize("batch_size", ["auto", 32])
def test_rows_of_weight_zero_have_no_part_in_a_fit(batch_size):
    wild, y, w = X.copy(), T.copy(), np.ones(300)
    wild[:100], y[:100], w[:100] = 1e12, 1e8, 0.0
    given = {"loss": "epsilon_insensitive", "batch_size": batch_size, "random_state": 0}
    model = LinearRegressor(**given).fit(wild, y, w)
    np.testing.assert_array_equal(model.coef_, LinearRegressor(**given).fit(X[100:], T[100:]).coef_)


@pytest.mark.parametrize("batch_size", ["auto", 32])
@pytest.mark.parametrize("size", [1e-4, 5e6])
def test_counts_of_any_size_are_fitted(size, batch_size):
    y = size * np.exp(0.1 * (T - T.mean()))
    model = LinearRegressor("poisson", l2=0, batch_size=batch_size, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.98
    z = np.log(model.predict(X))
    np.testing.assert_allclose(model.loss_curve_[-1], (np.exp(z) - y * z).mean(), rtol=1e-4)


def test_few_more_rows_leave_a_fitted_model_as_it_is():
    model = LinearRegressor().fit(X, T)
    before = model.coef_.copy()
    np.testing.assert_array_equal(model.partial_fit(X[:5], T[:5]).coef_, before)
    np.testing.assert_array_equal(in_parts(model, X, T).coef_, LinearRegressor()
        .fit(X, T).partial_fit(np.r_[X[:5], X], np.r_[T[:5], T]).coef_)  # fmt: skip


def test_a_stream_that_begins_with_equal_targets_finds_a_rate():
    y = np.where(np.arange(300) < 64, 0.0, T)
    assert LinearRegressor().partial_fit(X, y).score(X[64:], y[64:]) > 0.9


def test_rows_of_weight_zero_are_no_part_of_a_stream():
    w = (np.arange(300) >= 64).astype(float)
    model = LinearRegressor().partial_fit(X, T, sample_weight=w)
    expected = LinearRegressor().partial_fit(X[64:], T[64:])
    np.testing.assert_array_equal(model.coef_, expected.coef_)


def test_a_stream_goes_on_from_edited_coefficients():
    model = LinearRegressor(method="sgd", lr=1e-12).partial_fit(X, T)
    model.coef_[:] = 7.0
    np.testing.assert_allclose(model.partial_fit(X, T).coef_, 7.0, rtol=1e-6)


def test_a_fit_goes_on_only_with_as_many_coefficients():
    model = LinearRegressor(warm_start=True).fit(X, T)
    with pytest.raises(ValueError, match="has 7 coefficients with its intercept, expected 4"):
        model.fit(X[:, :3], T)
    model = LinearRegressor().partial_fit(X, T).set_params(fit_intercept=False)
    with pytest.raises(ValueError, match="expected 6: X has 6 columns, and fit_intercept is False"):
        model.partial_fit(X, T)


def test_a_constant_column_gets_no_coefficient():
    model = LinearRegressor(l2=0).fit(np.c_[X, np.full(300, 0.1)], T)
    assert model.coef_[-1] == 0.0


def test_huge_float32_rows_with_a_penalty_are_fitted():
    A = X.astype(np.float32) * np.float32(1e30)
    assert LinearClassifier().fit(A, Y).score(A, Y) > 0.75


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6])
@pytest.mark.parametrize("sparse", [False, True])
def test_parts_in_any_unit_equal_one_pass_to_the_last_bit(scale, sparse):
    A = (scipy.sparse.csr_array(X) if sparse else X) * scale
    whole = LinearClassifier().partial_fit(A, Y, [0, 1])
    np.testing.assert_array_equal(in_parts(clone(whole), A, Y, [0, 1]).coef_, whole.coef_)
    assert whole.score(A, Y) > 0.7  # a constant: 0.51


@pytest.mark.parametrize(
    ("penalty", "reference"), [("l1", Lasso(0.05, tol=1e-10)), ("l2", Ridge(0.05 * 300, tol=1e-10))]
)
def test_penalties_are_those_of_columns_as_they_come(penalty, reference):
    A = X * [30.0, 0.02, 4.0, 0.3, 1.0, 200.0]
    model = LinearRegressor(**{"l2": 0.0, penalty: 0.05}, tol=1e-12).fit(A, T)
    expected = reference.fit(A, T)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-3)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", ["all", 32])
def test_penalties_leave_the_intercept_alone(batch_size):
    model = LinearRegressor(l1=100.0, max_iter=200, batch_size=batch_size, random_state=0).fit(X, T)
    np.testing.assert_array_equal(model.coef_, 0.0)
    np.testing.assert_allclose(model.intercept_, T.mean(), rtol=0.05)


def test_weights_are_rows_to_the_last_bit():
    w = RNG.integers(0, 4, 300)
    model = LinearClassifier("hinge", random_state=0).fit(X, THREE, w)
    rows = RNG.permutation(np.repeat(np.arange(300), w))
    np.testing.assert_array_equal(
        model.coef_, LinearClassifier("hinge", random_state=0).fit(X[rows], THREE[rows]).coef_
    )


@pytest.mark.usefixtures("in_python")
def test_one_against_the_rest_on_processes_gives_the_same():
    model = LinearClassifier(multi_class="ovr", n_jobs=2).fit(X, THREE)
    np.testing.assert_array_equal(
        model.coef_, clone(model).set_params(n_jobs=None).fit(X, THREE).coef_
    )


def test_early_stopping_ends_before_the_last_epoch():
    model = LinearClassifier(early_stopping=True, max_iter=100, random_state=0).fit(X, Y)
    assert model.n_iter_ < 100
    assert model.score(X, Y) > 0.75


def test_warm_start_goes_on():
    model = LinearRegressor(warm_start=True).fit(X, T)
    before = model.coef_
    assert model.fit(X, T).n_iter_ < 100
    np.testing.assert_allclose(model.coef_, before, atol=1e-3)


def test_a_fit_that_has_not_converged_warns():
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        LinearRegressor(max_iter=2).fit(X, T)


def test_sparse_coefficients_predict_the_same():
    model = LinearClassifier(l1=0.05).fit(X, THREE)
    before = model.decision_function(X)
    np.testing.assert_allclose(model.sparsify().decision_function(X), before)
    np.testing.assert_allclose(model.densify().decision_function(X), before)


def test_only_losses_with_probabilities_give_them():
    assert not hasattr(LinearClassifier("hinge"), "predict_proba")
    p = LinearClassifier().fit(X, THREE).predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


@pytest.mark.parametrize("method", ["ftrl", "adagradda", "adamw", "rowwiseadagrad"])
def test_methods_without_a_search_keep_their_rate(method):
    model = LinearRegressor(method=method, random_state=0).fit(X, T)
    rate = ao.Optimizer(np.zeros(1), method).method.lr
    given = LinearRegressor(method=method, lr=rate, random_state=0).fit(X, T)
    np.testing.assert_array_equal(model.coef_, given.coef_)


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("method", ["ftrl", ao.AdaGradDA(0.1)], ids=str)
def test_penalties_of_methods_from_sums_are_refused(method, penalty):
    with pytest.raises(ValueError, match=f"{penalty} is 0.1 with method .* expected 0"):
        LinearClassifier(method=method, **{penalty: 0.1}).fit(X, Y)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"loss": "log"}, "loss is 'log', expected one of logistic"),
        ({"l2": -1.0}, "l2 is -1.0, expected a finite number >= 0 or 'auto'"),
        ({"max_iter": 0}, "max_iter is 0, expected a whole number >= 1"),
        ({"batch_size": "some"}, "batch_size is 'some', expected 'auto', 'all'"),
        ({"loss": "hinge", "multi_class": "multinomial"}, "expected 'logistic'"),
    ],
)
def test_wrong_parameters_are_named(parameters, match):
    with pytest.raises(ValueError, match=match):
        LinearClassifier(**parameters).fit(X, Y)


def test_a_refused_fit_leaves_the_model_as_it_was():
    model = LinearClassifier().fit(X, Y)
    before = model.coef_
    with pytest.raises(ValueError, match="l1 is"):
        model.set_params(l1=-1).fit(X, THREE)
    assert model.coef_ is before
    assert list(model.classes_) == [0, 1]


def test_a_part_may_have_another_dtype():
    model = LinearRegressor().partial_fit(X, T).partial_fit(X.astype(np.float32), T)
    assert model.coef_.dtype == np.float64
