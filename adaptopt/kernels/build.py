"""Compile a kernel made from scalar functions, and cache it on disk under what it was made from."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.extending import intrinsic, overload, register_jitable
from numba.np.numpy_support import from_dtype

__all__ = [
    "array_type",
    "compile_kernel",
    "inlinable",
    "name_by_content",
    "number_type",
    "prefer_vectors",
    "prefetch",
    "tuple_of",
]


_INTEGER, _POINTER = ir.IntType(32), ir.IntType(8).as_pointer()


def number_type(form: str) -> Any:
    """Return Numba's type of a number as it lies in an array: 16-bit floats lie there as uint16."""
    return from_dtype(np.dtype("uint16" if form.endswith("float16") else form))


def array_type(form: str) -> Any:
    """Return Numba's type of a flat array of numbers."""
    return number_type(form)[::1]


def tuple_of(kind: Any, count: int) -> Any:
    """Return Numba's type of a tuple of ``count`` equal things."""
    return types.Tuple([kind] * count)  # type: ignore[no-untyped-call]


@cache
def inlinable(function: Callable[..., Any], always: bool = False) -> Callable[..., Any]:
    """Let kernels call a plain function, and the plain functions it calls.

    Not njit: a kernel that closes over a dispatcher never hits the disk cache, because a
    dispatcher pickles to other bytes in every process. With ``always``, LLVM inlines them whatever
    their size: a loop with a call in it takes no SIMD.
    """
    for _, value in _references(function):
        if isinstance(value, FunctionType):
            inlinable(value, always)
    register = register_jitable(forceinline=True) if always else register_jitable
    registered: Callable[..., Any] = register(function)
    return registered


def compile_kernel(
    make: Callable[..., Callable[..., Any]],
    parts: tuple[Any, ...],
    signature: Any,
    parallel: bool = False,
    counted: bool = True,
) -> Any:
    """Compile ``make(*parts)`` for one signature; a second process loads it from the disk cache.

    Parameters
    ----------
    make : callable
        Takes the parts, made callable from compiled code, and returns the plain kernel.
    parts : tuple of callable or int
        Plain scalar functions: rules, proximal maps; and constants.
    signature : numba signature
        The one signature: Python floats are cast to it, where a lazy kernel would compute in
        float64 and be four times slower.
    counted : bool
        Whether arrays' references are counted. In loops with branches Numba cannot remove that: an
        epoch over sparse rows was 1.2 to 4 times as fast without. Such a kernel makes no arrays.
    """
    parts = tuple(_plain(part) for part in parts)
    kernel = make(*[inlinable(part, True) if callable(part) else part for part in parts])
    name_by_content(kernel, make, parts, signature, parallel)
    # error_model="numpy": the default tests every division for zero, which prevents SIMD.
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "parallel": parallel}
    if not counted:
        options["_nrt"] = False
    try:
        return njit(signature, cache=True, **options)(kernel)
    except (RuntimeError, OSError):
        # Nowhere to write (a read-only install without a home), or the disk is full.
        return njit(signature, **options)(kernel)


def name_by_content(
    kernel: Any, make: Callable[..., Any], parts: tuple[Any, ...], signature: Any, target: Any
) -> None:
    """Put what a kernel was made from into its name, under which Numba caches it on the disk.

    Numba stamps the file of the kernel only: so an edited rule is another kernel. It also gives
    every kernel an index of its own; processes that write different kernels to one index at the
    same time lose some of them.
    """
    kernel.__qualname__ = f"{kernel.__name__}-{_digest(make, parts, signature, target)}"


def _digest(make: Callable[..., Any], parts: tuple[Any, ...], signature: Any, target: Any) -> str:
    """Return a name for a kernel: its functions' code and constants, its types, its target."""
    digest = hashlib.sha256(f"{signature} {target} {sys.version} {_builders()}".encode())
    for function in (make, *parts):
        for text in _identity(function, set()):
            digest.update(text.encode())
    return digest.hexdigest()[:16]


@cache
def _builders() -> str:
    """Return a digest of this package's own files: gather, scatter and the compile options."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _identity(function: FunctionType | Any, seen: set[int]) -> Iterator[str]:
    """Yield what a function computes: its code, and all that the code refers to by name."""
    if not isinstance(function, FunctionType):
        yield repr(function)
        return
    if id(function) in seen:
        return
    seen.add(id(function))
    yield from _code(function.__code__)
    for name, value in _references(function):
        if isinstance(value, FunctionType):
            yield name
            yield from _identity(value, seen)
        elif isinstance(value, bool | int | float | str | tuple | np.generic | np.ndarray):
            yield f"{name}={value!r}"


def _code(code: CodeType) -> Iterator[str]:
    """Yield a code object's instructions, names and constants, without its line numbers."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)


def _references(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield the globals and captured variables that a function's code names, by name."""
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield name, _plain(function.__globals__[name])
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, _plain(cell.cell_contents)


def _names(code: CodeType) -> list[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names.update(_names(constant))
    return sorted(names)


def _plain(value: Any) -> Any:
    """Return the Python function under a user's njit function, and anything else as it is."""
    return value.py_func if isinstance(value, Dispatcher) else value


@intrinsic(prefer_literal=True)
def _prefer_vectors(typing: Any, bits: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if bits.literal_value:
            # llvmlite knows no attributes with values, but prints what is in the set.
            attribute = f'"prefer-vector-width"="{bits.literal_value}"'
            set.add(builder.function.attributes, attribute)
        return context.get_dummy_value()

    return types.void(bits), code


def prefer_vectors(bits):  # type: ignore[no-untyped-def]
    """Have LLVM use vectors of so many bits in the calling function; 0 leaves it to LLVM."""


# A function is pickled by its name. An intrinsic is pickled with a number of its process: a kernel
# that closed over a function that names it never hit the disk cache.
@overload(prefer_vectors, inline="always", prefer_literal=True)
def _prefer(bits):  # type: ignore[no-untyped-def]
    return lambda bits: _prefer_vectors(bits)  # type: ignore[call-arg]


@intrinsic
def prefetch(typing: Any, array: Any, i: Any) -> Any:
    """Have the processor fetch the cache line of ``array[i]``, which is read soon."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(array)(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), _POINTER)
        kind = ir.FunctionType(ir.VoidType(), [_POINTER, _INTEGER, _INTEGER, _INTEGER])
        function = builder.module.declare_intrinsic("llvm.prefetch", [_POINTER], kind)
        read, all_caches, data = (_INTEGER(value) for value in (0, 3, 1))
        builder.call(function, [address, read, all_caches, data])
        return context.get_dummy_value()

    return types.void(array, i), code
