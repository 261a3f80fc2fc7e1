"""What to model: a launch, where its workgroups go, and how many fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import DeviceMemory
from petitgen.errors import ProfileError
from petitgen.isa import CodeObject, Kernel
from petitgen.paths import CONFIGS
from petitgen.profiler.result import Occupancy
from petitgen.profiler.timing import Timing
from petitgen.spec.model import Arch
from petitgen.spec.occupancy import room
from petitgen.spec.reader import read

Index = NDArray[np.int64]
Dim3 = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A launch as petitgen.emulator.launch takes it.

    symbol  None when the code object has one kernel
    args    numpy arrays, scalars and device addresses in kernarg order, or the bytes of the explicit kernarg
    grid    workgroups;  block: work-items a workgroup
    memory  where the addresses in `args` are valid. Contents matter only where they decide a branch or an address;
            what is allocated and never written reads as zero and costs nothing
    warm    device addresses of allocations that the last cache before HBM holds when the kernel starts
    """

    code: CodeObject
    symbol: str | None
    args: Sequence[Any] | bytes
    grid: int | Sequence[int]
    block: int | Sequence[int]
    dynamic_lds: int = 0
    memory: DeviceMemory | None = None
    warm: tuple[int, ...] = ()


def dim3(value: int | Sequence[int]) -> Dim3:
    """Three numbers of one to three."""
    numbers = (*((value,) if isinstance(value, int) else tuple(value)), 1, 1)[:3]
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def load_arch(name: str) -> Arch:
    """The architecture's facts from configs/archs.yaml."""
    return Arch(name=name, **read(CONFIGS / "archs.yaml", "archs")["archs"][name])


def occupancy(kernel: Kernel, arch: Arch, block: int, lds_bytes: int, timing: Timing, workgroups: int) -> Occupancy:
    """How many workgroups a CU runs at once. ProfileError if not even one fits."""
    registers = kernel.descriptor.vgpr_count
    fits = room(arch, registers, kernel.resources.sgpr_count, lds_bytes, block)
    if fits.workgroups < 1:
        raise ProfileError(f"{kernel.name}: a workgroup of {block} work-items with {registers} registers a lane and"
                           f" {lds_bytes} bytes of LDS does not fit a CU: {fits.limit}")  # fmt: skip
    there = workgroups / min(timing.compute_units, workgroups)
    return Occupancy(
        waves_per_simd=fits.waves_per_simd,
        workgroups_per_cu=fits.workgroups,
        resident_workgroups=min(float(fits.workgroups), there),
        limited_by=fits.limit if there >= fits.workgroups else "grid",
        registers=registers,
        lds_bytes=fits.lds_bytes,
        scratch_bytes=kernel.descriptor.private_segment_fixed_size,
    )


@dataclass(frozen=True, slots=True)
class Placement:
    """Which workgroups the modelled CU runs, by number in the grid (x fastest), in order.

    Workgroups go to the XCDs in turn, and in an XCD to its CUs in turn. The modelled CU is the first: none has more.
    """

    numbers: Index
    peers: NDArray[np.float64]  # CUs that have one as far down their queue


def place(grid: Dim3, timing: Timing) -> Placement:
    """The queue of the modelled CU."""
    total = grid[0] * grid[1] * grid[2]
    numbers = np.arange(0, total, timing.compute_units, dtype=np.int64)  # exact: XCDs in turn, then CUs in turn
    peers = np.clip(total - numbers, 1, timing.compute_units).astype(np.float64)
    return Placement(numbers, peers)


def representatives(numbers: Index, grid: Dim3) -> Index:
    """For each workgroup number one that does the same, by number: workgroups in the last column or row (tails) and in
    each slice (z) differ, others do not."""
    x, y, z = numbers % grid[0], numbers // grid[0] % grid[1], numbers // (grid[0] * grid[1])
    x = np.where(x == grid[0] - 1, x, 0)
    y = np.where(y == grid[1] - 1, y, 0)
    return x + grid[0] * (y + grid[1] * z)


def with_slices(numbers: Index, grid: Dim3) -> Index:
    """The workgroups, and those that share their column and row: they may count each other's arrival."""
    plane = grid[0] * grid[1]
    together = (np.unique(numbers % plane)[:, None] + plane * np.arange(grid[2])).reshape(-1)
    return np.sort(together)
