"""Read and check the arguments of an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from typing import NamedTuple, TypeAlias

from ..arrays import Array
from ..methods.base import Method
from ..methods.names import read_named
from ..placement import Backend
from ..prox.base import Proximal
from .buffers import ALONE, for_each, label, read_params
from .clipping import Transformation
from .counted import LAZY
from .files import StateFiles, is_kept
from .precision import Precision, read_precision

MethodLike: TypeAlias = "Method | type[Method] | str"


class Arguments(NamedTuple):
    """The checked arguments of an optimizer, by the names of its parameters."""

    given: dict[str, Array]
    """The parameters, as the optimizer sees them."""
    is_named: bool
    methods: dict[str, Method]
    proxes: dict[str, Proximal]
    method: Method | dict[str, Method]
    """The user's method: one for all parameters, or one for each name."""
    precision: Precision
    lazy: str
    in_files: set[str]
    """Names of the parameters that lie in files."""
    files: StateFiles | None
    """The files with the state of these parameters, if it lies in files."""
    backend: Backend
    """The backend of all arrays."""


def read_arguments(
    params: object,
    method: object,
    prox: object,
    transformation: Transformation,
    state_dtype: object,
    rounding: str,
    master: bool,
    lazy: str,
    state_dir: str | PathLike[str] | None,
    resume: bool,
) -> Arguments:
    """Check what `Optimizer` documents under these names, before anything is made."""
    given, backend = read_params(params)
    if isinstance(method, Mapping):
        method = {n: read_named(label("method", n), value) for n, value in method.items()}
    else:
        method = read_named("method", method)
    methods: dict[str, Method] = for_each("method", method, given)
    for name, value in methods.items():
        if isinstance(value, type) or not hasattr(value, "coefficients_at"):
            what = label("method", name if isinstance(method, Mapping) else ALONE)
            raise TypeError(f"{what} is {value!r}, expected a Method such as AdaGrad(lr=0.1)")
    proxes: dict[str, Proximal] = for_each("prox", prox, given, default=Proximal())
    for name, map_of in proxes.items():
        if not isinstance(map_of, Proximal):
            what = label("prox", name if isinstance(prox, Mapping) else ALONE)
            raise TypeError(f"{what} is {map_of!r}, expected a Proximal such as Box(0, 1)")
    if transformation.limits and any(m.measures for m in methods.values()):
        raise ValueError(
            f"clip_value is {transformation.limits[0]!r} with a method that measures the "
            "gradient's norm, expected None: the norm is that of the gradient before it is clipped"
        )
    dtypes = [array.dtype for array in given.values()]
    precision = read_precision(state_dtype, rounding, master, dtypes, list(methods.values()))
    if lazy not in LAZY:
        raise ValueError(f"lazy is {lazy!r}, expected one of {', '.join(LAZY)}")
    kept = {name for name, array in given.items() if is_kept(array)}
    if state_dir is not None and not kept:
        raise ValueError(
            f"state_dir is {str(state_dir)!r} with params in memory, expected numpy.memmap "
            "of mode 'r+' or 'w+'"
        )
    if resume not in (True, False):
        raise TypeError(f"resume is {resume!r}, expected True or False")
    if resume and state_dir is None:
        raise ValueError("resume is True without state_dir, expected the folder of the state")
    return Arguments(
        given,
        isinstance(params, Mapping),
        methods,
        proxes,
        dict(methods) if isinstance(method, Mapping) else methods[next(iter(methods))],
        precision,
        lazy,
        kept,
        None if state_dir is None else StateFiles(state_dir, bool(resume), kept),
        backend,
    )


def arguments_of_run(x: Array, method: Method, prox: Proximal, backend: Backend) -> Arguments:
    """Return the arguments of an optimizer whose array, method and map a run has checked."""
    x = backend.view("params", x, writable=True)
    precision = read_precision(None, "nearest", False, [x.dtype], [method])
    alone = {ALONE: x}, False, {ALONE: method}, {ALONE: prox}, method
    return Arguments(*alone, precision, LAZY[0], set(), None, backend)


def read_seed(seed: object) -> int:
    """Return a seed, checked."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed is {seed!r}, expected a whole number >= 0")
    if seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    return int(seed)
