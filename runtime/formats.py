"""Quantized weight formats and the one packed form in which every kernel reads them.

The packed form ("bricks") is the contract between runtime.pack and the dequantization macros under templates/lib.
A brick is 16 columns (n) by 128 of K:

    codes   [ceil(K/128)][ceil(N/16)][64 lanes][4 dwords]    lane = 16 * quad + n
    scales  [ceil(K/128)][ceil(N/16)][16 n][128 / block]

Dword c of lane (quad, n) holds the eight 4-bit codes at k = 32 c + 16 g + 4 quad + j  (g = 0, 1; j = 0..3): the operand
that lane feeds to two 16x16x16 MFMAs, each within one run of 16 along K. K is the outer dimension, so that reading past
the end of K leaves the buffer (and reads zero) instead of running into the next columns.
"""

from __future__ import annotations

from dataclasses import dataclass

BRICK_N = 16
BRICK_K = 128
LANES = 64

# Where code i = 4 g + j of a dword keeps its bits (sign, exponent high, exponent low, mantissa). Chosen so that a byte
# shift, a bit reversal and one AND mask each give two codes in fp16 position (sign 15; exponent and mantissa 11..9):
#   codes 0, 1: q             codes 4, 5: reverse(q)
#   codes 2, 3: q << 8        codes 6, 7: reverse(q) << 8
CODE_BITS: tuple[tuple[int, int, int, int], ...] = (
    (15, 11, 10, 9),
    (31, 27, 26, 25),
    (7, 3, 2, 1),
    (23, 19, 18, 17),
    (16, 20, 21, 22),
    (0, 4, 5, 6),
    (24, 28, 29, 30),
    (8, 12, 13, 14),
)


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """A block-scaled 4-bit weight format.

    block        elements along K that share a scale
    scale        name of the 8-bit scale type
    outer_scale  True when a float32 scale multiplies the block scales
    source       where the format is defined
    """

    name: str
    block: int
    scale: str
    outer_scale: bool
    source: str

    @property
    def scales_per_brick(self) -> int:
        """Scale bytes of one column in one brick."""
        return BRICK_K // self.block


FORMATS: dict[str, WeightFormat] = {
    "nvfp4": WeightFormat(
        "nvfp4",
        block=16,
        scale="e4m3fn",
        outer_scale=True,
        source="E2M1 elements: OCP Microscaling Formats v1.0 section 5.3.3; layout: ModelOpt NVFP4 checkpoints",
    ),
}
