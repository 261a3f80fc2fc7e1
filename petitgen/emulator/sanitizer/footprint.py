"""What an instruction touches, worked out once for each pc: the common ground of all checks.

Registers are rows of one file: 0-255 VGPRs, 256-511 AGPRs, 512-639 scalar registers by their encoding (vcc 618, m0 636,
exec 638), 640 scc.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from petitgen.emulator.registry import KEEPS_HIGH_HALF, WRITES_HIGH_HALF
from petitgen.isa.model import Instruction, Kind, Operand
from petitgen.isa.operands import scalar_name

AGPR, SGPR, SCC, ROWS = 256, 512, 640, 641
VCC, M0, EXEC = SGPR + 106, SGPR + 124, SGPR + 126


class Unit(Enum):
    """The unit an instruction goes to."""

    VALU = "VALU"
    TRANS = "transcendental VALU"
    MFMA = "MFMA"
    SALU = "SALU"
    SMEM = "SMEM"
    VMEM = "VMEM"  # MUBUF, MTBUF, GLOBAL, SCRATCH
    FLAT = "FLAT"
    LDS = "LDS"
    BRANCH = "branch"
    OTHER = "other"  # s_nop, s_waitcnt, s_barrier, s_sleep ...


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """reads, writes: register rows, implicit ones (vcc, exec, scc, m0) included.

    reads     also a destination that is written only in part (16-bit halves, SDWA preserve, DPP), and M0 of a load to LDS
    operands  (operand, rows) of each source of the table row, in order (vcc of v_cndmask and the like are in it, EXEC as
              the lane mask is not); results likewise
    load      registers are written later, when a wait counter says so (a load, an atomic that returns, a lane permutation)
    store     memory is written: stores, atomics, and loads to LDS
    to_lds    a load whose data goes to LDS and not to a register
    """

    instruction: Instruction
    unit: Unit
    reads: frozenset[int]
    writes: frozenset[int]
    operands: tuple[tuple[Operand, tuple[int, ...]], ...]
    results: tuple[tuple[Operand, tuple[int, ...]], ...]
    load: bool
    store: bool
    to_lds: bool = False


@lru_cache(maxsize=1 << 16)
def _known(arch: str, pc: int, raw: tuple[int, ...]) -> list[Footprint]:
    return []  # filled by the caller, who has the instruction


def footprint(instruction: Instruction) -> Footprint:
    """What `instruction` touches; kept by (arch, pc, raw)."""
    slot = _known(instruction.arch, instruction.pc, instruction.raw)
    if not slot:
        slot.append(_footprint(instruction))
    return slot[0]


def _footprint(ins: Instruction) -> Footprint:
    unit = _unit(ins)
    operands = tuple((o, rows(o)) for o in ins.src)
    results = tuple((o, rows(o)) for o in ins.dst)
    written = frozenset(row for _, group in results for row in group)
    read = frozenset(row for _, group in operands for row in group)
    to_lds = _to_lds(ins)
    memory = unit in MEMORY
    store = memory and (to_lds or _stores(ins.mnemonic, unit))
    if _partial(ins):
        read |= written
    read |= _implicit(ins, unit, to_lds)
    return Footprint(ins, unit, read, written, operands, results, memory and bool(ins.dst), store, to_lds)


def rows(operand: Operand) -> tuple[int, ...]:
    """The rows of an operand; none for constants, immediates and "off"."""
    first = _BASE.get(operand.kind)
    if first is not None:
        return tuple(range(first + operand.index, first + operand.index + operand.dwords))
    if operand.kind is Kind.STATUS:
        return _STATUS.get(operand.name, ())
    return ()


_BASE = {Kind.VGPR: 0, Kind.AGPR: AGPR, Kind.SGPR: SGPR}
_STATUS: dict[str, tuple[int, ...]] = {
    "scc": (SCC,), "src_scc": (SCC,), "src_vccz": (VCC, VCC + 1), "src_execz": (EXEC, EXEC + 1), "src_lds_direct": (M0,),
}  # fmt: skip
_FLAT_SCRATCH = frozenset({SGPR + 102, SGPR + 103})
_MASK = frozenset({EXEC, EXEC + 1})
MEMORY = frozenset({Unit.SMEM, Unit.VMEM, Unit.FLAT, Unit.LDS})
_DS_WITHOUT_STORE = ("ds_read", "ds_swizzle", "ds_permute", "ds_bpermute", "ds_gws")

_UNITS = {
    **dict.fromkeys(("SOP1", "SOP2", "SOPC", "SOPK"), Unit.SALU),
    **dict.fromkeys(("VOP1", "VOP2", "VOPC", "VOP3", "VOP3P", "SDWA", "DPP", "MAI"), Unit.VALU),
    **dict.fromkeys(("MUBUF", "MTBUF", "GLOBAL", "SCRATCH"), Unit.VMEM),
    "SMEM": Unit.SMEM, "FLAT": Unit.FLAT, "DS": Unit.LDS, "SOPP": Unit.OTHER,
}  # fmt: skip
_BRANCHES = ("s_cbranch_", "s_branch", "s_setpc_", "s_swappc_", "s_call_", "s_endpgm")
# source: CDNA3 ISA 4.5 "Trans" hazard; the functions that the transcendental unit computes.
_TRANSCENDENTAL = ("v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_")


def _unit(ins: Instruction) -> Unit:
    name = ins.mnemonic
    if name.startswith(_BRANCHES):
        return Unit.BRANCH
    if name.startswith(("v_mfma_", "v_smfmac_")):
        return Unit.MFMA
    return Unit.TRANS if name.startswith(_TRANSCENDENTAL) else _UNITS[ins.encoding]


def _stores(mnemonic: str, unit: Unit) -> bool:
    if unit is Unit.LDS:
        return not mnemonic.startswith(_DS_WITHOUT_STORE)
    return "_store_" in mnemonic or "_atomic_" in mnemonic


def _to_lds(ins: Instruction) -> bool:
    return bool(ins.mods.get("lds")) or "_load_lds_" in ins.mnemonic


def _partial(ins: Instruction) -> bool:
    """Does the instruction keep a part of its destination?"""
    if ins.encoding == "SDWA":
        return ins.mods.get("dst_unused") == 2
    if ins.encoding == "DPP":
        return True  # lanes whose source lane does not exist, or is masked, keep the old value
    if ins.mnemonic in KEEPS_HIGH_HALF or ins.mnemonic in WRITES_HIGH_HALF:
        return True
    return ins.encoding == "VOP3" and bool(ins.mods.get("op_sel", 0) & 8)


_ALL_LANES = ("v_readlane", "v_writelane", "v_nop")


def _implicit(ins: Instruction, unit: Unit, to_lds: bool) -> frozenset[int]:
    read: frozenset[int] = frozenset()
    if unit in (Unit.VALU, Unit.TRANS, Unit.VMEM, Unit.FLAT, Unit.LDS) and not ins.mnemonic.startswith(_ALL_LANES):
        read |= _MASK
    if to_lds:
        read |= {M0}
    return read | _FLAT_SCRATCH if ins.encoding == "SCRATCH" else read


def row_name(row: int) -> str:
    """Assembler name of a register row."""
    if row >= SCC:
        return "scc"
    if row >= SGPR:
        return scalar_name(row - SGPR, 1) or f"scalar register {row - SGPR}"
    return f"v{row}" if row < AGPR else f"a{row - AGPR}"
