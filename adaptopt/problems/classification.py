"""Problems of classification in two classes: the labels are -1 and +1."""

from __future__ import annotations

from numpy.typing import ArrayLike

from ..arrays import Matrix
from ..kernels.loss import Loss
from . import losses
from .problem import Problem, Weights
from .reading import read_labels, read_matrix


class Logistic(Problem):
    r"""Logistic regression: :math:`\ell(z, y) = \log(1 + \exp(-y z))`.

    Parameters
    ----------
    A
        As for `LeastSquares`.
    y : array_like
        A label -1 or +1 for each row.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y / (1 + \exp(y z))`. Both are computed from
    :math:`\exp(-|y z|)`, which does not overflow.

    If a hyperplane separates the two labels there is no minimum: ``x`` grows without bound.

    References
    ----------
    D. R. Cox, "The regression analysis of binary sequences", Journal of the Royal Statistical
    Society B 20(2), 1958, pp. 215-242.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Logistic(np.array([[1.0], [2.0]]), [-1, 1])
    >>> value, gradient = p(np.zeros(1))
    >>> print(round(value, 6), gradient)
    0.693147 [-0.25]
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        loss = Loss(losses.logistic, losses.logistic_slope, (0.0, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


class Hinge(Problem):
    r"""The loss of support vector machines: :math:`\ell(z, y) = \max(0, 1 - y z)`.

    Parameters
    ----------
    A, y, intercept, sample_weight, copy
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y` if :math:`y z < 1`, else 0. So the gradient is a subgradient
    at the kinks, and does not vanish near the minimum.

    References
    ----------
    C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20(3), 1995, pp. 273-297.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Hinge(np.array([[1.0], [2.0]]), [-1, 1])
    >>> p(np.array([0.25]))
    (0.875, array([-0.5]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        loss = Loss(losses.hinge, losses.hinge_slope, (0.0, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


class SquaredHinge(Problem):
    r"""A smooth hinge loss: :math:`\ell(z, y) = \tfrac12 \max(0, 1 - y z)^2`.

    Parameters
    ----------
    A, y, intercept, sample_weight, copy
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-y \max(0, 1 - y z)`. The squared hinge of Liblinear and
    scikit-learn is twice this loss: it lacks the factor :math:`\tfrac12`.

    References
    ----------
    K.-W. Chang, C.-J. Hsieh and C.-J. Lin, "Coordinate descent method for large-scale L2-loss
    linear support vector machines", Journal of Machine Learning Research 9, 2008, pp. 1369-1398.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.SquaredHinge(np.array([[1.0], [2.0]]), [-1, 1])
    >>> p(np.zeros(1))
    (0.5, array([-0.5]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        loss = Loss(losses.squared_hinge, losses.squared_hinge_slope, (0.0, 0.5, 1.0))
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)


class ModifiedHuber(Problem):
    r"""A smooth hinge loss that grows linearly, for labels with outliers.

    .. math:: \ell(z, y) = \begin{cases} \max(0, 1 - y z)^2 & y z \ge -1 \\
        -4 y z & \text{otherwise} \end{cases}

    Parameters
    ----------
    A, y, intercept, sample_weight
        As for `Logistic`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The slope of the loss is :math:`-2 y \min(2, \max(0, 1 - y z))`. The loss is that of
    scikit-learn's ``SGDClassifier(loss="modified_huber")``. If :math:`z` is clipped to [-1, 1],
    :math:`(z + 1) / 2` estimates the probability of the label +1.

    References
    ----------
    T. Zhang, "Solving large scale linear prediction problems using stochastic gradient descent
    algorithms", ICML 2004, section 2, example "modified Huber".

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.ModifiedHuber(np.array([[1.0], [2.0]]), [-1, 1])
    >>> p(np.array([1.5]))
    (3.0, array([2.]))
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        params = (0.0, 1.0, 2.0, 4.0)
        loss = Loss(losses.modified_huber, losses.modified_huber_slope, params)
        super().__init__(A, read_labels(y, A), loss, intercept, sample_weight)
