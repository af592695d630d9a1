"""Compiled functions as arguments of kernels: handed over as their addresses.

Numba passes a function as the function. It then looks up its address in every call, in Python and
under a lock of llvmlite: an interrupt there left the lock taken, so that other threads waited for
ever, or arrived as a TypeError. Here the address is looked up once, and a call runs no Python.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from numba import types
from numba.core import cgutils
from numba.core.typeconv.castgraph import Conversion
from numba.experimental.function_type import FunctionModel
from numba.extending import NativeValue, register_model, unbox

from .compile import (
    NumbaFunction,
    NumbaType,
)

# mypy: disable-error-code="no-untyped-call, untyped-decorator"


class Pointer(types.FunctionType):
    """Numba's type of a compiled function that arrives as what `address` returns."""

    def can_convert_from(self, typingctx: object, other: NumbaType) -> Conversion | None:
        """Let a dispatcher hand an int to a kernel."""
        return Conversion.unsafe if isinstance(other, types.Integer) else None


register_model(Pointer)(FunctionModel)


@unbox(Pointer)
def _unbox(kind: NumbaType, number: NumbaType, c: Any) -> NativeValue:
    function = cgutils.create_struct_proxy(kind)(c.context, c.builder)
    function.jit_addr = c.pyapi.long_as_voidptr(number)
    function.c_addr = function.py_addr = c.context.get_constant_null(types.voidptr)
    return NativeValue(function._getvalue())


# By the code that holds a function: to ask for an address takes 30 us.
_addresses: WeakKeyDictionary[Any, dict[str, int]] = WeakKeyDictionary()


def address(function: NumbaFunction, signature: NumbaType) -> int:
    """Return the address of an njit function, compiled for a signature; it has to be kept alive."""
    compiled = function.overloads.get(signature.args) or function.get_compile_result(signature)
    known = _addresses.setdefault(compiled.library, {})
    name = compiled.fndesc.llvm_func_name
    if name not in known:
        known[name] = compiled.library.get_pointer_to_function(name)
    return known[name]
