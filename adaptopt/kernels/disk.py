"""Kernels on the disk: in Numba's files, with checksums, and never the end of a run.

Numba trusts its files: an empty or truncated one raised a bare EOFError in every later process, and
machine code with a changed byte would run. Here a damaged file is taken for a missing one: the
kernel is compiled, and the file replaced. Where nothing can be written, the kernel stays in memory.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile, NullCache
from numba.core.serialize import dumps

from .early import NumbaFunction, NumbaType

# mypy: disable-error-code="no-untyped-call"


_said = False


def say_why_it_takes_long() -> None:
    """Print one line to a terminal, and nothing elsewhere, before the first compilation."""
    global _said
    if not _said and sys.stderr is not None and sys.stderr.isatty():
        _said = True
        print(
            "adaptopt: compiling for this processor, for some seconds; later processes load the "
            "result. `python -m adaptopt warm` compiles common kernels ahead.",
            file=sys.stderr,
            flush=True,
        )


def enable_cache(dispatcher: NumbaFunction) -> bool:
    """Cache what a dispatcher is going to compile, if there is a folder to write to."""
    try:
        dispatcher.enable_caching()
    except (RuntimeError, OSError):
        return False  # a read-only install without a home
    dispatcher._cache = _Cache(dispatcher._cache)
    return True


def is_on_disk(dispatcher: NumbaFunction, signature: NumbaType) -> bool:
    """Tell whether a kernel that `enable_cache` has been called for seems to be on the disk."""
    return bool(dispatcher._cache.holds(signature, dispatcher.targetctx))


class _Cache(NullCache):
    """A cache of Numba's that finds nothing, or keeps nothing, where it fails."""

    def __init__(self, cache: Any) -> None:
        files = cache._cache_file
        files.__class__ = _Files
        # Numba's key has the pickled closure in it, whose bytes depend on whether Python read the
        # module from its source or from bytecode: the second process compiled once more. The name
        # of the file stands for all that a kernel is made of.
        cache._index_key = lambda signature, codegen: (signature, codegen.magic_tuple())
        self._cache = cache

    @property
    def cache_path(self) -> object:
        """The folder of the files, which Numba's statistics show."""
        return self._cache.cache_path

    def holds(self, sig: NumbaType, target_context: Any) -> bool:
        """Tell whether the index names a file."""
        key = self._cache._index_key(sig, target_context.codegen())
        return key in self._cache._cache_file._load_index()

    def load_overload(self, sig: NumbaType, target_context: Any) -> object:
        found = None
        with suppress(Exception):  # what pickles and LLVM raise of damaged files is anything
            found = self._cache.load_overload(sig, target_context)
        if found is None:
            say_why_it_takes_long()
        return found

    def save_overload(self, sig: NumbaType, data: object) -> None:
        library = getattr(data, "library", None)
        if getattr(library, "has_dynamic_globals", False):
            return  # large arrays among the globals, of which Numba warns
        with suppress(Exception):  # a full disk, or a folder that is gone; the kernel is compiled
            self._cache.save_overload(sig, data)


class _Files(IndexDataCacheFile):
    """The files of a kernel; each begins with a checksum of its name and the rest."""

    def _load_index(self) -> Any:
        try:
            return self._read(self._index_path)
        except Exception:
            return {}

    def _save_index(self, overloads: object) -> None:
        self._write(self._index_path, overloads)

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: object) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        content = Path(path).read_bytes()
        if content[:32] != _checksum(path, content[32:]):
            raise OSError(f"{path} is damaged")
        return pickle.loads(content[32:])

    def _write(self, path: str, data: object) -> None:
        content = dumps(data)
        with self._open_for_write(path) as file:
            file.write(_checksum(path, content) + content)


def _checksum(path: str, content: bytes) -> bytes:
    return hashlib.sha256(Path(path).name.encode() + content).digest()
