"""From a launch to waves: batches of workgroups, and the registers a wave finds at its first instruction.

source: LLVM "User Guide for AMDGPU Backend": Initial Kernel Execution State, Kernel Prolog (scratch), and for
preloaded kernel arguments "Preloaded Kernel Arguments".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.kernarg import Dim3
from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.state import (
    EXEC,
    FLAT_SCRATCH,
    LANES,
    PRIVATE_APERTURE,
    SHARED_APERTURE,
    Batch,
    Observer,
)
from petitgen.errors import EmulationError
from petitgen.isa import Kernel

LDS_GRANULE, LDS_LIMIT = 512, 65536  # bytes
DYNAMIC_STACK = 4096  # bytes a lane has for calls whose stack the compiler could not bound
PRELOAD_PROLOG = 256  # bytes of loads for firmware that does not preload; skipped here
MAX_WAVES, MAX_STATE = 1024, 512 << 20  # in flight at once: waves, bytes of registers and LDS


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One launch, ready to run. Addresses are device addresses; lds is bytes a workgroup, private a lane."""

    kernel: Kernel
    arch: str
    grid: Dim3
    block: Dim3
    lds: int
    private: int
    kernarg: int
    packet: int
    queue: int
    load_base: int
    memory: DeviceMemory
    observer: Observer | None = None
    workgroups: NDArray[np.int64] | None = None  # numbers in the grid of those to run; default: all
    waves: int | None = None  # of each workgroup only so many; default: all

    @property
    def entry(self) -> int:
        """Virtual address of the first instruction."""
        return self.kernel.entry + (
            PRELOAD_PROLOG if self.kernel.descriptor.kernarg_preload_spec_length else 0
        )

    @property
    def waves_per_group(self) -> int:
        """Waves of a workgroup that run, the last one perhaps partial."""
        whole = -(-self.block[0] * self.block[1] * self.block[2] // LANES)
        return whole if self.waves is None else min(self.waves, whole)

    def batches(self) -> Iterator[Batch]:
        """The grid, as many workgroups at a time as the budget allows.

        A batch is done with when the next is asked for: its scratch is then freed.
        """
        numbers = self.workgroups
        if numbers is None:
            numbers = np.arange(self.grid[0] * self.grid[1] * self.grid[2], dtype=np.int64)
        per_wave = self.kernel.descriptor.vgpr_count * LANES * 4
        per_wave += self.lds // self.waves_per_group + LANES * self.private
        waves = max(1, min(MAX_WAVES, MAX_STATE // per_wave))
        groups = max(1, waves // self.waves_per_group)
        for first in range(0, numbers.size, groups):
            batch, scratch = self._batch(numbers[first : first + groups])
            yield batch
            if scratch is not None:
                self.memory.free(scratch)

    def _batch(self, numbers: NDArray[np.int64]) -> tuple[Batch, int | None]:
        per_group, groups = self.waves_per_group, numbers.size
        workgroup = np.repeat(np.arange(groups, dtype=np.int64), per_group)
        batch = Batch(groups * per_group, workgroup, self.lds, self.memory, self.arch)
        batch.observer, batch.load_base, batch.numbers = self.observer, self.load_base, numbers
        batch.private_bytes = self.private
        descriptor = self.kernel.descriptor
        vgprs = min(descriptor.accum_offset, descriptor.vgpr_count)
        batch.poison(vgprs, max(descriptor.vgpr_count - descriptor.accum_offset, 0))
        batch.mode[:] = _mode(self.kernel)
        self._work_items(batch, per_group)
        scratch = self.memory.allocate(batch.waves * LANES * self.private) if self.private else None
        self._scalars(batch, scratch)
        return batch, scratch

    def _work_items(self, batch: Batch, per_group: int) -> None:
        """v0 = x | y << 10 | z << 20 as far as the kernel asks for it; EXEC: the work-items there are."""
        x, y, z = self.block
        item = (np.arange(batch.waves, dtype=np.int64) % per_group)[:, None] * LANES + np.arange(LANES)
        packed = item % x
        if self.kernel.descriptor.enable_vgpr_workitem_id >= 1:
            packed = packed | item // x % y << 10
        if self.kernel.descriptor.enable_vgpr_workitem_id >= 2:
            packed = packed | item // (x * y) % z << 20
        batch.vgpr[0] = packed
        alive = np.packbits(item < x * y * z, axis=1, bitorder="little")
        batch.sgpr[:, EXEC : EXEC + 2] = alive.view(np.uint32)

    def _scalars(self, batch: Batch, scratch: int | None) -> None:
        """User SGPRs in their architected order, then the system SGPRs."""
        kd, waves, next_ = self.kernel.descriptor, batch.waves, 0
        base = scratch or 0
        wave_offset = np.arange(waves, dtype=np.uint32) * np.uint32(LANES * self.private)
        user: list[tuple[int, Sequence[int] | NDArray[np.uint32]]] = [
            (kd.enable_sgpr_private_segment_buffer, _scratch_buffer(base)),
            (kd.enable_sgpr_dispatch_ptr, _words(self.packet)),
            (kd.enable_sgpr_queue_ptr, _words(self.queue)),
            (kd.enable_sgpr_kernarg_segment_ptr, _words(self.kernarg)),
            (kd.enable_sgpr_dispatch_id, _words(1)),
            (kd.enable_sgpr_flat_scratch_init, _words(base)),
            (kd.enable_sgpr_private_segment_size, [self.private]),
            (kd.kernarg_preload_spec_length, self._preloaded()),
        ]
        for enabled, words in user:
            if enabled:
                batch.sgpr[:, next_ : next_ + len(words)] = np.array(words, np.uint32)
                next_ += len(words)
        if next_ > kd.user_sgpr_count:
            raise EmulationError(
                f"{self.kernel.name}: {next_} user SGPRs are enabled, "
                f"the descriptor counts {kd.user_sgpr_count}"
            )
        next_ = kd.user_sgpr_count
        number = batch.numbers[batch.workgroup]
        x, y, _ = self.grid
        position = (number % x, number // x % y, number // (x * y))
        for axis, enabled in enumerate(
            (kd.enable_sgpr_workgroup_id_x, kd.enable_sgpr_workgroup_id_y, kd.enable_sgpr_workgroup_id_z)
        ):
            if enabled:
                batch.sgpr[:, next_] = position[axis]
                next_ += 1
        if kd.enable_sgpr_workgroup_info:
            batch.sgpr[:, next_] = self.waves_per_group
            next_ += 1
        if self.arch == "gfx90a":
            if kd.enable_private_segment:
                batch.sgpr[:, next_] = wave_offset
        else:  # architected flat scratch
            address = np.uint64(base) + wave_offset.astype(np.uint64)
            batch.sgpr.view(np.uint64)[:, FLAT_SCRATCH // 2] = address

    def _preloaded(self) -> NDArray[np.uint32]:
        kd = self.kernel.descriptor
        start = self.kernarg + 4 * kd.kernarg_preload_spec_offset
        return self.memory.read(start, np.uint32, kd.kernarg_preload_spec_length)


def _mode(kernel: Kernel) -> int:
    """The MODE register. source: CDNA3 ISA 3.4."""
    kd = kernel.descriptor
    rounding = kd.float_round_mode_32 | kd.float_round_mode_16_64 << 2
    denormals = kd.float_denorm_mode_32 << 4 | kd.float_denorm_mode_16_64 << 6
    return rounding | denormals | kd.enable_dx10_clamp << 8 | kd.enable_ieee_mode << 9


def _words(address: int) -> list[int]:
    return [address & 0xFFFFFFFF, address >> 32]


def _scratch_buffer(base: int) -> list[int]:
    """The swizzled private segment buffer: 4-byte elements, 64 lanes interleaved, the lane added by the
    hardware."""
    swizzle, add_tid, index_stride_64 = 1 << 31, 1 << 23, 3 << 21
    return [base & 0xFFFFFFFF, base >> 32 | swizzle, 0xFFFFFFFF, add_tid | index_stride_64]


def aql_packet(grid: Dim3, block: Dim3, private: int, lds: int, descriptor: int, kernarg: int) -> bytes:
    """The 64-byte kernel dispatch packet that dispatch_ptr points to. source: HSA Platform System
    Architecture 2.9.6."""
    items = [g * b for g, b in zip(grid, block, strict=True)]
    return struct.pack("<HHHHHHIIIIIQQQQ", 2, 3, *block, 0, *items, private, lds, descriptor, kernarg, 0, 0)


def queue_record() -> bytes:
    """The part of amd_queue_t that kernels read: the apertures. source: ROCr amd_hsa_queue.h (offsets 0x40
    and 0x44)."""
    return bytes(0x40) + struct.pack("<II", SHARED_APERTURE, PRIVATE_APERTURE) + bytes(0xB8)
