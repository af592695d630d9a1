"""A problem with a loss of the user's own: two scalar functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import Matrix, read_real
from ..kernels.loss import Loss, check_function
from ..scalar import ScalarFunction
from .problem import Problem, Weights
from .reading import read_column, read_matrix


class Custom(Problem):
    r"""A loss of your own: a scalar function of prediction and target, and its derivative.

    Parameters
    ----------
    A
        As for `LeastSquares`.
    b : array_like
        A finite number for each row: target or label. A copy of the dtype of ``A`` is kept.
    loss, slope : callable
        ``loss(z, b, *params)`` is the loss of a row with prediction ``z`` and target ``b``, and
        ``slope(z, b, *params)`` its derivative with respect to ``z``. Both take and return one
        number. Each is a Python function that Numba can compile, or one compiled with
        `numba.njit`.
    params : sequence of float, default ()
        Numbers that are the same for all rows. Other values compile nothing.
    convex : bool, default False
        True declares that ``loss`` is convex in ``z``. Only then do runs within bounds give a
        certificate unasked.
    intercept, sample_weight, copy
        As for `LeastSquares`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as said above. Numba's message follows if a function does not compile.

    Notes
    -----
    The functions become a part of the same kernels as the losses of this library: over dense and
    CSR rows, of values, gradients, batches and compiled epochs. `adaptopt.check_gradient` compares
    ``slope`` with differences of ``loss``.

    Where the loss has a kink, ``slope`` returns a subgradient, best the one of least size. A loss
    that returns NaN or an infinity ends a run with status 3.

    A number that is written in a function, such as 0.5, makes Numba compute that function in
    float64, also for float32 rows. The result is rounded to the dtype of the rows. For full speed
    in float32, make it one of ``params``.

    A problem can be pickled if its functions can: functions of a module, but no lambdas.

    Examples
    --------
    A robust loss that is not convex, after Cauchy:

    >>> import math
    >>> import numpy as np, adaptopt as ao
    >>> def cauchy(z, b):
    ...     return math.log1p((z - b) ** 2) / 2
    >>> def cauchy_slope(z, b):
    ...     return (z - b) / (1 + (z - b) ** 2)
    >>> p = ao.problems.Custom(np.ones((4, 1)), [1.0, 1.1, 0.9, 50.0], cauchy, cauchy_slope)
    >>> ao.check_gradient(p, np.zeros(1)).ok
    True
    >>> ao.minimize(p, np.zeros(1)).x.round(2)
    array([1.01])
    """

    def __init__(
        self,
        A: Matrix,
        b: ArrayLike,
        loss: ScalarFunction,
        slope: ScalarFunction,
        params: ArrayLike = (),
        *,
        convex: bool = False,
        intercept: bool = False,
        sample_weight: Weights = None,
        copy: bool | None = None,
    ) -> None:
        A = read_matrix(A, copy)
        numbers = read_real("params", params)
        if numbers.ndim != 1 or not np.isfinite(numbers).all():
            raise ValueError(f"params is {params!r}, expected a sequence of finite numbers")
        if not isinstance(convex, bool | np.bool_):
            raise TypeError(f"convex is {convex!r}, expected True or False")
        for name, function in (("loss", loss), ("slope", slope)):
            check_function(name, function, numbers.size, A.dtype.name)
        functions = Loss(loss, slope, tuple(numbers.tolist()))
        super().__init__(A, read_column("b", b, A), functions, intercept, sample_weight)
        self.convex = bool(convex)
