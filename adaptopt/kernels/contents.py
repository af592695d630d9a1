"""A digest of functions: their code, and everything that the code refers to.

Numba freezes the globals of a function when it compiles it. A later process may use a kernel on the
disk only if they are the same: constants, arrays, helper functions, attributes of modules, default
arguments. If something cannot be read in full, there is no digest, and each process compiles the
kernel.
"""

from __future__ import annotations

import dis
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

from .. import scalar

# Libraries whose modules, functions and types are identified by name and version.
_LIBRARIES = {"builtins", "cmath", "llvmlite", "math", "numba", "numpy", "operator", "_operator"}

# Numba's options that change the machine code, but that its own cache ignores.
_OPTIONS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "OPT", "SLP_VECTORIZE")


class _NotReadError(Exception):
    """A value cannot be read in full."""


def digest(*things: object) -> str | None:
    """Return a digest of functions and constants, or None if it would be incomplete."""
    reader = _Reader()
    try:
        for thing in things:
            reader.read(thing)
    except _NotReadError:
        return None
    return reader.sha.hexdigest()[:16]


def plain(value: object) -> Any:
    """Return the Python function under a user's njit function, and anything else as it is."""
    return value.py_func if isinstance(value, Dispatcher) else value


def references(function: Any) -> Iterator[tuple[str, object]]:
    """Yield the globals and captured variables that a function's code names, by name.

    Of a module, these are the attributes that it reads.
    """
    code = function.__code__
    named = [
        (name, function.__globals__[name])
        for name in sorted(_names(code))
        if name in function.__globals__
    ]
    captured = zip(code.co_freevars, function.__closure__ or (), strict=True)
    for name, value in [*named, *((name, cell.cell_contents) for name, cell in captured)]:
        if isinstance(value, ModuleType) and not _is_library(value.__name__):
            for path in sorted(set(_paths(code, name))):
                yield _resolved(value, name, path)
        else:
            yield name, value


def _is_library(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] in _LIBRARIES


def _is_own(module: object) -> bool:
    """Tell whether a module is one whose files all digests cover; see `_surroundings`."""
    return isinstance(module, str) and (
        module.startswith(f"{__package__}.") or module == scalar.__name__
    )


def _names(code: CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(inner) for inner in _inner(code)))


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _paths(code: CodeType, name: str) -> Iterator[tuple[str, ...]]:
    """Yield the attributes that code reads of a variable: ("sub", "X") for ``name.sub.X``."""
    path: list[str] | None = None
    for step in dis.get_instructions(code):
        if path is not None and step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path.append(step.argval)
        elif step.opname != "EXTENDED_ARG":
            if path is not None:
                yield tuple(path)
            loads = step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
            path = [] if loads and step.argval == name else None
    for inner in _inner(code):
        yield from _paths(inner, name)


def _resolved(value: object, name: str, path: tuple[str, ...]) -> tuple[str, object]:
    """Return the first that is no module along a path of attributes, and its name."""
    for attribute in path:
        if not isinstance(value, ModuleType) or _is_library(value.__name__):
            break
        value, name = getattr(value, attribute, None), f"{name}.{attribute}"
    return name, value


@cache
def _surroundings() -> bytes:
    """Return a digest of the common dependencies of all kernels.

    Versions and options, and this package's own files: gather, scatter and the compile options.
    """
    options = [(name, getattr(numba.config, name, None)) for name in _OPTIONS]
    sha = hashlib.sha256(f"{sys.version} {numba.__version__} {np.__version__} {options}".encode())
    here = Path(__file__).parent
    above = [here.parent / name for name in ("__init__.py", "scalar.py")]
    for path in [*above, *sorted(here.glob("*.py"))]:
        sha.update(path.read_bytes())
    return sha.digest()


class _Reader:
    """Reads functions and constants into a digest, each function once."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256(_surroundings())
        self._seen: dict[int, tuple[int, object]] = {}

    def _write(self, *items: object) -> None:
        self.sha.update(repr(items).encode())

    def read(self, value: Any) -> None:
        """Read all that a function or constant depends on."""
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes, type(...)):
            self._write(kind.__name__, value)
        elif isinstance(value, CodeType):
            self._read_code(value)
        elif isinstance(value, ModuleType) and _is_library(value.__name__):
            self._write("module", value.__name__)
        elif known := _known_name(value):
            self._write("known", known)
        elif isinstance(value, FunctionType):
            self._read_once(value, self._read_function)
        elif isinstance(value, Dispatcher):
            self._read_once(value, self._read_dispatcher)
        elif isinstance(value, tuple) and (kind is tuple or hasattr(kind, "_fields")):
            self._write("tuple", kind.__qualname__, getattr(kind, "_fields", ()), len(value))
            self._read_all(value)
        elif kind is frozenset or kind is set:
            self._write("set", sorted(map(repr, value)))
            self._read_all(sorted(value, key=repr))
        elif kind is dict:
            self._write("dict", len(value))
            self._read_all(value.items())
        elif isinstance(value, np.generic | np.ndarray):
            self._read_numbers(value)
        elif isinstance(value, np.dtype):
            self._write("dtype", value.str, value.descr)
        elif isinstance(value, Enum):
            self._write("member", value.name)
            self.read(kind)
        elif isinstance(value, type) and issubclass(value, Enum):
            self._write("enum", value.__qualname__, value.__mro__)
            self._read_all((member.name, member.value) for member in value)
        elif isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
            self._write("fields", value.__qualname__, value._fields)
            self.read(getattr(value, "_field_defaults", None))
        elif isinstance(value, types.Number | types.Boolean | types.NoneType):
            self._write("type", value.name)
        else:
            raise _NotReadError

    def _read_all(self, values: Iterable[object]) -> None:
        for value in values:
            self.read(value)

    def _read_once(self, value: object, read: Callable[[Any], None]) -> None:
        """Read something, or write which of those read before it is."""
        if id(value) in self._seen:
            self._write("again", self._seen[id(value)][0])
            return
        self._seen[id(value)] = len(self._seen), value
        read(value)

    def _read_function(self, function: FunctionType) -> None:
        if _is_overloaded(function):
            raise _NotReadError
        self._write("function")
        self._read_code(function.__code__)
        self.read(function.__defaults__)
        self.read(function.__kwdefaults__)
        for name, value in references(function):
            self._write(name)
            self.read(value)

    def _read_code(self, code: CodeType) -> None:
        """Read instructions, names and constants, but no line numbers."""
        self._write(
            *(code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars),
            *(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
            *(getattr(code, "co_exceptiontable", b""), len(code.co_consts)),
        )
        self._read_all(code.co_consts)

    def _read_dispatcher(self, function: Any) -> None:
        """Read an njit function: what it is compiled from, for which types, and how."""
        self._write("dispatcher", type(function).__qualname__)
        self.read(function.targetoptions)
        self.read(dict(function.locals))
        if not function._can_compile:
            self._write(list(map(str, function.nopython_signatures)))
        self.read(function.py_func)

    def _read_numbers(self, value: np.generic | np.ndarray) -> None:
        """Read a NumPy scalar or array in full."""
        if value.dtype.hasobject or not (
            isinstance(value, np.generic) or type(value) is np.ndarray
        ):
            raise _NotReadError
        flags = value.flags
        self._write("numbers", type(value).__name__, value.shape, flags.c_contiguous)
        self._write(flags.f_contiguous, flags.aligned)
        self.read(value.dtype)
        self.sha.update(value.tobytes())


def _known_name(value: object) -> str | None:
    """Return the name of what a library or this package holds, and no function of the latter."""
    module: Any = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if isinstance(value, np.ufunc):
        module, name = "numpy", value.__name__
    if isinstance(value, BuiltinFunctionType) and module is None:
        return None
    if _is_library(module) and isinstance(name, str):
        held: Any = sys.modules.get(module)
        for part in name.split("."):
            held = getattr(held, part, None)
        return f"{module}.{name}" if held is value else None
    if isinstance(value, FunctionType):
        return None
    # Its instructions and intrinsics, whose files are a part of every digest.
    if _is_own(type(value).__module__) or _is_own(module):
        return f"{type(value).__qualname__} {module}.{name}"
    return None


def _is_overloaded(function: FunctionType) -> bool:
    """Return whether Numba compiles other code in place of a user's function."""
    if _is_own(function.__module__):
        return False
    cpu_target.typing_context.refresh()
    kind = cpu_target.typing_context._lookup_global(function)
    return any(
        getattr(template, "_overload_func", None) is None
        or template._overload_func.__qualname__ != "register_jitable.<locals>.wrap.<locals>.ov_wrap"
        for template in getattr(kind, "templates", ())
    )
