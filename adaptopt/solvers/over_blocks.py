"""minimize_finite_sum over a sum in blocks: what it takes there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import ArrayLike

from ..arrays import UserFunction
from ..methods.base import Method
from ..objectives.batches import Draws, read_count, read_flag
from ..objectives.exchange import Data, Exchange
from ..objectives.finite_sum import read_validation
from ..objectives.start import read_start
from ..prox.base import Proximal
from ..prox.separable import L2
from .block_rounds import BlockRounds, why_no_rounds
from .epoch_loop import run_epochs
from .local_pass import Blocks, Pass
from .minimize import read_or_search
from .options import EpochOptions, read_epoch_options
from .pilot import check_pilot, why_no_pilot
from .reporting import read_callback
from .searchable import with_rate
from .state import EpochState

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


def minimize_blocks(
    fun: Blocks,
    x0: ArrayLike,
    data: object,
    *,
    args: object,
    method: str | Method,
    prox: Proximal | None,
    bounds: object,
    batch_size: int,
    epochs: int,
    shuffle: bool,
    drop_last: bool,
    rng: object,
    parallel: str | None,
    lazy: str,
    average: str | None,
    validation: Data | UserFunction,
    tracker: object,
    tol: float | None,
    callback: Callable[..., object] | None,
    options: Mapping[str, object] | None,
    state: object,
    progress: bool,
) -> OptimizeResult:
    """Minimise a sum over blocks in rounds; the arguments are those of `minimize_finite_sum`."""
    method = read_or_search(method, options, prox, x0, partial(why_no_pilot, parallel=parallel))
    epochs, batch_size = read_count("epochs", epochs), read_count("batch_size", batch_size)
    shuffle, drop_last = read_flag("shuffle", shuffle), read_flag("drop_last", drop_last)
    callback = read_callback(callback)
    method, opts = read_epoch_options(method, options, tol, stacklevel=6)
    exchange, _, prox = read_start(x0, bounds, prox)
    _refuse(data, args, parallel, lazy, average, tracker, opts, exchange.on_device)
    if (why := why_no_rounds(method)) is not None:
        raise ValueError(why)
    if method.searches:
        check_pilot(method, prox, exchange.x, parallel)
    _warn_of_averaged_penalty(method, prox, fun.count)
    plain = with_rate(method, 1.0) if method.searches else method
    how = Pass(plain, prox, batch_size, shuffle, drop_last, parallel)
    held_out = _read_validation(validation, exchange)
    run = BlockRounds(method, fun, how, exchange, Draws(rng), held_out, opts)
    if state is not None:
        run.restore(EpochState.read(state))
    return run_epochs(run, run.shown, epochs, epochs, callback, progress, "round")


def _refuse(
    data: object,
    args: object,
    parallel: str | None,
    lazy: str,
    average: str | None,
    tracker: object,
    opts: EpochOptions,
    on_device: bool,
) -> None:
    """Refuse what a run in rounds does not take."""
    in_blocks = "with fun in blocks"
    if data is not None:
        raise ValueError(f"data is {data!r:.60} {in_blocks}, expected None: fun has its data")
    if args not in ((), None):
        raise ValueError(f"args is {args!r:.60}, expected (): fun has its data with it")
    if on_device:
        raise TypeError(f"x0 is a CUDA array {in_blocks}, expected an array on the host")
    if parallel == "hogwild":
        raise ValueError(
            f"parallel is 'hogwild' {in_blocks}, expected None or 'deterministic': a round that "
            "is lost is taken again, which must lead to the same state"
        )
    if lazy != "exact":
        raise ValueError(
            f"lazy is {lazy!r} {in_blocks}, expected 'exact': a penalty would count by how often "
            "each block touches a coordinate, and so differ from block to block"
        )
    if tracker is not None:
        raise ValueError(
            f"tracker is {tracker!r:.60} {in_blocks}, expected None: blocks are played beside each "
            "other, and regret is that of rounds one after the other"
        )
    if average not in (None, "last"):
        raise ValueError(
            f"average is {average!r} {in_blocks}, expected None or 'last': the result is a mean "
            "over blocks, whose steps no average has seen"
        )
    for name, given, why in (
        ("history", opts.history, "res.rounds holds the loss and seconds of each round"),
        ("history_rates", opts.history_rates, "res.learning_rates holds those at the end"),
        ("check_every", opts.check_every not in (None, 1), "every step is checked"),
        ("nan_policy", opts.nan_policy == "omit", "blocks do not say which rows they leave out"),
        ("stream", opts.stream, "a sum holds all its blocks; a stream is run part by part"),
        ("certificate", opts.certificate, "ask ao.minimize(fun, res.x) for it"),
    ):
        if given:
            value = getattr(opts, name)
            raise ValueError(
                f"options[{name!r}] is {value!r} {in_blocks}, expected the default: {why}"
            )


def _read_validation(
    validation: Data | UserFunction, exchange: Exchange
) -> Callable[..., float] | None:
    """Return the validation as a function of a point: a callable, a problem, or blocks."""
    if validation is None:
        return None
    if isinstance(validation, Blocks):
        return lambda x: float(validation(x)[0])
    total = read_validation(validation, cast(Any, None), None, None, (), exchange)
    if callable(total):
        return total  # type: ignore[no-any-return]
    return lambda x: float(total.mean(x.reshape(-1), 1024, omit=False)[0])


def _warn_of_averaged_penalty(method: Method, prox: Proximal, blocks: int) -> None:
    """Warn that means of iterates have few zeros, if a penalty is to make some."""
    if blocks == 1 or method.from_sums or not prox.has_penalty or isinstance(prox, L2):
        return
    from scipy.optimize import OptimizeWarning

    warnings.warn(
        f"prox is {prox!r} over {blocks} blocks: a mean of iterates is zero only where all are, so "
        "that few coordinates are. method=AdaGradDA(lr, l1=...) keeps the zeros: it averages sums "
        "of gradients",
        OptimizeWarning,
        stacklevel=4,
    )
