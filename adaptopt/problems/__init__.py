r"""Problems of fitting: a mean loss over the rows of a matrix, with its gradient.

For a matrix :math:`A` with rows :math:`a_i`, targets :math:`y_i` and weights :math:`w_i` a problem
is

.. math:: p(x) = \frac{\sum_i w_i \, \ell(z_i, y_i)}{\sum_i w_i}, \qquad z_i = a_i^T x.

All but `Custom` are convex. For `Multinomial`, :math:`z_i` has a number for each class.

A problem is a function of ``x`` that returns its value and gradient. Minimise it by
``minimize(p, x0)``, or by SciPy's ``scipy.optimize.minimize(p, x0, jac=True)``.

The matrix is a C-contiguous array of float32 or float64, or a SciPy sparse array or matrix. Its
dtype is that of the arithmetic. For anything else, such as a data frame, the error message gives
the call that converts it. A dense matrix, and a sparse one in canonical form, is kept, not copied,
so do not change it. Any other sparse matrix is copied once: `LeastSquares` describes this under
``copy``. The losses, and the gradients of blocks of rows, are summed in float64. The result is the
same to the last bit for any number of threads. Computing a gradient temporarily takes at most a
fourth of the memory of the matrix.
"""

from .classification import Hinge, Logistic, ModifiedHuber, SquaredHinge
from .custom import Custom
from .multinomial import Multinomial
from .problem import Problem as Problem
from .regression import EpsilonInsensitive, Huber, LeastSquares, Poisson, Quantile

__all__ = [
    "Custom",
    "EpsilonInsensitive",
    "Hinge",
    "Huber",
    "LeastSquares",
    "Logistic",
    "ModifiedHuber",
    "Multinomial",
    "Poisson",
    "Quantile",
    "SquaredHinge",
]
