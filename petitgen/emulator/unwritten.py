"""Which bytes of device memory hold nothing yet: allocated without contents and written by nobody since.

Without a sanitizer this is a short list of ranges, which the host's writes shrink. `bytes()` turns it into one
byte for each byte of the arena, which the sanitizer then keeps up to date for what kernels write.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_NORESERVE = 0x4000  # Linux MAP_NORESERVE; named in Python's mmap only from 3.12 on
UNWRITTEN = 255


def zeros(count: int, dtype: DTypeLike) -> NDArray[Any]:
    """`count` zeros that cost memory only where they are written."""
    size = max(count, 1) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype)[:count]


class Unwritten:
    """The bytes of an arena of `capacity` bytes that were never written. Ranges are offsets [start, end)."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ranges: list[tuple[int, int]] = []
        self._bytes: NDArray[np.uint8] | None = None

    def allocated(self, start: int, end: int, *, filled: bool) -> None:
        """An allocation was made, with or without contents."""
        self.written(start, end)
        if filled or start == end:
            return
        if self._bytes is None:
            self._ranges.append((start, end))
        else:
            self._bytes[start:end] = UNWRITTEN

    def written(self, start: int, end: int) -> None:
        """The host wrote these bytes."""
        if self._bytes is not None:
            self._bytes[start:end] = 0
        elif self._ranges:
            pieces = [p for a, b in self._ranges for p in ((a, min(b, start)), (max(a, end), b))]
            self._ranges = [(a, b) for a, b in pieces if a < b]

    def assume_written(self) -> None:
        """A kernel ran unwatched: nothing is known to be unwritten any more."""
        self._ranges, self._bytes = [], None

    def bytes(self) -> NDArray[np.uint8] | None:
        """UNWRITTEN for every byte that is, else 0; None while there is none.

        The caller clears what kernels write.
        """
        if self._bytes is None and self._ranges:
            self._bytes = zeros(self._capacity, np.uint8)
            for start, end in self._ranges:
                self._bytes[start:end] = UNWRITTEN
            self._ranges = []
        return self._bytes
