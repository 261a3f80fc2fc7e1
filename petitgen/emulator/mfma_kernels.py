"""The matrix instructions without fused sums, compiled; vectorised over the columns of D.

- gfx90a, f16 and bf16: f32 multiplications and additions with denormals flushed, as (p0 + p1) + (p2 + p3),
  then + c. source: arXiv 2511.10909 ("MMA-Sim"), as in mfma_fused.
- f32 and f64: chains of fused multiply-adds in the order of k. i8: sums that wrap.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from petitgen.emulator.compiled import bits32, bits64, float32_of, float64_of, fused, loops


@numba.njit(inline="always")
def element(words: Any, wave: int, lane: int, item: int, bits: int) -> Any:
    """Element `item` of a lane, as the low bits of an int64."""
    position = item * bits
    word = np.int64(words[position >> 5, wave, lane])
    return (word >> (position & 31)) & ((1 << bits) - 1)


@numba.njit(inline="always")
def _flush(value: Any) -> Any:
    """f32 with denormals made zeros of their sign."""
    return value * np.float32(0) if abs(value) < np.float32(2.0**-126) else value


@numba.njit(inline="always")
def _flushed_input(raw: Any, exponent_bits: int) -> Any:
    """f32 of an f16 (5) or bf16 (8) code; denormals and -0 become +0."""
    if exponent_bits == 8:
        return float32_of(np.uint32(raw << 16)) if raw & 0x7F80 else np.float32(0)
    if not raw & 0x7C00:
        return np.float32(0)
    magnitude = (raw & 0x7FFF) << 13
    magnitude += (127 - 15) << 23 if raw & 0x7C00 != 0x7C00 else (255 - 31) << 23
    return float32_of(np.uint32(magnitude | (raw & 0x8000) << 16))


@loops
def flushed_sums(a, b, c, d, places, exponent_bits, together):
    """gfx90a's f16 and bf16: see the module. `together` products (2 or 4) are summed before c is added."""
    a_lane, a_item, b_lane, b_item, c_lane, c_item = places
    blocks, m, k_size = a_lane.shape
    n = b_lane.shape[2]
    left, right = np.empty((m, k_size), np.float32), np.empty((k_size, n), np.float32)
    row = np.empty(n, np.float32)
    for wave in range(a.shape[1]):
        for block in range(blocks):
            for i in range(m):
                for k in range(k_size):
                    left[i, k] = _flushed_input(
                        element(a, wave, a_lane[block, i, k], a_item[block, i, k], 16), exponent_bits
                    )
            for k in range(k_size):
                for j in range(n):
                    right[k, j] = _flushed_input(
                        element(b, wave, b_lane[block, k, j], b_item[block, k, j], 16), exponent_bits
                    )
            for i in range(m):
                for j in range(n):
                    value = float32_of(c[c_item[block, i, j], wave, c_lane[block, i, j]])
                    row[j] = np.float32(0) if abs(value) < np.float32(2.0**-126) else value
                for k in range(0, k_size, together):
                    for j in range(n):
                        part = _flush(
                            _flush(left[i, k] * right[k, j]) + _flush(left[i, k + 1] * right[k + 1, j])
                        )
                        if together == 4:
                            other = _flush(left[i, k + 2] * right[k + 2, j])
                            part = _flush(part + _flush(other + _flush(left[i, k + 3] * right[k + 3, j])))
                        row[j] = _flush(row[j] + part)
                for j in range(n):
                    d[c_item[block, i, j], wave, c_lane[block, i, j]] = bits32(row[j])


@loops
def chain_f32(a, b, c, d, places):
    """f32: fused multiply-adds in the order of k."""
    a_lane, _, b_lane, _, c_lane, c_item = places
    blocks, m, k_size = a_lane.shape
    n = b_lane.shape[2]
    for wave in range(a.shape[1]):
        for block in range(blocks):
            for i in range(m):
                for j in range(n):
                    item, lane = c_item[block, i, j], c_lane[block, i, j]
                    value = float32_of(c[item, wave, lane])
                    for k in range(k_size):
                        x = float32_of(a[0, wave, a_lane[block, i, k]])
                        value = fused(x, float32_of(b[0, wave, b_lane[block, k, j]]), value)
                    d[item, wave, lane] = bits32(value)


@numba.njit(inline="always")
def _double(words: Any, item: int, wave: int, lane: int) -> Any:
    low, high = np.uint64(words[2 * item, wave, lane]), np.uint64(words[2 * item + 1, wave, lane])
    return float64_of(np.uint64(high << np.uint64(32)) | low)


@loops
def chain_f64(a, b, c, d, places, a_factor, b_factor, c_factor):
    """f64: fused multiply-adds in the order of k; the factors (1 or -1) negate whole matrices."""
    a_lane, _, b_lane, _, c_lane, c_item = places
    blocks, m, k_size = a_lane.shape
    n = b_lane.shape[2]
    for wave in range(a.shape[1]):
        for block in range(blocks):
            for i in range(m):
                for j in range(n):
                    item, lane = c_item[block, i, j], c_lane[block, i, j]
                    value = _double(c, item, wave, lane) * c_factor
                    for k in range(k_size):
                        x = _double(a, 0, wave, a_lane[block, i, k]) * a_factor
                        value = fused(x, _double(b, 0, wave, b_lane[block, k, j]) * b_factor, value)
                    bits = bits64(value)
                    d[2 * item, wave, lane] = np.uint32(bits & np.uint64(0xFFFFFFFF))
                    d[2 * item + 1, wave, lane] = np.uint32(bits >> np.uint64(32))


@loops
def sums_i8(a, b, c, d, places, index, index_bits):
    """i8: exact sums modulo 2**32. index as in mfma_fused.fused_dot."""
    a_lane, a_item, b_lane, b_item, c_lane, c_item = places
    blocks, m, stored = a_lane.shape
    dense, n = b_lane.shape[1:]
    right = np.empty((dense, n), np.int32)
    row = np.empty(n, np.int32)
    for wave in range(a.shape[1]):
        for block in range(blocks):
            for k in range(dense):
                for j in range(n):
                    right[k, j] = np.int8(element(b, wave, b_lane[block, k, j], b_item[block, k, j], 8))
            for i in range(m):
                for j in range(n):
                    row[j] = np.int32(c[c_item[block, i, j], wave, c_lane[block, i, j]])
                for k in range(stored):
                    lane, item = a_lane[block, i, k], a_item[block, i, k]
                    x = np.int32(np.int8(element(a, wave, lane, item, 8)))
                    field = (np.int64(index[wave, lane]) >> (item * index_bits)) & 3 if index_bits else 0
                    kb = 4 * (k >> 1) + field if index_bits else k
                    for j in range(n):
                        row[j] += np.int32(x * right[kb, j])
                for j in range(n):
                    d[c_item[block, i, j], wave, c_lane[block, i, j]] = np.uint32(row[j])
