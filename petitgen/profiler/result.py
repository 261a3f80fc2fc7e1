"""What a profile says: frozen dataclasses that turn into JSON, and what their words mean.

A clock is one cycle of the compute units' clock; `us` is a microsecond; bytes are bytes. Figures "of a CU" are those
of one compute unit that runs as many workgroups as fit; a wave-clock is one clock of one of its waves.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

# Why a wave issues nothing in a clock: Stall.cause, Hot.stalls and Event.state use these names.
CAUSES: dict[str, str] = {
    "vmem wait": "s_waitcnt vmcnt: loads or atomics have not returned",
    "lds wait": "s_waitcnt lgkmcnt: LDS has not returned",
    "smem wait": "s_waitcnt lgkmcnt: scalar memory has not returned",
    "store wait": "s_waitcnt vmcnt: stores, or a write-back of the L2, have not returned",
    "barrier": "s_barrier: other waves of the workgroup have not arrived",
    "valu result": "operand of a VALU instruction still in flight",
    "mfma result": "operand of a matrix instruction still in flight",
    "valu busy": "the VALU works on another instruction",
    "mfma busy": "the matrix unit works on another instruction",
    "lds busy": "the LDS takes no further instruction",
    "vmem busy": "the vector memory path takes no further instruction",
    "arbitration": "another wave of the SIMD issued instead",
    "fetch": "after a branch: instructions are fetched anew",
    "nop": "s_nop, s_sleep: wait states the program asks for",
}

# What decides the modelled time: Profile.bound. `Bound.us` says what time each alone would take.
BOUNDS: dict[str, str] = {
    "HBM": "bandwidth of device memory",
    "MALL": "bandwidth of the Infinity Cache",
    "L2": "bandwidth of the L2 caches",
    "L1": "bandwidth of the vector L1 caches and the path to them",
    "LDS": "bandwidth of the LDS, bank conflicts included",
    "MFMA": "matrix units",
    "VALU": "vector ALUs",
    "latency": "no unit is busy most of the time: waves wait for one another or for memory",
}

# Instruction classes: ClassUse.name, and Hot.name.
CLASSES: tuple[str, ...] = ("VALU", "trans", "MFMA", "SALU", "SMEM", "LDS", "VMEM", "branch", "wait", "barrier", "nop")


@dataclass(frozen=True, slots=True)
class Problem:
    """What the launch is for: the work that no kernel can avoid, against which the rooflines are drawn.

    name   for tables: "gemm 16x8192x8192"
    flops  multiplications and additions
    bytes  that must come from or go to device memory once
    """

    name: str
    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Roofline:
    """The two roofs of the modelled device, and the kernel's place under them.

    hbm_peak       bytes/us, the documented peak (not derated)
    hbm_achievable bytes/us that streams reach on the hardware: what the model gives a launch at most
    mfma_peak      flop/us, documented peak of the matrix instruction the kernel uses; 0 if it uses none
    intensity      flop/byte of the problem; None without one
    flops_per_us   flop/us of the problem in the modelled time less launch_us; None without one
    """

    hbm_peak: float
    hbm_achievable: float
    mfma_peak: float
    intensity: float | None
    flops_per_us: float | None


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What fits on a CU and why not more.

    waves_per_simd      the most that fit
    workgroups_per_cu   the most that fit
    resident_workgroups that a CU with work really has on average (a small grid leaves CUs part empty)
    limited_by          "registers", "LDS", "SGPRs", "waves" or "workgroups" (hardware limits), "grid"
    registers           VGPRs and AGPRs a lane, as allocated
    lds_bytes           a workgroup, as allocated; scratch_bytes: a lane
    """

    waves_per_simd: int
    workgroups_per_cu: int
    resident_workgroups: float
    limited_by: str
    registers: int
    lds_bytes: int
    scratch_bytes: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Wave-clocks on the modelled CU lost to one cause (a key of CAUSES), and their share of all wave-clocks."""

    cause: str
    clocks: float
    share: float


@dataclass(frozen=True, slots=True)
class ClassUse:
    """One class of instructions (of CLASSES) on the modelled CU.

    issues       wave-instructions
    busy         clocks the unit was taken, a SIMD for VALU, trans, MFMA and SALU, the CU otherwise
    utilization  busy over the clocks of the run
    """

    name: str
    issues: int
    busy: float
    utilization: float


@dataclass(frozen=True, slots=True)
class Hot:
    """One instruction of the kernel.

    pc       offset from the kernel's first instruction, bytes
    text     disassembly;  name: its class, of CLASSES
    source   "file:line" where the code object has line information, else ""
    issues   wave-instructions on the modelled CU
    clocks   wave-clocks: issue and all stalls
    stalls   (cause, wave-clocks), longest first
    """

    pc: int
    text: str
    name: str
    source: str
    issues: int
    clocks: float
    stalls: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes moved by the whole launch, on each level, and the share of a level's requests that it served itself.

    lds      read and written in LDS;  lds_conflict_clocks: clocks of a CU lost to bank conflicts, all CUs together
    l1       asked of the vector L1 caches;  l2: asked of the L2 caches, writes included
    mall     asked of the Infinity Cache (0 where there is none);  hbm: from and to device memory
    scratch  of l1, bytes of scratch (spills)
    """

    lds: float
    lds_conflict_clocks: float
    l1: float
    l2: float
    mall: float
    hbm: float
    scratch: float
    l1_hit: float
    l2_hit: float
    mall_hit: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The time one resource alone needs for the launch: name of BOUNDS, us, share of the modelled time."""

    name: str
    us: float
    share: float


@dataclass(frozen=True, slots=True)
class Event:
    """One stretch of one wave on the modelled CU: it issued, or stalled for one cause.

    simd, slot   where: slot counts the waves of a SIMD
    workgroup    index among those of the modelled CU;  wave: in its workgroup
    start, end   clocks from the first wave's start; end is after the last clock
    state        "issue" or a cause of CAUSES
    name         class of the instruction that issued or waits, of CLASSES
    pc           its offset, as in Hot
    """

    simd: int
    slot: int
    workgroup: int
    wave: int
    start: int
    end: int
    state: str
    name: str
    pc: int


@dataclass(frozen=True, slots=True)
class Profile:
    """The modelled run of one launch. See docs/profiler.md for what is modelled and how wrong it may be.

    kernel, arch, product   symbol; gfx942; the modelled device, "MI300X"
    compute_units, clock_mhz of that device
    grid, block             workgroups (x, y, z); work-items a workgroup
    problem                 None if the launch was modelled without one
    time_us                 from launch to end, launch_us of it before the first wave starts and after the last ends
    clocks                  of the CU clock, without launch_us
    bound                   of BOUNDS;  bounds: the time each resource alone would need, longest first
    hbm_fraction            ideal time of problem.bytes at the documented peak / (time_us - launch_us); None without a
                            problem. roofline.hbm_achievable / hbm_peak is the most that it can be
    mfma_fraction           ideal time of problem.flops at the documented peak / (time_us - launch_us); None without a
                            problem or matrix instructions
    cu_coverage             share of the CUs that get work at all
    cu_balance              mean over peak of the work of a CU: what the last round leaves idle
    rounds                  most workgroups a CU runs one after another, by the slots it has
    workgroups              in the grid
    bytes_in_flight_mean    bytes of loads asked and not yet returned, a CU with work, mean over its time
    bytes_in_flight_peak    the most at any clock
    memory_latency          clocks a load that misses L1 takes under this load, on average
    stalls                  all causes met, longest first; with the issue clocks they add up to all wave-clocks
    issue_share             share of wave-clocks in which an instruction issued
    classes, hot            by class; all instructions executed, most wave-clocks first
    timeline                events of the modelled CU when asked for, in order of start; else ()
    notes                   what the model assumed for this launch, in sentences
    seconds                 the model itself took
    """

    kernel: str
    arch: str
    product: str
    compute_units: int
    clock_mhz: float
    grid: tuple[int, int, int]
    block: int
    problem: Problem | None
    time_us: float
    launch_us: float
    clocks: float
    bound: str
    bounds: tuple[Bound, ...]
    hbm_fraction: float | None
    mfma_fraction: float | None
    cu_coverage: float
    cu_balance: float
    rounds: int
    workgroups: int
    occupancy: Occupancy
    bytes_in_flight_mean: float
    bytes_in_flight_peak: int
    memory_latency: float
    issue_share: float
    stalls: tuple[Stall, ...]
    classes: tuple[ClassUse, ...]
    hot: tuple[Hot, ...]
    traffic: Traffic
    roofline: Roofline
    timeline: tuple[Event, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def waves_per_simd(self) -> int:
        """The most waves a SIMD holds at once."""
        return self.occupancy.waves_per_simd

    def to_json(self) -> str:
        """All of it as one JSON object, keys as the fields above."""
        return json.dumps(asdict(self), indent=1)
