"""What decode() says beside the text: operands, modifiers, constants, errors."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from petitgen.errors import DecodeError
from petitgen.isa import Instruction, Kind, decode, disassemble


def one(*words: int, arch: str = "gfx942") -> Instruction:
    """Decode the instruction made of these words."""
    return decode(struct.pack(f"<{len(words)}I", *words), 0, arch)


def bits(value: float, dtype: type[np.floating]) -> int:
    """The bit pattern of a float."""
    return int.from_bytes(np.array(value, dtype).tobytes(), "little")


ONE, MINUS_FIVE, INV_2PI = 242, 197, 248


def test_inline_constants_have_the_width_of_the_operation() -> None:
    """1.0 is another pattern for f16, f32 and f64; integers are sign-extended."""
    f16 = one(31 << 25 | ONE).src[0]
    f32 = one(1 << 25 | ONE).src[0]
    f64 = one(4 << 25 | ONE).src[0]
    assert (f16.value, f32.value, f64.value) == (
        bits(1, np.float16),
        bits(1, np.float32),
        bits(1, np.float64),
    )
    assert one(31 << 25 | MINUS_FIVE).src[0].value == -5 & 0xFFFF
    assert one(1 << 25 | MINUS_FIVE).src[0].value == -5 & 0xFFFFFFFF
    assert one(0xBE800100 | MINUS_FIVE).src[0].value == -5 & (1 << 64) - 1  # s_mov_b64
    assert one(0xBE800100 | ONE).src[0].value == bits(1, np.float64)


def test_one_over_two_pi() -> None:
    """The constant the sine instructions want, rounded to each format; the double down, as the ISA has it."""
    assert one(1 << 25 | INV_2PI).src[0].value == bits(1 / (2 * np.pi), np.float32)
    assert one(31 << 25 | INV_2PI).src[0].value == bits(1 / (2 * np.pi), np.float16)
    assert one(4 << 25 | INV_2PI).src[0].value == 0x3FC45F306DC9C882


def test_packed_and_integer_16_bit_constants() -> None:
    """v_pk_* see 32 bits: a half in the low half, or a signed integer; integers see a 32-bit float."""
    pk_add_f16, pk_add_u16 = 0xD38F4000, 0xD38A4000
    assert one(pk_add_f16, 3 << 27 | ONE).src[0].value == bits(1, np.float16)
    assert one(pk_add_u16, 3 << 27 | MINUS_FIVE).src[0].value == -5 & 0xFFFFFFFF
    assert one(pk_add_u16, 3 << 27 | ONE).src[0].value == bits(1, np.float32)
    assert one(38 << 25 | INV_2PI).src[0].value == bits(1 / (2 * np.pi), np.float32) & 0xFFFF  # v_add_u16


def test_mixed_precision_constants_follow_op_sel_hi() -> None:
    """v_fma_mix_f32: an inline constant is a half where op_sel_hi says half."""
    instruction = one(0xD3A00000, 1 << 27 | ONE | ONE << 9 | ONE << 18)
    assert [o.value for o in instruction.src] == [
        bits(1, np.float16),
        bits(1, np.float32),
        bits(1, np.float32),
    ]


def test_literals() -> None:
    """32 bits as they are; the high half of a double."""
    literal = one(1 << 25 | 255, 0x12345678)
    assert (literal.size, literal.src[0].value, literal.src[0].kind) == (8, 0x12345678, Kind.CONST)
    assert one(4 << 25 | 255, 0x40091EB8).src[0].value == 0x40091EB8 << 32


def test_implicit_operands_are_listed() -> None:
    """vcc of a carry, scc, the accumulator of v_fmac, exec of v_cmpx."""
    addc = one(28 << 25 | 2 << 17 | 4 << 9 | 262)
    assert [(o.kind, o.index, o.dwords) for o in (addc.dst[1], addc.src[2])] == [(Kind.SGPR, 106, 2)] * 2
    assert [o.name for o in one(0x80000201).dst] == ["s0", "scc"]
    fmac = one(59 << 25 | 2 << 17 | 4 << 9 | 262)
    assert (fmac.src[2].role, fmac.src[2].index) == ("vdst", 2)
    cmpx = one(0x7CA20902)
    assert (cmpx.mnemonic, [o.index for o in cmpx.dst]) == ("v_cmpx_lt_f32", [106, 126])


def test_a_returning_atomic_has_a_destination() -> None:
    """glc (sc0) decides; MUBUF returns into its data register."""
    add = 0xDD088000
    assert one(add, 0x047F0402).dst == ()
    assert [o.name for o in one(add | 1 << 16, 0x047F0402).dst] == ["v4"]
    cmpswap = one(0xE1040000 | 1 << 14, 0x80010400)
    assert [(o.name, o.dwords) for o in cmpswap.dst] == [("v4", 1)]
    assert [(o.name, o.dwords) for o in cmpswap.src[:1]] == [("v[4:5]", 2)]


def test_modifier_names_follow_the_arch() -> None:
    """glc slc scc on gfx90a are sc0 nt sc1 on gfx942."""
    words = 0xDE538000, 0x047F0002
    assert one(*words, arch="gfx90a").mods == {"glc": 1, "slc": 1, "scc": 1}
    assert one(*words, arch="gfx942").mods == {"sc0": 1, "nt": 1, "sc1": 1}


def test_waitcnt_counters() -> None:
    """vmcnt is split over the word."""
    assert one(0xBF8C0000 | 0b10 << 14 | 7 << 4 | 15 << 8 | 5).mods == {
        "vmcnt": 37,
        "expcnt": 7,
        "lgkmcnt": 15,
    }


def test_branch_distance_is_signed() -> None:
    """The text has the raw field, the operand the distance in words."""
    branch = one(0xBF82FFFE)
    assert (branch.src[0].value, branch.text) == (-2, "s_branch 65534")


def test_signed_offsets() -> None:
    """13 bits in GLOBAL and SCRATCH, 21 in SMEM."""
    assert one(0xDC509FFC, 0x007F0000).mods["offset"] == -4
    assert one(0xC0020002, 0x1FFFFC).src[1].value == -4


def test_pc_and_repeated_instructions() -> None:
    """The same bits at several addresses."""
    code = struct.pack("<4I", 0xBF800000, 0xBF800000, 0xD1010000, 0x00020501)
    instructions = disassemble(code, "gfx90a", base=0x100)
    assert [(i.pc, i.size) for i in instructions] == [(0x100, 4), (0x104, 4), (0x108, 8)]
    assert instructions[2].raw == (0xD1010000, 0x00020501)


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("0000f0f0", r"pc 0x40: no gfx90a instruction starts with f0f00000"),
        ("0012007e", r"pc 0x40: .* 7e001200"),
        ("00000cd1", r"v_min_i32 needs 8 bytes, 4 are left"),
        ("0000", "no whole instruction at offset 0 of 2 bytes"),
        ("", "no whole instruction"),
        ("7d0080be", "s_mov_b32 .* no register or constant where b32 should be"),
    ],
)
def test_what_is_no_instruction(code: str, complaint: str) -> None:
    """pc, bytes and reason; never another exception."""
    with pytest.raises(DecodeError, match=complaint):
        decode(bytes.fromhex(code), 0, "gfx90a", pc=0x40)


def test_the_nearest_mnemonic_is_named() -> None:
    """An instruction of the other arch is the first guess."""
    v_mov_b64 = struct.pack("<I", 0x7E007100)
    assert decode(v_mov_b64, 0, "gfx942").mnemonic == "v_mov_b64"
    with pytest.raises(DecodeError, match=r"nearest: v_mov_b64 \(of gfx942\)"):
        decode(v_mov_b64, 0, "gfx90a")


def test_unknown_arch() -> None:
    """Says which are known."""
    with pytest.raises(DecodeError, match="unknown architecture 'gfx1100'; known: gfx90a, gfx942"):
        decode(b"\0\0\0\0", 0, "gfx1100")


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_random_bytes_never_raise_anything_else(arch: str) -> None:
    """A decoder meets data: an Instruction or a DecodeError."""
    rng = np.random.default_rng(7)
    decoded = 0
    for code in rng.integers(0, 256, (20000, 8), np.uint8):
        try:
            decoded += bool(decode(code.tobytes(), 0, arch).text)
        except DecodeError:
            continue
    assert decoded > 5000
