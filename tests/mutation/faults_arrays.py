"""Faults in kernels that quantize and dequantize."""

from __future__ import annotations

from .faults import PHILOX, Fault, Named

AMAX, CODES, COLUMNS, DEQUANTIZE, E2M1, EIGHT, FNUZ, ROWS, SCALE, TOKENS = (
    f"quantize/{name}.hip.j2"
    for name in ("amax", "codes", "columns", "dequantize", "e2m1", "eight", "e4m3fnuz", "rows", "scale", "tokens")
)
NV = Named("quantize_nvfp4_bf16__gfx942_rows")
AMD = Named("quantize_amdfp4_fp16__gfx90a_rows")
MX = Named("quantize_mxfp4_bf16__gfx942_rows")
NV_COLUMNS = Named("quantize_nvfp4_bf16__gfx942_columns")
MX_COLUMNS = Named("quantize_mxfp4_fp16__gfx942_columns")
BACK = Named("dequantize_nvfp4_fp16__gfx942_eights")
BACK_MX = Named("dequantize_mxfp4_bf16__gfx90a_eights")
LARGEST = Named("amax_bf16__gfx942_flat")
ROW = Named("rowquantize_fp8_bf16__gfx90a_tokens")

ARRAY_FAULTS = [
    # elements
    Fault("ties up", E2M1, "power(v) + (22u << 23)))", "power(v) + (22u << 23)) * 1.0000001f)", NV),
    Fault("code of the next power", E2M1, "(sum >> 22) - 2u", "(sum >> 22) - 1u", MX),
    Fault("0 / 0 has a sign", CODES, "if (__builtin_amdgcn_ballot_w64(vanishing != 0)) ", "if (false) ", NV),
    Fault("no sign", CODES, "(two >> 12 & 8u) | (two >> 24 & 0x80u)", "two >> 12 & 8u", AMD),
    Fault("up too often", E2M1, "word < (u32)", "word / 2 < (u32)", NV_COLUMNS),
    Fault("gaps of another power", E2M1, "(255u << 23) - exponent", "(254u << 23) - exponent", AMD),
    Fault("E2M1 without its sign", E2M1, " | (code & 8u) << 28)", ")", BACK),
    Fault("two codes swapped", CODES, "wide(two & 0xffffu), wide(two >> 16)", "wide(two >> 16), wide(two & 0xffffu)", NV),
    Fault("one scale for every column", CODES, "scales[(e + 1) % SCALES]", "scales[0]", NV_COLUMNS),
    # scales
    Fault("a product with the reciprocal", SCALE, "q, a), inverse, q)", "q, a), inverse * 0.0f, first)", NV),
    Fault("small divisors as they are", SCALE, "p < 0x1p-60f ? 0x1p90f : 1.0f", "1.0f", NV),
    Fault("division by 0", SCALE, "vanishes ? 0x1p-60f : p * factor", "p * factor", NV),
    Fault("one division", SCALE, "largest / outer / 6.0f", "largest / (outer * 6.0f)", AMD),
    Fault("scales cut off", SCALE, " + 0x7ffffu + (bits<u32>(t) >> 20 & 1u)", "", NV),
    Fault("ties of scales up", SCALE, "0x7ffffu + (bits<u32>(t) >> 20 & 1u)", "0x80000u", NV),
    Fault("subnormal scales cut off", SCALE, "__builtin_rintf(t * {{ k.per_smallest }})", "__builtin_truncf(t * {{ k.per_smallest }})", NV),
    Fault("scales of zero", SCALE, "t = t > SMALLEST ? t : SMALLEST;", "t = t > 0.0f ? t : 0.0f;", AMD),
    Fault("scales beyond the largest", SCALE, "  t = t < LARGEST ? t : LARGEST;\n", "", NV),
    Fault("a byte of zeros that is not zero", SCALE, "byte = largest == 0.0f ? 0u : byte;", "", NV),
    Fault("a block with Inf", SCALE, "half >= INFINITE", "half > INFINITE", MX),
    Fault("no floor below the outer scale", SCALE, "(computed > 1e-30f ? computed : 1e-30f)", "computed", NV),
    Fault("E8M0 a power up", SCALE, ": 2u) - 2u;", ": 2u) - 1u;", MX),
    Fault("a factor of another power", SCALE, "(254u - byte) << 23", "(253u - byte) << 23", MX),
    Fault("E4M3 without its sign", SCALE, " | (byte & 0x80u) << 24)", ")", BACK),
    Fault("2^-127 as zero", SCALE, "byte ? byte << 23 : 0x00400000u", "byte << 23", BACK_MX),
    # random words
    Fault("nine rounds", PHILOX, "round < 10", "round < 9", NV),
    Fault("a counter of 32 bits", PHILOX, "c1 = counter >> 32,", "c1 = 0,", NV),
    Fault("words of the wrong element", PHILOX, "r[e] = i & 2 ? odd : even;", "r[e] = even;", NV),
    Fault("words of the wrong odd element", PHILOX, "even = i & 1 ? w1 : w0", "even = i & 1 ? w0 : w1", MX_COLUMNS),
    # rows
    Fault("half of a block", ROWS, "  largest = larger(largest, other_lane<1>(largest));\n", "", NV),
    Fault("half of a block of 32", ROWS, "  largest = larger(largest, other_lane<2>(largest));\n", "", MX),
    Fault("scales of the next row", ROWS, "row * blocks + column", "row * groups + column", NV),
    Fault("codes of a block with NaN", ROWS, "broken ? 0u : codes_of", "false ? 0u : codes_of", MX),
    Fault("the outer scale not told", ROWS, "if (group == 0 && ", "if (group == 1u << 31 && ", NV),
    Fault("past the end of a row", EIGHT, "e < left ? (at + e) * 2 : OUT_OF_RANGE", "(at + e) * 2", NV),
    Fault("bytes past the end of a row", EIGHT, "i < left ? at + i : OUT_OF_RANGE", "at + i", MX),
    Fault("the wrong half is larger", EIGHT, "a >> 16 > (a & 0xffffu) ?", "a >> 16 < (a & 0xffffu) ?", NV),
    # columns
    Fault("three of four rows", COLUMNS, "for (int j = 1; j < ROWS; ++j)", "for (int j = 1; j < ROWS - 1; ++j)", NV_COLUMNS),
    Fault("squares as wide as a load", COLUMNS, "    one = larger(one, other_lane<1>(one));\n", "", NV_COLUMNS),
    Fault("squares of half the width", COLUMNS, "    one = larger(one, other_lane<2>(one));\n", "", MX_COLUMNS),
    Fault("rows swapped in a byte", COLUMNS, "interleaved(made[j], made[j + 1])", "interleaved(made[j + 1], made[j])", NV_COLUMNS),
    Fault("columns swapped", COLUMNS, "0x05010400u", "0x01050004u", MX_COLUMNS),
    Fault("codes of a column with NaN", COLUMNS, "broken ? kept & ~(15u << 4 * e) : kept", "kept", NV_COLUMNS),
    Fault("past the end of a slab", COLUMNS, "p.row + j < t.rows ? across : 0", "across", NV_COLUMNS),
    Fault("pairs along the wrong axis", COLUMNS, "if (SQUARE && t.options & {{ k.bits.IN_ROWS }})", "if (SQUARE)", MX_COLUMNS),
    # back to floats
    Fault("the upper half first", DEQUANTIZE, "codes[e] = bytes[e / 2] >> e % 2 * 4;", "codes[e] = bytes[e / 2] >> (e + 1) % 2 * 4;", BACK),
    Fault("rounded once", DEQUANTIZE, '    asm("" : "+v"(value));', "    ", BACK),
    Fault("scales of the first slab", DEQUANTIZE, "slab * down + row / BLOCK", "row / BLOCK", BACK_MX),
    Fault("one scale for eight columns", DEQUANTIZE, "of_two<WHOLE, true>", "of_two<WHOLE, false>", BACK),
    # the largest
    Fault("Inf is the largest", AMAX, "(INFINITE - 1u) * 0x00010001u", "0xffffffffu", LARGEST),
    Fault("what eights do not reach", AMAX, "rest < count ? rest * 2 : OUT_OF_RANGE", "OUT_OF_RANGE", LARGEST),
    Fault("one of its loads", AMAX, "LOADS; ++i) {\n#pragma unroll\n    for", "LOADS - 1; ++i) {\n#pragma unroll\n    for", LARGEST),
    # FP8
    Fault("subnormal FP8 as normal", FNUZ, "exponent > least ? exponent : least", "exponent", ROW),
    Fault("-0 is NaN", FNUZ, "(magnitude ? magnitude |", "(true ? magnitude |", ROW),
    Fault("as large as FP8 can be", TOKENS, "MOST = 224.0f", "MOST = 240.0f", ROW),
    Fault("no smallest scale", TOKENS, "wanted > FLOOR ? wanted : FLOOR", "wanted", ROW),
    Fault("one wave's largest", TOKENS, "result = combine(result, lds[i]);", "result = lds[0];", ROW),
    Fault("the residual of another row", TOKENS, "row * ldr,\n", "row * ldx + 1,\n", ROW),
    Fault("a sum, not a mean", TOKENS, "sum / (float)r.columns", "sum", ROW),
    Fault("no epsilon", TOKENS, " + r.epsilon", "", ROW),
    Fault("a row with Inf", TOKENS, "largest >= 0x7f800000u", "largest > 0x7f800000u", ROW),
    Fault("no barrier before the sums are read", TOKENS, "  synchronize();\n  u32 result", "  u32 result", ROW, unseen=True),
]
