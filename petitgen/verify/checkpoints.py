"""Weights that a kernel can get wrong, as checkpoints have them: rows of W, which are columns of C, of different kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify.floats import FloatType

MAX_CODE, NEGATIVE_MAX_CODE, NEGATIVE_ZERO_CODE = 0x7, 0xF, 0x8

# E4M3FN: codes of scales
MAX_SCALE, SIGN_BIT, NAN_SCALES = 0x7E, 0x80, (0x7F, 0xFF)
NEAR_ONE = (0x30, 0x48)  # 0.5 up to (not including) 4

# UE5M3: unsigned, bias 15
UE5M3_NEAR_ONE = (0x70, 0x88)
UE5M3_MAX, UE5M3_NAN = 0xFE, 0xFF
BEYOND_HALF = 0xF8  # from here on fp16, which has the same exponents, is infinite

# E4M3FNUZ: codes of elements
FP8_MAX, FP8_NAN = 0x7F, 0x80

# E8M0: 2^(code - 127)
ONE, LARGEST, NAN_EXPONENT = 127, 254, 0xFF
FLOOR = 133  # a scale this many binades below the largest of its column counts as zero (docs/formats.md)


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a weight as checkpoints have them, but with one outer scale a row (fused
    projections have several).

    weight         u8 [N, K/2], low nibble = even k
    weight_scale   u8 [N, K/block]: E4M3FN or UE5M3 codes for a block of 16, or E8M0 codes for one of 32
    weight_scale_2 f32 [N]; None for MXFP4, which has none

    FP8: weight u8 [N, K] (E4M3FNUZ codes), weight_scale f32 [N], no weight_scale_2.
    """

    weight: NDArray[np.uint8]
    weight_scale: NDArray[Any]
    weight_scale_2: NDArray[np.float32] | None
    format: str = "nvfp4"

    @property
    def tensors(self) -> tuple[NDArray, NDArray, NDArray | None]:
        """What runtime.pack takes after the name of the format."""
        return self.weight, self.weight_scale, self.weight_scale_2

    def rows(self, part: slice) -> Checkpoint:
        """Some rows of it."""
        outer = None if self.weight_scale_2 is None else self.weight_scale_2[part]
        return Checkpoint(self.weight[part], self.weight_scale[part], outer, self.format)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """codes u8 [k] (of 4 bits in 0..15), scales u8 [k/block], outer scale (1 where the format has none)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    outer: float


ColumnMaker = Callable[[Generator, int, FloatType], Column]
Codes = Callable[[Generator, int], NDArray]
Scales = Callable[[Generator, int, FloatType], NDArray]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How to make weights of a format. block: elements along K that share a scale. beside_rows: kinds for problems
    whose rows of A have scales. scaled: do blocks have some?"""

    block: int
    outer: bool
    kinds: Mapping[str, ColumnMaker]
    beside_rows: Mapping[str, ColumnMaker] = field(default_factory=dict)
    scaled: bool = True


def make_checkpoint(format: str, kinds: Sequence[str], k: int, t: FloatType, rng: Generator) -> Checkpoint:
    """A weight [len(kinds), k] with a row of each of these kinds of SCHEMES[format]."""
    scheme = SCHEMES[format]
    columns = [{**scheme.kinds, **scheme.beside_rows}[kind](rng, k, t) for kind in kinds]
    codes = np.stack([column.codes for column in columns])
    if not scheme.scaled:
        return Checkpoint(codes, np.array([column.outer for column in columns], np.float32), None, format)
    return Checkpoint(
        weight=(codes[:, 0::2] | codes[:, 1::2] << 4).astype(np.uint8),
        weight_scale=np.stack([column.scales for column in columns]),
        weight_scale_2=np.array([column.outer for column in columns], np.float32) if scheme.outer else None,
        format=format,
    )


# Codes: (rng, k) -> [k].


def _any_codes(rng: Generator, k: int) -> NDArray:
    return rng.integers(0, 16, k)


def _all(value: int) -> Codes:
    return lambda rng, count: np.full(count, value)


def _alternating_codes(rng: Generator, k: int) -> NDArray:
    return np.where(np.arange(k) % 2, NEGATIVE_MAX_CODE, MAX_CODE)


# NVFP4 and AMD-FP4: E4M3FN or UE5M3 scales, (rng, blocks, type) -> [blocks]; outer scales.


def _sixteens(codes: Codes, scales: Scales, outer: Callable[[FloatType], float] = lambda t: 1.0) -> ColumnMaker:
    def make(rng: Generator, k: int, t: FloatType) -> Column:
        factor = rng.uniform(0.5, 2.0) * outer(t)
        return Column(codes(rng, k).astype(np.uint8), scales(rng, k // 16, t).astype(np.uint8), factor)

    return make


def _same(value: int) -> Scales:
    return lambda rng, blocks, t: np.full(blocks, value)


def _near_one(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    return rng.integers(*NEAR_ONE, blocks)


def _negative(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    """Every other scale negative, in a random order."""
    return _near_one(rng, blocks, t) | SIGN_BIT * rng.permutation(np.arange(blocks) % 2 ^ 1)


def _any_finite(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    return rng.integers(0, MAX_SCALE + 1, blocks) | rng.integers(0, 2, blocks) << 7


def _some_zero(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    return np.where(rng.integers(0, 2, blocks), _near_one(rng, blocks, t), SIGN_BIT * rng.integers(0, 2, blocks))


def _one_nan(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    scales = _near_one(rng, blocks, t)
    scales[rng.integers(blocks)] = rng.choice(NAN_SCALES)
    return scales


NVFP4_KINDS: dict[str, ColumnMaker] = {
    "random": _sixteens(_any_codes, _near_one),
    "maximum": _sixteens(_all(MAX_CODE), _same(MAX_SCALE)),
    "alternating": _sixteens(_alternating_codes, _same(MAX_SCALE)),
    "zero": _sixteens(_all(0), _near_one),
    "negative zero": _sixteens(_all(NEGATIVE_ZERO_CODE), _near_one),
    "any scale": _sixteens(_any_codes, _any_finite),
    "subnormal scale": _sixteens(_any_codes, lambda rng, blocks, t: rng.integers(1, 8, blocks)),
    "zero scale": _sixteens(_any_codes, _some_zero),
    "negative scale": _sixteens(_any_codes, _negative),
    "nan scale": _sixteens(_any_codes, _one_nan),
    "faint outer": _sixteens(_any_codes, _near_one, lambda t: t.faint),
    "loud outer": _sixteens(_any_codes, _near_one, lambda t: t.loud),
}


def _ue5m3_near_one(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    return rng.integers(*UE5M3_NEAR_ONE, blocks)


def _ue5m3_ends(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    """The smallest and the largest, in turn: what their products have in common is the least."""
    return np.where(rng.permutation(blocks) % 2, rng.integers(0, 16, blocks), rng.integers(BEYOND_HALF, UE5M3_NAN, blocks))


def _ue5m3_one_nan(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    scales = _ue5m3_near_one(rng, blocks, t)
    scales[rng.integers(blocks)] = UE5M3_NAN
    return scales


def _ue5m3_some_zero(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    return np.where(rng.integers(0, 2, blocks), _ue5m3_near_one(rng, blocks, t), 0)


AMDFP4_KINDS: dict[str, ColumnMaker] = {
    "random": _sixteens(_any_codes, _ue5m3_near_one),
    "maximum": _sixteens(_all(MAX_CODE), _same(UE5M3_MAX)),
    "alternating": _sixteens(_alternating_codes, _same(UE5M3_MAX)),
    "zero": _sixteens(_all(0), _ue5m3_near_one),
    "negative zero": _sixteens(_all(NEGATIVE_ZERO_CODE), _ue5m3_near_one),
    "any scale": _sixteens(_any_codes, lambda rng, blocks, t: rng.integers(0, UE5M3_MAX + 1, blocks)),
    "subnormal scale": _sixteens(_any_codes, lambda rng, blocks, t: rng.integers(1, 8, blocks)),
    "large scale": _sixteens(_any_codes, lambda rng, blocks, t: rng.integers(BEYOND_HALF, UE5M3_NAN, blocks)),
    "both ends": _sixteens(_any_codes, _ue5m3_ends),
    "zero scale": _sixteens(_any_codes, _ue5m3_some_zero),
    "nan scale": _sixteens(_any_codes, _ue5m3_one_nan),
    "faint outer": _sixteens(_any_codes, _ue5m3_near_one, lambda t: t.faint),
    "loud outer": _sixteens(_any_codes, _ue5m3_near_one, lambda t: t.loud),
}


# MXFP4: E8M0 scales, (rng, blocks, type) -> [blocks].


def _mx(codes: Codes, scales: Scales) -> ColumnMaker:
    def make(rng: Generator, k: int, t: FloatType) -> Column:
        return Column(codes(rng, k).astype(np.uint8), scales(rng, k // 32, t).astype(np.uint8), 1.0)

    return make


def _near(exponent: Callable[[FloatType], float]) -> Scales:
    """Eight binades round a power of two."""
    return lambda rng, blocks, t: rng.integers(-3, 5, blocks) + ONE + int(exponent(t))


_near_1 = _near(lambda t: 0)


def _wide(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    """All that f32 sums can tell from zero beside the largest."""
    return rng.integers(ONE - 20, ONE + 4, blocks)


def _one_nan_exponent(rng: Generator, blocks: int, t: FloatType) -> NDArray:
    scales = _near_1(rng, blocks, t)
    scales[rng.integers(blocks)] = NAN_EXPONENT
    return scales


def _round_the_floor(rng: Generator, k: int, t: FloatType) -> Column:
    """Zeros under the largest scale, so that only the other blocks show; they are one binade above what counts as
    zero, just there, and far below. With a single block: that is the largest."""
    scales = LARGEST - np.resize([0, FLOOR - 1, FLOOR, FLOOR + 1, LARGEST], k // 32)
    first = int(rng.integers(k // 32))
    scales = np.roll(scales, first)
    codes = np.where(np.repeat(scales, 32) == LARGEST, NEGATIVE_ZERO_CODE * (np.arange(k) % 2), _any_codes(rng, k))
    return Column(codes.astype(np.uint8), scales.astype(np.uint8), 1.0)


MXFP4_KINDS: dict[str, ColumnMaker] = {
    "random": _mx(_any_codes, _near_1),
    "maximum": _mx(_all(MAX_CODE), _same(ONE + 8)),
    "alternating": _mx(_alternating_codes, _same(ONE + 8)),
    "zero": _mx(_all(0), _near_1),
    "negative zero": _mx(_all(NEGATIVE_ZERO_CODE), _near_1),
    "any scale": _mx(_any_codes, lambda rng, blocks, t: rng.integers(0, LARGEST + 1, blocks)),
    "wide scale": _mx(_any_codes, _wide),
    "smallest scale": _mx(_any_codes, _same(0)),
    "largest scale": _mx(_any_codes, _same(LARGEST)),
    "floor": _round_the_floor,
    "nan scale": _mx(_any_codes, _one_nan_exponent),
    "faint scale": _mx(_any_codes, _near(lambda t: log2(t.faint))),
    "loud scale": _mx(_any_codes, _near(lambda t: log2(t.loud))),
}

# FP8: E4M3FNUZ codes, an outer scale.


def _bytes(codes: Codes, outer: Callable[[FloatType], float] = lambda t: 1.0) -> ColumnMaker:
    def make(rng: Generator, k: int, t: FloatType) -> Column:
        return Column(codes(rng, k).astype(np.uint8), np.zeros(0, np.uint8), rng.uniform(0.5, 2.0) * outer(t))

    return make


def _near_one_fp8(rng: Generator, k: int) -> NDArray:
    """From 2^-4 up to (not including) 8, of either sign."""
    return rng.integers(0x20, 0x58, k) | rng.integers(0, 2, k) << 7


def _any_fp8(rng: Generator, k: int) -> NDArray:
    codes = rng.integers(0, 256, k)
    return np.where(codes == FP8_NAN, 0, codes)


def _one_nan_fp8(rng: Generator, k: int) -> NDArray:
    codes = _near_one_fp8(rng, k)
    codes[rng.integers(k)] = FP8_NAN
    return codes


FP8_KINDS: dict[str, ColumnMaker] = {
    "random": _bytes(_near_one_fp8),
    "maximum": _bytes(_all(FP8_MAX)),
    "alternating": _bytes(lambda rng, k: np.where(np.arange(k) % 2, FP8_MAX | SIGN_BIT, FP8_MAX)),
    "zero": _bytes(_all(0)),
    "any code": _bytes(_any_fp8),
    "subnormal": _bytes(lambda rng, k: rng.integers(1, 8, k) | rng.integers(0, 2, k) << 7),
    "nan code": _bytes(_one_nan_fp8),
    "nan outer": _bytes(_near_one_fp8, lambda t: np.nan),
    "zero outer": _bytes(_near_one_fp8, lambda t: 0.0),
    "negative outer": _bytes(_near_one_fp8, lambda t: -1.0),
    "faint outer": _bytes(_near_one_fp8, lambda t: t.faint),
    "loud outer": _bytes(_near_one_fp8, lambda t: t.loud),
}
# Beside scales of rows, which bring results back to where they show.
FP8_EXTREMES: dict[str, ColumnMaker] = {
    "tiny outer": _bytes(_near_one_fp8, lambda t: 2.0**-146),
    "huge outer": _bytes(_near_one_fp8, lambda t: 2.0**126),
}

SCHEMES = {
    "nvfp4": Scheme(16, True, NVFP4_KINDS),
    "mxfp4": Scheme(32, False, MXFP4_KINDS),
    "amdfp4": Scheme(16, True, AMDFP4_KINDS),
    "fp8": Scheme(1, True, FP8_KINDS, FP8_EXTREMES, scaled=False),
}
