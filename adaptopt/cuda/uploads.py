"""Copies of host arrays to a CUDA device, without waiting. Imported only if needed."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, DType, Stream
from .launch import cuda, device_of

# Largest number of copies in progress. If the device is further behind, the host waits, because it
# would overwrite data that are still being read. The device is then the slower of the two.
UNDER_WAY = 4


def _default_stream() -> Stream:
    """Return the default stream as an object, because Numba waits for copies on stream 0."""
    return cuda.default_stream() if hasattr(cuda, "default_stream") else 0  # the simulator's is 0


class _Slot:
    """Pinned memory for one copy. From other memory, the driver may wait before it copies."""

    def __init__(self) -> None:
        self._bytes = np.zeros(0, np.uint8)
        self._done = cuda.event()
        self._is_read = False

    def array(self, n: int, dtype: DType) -> np.ndarray:
        """Return a buffer for ``size`` numbers, after the previous copy has been read."""
        if self._is_read:
            self._done.synchronize()
            self._is_read = False
        if self._bytes.size < n * dtype.itemsize:
            self._bytes = cuda.pinned_array(n * dtype.itemsize, np.uint8)
        return self._bytes[: n * dtype.itemsize].view(dtype)

    def copy(self, array: np.ndarray, target: Array, stream: Stream) -> None:
        """Start to copy the contents of the buffer."""
        stream = stream or _default_stream()
        target.copy_to_device(array, stream=stream)
        self._done.record(stream)
        self._is_read = True


class _Sender:
    """Copies on the device of an array, from slots in turn."""

    def __init__(self, near: Array) -> None:
        self._near = near
        self._slots = [_Slot() for _ in range(UNDER_WAY)]

    def _send(self, pieces: list[tuple[int, np.ndarray]], target: Array, stream: Stream) -> None:
        """Copy host arrays to their starts in ``target``, in one copy."""
        slot = self._slots.pop(0)
        self._slots.append(slot)
        array = slot.array(target.size, target.dtype)
        for start, piece in pieces:
            array[start : start + piece.size] = piece
        slot.copy(array, target, stream)


class Upload(_Sender):
    """Copies a few integer arrays to the device of another array, always into the same memory.

    The stream orders a copy after earlier work that reads this memory.
    """

    def __init__(self, near: Array) -> None:
        with device_of(near):
            super().__init__(near)
            self._nothing = cuda.device_array(0, np.int64)
        self._room, self._buffer, self._views = -1, self._nothing, (self._nothing,) * 3

    def __call__(self, pieces: tuple[np.ndarray, ...], stream: Stream) -> tuple[Array, ...]:
        """Return device arrays that start with the numbers of the pieces, at most three."""
        longest = max(piece.size for piece in pieces)
        if not longest:
            return (self._nothing,) * len(pieces)
        with device_of(self._near):
            if longest > self._room:
                room = self._room = 1 << (longest - 1).bit_length()
                buffer = self._buffer = cuda.device_array(3 * room, np.int64)
                self._views = tuple(buffer[k * room : (k + 1) * room] for k in range(3))
            starts = [k * self._room for k in range(len(pieces))]
            self._send(list(zip(starts, pieces, strict=True)), self._buffer, stream)
        return tuple(
            view if piece.size else self._nothing
            for view, piece in zip(self._views, pieces, strict=False)
        )


class Mirror(_Sender):
    """A device copy of a growing host array: only new numbers are sent."""

    def __init__(self, near: Array) -> None:
        with device_of(near):
            super().__init__(near)
            self._there = cuda.device_array(0, np.float64)
        self._of: Array = None
        self._known = 0

    def __call__(self, array: np.ndarray, known: int, stream: Stream) -> Array:
        """Return the copy, whose first ``known`` numbers are those of the array."""
        with device_of(self._near):
            if self._there.size != array.size:
                self._there = cuda.device_array(array.size, np.float64)
            if self._of is not array:
                self._of, self._known = array, 0
            if known > self._known:
                new = array[self._known : known]
                self._send([(0, new)], self._there[self._known : known], stream)
                self._known = known
        return self._there
