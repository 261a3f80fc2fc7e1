"""Every way to encode a row: a Form for the row itself and, for VOP1/2/C, its e64, SDWA and DPP forms.

Built once an arch from the tables; `select` finds the form of a first word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from petitgen.isa import readers, text
from petitgen.isa.formats import (
    DPP_MARK,
    FLAT_SEGMENT,
    FLAT_SEGMENTS,
    FORMATS,
    LITERAL,
    PROMOTED,
    SDWA_MARK,
    Format,
)
from petitgen.isa.readers import Mods, Slot
from petitgen.isa.tables import ADDRESS, IMMEDIATE, IMPLICIT, Row, table

ONE_FORM = {"noe64", "nosdwa", "nodpp"}
E32 = frozenset({"VOP1", "VOP2", "VOPC"})
CACHE_NAMES = {"glc": "sc0", "slc": "nt", "scc": "sc1"}
RENAMED = frozenset({"MUBUF", "MTBUF", "FLAT", "GLOBAL", "SCRATCH"})
FLOATS = frozenset({"f16", "f32", "f64"})
SOURCE_BITS = ("neg", "abs", "sext")  # src0_neg, src1_neg -> bits of neg


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding of one row.

    format          where its bits are
    name            mnemonic as the assembler writes it (_e32, _e64, _sdwa, _dpp where it does)
    encoding        Instruction.encoding
    slots           destinations; the ones written only by a returning atomic are in `returned`
    fields          (name, shift, mask) of the modifiers
    literal_fields  shifts of the 8- or 9-bit source fields that may announce a literal
    """

    row: Row
    format: Format
    name: str
    encoding: str
    slots: tuple[Slot, ...]
    returned: tuple[Slot, ...]
    src: tuple[Slot, ...]
    fields: tuple[tuple[str, int, int], ...]
    literal_fields: tuple[tuple[int, int], ...]
    always_literal: bool
    text_modifiers: text.Modifiers

    def size(self, low: int) -> int:
        """Bytes of the instruction whose first word is `low`."""
        if self.format.words == 2 or self.always_literal:
            return 8
        return 8 if any(low >> shift & mask == LITERAL for shift, mask in self.literal_fields) else 4

    def dst(self, mods: Mods) -> tuple[Slot, ...]:
        """Destinations, given the modifiers."""
        if self.returned:
            return self.returned if mods.get("glc") or mods.get("sc0") else ()
        return () if mods.get("lds") and "lds" in self.row.flags else self.slots

    def modifiers(self, raw: int, arch: str) -> Mods:
        """Instruction.mods."""
        mods = {name: value for name, shift, mask in self.fields if (value := raw >> shift & mask)}
        name = self.format.name
        if name == "VOP3P":
            if high := raw >> 59 & 3 | (raw >> 14 & 1) << 2:
                mods["op_sel_hi"] = high
        elif name.endswith(("_SDWA", "_DPP")):
            for kind in SOURCE_BITS:
                if bits := mods.pop(f"src0_{kind}", 0) | mods.pop(f"src1_{kind}", 0) << 1:
                    mods[kind] = bits
        elif name == "DS" and "two_offsets" not in self.row.flags:
            mods.pop("offset0", None), mods.pop("offset1", None)
            if raw & 0xFFFF:
                mods["offset"] = raw & 0xFFFF
        elif name == "SMEM":
            mods = {key: mods[key] for key in ("glc",) if key in mods}
        elif name in RENAMED:
            _memory_modifiers(mods, name, arch)
        if (
            name != "VOP3P"
            and any(word.startswith("pk_") for word in self.row.src)
            and self.format.name[:3] == "VOP"
        ):
            mods["op_sel_hi"] = 7  # not in the encoding: the high halves are the high halves
        return mods


def _memory_modifiers(mods: Mods, name: str, arch: str) -> None:
    if arch == "gfx942":
        for old, new in CACHE_NAMES.items():
            if old in mods:
                mods[new] = mods.pop(old)
    if name in ("GLOBAL", "SCRATCH") and mods.get("offset", 0) >> 12:
        mods["offset"] -= 1 << 13
    if name in ("FLAT", "GLOBAL", "SCRATCH") and arch == "gfx942":
        mods.pop(
            "lds", None
        )  # in SCRATCH this bit says that vaddr is used; the others have instructions of their own


def _form(row: Row, format_: Format, name: str, encoding: str, arch: str) -> Form:
    slots, returned = _destinations(row, format_)
    dst = (*slots, *returned)
    src = _sources(row, format_, dst[0] if dst else None, arch)
    if row.format in RENAMED and returned and "vdata" in format_.src:
        returned = tuple(Slot(slot.read, shown=format_.name not in ("MUBUF", "MTBUF")) for slot in returned)
    if row.format == "SMEM" and returned:
        returned = tuple(Slot(slot.read, shown=False) for slot in returned)
    literal_fields = tuple(
        (field.low, field.mask)
        for role, field in format_.fields.items()
        if format_.words == 1
        and role.startswith("src")
        and field.code.value in ("src9", "ssrc")
        and _uses(row, role)
    )
    fields = tuple((key, field.low, field.mask) for key, field in format_.mods.items())
    return Form(
        row, format_, name, encoding, slots, returned, src, fields, literal_fields, "literal" in row.src,
        text.MODIFIERS.get(format_.name, text.no_modifiers),
    )  # fmt: skip


def _uses(row: Row, role: str) -> bool:
    """Does the row read the source field `role`?  (v_nop has none; s_set_gpr_idx_on keeps a number in
    src1.)"""
    plain = [word for word in row.src if word not in IMPLICIT | ADDRESS | IMMEDIATE]
    return int(role[-1]) < len(plain)


def _destinations(row: Row, format_: Format) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    roles = iter(format_.dst)
    slots: list[Slot] = []
    returned: list[Slot] = []
    for word in row.dst:
        role, _, type_ = word.removesuffix("?").rpartition(":")
        if format_.name == "VOP3B" and word in ("vcc", "mask"):
            slot = readers.register("sdst", "mask", format_)
        elif word == "mask":
            slot = _mask(format_)
        elif word in IMPLICIT:
            slot = readers.implicit(word, format_, slots[0] if slots else None)
        elif role == "acc":
            slot = readers.accumulator(next(roles), type_, format_)
        else:
            slot = readers.register(role or next(roles), type_, format_)
            slot = Slot(slot.read, shown=role != "src0")
        (returned if word.endswith("?") else slots).append(slot)
    return tuple(slots), tuple(returned)


def _mask(format_: Format) -> Slot:
    """The lane mask a comparison writes."""
    if format_.name == "VOPC_SDWA":
        return Slot(readers.sdwa_compare_mask)
    if format_.name == "VOPC":
        return Slot(readers.implicit("vcc", format_, None).read)
    return readers.register("sdst", "mask", format_)


def _sources(row: Row, format_: Format, dst: Slot | None, arch: str) -> tuple[Slot, ...]:
    roles = iter(format_.src)
    slots = []
    for word in row.src:
        role, _, type_ = word.rpartition(":")
        if word == "vcc" and format_.name in ("VOP3", "VOP3B") and row.format == "VOP2":
            slots.append(readers.register("src2", "mask", format_))
        elif word in IMPLICIT:
            slots.append(readers.implicit(word, format_, dst))
        elif word in IMMEDIATE:
            slots.append(readers.immediate(word, row, arch))
        elif word in ADDRESS:
            slots.append(readers.address(word, row, format_, arch))
        elif row.format == "MAI" and "dst" in row.src and word == "b32":
            slots.append(readers.sparse_index(format_))
        elif role == "acc":
            slots.append(readers.accumulator(next(roles), type_, format_))
        else:
            float_mods = type_ in FLOATS or "floatmods" in row.flags
            slots.append(readers.register(role or next(roles), type_, format_, float_mods))
    return tuple(slots)


def _forms(row: Row, arch: str) -> Iterator[tuple[tuple[str, int], Form]]:
    """Every form of a row with its (format, opcode)."""
    format_ = FORMATS[row.format]
    name = row.mnemonic
    if row.format not in E32:
        moves = "acc:b32" in (*row.dst, *row.src)
        second = row.format == "VOP3" and "mask" in row.dst
        layout = (
            FORMATS["VOP3B"] if second else FORMATS["ACCVGPR"] if row.format == "MAI" and moves else format_
        )
        yield row.key, _form(row, layout, name, row.format, arch)
        return
    # The assembler leaves the suffix out where there is only one form, or no operand.
    suffixed = bool(row.dst) and (not row.flags >= ONE_FORM or name.startswith("v_pk_"))
    e32, e64, sdwa, dpp = ("_e32", "_e64", "_sdwa", "_dpp") if suffixed else ("", "", "", "")
    yield row.key, _form(row, format_, name + e32, row.format, arch)
    if "noe64" not in row.flags:
        layout = FORMATS["VOP3B" if "vcc" in row.dst else "VOP3"]
        yield ("VOP3", PROMOTED[row.format] + row.opcode), _form(row, layout, name + e64, "VOP3", arch)
    if "nosdwa" not in row.flags:
        layout = FORMATS[f"{row.format}_SDWA"]
        yield (layout.name, row.opcode), _form(row, layout, name + sdwa, "SDWA", arch)
    if "nodpp" not in row.flags and row.format != "VOPC":
        layout = FORMATS[f"{row.format}_DPP"]
        yield (layout.name, row.opcode), _form(row, layout, name + dpp, "DPP", arch)


Forms = dict[tuple[str, int], Form]


@cache
def form_table(arch: str) -> Forms:
    """The forms of an arch by (format, opcode). MAI forms are under VOP3P."""
    found = {}
    for row in table(arch).values():
        for (format_, opcode), form in _forms(row, arch):
            found["VOP3P" if format_ == "MAI" else format_, opcode] = form
    return found


@cache
def _format_of() -> tuple[Format | None, ...]:
    """Format by the top nine bits of the first word: the one with the longest fitting prefix."""
    names = [f for f in FORMATS.values() if f.prefix]
    names.sort(key=lambda f: len(f.prefix), reverse=True)
    tops = (f"{top:09b}" for top in range(512))
    return tuple(next((f for f in names if bits.startswith(f.prefix)), None) for bits in tops)


def select(forms: Forms, low: int) -> Form | None:
    """The form of the instruction whose first word is `low`, or None."""
    format_ = _format_of()[low >> 23]
    if format_ is None:
        return None
    name = format_.name
    if name in E32:
        mark = low & 511
        if mark == SDWA_MARK:
            name += "_SDWA"
        elif mark == DPP_MARK:
            name += "_DPP"
    elif name == "FLAT":
        segment = low >> FLAT_SEGMENT.low & FLAT_SEGMENT.mask
        if segment >= len(FLAT_SEGMENTS):
            return None
        name = FLAT_SEGMENTS[segment]
    return forms.get((name, low >> format_.opcode.low & format_.opcode.mask))
