"""Every MFMA and SMFMAC of gfx90a and gfx942: shape, element types, and where each matrix element lives.

source of the layouts: CDNA3 ISA 7.1.4 (input and output layout), 7.1.6 (BLGP), AMD's matrix instruction
calculator (CBSZ and ABID: the ISA text and the calculator differ where 2**CBSZ is less than the number of
blocks; the calculator's rule, which the LLVM documentation repeats, is used).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from petitgen.errors import EmulationError

Index = NDArray[np.int64]

# mnemonic (M x N x K follows from it), blocks, type of A, type of B, type of C and D, 'sparse' where A is
# compressed
_GFX90A = """
v_mfma_f32_32x32x1f32       2  f32  f32  f32
v_mfma_f32_16x16x1f32       4  f32  f32  f32
v_mfma_f32_4x4x1f32        16  f32  f32  f32
v_mfma_f32_32x32x2f32       1  f32  f32  f32
v_mfma_f32_16x16x4f32       1  f32  f32  f32
v_mfma_f32_32x32x4f16       2  f16  f16  f32
v_mfma_f32_16x16x4f16       4  f16  f16  f32
v_mfma_f32_4x4x4f16        16  f16  f16  f32
v_mfma_f32_32x32x8f16       1  f16  f16  f32
v_mfma_f32_16x16x16f16      1  f16  f16  f32
v_mfma_f32_32x32x2bf16      2  bf16 bf16 f32
v_mfma_f32_16x16x2bf16      4  bf16 bf16 f32
v_mfma_f32_4x4x2bf16       16  bf16 bf16 f32
v_mfma_f32_32x32x4bf16      1  bf16 bf16 f32
v_mfma_f32_16x16x8bf16      1  bf16 bf16 f32
v_mfma_f32_32x32x4bf16_1k   2  bf16 bf16 f32
v_mfma_f32_16x16x4bf16_1k   4  bf16 bf16 f32
v_mfma_f32_4x4x4bf16_1k    16  bf16 bf16 f32
v_mfma_f32_32x32x8bf16_1k   1  bf16 bf16 f32
v_mfma_f32_16x16x16bf16_1k  1  bf16 bf16 f32
v_mfma_i32_32x32x4i8        2  i8   i8   i32
v_mfma_i32_16x16x4i8        4  i8   i8   i32
v_mfma_i32_4x4x4i8         16  i8   i8   i32
v_mfma_i32_32x32x8i8        1  i8   i8   i32
v_mfma_i32_16x16x16i8       1  i8   i8   i32
v_mfma_f64_16x16x4f64       1  f64  f64  f64
v_mfma_f64_4x4x4f64         4  f64  f64  f64
"""
_GFX942 = """
v_mfma_f32_32x32x1_2b_f32   2  f32  f32  f32
v_mfma_f32_16x16x1_4b_f32   4  f32  f32  f32
v_mfma_f32_4x4x1_16b_f32   16  f32  f32  f32
v_mfma_f32_32x32x2_f32      1  f32  f32  f32
v_mfma_f32_16x16x4_f32      1  f32  f32  f32
v_mfma_f32_16x16x8_xf32     1  xf32 xf32 f32
v_mfma_f32_32x32x4_xf32     1  xf32 xf32 f32
v_mfma_f32_32x32x4_2b_f16   2  f16  f16  f32
v_mfma_f32_16x16x4_4b_f16   4  f16  f16  f32
v_mfma_f32_4x4x4_16b_f16   16  f16  f16  f32
v_mfma_f32_32x32x8_f16      1  f16  f16  f32
v_mfma_f32_16x16x16_f16     1  f16  f16  f32
v_mfma_f32_32x32x4_2b_bf16  2  bf16 bf16 f32
v_mfma_f32_16x16x4_4b_bf16  4  bf16 bf16 f32
v_mfma_f32_4x4x4_16b_bf16  16  bf16 bf16 f32
v_mfma_f32_32x32x8_bf16     1  bf16 bf16 f32
v_mfma_f32_16x16x16_bf16    1  bf16 bf16 f32
v_mfma_i32_32x32x4_2b_i8    2  i8   i8   i32
v_mfma_i32_16x16x4_4b_i8    4  i8   i8   i32
v_mfma_i32_4x4x4_16b_i8    16  i8   i8   i32
v_mfma_i32_32x32x16_i8      1  i8   i8   i32
v_mfma_i32_16x16x32_i8      1  i8   i8   i32
v_mfma_f64_16x16x4_f64      1  f64  f64  f64
v_mfma_f64_4x4x4_4b_f64     4  f64  f64  f64
v_mfma_f32_16x16x32_bf8_bf8 1  bf8  bf8  f32
v_mfma_f32_16x16x32_bf8_fp8 1  bf8  fp8  f32
v_mfma_f32_16x16x32_fp8_bf8 1  fp8  bf8  f32
v_mfma_f32_16x16x32_fp8_fp8 1  fp8  fp8  f32
v_mfma_f32_32x32x16_bf8_bf8 1  bf8  bf8  f32
v_mfma_f32_32x32x16_bf8_fp8 1  bf8  fp8  f32
v_mfma_f32_32x32x16_fp8_bf8 1  fp8  bf8  f32
v_mfma_f32_32x32x16_fp8_fp8 1  fp8  fp8  f32
v_smfmac_f32_16x16x32_f16       1  f16  f16  f32 sparse
v_smfmac_f32_32x32x16_f16       1  f16  f16  f32 sparse
v_smfmac_f32_16x16x32_bf16      1  bf16 bf16 f32 sparse
v_smfmac_f32_32x32x16_bf16      1  bf16 bf16 f32 sparse
v_smfmac_i32_16x16x64_i8        1  i8   i8   i32 sparse
v_smfmac_i32_32x32x32_i8        1  i8   i8   i32 sparse
v_smfmac_f32_16x16x64_bf8_bf8   1  bf8  bf8  f32 sparse
v_smfmac_f32_16x16x64_bf8_fp8   1  bf8  fp8  f32 sparse
v_smfmac_f32_16x16x64_fp8_bf8   1  fp8  bf8  f32 sparse
v_smfmac_f32_16x16x64_fp8_fp8   1  fp8  fp8  f32 sparse
v_smfmac_f32_32x32x32_bf8_bf8   1  bf8  bf8  f32 sparse
v_smfmac_f32_32x32x32_bf8_fp8   1  bf8  fp8  f32 sparse
v_smfmac_f32_32x32x32_fp8_bf8   1  fp8  bf8  f32 sparse
v_smfmac_f32_32x32x32_fp8_fp8   1  fp8  fp8  f32 sparse
"""

BITS = {"f64": 64, "f32": 32, "xf32": 32, "i32": 32, "f16": 16, "bf16": 16, "i8": 8, "fp8": 8, "bf8": 8}


@dataclass(frozen=True, slots=True)
class Shape:
    """One instruction: D[b, i, j] = C[b, i, j] + sum over k of A[b, i, k] * B[b, k, j], b < blocks, i < m, j
    < n, k < k.
    """

    mnemonic: str
    m: int
    n: int
    k: int
    blocks: int
    a_type: str
    b_type: str
    c_type: str
    sparse: bool

    @property
    def stored_k(self) -> int:
        """Elements of a row of A that are stored: half of k where A is compressed."""
        return self.k // 2 if self.sparse else self.k

    def registers(self, elements: int, type_: str) -> int:
        """32-bit registers of one lane that hold a matrix of `elements` elements."""
        return max(1, elements * self.blocks // 64 * BITS[type_] // 32)

    @property
    def a_registers(self) -> int:
        return self.registers(self.m * self.stored_k, self.a_type)

    @property
    def b_registers(self) -> int:
        return self.registers(self.k * self.n, self.b_type)

    @property
    def c_registers(self) -> int:
        return self.registers(self.m * self.n, self.c_type)


def _parse(text: str) -> dict[str, Shape]:
    shapes = {}
    for line in text.split("\n"):
        if line:
            mnemonic, blocks, a, b, c, *sparse = line.split()
            m, n, k = (int(x) for x in re.search(r"_(\d+)x(\d+)x(\d+)", mnemonic).groups())  # type: ignore[union-attr]
            shapes[mnemonic] = Shape(mnemonic, m, n, k, int(blocks), a, b, c, bool(sparse))
    return shapes


SHAPES = {"gfx90a": _parse(_GFX90A), "gfx942": _parse(_GFX942)}


def shape(mnemonic: str, arch: str) -> Shape:
    """The shape of an instruction. EmulationError if the arch has no such instruction."""
    try:
        return SHAPES[arch][mnemonic]
    except KeyError:
        raise EmulationError(f"{mnemonic} is no matrix instruction of {arch}") from None


@dataclass(frozen=True, slots=True)
class Layout:
    """Lane and item (element number within the lane's registers) of each element; int64.

    a_lane, a_item    [blocks, m, stored k]
    b_lane, b_item    [blocks, k, n]
    c_lane, c_item    [blocks, m, n]
    """

    a_lane: Index
    a_item: Index
    b_lane: Index
    b_item: Index
    c_lane: Index
    c_item: Index


def _input(blocks: int, rows: int, k: int, lanes_per_row: int) -> tuple[Index, Index]:
    """Lane and item of element [b, row, k] of A (or of B transposed). source: CDNA3 ISA 7.1.4.1."""
    per_lane = max(1, k // lanes_per_row)
    b, row, column = np.ogrid[:blocks, :rows, :k]
    lane = row + rows * (b + blocks * (column // per_lane))
    return lane, np.broadcast_to(column % per_lane, lane.shape)


def _output(s: Shape) -> tuple[Index, Index]:
    """Lane and item of element [b, i, j] of C and D. source: CDNA3 ISA 7.1.4.2."""
    height = 1 if s.c_type == "f64" else 4
    blocks_per_item = -(-64 // (s.n * s.m // height))
    rows_per_item = 64 // blocks_per_item // s.n
    groups = s.m // (height * rows_per_item)
    b, i, j = np.ogrid[: s.blocks, : s.m, : s.n]
    item = i % height + height * (i // (height * rows_per_item) + groups * (b // blocks_per_item))
    lane = j + s.n * (i // height % rows_per_item + rows_per_item * (b % blocks_per_item))
    return lane, np.broadcast_to(item, lane.shape)


def _permuted_b(lane: Index, blgp: int) -> Index:
    """The lanes that B is read from. source: CDNA3 ISA table "Permutations corresponding to BLGP values"."""
    if blgp == 3:
        return (lane + 16) % 64
    if blgp in (1, 2):
        return lane % 32 + 32 * (blgp - 1)
    return lane % 16 + 16 * (blgp - 4) if blgp else lane


@cache
def layout(mnemonic: str, arch: str, cbsz: int = 0, abid: int = 0, blgp: int = 0) -> Layout:
    """Where the elements are, with the broadcasts of A (cbsz, abid) and the lane permutation of B (blgp)
    applied.

    f64 instructions use blgp for signs, and sparse ones cbsz and abid to choose their indices: pass 0 for
    these.
    """
    s = shape(mnemonic, arch)
    lanes_per_row = 64 // (s.m * s.blocks)
    a_lane, a_item = _input(s.blocks, s.m, s.stored_k, lanes_per_row)
    b_lane, b_item = _input(s.blocks, s.n, s.k, lanes_per_row)
    c_lane, c_item = _output(s)
    if cbsz:
        group = min(1 << cbsz, s.blocks)
        a_lane = a_lane[[block // group * group + abid % group for block in range(s.blocks)]]
    b_lane = _permuted_b(b_lane, blgp)
    b_lane, b_item = b_lane.transpose(0, 2, 1), b_item.transpose(0, 2, 1)
    return Layout(
        *(np.ascontiguousarray(x, np.int64) for x in (a_lane, a_item, b_lane, b_item, c_lane, c_item))
    )
