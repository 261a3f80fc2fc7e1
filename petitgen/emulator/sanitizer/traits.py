"""What an instruction is in the eyes of the hazard table: classes and named sets of register rows ("ports").

classes
    valu             VALU other than MFMA, transcendental ones included;  valu not dot, valu not trans, valu or mfma
    salu vmem        vmem: buffer, global, scratch and flat;  memory: these and LDS
    valu or memory   (neither MFMA nor scalar)
    trans dot dpp    transcendental; v_dot*; DPP form
    shifted          SDWA or op_sel that put the result elsewhere than in the low bits;  packed: VOP3P with op_sel_hi of src0
    load to lds      VMEM whose data goes to LDS
    wide store       VMEM store of more than 64 bits (buffer: without an SGPR offset)
    mfma xdl sgemm dgemm   kinds of matrix instructions; on gfx90a every one but DGEMM is xdl;  not xdl;  dgemm 4x4
    lane access      v_readlane, v_writelane;  reads lane: v_readlane, v_readfirstlane;  any lane: all three
    div_fmas fma_f64 setreg getreg;  reads m0: relative moves, messages, GDS, add-TID LDS, loads to LDS
ports
    result           vector registers written;  explicit: registers named in source fields
    scalars written, scalars read (VCC included, EXEC not), exec written, exec, vcc, m0 written, m0, hwreg
    zero flags       VCC or EXEC, of which src_vccz or src_execz is read as data
    lane select, lane source, store data, source A or B (of MFMA and v_dot), source C
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from petitgen.emulator.sanitizer.footprint import EXEC, M0, SCC, SGPR, VCC, Footprint, Unit
from petitgen.isa.messages import hwreg_fields
from petitgen.isa.model import Instruction, Kind, Operand

HWREG = 1024  # row of hardware register 0, for the rules about s_setreg
_MASK, _VCC, _M0 = frozenset({EXEC, EXEC + 1}), frozenset({VCC, VCC + 1}), frozenset({M0})
_IMPLICIT_ROLES = frozenset({"", "vcc", "exec", "m0"})


@dataclass(frozen=True, slots=True)
class Traits:
    """See the head of this file.

    operands  the ports again, operand by operand
    passes    of an MFMA, else 0
    states    wait states that the instruction itself counts
    """

    mnemonic: str
    classes: frozenset[str]
    operands: Mapping[str, tuple[frozenset[int], ...]]
    ports: Mapping[str, frozenset[int]]
    passes: int
    states: int


def traits(touched: Footprint) -> Traits:
    """The traits of an instruction."""
    ins = touched.instruction
    operands = {name: rows for name, rows in _operands(touched).items() if rows}
    ports = {name: frozenset[int]().union(*rows) for name, rows in operands.items()}
    states = 1 + ins.src[0].value if ins.mnemonic == "s_nop" else 1
    return Traits(ins.mnemonic, frozenset(_classes(touched)), operands, ports, passes(ins), states)


# --- ports ---------------------------------------------------------------------------------------------------------------


Rows = tuple[frozenset[int], ...]


def _rows(touched: Footprint, *roles: str) -> Rows:
    return tuple(frozenset(rows) for o, rows in touched.operands if o.role in roles and rows)


def _one(rows: Iterable[int]) -> Rows:
    """Several registers as one operand; none if there are none."""
    return (found,) if (found := frozenset(rows)) else ()


def _operands(touched: Footprint) -> dict[str, Rows]:
    ins = touched.instruction
    explicit = tuple(frozenset(rows) for o, rows in touched.operands if o.role not in _IMPLICIT_ROLES and rows)
    named = frozenset[int]().union(*explicit)
    result = tuple(frozenset(rows) for _, rows in touched.results if rows and rows[0] < SGPR)
    scalars = frozenset(row for row in touched.writes if SGPR <= row < SCC)
    read = frozenset(row for row in touched.reads if SGPR <= row < SCC) - _MASK | named & _MASK
    return {
        "result": result,
        "explicit": explicit + result if ins.encoding == "DPP" else explicit,  # lanes without a source keep the old value
        "scalars written": _one(scalars),
        "scalars read": _one(read),
        "exec written": _one(scalars & _MASK),
        "exec": (_MASK,),
        "vcc": (_VCC,),
        "zero flags": _one(row for o, rows in touched.operands if o.name in ("src_vccz", "src_execz") for row in rows),
        "m0 written": _one(scalars & _M0),
        "m0": (_M0,),
        "hwreg": _one(_hwreg(ins)),
        "lane select": _rows(touched, "src1"),
        "lane source": _rows(touched, "src0"),
        "store data": _rows(touched, "vdata"),
        "source A or B": _factors(touched),
        "source C": _source_c(touched),
    }


def _source_c(touched: Footprint) -> Rows:
    """Source C: the old destination of v_smfmac, whose src2 is the index."""
    if touched.unit is not Unit.MFMA:
        return ()
    return _rows(touched, "vdst" if touched.instruction.mnemonic.startswith("v_smfmac_") else "src2")


def _factors(touched: Footprint) -> Rows:
    if touched.instruction.mnemonic.startswith("v_smfmac_"):
        return _rows(touched, "src0", "src1", "src2")
    return _rows(touched, "src0", "src1")


def _hwreg(ins: Instruction) -> frozenset[int]:
    if not ins.mnemonic.startswith(("s_setreg", "s_getreg")):
        return frozenset()
    number, _, _ = hwreg_fields(next(o.value for o in ins.src if o.kind is Kind.IMM) & 0xFFFF)
    return frozenset({HWREG + number})


# --- classes -------------------------------------------------------------------------------------------------------------

_VMEM = frozenset({Unit.VMEM, Unit.FLAT})
_READS_M0 = ("s_movrels_", "s_movreld_", "s_sendmsg", "s_ttracedata", "ds_gws_")


def _classes(touched: Footprint) -> set[str]:
    unit, ins = touched.unit, touched.instruction
    found: set[str] = set()
    if unit in (Unit.VALU, Unit.TRANS):
        found = _valu_classes(ins, unit)
    elif unit is Unit.MFMA:
        found = _mfma_classes(ins)
    elif unit in _VMEM or unit is Unit.LDS:
        found = _memory_classes(touched)
    elif unit is Unit.SALU or unit is Unit.BRANCH:
        found = {"salu"}
    if ins.mnemonic.startswith(("s_setreg", "s_getreg")):
        found.add(ins.mnemonic[2:8])
    if ins.mnemonic.startswith(_READS_M0) or "_addtid_" in ins.mnemonic or ins.mods.get("gds") or touched.to_lds:
        found.add("reads m0")
    return found


def _valu_classes(ins: Instruction, unit: Unit) -> set[str]:
    name = ins.mnemonic
    found = {"valu", "valu or mfma", "valu or memory"}
    found.add("trans" if unit is Unit.TRANS else "valu not trans")
    found.add("dot" if name.startswith("v_dot") else "valu not dot")
    if ins.encoding == "DPP":
        found.add("dpp")
    if _shifted(ins):
        found.add("shifted")
    if ins.encoding == "VOP3P" and ins.mods.get("op_sel_hi", 0) & 1:
        found.add("packed")
    if name.startswith("v_div_fmas"):
        found.add("div_fmas")
    if name in ("v_fma_f64", "v_fmac_f64"):
        found.add("fma_f64")
    if name in ("v_readlane_b32", "v_writelane_b32"):
        found.add("lane access")
    if name in ("v_readlane_b32", "v_readfirstlane_b32"):
        found.add("reads lane")
    if name in ("v_readlane_b32", "v_writelane_b32", "v_readfirstlane_b32"):
        found.add("any lane")
    return found


def _shifted(ins: Instruction) -> bool:
    if ins.encoding == "SDWA":
        return bool(ins.dst) and ins.dst[0].kind is Kind.VGPR and ins.mods.get("dst_sel", 0) != 6
    return ins.encoding == "VOP3" and bool(ins.mods.get("op_sel", 0) & 8)


def _memory_classes(touched: Footprint) -> set[str]:
    found = {"memory", "valu or memory"}
    if touched.unit in _VMEM:
        found.add("vmem")
    if touched.to_lds:
        found.add("load to lds")
    if touched.unit in _VMEM and touched.store and _wide(touched.instruction):
        found.add("wide store")
    return found


def _wide(ins: Instruction) -> bool:
    """A buffer store with an SGPR offset takes its data in time. source: CDNA3 ISA 4.5."""
    data = _operand(ins, "vdata")
    offset = _operand(ins, "soffset")
    return data is not None and data.dwords > 2 and (offset is None or offset.kind is not Kind.SGPR)


def _operand(ins: Instruction, role: str) -> Operand | None:
    return next((o for o in ins.src if o.role == role), None)


# --- matrix instructions --------------------------------------------------------------------------------------------------


def _mfma_classes(ins: Instruction) -> set[str]:
    found = {"mfma", "valu or mfma", "valu not trans"}
    if "_f64_" in ins.mnemonic:
        found |= {"dgemm", "not xdl"}
        if "_4x4x4" in ins.mnemonic:
            found.add("dgemm 4x4")
    elif ins.arch == "gfx942" and _is_f32(ins.mnemonic):
        found |= {"sgemm", "not xdl"}
    else:
        found.add("xdl")
    return found


def _is_f32(mnemonic: str) -> bool:
    """Are the factors f32 (not xf32)?"""
    return mnemonic.endswith("_f32") and not mnemonic.endswith("_xf32")


def passes(ins: Instruction) -> int:
    """Passes (4 clocks each) of an MFMA; 0 for everything else. source: CDNA3 ISA 7.1 (table of passes)."""
    name = ins.mnemonic
    if not name.startswith(("v_mfma_", "v_smfmac_")):
        return 0
    if "_f64_" in name:
        return 4 if "_4x4x4" in name else 8
    if "_4x4x" in name:
        return 2
    large = "_32x32x" in name
    if ins.arch == "gfx90a" or _is_f32(name) or "_2b_" in name or "_4b_" in name:
        return 16 if large else 8
    return 8 if large else 4
