"""Where the bits are: every encoding of gfx90a and gfx942, as data.

Source: "AMD Instinct MI200" and "AMD Instinct MI300" Instruction Set Architecture (CDNA2, CDNA3), chapter
"Microcode Formats".
Bit positions count from bit 0 of the first word; the second word is bits 32-63.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    """`width` bits from bit `low`. `acc`: the bit that makes a VGPR number an AGPR number (-1: none)."""

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
    dst: tuple[str, ...]
    src: tuple[str, ...]
    mods: Mapping[str, Field]


# One paragraph an encoding:  name  words  leading bits of the first word ("-": found otherwise)  opcode
# Fields are name=lowest bit[+width][:code][/bit that says AGPR]; a width left out is 1.
LAYOUTS = """
SOP2 1 10 op=23+7
    registers sdst=16+7:sdst src0=0+8:ssrc src1=8+8:ssrc
    dst sdst
    src src0 src1
SOPK 1 1011 op=23+5
    registers sdst=16+7:sdst
    dst sdst
SOP1 1 101111101 op=8+8
    registers sdst=16+7:sdst src0=0+8:ssrc
    dst sdst
    src src0
SOPC 1 101111110 op=16+7
    registers src0=0+8:ssrc src1=8+8:ssrc
    src src0 src1
SOPP 1 101111111 op=16+7

SMEM 2 110000 op=18+8
    registers sbase=0+6:base sdata=6+7:sdst
    dst sdata
    src sdata
    mods soffset_en=14 nv=15 glc=16 imm=17 offset=32+21 soffset=57+7

VOP2 1 0 op=25+6
    registers vdst=17+8:vgpr src0=0+9:src9 src1=9+8:vgpr
    dst vdst
    src src0 src1
VOP1 1 0111111 op=9+8
    registers vdst=17+8:vgpr sdst=17+7:sdst src0=0+9:src9
    dst vdst
    src src0
VOPC 1 0111110 op=17+8
    registers src0=0+9:src9 src1=9+8:vgpr
    src src0 src1
VOP3 2 110100 op=16+10
    registers vdst=0+8:vgpr sdst=0+7:sdst src0=32+9:src9 src1=41+9:src9 src2=50+9:src9
    dst vdst
    src src0 src1 src2
    mods abs=8+3 op_sel=11+4 clamp=15 omod=59+2 neg=61+3
VOP3B 2 - op=16+10
    registers vdst=0+8:vgpr sdst=8+7:sdst src0=32+9:src9 src1=41+9:src9 src2=50+9:src9
    dst vdst sdst
    src src0 src1 src2
    mods clamp=15 omod=59+2 neg=61+3

VOP3P 2 110100111 op=16+7
    registers vdst=0+8:vgpr src0=32+9:src9 src1=41+9:src9 src2=50+9:src9
    dst vdst
    src src0 src1 src2
    mods neg_hi=8+3 op_sel=11+3 clamp=15 neg_lo=61+3
MAI 2 - op=16+7
    registers vdst=0+8:vgpr/15 src0=32+9:src9/59 src1=41+9:src9/60 src2=50+9:src9/15
    dst vdst
    src src0 src1 src2
    mods cbsz=8+3 abid=11+4 blgp=61+3
ACCVGPR 2 - op=16+7
    registers vdst=0+8:vgpr src0=32+9:src9
    dst vdst
    src src0

VOP2_SDWA 2 - op=25+6
    registers vdst=17+8:vgpr src0=32+8:vgpr src1=9+8:vgpr
    dst vdst
    src src0 src1
    mods dst_sel=40+3 dst_unused=43+2 clamp=45 omod=46+2
    mods src0_sel=48+3 src0_sext=51 src0_neg=52 src0_abs=53
    mods src1_sel=56+3 src1_sext=59 src1_neg=60 src1_abs=61
VOP1_SDWA 2 - op=9+8
    registers vdst=17+8:vgpr src0=32+8:vgpr
    dst vdst
    src src0
    mods dst_sel=40+3 dst_unused=43+2 clamp=45 omod=46+2
    mods src0_sel=48+3 src0_sext=51 src0_neg=52 src0_abs=53
VOPC_SDWA 2 - op=17+8
    registers sdst=40+7:sdst src0=32+8:vgpr src1=9+8:vgpr
    dst sdst
    src src0 src1
    mods src0_sel=48+3 src0_sext=51 src0_neg=52 src0_abs=53
    mods src1_sel=56+3 src1_sext=59 src1_neg=60 src1_abs=61
VOP2_DPP 2 - op=25+6
    registers vdst=17+8:vgpr src0=32+8:vgpr src1=9+8:vgpr
    dst vdst
    src src0 src1
    mods dpp_ctrl=40+9 bound_ctrl=51 src0_neg=52 src0_abs=53 src1_neg=54 src1_abs=55
    mods bank_mask=56+4 row_mask=60+4
VOP1_DPP 2 - op=9+8
    registers vdst=17+8:vgpr src0=32+8:vgpr
    dst vdst
    src src0
    mods dpp_ctrl=40+9 bound_ctrl=51 src0_neg=52 src0_abs=53 bank_mask=56+4 row_mask=60+4

DS 2 110110 op=17+8
    registers addr=32+8:vgpr data0=40+8:vgpr/25 data1=48+8:vgpr/25 vdst=56+8:vgpr/25
    dst vdst
    src data0 data1
    mods offset0=0+8 offset1=8+8 gds=16
MUBUF 2 111000 op=18+7
    registers vaddr=32+8:vgpr vdata=40+8:vgpr/55 srsrc=48+5:rsrc soffset=56+8:ssrc
    dst vdata
    src vdata
    mods offset=0+12 offen=12 idxen=13 glc=14 scc=15 lds=16 slc=17
MTBUF 2 111010 op=15+4
    registers vaddr=32+8:vgpr vdata=40+8:vgpr/55 srsrc=48+5:rsrc soffset=56+8:ssrc
    dst vdata
    src vdata
    mods offset=0+12 offen=12 idxen=13 glc=14 format=19+7 scc=53 slc=54
FLAT 2 110111 op=18+7
    registers vaddr=32+8:vgpr vdata=40+8:vgpr/55 saddr=48+7:sdst vdst=56+8:vgpr/55
    dst vdst
    src vdata
    mods offset=0+13 lds=13 glc=16 slc=17 scc=25
"""
# VOP3B: the bits of abs and op_sel hold a second, scalar destination.
# ACCVGPR: v_accvgpr_read and _write, whose opcode says which side is an AGPR.
# SDWA sources are VGPRs unless the S bit says scalar: the decoder joins it with the number.


def _field(word: str) -> tuple[str, Field]:
    name, _, rest = word.partition("=")
    rest, _, acc = rest.partition("/")
    bits, _, code = rest.partition(":")
    low, _, width = bits.partition("+")
    return name, Field(int(low), int(width or 1), Code(code), int(acc or -1))


def _formats(text: str) -> dict[str, Format]:
    found: dict[str, Format] = {}
    for paragraph in re.split(r"\n+(?=\S)", text.strip()):
        first, *rest = paragraph.splitlines()
        name, words, prefix, opcode = first.split()
        parts: dict[str, list[str]] = {"registers": [], "dst": [], "src": [], "mods": []}
        for line in rest:
            key, *items = line.split()
            parts[key] += items
        fields, mods = (dict(map(_field, parts[key])) for key in ("registers", "mods"))
        found[name] = Format(
            name=name,
            words=int(words),
            prefix=prefix.strip("-"),
            opcode=_field(opcode)[1],
            fields=fields,
            dst=tuple(parts["dst"]),
            src=tuple(parts["src"]),
            mods=mods,
        )
    return found


FORMATS = _formats(LAYOUTS)
FLAT_SEGMENTS = ("FLAT", "SCRATCH", "GLOBAL")  # one layout; two bits say which
FORMATS |= {name: replace(FORMATS["FLAT"], name=name, prefix="") for name in FLAT_SEGMENTS[1:]}

FLAT_SEGMENT = Field(14, 2)
SDWA_MARK, DPP_MARK, LITERAL = 249, 250, 255  # src0 values that announce a second word
SDWA_SCALAR_BIT = {"src0": 55, "src1": 63}
VOPC_SDWA_HAS_SDST = 47
# Rows of these formats are also reachable through VOP3, at opcode + base.
PROMOTED = {"VOPC": 0x000, "VOP2": 0x100, "VOP1": 0x140}
