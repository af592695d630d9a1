"""Compile kernels from scalar functions, and cache them on disk under a digest of their sources."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from types import FunctionType
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic, overload, register_jitable
from numba.np.numpy_support import from_dtype

from ..scalar import ScalarFunction
from .contents import digest, plain, references
from .disk import enable_cache, is_on_disk, say_why_it_takes_long
from .early import EarlyKernel, interpreted
from .early import Kernel as Kernel
from .early import NumbaFunction as NumbaFunction
from .early import NumbaType as NumbaType

# A function that returns the plain kernel for its parts: scalar functions and constants.
Make: TypeAlias = Callable[..., Kernel]
Parts: TypeAlias = tuple[ScalarFunction | int | tuple[float, ...], ...]

Maker = TypeVar("Maker", bound=Callable[..., object])

# Number of results that each maker of kernels keeps, for programs that make functions in a loop.
REMEMBERED = 256

_INTEGER, _POINTER = ir.IntType(32), ir.IntType(8).as_pointer()


def memoised(make: Maker) -> Maker:
    """Memoise a function or class that makes kernels.

    To load a kernel from the disk takes 10 ms, and to make the Numba types of its arguments 0.1 ms.
    """
    return cast(Maker, lru_cache(maxsize=REMEMBERED)(make))


def number_type(form: str) -> NumbaType:
    """Return Numba's type of a number in an array, in which 16-bit floats are stored as uint16."""
    return from_dtype(np.dtype("uint16" if form.endswith("float16") else form))


def array_type(form: str) -> NumbaType:
    """Return Numba's type of a flat array of numbers."""
    return number_type(form)[::1]


def tuple_of(kind: NumbaType, count: int) -> NumbaType:
    """Return Numba's type of a tuple of ``count`` equal things."""
    return types.Tuple([kind] * count)  # type: ignore[no-untyped-call]


@cache
def inlinable(
    function: ScalarFunction, always: bool = False, parallel: bool = False
) -> ScalarFunction:
    """Let kernels call a plain function, and the plain functions it calls.

    Not njit: a kernel that closes over a dispatcher never hits the disk cache, because a
    dispatcher pickles to other bytes in every process. With ``always``, LLVM inlines them whatever
    their size: a loop with a call in it takes no SIMD. A `prange` in a function that a kernel calls
    is one of threads with ``parallel``, whatever the kernel is compiled with. C calls none of them:
    to compile a wrapper for C took a tenth of the time.
    """
    for _, value in references(function):
        if isinstance(plain(value), FunctionType):
            inlinable(plain(value), always)
    options = {"forceinline": always, "parallel": parallel, "no_cfunc_wrapper": True}
    register = register_jitable(**{name: True for name, given in options.items() if given})
    registered: ScalarFunction = register(function)
    return registered


def compile_kernel(
    make: Make,
    parts: Parts,
    signature: NumbaType,
    parallel: bool = False,
    counted: bool = True,
    early: Callable[..., int] | None = None,
) -> Kernel:
    """Compile ``make(*parts)`` for one signature; a second process loads it from the disk cache.

    Parameters
    ----------
    make : callable
        Takes the parts, made callable from compiled code, and returns the plain kernel.
    parts : tuple of callable or int
        Plain scalar functions: rules, proximal maps; and constants.
    signature : numba signature
        The signature, to which Python floats are cast. A kernel without one would compute in
        float64, and be four times slower.
    counted : bool
        Whether references to arrays are counted. Numba cannot remove the counting from loops with
        branches: an epoch over sparse rows was 1.2 to 4 times as fast without it. A kernel without
        counting must not make arrays.
    early : callable, optional
        Returns how many elements a call has to do with. With it, `EarlyKernel` has Python run the
        first calls, unless there are functions of the user's in the kernel.
    """
    parts = tuple(plain(part) for part in parts)
    kernel = make(*[inlinable(part, True) if callable(part) else part for part in parts])
    cached = name_by_content(kernel, make, parts, signature, parallel)
    # error_model="numpy": the default tests every division for zero, which prevents SIMD.
    options: dict[str, Any] = {
        "error_model": "numpy",
        "nogil": True,
        "parallel": parallel,
        "no_cfunc_wrapper": True,
    }
    if not counted:
        options["_nrt"] = False
    dispatcher: NumbaFunction = njit(**options)(kernel)
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        return interpreted(kernel, signature)
    on_disk = cached and enable_cache(dispatcher)

    def build() -> Kernel:
        if not on_disk:
            say_why_it_takes_long()
        dispatcher.compile(signature)
        dispatcher.disable_compile()
        return cast(Kernel, dispatcher)

    def load() -> Kernel | None:
        return build() if on_disk and is_on_disk(dispatcher, signature) else None

    if early is None or parallel or not all(map(_is_ours, parts)):
        return build()
    return EarlyKernel(interpreted(kernel, signature), early, load, build)


def _is_ours(part: object) -> bool:
    """Tell whether a part is a constant or a function of this package, which Python runs alike."""
    module = str(getattr(part, "__module__", None))
    return not callable(part) or module.split(".")[0] == __name__.split(".")[0]


def name_by_content(
    kernel: Kernel, make: Make, parts: Parts, signature: NumbaType, target: object
) -> bool:
    """Put a digest of a kernel's sources into its name, under which Numba caches it on the disk.

    Numba stamps the file of the kernel only: so an edited rule is another kernel. It also gives
    every kernel an index of its own; processes that write different kernels to one index at the
    same time lose some of them.

    Return False for a kernel that must not be cached, because no digest covers its sources.
    """
    contents = digest(make, parts, str(signature), target)
    if contents is not None:
        kernel.__qualname__ = f"{kernel.__name__}-{contents}"
    return contents is not None


def what_numba_says(error: Exception) -> str:
    """Return the first lines of a message of Numba's, on one."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith("Failed in nopython mode")]
    return " ".join(said[:3])


@intrinsic(prefer_literal=True)
def _prefer_vectors(typing: NumbaType, bits: NumbaType) -> tuple[NumbaType, Kernel]:
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if bits.literal_value:
            # llvmlite knows no attributes with values, but prints what is in the set.
            attribute = f'"prefer-vector-width"="{bits.literal_value}"'
            set.add(builder.function.attributes, attribute)
        return context.get_dummy_value()

    return types.void(bits), code


def prefer_vectors(bits):  # type: ignore[no-untyped-def]
    """Set LLVM's vector width, in bits, for the calling function; 0 leaves it to LLVM."""


# A function is pickled by its name. An intrinsic is pickled with a number of its process: a kernel
# that closed over a function that names it never hit the disk cache.
@overload(prefer_vectors, inline="always", prefer_literal=True)
def _prefer(bits):  # type: ignore[no-untyped-def]
    return lambda bits: _prefer_vectors(bits)  # type: ignore[call-arg]


@intrinsic
def _prefetch(typing: NumbaType, array: NumbaType, i: NumbaType) -> tuple[NumbaType, Kernel]:
    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        view = context.make_array(array)(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), _POINTER)
        kind = ir.FunctionType(ir.VoidType(), [_POINTER, _INTEGER, _INTEGER, _INTEGER])
        function = builder.module.declare_intrinsic("llvm.prefetch", [_POINTER], kind)
        read, all_caches, data = (_INTEGER(value) for value in (0, 3, 1))
        builder.call(function, [address, read, all_caches, data])
        return context.get_dummy_value()

    return types.void(array, i), code


class _Prefetch:
    """Prefetch the cache line of ``array[i]``; in Python, do nothing.

    An object, as `inlinable` would have a function's Python body compiled.
    """

    def __call__(self, array: np.ndarray, i: int) -> None:
        pass


prefetch = _Prefetch()
overload(prefetch, inline="always")(
    lambda array, i: lambda array, i: _prefetch(array, i)  # type: ignore[call-arg]
)
