"""Where the matrix instructions keep their elements, stated from the lane's side and independently of
petitgen.

AMD's matrix instruction calculator, by example: lane l of v_mfma_f32_16x16x16_f16 holds A[l % 16][4 * (l //
16) + e] in element e of its two registers, and D[4 * (l // 16) + r][l % 16] in register r.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

BITS = {"f64": 64, "f32": 32, "xf32": 32, "i32": 32, "f16": 16, "bf16": 16, "i8": 8, "fp8": 8, "bf8": 8}
UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@dataclass(frozen=True)
class Instruction:
    """What the name of a matrix instruction says."""

    m: int
    n: int
    k: int
    blocks: int
    a: str
    b: str
    c: str
    sparse: bool

    @property
    def stored_k(self) -> int:
        return self.k // 2 if self.sparse else self.k


# Blocks by the dimensions alone: a lane of these types holds 1, 2 or 4 values of k, and M * blocks * K / that
# is 64.
def instruction(mnemonic: str) -> Instruction:
    m, n, k = map(int, re.search(r"(\d+)x(\d+)x(\d+)", mnemonic).groups())
    c = mnemonic.split("_")[2]
    names = re.findall(r"xf32|bf16|bf8|fp8|f16|f32|f64|i8", mnemonic.split("x", 2)[2])
    a, b = (names[0], names[-1])
    sparse = "smfmac" in mnemonic
    held = {"f64": 1, "f32": 1, "f16": 4, "xf32": 2, "fp8": 8, "bf8": 8}.get(a)
    if a == "bf16":
        held = 4 if mnemonic.endswith("_1k") or re.search(r"_bf16$", mnemonic) else 2
    if a == "i8":
        held = 8 if (m, k) in ((32, 16), (16, 32)) or sparse else 4
    stored = k // 2 if sparse else k
    return Instruction(m, n, k, held * 64 // (m * stored), a, b, c, sparse)


def input_place(rows: int, blocks: int, held: int, lane: int, element: int) -> tuple[int, int, int]:
    """(block, row, k) of an element of A, or of B with columns as rows."""
    return lane // rows % blocks, lane % rows, element + held * (lane // (rows * blocks))


def output_place(m: int, n: int, blocks: int, double: bool, lane: int, register: int) -> tuple[int, int, int]:
    """(block, i, j) of an element of C and D."""
    if double:
        return (lane // 16, lane // 4 % 4, lane % 4) if m == 4 else (0, 4 * register + lane // 16, lane % 16)
    if m == 4:
        return lane // 4, register, lane % 4
    if m == 16:
        return register // 4, 4 * (lane // 16) + register % 4, lane % 16
    return register // 16, 8 * (register % 16 // 4) + 4 * (lane // 32) + register % 4, lane % 32


def pack_input(matrix: np.ndarray, bits: int) -> np.ndarray:
    """Registers uint32 [registers, waves, 64] of codes [waves, blocks, rows, k] (B transposed)."""
    waves, blocks, rows, k = matrix.shape
    held = blocks * rows * k // 64
    codes = np.zeros((waves, 64, held), UNSIGNED[bits])
    for lane in range(64):
        for element in range(held):
            block, row, column = input_place(rows, blocks, held, lane, element)
            codes[:, lane, element] = matrix[:, block, row, column]
    words = codes.view(np.uint32).reshape(waves, 64, -1)
    return np.ascontiguousarray(words.transpose(2, 0, 1))


def pack_output(matrix: np.ndarray, bits: int) -> np.ndarray:
    """Registers of codes [waves, blocks, m, n] of C or D."""
    waves, blocks, m, n = matrix.shape
    held = blocks * m * n // 64
    codes = np.zeros((waves, 64, held), UNSIGNED[bits])
    for lane in range(64):
        for register in range(held):
            block, i, j = output_place(m, n, blocks, bits == 64, lane, register)
            codes[:, lane, register] = matrix[:, block, i, j]
    words = codes.view(np.uint32).reshape(waves, 64, -1)
    return np.ascontiguousarray(words.transpose(2, 0, 1))


def unpack_output(registers: np.ndarray, m: int, n: int, blocks: int, bits: int) -> np.ndarray:
    """Codes [waves, blocks, m, n] of the registers of D."""
    waves = registers.shape[1]
    codes = np.ascontiguousarray(registers.transpose(1, 2, 0)).view(UNSIGNED[bits]).reshape(waves, 64, -1)
    matrix = np.zeros((waves, blocks, m, n), UNSIGNED[bits])
    for lane in range(64):
        for register in range(codes.shape[2]):
            block, i, j = output_place(m, n, blocks, bits == 64, lane, register)
            matrix[:, block, i, j] = codes[:, lane, register]
    return matrix


# Operands that find faults: each kind of difficulty apart, and all of them together.
def operands(kind: str, type_: str, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Codes of a type. Kinds: normal, mixed (any exponent), cancel, denormal, special (Inf, NaN, largest),
    any (random bits).
    """
    bits = BITS[type_]
    exponent_bits, mantissa_bits = {
        "f16": (5, 10), "bf16": (8, 7), "f32": (8, 23), "xf32": (8, 23), "f64": (11, 52),
        "fp8": (4, 3), "bf8": (5, 2),
    }.get(type_, (0, bits - 1))  # fmt: skip
    random = (
        np.frombuffer(generator.bytes(int(np.prod(shape)) * bits // 8), UNSIGNED[bits]).reshape(shape).copy()
    )
    if kind == "any" or not exponent_bits:
        return random
    one, top = 1, (1 << exponent_bits) - 1
    bias = (top + (type_ in ("fp8", "bf8"))) >> 1
    word = UNSIGNED[bits]
    mantissa = random & word((one << mantissa_bits) - 1)
    sign = generator.integers(0, 2, shape).astype(word) << word(bits - 1)
    low, high = {
        "normal": (bias - 3, bias + 3), "cancel": (bias, bias + 1), "mixed": (0, top), "denormal": (0, 2),
        "special": (0, top + 1),
    }[kind]  # fmt: skip
    if kind == "mixed" and type_ in ("bf16", "f32", "xf32"):
        low, high = bias - 60, bias + 60
    exponent = generator.integers(max(low, 0), min(high, top + 1), shape).astype(word)
    if kind == "cancel":
        mantissa &= word(3 << (mantissa_bits - 2))
    codes = sign | (exponent << word(mantissa_bits)) | mantissa
    if kind == "special":
        pick = generator.integers(0, 12, shape)
        infinite = word(top << mantissa_bits)
        codes = np.where(pick < 8, codes, np.where(pick == 8, infinite, np.where(pick == 9, word(0), codes)))
    if type_ in ("fp8", "bf8") and kind != "special":
        codes = np.where(codes == 0x80, word(0), codes)
    return codes.astype(word)


KINDS = ("normal", "mixed", "cancel", "denormal", "special", "any")


def blend(type_: str, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """operands() of every kind, row by row; few that are not finite, as they would drown the rest."""
    kinds = [operands(kind, type_, shape, generator) for kind in KINDS]
    turn = np.resize([0, 1, 2, 3, 1, 0, 4, 1, 2, 3, 1, 5], shape[0])
    if shape[0] == 4:
        turn = np.array([0, 1, 3, 4])
    return np.stack(kinds)[turn, np.arange(shape[0])]
