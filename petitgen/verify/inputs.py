"""Problems that a kernel can get wrong.

Rows of A and rows of W are of different kinds inside one problem: every element of C meets one kind of each,
so one launch covers the product of them. Half of the rows are plain random: a wrong layout cannot hide there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify import fp8
from petitgen.verify.checkpoints import SCHEMES, Checkpoint, make_checkpoint
from petitgen.verify.floats import FLOAT_TYPES, FloatType
from petitgen.verify.shapes import Shape

LONE = "lone subnormal"
LOAD = 8  # activations that a kernel loads at once, 16 bytes


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One GEMM to verify: activations [M, K] of `float_type`, weights, and the names of each row's kind."""

    shape: Shape
    float_type: FloatType
    a: NDArray
    weights: Checkpoint
    a_kinds: tuple[str, ...]
    w_kinds: tuple[str, ...]
    output: FloatType | None = None  # of results, where they have not that of A
    row_scales: NDArray[np.float32] | None = None  # [M], with FP8 activations

    @property
    def out(self) -> FloatType:
        """The type of results."""
        return self.float_type if self.output is None else self.output


def make_problem(
    shape: Shape, activations: str, weights: str = "nvfp4", seed: int = 0, whole_range: bool = False, out: str = ""
) -> Problem:
    """The problem for a shape: always the same for the same arguments.

    activations: bf16, fp16 or fp8. weights: of SCHEMES. out: type of results, with FP8
    activations. whole_range: activations up to the largest of their type, not to FloatType.largest.
    """
    float_type = FLOAT_TYPES[activations]
    if whole_range:
        float_type = replace(float_type, largest=float(ml_dtypes.finfo(float_type.dtype).max))
    rng = np.random.default_rng(zlib.crc32(f"{shape} {weights} {activations} {seed}".encode()))
    scheme, rows = SCHEMES[weights], activations == "fp8"
    w_kinds = _assign(shape.n, [*scheme.kinds, *(scheme.beside_rows if rows else ())], rng)
    if rows:
        output = FLOAT_TYPES[out]
        a_kinds = _assign(shape.m, list(fp8.KINDS), rng)
        a, scales = fp8.make_rows(a_kinds, shape.k, output, rng)
        checkpoint = make_checkpoint(weights, w_kinds, shape.k, output, rng)
        return Problem(shape, float_type, a, checkpoint, a_kinds, w_kinds, output, scales)
    a_kinds, a = _lone_subnormals(rng, shape, float_type) if shape.lone else _all_kinds(rng, shape, float_type)
    checkpoint = make_checkpoint(weights, w_kinds, shape.k, float_type, rng)
    return Problem(shape, float_type, a, checkpoint, a_kinds, w_kinds)


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

    A kernel that looks for them (templates/lib/rescue.hip.j2) has nothing else to notice there. From one
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


def _exponents(rng: Generator, k: int, t: FloatType) -> NDArray:
    """Random numbers round a power of two, from the smallest of the type to the largest promised."""
    lowest, highest = np.log2(float(ml_dtypes.finfo(t.dtype).smallest_subnormal)), np.log2(t.largest)
    return _row(np.clip(rng.standard_normal(k) * 2.0 ** rng.uniform(lowest, highest), -t.largest, t.largest), t)


def _outlier(rng: Generator, k: int, t: FloatType) -> NDArray:
    """Ordinary numbers, one of which is large: by that one the whole row is to be scaled, if it is."""
    row = _random(rng, k, t)
    row[rng.integers(k)] = rng.choice([-1, 1]) * 2.0 ** rng.uniform(0, np.log2(t.largest))
    return row


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
    "any exponent": _exponents,
    "outlier": _outlier,
    "nan": _with(np.nan),
    "infinite": _with(np.inf),
}
