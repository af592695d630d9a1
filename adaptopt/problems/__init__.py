r"""Convex problems of fitting: a mean loss over the rows of a matrix, with its gradient.

For a matrix :math:`A` with rows :math:`a_i`, targets :math:`y_i` and weights :math:`w_i` a problem
is

.. math:: p(x) = \frac{\sum_i w_i \, \ell(z_i, y_i)}{\sum_i w_i}, \qquad z_i = a_i^T x.

It is a function of ``x`` that returns the pair of value and gradient: ``minimize(p, x0)`` fits it,
and SciPy's ``scipy.optimize.minimize(p, x0, jac=True)``.

The matrix is a C-contiguous array or a SciPy CSR array or matrix, of float32 or float64, which is
the dtype of the arithmetic. Others, such as data frames, are refused with the call that converts
them: a copy takes their memory once more. The losses are summed in float64, and so are the
gradients of blocks of rows. The result is the same to the last bit for any number of threads. The
matrix is kept, not copied, and must not be changed; a gradient takes at most a fourth of its memory
for a moment.
"""

from .problem import Hinge, Huber, LeastSquares, Logistic, SquaredHinge
from .problem import Problem as Problem

__all__ = ["Hinge", "Huber", "LeastSquares", "Logistic", "SquaredHinge"]
