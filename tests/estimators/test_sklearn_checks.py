"""scikit-learn's own suite, for every loss."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptopt.estimators import LinearClassifier, LinearRegressor
from adaptopt.estimators.linear import KINKED

pytestmark = pytest.mark.filterwarnings("ignore")


def of_each_loss(model):
    """Losses with kinks get few epochs, as they would take all there are in each of the checks."""
    return [model(loss, max_iter=10 if loss in KINKED else None) for loss in model.LOSSES]


@parametrize_with_checks(of_each_loss(LinearClassifier))
def test_classifier(estimator, check):
    check(estimator)


@parametrize_with_checks(of_each_loss(LinearRegressor))
def test_regressor(estimator, check):
    check(estimator)
