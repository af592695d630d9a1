"""scikit-learn's own suite, for every loss."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptopt.estimators import LinearClassifier, LinearRegressor
from adaptopt.estimators.linear import KINKED

pytestmark = pytest.mark.filterwarnings("ignore")


def of_each_loss(model):
    """Losses with kinks get few epochs, as they would take all there are in each of the checks."""
    return [model(loss, max_iter=10 if loss in KINKED else None) for loss in model.LOSSES]


def run(estimator, check, request, *in_python):
    """Run a check, in Python if its kernels are those of few others, and are short."""
    name = f"{check.func.__name__}({check.keywords})"
    if estimator.loss in KINKED and any(part in name for part in in_python):
        request.getfixturevalue("in_python")
    check(estimator)


@parametrize_with_checks(of_each_loss(LinearClassifier))
def test_classifier(estimator, check, request):
    run(estimator, check, request, "dtypes", "float32")


@parametrize_with_checks(of_each_loss(LinearRegressor))
def test_regressor(estimator, check, request):
    run(estimator, check, request, "dtypes", "float32", "sparse")
