"""Checkpoint files: .npz archives without pickle, replaced atomically, and checked when read."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import secrets
import stat
import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from ..arrays import DType

_Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

# A nesting of dicts, lists, str, int, float, bool and None.
Header: TypeAlias = "dict[str, Any]"

_FORMAT = "adaptopt"
_VERSION = 1
_HEADER = "adaptopt.npy"  # the first entry; the arrays are 0.npy, 1.npy, ...
_CHUNK = 1 << 20  # bytes
_HEAD = 1 << 16  # bytes, including the header of an array
_NEW_MODE = 0o666  # without the umask, which the system removes
_ZIP = b"PK\3\4"  # the start of a zip file
_END = b"PK\5\6"  # and its last 22 bytes, of which the last two are the length of a comment
_NATIVE: Any = ["readonly", "contig", "nbo"]  # Any: NumPy's stubs do not know "contig"

# True dtype -> the dtype in the file, which NumPy alone can read. None needs pickle.
_STORED = {
    name: name
    for name in (
        "bool",
        *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
} | {"bfloat16": "uint16"}


class CheckpointError(ValueError):
    """A damaged file, or one that is not a checkpoint of the required kind."""


# -- writing ---------------------------------------------------------------------------------------


def write(path: _Path, kind: str, header: Header, arrays: dict[str, np.ndarray]) -> None:
    """Write a checkpoint. Afterwards ``path`` is the complete new file, or still the old one.

    Parameters
    ----------
    path : str or path-like
        The path, to which no ``.npz`` is appended. If it is a symbolic link, its target is
        replaced. The new file has the permissions of the old one.
    kind : str
        The kind of contents, such as ``"optimizer"``. `read` requires the same.
    header : dict of str to object
        A JSON object. Tuples are read back as lists.
    arrays : dict of str to ndarray
        Booleans, integers, real and complex numbers, including bfloat16 (from ``ml_dtypes``), of
        any shape and strides. They are read back C-contiguous, in native byte order.

    Raises
    ------
    TypeError
        If ``header`` or ``arrays`` holds something else. Nothing is written then.
    OSError
        If the system cannot write. The old file is unchanged then.
    """
    _check("kind", kind, str)
    _check("header", header, dict)
    _check_header("header", header)
    stored = {name: _stored(name, array) for name, array in arrays.items()}
    contents = {
        "format": _FORMAT,
        "version": _VERSION,
        "kind": kind,
        "header": header,
        "arrays": [
            {"name": name, "entry": f"{i}.npy", "dtype": array.dtype.name, "shape": array.shape}
            for i, (name, array) in enumerate(arrays.items())
        ],
    }
    text = np.frombuffer(json.dumps(contents).encode("ascii"), np.uint8)
    target = os.path.realpath(os.fsdecode(path))
    old_mode = _mode(target)
    mode = _NEW_MODE if old_mode is None else old_mode
    temporary = os.path.join(os.path.dirname(target), f".adaptopt-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            if old_mode is not None:
                os.chmod(temporary, old_mode)  # sets the bits that the umask removed
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                _write_entry(archive, _HEADER, text)
                for i, array in enumerate(stored.values()):
                    _write_entry(archive, f"{i}.npy", array)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary and error.filename2 is None:
            error.filename = target  # the caller's name of the file
        raise
    _sync_folder(os.path.dirname(target))


def _mode(target: str) -> int | None:
    """Return the permissions of an existing file, after checking that it may be replaced."""
    try:
        # The system would replace a read-only file in a writable folder, so check the file first.
        with open(target, "r+b") as file:
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):  # replacing /dev/null would remove the device
        raise OSError(errno.EINVAL, "Not a regular file", target)
    return stat.S_IMODE(mode)


def _sync_folder(folder: str) -> None:
    """Flush the new name to the disk, if the system can sync a folder."""
    if os.name == "nt":
        return
    # Some network file systems cannot; the new file is whole and in its place all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} is {value!r}, expected a {expected.__name__}")


def _check_header(name: str, value: object) -> None:
    """Raise an error for values that JSON would change or cannot hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check(f"a key of {name}", key, str)
            _check_header(f"{name}[{key!r}]", item)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_header(f"{name}[{i}]", item)
    elif not (value is None or isinstance(value, str | int | float)):
        raise TypeError(
            f"{name} is {value!r}, expected a dict, list, str, int, float, bool or None"
        )


def _stored(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array in its dtype in the file, without a copy."""
    _check("the name of an array in arrays", name, str)
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"arrays[{name!r}] is a {type(array).__name__}, expected a NumPy array")
    if array.dtype.name not in _STORED:
        raise TypeError(
            f"arrays[{name!r}] has dtype {array.dtype}, expected one of {', '.join(_STORED)}"
        )
    if array.dtype.name == "bfloat16":
        return array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))
    return array


def _write_entry(archive: zipfile.ZipFile, entry: str, array: np.ndarray) -> None:
    native = array.dtype.newbyteorder("=")
    description = {"descr": native.str, "fortran_order": False, "shape": array.shape}
    # A ZipInfo of its own has no time of day: the same contents make the same file.
    with archive.open(zipfile.ZipInfo(entry), "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, description)
        chunks: Iterable[Any] = np.nditer(
            array,
            flags=["external_loop", "buffered", "zerosize_ok"],
            op_flags=_NATIVE,
            order="C",
            casting="equiv",
            buffersize=_CHUNK // array.itemsize,
        )
        for chunk in chunks:
            # A copy: another thread may change the array between the checksum and the write.
            file.write(chunk.tobytes())


# -- reading ---------------------------------------------------------------------------------------


def read(path: _Path, kind: str) -> tuple[Header, dict[str, np.ndarray]]:
    """Return the checked header and arrays of a checkpoint written by `write`.

    The arrays are new, writable, C-contiguous and in native byte order. ``kind`` is the required
    kind of contents.

    Raises
    ------
    CheckpointError
        A ValueError: if the file is damaged, is no checkpoint, holds another kind, or has a newer
        format.
    ImportError
        If it holds bfloat16 arrays and ``ml_dtypes`` is not installed.
    OSError
        If the system cannot read it, such as FileNotFoundError.
    """
    with opened(path, kind) as (header, arrays):
        return header, {name: array.read() for name, array in arrays.items()}


@contextlib.contextmanager
def opened(path: _Path, kind: str) -> Iterator[tuple[Header, dict[str, Stored]]]:
    """Open a checkpoint like `read`, without reading its arrays yet."""
    shown = os.fsdecode(path)
    with open(path, "rb") as file:
        with _telling_damage(shown):
            found = _read(file, shown, kind)
        yield found


class Stored:
    """An array in an open checkpoint.

    Attributes
    ----------
    shape, dtype
        Those of the array, after `check`.
    """

    shape: tuple[int, ...]
    dtype: DType

    def __init__(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, item: Header, path: str
    ) -> None:
        self._archive, self._info, self._item, self._path = archive, info, item, path

    def read(self) -> np.ndarray:
        """Return the checked array."""
        with _telling_damage(self._path):
            buffer = np.empty(self._info.file_size, np.uint8)
            done = 0
            for chunk in self._chunks():
                buffer[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
            start, shape, dtype = _read_head(buffer[:_HEAD].tobytes(), self._info.filename)
            # NumPy pads headers to 64 bytes, so the array after one is aligned.
            array = buffer[start:].view(dtype).reshape(shape)
            true = _true_dtype(dtype, shape, self._item, self._path)
            return array.astype(dtype.newbyteorder("="), copy=False).view(true)

    def data(self) -> bytes:
        """Return the data of an entry of bytes."""
        data = b"".join(self._chunks())
        start, _, dtype = _read_head(data[:_HEAD], self._info.filename)
        return data[start:] if dtype == np.uint8 else b""

    def check(self) -> None:
        """Check the checksum, and that the array has the dtype and shape of the header."""
        with _telling_damage(self._path):
            head = b""
            for chunk in self._chunks():
                head = head or chunk[:_HEAD]
            self._start, self.shape, self._form = _read_head(head, self._info.filename)
            self.dtype = _true_dtype(self._form, self.shape, self._item, self._path)
            size = math.prod(self.shape) * self.dtype.itemsize
            if self._start + size != self._info.file_size:
                raise _damaged(
                    self._path, f"{self._info.filename} is longer or shorter than it says"
                )

    def into(self, out: np.ndarray) -> None:
        """Copy the checked array into a C-contiguous array of its shape and dtype."""
        flat = out.reshape(-1).view(np.uint8)
        skip, done = self._start, 0
        with _telling_damage(self._path):
            for chunk in self._chunks():
                data = np.frombuffer(chunk, np.uint8)[skip:]
                skip = max(skip - len(chunk), 0)
                flat[done : done + data.size] = data
                done += data.size
        if not self._form.isnative:
            out.reshape(-1).view(self._form.newbyteorder("=")).byteswap(inplace=True)

    def _chunks(self) -> Iterator[bytes]:
        """Yield all bytes of the entry. The checksum is tested at the end."""
        done = 0
        with self._archive.open(self._info) as entry:
            while chunk := entry.read(_CHUNK):
                done += len(chunk)
                yield chunk
        if done < self._info.file_size:
            raise EOFError(f"{self._info.filename} has {done} bytes of {self._info.file_size}")


@contextlib.contextmanager
def _telling_damage(shown: str) -> Iterator[None]:
    """Turn the exceptions for a malformed file into a CheckpointError."""
    try:
        yield
    except (CheckpointError, ImportError, MemoryError):
        raise
    # zipfile, NumPy and json have a dozen exceptions for a file that is not well formed.
    except Exception as error:
        # EINVAL: a seek to before the start, caused by damaged offsets.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(shown, str(error) or type(error).__name__) from error


def _damaged(path: str, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({why}): expected a complete checkpoint")


def _foreign(path: str, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is not an adaptopt checkpoint: {why}")


def _read(file: BinaryIO, path: str, kind: str) -> tuple[Header, dict[str, Stored]]:
    """Read the header and the entries of an open file."""
    size = _check_ends(file, path)
    archive = zipfile.ZipFile(file)
    infos = {info.filename: info for info in archive.infolist()}
    for info in infos.values():
        # Together they also prevent that a damaged size allocates more memory than the file has.
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size
            or not 0 <= info.header_offset <= size - info.file_size
        ):
            raise _damaged(path, f"{info.filename!r} is not stored as it should be")
    # Entries may lie upon each other in a forged file.
    if len(infos) < len(archive.infolist()) or sum(i.file_size for i in infos.values()) > size:
        raise _damaged(path, "its entries overlap")
    if _HEADER not in infos or infos[_HEADER].header_offset != 0:
        raise _damaged(path, f"its directory does not say that it starts with {_HEADER}")
    contents = _contents(Stored(archive, infos[_HEADER], {}, path), path, kind, size)
    table = contents["arrays"]
    if not (isinstance(table, list) and all(map(_describes_an_array, table))):
        raise _damaged(path, "its header does not say what its arrays are")
    expected = [_HEADER, *(item["entry"] for item in table)]
    names = [info.filename for info in archive.infolist()]
    if sorted(names) != sorted(expected):
        raise _damaged(path, f"it has the entries {names}, its header says {expected}")
    if len({item["name"] for item in table}) < len(table):
        raise _damaged(path, "two of its arrays have the same name")
    if not isinstance(contents["header"], dict):
        raise _damaged(path, "its header is no dict")
    return contents["header"], {
        item["name"]: Stored(archive, infos[item["entry"]], item, path) for item in table
    }


def _check_ends(file: BinaryIO, path: str) -> int:
    """Check both ends of the file, where zipfile is lenient, and return its size."""
    start = file.read(30 + len(_HEADER))
    if not start:
        raise _foreign(path, "it is empty")
    if not start.startswith(_ZIP):
        raise _foreign(path, f"it starts with {start[:4]!r}, expected {_ZIP!r}")
    if start[30:] != _HEADER.encode():
        raise _foreign(path, f"it does not start with an entry {_HEADER}")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 22, 0))
    end = file.read()
    if not (end.startswith(_END) and len(end) == 22 and end.endswith(b"\0\0")):
        raise _damaged(path, "it is cut off, or other bytes follow it")
    return size


def _contents(header: Stored, path: str, kind: str, size: int) -> Header:
    """Read the entry that describes the others, in a file of ``size`` bytes."""
    text = header.data()
    # A header takes about 64 bytes of memory per item. More than some MB must be forged.
    items = sum(map(text.count, (b",", b"[", b"{")))
    if 64 * items > (1 << 24) + size or len(text) > (1 << 20) + size // 2:
        raise _damaged(path, f"{_HEADER} is too long for a file of {size} bytes")
    try:
        contents = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        contents = None
    if not isinstance(contents, dict) or contents.get("format") != _FORMAT:
        raise _foreign(path, f"its entry {_HEADER} is of another format")
    if not contents.keys() >= {"version", "kind", "header", "arrays"}:
        raise _damaged(path, f"its entry {_HEADER} holds {sorted(contents)}")
    version = contents["version"]
    if version != _VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, expected {_VERSION}: "
            "it was written by a newer adaptopt"
        )
    if contents["kind"] != kind:
        raise CheckpointError(
            f"{path} holds {_article(contents['kind'])}, expected {_article(kind)}"
        )
    return contents


def _describes_an_array(item: object) -> bool:
    return (
        isinstance(item, dict)
        and all(isinstance(item.get(key), str) for key in ("name", "entry", "dtype"))
        and isinstance(item.get("shape"), list)
    )


def _article(kind: object) -> str:
    article = "an" if isinstance(kind, str) and kind[:1] in "aeiou" else "a"
    return f"{article} {kind}" if isinstance(kind, str) else repr(kind)


def _true_dtype(dtype: DType, shape: tuple[int, ...], item: Header, path: str) -> DType:
    """Return the true dtype of an array in the file, if it agrees with the header."""
    name, said = item["dtype"], tuple(item["shape"])
    native: DType = dtype.newbyteorder("=")
    stored = _STORED.get(name, name)
    if native.name != stored or shape != said:
        raise _damaged(
            path,
            f"array {item['name']!r} is {native.name} of shape {shape}, "
            f"its header says {stored} of shape {said}",
        )
    if name != "bfloat16":
        return native
    try:
        import ml_dtypes
    except ImportError as error:
        raise ImportError(
            f"{path} holds bfloat16 arrays, expected the package ml_dtypes to read them"
        ) from error
    true: DType = np.dtype(ml_dtypes.bfloat16)
    return true


def _read_head(data: bytes, name: str) -> tuple[int, tuple[int, ...], DType]:
    """Return the offset of an entry's data, and their shape and dtype."""
    head = io.BytesIO(data)
    if np.lib.format.read_magic(head) != (1, 0):
        raise ValueError(f"{name} has another .npy version than 1.0")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(head)
    if fortran_order or dtype.hasobject:
        raise ValueError(f"{name} is in Fortran order or of Python objects")
    return head.tell(), shape, dtype
