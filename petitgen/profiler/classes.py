"""What each instruction asks of a CU, as arrays that the simulation reads: class, clocks, waits, dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.program import Block
from petitgen.isa.model import Instruction
from petitgen.profiler.needed import is_matrix, is_memory, union
from petitgen.profiler.result import CLASSES
from petitgen.profiler.timing import Timing

VALU, TRANS, MFMA, SALU, SMEM, LDS, VMEM, BRANCH, WAIT, BARRIER, NOP = range(len(CLASSES))
NO_WAIT = 255
NOTHING, RECORDED, WRITE_BACK, INVALIDATE = range(4)
DEPENDENCIES = 2  # kept for an instruction: those that bind longest
_TRANS = ("v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_")
# LLVM: SchedRW = WriteFloatCvt. The packing conversions (v_cvt_pkrtz, v_cvt_pk_i16 ...) and the byte ones run at full
# rate, those to and from 8-bit floats do not.
_FULL_RATE_CONVERSIONS = ("v_cvt_pk", "v_cvt_f32_ubyte", "v_cvt_off_f32")
_BARRIER, _NOPS, _WAITS = ("s_barrier",), ("s_nop", "s_sleep"), ("s_waitcnt",)
_BRANCHES = ("s_branch", "s_cbranch", "s_setpc", "s_swappc", "s_call", "s_endpgm")
_INTERNAL = ("s_setprio", "s_sendmsg", "s_icache_inv", "s_wakeup", "s_ttracedata", "s_setkill", "s_set_gpr_idx_off")


def class_of(ins: Instruction) -> int:
    """Which unit an instruction goes to: an index into CLASSES."""
    name = ins.mnemonic
    if is_matrix(ins):
        return MFMA
    if ins.encoding == "DS":
        return LDS
    if ins.encoding == "SMEM":
        return SMEM
    if is_memory(ins):
        return VMEM
    for prefixes, number in ((_BARRIER, BARRIER), (_NOPS, NOP), (_WAITS, WAIT), (_BRANCHES, BRANCH)):
        if name.startswith(prefixes):
            return number
    if name.startswith("s_"):
        return NOP if name.startswith(_INTERNAL) else SALU
    return TRANS if name.startswith(_TRANS) else VALU


def is_conversion(ins: Instruction) -> bool:
    """A conversion between floats and integers, or of the width of a float, at a quarter of the rate."""
    name = ins.mnemonic
    if not name.startswith("v_cvt_"):
        return False
    return not name.startswith(_FULL_RATE_CONVERSIONS) or "fp8" in name or "bf8" in name


@dataclass(frozen=True, slots=True)
class Table:
    """The executed instructions, block after block; each array has an entry an instruction.

    instructions  decoded, with repeats where blocks overlap
    first, last   by block: its instructions are [first, last)
    kind          class;  clocks: its unit is taken so long (memory and LDS: the recorded access says)
    beside        may a matrix instruction run beside it on the SIMD?
    vmcnt, lgkmcnt  what s_waitcnt waits for, NO_WAIT for nothing
    distance, latency  (instructions, 2): so many instructions back is one whose result is read, after so many clocks
    touches       memory or LDS how: NOTHING, RECORDED (the next access of its wave), WRITE_BACK, INVALIDATE
    """

    instructions: tuple[Instruction, ...]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    kind: NDArray[np.int64]
    clocks: NDArray[np.int64]
    beside: NDArray[np.bool_]
    vmcnt: NDArray[np.int64]
    lgkmcnt: NDArray[np.int64]
    distance: NDArray[np.int64]
    latency: NDArray[np.int64]
    touches: NDArray[np.int64]


def build_table(blocks: list[Block], sites: set[int], timing: Timing) -> Table:
    """The table of the blocks that a trace ran through. sites: pcs whose accesses were recorded."""
    listed = [ins for block in blocks for ins, _ in block.instructions]
    counts = np.array([len(block.instructions) for block in blocks], np.int64)
    last = np.cumsum(counts)
    first = last - counts
    kinds = [class_of(ins) for ins in listed]
    waits = [_waits(ins) for ins in listed]
    depends = np.zeros((len(listed), DEPENDENCIES, 2), np.int64)
    for a, b in zip(first, last, strict=True):
        _dependencies(listed[a:b], kinds[a:b], depends[a:b], timing)
    return Table(
        tuple(listed),
        first,
        last,
        np.array(kinds, np.int64),
        np.array([_clocks(ins, kind, timing) for ins, kind in zip(listed, kinds, strict=True)], np.int64),
        np.array([_beside(ins, kind, timing) for ins, kind in zip(listed, kinds, strict=True)]),
        np.array([w[0] for w in waits], np.int64),
        np.array([w[1] for w in waits], np.int64),
        np.ascontiguousarray(depends[:, :, 0]),
        np.ascontiguousarray(depends[:, :, 1]),
        np.array([RECORDED if ins.pc in sites else _cache_control(ins) for ins in listed], np.int64),
    )


def _clocks(ins: Instruction, kind: int, timing: Timing) -> int:
    """How long the unit is taken."""
    if kind == MFMA:
        return 4 * timing.passes(ins.mnemonic)
    if kind == TRANS:
        return timing.trans_clocks
    if kind == NOP and ins.mnemonic == "s_nop":
        return timing.issue_clocks * (_immediate(ins) + 1)
    if kind == NOP and ins.mnemonic == "s_sleep":
        return max(timing.issue_clocks, 64 * (_immediate(ins) & 0x7F))
    return timing.convert_clocks if kind == VALU and is_conversion(ins) else timing.issue_clocks


def _cache_control(ins: Instruction) -> int:
    if ins.mnemonic == "buffer_wbl2":
        return WRITE_BACK
    return INVALIDATE if ins.mnemonic.startswith(("buffer_inv", "buffer_wbinvl1")) else NOTHING


def _immediate(ins: Instruction) -> int:
    return next((o.value for o in ins.src if o.role == "simm16"), 0) & 0xFFFF


def _beside(ins: Instruction, kind: int, timing: Timing) -> bool:
    if kind == TRANS:
        return "trans" not in timing.never_coissue
    return kind != VALU or not any(fnmatchcase(ins.mnemonic, p) for p in timing.never_coissue)


def _waits(ins: Instruction) -> tuple[int, int]:
    """vmcnt and lgkmcnt that the instruction waits for."""
    if ins.mnemonic == "s_waitcnt":
        vm, lgkm = ins.mods.get("vmcnt", 0), ins.mods.get("lgkmcnt", 0)
        return (NO_WAIT if vm == 63 else vm), (NO_WAIT if lgkm == 15 else lgkm)
    if ins.mnemonic == "s_waitcnt_vmcnt":
        return _immediate(ins) & 63, NO_WAIT
    if ins.mnemonic == "s_waitcnt_lgkmcnt":
        return NO_WAIT, _immediate(ins) & 15
    return NO_WAIT, NO_WAIT


def _dependencies(block: list[Instruction], kinds: list[int], out: NDArray[np.int64], timing: Timing) -> None:
    """For each instruction of a straight line the results it reads that are not there at the next issue."""
    written: list[tuple[int, int, int]] = []  # registers, position, latency: those still on their way
    for i, ins in enumerate(block):
        reads = union(ins.src)
        found = sorted(((lat, i - at) for regs, at, lat in written if regs & reads), reverse=True)
        for k, (latency, distance) in enumerate(found[:DEPENDENCIES]):
            out[i, k] = distance, latency
        latency = _result_latency(ins, kinds[i], timing)
        regs = union(ins.dst)
        written = [(r & ~regs, at, lat) for r, at, lat in written if r & ~regs and lat > (i - at) * timing.issue_clocks]
        if latency > timing.issue_clocks and regs:
            written.append((regs, i, latency))


def _result_latency(ins: Instruction, kind: int, timing: Timing) -> int:
    """Clocks from an instruction's issue to that of one that reads its result, where the hardware sees to it."""
    if kind == MFMA:
        return 4 * timing.passes(ins.mnemonic)
    if kind in (VALU, TRANS):
        return max(timing.valu_latency, _clocks(ins, kind, timing))
    return 0
