"""Device memory: one flat arena of bytes, with unmapped gaps between the allocations.

Addresses are 48-bit device addresses. An access that is not inside one allocation is an EmulationError, so a
kernel that runs off its buffer is found even when no descriptor guards it.
"""

from __future__ import annotations

import bisect
import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from petitgen.emulator.unwritten import Unwritten
from petitgen.errors import EmulationError

# Device address of the arena's first byte. Programs and libraries are never mapped here, so a process can have the
# arena at this very address (the virtual GPU does).
BASE = 0x2000_0000_0000
ALIGNMENT = 256  # what hipMalloc promises
GAP = 4096  # unmapped bytes after every allocation
_NORESERVE = 0x4000  # Linux MAP_NORESERVE; named in Python's mmap only from 3.12 on
_CAPACITIES = tuple(1 << n for n in (36, 34, 32, 31, 30))


def _reserve() -> mmap.mmap:
    """Address space for the arena; pages cost memory only once touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
    for capacity in _CAPACITIES:
        try:
            return mmap.mmap(-1, capacity, flags=flags)
        except (OSError, ValueError):
            continue
    raise EmulationError(
        f"cannot reserve {_CAPACITIES[-1] >> 20} MiB of address space for device memory; raise `ulimit -v`"
    )


class DeviceMemory:
    """The memory of one emulated device.

    `u8`, `u16`, `u32`, `u64` are views of the whole arena: index = (address - BASE) // itemsize.
    """

    def __init__(self, arena: mmap.mmap | None = None, window: tuple[int, int] | None = None) -> None:
        """`arena` is memory from elsewhere, of which allocate() uses only the offsets `window` (start, end)."""
        self._map = _reserve() if arena is None else arena
        self.u8: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)
        self.u16 = self.u8.view(np.uint16)
        self.u32 = self.u8.view(np.uint32)
        self.u64 = self.u8.view(np.uint64)
        start, self._limit = window or (0, self.u8.size)
        self._top = max(start, ALIGNMENT)  # offset of the first byte never handed out
        self._adopted_end = 0  # offset after the last byte that adopt() ever named
        self._starts: list[int] = []  # sorted offsets of the live allocations
        self._sizes: dict[int, int] = {}
        self._free: list[tuple[int, int]] = []  # sorted (offset, bytes) of holes below _top
        self._ends_array: NDArray[np.int64] | None = None
        self._starts_array: NDArray[np.int64] = np.empty(0, np.int64)
        self.unwritten = Unwritten(self.u8.size)
        self._last = (0, 0)  # start and end of the allocation found last: most accesses stay in it

    def allocate(self, source: NDArray[Any] | bytes | bytearray | int) -> int:
        """Allocate and, given an array or bytes, fill. Returns the device address, a multiple of 256.

        `source` as an int is a size in bytes; the contents are then unspecified, as hipMalloc's are.
        EmulationError when the device memory is exhausted.
        """
        data = None if isinstance(source, (int, np.integer)) else _bytes_of(source)
        size = int(source) if data is None else data.size
        if size < 0:
            raise EmulationError(f"allocate: {size} bytes; the size must not be negative")
        offset = self._place(-(-(size + GAP) // ALIGNMENT) * ALIGNMENT)
        bisect.insort(self._starts, offset)
        self._sizes[offset] = size
        self._changed()
        self.unwritten.allocated(offset, offset + size, filled=data is not None)
        if data is not None:
            self.u8[offset : offset + size] = data
        return BASE + offset

    def free(self, address: int) -> None:
        """Give an allocation back. EmulationError if `address` is not what allocate() returned."""
        offset = address - BASE
        if offset not in self._sizes:
            raise EmulationError(f"free: {address:#x} is not the start of an allocation")
        size = -(-(self._sizes.pop(offset) + GAP) // ALIGNMENT) * ALIGNMENT
        self._starts.remove(offset)
        bisect.insort(self._free, (offset, size))
        self._merge_holes()
        self._changed()

    def adopt(self, address: int, size: int) -> None:
        """Kernels may access `size` bytes at `address`, which somebody else allocated, outside the window."""
        offset = address - BASE
        if offset not in self._sizes:
            bisect.insort(self._starts, offset)
        self._sizes[offset] = size
        self._adopted_end = max(self._adopted_end, offset + size)
        self._changed()

    def release(self, address: int) -> None:
        """Take back what adopt() named; nothing happens if it did not."""
        if self._sizes.pop(address - BASE, None) is not None:
            self._starts.remove(address - BASE)
            self._changed()

    def read(self, address: int, dtype: DTypeLike, shape: int | tuple[int, ...] = ()) -> NDArray[Any]:
        """A copy of the array of `dtype` and `shape` at `address`. EmulationError outside an allocation."""
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        offset = self.offset_of(address, count * dtype.itemsize, "read")
        return self.u8[offset : offset + count * dtype.itemsize].copy().view(dtype).reshape(shape)

    def write(self, address: int, source: NDArray[Any] | bytes) -> None:
        """Copy an array or bytes to `address`. EmulationError outside an allocation."""
        data = _bytes_of(source)
        offset = self.offset_of(address, data.size, "write")
        self.unwritten.written(offset, offset + data.size)
        self.u8[offset : offset + data.size] = data

    def undefine(self, address: int, size: int) -> None:
        """Take the bytes for unwritten, whatever they hold. EmulationError outside an allocation."""
        offset = self.offset_of(address, size, "undefine")
        self.unwritten.allocated(offset, offset + size, filled=False)

    def offset_of(self, address: int, size: int, what: str) -> int:
        """Arena offset of an address range that must lie inside one allocation."""
        offset = address - BASE
        if not self.contains(offset, offset + size):
            raise EmulationError(
                f"{what} of {size} bytes at {address:#x} is outside every allocation; {self.nearest(address)}"
            )
        return offset

    @property
    def extent(self) -> int:
        """Bytes of the arena that hold every allocation."""
        return max(self._top, self._adopted_end)

    def contains(self, start: int, end: int) -> bool:
        """True if the arena offsets [start, end) lie inside one allocation (its size rounded up to a
        dword)."""
        low, high = self._last
        if low <= start and end <= high:
            return True
        i = bisect.bisect_right(self._starts, start) - 1
        if i < 0:
            return False
        low = self._starts[i]
        self._last = (low, low + self._extent(low))
        return low <= start and end <= self._last[1]

    def allocation(self, offset: int) -> tuple[int, int] | None:
        """(first, size) of the allocation that holds an arena offset; None if none does."""
        if not self.contains(offset, offset + 1):
            return None
        start = self._starts[bisect.bisect_right(self._starts, offset) - 1]
        return start, self._sizes[start]

    def outside(self, starts: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
        """Elementwise: is [start, start+size) not inside one allocation? `starts` are arena offsets."""
        if self._ends_array is None:
            self._starts_array = np.array([-(1 << 62), *self._starts], np.int64)
            self._ends_array = np.array([0, *(s + self._extent(s) for s in self._starts)], np.int64)
            self._ends_array[0] = -(1 << 62)
        i = np.searchsorted(self._starts_array, starts, side="right") - 1
        return (i < 0) | (starts + size > self._ends_array[i])

    def nearest(self, address: int) -> str:
        """Words about the allocation closest below `address`, for messages."""
        i = bisect.bisect_right(self._starts, address - BASE) - 1
        if i < 0:
            return "no allocation lies below it"
        start = self._starts[i]
        past = address - BASE - start - self._sizes[start]
        where = f"{past} bytes past the end of" if past >= 0 else f"{-past} bytes before the end of"
        return f"it is {where} the allocation of {self._sizes[start]} bytes at {BASE + start:#x}"

    def _extent(self, start: int) -> int:
        return -(-self._sizes[start] // 4) * 4

    def _place(self, size: int) -> int:
        for i, (offset, room) in enumerate(self._free):
            if room >= size:
                if room == size:
                    del self._free[i]
                else:
                    self._free[i] = (offset + size, room - size)
                return offset
        if self._top + size > self._limit:
            raise EmulationError(f"out of device memory: {size} bytes asked, {self._limit - self._top} left")
        self._top += size
        return self._top - size

    def _merge_holes(self) -> None:
        merged: list[tuple[int, int]] = []
        for offset, size in self._free:
            if merged and sum(merged[-1]) == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            else:
                merged.append((offset, size))
        if merged and sum(merged[-1]) == self._top:
            self._top = merged.pop()[0]
        self._free = merged

    def _changed(self) -> None:
        self._ends_array = None
        self._last = (0, 0)


def _bytes_of(source: NDArray[Any] | bytes | bytearray) -> NDArray[np.uint8]:
    if isinstance(source, np.ndarray):
        return np.ascontiguousarray(source).reshape(-1).view(np.uint8)
    return np.frombuffer(bytes(source), np.uint8)
