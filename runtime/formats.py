"""Quantized weight formats and the one packed form in which every kernel reads them.

The packed form ("bricks") is the contract between runtime.pack and the dequantization macros under templates/lib.
A brick is 16 columns (n) by 128 of K:

    codes   [ceil(K/128)][ceil(N/16)][64 lanes][4 dwords]    lane = 16 * quad + n
    scales  [ceil(K/128)][ceil(N/16)][16 n][128 / block]

The scale of group i of a column's 128 / block in a brick stands at the bit-reversed place of i: the groups whose numbers
are equal modulo 2 or 4 are neighbours, and kernels that give each class rows of their own load just that.

Dword c of lane (quad, n) holds the eight 4-bit codes at k = 32 c + 16 g + 4 quad + j  (g = 0, 1; j = 0..3): the operand
that lane feeds to two 16x16x16 MFMAs, each within one run of 16 along K. K is the outer dimension, so that reading past
the end of K leaves the buffer (and reads zero) instead of running into the next columns.

Codes of 8 bits have no scales, and bricks of two halves:

    codes   [ceil(K/128)][ceil(N/16)][2 halves][64 lanes][16 bytes]

Byte 8 g + j of lane (quad, n) in half h is the code at k = 64 h + 32 g + 8 quad + j (g = 0, 1; j = 0..7): the operands of two
16x16x32 MFMAs.

Which bits of a lane's dwords keep which code is the *code order*, one of ORDERS: what a kernel unpacks with the fewest
instructions depends on its activation type and architecture. On the host a weight is in HOST_ORDER; uploading it
permutes the bits. Nothing else of the packed form depends on the order. docs/formats.md tells the whole story.
"""

from __future__ import annotations

from dataclasses import dataclass

BRICK_N = 16
BRICK_K = 128
LANES = 64

CodeBits = tuple[tuple[int, int, int, int], ...]

# Where code i = 4 g + j of a dword keeps its bits (sign, exponent high, exponent low, mantissa). Chosen so that a byte
# shift, a bit reversal and one AND mask each give two codes in fp16 position (sign 15; exponent and mantissa 11..9):
#   codes 0, 1: q             codes 4, 5: reverse(q)
#   codes 2, 3: q << 8        codes 6, 7: reverse(q) << 8
CODE_BITS: CodeBits = (
    (15, 11, 10, 9),
    (31, 27, 26, 25),
    (7, 3, 2, 1),
    (23, 19, 18, 17),
    (16, 20, 21, 22),
    (0, 4, 5, 6),
    (24, 28, 29, 30),
    (8, 12, 13, 14),
)

# The same for code i = 8 (c odd) + 4 g + j of a pair of dwords p (c even, bits 0..31) and q (c odd, bits 32..63), which
# unpack together: each of these, masked with 0x81C081C0, has two codes in bf16 position (sign 15; exponent and mantissa
# 8..6), code j in the low half and j + 1 in the high one.
#   c even  g = 0: p, rotr(p, 4)    g = 1: p << 6, rotr(u, 6)        u = 0x60306030 & p | ~0x60306030 & q >> 2
#   c odd   g = 0: q, rotr(q, 4)    g = 1: q << 6, u << 4
_BF16_BITS: CodeBits = (
    (15, 8, 7, 6),
    (31, 24, 23, 22),
    (19, 12, 11, 10),
    (3, 28, 27, 26),
    (9, 2, 1, 0),
    (25, 18, 17, 16),
    (21, 14, 13, 46),
    (5, 30, 29, 62),
    (47, 40, 39, 38),
    (63, 56, 55, 54),
    (51, 44, 43, 42),
    (35, 60, 59, 58),
    (41, 34, 33, 32),
    (57, 50, 49, 48),
    (45, 4, 37, 36),
    (61, 20, 53, 52),
)

# The same where four codes, each in a byte, look up numbers in a table (v_perm_b32): byte j of a dword, masked with 0x07,
# has the magnitude of code j of g = 0, whose sign is its highest bit; rotated right by 4, that of g = 1.
_TABLE_BITS: CodeBits = tuple(
    (32 * odd + sign, 32 * odd + low + 2, 32 * odd + low + 1, 32 * odd + low)
    for odd in range(2)
    for g in range(2)
    for j in range(4)
    for low, sign in [(8 * j + 4 * g, (8 * j + 7 + 4 * g) % 32)]
)

_FP16_BITS: CodeBits = CODE_BITS + tuple((s + 32, high + 32, low + 32, m + 32) for s, high, low, m in CODE_BITS)

ORDERS: dict[str, CodeBits] = {
    "fp16": _FP16_BITS,
    "bf16": _BF16_BITS,
    "table": _TABLE_BITS,
    "window": _FP16_BITS,
    "fnuz": _TABLE_BITS,
}
"""Where each of the 16 4-bit codes of a pair of dwords keeps its bits, by the name of the order. Order fnuz has no negative
zeros: numbers of E4M3FNUZ are looked up in its bytes, where what would be -0 is NaN."""

BYTES = "bytes"  # the one order of 8-bit codes

# How an array of packed codes shows its order: the shape of what a lane has of a brick, after [tiles k, tiles n]. Dwords
# that unpack alone make one run of 16 bytes, pairs of dwords two of 8; bytes that look up in a table are in fours. It
# travels with a tensor wherever that goes.
ORDER_SHAPES: dict[str, tuple[int, ...]] = {
    "fp16": (LANES, 16),
    "bf16": (LANES, 2, 8),
    "table": (LANES, 4, 4),
    "window": (LANES, 8, 2),
    "fnuz": (LANES, 4, 2, 2),
    BYTES: (2, LANES, 16),
}

# Order window has codes where fp16 has them. Its NVFP4 scale bytes are the exponent and the upper mantissa bits of an fp16
# number, scale * 2^7: (byte << 7) is one. With less the product with the smallest code in fp16 position, 0.5 * 2^-14, would be a
# subnormal number, which some matrix units take for zero. So that is where the window ends: E4M3's subnormal scales j * 2^-9
# have bytes that are NaN in fp16, 0xf8 + j. By E4M3 byte, from 0 to 0x7f; packing left no sign.
WINDOW_SCALES = bytes([0, *range(0xF9, 0x100), *range(0x80, 0xF8)])

HOST_ORDER = "fp16"  # of packed weights in host memory

# A packed MXFP4 scale byte is the exponent of its block relative to the largest of its column, which has the byte MX_LARGEST;
# 0 is zero. As the exponent field of a f32 (byte << 23) it is 2^(byte - 127): up to 2^63, so that kernels whose products are
# small by 2^-63 can multiply with it as it is.
MX_LARGEST = 190
# Binades of a column that are kept, as many as bf16 has room for with all codes: where 6 of the largest is 12, 0.5 of the
# smallest is 2^-132.
MX_BINADES = 133


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A weight format.

    block        elements along K that share a scale; 0: a column has but its outer scale
    scale        name of the 8-bit scale type
    outer_scale  True when checkpoints have a float32 scale that multiplies the block scales. The packed form always has
                 a float32 for each column
    source       where the format is defined
    bits         of an element
    """

    name: str
    block: int
    scale: str
    outer_scale: bool
    source: str
    bits: int = 4

    @property
    def only_order(self) -> str:
        """The order of codes that all kernels read, or nothing where it depends on the kernel."""
        return BYTES if self.bits == 8 else ""

    @property
    def brick_bytes(self) -> int:
        """Of the codes of a brick."""
        return BRICK_K * BRICK_N * self.bits // 8

    @property
    def scales_per_brick(self) -> int:
        """Scale bytes of one column in one brick."""
        return BRICK_K // self.block if self.block else 0

    @property
    def scale_places(self) -> tuple[int, ...]:
        """Where the scale of each group stands among the bytes of its column and brick: reversed bits, an involution."""
        bits = (self.scales_per_brick - 1).bit_length()
        return tuple(int(f"{group:0{bits}b}"[::-1], 2) for group in range(self.scales_per_brick))


FORMATS: dict[str, WeightFormat] = {
    "nvfp4": WeightFormat(
        "nvfp4",
        block=16,
        scale="e4m3fn",
        outer_scale=True,
        source="E2M1 elements: OCP Microscaling Formats v1.0 section 5.3.3; layout: ModelOpt NVFP4 checkpoints",
    ),
    "mxfp4": WeightFormat(
        "mxfp4",
        block=32,
        scale="e8m0",
        outer_scale=False,
        source="E2M1 elements, E8M0 scales: OCP Microscaling Formats v1.0; layout: Quark MXFP4 checkpoints",
    ),
    "amdfp4": WeightFormat(
        "amdfp4",
        block=16,
        scale="ue5m3",
        outer_scale=True,
        source="E2M1 elements, UE5M3 scales: AMD-FP4 as trained with on MI300; layout: docs/formats.md",
    ),
    "fp8": WeightFormat(
        "fp8",
        block=0,
        scale="",
        outer_scale=True,
        source="E4M3FNUZ elements: Noune et al., 8-bit Numerical Formats for Deep Neural Networks, 2022; a float32 scale a column:"
        " PTPC-FP8 checkpoints (per token, per channel)",
        bits=8,
    ),
}
