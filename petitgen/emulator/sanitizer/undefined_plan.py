"""What to do about undefined values at an instruction, worked out once for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from petitgen.emulator.sanitizer.footprint import EXEC, M0, SGPR, Footprint, Unit
from petitgen.emulator.sanitizer.movement import Movement, movement
from petitgen.emulator.sanitizer.undefined import View
from petitgen.emulator.sanitizer.undefined_lanes import LANE_RULES, compile_matrix
from petitgen.emulator.sanitizer.undefined_scalar import compile_salu
from petitgen.emulator.sanitizer.undefined_vector import compile_valu
from petitgen.isa.model import Instruction, Kind


@dataclass(frozen=True, slots=True)
class Watched:
    """Registers whose value matters at once. `what` it is; `vector`: only the lanes that are on count."""

    what: str
    rows: tuple[int, ...]
    vector: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do at an instruction. rule: how registers become (un)defined, None for the memory instructions."""

    rows: frozenset[int]
    watched: tuple[Watched, ...]
    rule: Callable[[View], None] | None
    move: Movement | None
    indexing: bool | None = None  # VGPR indexing goes on, or off


def compile_plan(touched: Footprint) -> Plan:
    """What to do at an instruction."""
    ins, unit = touched.instruction, touched.unit
    every = touched.reads | touched.writes
    if ins.mnemonic in LANE_RULES:
        return Plan(every, (), LANE_RULES[ins.mnemonic](ins), None)
    if unit is Unit.SALU:
        watched: tuple[Watched, ...] = ()
        if ins.mnemonic.startswith("s_setreg"):
            watched = (Watched("the value for a hardware register", tuple(sorted(touched.reads)), False),)
        return Plan(every, watched, compile_salu(touched), None, _indexing(ins))
    if unit in (Unit.VALU, Unit.TRANS):
        return Plan(every, (), compile_valu(touched), None)
    if unit is Unit.MFMA:
        return Plan(every, (), compile_matrix(ins), None)
    if unit is Unit.BRANCH:
        return Plan(every, _branch(touched), compile_salu(touched) if ins.dst else None, None)
    if unit in (Unit.SMEM, Unit.VMEM, Unit.FLAT, Unit.LDS):
        return Plan(every, tuple(_addresses(touched)), None, movement(touched))
    return Plan(frozenset(), (), None, None, _indexing(ins))


def _indexing(ins: Instruction) -> bool | None:
    return {"s_set_gpr_idx_on": True, "s_set_gpr_idx_off": False}.get(ins.mnemonic)


def _branch(touched: Footprint) -> tuple[Watched, ...]:
    registers = tuple(sorted(touched.reads - {EXEC, EXEC + 1}))
    if not registers:
        return ()
    what = "the branch condition" if touched.instruction.mnemonic.startswith("s_cbranch") else "the jump target"
    return (Watched(what, registers, False),)


def _addresses(touched: Footprint) -> list[Watched]:
    ins = touched.instruction
    names = {"srsrc": "the buffer descriptor", "sbase": "the address", "saddr": "the address", "vaddr": "the address",
             "soffset": "the offset", "offset": "the offset", "addr": "the LDS address"}  # fmt: skip
    found = []
    for operand, registers in touched.operands:
        if operand.role in names and registers:
            if touched.unit is Unit.SMEM and operand.role == "sbase":
                found.append(Watched("the address", registers, False))
            elif not (ins.encoding in ("MUBUF", "MTBUF") and operand.role == "vaddr" and not _uses_vaddr(ins)):
                found.append(Watched(names[operand.role], registers, operand.kind is not Kind.SGPR))
    if touched.to_lds or ins.mnemonic.endswith(("addtid_b32", "_append", "_consume")):
        found.append(Watched("the LDS address", (M0,), False))
    if ins.encoding == "SCRATCH":
        found.append(Watched("the scratch base", (SGPR + 102, SGPR + 103), False))
    return found


def _uses_vaddr(ins: Instruction) -> bool:
    return bool(ins.mods.get("offen") or ins.mods.get("idxen"))
