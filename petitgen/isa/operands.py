"""Register numbers and constants: from a field of an instruction to an Operand.

Source: CDNA3 ISA (MI300), the SSRC and SRC0 code tables of "Scalar ALU Operations" and "Vector ALU
Operations". For inline constants in 16-bit operations LLVM's AMDGPU backend corrects it
(getInlineEncodingV216).
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache

from petitgen.isa.model import Kind, Operand
from petitgen.isa.tables import type_bits, type_dwords

PAIRS = {102: "flat_scratch", 104: "xnack_mask", 106: "vcc", 126: "exec"}
SINGLES = {n + half: f"{name}_{'hi' if half else 'lo'}" for n, name in PAIRS.items() for half in (0, 1)} | {
    124: "m0"
}
TTMP_FIRST, TTMP_LAST = 108, 123
VCC, M0, EXEC = 106, 124, 126
STATUS = {
    235: "src_shared_base", 236: "src_shared_limit", 237: "src_private_base", 238: "src_private_limit",
    239: "src_pops_exiting_wave_id", 251: "src_vccz", 252: "src_execz", 253: "src_scc", 254: "src_lds_direct",
}  # fmt: skip
INLINE_FLOATS = {240: 0.5, 241: -0.5, 242: 1.0, 243: -1.0, 244: 2.0, 245: -2.0, 246: 4.0, 247: -4.0}
INV_2PI = 248  # 1/(2*pi), whose bits the document gives for each width
INV_2PI_BITS = {16: 0x3118, 32: 0x3E22F983, 64: 0x3FC45F306DC9C882}
LITERAL = 255


def scalar_name(index: int, dwords: int) -> str:
    """Assembler text of `dwords` scalar registers from encoding `index` (0-127) on; "" if there is none."""
    if index <= 101:
        return f"s{index}" if dwords == 1 else f"s[{index}:{index + dwords - 1}]"
    if TTMP_FIRST <= index <= TTMP_LAST:
        first = index - TTMP_FIRST
        return f"ttmp{first}" if dwords == 1 else f"ttmp[{first}:{first + dwords - 1}]"
    if dwords == 2:
        return PAIRS.get(index, "")
    return SINGLES.get(index, "") if dwords == 1 else ""


def vector_name(letter: str, index: int, dwords: int) -> str:
    """Assembler text of `dwords` VGPRs (letter v) or AGPRs (a)."""
    return f"{letter}{index}" if dwords == 1 else f"{letter}[{index}:{index + dwords - 1}]"


def inline_bits(code: int, type_: str) -> int:
    """Bit pattern of inline constant `code` as a source of `type_`, at the width of the operand.

    Integers are sign-extended to at least 32 bits. Floats have the format of the element; integer 16-bit
    operations, packed
    or not, see the 32-bit float. Packed 16-bit sources get one 32-bit pattern, so the high half of a float
    is 0.
    """
    packed = type_.startswith("pk_")
    element = type_.removeprefix("pk_").partition("x")[0] if not type_.startswith("xf") else "f32"
    bits = 64 if element[1:] == "64" else 16 if element == "f16" else 32
    if 128 <= code <= 192:
        value = code - 128
    elif 193 <= code <= 208:
        value = 192 - code
    elif code == INV_2PI:
        value = INV_2PI_BITS[bits]
    else:
        pack = {16: "e", 32: "f", 64: "d"}[bits]
        value = int.from_bytes(struct.pack(f"<{pack}", INLINE_FLOATS[code]), "little")
    width = bits if "x" in type_ and not packed and element != type_ else type_bits(type_)
    return value & ((1 << width) - 1)


HALF_BITS = {
    code: int.from_bytes(struct.pack("<e", value), "little") for code, value in INLINE_FLOATS.items()
}
HALF_BITS[INV_2PI] = INV_2PI_BITS[16]
INTEGERS_16 = frozenset({"u16", "i16", "b16"})


def inline_name(code: int, type_: str) -> str:
    """Assembler text of inline constant `code`; empty if the code is none.

    For 16-bit integers LLVM writes float constants as the bits of a half, though the operation sees another
    value (above).
    """
    if 128 <= code <= 208:
        return str(code - 128 if code <= 192 else 192 - code)
    if type_ in INTEGERS_16 and code in HALF_BITS:
        return f"{HALF_BITS[code]:#x}"
    if code == INV_2PI:
        return "0.15915494309189532" if type_[1:3] == "64" else "0.15915494"
    return str(INLINE_FLOATS[code]) if code in INLINE_FLOATS else ""


@cache
def _inline_by_bits(type_: str) -> dict[int, str]:
    """{bit pattern: text} of every inline constant of a type."""
    codes = [*range(128, 209), *INLINE_FLOATS, INV_2PI]
    return {inline_bits(code, type_): inline_name(code, type_) for code in codes}


def literal_name(type_: str, word: int) -> str:
    """Assembler text of a literal: that of the inline constant of its value, or hexadecimal."""
    if type_ == "f64":
        return _inline_by_bits("f64").get(word << 32, f"{word:#x}")
    if type_ in INTEGERS_16:
        return _inline_by_bits("b32").get(word, f"{word & 0xFFFF:#x}")
    bits = type_bits(type_)
    word &= (1 << min(bits, 32)) - 1
    return _inline_by_bits(type_).get(word, f"{word:#x}")


def literal_operand(role: str, type_: str, word: int, name: str = "") -> Operand:
    """A 32-bit literal: the high half of an f64, zero-extended for other 64-bit sources."""
    value = word << 32 if type_ == "f64" else word & ((1 << type_bits(type_)) - 1)
    return Operand(role, Kind.CONST, type_, 0, type_dwords(type_), value, name or literal_name(type_, word))


@lru_cache(maxsize=1 << 16)
def source(
    role: str, type_: str, code: int, neg: bool = False, abs_: bool = False, acc: bool = False
) -> Operand | None:
    """The operand of a 9-bit source code (0-255: the scalar half) but a literal; None if it means nothing."""
    dwords = type_dwords(type_)
    if code >= 256:
        kind, letter = (Kind.AGPR, "a") if acc else (Kind.VGPR, "v")
        name = vector_name(letter, code - 256, dwords)
        return Operand(role, kind, type_, code - 256, dwords, name=name, neg=neg, abs=abs_)
    if code < 128:
        if dwords == 2 and code - 1 in PAIRS:
            return None
        code &= (
            -min(dwords, 4) if dwords in (2, 4, 8, 16) else -1
        )  # pairs are even, quads and more a multiple of 4
        name = scalar_name(code, dwords)
        return Operand(role, Kind.SGPR, type_, code, dwords, name=name, neg=neg, abs=abs_) if name else None
    if code in STATUS:
        return Operand(role, Kind.STATUS, type_, code, dwords, name=STATUS[code], neg=neg, abs=abs_)
    name = inline_name(code, type_)
    if not name:
        return None
    return Operand(role, Kind.CONST, type_, 0, dwords, inline_bits(code, type_), name, neg, abs_)


@lru_cache(maxsize=1 << 14)
def vector(
    role: str, type_: str, index: int, acc: bool = False, neg: bool = False, abs_: bool = False
) -> Operand:
    """The operand of an 8-bit VGPR or AGPR number."""
    operand = source(role, type_, index + 256, neg, abs_, acc)
    assert operand is not None
    return operand


def status(name: str) -> Operand:
    """An implicit scalar condition (scc)."""
    return Operand("", Kind.STATUS, name, name=name)


OFF = Operand("", Kind.OFF, "b32", dwords=0, name="off")
SCC = status("scc")
