"""minimize_many: many independent problems, or one from many starts, in parallel compiled loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numba import config, get_num_threads
from numpy.typing import ArrayLike

from ..arrays import demand_finite, read_array, read_point
from ..kernels.compile import NumbaFunction
from ..methods.base import Method
from ..objectives.compiled import is_compiled
from ..objectives.start import read_start
from ..placement import demand_host
from ..prox.base import Proximal
from .many_descents import Problems
from .many_searches import ProblemSearches
from .minimize import read_or_search
from .options import read_options
from .searchable import check_search, with_rate

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


def minimize_many(
    fun: NumbaFunction,
    X0: ArrayLike,
    args: object = (),
    method: str | Method | None = None,
    prox: Proximal | None = None,
    bounds: object = None,
    options: Mapping[str, object] | None = None,
    *,
    row_args: Sequence[ArrayLike] = (),
) -> OptimizeResult:
    """Minimise a compiled function from many starting points, or many similar ones, in parallel.

    Parameters
    ----------
    fun : njit function
        ``fun(x, g_out, *entries, *args) -> float``, which writes the gradient to ``g_out``, or
        ``fun(x, *entries, *args) -> (float, gradient)``. Several threads run it at once, so it must
        not write to ``args``.
    X0 : array_like, shape (m, n)
        A starting point in each row. float32 and float64 are kept.
    args : tuple
        Arguments of all problems: numbers, arrays, and tuples of these.
    method, prox, bounds
        As in `minimize`, for all problems. ``prox`` must be separable. With a search for the
        learning rate, each problem has a rate of its own, in ``lr`` of the result.
    options : dict, optional
        As in `minimize`, except ``history``, ``return_all``, ``certificate`` and ``disp``. Budgets
        apply to each problem, and ``maxtime`` to all together.
    row_args : sequence of array_like
        Arrays of length ``m``. Their entries ``i`` are arguments of problem ``i``, before ``args``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x, fun, jac, nit, nfev, njev, status, success, message, learning_rates`` as in `minimize`,
        stacked along axis 0. Each row has the bits of a separate run, for any number of threads
        (`numba.set_num_threads`). But where a search ends, `minimize` looks at the objective
        nearby, which may change the status and takes some evaluations; this does not.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above.
    BaseException
        An exception in ``fun`` is passed on unchanged; that of the first problem if there are
        several.

    Examples
    --------
    >>> import numpy as np, adaptopt as ao
    >>> from numba import njit
    >>> @njit
    ... def bowl(x, g_out, centre):
    ...     g_out[:] = x - centre
    ...     return (g_out * g_out).sum() / 2
    >>> res = ao.minimize_many(bowl, np.zeros((3, 2)), method=ao.AdaGrad(1.0),
    ...                        row_args=(np.array([1.0, 2.0, 3.0]),))
    >>> res.x.round(3), res.success.all()
    (array([[1., 1.],
           [2., 2.],
           [3., 3.]]), np.True_)
    """
    chosen, opts = read_options(read_or_search(method, options, prox, X0), options)
    for name in ("history", "return_all", "certificate", "disp"):
        if getattr(opts, name):
            raise ValueError(
                f"options[{name!r}] is {getattr(opts, name)!r}, expected False: minimize_many "
                "records nothing on the way"
            )
    if opts.checks_every(on_device=False) > 1:
        raise ValueError(
            f"options['check_every'] is {opts.check_every!r}, expected 1: the compiled loop looks "
            "at every step as it goes"
        )
    X = _read_starts(X0)
    rows = tuple(_read_row_args(k, array, len(X)) for k, array in enumerate(row_args))
    args = args if isinstance(args, tuple) else (args,)
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, expected 0: minimize_many runs in compiled threads; "
            "minimize runs one problem without"
        )
    if not is_compiled(fun):
        raise TypeError(f"fun is {fun!r}, expected a function compiled with numba.njit")
    if not len(X):
        raise ValueError("X0 has no rows, expected at least one starting point")
    exchange, box, both = read_start(X[0], bounds, prox)
    fixed = box is not None and not box.leaves_free()
    searches = chosen.searches
    if searches:
        check_search(chosen, both)
        chosen = with_rate(chosen, 1.0)
    kind = ProblemSearches if searches else Problems
    problems = kind(fun, both.feasible(X), rows, args, chosen, both, opts, exchange, fixed)
    in_parallel = fun.targetoptions.get("parallel")  # threads of its own
    problems.run(1 if in_parallel else get_num_threads())
    return problems.result()


def _read_starts(X0: ArrayLike) -> np.ndarray:
    demand_host("X0", X0, "the compiled loop runs there")
    X = read_point("X0", X0)
    if X.ndim != 2:
        raise ValueError(f"X0 has shape {X.shape}, expected (m, n): a starting point in each row")
    demand_finite("X0", X)
    return np.array(X, order="C")


def _read_row_args(k: int, given: ArrayLike, m: int) -> np.ndarray:
    array = np.ascontiguousarray(read_array(f"row_args[{k}]", given))
    if array.dtype.kind not in "biufc":
        raise TypeError(f"row_args[{k}] has dtype {array.dtype}, expected numbers")
    if array.ndim == 0 or len(array) != m:
        raise ValueError(
            f"row_args[{k}] has shape {array.shape}, expected {m} entries, one for each row of X0"
        )
    return array
