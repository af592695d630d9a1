"""What a run reports: to a callback, as progress, as a summary, and its state on an error."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class Run(Protocol):
    """A run that has taken ``t`` steps and can return its state."""

    @property
    def t(self) -> int:
        """Steps taken."""

    def state(self) -> object:
        """Return a copy of the state of the run."""


@contextlib.contextmanager
def state_on_error(run: Run, front_end: str) -> Iterator[None]:
    """Attach the state to whatever ends the run, Ctrl-C too, so that nothing is lost."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(AttributeError, TypeError):
            error.state = run.state()  # type: ignore[attr-defined]
        if hasattr(error, "add_note"):
            error.add_note(
                f"adaptopt: the run stood after step {run.t}; its state is attached to this "
                f"exception as .state, and {front_end}(..., state=...) goes on from it."
            )
        raise


def warn_of_slowness(what: str, stacklevel: int) -> None:
    """Warn of what slows a run down."""
    from scipy.optimize import OptimizeWarning

    warnings.warn(what, OptimizeWarning, stacklevel=stacklevel)


def read_callback(callback: object) -> Callable[[OptimizeResult], object] | None:
    """Return the callback in one form, whichever of SciPy's two signatures it has."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback is {callback!r}, expected a callable")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):
        return lambda result: callback(result.x)
    if set(signature.parameters) == {"intermediate_result"}:
        return lambda result: callback(intermediate_result=result)
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"callback takes {signature}, expected callback(xk) or "
            "callback(*, intermediate_result), which holds x, fun, nit and nfev"
        ) from None
    return lambda result: callback(result.x)


def call_back(callback: Callable[[OptimizeResult], object], run: Run, **told: object) -> bool:
    """Tell a callback of a run; return whether it ended the run by raising StopIteration."""
    from .results import Intermediate

    intermediate = Intermediate(run, **told)
    try:
        callback(intermediate)
    except StopIteration:
        return True
    finally:
        intermediate.end()
    return False


@contextlib.contextmanager
def progress_bar(
    progress: bool, total: int | None, name: str, unit: str = "step"
) -> Iterator[Callable[..., None]]:
    """Show a progress bar; yield what to call after each step, with more to show by name."""
    if not progress:
        yield lambda f, steps=1, **shown: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install tqdm") from None
    with tqdm(total=total, desc=name, unit=unit) as bar:

        def advance(f: float, steps: int = 1, **shown: str) -> None:
            bar.set_postfix(fun=f"{f:.6g}", **shown, refresh=False)
            bar.update(steps)

        yield advance


def display(result: OptimizeResult) -> None:
    """Print a summary; what is no success is a warning, as it is in SciPy."""
    if result.success:
        print(result.message)
    else:
        from scipy.optimize import OptimizeWarning

        warnings.warn(result.message, OptimizeWarning, stacklevel=4)
    print(f"         Current function value: {result.fun:f}")
    print(f"         Iterations: {result.nit}")
    print(f"         Function evaluations: {result.nfev}")
    print(f"         Gradient evaluations: {result.njev}")
