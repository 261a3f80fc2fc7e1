"""Compiled loops of the matrix instructions: one wave after another, vectorised over the columns of a row of D.

source: the arithmetic of AMD's matrix cores as measured in arXiv 2511.10909 ("MMA-Sim"); written from the paper's
description, tested against the authors' package.

Two families:

- gfx942, inputs below 32 bits (and xf32): fused dot products of `chunk` products. Products are exact; they are aligned to the
  largest exponent among them, truncated (toward zero) at 24 fraction bits and summed exactly. The sum is aligned with the
  accumulator and cut (toward minus infinity) at 32 fraction bits, the accumulator at 24; the total is cut at 31 fraction bits
  below its leading one and rounded to f32, nearest even. 8-bit formats sum even and odd products apart first.
- gfx90a, f16 and bf16: f32 multiplications and additions with denormals flushed, as (p0 + p1) + (p2 + p3), then + c.

f32 and f64 are chains of fused multiply-adds, i8 sums wrap, on both.

Exponents here are those of the leading digit place: a number is mantissa * 2**(exponent - mantissa bits), with denormals at
the smallest exponent. Zero operands get an exponent so small that they never decide an alignment.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from petitgen.emulator.compiled import bits32, bits64, float32_of, float64_of, fused

NO_EXPONENT = -1000
FRACTION = 24  # fraction bits that an aligned product keeps
NAN = 0x7FFFFFFF  # the pattern mmasim gives for every NaN


@intrinsic
def _shift_right(typing_context: Any, value: Any, count: Any) -> Any:
    """uint32 >> uint32 in 32 bits (numba's own operators widen to 64, which halves the vector width)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.lshr(*arguments)

    return types.uint32(types.uint32, types.uint32), generate


@numba.njit(inline="always")
def _element(words: Any, wave: int, lane: int, item: int, bits: int) -> Any:
    """Element `item` of a lane, as the low bits of an int64."""
    position = item * bits
    word = np.int64(words[position >> 5, wave, lane])
    return (word >> (position & 31)) & ((1 << bits) - 1)


@numba.njit(inline="always")
def _decode(raw: Any, exponent_bits: int, mantissa_bits: int, bias: int, fnuz: int) -> Any:
    """(mantissa, exponent, sign as 0 or -1, class: 0 finite, 1 infinite, 2 NaN) of a code."""
    mantissa = raw & ((1 << mantissa_bits) - 1)
    top = (1 << exponent_bits) - 1
    field = (raw >> mantissa_bits) & top
    sign = -((raw >> (mantissa_bits + exponent_bits)) & 1)
    kind = 0
    if fnuz:
        if sign and field == 0 and mantissa == 0:
            kind = 2
    elif field == top:
        kind = 2 if mantissa else 1
    exponent = max(field, 1) - bias
    if field:
        mantissa |= 1 << mantissa_bits
    elif mantissa == 0:
        exponent = NO_EXPONENT
    return mantissa, exponent, sign, kind


@numba.njit(inline="always")
def _accumulate(dot: Any, dot_exponent: int, c_bits: Any, drops_small_c: int) -> Any:
    """f32 bits of dot * 2**(dot_exponent - 24) + c. A c that is not finite stays as it is (NaN made canonical).

    drops_small_c (8-bit formats): a c more than 25 places below the sum is left out. The model ranks a c that is not finite
    as if its exponent were -1, so that a sum of 2**25 or more loses it too.
    """
    field = np.int64(c_bits >> np.uint32(23)) & 0xFF
    mantissa = np.int64(c_bits & np.uint32(0x7FFFFF)) | (0x800000 if field else 0)
    c_exponent = -1 if drops_small_c and field == 0xFF else max(field, 1) - 127
    exponent = max(np.int64(dot_exponent), c_exponent)
    aligned = (np.int64(dot) << 8) >> min(exponent - dot_exponent, 63)
    signed = -mantissa if c_bits >> np.uint32(31) else mantissa
    aligned_c = ((signed << 1) >> min(exponent - c_exponent, 63)) << 8
    dropped = drops_small_c and c_exponent < exponent - FRACTION - 1
    aligned_c = 0 if dropped else aligned_c
    total = aligned + aligned_c
    leading = (np.int64(bits64(np.float64(abs(total)))) >> 52) - 1023
    cut = max(leading - 31, -125 - exponent, 0)
    total = (total >> cut) << cut
    scale = float64_of(np.uint64(exponent - 32 + 1023) << np.uint64(52))
    result = bits32(np.float32(np.float64(total) * scale))
    kept = np.uint32(NAN) if c_bits & np.uint32(0x7FFFFF) else c_bits
    return kept if field == 0xFF and not dropped else result


@numba.njit(cache=True, error_model="numpy")
def _special_row(i, k0, chunk, a_class, a_mantissa, a_exponent, a_sign, b_class, b_mantissa, b_exponent, b_sign, k_of,
                 fraction, row_of_c):  # fmt: skip
    """Products that are infinite, NaN or beyond the range of f32: what they make of the accumulators, in place.

    Returns the columns that are settled; the others take the usual path.
    """
    n = row_of_c.shape[0]
    settled = np.zeros(n, np.bool_)
    for j in range(n):
        nan, plus, minus = False, False, False
        for k in range(k0, k0 + chunk):
            kb = k_of[i, k]
            negative = (a_sign[i, k] ^ b_sign[kb, j]) != 0
            infinite = a_class[i, k] == 1 or b_class[kb, j] == 1
            zero = (a_class[i, k] == 0 and a_mantissa[i, k] == 0) or (b_class[kb, j] == 0 and b_mantissa[kb, j] == 0)
            product = np.int64(a_mantissa[i, k]) * np.int64(b_mantissa[kb, j])
            exponent = np.int64(a_exponent[i, k]) + np.int64(b_exponent[kb, j])
            beyond = exponent + (1 if product >> (fraction + 1) else 0) >= 128
            if a_class[i, k] == 2 or b_class[kb, j] == 2 or (infinite and zero):
                nan = True
            elif infinite or (beyond and not zero):
                plus, minus = plus or not negative, minus or negative
        c = row_of_c[j]
        if (c >> np.uint32(23)) & np.uint32(0xFF) == np.uint32(0xFF) and (nan or plus or minus):
            nan = nan or (c & np.uint32(0x7FFFFF)) != 0
            plus, minus = plus or not c >> np.uint32(31), minus or c >> np.uint32(31)
        if nan or plus or minus:
            settled[j] = True
            row_of_c[j] = NAN if nan or (plus and minus) else (0x7F800000 if plus else 0xFF800000)
    return settled


@numba.njit(cache=True, error_model="numpy")
def fused_dot(a, b, c, d, places, a_format, b_format, chunk, groups, checks_range, index, index_bits):
    """gfx942's f16, bf16, xf32, fp8 and bf8: see the module. All formats share one compilation.

    a, b, c, d           uint32 (registers, waves, 64); d is written
    places               Layout's six arrays
    a_format, b_format   (bits, shift, exponent bits, mantissa bits, bias, fnuz)
    chunk                products in one fused sum
    groups               1, or 2: even and odd products are summed apart
    checks_range         products beyond f32's range are infinite
    index, index_bits    SMFMAC: uint32 (waves, 64) already shifted so that the 2-bit fields start at bit 0, and 2; else 0
    """
    a_lane, a_item, b_lane, b_item, c_lane, c_item = places
    blocks, m, stored = a_lane.shape
    dense, n = b_lane.shape[1:]
    a_bits, a_shift, a_eb, a_mb, a_bias, a_fnuz = a_format
    b_bits, b_shift, b_eb, b_mb, b_bias, b_fnuz = b_format
    scale = FRACTION - a_mb - b_mb
    a_mantissa, b_mantissa = np.empty((m, stored), np.uint32), np.empty((dense, n), np.uint32)
    a_exponent, b_exponent = np.empty((m, stored), np.int32), np.empty((dense, n), np.int32)
    a_sign, b_sign = np.empty((m, stored), np.int32), np.empty((dense, n), np.int32)
    a_class, b_class = np.empty((m, stored), np.int8), np.empty((dense, n), np.int8)
    k_of = np.empty((m, stored), np.int64)
    largest, total = np.empty((groups, n), np.int32), np.empty((groups, n), np.int32)
    row = np.empty(n, np.uint32)
    settled = np.zeros(n, np.bool_)
    for wave in range(a.shape[1]):
        for block in range(blocks):
            special = False
            highest_a, highest_b = NO_EXPONENT, NO_EXPONENT
            for i in range(m):
                for k in range(stored):
                    lane, item = a_lane[block, i, k], a_item[block, i, k]
                    raw = _element(a, wave, lane, item, a_bits) >> a_shift
                    mantissa, exponent, sign, kind = _decode(raw, a_eb, a_mb, a_bias, a_fnuz)
                    a_mantissa[i, k], a_exponent[i, k], a_sign[i, k], a_class[i, k] = mantissa, exponent, sign, kind
                    special |= kind != 0
                    highest_a = max(highest_a, exponent)
                    field = (np.int64(index[wave, lane]) >> (item * index_bits)) & 3 if index_bits else 0
                    k_of[i, k] = 4 * (k >> 1) + field if index_bits else k
            for k in range(dense):
                for j in range(n):
                    raw = _element(b, wave, b_lane[block, k, j], b_item[block, k, j], b_bits) >> b_shift
                    mantissa, exponent, sign, kind = _decode(raw, b_eb, b_mb, b_bias, b_fnuz)
                    b_mantissa[k, j], b_exponent[k, j], b_sign[k, j], b_class[k, j] = mantissa, exponent, sign, kind
                    special |= kind != 0
                    highest_b = max(highest_b, exponent)
            special |= checks_range and highest_a + highest_b + 1 >= 128
            for i in range(m):
                for j in range(n):
                    row[j] = c[c_item[block, i, j], wave, c_lane[block, i, j]]
                for k0 in range(0, stored, chunk):
                    if special:
                        settled = _special_row(i, k0, chunk, a_class, a_mantissa, a_exponent, a_sign, b_class, b_mantissa,
                                               b_exponent, b_sign, k_of, a_mb + b_mb, row)  # fmt: skip
                    for g in range(groups):
                        for j in range(n):
                            largest[g, j] = 2 * NO_EXPONENT
                            total[g, j] = 0
                        for k in range(k0 + g, k0 + chunk, groups):
                            kb, exponent = k_of[i, k], a_exponent[i, k]
                            for j in range(n):
                                largest[g, j] = max(largest[g, j], np.int32(exponent + b_exponent[kb, j]))
                        for k in range(k0 + g, k0 + chunk, groups):
                            kb, exponent, sign = k_of[i, k], a_exponent[i, k], a_sign[i, k]
                            mantissa = np.uint32(a_mantissa[i, k] << np.uint32(scale))
                            for j in range(n):
                                apart = np.uint32(min(np.int32(largest[g, j] - np.int32(exponent + b_exponent[kb, j])),
                                                      np.int32(31)))  # fmt: skip
                                magnitude = np.int32(_shift_right(np.uint32(mantissa * b_mantissa[kb, j]), apart))
                                negate = np.int32(sign ^ b_sign[kb, j])
                                total[g, j] += np.int32(np.int32(magnitude ^ negate) - negate)
                    if groups == 2:
                        for j in range(n):
                            e0, e1 = largest[0, j], largest[1, j]
                            e = max(e0, e1)
                            total[0, j] = (total[0, j] >> min(e - e0, 31)) + (total[1, j] >> min(e - e1, 31))
                            largest[0, j] = e
                    if special:
                        for j in range(n):
                            if not settled[j]:
                                row[j] = _accumulate(total[0, j], largest[0, j], row[j], groups == 2)
                    else:
                        for j in range(n):
                            row[j] = _accumulate(total[0, j], largest[0, j], row[j], groups == 2)
                for j in range(n):
                    d[c_item[block, i, j], wave, c_lane[block, i, j]] = row[j]


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


@numba.njit(cache=True, error_model="numpy")
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
                    left[i, k] = _flushed_input(_element(a, wave, a_lane[block, i, k], a_item[block, i, k], 16), exponent_bits)
            for k in range(k_size):
                for j in range(n):
                    right[k, j] = _flushed_input(_element(b, wave, b_lane[block, k, j], b_item[block, k, j], 16), exponent_bits)
            for i in range(m):
                for j in range(n):
                    value = float32_of(c[c_item[block, i, j], wave, c_lane[block, i, j]])
                    row[j] = np.float32(0) if abs(value) < np.float32(2.0**-126) else value
                for k in range(0, k_size, together):
                    for j in range(n):
                        part = _flush(_flush(left[i, k] * right[k, j]) + _flush(left[i, k + 1] * right[k + 1, j]))
                        if together == 4:
                            other = _flush(left[i, k + 2] * right[k + 2, j])
                            part = _flush(part + _flush(other + _flush(left[i, k + 3] * right[k + 3, j])))
                        row[j] = _flush(row[j] + part)
                for j in range(n):
                    d[c_item[block, i, j], wave, c_lane[block, i, j]] = bits32(row[j])


@numba.njit(cache=True, error_model="numpy")
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


@numba.njit(cache=True, error_model="numpy")
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


@numba.njit(cache=True, error_model="numpy")
def sums_i8(a, b, c, d, places, index, index_bits):
    """i8: exact sums modulo 2**32. index as in fused_dot."""
    a_lane, a_item, b_lane, b_item, c_lane, c_item = places
    blocks, m, stored = a_lane.shape
    dense, n = b_lane.shape[1:]
    right = np.empty((dense, n), np.int32)
    row = np.empty(n, np.int32)
    for wave in range(a.shape[1]):
        for block in range(blocks):
            for k in range(dense):
                for j in range(n):
                    right[k, j] = np.int8(_element(b, wave, b_lane[block, k, j], b_item[block, k, j], 8))
            for i in range(m):
                for j in range(n):
                    row[j] = np.int32(c[c_item[block, i, j], wave, c_lane[block, i, j]])
                for k in range(stored):
                    lane, item = a_lane[block, i, k], a_item[block, i, k]
                    x = np.int32(np.int8(_element(a, wave, lane, item, 8)))
                    field = (np.int64(index[wave, lane]) >> (item * index_bits)) & 3 if index_bits else 0
                    kb = 4 * (k >> 1) + field if index_bits else k
                    for j in range(n):
                        row[j] += np.int32(x * right[kb, j])
                for j in range(n):
                    d[c_item[block, i, j], wave, c_lane[block, i, j]] = np.uint32(row[j])
