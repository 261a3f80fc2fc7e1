"""Where the bits are: every encoding of gfx90a and gfx942, as data.

Source: "AMD Instinct MI200" / "MI300" Instruction Set Architecture (CDNA2, CDNA3), chapter "Microcode Formats" (13 in both).
Bit positions count from bit 0 of the first word; the second word is bits 32-63.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

ARCHS = ("gfx90a", "gfx942")


class Code(Enum):
    """How a register field is numbered."""

    SRC9 = "src9"  # 0-255 scalar/constant, 256-511 VGPR
    SSRC = "ssrc"  # 8 bits: the scalar half of SRC9
    SDST = "sdst"  # 7 bits: scalar registers only
    VGPR = "vgpr"  # 8 bits
    RSRC = "rsrc"  # SGPR number / 4
    BASE = "base"  # SGPR number / 2
    NONE = ""  # plain number


@dataclass(frozen=True, slots=True)
class Field:
    """`width` bits from bit `low`; `acc` is the bit that turns a VGPR number into an AGPR number (-1: none)."""

    low: int
    width: int
    code: Code = Code.NONE
    acc: int = -1

    @property
    def mask(self) -> int:
        """The mask to apply after shifting right by `low`."""
        return (1 << self.width) - 1


@dataclass(frozen=True, slots=True)
class Format:
    """One encoding.

    words   32-bit words without literal
    prefix  the fixed leading bits of the first word, as text
    opcode  field of the opcode
    fields  register operands by role, in no order
    dst     roles taken by the destinations of a row, in its order
    src     roles taken by the sources of a row, in its order
    mods    plain numbers that end in Instruction.mods when they are not 0
    """

    name: str
    words: int
    prefix: str
    opcode: Field
    fields: Mapping[str, Field]
    dst: tuple[str, ...] = ()
    src: tuple[str, ...] = ()
    mods: Mapping[str, Field] | None = None


def _number(low: int, width: int = 1) -> Field:
    return Field(low, width)


SSRC0, SSRC1, SDST = Field(0, 8, Code.SSRC), Field(8, 8, Code.SSRC), Field(16, 7, Code.SDST)
SIMM16 = _number(0, 16)
SRC0, VSRC1, VDST = Field(0, 9, Code.SRC9), Field(9, 8, Code.VGPR), Field(17, 8, Code.VGPR)
VOP3_SOURCES = {"src0": Field(32, 9, Code.SRC9), "src1": Field(41, 9, Code.SRC9), "src2": Field(50, 9, Code.SRC9)}
VOP3_DST = Field(0, 8, Code.VGPR)

SDWA_SOURCE_MODS = {
    "src0_sel": _number(48, 3), "src0_sext": _number(51), "src0_neg": _number(52), "src0_abs": _number(53),
    "src1_sel": _number(56, 3), "src1_sext": _number(59), "src1_neg": _number(60), "src1_abs": _number(61),
}  # fmt: skip
SDWA_MODS = {
    "dst_sel": _number(40, 3), "dst_unused": _number(43, 2), "clamp": _number(45), "omod": _number(46, 2), **SDWA_SOURCE_MODS
}  # fmt: skip
DPP_MODS = {
    "dpp_ctrl": _number(40, 9), "bound_ctrl": _number(51), "src0_neg": _number(52), "src0_abs": _number(53),
    "src1_neg": _number(54), "src1_abs": _number(55), "bank_mask": _number(56, 4), "row_mask": _number(60, 4),
}  # fmt: skip
# SDWA sources are VGPRs unless the S bit (55, 63) says scalar; the decoder joins that bit with the number.
SDWA_SRC0, SDWA_SRC1 = Field(32, 8, Code.VGPR), Field(9, 8, Code.VGPR)

_VOP2_ROLES = {"dst": ("vdst",), "src": ("src0", "src1")}
_VMEM_CACHE = {"glc": _number(14), "slc": _number(17)}
_FLAT_FIELDS = {
    "vaddr": Field(32, 8, Code.VGPR), "vdata": Field(40, 8, Code.VGPR, acc=55),
    "saddr": Field(48, 7, Code.SDST), "vdst": Field(56, 8, Code.VGPR, acc=55),
}  # fmt: skip


def _buffer(name: str, prefix: str, opcode: Field, mods: dict[str, Field]) -> Format:
    fields = {
        "vaddr": Field(32, 8, Code.VGPR), "vdata": Field(40, 8, Code.VGPR, acc=55),
        "srsrc": Field(48, 5, Code.RSRC), "soffset": Field(56, 8, Code.SSRC),
    }  # fmt: skip
    common = {"offset": _number(0, 12), "offen": _number(12), "idxen": _number(13), "glc": _number(14)}
    return Format(name, 2, prefix, opcode, fields, ("vdata",), ("vdata",), common | mods)


def _flat(name: str) -> Format:
    mods = {"offset": _number(0, 13), "lds": _number(13), "glc": _number(16), "slc": _number(17), "scc": _number(25)}
    return Format(name, 2, "110111", _number(18, 7), _FLAT_FIELDS, ("vdst",), ("vdata",), mods)


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("SOP2", 1, "10", _number(23, 7), {"src0": SSRC0, "src1": SSRC1, "sdst": SDST}, ("sdst",), ("src0", "src1")),
        Format("SOPK", 1, "1011", _number(23, 5), {"sdst": SDST}, ("sdst",)),
        Format("SOP1", 1, "101111101", _number(8, 8), {"src0": SSRC0, "sdst": SDST}, ("sdst",), ("src0",)),
        Format("SOPC", 1, "101111110", _number(16, 7), {"src0": SSRC0, "src1": SSRC1}, (), ("src0", "src1")),
        Format("SOPP", 1, "101111111", _number(16, 7), {}),
        Format("SMEM", 2, "110000", _number(18, 8), {"sbase": Field(0, 6, Code.BASE), "sdata": Field(6, 7, Code.SDST)},
               ("sdata",), ("sdata",),
               {"soffset_en": _number(14), "nv": _number(15), "glc": _number(16), "imm": _number(17),
                "offset": _number(32, 21), "soffset": _number(57, 7)}),
        Format("VOP2", 1, "0", _number(25, 6), {"src0": SRC0, "src1": VSRC1, "vdst": VDST}, **_VOP2_ROLES),
        Format("VOP1", 1, "0111111", _number(9, 8), {"src0": SRC0, "vdst": VDST, "sdst": Field(17, 7, Code.SDST)},
               ("vdst",), ("src0",)),
        Format("VOPC", 1, "0111110", _number(17, 8), {"src0": SRC0, "src1": VSRC1}, (), ("src0", "src1")),
        Format("VOP3", 2, "110100", _number(16, 10), {**VOP3_SOURCES, "vdst": VOP3_DST, "sdst": Field(0, 7, Code.SDST)},
               ("vdst",), ("src0", "src1", "src2"),
               {"abs": _number(8, 3), "op_sel": _number(11, 4), "clamp": _number(15), "omod": _number(59, 2), "neg": _number(61, 3)}),
        # VOP3B: the bits of abs and op_sel hold a second, scalar destination.
        Format("VOP3B", 2, "110100", _number(16, 10), {**VOP3_SOURCES, "vdst": VOP3_DST, "sdst": Field(8, 7, Code.SDST)},
               ("vdst", "sdst"), ("src0", "src1", "src2"),
               {"clamp": _number(15), "omod": _number(59, 2), "neg": _number(61, 3)}),
        Format("VOP3P", 2, "110100111", _number(16, 7), {**VOP3_SOURCES, "vdst": VOP3_DST}, ("vdst",), ("src0", "src1", "src2"),
               {"neg_hi": _number(8, 3), "op_sel": _number(11, 3), "clamp": _number(15), "neg_lo": _number(61, 3)}),
        Format("MAI", 2, "110100111", _number(16, 7),
               {"vdst": Field(0, 8, Code.VGPR, acc=15), "src0": Field(32, 9, Code.SRC9, acc=59),
                "src1": Field(41, 9, Code.SRC9, acc=60), "src2": Field(50, 9, Code.SRC9, acc=15)},
               ("vdst",), ("src0", "src1", "src2"), {"cbsz": _number(8, 3), "abid": _number(11, 4), "blgp": _number(61, 3)}),
        # v_accvgpr_read/write: which side is an AGPR is the opcode's affair.
        Format("ACCVGPR", 2, "", _number(16, 7), {"vdst": VOP3_DST, "src0": VOP3_SOURCES["src0"]}, ("vdst",), ("src0",)),
        Format("VOP2_SDWA", 2, "", _number(25, 6), {"src0": SDWA_SRC0, "src1": SDWA_SRC1, "vdst": VDST}, mods=SDWA_MODS, **_VOP2_ROLES),
        Format("VOP1_SDWA", 2, "", _number(9, 8), {"src0": SDWA_SRC0, "vdst": VDST}, ("vdst",), ("src0",), SDWA_MODS),
        Format("VOPC_SDWA", 2, "", _number(17, 8), {"src0": SDWA_SRC0, "src1": SDWA_SRC1, "sdst": Field(40, 7, Code.SDST)},
               ("sdst",), ("src0", "src1"), SDWA_SOURCE_MODS),
        Format("VOP2_DPP", 2, "", _number(25, 6), {"src0": SDWA_SRC0, "src1": SDWA_SRC1, "vdst": VDST}, mods=DPP_MODS, **_VOP2_ROLES),
        Format("VOP1_DPP", 2, "", _number(9, 8), {"src0": SDWA_SRC0, "vdst": VDST}, ("vdst",), ("src0",), DPP_MODS),
        Format("DS", 2, "110110", _number(17, 8),
               {"addr": Field(32, 8, Code.VGPR), "data0": Field(40, 8, Code.VGPR, acc=25),
                "data1": Field(48, 8, Code.VGPR, acc=25), "vdst": Field(56, 8, Code.VGPR, acc=25)},
               ("vdst",), ("data0", "data1"), {"offset0": _number(0, 8), "offset1": _number(8, 8), "gds": _number(16)}),
        _buffer("MUBUF", "111000", _number(18, 7), {"scc": _number(15), "lds": _number(16), "slc": _number(17)}),
        _buffer("MTBUF", "111010", _number(15, 4), {"format": _number(19, 7), "scc": _number(53), "slc": _number(54)}),
        _flat("FLAT"), _flat("SCRATCH"), _flat("GLOBAL"),
    )
}  # fmt: skip

FLAT_SEGMENT = _number(14, 2)  # of the FLAT prefix: which of the three
FLAT_SEGMENTS = ("FLAT", "SCRATCH", "GLOBAL")
SDWA_MARK, DPP_MARK, LITERAL = 249, 250, 255  # src0 values that announce a second word
SDWA_SCALAR_BIT = {"src0": 55, "src1": 63}
VOPC_SDWA_HAS_SDST = 47
# Rows of these formats are also reachable through VOP3, at opcode + base.
PROMOTED = {"VOPC": 0x000, "VOP2": 0x100, "VOP1": 0x140}
