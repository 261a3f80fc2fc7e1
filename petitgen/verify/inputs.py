"""Checkpoint tensors and activations that a kernel can get wrong.

Rows of A and rows of W are of different kinds inside one problem: every element of C meets one kind of each,
so one launch covers the product of them. Half of the rows are plain random: a wrong layout cannot hide there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify.shapes import BLOCK, Shape

MAX_CODE, NEGATIVE_MAX_CODE, NEGATIVE_ZERO_CODE = 0x7, 0xF, 0x8
MAX_SCALE, SIGN_BIT, NAN_SCALES = 0x7E, 0x80, (0x7F, 0xFF)
NEAR_ONE = (0x30, 0x48)  # e4m3fn codes of 0.5 up to (not including) 4
LONE = "lone subnormal"
LOAD = 8  # activations that a kernel loads at once, 16 bytes


@dataclass(frozen=True, slots=True)
class FloatType:
    """An activation type.

    largest  the largest magnitude promised to work (bf16: sums of products must stay inside f32)
    small    normal numbers far below 1
    faint    an outer scale that pushes results down to the subnormal numbers of the type
    loud     an outer scale that overflows the type for the largest rows only
    """

    name: str
    dtype: np.dtype
    largest: float
    small: float
    faint: float
    loud: float


BF16 = FloatType("bf16", np.dtype(ml_dtypes.bfloat16), 2.0**64, 2.0**-60, 2.0**-120, 2.0**100)
FP16 = FloatType("fp16", np.dtype(np.float16), 65504.0, 2.0**-10, 2.0**-22, 2.0**8)
FLOAT_TYPES = {kind.name: kind for kind in (BF16, FP16)}


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """NVFP4 tensors as ModelOpt writes them, but with one outer scale a row (fused projections have several).

    weight         u8 [N, K/2], low nibble = even k
    weight_scale   u8 [N, K/16], E4M3FN codes
    weight_scale_2 f32 [N]
    """

    weight: NDArray[np.uint8]
    weight_scale: NDArray[np.uint8]
    weight_scale_2: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One GEMM to verify: activations [M, K] of `float_type`, weights, and the names of each row's kind."""

    shape: Shape
    float_type: FloatType
    a: NDArray
    weights: Checkpoint
    a_kinds: tuple[str, ...]
    w_kinds: tuple[str, ...]


def make_problem(shape: Shape, activations: str, seed: int = 0) -> Problem:
    """The problem for a shape: always the same for the same arguments. activations: bf16 or fp16."""
    float_type = FLOAT_TYPES[activations]
    rng = np.random.default_rng(zlib.crc32(f"{shape} {activations} {seed}".encode()))
    w_kinds = _assign(shape.n, list(COLUMN_KINDS), rng)
    a_kinds, a = _lone_subnormals(rng, shape, float_type) if shape.lone else _all_kinds(rng, shape, float_type)
    columns = [COLUMN_KINDS[kind](rng, shape.k, float_type) for kind in w_kinds]
    codes = np.stack([column.codes for column in columns])
    weights = Checkpoint(
        weight=(codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8),
        weight_scale=np.stack([column.scales for column in columns]),
        weight_scale_2=np.array([column.outer for column in columns], np.float32),
    )
    return Problem(shape, float_type, a, weights, a_kinds, w_kinds)


def _assign(count: int, kinds: Sequence[str], rng: Generator) -> tuple[str, ...]:
    """A kind for each of `count` rows: all nasty kinds and as many random ones, shuffled, again and again.

    One of the first two rows is random and the other nasty, so that two rows always have both.
    """
    nasty = rng.permutation([kind for kind in kinds if kind != "random"]).tolist()
    lead = rng.permutation([nasty[0], "random"]).tolist()
    deck = lead + rng.permutation(nasty[1:] + ["random"] * (len(nasty) - 1)).tolist()
    return tuple(deck[i % len(deck)] for i in range(count))


def _all_kinds(rng: Generator, shape: Shape, t: FloatType) -> tuple[tuple[str, ...], NDArray]:
    """The kinds of the rows of A, and A."""
    kinds = _assign(shape.m, list(ROW_KINDS), rng)
    return kinds, np.stack([ROW_KINDS[kind](rng, shape.k, t) for kind in kinds])


def _lone_subnormals(rng: Generator, shape: Shape, t: FloatType) -> tuple[tuple[str, ...], NDArray]:
    """One subnormal number in each `shape.lone` rows, in a row of zeros; the other rows have none.

    A kernel that looks for them (templates/lib/subnormal.hip.j2) has nothing else to notice there. From one
    group to the next they move along K, through every place of a 16-byte load, and from the largest to the
    smallest.
    """
    a = _row(_ordinary(rng, (shape.m, shape.k)), t)
    kinds = ["ordinary"] * shape.m
    starts = range(0, shape.m, shape.lone)
    for group, first in enumerate(starts):
        row = first + 5 * group % min(shape.lone, shape.m - first)
        place = group * shape.k // len(starts) // LOAD * LOAD + group % LOAD
        last = _smallest_normal_bits(t) - 1
        magnitude = (last, 1, int(rng.integers(last // 2 + 2, last)))[group % 3]
        a[row], kinds[row] = _single(shape.k, min(place, shape.k - 1), magnitude | group % 2 << 15, t), LONE
    return tuple(kinds), a


# Rows of A: (rng, k, type) -> [k] of the type.

RowMaker = Callable[[Generator, int, FloatType], NDArray]


def _row(values: NDArray, float_type: FloatType) -> NDArray:
    return values.astype(np.float32).astype(float_type.dtype)


def _random(rng: Generator, k: int, t: FloatType) -> NDArray:
    return _row(rng.standard_normal(k), t)


def _alternating(rng: Generator, k: int, t: FloatType) -> NDArray:
    return _row(np.where(np.arange(k) % 2, -t.largest, t.largest), t)


def _ordinary(rng: Generator, size: int | tuple[int, ...]) -> NDArray:
    """Random numbers none of which is subnormal in any type, zero neither."""
    values = rng.standard_normal(size)
    return np.where(np.abs(values) < 2.0**-10, 1.0, values)


def _smallest_normal_bits(t: FloatType) -> int:
    return int(np.array(ml_dtypes.finfo(t.dtype).smallest_normal, t.dtype).view(np.uint16))


def _subnormal(rng: Generator, k: int, t: FloatType) -> NDArray:
    bits = rng.integers(1, _smallest_normal_bits(t), k) | rng.integers(0, 2, k) << 15
    return bits.astype(np.uint16).view(t.dtype)


def _single(k: int, place: int, bits: int, t: FloatType) -> NDArray:
    """Zeros but for one element."""
    row = np.zeros(k, np.uint16)
    row[place] = bits
    return row.view(t.dtype)


def _lone_subnormal(rng: Generator, k: int, t: FloatType) -> NDArray:
    return _single(k, int(rng.integers(k)), int(rng.integers(1, _smallest_normal_bits(t))), t)


def _mixed(rng: Generator, k: int, t: FloatType) -> NDArray:
    """Subnormals between ordinary numbers: neither may disturb the other."""
    return np.where(rng.integers(0, 2, k).astype(bool), _random(rng, k, t), _subnormal(rng, k, t))


def _one_hot(rng: Generator, k: int, t: FloatType) -> NDArray:
    """A single 1: the row of C is then a column of the weights, each to be exact."""
    return _row((np.arange(k) == rng.integers(k)).astype(float), t)


def _with(value: float) -> RowMaker:
    def make(rng: Generator, k: int, t: FloatType) -> NDArray:
        row = _random(rng, k, t)
        row[rng.integers(k)] = value
        return row

    return make


ROW_KINDS: dict[str, RowMaker] = {
    "random": _random,
    "maximum": lambda rng, k, t: _row(np.full(k, t.largest), t),
    "alternating": _alternating,
    "zero": lambda rng, k, t: _row(np.zeros(k), t),
    "negative zero": lambda rng, k, t: _row(np.full(k, -0.0), t),
    "subnormal": _subnormal,
    LONE: _lone_subnormal,
    "mixed": _mixed,
    "small": lambda rng, k, t: _row(rng.standard_normal(k) * t.small, t),
    "one hot": _one_hot,
    "nan": _with(np.nan),
    "infinite": _with(np.inf),
}


# Rows of W, columns of C: (rng, k, type) -> Column.


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """codes u8 [k] in 0..15, scales u8 [k/16] E4M3FN, outer scale."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    outer: float


def _column(
    codes: Callable[[Generator, int], NDArray],
    scales: Callable[[Generator, int], NDArray],
    outer: Callable[[FloatType], float] = lambda t: 1.0,
) -> Callable[[Generator, int, FloatType], Column]:
    def make(rng: Generator, k: int, t: FloatType) -> Column:
        factor = rng.uniform(0.5, 2.0) * outer(t)
        return Column(codes(rng, k).astype(np.uint8), scales(rng, k // BLOCK).astype(np.uint8), factor)

    return make


def _any_codes(rng: Generator, k: int) -> NDArray:
    return rng.integers(0, 16, k)


def _constant(value: int) -> Callable[[Generator, int], NDArray]:
    return lambda rng, count: np.full(count, value)


def _alternating_codes(rng: Generator, k: int) -> NDArray:
    return np.where(np.arange(k) % 2, NEGATIVE_MAX_CODE, MAX_CODE)


def _near_one(rng: Generator, blocks: int) -> NDArray:
    return rng.integers(*NEAR_ONE, blocks)


def _negative(rng: Generator, blocks: int) -> NDArray:
    """Every other scale negative, in a random order."""
    return _near_one(rng, blocks) | SIGN_BIT * rng.permutation(np.arange(blocks) % 2 ^ 1)


def _any_finite(rng: Generator, blocks: int) -> NDArray:
    return rng.integers(0, MAX_SCALE + 1, blocks) | rng.integers(0, 2, blocks) << 7


def _some_zero(rng: Generator, blocks: int) -> NDArray:
    return np.where(rng.integers(0, 2, blocks), _near_one(rng, blocks), SIGN_BIT * rng.integers(0, 2, blocks))


def _one_nan(rng: Generator, blocks: int) -> NDArray:
    scales = _near_one(rng, blocks)
    scales[rng.integers(blocks)] = rng.choice(NAN_SCALES)
    return scales


COLUMN_KINDS: dict[str, Callable[[Generator, int, FloatType], Column]] = {
    "random": _column(_any_codes, _near_one),
    "maximum": _column(_constant(MAX_CODE), _constant(MAX_SCALE)),
    "alternating": _column(_alternating_codes, _constant(MAX_SCALE)),
    "zero": _column(_constant(0), _near_one),
    "negative zero": _column(_constant(NEGATIVE_ZERO_CODE), _near_one),
    "any scale": _column(_any_codes, _any_finite),
    "subnormal scale": _column(_any_codes, lambda rng, blocks: rng.integers(1, 8, blocks)),
    "zero scale": _column(_any_codes, _some_zero),
    "negative scale": _column(_any_codes, _negative),
    "nan scale": _column(_any_codes, _one_nan),
    "faint outer": _column(_any_codes, _near_one, lambda t: t.faint),
    "loud outer": _column(_any_codes, _near_one, lambda t: t.loud),
}
