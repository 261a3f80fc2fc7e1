"""From one word of a table row to a function that reads that operand out of an encoding.

A reader takes (raw, mods): raw is the whole instruction as one little-endian integer, mods its modifier
fields. It returns an Operand, or None if the field names no register or constant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from petitgen.isa import messages
from petitgen.isa.formats import LITERAL, SDWA_SCALAR_BIT, VOPC_SDWA_HAS_SDST, Code, Field, Format
from petitgen.isa.model import Kind, Operand
from petitgen.isa.operands import EXEC, M0, OFF, SCC, VCC, literal_operand, scalar_name, source, vector
from petitgen.isa.tables import IMMEDIATE, Row

Mods = dict[str, int]
Reader = Callable[[int, Mods], Operand | None]


@dataclass(frozen=True, slots=True)
class Slot:
    """One operand of an instruction form: how to read it, and whether the assembler text shows it."""

    read: Reader
    shown: bool = True


SCALAR_ALU = frozenset({"SOP1", "SOP2", "SOPC", "SOPK", "SOPP"})
WHOLE_LITERAL = 32  # where the literal starts


def implicit(word: str, format_: Format, dst: Slot | None) -> Slot:
    """Slots of scc, vcc, exec, m0 and dst."""
    mask = "b64" if format_.name in SCALAR_ALU else "mask"
    if word == "scc":
        return Slot(lambda raw, mods: SCC, shown=False)
    if word == "dst":
        assert dst is not None, f"{format_.name}: dst without a destination"
        return Slot(dst.read, shown=False)
    index, dwords, type_ = {"vcc": (VCC, 2, mask), "exec": (EXEC, 2, mask), "m0": (M0, 1, "b32")}[word]
    operand = Operand(word, Kind.SGPR, type_, index, dwords, name=scalar_name(index, dwords))
    return Slot(lambda raw, mods: operand, shown=word == "vcc" and format_.name.startswith("VOP2"))


def sparse_index(format_: Format) -> Slot:
    """Slot of the index operand of v_smfmac_*: a VGPR even where the accumulator is in AGPRs."""
    low = format_.fields["src2"].low
    return Slot(lambda raw, mods: source("src2", "b32", raw >> low & 511))


def register(role: str, type_: str, format_: Format, float_mods: bool = False) -> Slot:
    """Slot of a register field. `float_mods`: the neg and abs bits apply to it."""
    field = format_.fields[role]
    low, mask, shift = field.low, field.mask, {Code.RSRC: 2, Code.BASE: 1}.get(field.code, 0)
    if field.code in (Code.SDST, Code.RSRC, Code.BASE):
        return Slot(lambda raw, mods: source(role, type_, (raw >> low & mask) << shift))
    if field.code is Code.VGPR:
        return Slot(_vector_reader(role, type_, field, format_, float_mods))
    if field.code is Code.SSRC:
        return Slot(_with_literal(role, type_, low, lambda raw, mods: source(role, type_, raw >> low & 255)))
    return Slot(_source_reader(role, type_, field, format_, float_mods))


def _with_literal(role: str, type_: str, low: int, plain: Reader) -> Reader:
    def read(raw: int, mods: Mods) -> Operand | None:
        if raw >> low & 255 == LITERAL:
            return literal_operand(role, type_, raw >> WHOLE_LITERAL)
        return plain(raw, mods)

    return read


def _source_reader(role: str, type_: str, field: Field, format_: Format, float_mods: bool) -> Reader:
    low, acc = field.low, field.acc
    bit = int(role[-1])
    if format_.name == "MAI":
        return lambda raw, mods: source(role, type_, raw >> low & 511, acc=bool(raw >> acc & 1))
    if type_ == "mix":
        return lambda raw, mods: _mix(role, raw >> low & 511, mods.get("op_sel_hi", 0) >> bit & 1)
    if format_.words == 2 and not float_mods:
        return lambda raw, mods: source(role, type_, raw >> low & 511)
    if format_.words == 2:

        def read(raw: int, mods: Mods) -> Operand | None:
            neg, abs_ = mods.get("neg", 0) >> bit & 1, mods.get("abs", 0) >> bit & 1
            return source(role, type_, raw >> low & 511, bool(neg), bool(abs_))

        return read

    def short(raw: int, mods: Mods) -> Operand | None:
        code = raw >> low & 511
        return (
            literal_operand(role, type_, raw >> WHOLE_LITERAL)
            if code == LITERAL
            else source(role, type_, code)
        )

    return short


def _mix(role: str, code: int, half: int) -> Operand | None:
    """A source of v_fma_mix*: raw bits, with inline constants in the format that op_sel_hi asks for."""
    operand = source(role, "f16" if half else "f32", code)
    return replace(operand, type="b32") if operand else None


def _vector_reader(role: str, type_: str, field: Field, format_: Format, float_mods: bool) -> Reader:
    low, acc = field.low, field.acc
    if acc >= 0:
        return lambda raw, mods: vector(role, type_, raw >> low & 255, acc=bool(raw >> acc & 1))
    second_word = format_.name.endswith(("_SDWA", "_DPP"))
    if not second_word or not role.startswith("src"):
        return lambda raw, mods: vector(role, type_, raw >> low & 255)
    bit = int(role[-1])
    scalar = SDWA_SCALAR_BIT[role] if format_.name.endswith("_SDWA") else None

    def read(raw: int, mods: Mods) -> Operand | None:
        code = raw >> low & 255
        if scalar is None or not raw >> scalar & 1:
            code += 256
        if not float_mods:
            return source(role, type_, code)
        neg, abs_ = mods.get("neg", 0) >> bit & 1, mods.get("abs", 0) >> bit & 1
        return source(role, type_, code, bool(neg), bool(abs_))

    return read


def accumulator(role: str, type_: str, format_: Format) -> Slot:
    """Slot of a field that always names an AGPR (acc:)."""
    low, mask = format_.fields[role].low, format_.fields[role].mask
    bias = 256 if mask == 255 else 0

    def read(raw: int, mods: Mods) -> Operand | None:
        code = (raw >> low & mask) + bias
        return source(role, type_, code, acc=True) if code >= 256 else None

    return Slot(read)


def sdwa_compare_mask(raw: int, mods: Mods) -> Operand | None:
    """VOPC SDWA: vcc, or the SGPR pair that the second word names."""
    code = raw >> 40 & 127 if raw >> VOPC_SDWA_HAS_SDST & 1 else VCC
    return source("sdst", "mask", code)


def immediate(word: str, row: Row, arch: str) -> Slot:
    """Slot of an immediate of SOPP, SOPK, SOPC or SMEM, or of a 32-bit literal."""
    if word == "literal":
        type_ = row.dst[0] if row.dst else "b32"
        if row.format == "SOPK":
            return Slot(lambda raw, mods: literal_operand("literal", "b32", raw >> WHOLE_LITERAL))
        return Slot(
            lambda raw, mods: literal_operand(
                "literal", type_, raw >> WHOLE_LITERAL, hex(raw >> WHOLE_LITERAL)
            )
        )
    if word == "probe":
        return Slot(lambda raw, mods: number(word, raw >> 6 & 127, short_number(raw >> 6 & 127)))
    if row.format == "SOPC":  # s_set_gpr_idx_on keeps its modes in the src1 field
        return Slot(lambda raw, mods: number(word, raw >> 8 & 255, messages.gpr_index_text(raw >> 8 & 255)))
    spell = _SPELLING[word]
    signed = word in ("simm", "branch")
    optional = word == "uimm?"
    hexadecimal = row.format == "SOPK" and word in ("simm", "uimm")

    def read(raw: int, mods: Mods) -> Operand:
        value = raw & 0xFFFF
        if word == "waitcnt":
            mods.update(zip(messages.WAIT_FIELDS, messages.wait_counts(value), strict=True))
        name = hex(value) if hexadecimal else "" if optional and not value else spell(value, arch)
        return number("simm16", value - 0x10000 if signed and value >> 15 else value, name)

    return Slot(read)


_SPELLING: dict[str, Callable[[int, str], str]] = {
    "simm": lambda value, arch: str(value),
    "uimm": lambda value, arch: short_number(value),
    "uimm?": lambda value, arch: str(value),
    "branch": lambda value, arch: str(value),
    "waitcnt": lambda value, arch: messages.waitcnt_text(value),
    "hwreg": messages.hwreg_text,
    "sendmsg": lambda value, arch: messages.sendmsg_text(value),
    "gpridx": lambda value, arch: messages.gpr_index_text(value),
}
assert {*_SPELLING, "probe", "literal"} == IMMEDIATE


def short_number(value: int) -> str:
    """Decimal up to 64, as an inline constant would be; else hexadecimal."""
    return str(value) if value <= 64 else hex(value)


def number(role: str, value: int, name: str) -> Operand:
    """An immediate field."""
    return Operand(role, Kind.IMM, "b32", dwords=0, value=value, name=name)


NO_SADDR = 0x7F
OFF_VADDR, OFF_SADDR = replace(OFF, role="vaddr"), replace(OFF, role="saddr")


def address(word: str, row: Row, format_: Format, arch: str) -> Slot:
    """Slot of addr, saddr, rsrc, soff or gws of a memory instruction."""
    name = format_.name
    if word == "gws":
        return Slot(lambda raw, mods: vector("data0", "b32", raw >> 32 & 255))
    if word == "rsrc":
        return register("sbase" if name == "SMEM" else "srsrc", "b128", format_)
    if name == "SMEM":
        return Slot(_smem_offset) if word == "soff" else register("sbase", "u64", format_)
    if word == "soff":
        return Slot(lambda raw, mods: source("soffset", "u32", raw >> 56 & 255))
    if name == "DS":
        return Slot(lambda raw, mods: vector("addr", "u32", raw >> 32 & 255))
    if name in ("MUBUF", "MTBUF"):
        return Slot(_buffer_address)
    if name == "FLAT":
        return Slot(lambda raw, mods: vector("vaddr", "u64", raw >> 32 & 255))
    if word == "saddr":
        wide = "u64" if name == "GLOBAL" else "u32"
        return Slot(
            lambda raw, mods: (
                OFF_SADDR if raw >> 48 & 127 == NO_SADDR else source("saddr", wide, raw >> 48 & 127)
            )
        )
    return Slot(_global_address if name == "GLOBAL" else _scratch_address(arch))


def _buffer_address(raw: int, mods: Mods) -> Operand:
    both = mods.get("offen", 0) + mods.get("idxen", 0)
    return vector("vaddr", ("b32", "b64")[both - 1], raw >> 32 & 255) if both else OFF_VADDR


def _global_address(raw: int, mods: Mods) -> Operand:
    return vector("vaddr", "u64" if raw >> 48 & 127 == NO_SADDR else "u32", raw >> 32 & 255)


def _scratch_address(arch: str) -> Reader:
    """gfx90a: a VGPR or an SGPR. gfx942: bit 13 says whether there is a VGPR; there may be both, or none."""

    def read(raw: int, mods: Mods) -> Operand:
        used = raw >> 13 & 1 if arch == "gfx942" else raw >> 48 & 127 == NO_SADDR
        return vector("vaddr", "u32", raw >> 32 & 255) if used else OFF_VADDR

    return read


def _smem_offset(raw: int, mods: Mods) -> Operand | None:
    """The offset of a scalar memory access: an SGPR or a signed 21-bit immediate.

    Where there are both, the immediate goes to mods.
    """
    immediate_, register_ = raw >> 17 & 1, raw >> 14 & 1
    offset = raw >> 32 & 0x1FFFFF
    signed = offset - (offset >> 20 << 21)
    if immediate_ and not register_:
        text = f"{signed:#x}" if signed >= 0 else f"-{-signed:#x}"
        return number("offset", signed, text)
    if immediate_:
        mods["offset"] = signed
    return source("soffset", "u32", raw >> 57 & 127 if register_ else offset & 127)
