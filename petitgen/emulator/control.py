"""Branches, program counter, hardware registers and what else is no data flow.

`compile_exit` gives the end of a block: a function of the group that says where its waves go.
`compile_special` gives steps for instructions that the pure ops of the registry cannot express. source: CDNA3
ISA (MI300) 4 "Program Flow Control", 12.1-12.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.faults import named, wave_of
from petitgen.emulator.operands import operand, row_of
from petitgen.emulator.scalar_operands import scalar_reader, scalar_writer
from petitgen.emulator.state import M0, PRIVATE_APERTURE, SHARED_APERTURE, VCC, Group
from petitgen.errors import EmulationError
from petitgen.isa.messages import HWREGS, hwreg_fields
from petitgen.isa.model import Instruction, Kind

Array = NDArray[Any]
Step = Callable[[Group], None]
END = -1  # instead of a pc: the waves are done
Exit = Callable[
    [Group], "int | list[tuple[int, Array]]"
]  # a pc for all waves, or pcs with the waves (n,) bool that go there

NOTHING = frozenset(
    [
        "s_nop",
        "ds_nop",
        "s_waitcnt",
        "s_sleep",
        "s_setprio",
        "s_icache_inv",
        "s_incperflevel",
        "s_decperflevel",
        "s_ttracedata",
        "s_wakeup",
        "s_sendmsg",
        "s_setkill",
        "s_cbranch_cdbgsys",
        "s_cbranch_cdbguser",
        "s_cbranch_cdbgsys_or_user",
        "s_cbranch_cdbgsys_and_user",
        "v_nop",
        "v_clrexcp",
        "s_set_gpr_idx_off",
    ]
)  # no effect on results: timing, caches, tracing, and debugger branches that are never taken


def _any_lane(s: Group) -> Array:
    """Is any lane on, by wave?"""
    return np.ones(s.n, bool) if s.mask is None else np.asarray(s.mask.any(axis=1))


_ALWAYS = frozenset({"s_branch", "s_endpgm", "s_endpgm_saved", "s_setpc_b64", "s_swappc_b64", "s_call_b64"})
_CONDITIONS: dict[str, Callable[[Group], Array]] = {
    "s_cbranch_scc0": lambda s: ~s.scc,
    "s_cbranch_scc1": lambda s: s.scc,
    "s_cbranch_vccz": lambda s: s.su64[VCC] == 0,
    "s_cbranch_vccnz": lambda s: s.su64[VCC] != 0,
    "s_cbranch_execz": lambda s: ~_any_lane(s),
    "s_cbranch_execnz": lambda s: _any_lane(s),
}

STOPS = frozenset({"s_trap", "s_sethalt"})  # no wave goes on after these


def ends_block(ins: Instruction) -> bool:
    """Does control leave the straight line after this instruction?"""
    return ins.mnemonic in _ALWAYS or ins.mnemonic in _CONDITIONS or ins.mnemonic == "s_barrier"


def branch_target(ins: Instruction) -> int | None:
    """The pc a direct branch may go to, or None."""
    if ins.mnemonic not in _CONDITIONS and ins.mnemonic not in ("s_branch", "s_call_b64"):
        return None
    distance = next(o.value for o in ins.src if o.kind is Kind.IMM)
    return ins.pc + 4 + 4 * distance


def compile_exit(ins: Instruction) -> Exit:
    """Where the waves go after the last instruction of a block."""
    following, target = ins.pc + ins.size, branch_target(ins)
    if ins.mnemonic in ("s_endpgm", "s_endpgm_saved"):
        return lambda s: END
    if ins.mnemonic == "s_branch":
        assert target is not None
        return always(target)
    if ins.mnemonic in _CONDITIONS:
        assert target is not None
        return _conditional(_CONDITIONS[ins.mnemonic], target, following)
    if ins.mnemonic in ("s_setpc_b64", "s_swappc_b64", "s_call_b64"):
        return _jump(ins, target)
    return always(following)


def always(pc: int) -> Exit:
    """Every wave goes to `pc`."""
    return lambda s: pc


def _conditional(condition: Callable[[Group], Array], target: int, following: int) -> Exit:
    def leave(s: Group) -> int | list[tuple[int, Array]]:
        taken = condition(s)
        count = int(np.count_nonzero(taken))
        if count == s.n:
            return target
        if count == 0:
            return following
        return [(target, taken), (following, ~taken)]

    return leave


def _jump(ins: Instruction, target: int | None) -> Exit:
    """An indirect jump, a call, or both: the return address goes to the destination first read, then
    written."""
    read = scalar_reader(ins.src[0]) if target is None else None
    write = scalar_writer(ins.dst[0]) if ins.dst else None
    following = ins.pc + ins.size

    def leave(s: Group) -> int | list[tuple[int, Array]]:
        where = (
            None if read is None else np.array(np.broadcast_to(read(s), s.n), np.int64) - s.batch.load_base
        )
        if write is not None:
            write(s, np.uint64(following + s.batch.load_base))
        if where is None:
            assert target is not None
            return target
        pcs = np.unique(where)
        return int(pcs[0]) if pcs.size == 1 else [(int(pc), where == pc) for pc in pcs]

    return leave


# --- steps ----------------------------------------------------------------------------------------


def compile_special(ins: Instruction) -> Step | None:
    """The step of an instruction of this module; KeyError if it is none of them, None if it has no effect."""
    if ins.mnemonic in NOTHING:
        return None
    return _SPECIAL[ins.mnemonic](ins)


def _getpc(ins: Instruction) -> Step:
    write, following = scalar_writer(ins.dst[0]), ins.pc + ins.size
    return lambda s: write(s, np.uint64(following + s.batch.load_base))


def _hardware_register(ins: Instruction) -> tuple[str, np.uint32, np.uint32]:
    """Name, shift and mask (unshifted) of the hwreg operand."""
    number, first, size = hwreg_fields(
        next(o.value for o in ins.src if o.kind is Kind.IMM and o.role == "simm16") & 0xFFFF
    )
    return (
        HWREGS.get(number, {20: "HW_REG_XCC_ID"}.get(number, str(number))),
        np.uint32(first),
        np.uint32((1 << size) - 1),
    )


_FIXED = {  # one device, one shader engine: everything that says where a wave runs is 0
    "HW_REG_HW_ID": 0, "HW_REG_TRAPSTS": 0, "HW_REG_IB_STS": 0, "HW_REG_XCC_ID": 0,
    "HW_REG_SH_MEM_BASES": SHARED_APERTURE >> 16 << 16 | PRIVATE_APERTURE >> 16,
}  # fmt: skip


def _getreg(ins: Instruction) -> Step:
    name, shift, mask = _hardware_register(ins)
    write = scalar_writer(ins.dst[0])
    if name == "HW_REG_MODE":
        return lambda s: write(s, s.mode >> shift & mask)
    if name not in _FIXED:
        raise EmulationError(f"s_getreg_b32 of hardware register {name}")
    value = np.uint32(_FIXED[name]) >> shift & mask
    return lambda s: write(s, value)


def _setreg(ins: Instruction) -> Step:
    name, shift, mask = _hardware_register(ins)
    source = next(o for o in ins.src if o.role != "simm16")
    read = scalar_reader(source)
    if name != "HW_REG_MODE":
        raise EmulationError(f"{ins.mnemonic} of hardware register {name}")

    def step(s: Group) -> None:
        s.mode = (s.mode & ~(mask << shift)) | (read(s) & mask) << shift
        s.mode_changed()

    return step


def _move_relative(ins: Instruction) -> Step:
    """S_MOVRELS: D = SGPR[S0 + M0]; S_MOVRELD: SGPR[D + M0] = S0."""
    wide = ins.mnemonic.endswith("b64")
    dst, src = ins.dst[0], ins.src[0]
    from_relative = ins.mnemonic.startswith("s_movrels")
    read, write = scalar_reader(src), scalar_writer(dst)

    def step(s: Group) -> None:
        file = s.sgpr.view(np.uint64) if wide else s.sgpr
        waves, shift = np.arange(s.n), int(wide)
        where = ((src.index if from_relative else dst.index) + s.su32[M0].astype(np.int64)) >> shift
        if from_relative:
            write(s, file[waves, where])
        else:
            file[waves, where] = read(s)
            s.exec_changed()

    return step


def _index_setup(ins: Instruction) -> Step:
    """M0[7:0] is the VGPR index, M0[15:12] says which operands are indexed."""
    index = operand(ins, "src0")
    read = scalar_reader(index) if index is not None else None
    modes = next((o.value for o in ins.src if o.kind is Kind.IMM), None)

    def step(s: Group) -> None:
        m0 = s.su32[M0]
        if read is not None:
            m0[...] = (m0 & ~np.uint32(0xFF)) | (read(s) & np.uint32(0xFF))
        if modes is not None:
            m0[...] = (m0 & ~np.uint32(0xF000)) | np.uint32((modes & 15) << 12)

    return step


def _stop(why: str) -> Callable[[Instruction], Step]:
    def compile_stop(ins: Instruction) -> Step:
        def step(s: Group) -> None:
            raise EmulationError(f"{named(s.batch, ins)}, {wave_of(s, 0)}: {why}")

        return step

    return compile_stop


# --- lanes ----------------------------------------------------------------------------------------


def _read_lane(ins: Instruction) -> Step:
    """V_READLANE, V_READFIRSTLANE (lane 0 if none is on): a lane of a VGPR to an SGPR. source: CDNA3 ISA
    12.8, 12.11."""
    source, write = row_of(ins.src[0]), scalar_writer(ins.dst[0])
    select = None if ins.mnemonic == "v_readfirstlane_b32" else scalar_reader(ins.src[1])

    def step(s: Group) -> None:
        row = s.u32[source]
        if select is not None:
            lane = np.asarray(select(s) & np.uint32(63))
            value = row[:, int(lane)] if lane.ndim == 0 else row[np.arange(s.n), lane]
        elif s.mask is None:
            value = row[:, 0]
        else:
            value = row[np.arange(s.n), s.mask.argmax(axis=1)]
        write(s, value)

    return step


def _write_lane(ins: Instruction) -> Step:
    """V_WRITELANE: one lane of a VGPR, whatever EXEC says. source: CDNA3 ISA 12.11."""
    target, read, select = row_of(ins.dst[0]), scalar_reader(ins.src[0]), scalar_reader(ins.src[1])

    def step(s: Group) -> None:
        s.u32[target][np.arange(s.n), select(s) & np.uint32(63)] = read(s)

    return step


_SPECIAL: dict[str, Callable[[Instruction], Step]] = {
    "s_getpc_b64": _getpc,
    "s_getreg_b32": _getreg,
    "s_setreg_b32": _setreg,
    "s_setreg_imm32_b32": _setreg,
    "s_movrels_b32": _move_relative,
    "s_movrels_b64": _move_relative,
    "s_movreld_b32": _move_relative,
    "s_movreld_b64": _move_relative,
    "s_set_gpr_idx_on": _index_setup,
    "s_set_gpr_idx_idx": _index_setup,
    "s_set_gpr_idx_mode": _index_setup,
    "s_trap": _stop("the kernel trapped (an assertion, or unreachable code)"),
    "s_sethalt": _stop("the kernel halted itself"),
    "v_readlane_b32": _read_lane,
    "v_readfirstlane_b32": _read_lane,
    "v_writelane_b32": _write_lane,
}
SPECIAL = frozenset(_SPECIAL) | NOTHING
