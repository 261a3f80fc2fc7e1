"""The registers of all waves in flight, and a group of them that steps together.

A register of all waves is one contiguous row of shape (waves, 64), so an instruction is a numpy call on whole
rows. A `Group` is the waves standing at one pc. When it holds every wave, or a contiguous run of them, its
rows are views of the batch; when waves have diverged it copies a row the first time it is touched and writes
it back in `flush()`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import DeviceMemory

Array = NDArray[Any]
Selection = slice | NDArray[np.int64]

LANES = 64
AGPR = 256  # row of a0: rows 0-255 are VGPRs, 256-511 AGPRs, as in the 9-bit source encoding
VCC, M0, EXEC, FLAT_SCRATCH = 106, 124, 126, 102
# A register that was never written holds this: NaN as f32, f16, bf16 and f64, far out of range as an address.
POISON = 0xFFFBFFFB
# High halves of the flat addresses of LDS and scratch.
SHARED_APERTURE, PRIVATE_APERTURE = 0x0001_0000, 0x0002_0000
NORMAL_MODE = 0xF0  # MODE bits 7:0 with round to nearest even and all denormals kept


class Observer(Protocol):
    """Watches a run: tracer, profiler, sanitizer. Off by default; it must not change the state it sees.

    instruction  called before each instruction, with the waves that execute it
    access       called by a memory instruction before it is done, with the byte addresses (n, 64) it touches,
                 for the lanes in `active` (n, 64) bool; `space` is "global", "lds", "scratch" or "scalar"
                 (then a column a dword), `kind` "load", "store" or "atomic". Several times for one
                 instruction that touches several places a lane. In "lds" addresses count from the
                 workgroup's first byte
    out_of_range called by a buffer or DS instruction with the lanes (n, 64) that are on and out of range
    """

    def instruction(self, group: Group, instruction: Any) -> None: ...

    def access(
        self,
        group: Group,
        instruction: Any,
        space: str,
        kind: str,
        addresses: Array,
        size: int,
        active: Array,
    ) -> None: ...

    def out_of_range(self, group: Group, instruction: Any, lanes: Array) -> None: ...


class Batch:
    """Every wave in flight. W waves, grouped wave after wave into workgroups.

    vgpr     uint32 (512, W, 64); rows that the kernel did not allocate are never touched, so they cost no
             memory
    sgpr     uint32 (W, 128), by the encoding of the register: vcc is 106-107, m0 124, exec 126-127
    scc      bool (W,)
    mode     uint32 (W,): the MODE register
    lds      uint8, the LDS of all workgroups one after the other; lds_base int64 (W, 1) is where a wave's
             begins
    """

    def __init__(self, waves: int, workgroup: Array, lds_bytes: int, memory: DeviceMemory, arch: str) -> None:
        self.waves = waves
        self.workgroup = workgroup  # int64 (W,): workgroup number within the batch
        self.arch = arch
        self.memory = memory
        self.vgpr: NDArray[np.uint32] = np.empty((2 * AGPR, waves, LANES), np.uint32)
        self.sgpr: NDArray[np.uint32] = np.full((waves, 128), POISON, np.uint32)
        self.scc = np.zeros(waves, bool)
        self.mode = np.full(waves, NORMAL_MODE, np.uint32)
        self.wave_id = np.arange(waves, dtype=np.int64)
        # Out-of-range lanes are steered to a spare slot after the last workgroup's LDS.
        self.lds_bytes = lds_bytes
        count = int(workgroup[-1]) + 1 if waves else 0
        self.lds = np.full((count * lds_bytes + 16) // 4, POISON, np.uint32).view(np.uint8)
        self.lds_base = (workgroup * lds_bytes).reshape(-1, 1)
        self.observer: Observer | None = None
        self.locate: Callable[[int], str] | None = None  # words for a place in the code, for messages
        self.load_base = 0  # device address of virtual address 0 of the code object
        self.private_bytes = 0  # scratch of one lane
        self.clock = 0  # instructions issued, what s_memtime reads
        self.numbers: NDArray[np.int64] = np.arange(count)  # of the batch's workgroups in the grid

    def poison(self, vgprs: int, agprs: int) -> None:
        """Fill the allocated vector registers with POISON."""
        self.vgpr[:vgprs] = POISON
        self.vgpr[AGPR : AGPR + agprs] = POISON

    def workgroup_name(self, wave: int) -> int:
        """Number in the grid (x fastest) of the workgroup of a wave."""
        return int(self.numbers[self.workgroup[wave]])

    def group(self, index: NDArray[np.int64]) -> Group:
        """The group of the waves in `index` (sorted)."""
        if index.size and int(index[-1] - index[0]) + 1 == index.size:
            return Group(self, slice(int(index[0]), int(index[-1]) + 1), index)
        return Group(self, index, index)


class Rows(dict[int, Array]):
    """Register number -> array, made the first time it is asked for."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[int], Array]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, key: int) -> Array:
        row = self[key] = self._make(key)
        return row


class Group:
    """The waves at one pc: n of them. Everything an instruction reads or writes.

    u32 i32 f32    vector register -> (n, 64), the same memory under three types
    u16 i16 f16    vector register -> (n, 64, 2), low half first
    su32 si32 su64 si64   scalar register -> (n,); 64-bit ones by the number of the even first register
    cu32 ci32 cf32 cu64 ci64 cf64   the same as columns (n, 1), for use beside vectors
    mask           None when all 64 lanes of all waves are on, else bool (n, 64)
    special        None when MODE is NORMAL_MODE in every wave, else the modes (n,)
    """

    def __init__(self, batch: Batch, where: Selection, index: NDArray[np.int64]) -> None:
        self.batch = batch
        self.where = where
        self.index = index  # the wave numbers, also when `where` is a slice
        self.n = index.size
        self.memory = batch.memory
        self.observer = batch.observer
        self.arch = batch.arch
        file = batch.vgpr
        self.u32: Mapping[int, Array] = Rows(lambda i: file[i][where])
        u32 = self.u32
        self.i32, self.f32 = (_typed(u32, t) for t in (np.int32, np.float32))
        self.u16, self.i16, self.f16 = (_halves(u32, t) for t in (np.uint16, np.int16, np.float16))
        self.sgpr = batch.sgpr[where]
        s32, s64 = self.sgpr, self.sgpr.view(np.uint64)
        self.su32, self.si32 = (_scalars(s32.view(t)) for t in (np.uint32, np.int32))
        self.su64, self.si64 = (_pairs(s64.view(t)) for t in (np.uint64, np.int64))
        self.cu32, self.ci32, self.cf32 = (_columns(s32.view(t)) for t in (np.uint32, np.int32, np.float32))
        self.cu64, self.ci64, self.cf64 = (
            _column_pairs(s64.view(t)) for t in (np.uint64, np.int64, np.float64)
        )
        self.sbytes = self.sgpr.view(np.uint8)
        self.scc = batch.scc[where]
        self.mode = batch.mode[where]
        self.lds_base = batch.lds_base[where]
        self.lds = batch.lds
        self.descriptors: dict[int, Any] = {}  # decoded buffer descriptors by first SGPR
        # The mask again: DPP narrows `mask` but reads from the lanes of this one.
        self.exec_mask: Array | None = None
        self.exec_changed()
        self.special: Array | None = None
        self.mode_changed()

    def flush(self) -> None:
        """Write back what is held in copies."""
        where = self.where
        self.batch.scc[where] = self.scc
        self.batch.mode[where] = self.mode
        if not isinstance(where, slice):
            self.batch.sgpr[where] = self.sgpr
            for i, row in self.u32.items():
                self.batch.vgpr[i][where] = row

    def exec_changed(self) -> None:
        """Recompute the lane mask after a write to EXEC."""
        execs = self.sgpr[:, EXEC : EXEC + 2]
        self.set_mask(None if (execs == 0xFFFFFFFF).all() else self.lane_mask(EXEC))
        self.exec_mask = self.mask

    def set_mask(self, mask: Array | None) -> None:
        """Let only the lanes of `mask` write (None: all)."""
        self.mask = mask
        self.mask32 = (
            None if mask is None else np.negative(mask.view(np.uint8), dtype=np.uint32, casting="unsafe")
        )

    def mode_changed(self) -> None:
        """Recompute `special` after a write to MODE."""
        self.special = None if ((self.mode & 0xFF) == NORMAL_MODE).all() else self.mode

    def active(self) -> Array:
        """EXEC as bool (n, 64), also when all lanes are on."""
        return np.ones((self.n, LANES), bool) if self.mask is None else self.mask

    def lane_mask(self, register: int) -> Array:
        """The SGPR pair at `register` as bool (n, 64)."""
        pair = self.sbytes[:, 4 * register : 4 * register + 8]
        return np.unpackbits(pair, axis=1, bitorder="little").view(bool)

    def set_lane_mask(self, register: int, lanes: Array) -> None:
        """Write bool (n, 64) to the SGPR pair at `register`. Does not watch for EXEC."""
        self.sbytes[:, 4 * register : 4 * register + 8] = np.packbits(lanes, axis=1, bitorder="little")

    def block(self, first: int, count: int) -> Array:
        """`count` consecutive vector registers as (count, n, 64): a view where that is possible, else a
        copy."""
        if isinstance(self.where, slice):
            return self.batch.vgpr[first : first + count, self.where]
        return np.stack([self.u32[first + k] for k in range(count)])

    def set_block(self, first: int, values: Array, where: Array | None = None) -> None:
        """Write (count, n, 64) dwords to consecutive vector registers, in the lanes of `where` (default
        all)."""
        for k, value in enumerate(values):
            if where is None:
                self.u32[first + k][...] = value
            else:
                np.copyto(self.u32[first + k], value, where=where)

    def write(self, register: int, value: Array) -> None:
        """Write a 32-bit result, of any 32-bit dtype, to a vector register in the active lanes."""
        row = self.u32[register]
        bits = value.view(np.uint32) if value.ndim else np.asarray(value).view(np.uint32)
        if self.mask32 is None:
            row[...] = bits
        else:  # three plain passes are several times faster than a masked copy
            change = np.bitwise_xor(row, bits)
            change &= self.mask32
            row ^= change


def _typed(rows: Mapping[int, Array], dtype: type) -> Rows:
    return Rows(lambda i: rows[i].view(dtype))


def _halves(rows: Mapping[int, Array], dtype: type) -> Rows:
    return Rows(lambda i: rows[i].view(dtype).reshape(-1, LANES, 2))


def _scalars(file: Array) -> Rows:
    return Rows(lambda i: file[:, i])


def _columns(file: Array) -> Rows:
    return Rows(lambda i: file[:, i : i + 1])


def _pairs(file: Array) -> Rows:
    return Rows(lambda i: file[:, i >> 1])


def _column_pairs(file: Array) -> Rows:
    return Rows(lambda i: file[:, i >> 1 : (i >> 1) + 1])
