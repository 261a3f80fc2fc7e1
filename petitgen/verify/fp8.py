"""Rows of FP8 activations (E4M3FNUZ) that a kernel can get wrong, each with a scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from petitgen.verify.floats import FP8, FloatType

MAX, NAN, SIGN = 0x7F, 0x80, 0x80
NEAR_ONE = (0x20, 0x58)  # 2^-4 up to (not including) 8

Codes = Callable[[Generator, int], NDArray]
Scale = Callable[[Generator, FloatType], float]


def make_rows(
    kinds: Sequence[str], k: int, out: FloatType, rng: Generator
) -> tuple[NDArray, NDArray[np.float32]]:
    """A [len(kinds), k] with a row of each of these KINDS, and the scale of each row. out: the type of results."""
    codes = np.stack([KINDS[kind][0](rng, k) for kind in kinds]).astype(np.uint8)
    scales = np.array([KINDS[kind][1](rng, out) for kind in kinds], np.float32)
    return codes.view(FP8.dtype), scales


def _random(rng: Generator, k: int) -> NDArray:
    return rng.integers(*NEAR_ONE, k) | rng.integers(0, 2, k) << 7


def _any(rng: Generator, k: int) -> NDArray:
    codes = rng.integers(0, 256, k)
    return np.where(codes == NAN, 0, codes)


def _subnormal(rng: Generator, k: int) -> NDArray:
    return rng.integers(1, 8, k) | rng.integers(0, 2, k) << 7


def _mixed(rng: Generator, k: int) -> NDArray:
    return np.where(rng.integers(0, 2, k).astype(bool), _random(rng, k), _subnormal(rng, k))


def _single(code: Callable[[Generator], int], others: Codes) -> Codes:
    def make(rng: Generator, k: int) -> NDArray:
        codes = others(rng, k)
        codes[rng.integers(k)] = code(rng)
        return codes

    return make


def _all(code: int) -> Codes:
    return lambda rng, k: np.full(k, code)


def _times(factor: Callable[[FloatType], float]) -> Scale:
    return lambda rng, out: rng.uniform(0.5, 2.0) * factor(out)


_ordinary = _times(lambda out: 1.0)

KINDS: dict[str, tuple[Codes, Scale]] = {
    "random": (_random, _ordinary),
    "maximum": (_all(MAX), _ordinary),
    "alternating": (lambda rng, k: np.where(np.arange(k) % 2, MAX | SIGN, MAX), _ordinary),
    "zero": (_all(0), _ordinary),
    "any code": (_any, _ordinary),
    "subnormal": (_subnormal, _ordinary),
    "lone subnormal": (_single(lambda rng: int(rng.integers(1, 8)), _all(0)), _ordinary),
    "mixed": (_mixed, _ordinary),
    "one hot": (_single(lambda rng: 0x40, _all(0)), _times(lambda out: 1.0)),
    "nan": (_single(lambda rng: NAN, _random), _ordinary),
    "negative scale": (_random, _times(lambda out: -1.0)),
    "zero scale": (_random, _times(lambda out: 0.0)),
    "nan scale": (_random, _times(lambda out: np.nan)),
    "faint scale": (_random, _times(lambda out: out.faint)),
    "loud scale": (_random, _times(lambda out: out.loud)),
    "smallest scale": (_random, lambda rng, out: 2.0**-149),
    "largest scale": (_random, lambda rng, out: 2.0**127),
}
