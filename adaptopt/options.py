"""The solver options of minimize: their defaults, their ranges, and what to do with the rest."""

from __future__ import annotations

import difflib
import math
import operator
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

__all__ = ["EpochOptions", "Options", "read_epoch_options", "read_options"]

_Kind = TypeVar("_Kind", bound="Common")

FD_METHODS = ("2-point", "3-point", "cs")
# Steps between two looks at a run on a device, each of which waits for it.
CHECK_EVERY = 10
NAN_POLICIES = ("stop", "raise", "omit")


@dataclass(frozen=True)
class Common:
    """The options of every front end, and the check of them all. ``None`` switches a test off."""

    maxtime: float | None = None
    f_target: float | None = None
    patience: int | None = None
    disp: bool = False
    history: int = 0
    callback_every: int = 1
    check_every: int | None = None
    nan_policy: str = "stop"
    certificate: bool | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, check = getattr(self, field.name), _CHECKS[field.name]
            if value is None and field.name in _OPTIONAL:
                continue
            expected, convert = check
            try:
                converted = convert(value)
            except (TypeError, ValueError):
                converted = None
            if converted is None:
                off = " or None" if field.name in _OPTIONAL else ""
                raise ValueError(f"options[{field.name!r}] is {value!r}, expected {expected}{off}")
            object.__setattr__(self, field.name, converted)

    def looks_every(self, on_device: bool) -> int:
        """Return how many steps there are from one look at the run to the next."""
        omits = self.nan_policy == "omit"
        if self.check_every is None:
            return CHECK_EVERY if on_device and not omits else 1
        if omits and self.check_every > 1:
            raise ValueError(
                f"options['check_every'] is {self.check_every} with nan_policy 'omit', expected 1: "
                "only a step that is looked at can be left out"
            )
        return self.check_every


@dataclass(frozen=True)
class Options(Common):
    """When to stop and what to record; see `adaptopt.minimize` for each."""

    maxiter: int | None = 10_000
    maxfev: int | None = None
    gtol: float | None = 1e-5
    ftol: float | None = None
    xtol: float | None = None
    return_all: bool = False
    fd_method: str = "2-point"
    specialize: bool = False


@dataclass(frozen=True)
class EpochOptions(Common):
    """The same of `adaptopt.minimize_finite_sum`."""

    tol: float | None = None


def _at_least(least: int) -> Any:
    def convert(value: Any) -> int | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = operator.index(value)
        return number if number >= least else None

    return convert


def _whole(least: int) -> tuple[str, Any]:
    return f"a whole number >= {least}", _at_least(least)


def _number(at_least: float) -> tuple[str, Any]:
    def convert(value: Any) -> float | None:
        number = float(value)
        return number if number >= at_least and not isinstance(value, bool) else None

    return "a number" if at_least == -math.inf else f"a number >= {at_least:g}", convert


def _one_of(choices: Iterable[str]) -> tuple[str, Any]:
    choices = tuple(choices)
    return f"one of {', '.join(choices)}", lambda value: value if value in choices else None


_FLAG = ("True or False", lambda value: bool(operator.index(value)))
_CHECKS: dict[str, tuple[str, Any]] = {
    "maxiter": _whole(0),
    "maxfev": _whole(1),
    "maxtime": _number(0),
    "tol": _number(0),
    "gtol": _number(0),
    "ftol": _number(0),
    "xtol": _number(0),
    "f_target": _number(-math.inf),
    "patience": _whole(1),
    "disp": _FLAG,
    "return_all": _FLAG,
    "history": ("True, False or a whole number >= 0", _at_least(0)),
    "callback_every": _whole(1),
    "check_every": _whole(1),
    "nan_policy": _one_of(NAN_POLICIES),
    "fd_method": _one_of(FD_METHODS),
    "certificate": _FLAG,
    "specialize": _FLAG,
}
_OPTIONAL = {
    *("maxiter", "maxfev", "maxtime", "certificate", "check_every"),
    *("tol", "gtol", "ftol", "xtol", "f_target", "patience"),
}


def read_options(method: Any, given: Mapping[str, Any] | None) -> tuple[Any, Options]:
    """Split options into the method with its overridden hyperparameters and those of minimize.

    ``tol`` stands for ``gtol`` where that is not given. Unknown names give an OptimizeWarning, as
    SciPy's solvers do.
    """
    rest = dict(given or {})
    if (tol := rest.pop("tol", None)) is not None:
        rest.setdefault("gtol", tol)
    return _split(method, rest, Options, stacklevel=6)


def read_epoch_options(
    method: Any, given: Mapping[str, Any] | None, tol: float | None
) -> tuple[Any, EpochOptions]:
    """Split options likewise into the method and those of minimize_finite_sum."""
    return _split(method, {"tol": tol, **(given or {})}, EpochOptions, stacklevel=5)


def _split(
    method: Any, rest: dict[str, Any], kind: type[_Kind], stacklevel: int
) -> tuple[Any, _Kind]:
    hyper = {f.name: rest.pop(f.name) for f in fields(method) if f.name in rest}
    known = {f.name: rest.pop(f.name) for f in fields(kind) if f.name in rest}
    if rest:
        names = [f.name for f in (*fields(kind), *fields(method))]
        _warn_unknown(rest, type(method).__name__, names, stacklevel)
    return replace(method, **hyper), kind(**known)


def _warn_unknown(
    unknown: Mapping[str, Any], method: str, names: list[str], stacklevel: int
) -> None:
    from scipy.optimize import OptimizeWarning

    for name in unknown:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
        warnings.warn(
            f"Unknown solver options: {name} (for {method}; {hint})",
            OptimizeWarning,
            stacklevel=stacklevel,
        )
