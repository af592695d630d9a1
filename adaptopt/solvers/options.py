"""The solver options of minimize: their defaults, their ranges, and what to do with the rest."""

from __future__ import annotations

import difflib
import math
import operator
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

from ..methods.base import Method
from ..objectives.differences import FD_METHODS
from ..objectives.function import Objective
from ..prox.base import Domain, Proximal

_Kind = TypeVar("_Kind", bound="Common")

# Steps between two checks of a run on a device, each of which waits for it.
CHECK_EVERY = 10
NAN_POLICIES = ("stop", "raise", "omit")

# What an option must be, in words, and what converts it; None refuses it.
Check: TypeAlias = tuple[str, Callable[[Any], object]]


@dataclass(frozen=True)
class Common:
    """The options of every front end, and the check of them all. ``None`` switches a test off."""

    maxtime: float | None = None
    f_target: float | None = None
    patience: int | None = None
    disp: bool = False
    history: int = 0
    history_rates: int = 0
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

    def checks_every(self, on_device: bool) -> int:
        """Return how many steps there are from one check of the run to the next."""
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
    rtol: float | None = 1e-10
    ftol: float | None = None
    xtol: float | None = None
    return_all: bool = False
    fd_method: str | None = None


@dataclass(frozen=True)
class EpochOptions(Common):
    """The same of `adaptopt.minimize_finite_sum`."""

    tol: float | None = None
    checkpoint: str | None = None
    stream: bool = False


def _at_least(least: int, flags: bool = False) -> Callable[[Any], int | None]:
    def convert(value: Any) -> int | None:
        if isinstance(value, bool) and not flags:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = operator.index(value)
        return number if number >= least else None

    return convert


def _whole(least: int) -> Check:
    return f"a whole number >= {least}", _at_least(least)


def _number(at_least: float) -> Check:
    def convert(value: Any) -> float | None:
        number = float(value)
        return number if number >= at_least and not isinstance(value, bool) else None

    return "a number" if at_least == -math.inf else f"a number >= {at_least:g}", convert


def _one_of(choices: Iterable[str]) -> Check:
    choices = tuple(choices)
    return f"one of {', '.join(choices)}", lambda value: value if value in choices else None


_FLAG = ("True or False", lambda value: bool(operator.index(value)))
_CHECKS: dict[str, Check] = {
    "maxiter": _whole(0),
    "maxfev": _whole(1),
    "maxtime": _number(0),
    "tol": _number(0),
    "gtol": _number(0),
    "rtol": _number(0),
    "ftol": _number(0),
    "xtol": _number(0),
    "f_target": _number(-math.inf),
    "patience": _whole(1),
    "disp": _FLAG,
    "return_all": _FLAG,
    "history": ("True, False or a whole number >= 0", _at_least(0, flags=True)),
    "history_rates": ("True, False or a whole number >= 0", _at_least(0, flags=True)),
    "callback_every": _whole(1),
    "check_every": _whole(1),
    "nan_policy": _one_of(NAN_POLICIES),
    "fd_method": _one_of(FD_METHODS),
    "checkpoint": ("the path of a file", os.fspath),
    "certificate": _FLAG,
    "stream": _FLAG,
}
_OPTIONAL = {
    *("maxiter", "maxfev", "maxtime", "certificate", "check_every", "fd_method"),
    *("tol", "gtol", "rtol", "ftol", "xtol", "f_target", "patience", "checkpoint"),
}


# What users of other libraries call things: SciPy, scikit-learn, torch, Keras, optax.
_MEANT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("learning_rate", "step_size", "stepsize", "eta", "eta0"), ("lr",)),
    **dict.fromkeys(("b1", "beta_1"), ("beta1",)),
    **dict.fromkeys(("b2", "beta_2"), ("beta2",)),
    **dict.fromkeys(("decay", "decay_rate"), ("rho",)),
    **dict.fromkeys(("max_iter", "maxiter", "n_iter", "max_steps"), ("maxiter", "epochs")),
    **dict.fromkeys(("epochs", "n_epochs", "max_epochs"), ("epochs", "maxiter")),
    **dict.fromkeys(("maxfun", "max_fun"), ("maxfev",)),
    **dict.fromkeys(("gtol", "ftol", "xtol"), ("tol",)),
    **dict.fromkeys(("maxcor", "maxls", "finite_diff_rel_step", "norm", "hess_inv0"), ()),
    **dict.fromkeys(("verbose", "iprint"), ("disp",)),
    "alpha": ("rho", "lr"),
    "betas": ("beta1", "beta2"),
    "epsilon": ("eps",),
    "initial_accumulator_value": ("initial_accumulator",),
    "batch": ("batch_size",),
    "fatol": ("ftol",),
    "xatol": ("xtol",),
}
# What is an argument of the front end, and no option.
_ARGUMENTS: dict[type[Common], tuple[str, ...]] = {
    Options: (
        "args",
        "average",
        "bounds",
        "callback",
        "jac",
        "method",
        "progress",
        "prox",
        "state",
    ),
    EpochOptions: (
        *("args", "average", "batch_size", "bounds", "callback", "drop_last", "epochs", "method"),
        *("parallel", "progress", "prox", "rng", "shuffle", "state", "validation"),
    ),
}


def read_options(method: Method, given: Mapping[str, object] | None) -> tuple[Method, Options]:
    """Split options into the method with its overridden hyperparameters and those of minimize.

    ``tol`` stands for ``gtol`` if that is not given. Unknown names give an OptimizeWarning, as
    SciPy's solvers do.
    """
    rest = _read_mapping(given)
    if (tol := rest.pop("tol", None)) is not None:
        rest.setdefault("gtol", tol)
    if rest.get("lr", getattr(method, "lr", None)) == "auto":
        rest.setdefault("gtol", None)  # it has a unit
    elif "rtol" in rest:
        raise ValueError(
            "options['rtol'] is given, expected none: it is a test of the search for a learning "
            "rate, and this method has a rate, its own or its default"
        )
    return _split(method, rest, Options, stacklevel=6)


def with_tol(given: object, tol: float | None) -> dict[str, Any]:
    """Return the options of `read_options` with an argument ``tol``, which they come before."""
    return {"tol": tol, **_read_mapping(given)}


def read_epoch_options(
    method: Method, given: Mapping[str, object] | None, tol: float | None, stacklevel: int = 5
) -> tuple[Method, EpochOptions]:
    """Split options likewise into the method and those of minimize_finite_sum."""
    return _split(method, with_tol(given, tol), EpochOptions, stacklevel)


def _read_mapping(given: object) -> dict[str, Any]:
    if not (given is None or isinstance(given, Mapping)):
        raise TypeError(f"options is {given!r}, expected a dict such as {{'maxiter': 100}}")
    return dict(given or {})


def _split(
    method: Method, rest: dict[str, Any], kind: type[_Kind], stacklevel: int
) -> tuple[Method, _Kind]:
    hyper = {f.name: rest.pop(f.name) for f in fields(method) if f.name in rest}
    known = {f.name: rest.pop(f.name) for f in fields(kind) if f.name in rest}
    if rest:
        names = [f.name for f in (*fields(kind), *fields(method))]
        _warn_unknown(rest, type(method).__name__, names, _ARGUMENTS[kind], stacklevel)
    return replace(method, **hyper) if hyper else method, kind(**known)


def warn_of_eps(method: Method, stacklevel: int) -> None:
    """Warn of options["eps"] if it may be meant for finite differences, as in SciPy."""
    from scipy.optimize import OptimizeWarning

    name = type(method).__name__
    warnings.warn(
        f"options['eps'] is the eps of {name}, not the step of finite differences that it is for "
        f"SciPy's solvers: method={name}(eps=...) sets it without this warning",
        OptimizeWarning,
        stacklevel=stacklevel,
    )


def _hint(name: str, names: list[str], arguments: tuple[str, ...]) -> str:
    """Say what an unknown name may have stood for."""
    meant = _MEANT.get(name, (name,))
    if not meant:
        return "a first-order method has no such option"
    if known := [other for other in meant if other in names]:
        return f"did you mean {' or '.join(map(repr, known))}?"
    if others := [other for other in meant if other in arguments]:
        return f"it is an argument, {others[0]}=..., and no option"
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"


def _warn_unknown(
    unknown: Mapping[str, object],
    method: str,
    names: list[str],
    arguments: tuple[str, ...],
    stacklevel: int,
) -> None:
    from scipy.optimize import OptimizeWarning

    for name in unknown:
        hint = _hint(name, names, arguments)
        warnings.warn(
            f"Unknown solver options: {name} (for {method}; {hint})",
            OptimizeWarning,
            stacklevel=stacklevel,
        )


def read_domain(
    method: Method, prox: Proximal, objective: Objective, wanted: bool | None, convex: bool
) -> Domain | None:
    """Return the bounded domain of a certificate, if the function is known or said to be convex."""
    if objective.on_device:
        if wanted:
            raise ValueError(
                "options['certificate'] is True with x0 a CUDA array, expected None: every iterate "
                "and gradient would be copied to the host, where it is summed"
            )
        return None
    if not (convex if wanted is None else wanted):
        return None
    domain = prox.domain()
    if domain is not None and domain.is_bounded:
        return domain.plus(*method.penalty).flat(objective.shape)
    if wanted and domain is None:
        raise ValueError(
            f"options['certificate'] is True with prox {prox!r}, expected bounds and at most a "
            "penalty L1, L2 or ElasticNet of one strength: the certificate knows no others"
        )
    if wanted:
        raise ValueError(
            "options['certificate'] is True without finite bounds on every variable, expected "
            "bounds such as Bounds(-10, 10)"
        )
    return None
