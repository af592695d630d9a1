"""What a user compiled with Numba, read so that a kernel of many steps can call it.

A front end hands `read_compiled` the user's function, a point and the arguments, and gets a
`CompiledFunction` or None (then it calls the function from Python, as it calls any other):

>>> import numpy as np
>>> from numba import njit
>>> @njit
... def bowl(x, g_out, centre):
...     f = 0.0
...     for i in range(x.size):
...         g_out[i] = x[i] - centre
...         f += g_out[i] ** 2 / 2
...     return f
>>> compiled = read_compiled(bowl, None, np.zeros(3), (), (2.0,))
>>> compiled.form, compiled.functions == (bowl, None), compiled.args == (2.0,), compiled.guarded
('in place', True, True, False)

The kernel is made with the part ``compiled.evaluate()``, a plain function, called as

    ``value, fits = evaluate(fun, jac, x, batch, g, spare, args)``

where ``fun`` and ``jac`` are ``compiled.passed()`` and ``args`` are ``compiled.args``, of Numba's
types ``compiled.kinds``. ``x`` is a C-contiguous array like the point; ``batch`` is a tuple of what
is passed after it, such as the indices of rows. The gradient is written to ``g``, an array like
``x``; so is ``spare``, which is written to only if ``guarded``: a function that may write to
``x`` gets it as a copy. ``fits`` is False if a gradient of another shape was returned: then
neither counts, and calling the function from Python says what is wrong. What is raised arrives as
it is.

The functions enter as their addresses: the kernel does not depend on them and is loaded from the
disk in the next process.

If ``compiled.counted`` is False, evaluating makes no arrays, and the kernel needs no reference
counts: a call took 8 ns without them and 64 ns with them.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from numbers import Real
from typing import NamedTuple

import numpy as np
from numba import typeof, types
from numba.core.errors import NumbaError
from numba.core.registry import CPUDispatcher, cpu_target
from numba.np.numpy_support import from_dtype

from ..arrays import DType, UserFunction
from ..kernels.compile import REMEMBERED, NumbaFunction, NumbaType, what_numba_says
from ..kernels.evaluate import EVALUATE, IN_PLACE, PAIR, SEPARATE, as_it_is, copied
from ..kernels.pointers import Pointer, address
from ..scalar import ScalarFunction

# mypy: disable-error-code="no-untyped-call"
# Numba's functions have no types.

# What users call the array that a function writes its gradient to.
GRADIENT_NAMES = ("g_out", "g", "grad", "gradient", "out")


class CompiledFunction(NamedTuple):
    """A compiled function and what it is called with; see the module.

    Attributes
    ----------
    form : {"in place", "pair", "separate"}
        ``f(x, *batch, g_out, *args) -> value``, ``f(x, *batch, *args) -> (value, gradient)``, or
        ``f(x, *batch, *args) -> value`` and ``jac(x, *batch, *args) -> gradient``.
    functions : tuple
        ``fun``, and ``jac`` or None: kept while a kernel has their addresses.
    args : tuple
        The arguments, with the functions' defaults for those left out.
    kinds : tuple
        Numba's types of both functions (of None if there is none) and of the tuple of arguments.
    guarded : bool
        Whether the functions may write to the point, and so get a copy of it.
    """

    form: str
    functions: tuple[NumbaFunction, NumbaFunction]
    args: tuple[object, ...]
    kinds: tuple[NumbaType, NumbaType, NumbaType]
    guarded: bool

    def evaluate(self) -> ScalarFunction:
        """Return the plain function that a kernel evaluates value and gradient with."""
        return EVALUATE[self.form](copied if self.guarded else as_it_is)

    @property
    def counted(self) -> bool:
        """Whether evaluating needs reference counts, as returned arrays do."""
        return self.form != IN_PLACE

    @property
    def is_current(self) -> bool:
        """Whether no function has been compiled anew since, which may change what it returns."""
        return all(
            function is None
            or (
                (compiled := function.overloads.get(kind.signature.args)) is not None
                and compiled.signature == kind.signature
            )
            for function, kind in zip(self.functions, self.kinds[:2], strict=True)
        )

    def passed(self) -> tuple[int | None, int | None]:
        """Return what a kernel is passed as ``fun`` and ``jac``."""
        fun, jac = (
            None if function is None else address(function, kind.signature)
            for function, kind in zip(self.functions, self.kinds[:2], strict=True)
        )
        return fun, jac


def is_compiled(fun: object) -> bool:
    """Tell whether a function is Numba's, for the CPU."""
    return isinstance(fun, CPUDispatcher)


def takes_gradient(fun: NumbaFunction, leading: int, count: int) -> bool:
    """Tell whether a compiled function wants a gradient to write to, by how many it takes.

    Parameters
    ----------
    fun : njit function
        Taking ``leading`` arguments, perhaps the gradient, then ``count`` more.

    Raises
    ------
    TypeError
        If it takes neither ``leading + count`` nor one more.

    Notes
    -----
    If defaults leave both open, the name of the argument decides: one of `GRADIENT_NAMES`.
    """
    return _takes_gradient(getattr(fun, "py_func", fun), leading, count)


@lru_cache(maxsize=REMEMBERED)
def _takes_gradient(fun: UserFunction, leading: int, count: int) -> bool:
    signature = _signature_of(fun)
    fewer, more = (_binds(signature, leading + count + k) for k in (0, 1))
    if fewer and more:
        return [*signature.parameters, ""][leading] in GRADIENT_NAMES
    if fewer or more:
        return more
    before = ", ".join(["x", *["batch"] * (leading - 1)])
    raise TypeError(
        f"fun is {fun.__name__}{signature}, expected a function that takes "
        f"{leading + count} ({before}, *args) or {leading + count + 1} ({before}, g_out, *args), "
        f"with {count} in args"
    )


def read_compiled(
    fun: UserFunction,
    jac: object,
    x: np.ndarray,
    batch: tuple[object, ...],
    args: tuple[object, ...],
) -> CompiledFunction | None:
    """Read a compiled objective, or return None if it has to be called from Python.

    Parameters
    ----------
    fun, jac : callable, or what SciPy takes as ``jac``
        Nothing but njit functions is read; ``jac`` is None or True if ``fun`` writes the
        gradient, True if it returns it.
    x : ndarray
        A point, C-contiguous, for its shape and dtype.
    batch : tuple
        Examples of what is passed after the point; any but arrays and numbers are refused.
    args : tuple
        What is passed last.

    Raises
    ------
    TypeError, ValueError
        If ``fun`` takes another number of arguments, does not compile for these, writes a
        gradient and returns no number, or has a ``jac`` besides. Nothing has been called then.
    """
    if not is_compiled(fun):
        return None
    if not args and not batch and (jac is None or isinstance(jac, bool) or is_compiled(jac)):
        read = _read_alone(fun, jac, x.dtype, x.ndim)
        if read is not None and read.is_current:
            return read
    return _read(fun, jac, x.dtype, x.ndim, batch, args)


@lru_cache(maxsize=REMEMBERED)  # it takes a third of a short run
def _read_alone(
    fun: NumbaFunction, jac: object, dtype: DType, ndim: int
) -> CompiledFunction | None:
    return _read(fun, jac, dtype, ndim, (), ())


def _read(
    fun: NumbaFunction,
    jac: object,
    dtype: DType,
    ndim: int,
    batch: tuple[object, ...],
    args: tuple[object, ...],
) -> CompiledFunction | None:
    writes = takes_gradient(fun, 1 + len(batch), len(args))
    if writes and not (jac is None or isinstance(jac, bool)):
        raise ValueError(f"jac is {jac!r}, expected None or True: fun writes its gradient to g_out")
    if not (writes or jac is True or is_compiled(jac)):
        return None
    form = IN_PLACE if writes else PAIR if jac is True else SEPARATE
    args = _with_defaults(fun, args, 1 + len(batch) + writes)
    kinds = [_kind_of("args", k, value) for k, value in enumerate(args)]
    batch_kinds = [_kind_of("batch", k, value) for k, value in enumerate(batch)]
    number = from_dtype(dtype)
    g = types.Array(number, ndim, "C")
    written = [g] if writes else []
    functions = (fun, jac if form == SEPARATE else None)
    if not _takes_all(functions, args, batch):
        return None
    # A function that compiles for a read-only point needs no copy of it.
    for readonly in (True, False):
        point = types.Array(number, ndim, "C", readonly=readonly)
        takes = (point, *batch_kinds, *written, *kinds)
        try:
            signatures: list[NumbaType] = [
                None if function is None else _signature(function, takes) for function in functions
            ]
            break
        # Numba fails with an AttributeError, too, if an array is changed in place.
        except Exception as error:
            if not readonly:
                taken = taken_for_gradient(fun, 1 + len(batch), args) if writes else ""
                raise TypeError(_refusal(takes, error) + taken) from None
    if not _returns(form, signatures, ndim):
        if writes:
            raise TypeError(
                f"fun returns {signatures[0].return_type}, expected a real number: it takes g_out, "
                f"to which it writes the gradient{taken_for_gradient(fun, 1 + len(batch), args)}"
            )
        return None
    args = tuple(_as_declared(value, k - len(args), signatures) for k, value in enumerate(args))
    kinds = [typeof(value) for value in args]
    if not all(map(_is_plain, kinds + batch_kinds)):
        return None
    function_kinds = [types.none if s is None else Pointer(s) for s in signatures]
    guarded = not all(s is None or not s.args[0].mutable for s in signatures)
    return CompiledFunction(form, functions, args, (*function_kinds, types.Tuple(kinds)), guarded)  # type: ignore[arg-type]


@lru_cache(maxsize=REMEMBERED)
def _signature_of(function: UserFunction) -> inspect.Signature:
    return inspect.signature(function)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def _with_defaults(fun: NumbaFunction, args: tuple[object, ...], before: int) -> tuple[object, ...]:
    """Return the arguments with the defaults that follow them."""
    bound = _signature_of(fun.py_func).bind(*[None] * before, *args)
    bound.apply_defaults()
    return tuple(bound.args[before:])


def _takes_all(
    functions: tuple[NumbaFunction, ...], args: tuple[object, ...], batch: tuple[object, ...]
) -> bool:
    """Tell whether the functions have as many arguments, each with a name of its own."""
    for function in functions:
        if function is not None:
            parameters = _signature_of(function.py_func).parameters.values()
            if any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in parameters):
                return False
    jac = functions[1]
    return jac is None or _binds(_signature_of(jac.py_func), 1 + len(batch) + len(args))


def _kind_of(name: str, k: int, value: object) -> NumbaType:
    try:
        return typeof(value)
    except (ValueError, NumbaError):
        of = f" of dtype {value.dtype}" if isinstance(value, np.ndarray) else ""
        raise TypeError(
            f"{name}[{k}] is a {type(value).__name__}{of}, expected what a compiled function can "
            "take: numbers, arrays in native byte order without a mask, or tuples of them"
        ) from None


def taken_for_gradient(fun: NumbaFunction, leading: int, args: tuple[object, ...]) -> str:
    """Say which argument was taken for ``g_out``, unless its name says that it is meant."""
    name = [*inspect.signature(fun.py_func).parameters][leading]
    if name in GRADIENT_NAMES:
        return ""
    return f": its argument {name!r} is taken for g_out, as there are {len(args)} in args"


def _as_declared(value: object, k: int, signatures: list[NumbaType]) -> object:
    """Return a number as argument ``k`` is declared, if all signatures say the same."""
    declared = {signature.args[k] for signature in signatures if signature is not None}
    kind = declared.pop()
    if declared or not isinstance(kind, types.Float) or not isinstance(value, Real | np.bool_):
        return value
    return np.dtype(kind.name).type(value)


def _is_plain(kind: NumbaType) -> bool:
    """Tell whether a kernel can be passed it: a number, an array, None, or tuples of them."""
    if isinstance(kind, types.BaseTuple):
        return all(_is_plain(part) for part in kind.types)  # type: ignore[attr-defined]
    return isinstance(kind, types.Number | types.Boolean | types.Array | types.NoneType)


def _signature(function: NumbaFunction, takes: tuple[NumbaType, ...]) -> NumbaType:
    """Compile a function for these types; return its signature."""
    if function._can_compile:
        if takes not in function.overloads:  # asking Numba takes 0.1 ms
            function.compile(takes)
        return function.overloads[takes].signature

    # Compiled for explicit signatures only: one that these types convert to.
    def convert(given: NumbaType, declared: NumbaType) -> object:
        if isinstance(given, types.Float) and not isinstance(declared, types.Float | types.Complex):
            return None  # Numba would cut off the fraction
        return cpu_target.typing_context.can_convert(given, declared)

    for overload in function.overloads.values():
        declared = overload.signature.args
        if len(declared) == len(takes) and all(
            convert(a, b) is not None for a, b in zip(takes, declared, strict=True)
        ):
            return overload.signature
    raise NumbaError(f"it was compiled for {', '.join(map(str, function.overloads))} only")


def _refusal(takes: tuple[NumbaType, ...], error: Exception) -> str:
    return (
        f"fun does not compile, expected a function of ({', '.join(map(str, takes))}): "
        f"{what_numba_says(error)}"
    )


def _returns(form: str, signatures: list[NumbaType], ndim: int) -> bool:
    """Tell whether value and gradient are returned as a kernel can take them."""
    value = signatures[0].return_type
    gradient = None
    if form == PAIR:
        if not (isinstance(value, types.BaseTuple) and len(value) == 2):
            return False
        value, gradient = value.types  # type: ignore[attr-defined]
    elif form == SEPARATE:
        gradient = signatures[1].return_type
    if gradient is not None and not (
        isinstance(gradient, types.Array) and gradient.ndim == ndim and _is_real(gradient.dtype)
    ):
        return False
    return _is_real(value)


def _is_real(kind: NumbaType) -> bool:
    return isinstance(kind, types.Float | types.Integer | types.Boolean)
