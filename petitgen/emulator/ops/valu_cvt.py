"""Conversions of the vector ALU (but FP8: valu_fp8).

source: CDNA3 ISA 12.8, 12.11. Float to integer truncates and saturates, NaN gives 0. To a float: nearest
even.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import bits32, compiled, float32_of, half_to_float
from petitgen.emulator.ops.valu_half import shorten
from petitgen.emulator.registry import alias, op

U8, U16, I16, U32, I32 = np.uint8, np.uint16, np.int16, np.uint32, np.int32
F16, F32, F64 = np.float16, np.float32, np.float64


@compiled("f4(u2)")
def _f32_f16(a):
    value = half_to_float(a)
    return float32_of(np.uint32(bits32(value) | np.uint32(0x400000))) if value != value else value


@compiled("u2(f4)")
def _f16_f32_toward_zero(a):
    bits = bits32(a)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    normal = np.uint32(np.uint32(magnitude - np.uint32(0x38000000)) >> np.uint32(13))
    denormal = np.uint32(float32_of(np.uint32(min(magnitude, np.uint32(0x38800000)))) * np.float32(2.0**24))
    nan = np.uint32(0x7E00) | np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(0x1FF))
    result = denormal if magnitude < np.uint32(0x38800000) else normal
    result = np.uint32(0x7BFF) if magnitude >= np.uint32(0x47800000) else result
    result = np.uint32(0x7C00) if magnitude == np.uint32(0x7F800000) else result
    result = nan if magnitude > np.uint32(0x7F800000) else result
    return np.uint16(result | np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000)))


@op
def v_cvt_f16_f32(a):
    """f32 to f16."""
    return shorten(a).view(F16)


@op
def v_cvt_f32_f16(a):
    """f16 to f32, exact."""
    return _f32_f16(np.asarray(a).view(U16))


def _pack(low, high):
    """Two 16-bit results as one packed one, low half first."""
    return np.stack(np.broadcast_arrays(low, high), axis=-1)


@op
def v_cvt_pkrtz_f16_f32(a, b):
    """Two f32 to packed f16, rounded toward zero whatever the mode: finite values never become infinite."""
    return _pack(_f16_f32_toward_zero(a), _f16_f32_toward_zero(b)).view(F16)


@compiled("i4(f4)")
def _i32_f32(a):
    wide = np.float64(a)
    return np.int32(min(max(wide, -2147483648.0), 2147483647.0) if wide == wide else 0.0)


@compiled("u4(f4)")
def _u32_f32(a):
    wide = np.float64(a)
    return np.uint32(np.int64(min(max(wide, 0.0), 4294967295.0) if wide == wide else 0.0))


def saturate(values, dtype):
    """Float values (already integral, or to be truncated) to an integer dtype: saturating, NaN to 0."""
    info = np.iinfo(dtype)
    return np.nan_to_num(np.clip(np.asarray(values).astype(F64), info.min, info.max)).astype(dtype)


alias("v_cvt_i32_f32", _i32_f32)
alias("v_cvt_u32_f32", _u32_f32)


@op
def v_cvt_i32_f64(a):
    """f64 to i32."""
    return saturate(a, I32)


@op
def v_cvt_u32_f64(a):
    """f64 to u32."""
    return saturate(a, U32)


@op
def v_cvt_i16_f16(a):
    """f16 to i16."""
    return saturate(a, I16)


@op
def v_cvt_u16_f16(a):
    """f16 to u16."""
    return saturate(a, U16)


@op
def v_cvt_rpi_i32_f32(a):
    """floor(a + 0.5) to i32; the sum is exact, as a rounded one would push 0.49999997 to 1."""
    return saturate(np.floor(np.asarray(a, F64) + 0.5), I32)


@op
def v_cvt_flr_i32_f32(a):
    """floor(a) to i32."""
    return saturate(np.floor(a), I32)


def _to(dtype):
    """A cast that numpy rounds to nearest even (or that is exact)."""
    return lambda a: np.asarray(a).astype(dtype)


alias("v_cvt_f32_i32", _to(F32))
alias("v_cvt_f32_u32", _to(F32))
alias("v_cvt_f64_i32", _to(F64))
alias("v_cvt_f64_u32", _to(F64))
alias("v_cvt_f32_f64", _to(F32))
alias("v_cvt_f64_f32", _to(F64))


def _half_of_integer(a):
    """A 16-bit integer to f16; float32 holds it exactly."""
    return shorten(np.asarray(a).astype(F32)).view(F16)


alias("v_cvt_f16_u16", _half_of_integer)
alias("v_cvt_f16_i16", _half_of_integer)


def _ubyte(byte: int):
    """Byte `byte` of a b32 as f32."""
    shift = U32(8 * byte)
    return lambda a: ((a >> shift) & U32(0xFF)).astype(F32)


for _byte in range(4):
    alias(f"v_cvt_f32_ubyte{_byte}", _ubyte(_byte))


@op
def v_cvt_off_f32_i4(a):
    """The low four bits as a signed number, in sixteenths."""
    return ((((np.asarray(a) & U32(15)) ^ U32(8)).astype(F32)) - F32(8)) / F32(16)


def _normalized(dtype):
    """a in [-1, 1] or [0, 1] to the full range of a 16-bit integer, nearest even; NaN to 0."""
    info = np.iinfo(dtype)
    lowest = -1.0 if info.min else 0.0
    return lambda a: saturate(np.rint(np.clip(np.asarray(a).astype(F64), lowest, 1.0) * info.max), dtype)


_snorm, _unorm = _normalized(I16), _normalized(U16)


def _pack_of(convert):
    return lambda a, b: _pack(convert(a), convert(b))


alias("v_cvt_norm_i16_f16", _snorm)
alias("v_cvt_norm_u16_f16", _unorm)
alias("v_cvt_pknorm_i16_f16", _pack_of(_snorm))
alias("v_cvt_pknorm_u16_f16", _pack_of(_unorm))
alias("v_cvt_pknorm_i16_f32", _pack_of(_snorm))
alias("v_cvt_pknorm_u16_f32", _pack_of(_unorm))


@op
def v_cvt_pk_u16_u32(a, b):
    """Two u32 to packed u16, saturating."""
    return _pack(np.minimum(a, U32(0xFFFF)), np.minimum(b, U32(0xFFFF))).astype(U16)


@op
def v_cvt_pk_i16_i32(a, b):
    """Two i32 to packed i16, saturating."""
    return _pack(np.clip(a, I32(-32768), I32(32767)), np.clip(b, I32(-32768), I32(32767))).astype(I16)


@op
def v_cvt_pk_u8_f32(a, byte, c):
    """a as u8 into byte `byte` of c. The ISA does not say how it rounds; GCN hardware rounds to nearest and
    saturates.
    """
    shift = (np.asarray(byte) & U32(3)) * U32(8)
    value = saturate(np.rint(a), U8).astype(U32)
    return (c & ~(U32(0xFF) << shift)) | (value << shift)


alias("v_cvt_pkaccum_u8_f32", v_cvt_pk_u8_f32)  # the third source is the destination's old value


@op
def v_sat_pk_u8_i16(a):
    """Two i16 to two u8 in 16 bits, saturating."""
    clipped = np.clip(a, I16(0), I16(255)).astype(U16)
    return clipped[..., 0] | (clipped[..., 1] << U16(8))
