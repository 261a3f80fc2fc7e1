"""Quantization as docs/quantization.md says it, on numpy: every nearest number is found by looking at all of them."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

F32 = np.float32
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E4M3 = np.arange(0x7F, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
UE5M3 = np.array([m * 2.0**-17 if e == 0 else (1 + m / 8) * 2.0 ** (e - 15) for e in range(32) for m in range(8)][:255])


@dataclass(frozen=True)
class Level:
    """grid: the positive values of the scale type, by code."""

    grid: np.ndarray
    nan: int
    of_zeros: int


LEVELS = {"nvfp4": Level(E4M3, 0x7F, 0), "amdfp4": Level(UE5M3, 0xFF, 1)}
BLOCK = {"nvfp4": 16, "amdfp4": 16, "mxfp4": 32}


def nearest(x: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The index of the nearest number of a rising grid; of two as near the even index. x: f64."""
    result = np.empty(x.shape, np.int64)
    for part in range(0, x.size, 1 << 14):
        where = slice(part, part + (1 << 14))
        distance = np.abs(x.ravel()[where, None] - grid)
        first = distance.argmin(1)
        after = np.minimum(first + 1, len(grid) - 1)
        rows = np.arange(len(first))
        tied = (after > first) & (distance[rows, after] == distance[rows, first])
        result.ravel()[where] = np.where(tied & (first % 2 == 1), after, first)
    return result


def at_random(x: np.ndarray, words: np.ndarray) -> np.ndarray:
    """The index of the E2M1 value below or above x, f64 from 0 to 6."""
    below = np.array([np.flatnonzero(v >= E2M1)[-1] for v in x.ravel()]).reshape(x.shape)
    above = np.minimum(below + 1, 7)
    gap = np.where(above > below, E2M1[above] - E2M1[below], 1.0)
    return below + (words < np.floor((x - E2M1[below]) / gap * 2.0**32))


def block_numbers(shape: tuple[int, int], block: int, square: bool) -> np.ndarray:
    """To which block each element of [rows, length] belongs, counted along rows."""
    rows, columns = np.indices(shape)
    across = -(-shape[1] // block)
    return (rows // block if square else rows) * across + columns // block


def outer_of(name: str, x: np.ndarray) -> np.float32:
    largest = F32(np.abs(x[np.isfinite(x)]).max(initial=0))
    return max(largest / F32(LEVELS[name].grid[-1] * 6), F32(1e-30))


def quantize(name: str, x: np.ndarray, square: bool = False, outer=None, words=None):
    """codes [rows, length], scales [rows or blocks, blocks], outer of f32 [rows, length]."""
    assert x.dtype == F32
    numbers = block_numbers(x.shape, BLOCK[name], square)
    amax = np.zeros(numbers.max() + 1, F32)
    np.maximum.at(amax, numbers, np.abs(x))  # NaN stays
    with np.errstate(all="ignore"):
        if name == "mxfp4":
            scales, v = _powers(x, amax, numbers)
        else:
            outer = outer_of(name, x) if outer is None else F32(outer)
            scales, v = _two_levels(LEVELS[name], x, amax, numbers, outer)
    magnitude = np.minimum(np.nan_to_num(np.abs(v), nan=0.0, posinf=6.0), 6.0)
    code = nearest(magnitude, E2M1) if words is None else at_random(magnitude, words)
    code = code + 8 * (np.signbit(v) & ~np.isnan(v))
    code[~np.isfinite(amax)[numbers]] = 0
    across = -(-x.shape[1] // BLOCK[name])
    return code.astype(np.uint8), scales.astype(np.uint8).reshape(-1, across), outer


def _two_levels(level: Level, x, amax, numbers, outer):
    t = np.clip(amax / outer / F32(6), F32(level.grid[1]), F32(level.grid[-1]))
    assert t.dtype == F32
    code = nearest(np.nan_to_num(t.astype(np.float64)), level.grid)
    p = level.grid.astype(F32)[code] * outer
    v = x / p[numbers]
    assert v.dtype == F32
    code = np.where(amax == 0, level.of_zeros, code)
    return np.where(np.isfinite(amax), code, level.nan), v.astype(np.float64)


def _powers(x, amax, numbers):
    finite = np.where(np.isfinite(amax), amax, 1).astype(np.float64)
    exponent = np.where(finite > 0, np.frexp(finite)[1] - 1, -9999) - 2  # frexp: 0.5 <= fraction < 1
    exponent = np.clip(exponent, -127, 127)
    return np.where(np.isfinite(amax), exponent + 127, 0xFF), x.astype(np.float64) / 2.0 ** exponent[numbers]


def random_word(seed: int, counter: int, number: int) -> int:
    """Philox4x32-10 in Python's integers: SC'11, section 3.3 and table 2."""
    full = 2**32
    c = [counter % full, counter // full % full, 0, 0]
    key = [seed % full, seed // full]
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second // full ^ c[1] ^ key[0], second % full, first // full ^ c[3] ^ key[1], first % full]
        key = [(key[0] + 0x9E3779B9) % full, (key[1] + 0xBB67AE85) % full]
    return c[number]


def random_words(seed: int, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.array([random_word(seed, offset + i // 4, i % 4) for i in range(count)]).reshape(shape)
