"""Matrix instructions: layout and exact arithmetic of every one, the bits of those that mmasim models."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from petitgen.emulator.mfma import MNEMONICS, mfma
from petitgen.errors import EmulationError
from petitgen.isa import tables

from . import mfma_layouts as layouts

VECTORS = np.load(Path(__file__).with_name("mfma_vectors.npz"))
ALL = [(arch, mnemonic) for arch, mnemonics in MNEMONICS.items() for mnemonic in mnemonics]
DENSE = [case for case in ALL if "smfmac" not in case[1]]
SPARSE = [case for case in ALL if "smfmac" in case[1]]
BLOCKED = [case for case in DENSE if layouts.instruction(case[1]).blocks > 1 and "f64" not in case[1]]
MODELLED = sorted({tuple(key.split("/")[:2]) for key in VECTORS.files})
W = 2


def names(case: tuple[str, str]) -> str:
    return f"{case[0]}-{case[1]}"


def codes(values: np.ndarray, type_: str) -> np.ndarray:
    """Codes of small integers in a type."""
    if type_ in ("i8", "i32"):
        return values.astype({"i8": np.int8, "i32": np.int32}[type_]).view(
            layouts.UNSIGNED[layouts.BITS[type_]]
        )
    dtype = {
        "f64": np.float64, "f32": np.float32, "xf32": np.float32, "f16": np.float16,
        "bf16": ml_dtypes.bfloat16, "fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz,
    }[type_]  # fmt: skip
    return values.astype(dtype).view(layouts.UNSIGNED[layouts.BITS[type_]])


def integers(name: layouts.Instruction, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A [W, blocks, m, k], B [W, blocks, k, n] and C of integers that every type holds exactly."""
    generator = np.random.default_rng(seed)
    shapes = (
        (W, name.blocks, name.m, name.stored_k),
        (W, name.blocks, name.k, name.n),
        (W, name.blocks, name.m, name.n),
    )
    return tuple(generator.integers(-7, 8, shape) for shape in shapes)


def registers(name: layouts.Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """The three operands in registers, from codes."""
    bits = layouts.BITS
    return [
        layouts.pack_input(a, bits[name.a]),
        layouts.pack_input(b.transpose(0, 1, 3, 2), bits[name.b]),
        layouts.pack_output(c, bits[name.c]),
    ]


def encoded(name: layouts.Instruction, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    """The three operands in registers, from integers."""
    return registers(name, codes(a, name.a), codes(b, name.b), codes(c, name.c))


def check(name: layouts.Instruction, d: np.ndarray, expected: np.ndarray) -> None:
    found = layouts.unpack_output(d, name.m, name.n, name.blocks, layouts.BITS[name.c])
    np.testing.assert_array_equal(found, codes(expected, name.c))


def test_every_matrix_row_of_the_tables_is_here() -> None:
    for arch, mnemonics in MNEMONICS.items():
        rows = {
            row.mnemonic
            for row in tables.rows()
            if arch in row.archs and "mfma" in row.mnemonic.replace("smfmac", "mfma")
        }
        assert rows == set(mnemonics)


@pytest.mark.parametrize("case", DENSE, ids=names)
def test_integers_are_exact(case: tuple[str, str]) -> None:
    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    a, b, c = integers(name, 1)
    check(name, mfma(mnemonic, arch, *encoded(name, a, b, c)), c + a @ b)


@pytest.mark.parametrize("case", BLOCKED, ids=names)
def test_blocks_of_a_are_broadcast(case: tuple[str, str]) -> None:
    """AMD's calculator: with 2**cbsz blocks a group, every block of a group reads block abid of it."""
    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    a, b, c = integers(name, 2)
    operands = encoded(name, a, b, c)
    for cbsz in range(1, name.blocks.bit_length()):
        size = 1 << cbsz
        for abid in range(size):
            read = [first + abid for first in range(0, name.blocks, size) for _ in range(size)]
            check(name, mfma(mnemonic, arch, *operands, cbsz=cbsz, abid=abid), c + a[:, read] @ b)


@pytest.mark.parametrize(
    "case", [("gfx90a", "v_mfma_f32_32x32x8f16"), ("gfx942", "v_mfma_f32_4x4x4_16b_f16")], ids=names
)
def test_lanes_of_b_are_permuted(case: tuple[str, str]) -> None:
    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    a, b, c = encoded(name, *integers(name, 3))
    sixteens = np.split(b, 4, axis=2)
    patterns = {
        1: sixteens[:2] * 2, 2: sixteens[2:] * 2, 3: [*sixteens[1:], sixteens[0]],
        4: sixteens[:1] * 4, 5: sixteens[1:2] * 4, 6: sixteens[2:3] * 4, 7: sixteens[3:] * 4,
    }  # fmt: skip
    for blgp, groups in patterns.items():
        plain = mfma(mnemonic, arch, a, np.concatenate(groups, axis=2), c)
        np.testing.assert_array_equal(mfma(mnemonic, arch, a, b, c, blgp=blgp), plain)


@pytest.mark.parametrize("negate", range(8))
def test_f64_uses_blgp_for_signs(negate: int) -> None:
    name = layouts.instruction("v_mfma_f64_16x16x4_f64")
    a, b, c = integers(name, 4)
    d = mfma("v_mfma_f64_16x16x4_f64", "gfx942", *encoded(name, a, b, c), blgp=negate)
    signs = [-1 if negate >> bit & 1 else 1 for bit in range(3)]
    found = layouts.unpack_output(d, 16, 16, 1, 64).view(np.float64)  # compared as numbers: -0 is 0
    np.testing.assert_array_equal(found, signs[2] * c + signs[0] * signs[1] * (a @ b))


@pytest.mark.parametrize("case", SPARSE, ids=names)
@pytest.mark.parametrize("cbsz", [0, 1])
def test_sparse_rows_meet_the_chosen_columns(case: tuple[str, str], cbsz: int) -> None:
    """Element e of a lane's row belongs to k = 4 * (stored k // 2) + field e of the lane's index set."""
    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    a, b, c = integers(name, 5)
    generator = np.random.default_rng(6)
    held = name.m * name.stored_k // 64
    for abid in range(4 if held == 4 else 2):
        fields = np.sort(
            generator.permuted(np.tile(np.arange(4), (W, name.m, name.stored_k // 2, 1)), axis=3)[..., :2]
        )
        fields = fields.reshape(W, name.m, name.stored_k)
        dense = np.zeros((W, 1, name.m, name.k), np.int64)
        position = 4 * (np.arange(name.stored_k) // 2) + fields
        np.put_along_axis(dense[:, 0], position, a[:, 0], axis=2)
        index = generator.integers(0, 2**32, (W, 64), dtype=np.uint64)
        chosen = abid if cbsz == 0 else 0
        for lane in range(64):
            for element in range(held):
                _, row, k = layouts.input_place(name.m, 1, held, lane, element)
                shift = np.uint64(2 * (held * chosen + element))
                index[:, lane] &= ~(np.uint64(3) << shift)
                index[:, lane] |= fields[:, row, k].astype(np.uint64) << shift
        d = mfma(mnemonic, arch, *encoded(name, a, b, c), cbsz=cbsz, abid=abid, index=index.astype(np.uint32))
        check(name, d, c + dense @ b)


def test_i8_wraps() -> None:
    name = layouts.instruction("v_mfma_i32_16x16x32_i8")
    a, b = (np.full(shape, -128) for shape in ((1, 1, 16, 32), (1, 1, 32, 16)))
    c = np.full((1, 1, 16, 16), 2**31 - 1)
    d = mfma("v_mfma_i32_16x16x32_i8", "gfx942", *encoded(name, a, b, c))
    assert (d.view(np.int32) == 2**31 - 1 + 32 * 2**14 - 2**32).all()


def test_constant_accumulator_broadcasts() -> None:
    name = layouts.instruction("v_mfma_f32_16x16x16_f16")
    a, b, c = integers(name, 7)
    packed = encoded(name, a, b, c)
    check(name, mfma("v_mfma_f32_16x16x16_f16", "gfx942", *packed[:2], np.uint32(0x3F800000)), 1 + a @ b)


def test_unknown_instruction() -> None:
    with pytest.raises(EmulationError, match="no matrix instruction of gfx90a"):
        mfma("v_mfma_f32_16x16x16_f16", "gfx90a", np.zeros((2, 1, 64)), np.zeros((2, 1, 64)), np.uint32(0))


def same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal codes; a NaN need only be a NaN, as the model's payloads are those of its host."""
    dtype = {4: np.float32, 8: np.float64}[expected.dtype.itemsize]
    nan = np.isnan(expected.view(dtype))
    np.testing.assert_array_equal(np.isnan(found.view(dtype)), nan)
    np.testing.assert_array_equal(found[~nan], expected[~nan])


@pytest.mark.parametrize("case", MODELLED, ids=names)
def test_stored_vectors(case: tuple[str, str]) -> None:
    """Operands and results made with mmasim (make_mfma_vectors.py); a block is put into every block."""
    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    stored = "/".join(case)
    count = sum(key.startswith(f"{stored}/") for key in VECTORS.files) // 4
    assert count, f"{stored}: no vectors are stored"
    for number in range(count):
        blocks = (VECTORS[f"{stored}/{number}/{part}"] for part in "abcd")
        a, b, c, d = (np.broadcast_to(block, (1, name.blocks, *block.shape)) for block in blocks)
        found = mfma(mnemonic, arch, *registers(name, a, b, c))
        same_bits(layouts.unpack_output(found, name.m, name.n, name.blocks, layouts.BITS[name.c]), d)


@pytest.mark.mmasim
@pytest.mark.parametrize("case", MODELLED, ids=names)
def test_bits_against_mmasim(case: tuple[str, str]) -> None:
    from .make_mfma_vectors import oracle

    arch, mnemonic = case
    name = layouts.instruction(mnemonic)
    generator = np.random.default_rng(sum(mnemonic.encode()))
    for kind in layouts.KINDS:
        a = layouts.operands(kind, name.a, (W, name.blocks, name.m, name.k), generator)
        b = layouts.operands(kind, name.b, (W, name.blocks, name.k, name.n), generator)
        c = layouts.operands(kind, name.c, (W, name.blocks, name.m, name.n), generator)
        found = mfma(mnemonic, arch, *registers(name, a, b, c))
        found = layouts.unpack_output(found, name.m, name.n, name.blocks, layouts.BITS[name.c])
        for wave in range(W):
            for block in range(name.blocks):
                same_bits(
                    found[wave, block], oracle(arch, mnemonic, a[wave, block], b[wave, block], c[wave, block])
                )


@pytest.mark.mmasim
def test_every_modelled_instruction_has_vectors() -> None:
    from .make_mfma_vectors import cases

    assert set(cases()) == set(MODELLED)
