"""Assembler text, as llvm-objdump 19 prints it.

Spelling and order of the modifiers: LLVM 19, AMDGPUInstPrinter and the asm strings of the AMDGPU instruction
definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from petitgen.isa.messages import buffer_format_text, swizzle_text
from petitgen.isa.model import Kind, Operand
from petitgen.isa.readers import Mods
from petitgen.isa.tables import Row

Modifiers = Callable[[Row, Mods, str], str]

OMOD = ("", " mul:2", " mul:4", " div:2")
SDWA_SELECT = ("BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3", "WORD_0", "WORD_1", "DWORD", "7")
SDWA_UNUSED = ("UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE", "UNUSED_PAD")


def operand_text(operand: Operand, sext: bool = False) -> str:
    """Name with its modifiers: -v1, |v1|, -|v1|, neg(1.0), sext(v1)."""
    name = operand.name
    if sext:
        return f"sext({name})"
    if not (operand.neg or operand.abs):
        return name
    if operand.abs:
        return f"-|{name}|" if operand.neg else f"|{name}|"
    return f"neg({name})" if operand.kind is Kind.CONST else f"-{name}"


def line(mnemonic: str, operands: Sequence[Operand], modifiers: str, sext: int = 0) -> str:
    """mnemonic, operands, modifiers. Bit i of `sext` marks source i."""
    if sext:
        shown = [
            operand_text(o, o.role in ("src0", "src1") and bool(sext >> int(o.role[-1]) & 1))
            for o in operands
        ]
    else:
        shown = [operand_text(o) if o.neg or o.abs else o.name for o in operands]
    shown = [text for text in shown if text]
    return f"{mnemonic} {', '.join(shown)}{modifiers}" if shown else mnemonic + modifiers


def no_modifiers(row: Row, mods: Mods, arch: str) -> str:
    """Formats without modifiers."""
    return ""


def _bits(name: str, value: int, count: int) -> str:
    return f" {name}:[{','.join(str(value >> i & 1) for i in range(count))}]"


def _register_sources(row: Row) -> int:
    return sum(word not in ("dst", "vcc", "exec") for word in row.src)


OP_SEL_FLAGS = ("opsel", "opsel3")


def vop3(row: Row, mods: Mods, arch: str) -> str:
    """op_sel, clamp, omod. The last op_sel bit is the destination's."""
    op_sel = mods.get("op_sel", 0)
    text = ""
    if op_sel and not row.flags.isdisjoint(OP_SEL_FLAGS):
        count = 3 if "opsel3" in row.flags else _register_sources(row)
        text = _bits("op_sel", op_sel & ((1 << count) - 1) | (op_sel >> 3) << count, count + 1)
    return text + (" clamp" if mods.get("clamp") else "") + OMOD[mods.get("omod", 0)]


def vop3p(row: Row, mods: Mods, arch: str) -> str:
    """op_sel, op_sel_hi, neg_lo, neg_hi, clamp. For v_fma_mix* op_sel_hi is 0 by default and the last two
    are - and | |."""
    count = _register_sources(row)
    default = 0 if "mix" in row.src else (1 << count) - 1
    text = ""
    shown = (("op_sel", 0), ("op_sel_hi", default), ("neg_lo", 0), ("neg_hi", 0))
    for name, usual in shown[: 2 if "mix" in row.src else 4]:
        value = mods.get(name, 0) & ((1 << count) - 1)
        if value != usual:
            text += _bits(name, value, count)
    return text + (" clamp" if mods.get("clamp") else "")


def mai(row: Row, mods: Mods, arch: str) -> str:
    """cbsz, abid, blgp; for f64 on gfx942 the blgp bits negate A, B and C."""
    text = "".join(f" {name}:{mods[name]}" for name in ("cbsz", "abid") if mods.get(name))
    if not mods.get("blgp"):
        return text
    if arch == "gfx942" and row.dst[0].startswith("f64"):
        return text + _bits("neg", mods["blgp"], 3)
    return text + f" blgp:{mods['blgp']}"


def sdwa(row: Row, mods: Mods, arch: str) -> str:
    """clamp, omod, and the byte or word of each operand."""
    if not row.dst:
        return ""
    text = (" clamp" if mods.get("clamp") else "") + OMOD[mods.get("omod", 0)]
    if row.format != "VOPC" and "sdwa_src_only" not in row.flags:
        text += f" dst_sel:{SDWA_SELECT[mods.get('dst_sel', 0)]}"
        text += f" dst_unused:{SDWA_UNUSED[mods.get('dst_unused', 0)]}"
    text += f" src0_sel:{SDWA_SELECT[mods.get('src0_sel', 0)]}"
    if row.format != "VOP1":
        text += f" src1_sel:{SDWA_SELECT[mods.get('src1_sel', 0)]}"
    return text


DPP_SINGLE = {
    0x130: "wave_shl:1", 0x134: "wave_rol:1", 0x138: "wave_shr:1", 0x13C: "wave_ror:1", 0x140: "row_mirror",
    0x141: "row_half_mirror", 0x142: "row_bcast:15", 0x143: "row_bcast:31",
}  # fmt: skip
DPP_RANGES = ((0x101, 0x10F, "row_shl", 0x100), (0x111, 0x11F, "row_shr", 0x110), (0x121, 0x12F, "row_ror",
0x120),
              (0x150, 0x15F, "row_newbcast", 0x150))  # fmt: skip


def dpp_control(value: int) -> str:
    """quad_perm:[0,1,2,3], row_shl:1, ...; empty for a value that means nothing."""
    if value < 0x100:
        return f"quad_perm:[{','.join(str(value >> 2 * lane & 3) for lane in range(4))}]"
    for first, last, name, base in DPP_RANGES:
        if first <= value <= last:
            return f"{name}:{value - base}"
    return DPP_SINGLE.get(value, "")


def dpp(row: Row, mods: Mods, arch: str) -> str:
    """The lane pattern and its masks."""
    masks = "".join(f" {name}:{mods.get(name, 0):#x}" for name in ("row_mask", "bank_mask"))
    bound = " bound_ctrl:1" if mods.get("bound_ctrl") else ""
    return f" {dpp_control(mods.get('dpp_ctrl', 0))}{masks}{bound}"


def ds(row: Row, mods: Mods, arch: str) -> str:
    """offset, or offset0 and offset1; gds where the instruction has no other form (GWS)."""
    if row.mnemonic == "ds_swizzle_b32":
        text = swizzle_text(mods.get("offset", 0))
    else:
        text = "".join(f" {name}:{mods[name]}" for name in ("offset", "offset0", "offset1") if mods.get(name))
    return text + (" gds" if "gds_only" in row.flags else "")


CACHE_BITS = {"gfx90a": ("glc", "slc", "scc"), "gfx942": ("sc0", "nt", "sc1")}


def cache_bits(mods: Mods, arch: str) -> str:
    """glc slc scc, or sc0 nt sc1."""
    return "".join(f" {name}" for name in CACHE_BITS[arch] if mods.get(name))


def smem(row: Row, mods: Mods, arch: str) -> str:
    """offset (beside an SGPR), glc."""
    text = f" offset:{mods['offset']:#x}" if "offset" in mods else ""
    return text + (" glc" if mods.get("glc") and "noglc" not in row.flags else "")


def buffer(row: Row, mods: Mods, arch: str) -> str:
    """format, idxen, offen, offset, cache bits, lds."""
    if not row.src:  # cache control: no address, and cache bits only where they choose the level
        return (
            "".join(f" {name}" for name in ("sc0", "sc1") if mods.get(name)) if "scope" in row.flags else ""
        )
    text = buffer_format_text(mods.get("format", 0)) if row.format == "MTBUF" else ""
    text += "".join(f" {name}" for name in ("idxen", "offen") if mods.get(name))
    text += f" offset:{mods['offset']}" if mods.get("offset") else ""
    return text + cache_bits(mods, arch) + (" lds" if mods.get("lds") else "")


def flat(row: Row, mods: Mods, arch: str) -> str:
    """offset, cache bits, lds."""
    text = f" offset:{mods['offset']}" if mods.get("offset") else ""
    return text + cache_bits(mods, arch) + (" lds" if mods.get("lds") else "")


MODIFIERS: dict[str, Modifiers] = {
    "VOP3": vop3, "VOP3B": vop3, "VOP3P": vop3p, "MAI": mai, "DS": ds, "SMEM": smem, "MUBUF": buffer,
    "MTBUF": buffer,
    "FLAT": flat, "GLOBAL": flat, "SCRATCH": flat,
    **{f"{name}_SDWA": sdwa for name in ("VOP1", "VOP2", "VOPC")}, **{f"{name}_DPP": dpp for name in ("VOP1",
    "VOP2")},
}  # fmt: skip
