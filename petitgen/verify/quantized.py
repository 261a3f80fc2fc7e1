"""Quantization as docs/quantization.md says it, on numpy: each nearest number is found by looking at all of them.

It shares nothing with runtime.quantize, which needs torch, and nothing with the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from runtime.conversions import Conversion, View

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
E4M3 = np.arange(0x7F, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
UE5M3 = np.array([m * 2.0**-17 if e == 0 else (1 + m / 8) * 2.0 ** (e - 15) for e in range(32) for m in range(8)][:255])


@dataclass(frozen=True, slots=True)
class Level:
    """grid: the positive values of a scale type, by code."""

    grid: NDArray[np.float64]
    nan: int
    of_zeros: int


LEVELS = {"nvfp4": Level(E4M3, 0x7F, 0), "amdfp4": Level(UE5M3, 0xFF, 1)}
MX_NAN = 0xFF


def nearest(x: NDArray[np.float64], grid: NDArray[np.float64]) -> NDArray[np.int64]:
    """The index of the nearest number of a rising grid; of two as near the even index."""
    above = np.clip(np.searchsorted(grid, x), 1, len(grid) - 1)
    down, up = x - grid[above - 1], grid[above] - x
    return above - ((down < up) | ((down == up) & (above % 2 == 1)))


def outer_of(form: str, x: Floats) -> np.float32:
    """The outer scale of a tensor."""
    largest = np.abs(x[np.isfinite(x)]).max(initial=np.float32(0))
    return max(largest / np.float32(LEVELS[form].grid[-1] * 6), np.float32(1e-30))


def philox(seed: int, offset: int, count: int) -> NDArray[np.uint64]:
    """Words of the elements below `count`. Source: SC'11, section 3.3 and table 2."""
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    counter = np.uint64(offset) + np.arange(-(-count // 4), dtype=np.uint64)  # modulo 2^64
    c = [counter & low, counter >> half, np.zeros_like(counter), np.zeros_like(counter)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        first, second = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(second >> half) ^ c[1] ^ np.uint64(key[0]), second & low, (first >> half) ^ c[3] ^ np.uint64(key[1]), first & low]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(c, -1).reshape(-1)[:count]


def block_numbers(view: View) -> NDArray[np.int64]:
    """To which block, counted as their scales lie, each element belongs."""
    slab, row, column = np.indices((view.slabs, view.rows, view.columns))
    _, down, across = view.scales
    along_rows = view.options & (Conversion.SQUARE | Conversion.IN_ROWS) != Conversion.IN_ROWS
    along_columns = bool(view.options & (Conversion.SQUARE | Conversion.IN_ROWS))
    of_row = row // view.block if along_rows else row
    return (slab * down + of_row) * across + (column // view.block if along_columns else column)


def quantize(
    form: str, x: Floats, view: View, outer: np.float32 | None = None, words: NDArray[np.uint64] | None = None
) -> tuple[Bytes, Bytes]:
    """codes and scales, in the shapes of the view. x: in its shape. outer: of formats that have one."""
    numbers = block_numbers(view)
    amax = np.zeros(numbers.max() + 1, np.float32)
    np.maximum.at(amax, numbers, np.abs(x))  # NaN stays
    broken = ~np.isfinite(amax)
    with np.errstate(all="ignore"):
        scales, v = _powers(x, amax, numbers) if outer is None else _levels(LEVELS[form], x, amax, numbers, outer)
    magnitude = np.minimum(np.where(np.isnan(v), 0, np.abs(v)), 6.0)
    code = nearest(magnitude, E2M1) if words is None else _at_random(magnitude, words.reshape(v.shape))
    code = code + 8 * (np.signbit(v) & ~np.isnan(v))
    code[broken[numbers]] = 0
    return pairs(code.astype(np.uint8), view), scales.astype(np.uint8).reshape(view.scales)


def pairs(code: Bytes, view: View) -> Bytes:
    """Two in a byte, the even one in the lower half."""
    if view.options & Conversion.IN_ROWS:
        return code[:, :, ::2] | code[:, :, 1::2] * np.uint8(16)
    return code[:, ::2] | code[:, 1::2] * np.uint8(16)


def _levels(level: Level, x: Floats, amax: Floats, numbers: NDArray, outer: np.float32) -> tuple[NDArray, NDArray]:
    t = np.clip(amax / outer / np.float32(6), np.float32(level.grid[1]), np.float32(level.grid[-1]))
    code = nearest(np.where(np.isnan(t), level.grid[1], t).astype(np.float64), level.grid)
    step = level.grid.astype(np.float32)[code] * outer
    code = np.where(amax == 0, level.of_zeros, code)
    return np.where(np.isfinite(amax), code, level.nan), (x / step[numbers]).astype(np.float64)


def _powers(x: Floats, amax: Floats, numbers: NDArray) -> tuple[NDArray, NDArray]:
    finite = np.where(np.isfinite(amax), amax, 1).astype(np.float64)
    exponent = np.where(finite > 0, np.frexp(finite)[1] - 1, -9999) - 2  # frexp: 0.5 <= fraction < 1
    exponent = np.clip(exponent, -127, 127)
    scales = np.where(np.isfinite(amax), exponent + 127, MX_NAN)
    return scales, x.astype(np.float64) / 2.0 ** exponent[numbers]


def _at_random(x: NDArray[np.float64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The index of the E2M1 value below or above x, from 0 to 6."""
    below = np.searchsorted(E2M1, x, side="right") - 1
    gap = np.append(np.diff(E2M1), 1.0)[below]
    return below + (words < np.floor((x - E2M1[below]) / gap * 2.0**32))


def dequantize(form: str, codes: Bytes, scales: Bytes, view: View, outer: np.float32 | None = None) -> Floats:
    """The values, before they are rounded to the type of y."""
    spread = (view.slabs, view.rows, view.columns)
    code = np.empty(spread, np.uint8)
    first, second = (np.s_[:, :, ::2], np.s_[:, :, 1::2]) if view.options & Conversion.IN_ROWS else (np.s_[:, ::2], np.s_[:, 1::2])
    code[first], code[second] = codes & 15, codes >> 4
    values = np.where(code & 8, -1, 1).astype(np.float32) * E2M1.astype(np.float32)[code & 7]
    steps = _values(form)[scales.reshape(-1)[block_numbers(view)]]
    with np.errstate(all="ignore"):
        return values * (steps if outer is None else steps * outer)


def _values(form: str) -> Floats:
    """Of the codes of its scales."""
    every = np.arange(256, dtype=np.uint8)
    if form == "nvfp4":
        return every.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    if form == "mxfp4":
        return np.append(2.0 ** (np.arange(255) - 127.0), np.nan).astype(np.float32)
    return np.append(UE5M3, np.nan).astype(np.float32)
