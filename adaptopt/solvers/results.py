"""What minimisers return: SciPy's result, printed short."""

from __future__ import annotations

from typing import Any, Protocol

from scipy.optimize import OptimizeResult


class Result(OptimizeResult):  # type: ignore[misc]  # SciPy has no types
    """SciPy's ``OptimizeResult``, which prints neither empty fields nor a whole history."""

    def __repr__(self) -> str:
        shown = {name: value for name, value in self.items() if value is not None}
        if history := shown.get("history"):
            shown["history"] = f"{len(history['t'])} records of {', '.join(history)}"
        if self.items():
            return str(OptimizeResult(shown))
        return "Result()"


class _HasState(Protocol):
    def state(self) -> object:
        """Return a copy of the state of the run."""


class Intermediate(Result):
    """What a callback is told. Its ``state`` is copied when it is first read.

    Parameters
    ----------
    run : _HasState
        The run that calls back.
    **told
        The rest, by name.
    """

    def __init__(self, run: _HasState, **told: object) -> None:
        super().__init__(**told)
        object.__setattr__(self, "_run", run)

    def __getattr__(self, name: str) -> Any:
        """Return an entry; copy the state of the run if that is asked for."""
        if name == "state" and name not in self:
            run = self.__dict__.get("_run")
            if run is None:
                raise AttributeError("state is no longer known: read it in the callback")
            self[name] = run.state()
        return super().__getattr__(name)

    def end(self) -> None:
        """Forget the run, which goes on."""
        object.__setattr__(self, "_run", None)

    def __reduce__(self) -> tuple[object, ...]:
        return Result, (dict(self),)
