"""Linear models with the interface of scikit-learn."""

try:
    import sklearn as _sklearn
except ImportError as error:
    raise ImportError(
        "adaptopt.estimators needs scikit-learn: pip install 'adaptopt[sklearn]'"
    ) from error

from .classifier import LinearClassifier
from .regressor import LinearRegressor

del _sklearn

__all__ = ["LinearClassifier", "LinearRegressor"]
