"""Sum: a mean loss over rows that lie in blocks, which minimisers take for a problem."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .cluster import Cluster, check_loader, read_client
from .from_dask import Collection, parts_of
from .here import Here
from .tasks import (
    Block,
    Evaluated,
    Problem,
    Sent,
    Source,
    Summand,
    describe,
    evaluate,
    is_future,
    is_problem,
    short,
)

if TYPE_CHECKING:
    from distributed import Client

QUICK = 1.0  # seconds of a call below which Dask's own time is a good part of it


class Sum:
    r"""A mean loss over rows that lie in blocks: in files, or on a Dask cluster.

    `minimize` and `scipy.optimize.minimize` take it for a problem, with one pass over all blocks
    for each value and gradient. `minimize_finite_sum` passes over each block by itself and takes
    the mean of what they have led to; see Notes.

    Parameters
    ----------
    blocks : sequence
        Each is a loader, that is a function without arguments that returns a problem, such as
        ``functools.partial(load, path)``; or a Dask Delayed or Future of a problem; or a problem of
        `adaptopt.problems`. The problems have the same number of features. Loaders run on the
        workers, so that none of the data goes through this process.
    client : distributed.Client, optional
        The client of a Dask cluster. None: the blocks are streamed through this process, one at a
        time, with the same result to the last bit.
    weights : array_like, optional
        For problems with a ``sample_weight``: the sum of the weights of each block, shape (K,).
        A problem knows only how its own rows compare. The mean loss of block k counts
        ``weights[k]`` times; without a ``sample_weight``, so each of its rows has the weight
        ``weights[k] / rows``. None: each row counts the same.
    keep : bool, optional
        Whether loaded problems stay in memory. None: on workers they do (which spill to their
        disks, as Dask is configured), and in this process they do not.

    Attributes
    ----------
    count : int
        The number K of blocks.
    client : distributed.Client or None
        The client.
    moved, redone : int
        Bytes that all calls have moved between processes, at most; and calls that were taken again
        because a worker or the scheduler was lost.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or if the client is asynchronous or closed.
    BlockError
        In a call: if a block cannot be loaded or evaluated. It names the block.
    ConnectionError
        In a call: if the cluster is lost and does not come back within a minute.

    Notes
    -----
    All sums are taken over a tree that depends on K alone: neighbours, then neighbouring sums. So
    the result has the same bits for any number of workers, in whatever order they answer, and
    without a client.

    `minimize_finite_sum` takes rounds. In each, every block starts from the same state and takes
    steps along all of its rows. Then the states are averaged: the point and the sums of squares G
    for AdaGrad and AdaGradNorm, the sums of gradients and of squares and the number of steps for
    AdaGradDA, which computes its point anew from them and so keeps its zeros. The learning rate
    within the blocks is :math:`\sqrt K` times the given one, because the mean of G is a K-th of
    the sum. SGD keeps its rate. A block that takes more or fewer steps than its rows weigh has its
    losses scaled for it, so that the run ends at the minimum over all rows. For that the numbers of
    rows must be known: unless `from_dask` knows them, a pass before the first round loads the
    blocks to learn them. For K > 1 this is another algorithm than a serial run: local SGD
    [1]_, local AdaGrad [2]_, and dual averaging over a network [3]_. It needs somewhat more passes
    than a serial run, and far fewer than full-batch steps.

    References
    ----------
    .. [1] Stich, "Local SGD converges fast and communicates little", ICLR 2019.
    .. [2] Xie, Koyejo, Gupta & Lin, "Local AdaAlter: communication-efficient stochastic gradient
       descent with adaptive learning rates", 2019.
    .. [3] Duchi, Agarwal & Wainwright, "Dual averaging for distributed optimization: convergence
       analysis and network scaling", IEEE Transactions on Automatic Control 57 (2012).

    Examples
    --------
    >>> from functools import partial
    >>> import numpy as np, adaptopt as ao
    >>> def load(seed):  # of a file, as a rule
    ...     rng = np.random.default_rng(seed)
    ...     A = rng.standard_normal((200, 3))
    ...     return ao.problems.LeastSquares(A, A @ [1.0, -2.0, 0.0])
    >>> p = ao.distributed.Sum([partial(load, k) for k in range(4)])
    >>> ao.minimize(p, np.zeros(3)).x.round(3) + 0.0
    array([ 1., -2.,  0.])
    >>> ao.minimize_finite_sum(p, np.zeros(3), None, method=ao.AdaGrad(0.5), rng=0).x.round(3) + 0.0
    array([ 1., -2.,  0.])
    """

    def __init__(
        self,
        blocks: Iterable[Source],
        client: Client | None = None,
        *,
        weights: ArrayLike | None = None,
        keep: bool | None = None,
    ) -> None:
        sources = _read_blocks(blocks)
        self.weights = _read_weights(weights, len(sources))
        if keep not in (None, True, False):
            raise TypeError(f"keep is {keep!r}, expected None, True or False")
        weighted = self.weights is not None
        self._blocks = [Block(k, s, short(s), weighted) for k, s in enumerate(sources)]
        self.client = client
        self.count = len(sources)
        self._engine: Here | Cluster
        if client is None:
            for block in self._blocks:
                if is_future(block.source):
                    raise TypeError(f"block {block.k} is a Future, expected client=, which has it")
            self._engine = Here(self._blocks, bool(keep))
        else:
            read_client(client)
            for block in self._blocks:
                if _is_loader(block.source):
                    check_loader(block)
            self._engine = Cluster(client, self._blocks, keep is not False)
        self._calls = 0
        self._given: tuple[Collection, ...] | None = None

    @classmethod
    def from_dask(
        cls,
        kind: Callable[..., Problem],
        X: Collection,
        y: Collection,
        sample_weight: Collection | None = None,
        client: Client | None = None,
        *,
        keep: bool | None = None,
        **options: object,
    ) -> Sum:
        """Return the sum of a loss over Dask arrays or data frames, a block for each chunk of rows.

        Parameters
        ----------
        kind : type
            One of `adaptopt.problems`, such as ``ao.problems.Logistic``.
        X : dask.array.Array or dask.dataframe.DataFrame, shape (n, d)
            The rows, of float32 or float64; chunks may be sparse (CSR). Several chunks of columns
            become one. Masked arrays are refused.
        y, sample_weight : dask array, series, or array_like, shape (n,)
            The targets, and the weights. They get the chunks of ``X``. Rows are joined by their
            position: the partitions of data frames must have the same rows, in the same order.
        client : distributed.Client, optional
            As for `Sum`.
        keep : bool, optional
            As for `Sum`.
        **options
            More arguments of ``kind``, such as ``intercept=True``.

        Raises
        ------
        TypeError, ValueError
            If the arguments do not fit together, as far as their chunks tell.

        Notes
        -----
        Without a client, each block computes what it needs of the graph by itself, in each pass. So
        a quantity of all chunks, such as the means of columns, is computed anew for each block: K
        blocks load all K chunks. Compute such quantities first, or store ``X`` and load it from
        there. With a client, ``X.persist()`` computes them once; blocks stay on the workers unless
        ``keep=False``.
        """
        if client is not None:
            read_client(client)
        blocks, names, rows, weights = parts_of(kind, X, y, sample_weight, client, options)
        made = cls(blocks, client, weights=weights, keep=keep)
        vars(made)["_described"] = [(n, None) for n in rows]
        if client is not None:
            made._given = X, y, sample_weight  # a cluster forgets persisted data that nobody holds
        made._blocks[:] = [
            replace(block, name=name) for block, name in zip(made._blocks, names, strict=True)
        ]
        return made

    def __call__(self, x: ArrayLike) -> tuple[float, np.ndarray]:
        """Return the mean loss over all rows and its gradient, which has the dtype of ``x``."""
        x = np.asarray(x)
        total: Evaluated = self.over_blocks(evaluate, x)
        gradient = total.gradient / total.rows
        return total.loss / total.rows, gradient.astype(x.dtype if x.dtype.kind == "f" else float)

    def value(self, x: ArrayLike) -> float:
        """Return the mean loss over all rows."""
        return self(x)[0]

    def sizes(self) -> Sequence[int]:
        """Return the number of rows of each block. It takes a pass, unless that is known."""
        return [rows for rows, _ in self._described]

    def over_blocks(self, function: Callable[..., Summand], *arguments: object) -> Summand:
        """Return the sum of ``function(problem, scale, k, *arguments)`` over the blocks ``k``.

        The results are added by ``+``, over the tree. ``scale`` is how often the losses of a block
        count: 1 without ``weights``.
        """
        clock = time.perf_counter()
        result = self._engine.run(range(self.count), self._scales, Sent(function, arguments))
        self._calls += 1
        self._warn_if_quick(time.perf_counter() - clock)
        return result

    def on_block(self, k: int, function: Callable[..., Summand], *arguments: object) -> Summand:
        """Return ``function(problem, scale, k, *arguments)`` of one block."""
        return self._engine.run([k], self._scales, Sent(function, arguments))

    @property
    def moved(self) -> int:
        """Bytes that all calls have moved between processes, at most."""
        return self._engine.moved

    @property
    def redone(self) -> int:
        """Calls that were taken again."""
        return self._engine.redone

    @property
    def n_features(self) -> int:
        """Number of features. It is asked of the first block, which is loaded for it."""
        return int(self.on_block(0, describe)[0][1])

    def __len__(self) -> int:
        """Return the number of rows. It takes a pass over all blocks, unless that is known."""
        return sum(self.sizes())

    def __bool__(self) -> bool:
        """Return True, without a pass: a sum has at least one row."""
        return True

    def __getstate__(self) -> dict[str, object]:
        """Return what is copied or pickled; a client belongs to its process."""
        if self.client is not None:
            raise TypeError(
                "a Sum with a client cannot be pickled or copied: pass on its blocks, and make a "
                "new Sum of them with a client of that process"
            )
        return vars(self)

    def __repr__(self) -> str:
        where = "streamed here" if self.client is None else f"on {self.client!r}"
        return f"<Sum: {self.count} blocks, {where}>"

    @cached_property
    def _described(self) -> Sequence[tuple[int, int | None]]:
        ones = [1.0] * self.count
        described = self._engine.run(range(self.count), ones, Sent(describe, ()))
        return tuple(described)

    @cached_property
    def _scales(self) -> list[float]:
        """How often the losses of each block count; a mean over all rows leaves the sum at n."""
        if self.weights is None:
            return [1.0] * self.count
        rows = np.array(self.sizes(), np.float64)
        mean = self.weights.sum() / rows.sum()
        return [float(scale) for scale in self.weights / rows / mean]

    def _warn_if_quick(self, seconds: float) -> None:
        """Warn once if calls are so short that Dask takes a good part of them."""
        if self.client is None or self._calls != 2 or seconds >= QUICK:
            return
        from scipy.optimize import OptimizeWarning

        warnings.warn(
            f"a call over {self.count} blocks took {seconds:.2g} s, of which Dask needs some "
            "hundredths of a second, and 1.4 ms a block: take larger blocks, or client=None",
            OptimizeWarning,
            stacklevel=4,
        )


def _read_blocks(blocks: Iterable[Source]) -> list[Source]:
    """Return the blocks, each of which can be one."""
    if is_problem(blocks) or hasattr(type(blocks), "__dask_graph__") or callable(blocks):
        raise TypeError(f"blocks is {short(blocks)}, expected a sequence of such: [...]")
    try:
        sources = list(blocks)
    except TypeError:
        raise TypeError(f"blocks is {blocks!r:.60}, expected a sequence of loaders") from None
    if not sources:
        raise ValueError("blocks is empty, expected at least one block")
    for k, source in enumerate(sources):
        delayed = hasattr(type(source), "__dask_graph__")
        if not (delayed or is_future(source) or is_problem(source) or callable(source)):
            path = ": functools.partial(load, path)" if isinstance(source, str) else ""
            raise TypeError(
                f"block {k} is {source!r:.60}, expected a function that loads a problem{path}, a "
                "Delayed, a Future or a problem"
            )
        if hasattr(type(source), "over_blocks"):
            raise TypeError(f"block {k} is a Sum, expected its blocks beside the others")
        if isinstance(source, type):
            raise TypeError(f"block {k} is the class {source.__name__}, expected a loader of one")
    return sources


def _is_loader(source: object) -> bool:
    delayed = hasattr(type(source), "__dask_graph__")
    return not (delayed or is_future(source) or is_problem(source))


def _read_weights(weights: ArrayLike | None, count: int) -> np.ndarray | None:
    """Return the weights of the blocks."""
    if weights is None:
        return None
    given = np.array(weights, np.float64)
    if given.shape != (count,):
        raise ValueError(f"weights has shape {given.shape}, expected ({count},): one for a block")
    if not (np.isfinite(given) & (given > 0)).all():
        k = int(np.argmin(np.isfinite(given) & (given > 0)))
        raise ValueError(f"weights[{k}] is {given[k]}, expected a finite number > 0")
    return given
