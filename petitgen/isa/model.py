"""What a decoded instruction is. Its meaning is the emulator's affair (petitgen.emulator.ops)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """Where an operand lives."""

    VGPR = "v"
    AGPR = "a"
    SGPR = "s"  # every scalar register with an encoding of its own: s0-s101, flat_scratch, xnack_mask, vcc, ttmp, m0, exec
    STATUS = "status"  # scc, vccz, execz, shared_base, ...: read through `name`
    CONST = "const"  # inline constant or literal: `value` holds the bit pattern
    IMM = "imm"  # an immediate field (simm16, branch distance, offset): `value` is the integer
    OFF = "off"  # "off": no register


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand.

    role    field it comes from: vdst, sdst, src0, src1, src2, vaddr, vdata, vdst, saddr, sbase, srsrc, soffset, simm16 ...
    kind    see Kind
    type    element type from the table (f32, u32, i32, b32, f16, b64, f64, pk_f16, pk_f32, mask, b128, ...)
    index   first register number. SGPR: the encoding 0-127, so vcc is 106, m0 124, exec 126
    dwords  number of consecutive 32-bit registers
    value   CONST: bit pattern at the operand's own width (an inline 1.0 is 0x3c00 for f16, 0x3f800000 for f32, 0x3ff0... for f64);
            IMM: the signed or unsigned integer
    name    assembler text without modifiers, e.g. "v[0:3]", "vcc", "0x1234", "off", "src_shared_base"
    neg, abs  source modifiers of VOP3/SDWA/DPP (VOP3P keeps neg/neg_hi in Instruction.mods)
    """

    role: str
    kind: Kind
    type: str
    index: int = 0
    dwords: int = 1
    value: int = 0
    name: str = ""
    neg: bool = False
    abs: bool = False


@dataclass(frozen=True, slots=True)
class Instruction:
    """One decoded instruction.

    pc        byte offset inside the code (the caller's base added)
    size      bytes: 4, 8 (12 and more never occur on gfx9)
    mnemonic  without encoding suffix: v_add_f32, s_waitcnt, buffer_load_dwordx4
    encoding  VOP1 VOP2 VOPC VOP3 VOP3P MAI VINTRP SDWA DPP SOP1 SOP2 SOPC SOPK SOPP SMEM MUBUF MTBUF DS FLAT GLOBAL SCRATCH
    dst, src  in the order of the table row; implicit operands (scc, vcc of VOP2 carries, exec of v_cmpx) are listed too
    mods      every modifier field with its value: clamp, omod, op_sel, op_sel_hi, neg_lo, neg_hi, cbsz, abid, blgp, dst_sel, dst_unused,
              src0_sel, src1_sel, dpp_ctrl, row_mask, bank_mask, bound_ctrl, offset, offset0, offset1, offen, idxen, glc, slc, sc0, sc1, nt,
              lds, gds, dlc ... absent means 0
    raw       the little-endian words
    """

    pc: int
    size: int
    arch: str
    mnemonic: str
    encoding: str
    dst: tuple[Operand, ...]
    src: tuple[Operand, ...]
    mods: Mapping[str, int] = field(default_factory=dict)
    raw: tuple[int, ...] = ()
    text: str = ""  # what llvm-objdump prints, without trailing comment
