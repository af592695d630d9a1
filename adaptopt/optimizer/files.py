"""State in the files of a folder, for parameters that lie in files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from os import PathLike
from pathlib import Path
from urllib.parse import quote

import numpy as np

from ..arrays import Array, DType
from . import state as snapshot
from .state import Entry


def in_file(array: np.ndarray) -> bool:
    """Return whether an array lies in a file."""
    return isinstance(array, np.memmap)


def is_kept(array: np.ndarray) -> bool:
    """Return whether writes to an array reach its file: not in mode "c", and not for a copy."""
    return isinstance(array, np.memmap) and array.mode in ("r+", "w+")


_EXISTS = (
    "state_dir has {} already, expected a folder without it: it may be the state of another run "
    "(resume=True goes on from it)"
)


class StateFiles:
    """The files of a folder that hold the state of parameters in files.

    Used as a context, it removes the files that it has made if an exception occurs.

    Parameters
    ----------
    folder : path-like
        The folder.
    resumes : bool
        Whether to continue from existing files. Otherwise new files full of zeros are made.
    names : collection of str
        The names of the parameters.
    """

    def __init__(self, folder: str | PathLike[str], resumes: bool, names: Collection[str]) -> None:
        self.folder, self.resumes, self.names = Path(folder), resumes, names
        self._made: list[Path] = []
        self._is_sealed = False  # whether `rest` agrees with the files

    @property
    def rest(self) -> Path:
        """The file of everything that does not lie in separate files."""
        return self.folder / "optimizer.npz"

    def __enter__(self) -> StateFiles:
        if not self.resumes and self.rest.exists():
            raise FileExistsError(_EXISTS.format(self.rest.name))
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None:
            for path in self._made:
                with contextlib.suppress(OSError):
                    path.unlink()
        self._made = []

    def _path(self, parameter: str, name: str) -> Path:
        return self.folder / f"{quote(parameter, safe='') or 'params'}.{name}.npy"

    def waiting(self, parameter: str, rows: int) -> np.ndarray:
        """Return the last step applied to each row of a parameter."""
        return _opened(self._path(parameter, "last"), rows, np.dtype(np.int64))

    def allocator(self, parameter: str) -> Callable[..., Array]:
        """Return a function that makes or opens the arrays of a parameter."""

        def allocate(name: str, n: int, dtype: DType) -> np.ndarray:
            path, dtype = self._path(parameter, name), np.dtype(dtype)
            # "last" exists from the first step on rows on.
            if self.resumes and (name != "last" or path.exists()):
                return _opened(path, n, dtype)
            if path.exists():
                raise FileExistsError(_EXISTS.format(path.name))
            self._made.append(path)
            return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(n,))

        return allocate

    # -- the rest, which does not lie in separate files --------------------------------------------

    def seal(self, numbers: Mapping[str, object], entries: Mapping[str, Entry]) -> None:
        """Flush the files to the disk, and write the rest next to them."""
        for name in self.names:
            entry = entries[name]
            for array in (entry["params"], *entry["state"].values(), *entry["hidden"].values()):
                _bring_to_disk(array)
        taken = snapshot.view(numbers, entries)
        snapshot.save_beside(self.rest, taken, sorted(self.names))
        self._is_sealed = True

    def mark_sealed(self) -> None:
        """Note that the rest agrees with the files, from which the run continues."""
        self._is_sealed = True

    def unseal(self) -> None:
        """Remove the rest, because the files are about to change."""
        if self._is_sealed:
            self.rest.unlink(missing_ok=True)
            self._is_sealed = False


def _bring_to_disk(array: object) -> None:
    """Flush the array in a file to the disk."""
    while array is not None and not hasattr(array, "flush"):
        array = getattr(array, "base", None)
    if array is not None:
        array.flush()


def _opened(path: Path, n: int, dtype: DType) -> np.ndarray:
    """Return an array in an existing file, after checking its dtype and shape."""
    try:
        array = np.lib.format.open_memmap(path, mode="r+")
    except FileNotFoundError:
        raise FileNotFoundError(
            f"state_dir has no {path.name}, expected the state from which to go on"
        ) from None
    except ValueError as error:
        raise ValueError(f"state_dir has a {path.name} that is no array: {error}") from None
    if array.dtype != dtype or array.shape != (n,):
        raise ValueError(
            f"state_dir has {path.name} of {array.dtype} and shape {array.shape}, expected "
            f"{dtype} and {(n,)}: it is the state of other parameters"
        )
    return array
