"""gfx942's fused dot products (f16, bf16, xf32, fp8, bf8), compiled; vectorised over the columns of D.

source: the arithmetic of AMD's matrix cores as measured in arXiv 2511.10909 ("MMA-Sim"); written from the
paper's description, tested against the authors' package.

A fused sum takes `chunk` products. They are exact; they are aligned to the largest exponent among them,
truncated (toward zero) at 24 fraction bits and summed exactly. The sum is aligned with the accumulator and
cut (toward minus infinity) at 32 fraction bits, the accumulator at 24; the total is cut at 31 fraction bits
below its leading one and rounded to f32, nearest even. 8-bit formats sum even and odd products apart first.

Exponents here are those of the leading digit place: a number is mantissa * 2**(exponent - mantissa bits),
with denormals at the smallest exponent. Zero operands get an exponent so small that they never decide an
alignment.
"""

# mypy: disable-error-code="operator,assignment,call-arg"
# (numba types these scalars by itself)

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic

from petitgen.emulator.compiled import bits32, bits64, float64_of, loops
from petitgen.emulator.mfma_kernels import element

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
    """f32 bits of dot * 2**(dot_exponent - 24) + c. A c that is not finite stays as it is (one NaN).

    drops_small_c (8-bit formats): a c more than 25 places below the sum is left out. The model ranks a c that
    is not finite as if its exponent were -1, so that a sum of 2**25 or more loses it too.
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


@loops
def _decode_a(a, wave, block, places, form, index, index_bits, out, k_of):
    """Decode one block of A into `out` (mantissa, exponent, sign, class), and find the row of B that each of
    its elements meets. Returns (is any not finite, largest exponent).
    """
    lanes, items = places[0], places[1]
    bits, shift, exponent_bits, mantissa_bits, bias, fnuz = form
    mantissas, exponents, signs, classes = out
    special, highest = False, NO_EXPONENT
    for i in range(lanes.shape[1]):
        for k in range(lanes.shape[2]):
            lane, item = lanes[block, i, k], items[block, i, k]
            raw = element(a, wave, lane, item, bits) >> shift
            mantissa, exponent, sign, kind = _decode(raw, exponent_bits, mantissa_bits, bias, fnuz)
            mantissas[i, k], exponents[i, k] = mantissa, exponent
            signs[i, k], classes[i, k] = sign, kind
            special |= kind != 0
            highest = max(highest, exponent)
            field = (np.int64(index[wave, lane]) >> (item * index_bits)) & 3 if index_bits else 0
            k_of[i, k] = 4 * (k >> 1) + field if index_bits else k
    return special, highest


@loops
def _decode_b(b, wave, block, places, form, out):
    """Decode one block of B. Returns (is any not finite, largest exponent)."""
    lanes, items = places[2], places[3]
    bits, shift, exponent_bits, mantissa_bits, bias, fnuz = form
    mantissas, exponents, signs, classes = out
    special, highest = False, NO_EXPONENT
    for k in range(lanes.shape[1]):
        for j in range(lanes.shape[2]):
            raw = element(b, wave, lanes[block, k, j], items[block, k, j], bits) >> shift
            mantissa, exponent, sign, kind = _decode(raw, exponent_bits, mantissa_bits, bias, fnuz)
            mantissas[k, j], exponents[k, j] = mantissa, exponent
            signs[k, j], classes[k, j] = sign, kind
            special |= kind != 0
            highest = max(highest, exponent)
    return special, highest


@loops
def _special_products(i, k0, chunk, left, right, k_of, fraction, row, settled):
    """Products that are infinite, NaN or beyond the range of f32: what becomes of the accumulators in `row`.

    `settled` marks the columns that have their result; the others take the usual path.
    """
    for j in range(row.shape[0]):
        nan, plus, minus = False, False, False
        for k in range(k0, k0 + chunk):
            kb = k_of[i, k]
            x, y = left[3][i, k], right[3][kb, j]
            negative = (left[2][i, k] ^ right[2][kb, j]) != 0
            product = np.int64(left[0][i, k]) * np.int64(right[0][kb, j])
            zero = (x == 0 and left[0][i, k] == 0) or (y == 0 and right[0][kb, j] == 0)
            exponent = np.int64(left[1][i, k]) + np.int64(right[1][kb, j])
            infinite = x == 1 or y == 1
            if not infinite and not zero:
                infinite = exponent + (1 if product >> (fraction + 1) else 0) >= 128
            if x == 2 or y == 2 or (infinite and zero):
                nan = True
            elif infinite:
                plus, minus = plus or not negative, minus or negative
        settled[j] = nan or plus or minus
        c = row[j]
        if settled[j] and (c >> np.uint32(23)) & np.uint32(0xFF) == np.uint32(0xFF):
            nan = nan or (c & np.uint32(0x7FFFFF)) != 0
            plus, minus = plus or c >> np.uint32(31) == 0, minus or c >> np.uint32(31) != 0
        if settled[j]:
            row[j] = NAN if nan or (plus and minus) else (0x7F800000 if plus else 0xFF800000)


@numba.njit(inline="always")
def _sum_products(i, first, last, step, left, right, k_of, scale, largest, total):
    """total[j] = sum of the products k = first, first + step ... of row i and column j, at largest[j]."""
    n = largest.shape[0]
    for j in range(n):
        largest[j] = 2 * NO_EXPONENT
        total[j] = 0
    for k in range(first, last, step):
        kb, exponent = k_of[i, k], left[1][i, k]
        for j in range(n):
            largest[j] = max(largest[j], np.int32(exponent + right[1][kb, j]))
    for k in range(first, last, step):
        kb, exponent, sign = k_of[i, k], left[1][i, k], left[2][i, k]
        mantissa = np.uint32(left[0][i, k] << np.uint32(scale))
        for j in range(n):
            apart = np.int32(largest[j] - np.int32(exponent + right[1][kb, j]))
            magnitude = np.uint32(mantissa * right[0][kb, j])
            magnitude = np.int32(_shift_right(magnitude, np.uint32(min(apart, np.int32(31)))))
            negate = np.int32(sign ^ right[2][kb, j])
            total[j] += np.int32(np.int32(magnitude ^ negate) - negate)


@numba.njit(inline="always")
def _fused_chunk(i, k0, chunk, groups, left, right, k_of, scale, scratch):
    """One fused sum: row[j] += products k0 to k0 + chunk, except in the columns that are settled."""
    largest, total, row, settled = scratch
    for g in range(groups):
        _sum_products(i, k0 + g, k0 + chunk, groups, left, right, k_of, scale, largest[g], total[g])
    if groups == 2:
        for j in range(row.shape[0]):
            e0, e1 = largest[0, j], largest[1, j]
            exponent = max(e0, e1)
            total[0, j] = (total[0, j] >> min(exponent - e0, 31)) + (total[1, j] >> min(exponent - e1, 31))
            largest[0, j] = exponent
    for j in range(row.shape[0]):
        result = _accumulate(total[0, j], largest[0, j], row[j], groups == 2)
        row[j] = row[j] if settled[j] else result


@numba.njit(inline="always")
def _decoded(rows: int, columns: int) -> Any:
    """Room for a decoded matrix: mantissa, exponent, sign, class."""
    shape = (rows, columns)
    return (
        np.empty(shape, np.uint32),
        np.empty(shape, np.int32),
        np.empty(shape, np.int32),
        np.empty(shape, np.int8),
    )


@loops
def fused_dot(a, b, c, d, places, a_format, b_format, chunk, groups, checks_range, index, index_bits):
    """gfx942's f16, bf16, xf32, fp8 and bf8: see the module. All formats share one compilation.

    a, b, c, d           uint32 (registers, waves, 64); d is written
    places               Layout's six arrays
    a_format, b_format   (bits, shift, exponent bits, mantissa bits, bias, fnuz)
    chunk                products in one fused sum
    groups               1, or 2: even and odd products are summed apart
    checks_range         products beyond f32's range are infinite
    index, index_bits    SMFMAC: uint32 (waves, 64) with the 2-bit fields from bit 0 on, and 2; else 0
    """
    blocks, m, stored = places[0].shape
    dense, n = places[2].shape[1:]
    fraction = a_format[3] + b_format[3]
    left, right = _decoded(m, stored), _decoded(dense, n)
    k_of = np.empty((m, stored), np.int64)
    largest, total = np.empty((groups, n), np.int32), np.empty((groups, n), np.int32)
    row, settled = np.empty(n, np.uint32), np.zeros(n, np.bool_)
    scratch = (largest, total, row, settled)
    items, lanes = places[5], places[4]
    for wave in range(a.shape[1]):
        for block in range(blocks):
            special_a, highest_a = _decode_a(a, wave, block, places, a_format, index, index_bits, left, k_of)
            special_b, highest_b = _decode_b(b, wave, block, places, b_format, right)
            special = special_a or special_b or (checks_range and highest_a + highest_b + 1 >= 128)
            for i in range(m):
                for j in range(n):
                    row[j] = c[items[block, i, j], wave, lanes[block, i, j]]
                for k0 in range(0, stored, chunk):
                    settled[:] = False
                    if special:
                        _special_products(i, k0, chunk, left, right, k_of, fraction, row, settled)
                    _fused_chunk(i, k0, chunk, groups, left, right, k_of, FRACTION - fraction, scratch)
                for j in range(n):
                    d[items[block, i, j], wave, lanes[block, i, j]] = row[j]
