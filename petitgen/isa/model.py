"""What a decoded instruction is. Its meaning is the emulator's affair (petitgen.emulator.ops)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """Where an operand lives."""

    VGPR = "v"
    AGPR = "a"
    SGPR = "s"  # scalar registers: s0-s101, flat_scratch, xnack_mask, vcc, ttmp, m0, exec
    STATUS = "status"  # scc, vccz, execz, shared_base, ...: read through `name`
    CONST = "const"  # inline constant or literal: `value` holds the bit pattern
    IMM = "imm"  # an immediate field (simm16, branch distance, offset): `value` is the integer
    OFF = "off"  # "off": no register


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand.

    role    the field it comes from: vdst, sdst, src0, src1, src2, vaddr, vdata, addr, data0, data1, saddr,
            sbase, sdata, srsrc, soffset, simm16, literal; vcc, exec, m0 or "" where it is implicit
    kind    see Kind
    type    element type from the table (f32, u32, b16, f64, pk_f16, f32x16, mask, b128, scc ...), tables.py
    index   first register number. SGPR: the encoding 0-127, so vcc is 106, m0 124, exec 126
    dwords  number of consecutive 32-bit registers; 0 for immediates and "off"
    value   CONST: bit pattern at the operand's own width (an inline 1.0 is 0x3c00 for f16, 0x3f800000 for
            f32, 0x3ff0000000000000 for f64); pk_*16: 32 bits, so the high half of an inline float is 0 and
            of an inline integer its sign; pk_f32: 64 bits, high half 0; f32x16: the bits of each element.
            IMM: the integer. simm and branch are signed; a branch goes to pc + 4 + 4 * value
    name    assembler text without modifiers: "v[0:3]", "vcc", "0x1234", "off", "src_shared_base"
    neg, abs  source modifiers of VOP3, SDWA and DPP (VOP3P keeps neg_lo, neg_hi in Instruction.mods)
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
    size      bytes: 4 or 8
    mnemonic  without encoding suffix: v_add_f32, s_waitcnt, buffer_load_dwordx4
    encoding  SOP1 SOP2 SOPC SOPK SOPP SMEM VOP1 VOP2 VOPC VOP3 VOP3P MAI SDWA DPP DS MUBUF MTBUF FLAT GLOBAL
              SCRATCH
    dst, src  in the order of the table row; implicit operands (scc, vcc of carries, exec of v_cmpx, the old
              destination of v_fmac) are listed too. A returning atomic has a dst, one that does not return
              has none; neither has a load to LDS
    mods      modifier fields that are not 0 (absent means 0):
              VOP   clamp omod; bit i for source i: neg abs sext op_sel op_sel_hi neg_lo neg_hi (op_sel bit 3:
                    VOP3 destination); op_sel_hi is 7 where a packed source has no such field (VOP2)
              SDWA  dst_sel dst_unused src0_sel src1_sel (0-3 byte, 4-5 word, 6 dword)
              DPP   dpp_ctrl row_mask bank_mask bound_ctrl
              MAI   cbsz abid blgp
              DS    offset, or offset0 and offset1 in units of the element (st64: of 64 elements); gds
              MUBUF MTBUF FLAT GLOBAL SCRATCH   offset (bytes, signed in the last two) offen idxen lds format;
                    glc slc scc (gfx90a) or sc0 nt sc1 (gfx942)
              SMEM  glc; offset (bytes) beside an SGPR
              SOPP  vmcnt expcnt lgkmcnt of s_waitcnt
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
