"""scikit-learn's own suite, for every loss."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from adaptopt.estimators import LinearClassifier, LinearRegressor

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks([LinearClassifier(loss) for loss in LinearClassifier.LOSSES])
def test_classifier(estimator, check):
    check(estimator)


@parametrize_with_checks([LinearRegressor(loss) for loss in LinearRegressor.LOSSES])
def test_regressor(estimator, check):
    check(estimator)
