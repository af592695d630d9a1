"""Classification in several classes: the labels are their numbers."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Array, Matrix, read_array
from ..kernels.loss import Loss
from . import losses
from .problem import Problem, Weights
from .reading import read_column, read_matrix

# Labels are stored in the dtype of the matrix. float32 holds all integers up to here.
MOST = 1 << 24


class Multinomial(Problem):
    r"""Logistic regression for several classes, also known as softmax regression.

    .. math:: \ell(z, y) = \log \sum_k e^{z_k} - z_y, \qquad z = X^T a + c.

    Parameters
    ----------
    A
        As for `LeastSquares`.
    y : array_like of int
        The class of each row: 0, 1, ..., ``n_classes - 1``.
    n_classes : int, optional
        Number of classes, at least 2. By default the largest label plus one; then each class has
        to occur.
    intercept : bool, default False
        Add the last row of ``x`` to each prediction.
    sample_weight, copy
        As for `LeastSquares`.

    Attributes
    ----------
    n_classes : int
        Number of classes.
    shape : tuple of int
        Shape of ``x``: ``(n_features, n_classes)``. ``x`` may be flat too, as SciPy makes it; the
        gradient has the shape of ``x``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above.

    Notes
    -----
    The derivative of the loss with respect to :math:`z_k` is :math:`p_k - [k = y]`, with the
    probabilities :math:`p_k = e^{z_k} / \sum_j e^{z_j}`. No exponential overflows, because the
    largest :math:`z_k` is subtracted first.

    To add a number to all classes of a feature changes no loss. So without a penalty there are many
    minima, and a run ends at one that depends on where it starts. If hyperplanes separate the
    classes there is no minimum: ``x`` grows without bound. `L2` cures both.

    Over CSR rows a step of SGD, AdaGrad, RMSProp, Momentum or AdaGradDA changes only the rows of
    ``x`` that the batch has entries for, as for the other problems. ``parallel="hogwild"`` is not
    supported.

    References
    ----------
    C. M. Bishop, "Pattern Recognition and Machine Learning", Springer, 2006, section 4.3.4.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> p = ao.problems.Multinomial(np.eye(3), [0, 1, 2])
    >>> value, gradient = p(np.zeros((3, 3)))
    >>> print(round(value, 6), gradient[0].round(3))  # the logarithm of 3
    1.098612 [-0.222  0.111  0.111]
    >>> res = ao.minimize(p, np.zeros((3, 3)), prox=ao.L2(0.1))
    >>> res.x.argmax(axis=1)
    array([0, 1, 2])
    """

    convex = True

    def __init__(
        self,
        A: Matrix,
        y: ArrayLike,
        n_classes: int | None = None,
        *,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        labels, count = _read_classes(y, A, n_classes)
        loss = Loss(losses.softmax, losses.softmax_slope, (0.0, 1.0), count)
        super().__init__(A, labels, loss, intercept, sample_weight)
        self.n_classes = count
        self.shape = (self.n_features, count)

    def check_shape(self, name: str, x: Array) -> None:
        """Raise an error unless a point has the shape of ``x``, or is flat."""
        if x.shape not in (self.shape, (self.shape[0] * self.shape[1],)):
            more = " (a row for each column, and the intercept)" if self.intercept else ""
            raise ValueError(f"{name} has shape {x.shape}, expected {self.shape}{more}")


def _read_classes(y: ArrayLike, A: Matrix, n_classes: object) -> tuple[np.ndarray, int]:
    """Return the labels in the dtype of ``A``, and the number of classes."""
    if n_classes is not None and (
        not isinstance(n_classes, Integral) or isinstance(n_classes, bool)
    ):
        raise TypeError(f"n_classes is {n_classes!r}, expected an integer")
    given = read_array("y", y)
    if given.dtype.kind not in "biuf":
        raise TypeError(
            f"y has dtype {given.dtype}, expected integers, the numbers of the classes: use "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    labels = read_column("y", given, A, np.float64)
    wrong = (labels < 0) | (labels != np.floor(labels)) | (labels >= MOST)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise ValueError(
            f"y[{where}] is {given[where]}, expected the number of a class: 0, 1, 2, ...; use "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    found = int(labels.max()) + 1
    if n_classes is None:
        seen = np.unique(labels)
        if seen.size < found:
            absent = int(np.argmax(seen != np.arange(seen.size)))
            raise ValueError(
                f"y holds no {absent}, expected each class from 0 to {found - 1}: use "
                "numpy.unique(y, return_inverse=True)[1], or pass n_classes"
            )
    count = max(found, 2) if n_classes is None else int(n_classes)
    if not 2 <= count <= MOST:
        raise ValueError(f"n_classes is {count}, expected at least 2 and at most {MOST}")
    if found > count:
        raise ValueError(f"y holds {found - 1}, expected labels below n_classes, {count}")
    return labels.astype(A.dtype), count
