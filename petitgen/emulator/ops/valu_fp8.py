"""FP8 (e4m3fnuz) and BF8 (e5m2fnuz) conversions of gfx942.

source: CDNA3 ISA 12.8, 12.11 (V_CVT_*FP8*, V_CVT_*BF8*) and 7.x on the FNUZ formats: bias 8 and 16, one NaN
(0x80), no infinity, no negative zero.

From f32: nearest even. What rounds beyond the largest number, infinity and NaN become NaN (0x80), as in a
cast between these formats; LLVM's builtins clamp before converting where saturation is wanted. What rounds to
zero is +0.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from petitgen.emulator.compiled import bits32, compiled, float32_of
from petitgen.emulator.registry import alias

U8, U32, F32 = np.uint8, np.uint32, np.float32


@cache
def decode_table(mantissa_bits: int, bias: int) -> np.ndarray:
    """The float32 values of the 256 codes of a FNUZ format."""
    code = np.arange(256)
    exponent, mantissa = (code & 0x7F) >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    significand = np.where(exponent == 0, mantissa, mantissa + (1 << mantissa_bits))
    value = np.ldexp(significand.astype(F32), np.maximum(exponent, 1) - bias - mantissa_bits)
    value = np.where(code & 0x80, -value, value).astype(F32)
    value[0x80] = np.nan
    return value


def fp8_table() -> np.ndarray:
    """float32 of every FP8 (e4m3fnuz) code."""
    return decode_table(3, 8)


def bf8_table() -> np.ndarray:
    """float32 of every BF8 (e5m2fnuz) code."""
    return decode_table(2, 16)


def _decoder(table):
    return lambda a: np.take(table(), np.asarray(a) & U32(0xFF))


def _pair_decoder(table):
    def decode(a, *, mods):
        """The two codes of the half that op_sel (VOP3) names; SDWA's selection is the executor's."""
        word = np.asarray(a) >> U32(16 if mods.get("op_sel", 0) & 1 else 0)
        return np.stack([np.take(table(), word & U32(0xFF)), np.take(table(), (word >> U32(8)) & U32(0xFF))])

    return decode


alias("v_cvt_f32_fp8", _decoder(fp8_table))
alias("v_cvt_f32_bf8", _decoder(bf8_table))
alias("v_cvt_pk_f32_fp8", _pair_decoder(fp8_table))
alias("v_cvt_pk_f32_bf8", _pair_decoder(bf8_table))


# Rounding a normal result: add half an ulp (less one unless the kept part is odd) to the f32 pattern and cut.
# A denormal result: adding the power of two whose ulp is the smallest denormal lets the float32 adder round.
@compiled("u4(f4)")
def encode_fp8(value):
    bits = bits32(value)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    odd = np.uint32((magnitude >> np.uint32(20)) & np.uint32(1))
    normal = np.uint32(np.uint32(magnitude + np.uint32(0x7FFFF) + odd) >> np.uint32(20)) - np.uint32(
        (127 - 8) << 3
    )
    denormal = np.uint32(bits32(np.float32(float32_of(magnitude) + np.float32(2.0**13)))) - np.uint32(
        (13 + 127) << 23
    )
    code = np.uint32(denormal if magnitude < np.uint32((127 - 7) << 23) else normal)
    code = (
        np.uint32(code | np.uint32(np.uint32(bits >> np.uint32(24)) & np.uint32(0x80)))
        if code
        else np.uint32(0)
    )
    return np.uint32(0x80) if magnitude >= np.uint32(0x43780000) else code


@compiled("u4(f4)")
def encode_bf8(value):
    bits = bits32(value)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    odd = np.uint32((magnitude >> np.uint32(21)) & np.uint32(1))
    normal = np.uint32(np.uint32(magnitude + np.uint32(0xFFFFF) + odd) >> np.uint32(21)) - np.uint32(
        (127 - 16) << 2
    )
    denormal = np.uint32(bits32(np.float32(float32_of(magnitude) + np.float32(2.0**6)))) - np.uint32(
        (6 + 127) << 23
    )
    code = np.uint32(denormal if magnitude < np.uint32((127 - 15) << 23) else normal)
    code = (
        np.uint32(code | np.uint32(np.uint32(bits >> np.uint32(24)) & np.uint32(0x80)))
        if code
        else np.uint32(0)
    )
    return np.uint32(0x80) if magnitude >= np.uint32(0x47700000) else code


def _insert(dst, value, shift: int, mask: int):
    return (dst & U32(~(mask << shift) & 0xFFFFFFFF)) | (value << U32(shift))


def _pack(encode):
    def pack(a, b, dst, *, mods):
        """Codes of a and b into the half of dst that op_sel bit 3 names."""
        return _insert(dst, encode(a) | (encode(b) << U32(8)), 16 if mods.get("op_sel", 0) & 8 else 0, 0xFFFF)

    return pack


def _stochastic(encode, mantissa_bits: int, bias: int):
    dropped = 23 - mantissa_bits
    smallest_normal, ulps = F32(2.0 ** (1 - bias)), 2.0 ** (bias - 1 + mantissa_bits)

    def convert(a, random, dst, *, mods):
        """The code of a, cut after the top bits of `random` are added below the last kept bit, into the byte
        of dst that op_sel bits 2 and 3 name.

        The ISA adds as many bits of `random` as a normal result loses and then says "nearest even", which
        would round twice; like AMD's HIP headers this cuts instead, with the carry going into the exponent.
        """
        bits, noise = np.asarray(a).view(U32), np.asarray(random) >> U32(32 - dropped)
        magnitude = np.abs(bits.view(F32))
        normal = (bits + noise) & U32((0xFFFFFFFF << dropped) & 0xFFFFFFFF)
        denormal = (
            np.floor(magnitude.astype(np.float64) * ulps + np.ldexp(noise.astype(np.float64), -dropped))
            / ulps
        )
        denormal = np.copysign(denormal.astype(F32), bits.view(F32)).view(U32)
        chosen = np.where(magnitude < smallest_normal, denormal, normal)
        chosen = np.where(np.isfinite(magnitude), chosen, bits)
        return _insert(dst, encode(chosen.view(F32)), 8 * (mods.get("op_sel", 0) >> 2 & 3), 0xFF)

    return convert


alias("v_cvt_pk_fp8_f32", _pack(encode_fp8))
alias("v_cvt_pk_bf8_f32", _pack(encode_bf8))
alias("v_cvt_sr_fp8_f32", _stochastic(encode_fp8, 3, 8))
alias("v_cvt_sr_bf8_f32", _stochastic(encode_bf8, 2, 16))
