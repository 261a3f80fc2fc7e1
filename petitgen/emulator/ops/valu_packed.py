"""Packed f32, dot products and mixed-precision multiply-add of the vector ALU (VOP3P, and the accumulating
VOP2 forms).

source: CDNA3 ISA 12.10 (VOP3P), 12.7 (v_dot*c_*).

The ISA gives v_dot2_f32_f16 as two accumulations in float32 without saying where it rounds; here each product
(exact in float32) is added with one rounding, in the order of the ISA's text.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import compiled, float_to_half, fused, half_to_float
from petitgen.emulator.ops.valu_float import fma_f32
from petitgen.emulator.ops.valu_half import extend
from petitgen.emulator.registry import alias, op

U16, U32, I32, F16, F32 = np.uint16, np.uint32, np.int32, np.float16, np.float32

alias("v_pk_fma_f32", fma_f32)
alias("v_pk_mul_f32", np.multiply)
alias("v_pk_add_f32", np.add)


@op
def v_pk_mov_b32(a, b):
    """The selected register of a, then the selected register of b (each the low one after op_sel)."""
    return np.stack(np.broadcast_arrays(a[0], b[0]))


@compiled("f4(u2,u2,u2,u2,f4)")
def _dot2_f32_f16(a0, b0, a1, b1, c):
    total = np.float32(c + np.float32(half_to_float(a0) * half_to_float(b0)))
    return np.float32(total + np.float32(half_to_float(a1) * half_to_float(b1)))


@op
def v_dot2_f32_f16(a, b, c):
    """c + a.lo * b.lo + a.hi * b.hi."""
    a, b = np.asarray(a).view(U16), np.asarray(b).view(U16)
    return _dot2_f32_f16(a[..., 0], b[..., 0], a[..., 1], b[..., 1], c)


alias("v_dot2c_f32_f16", v_dot2_f32_f16)


@compiled("i8(i2,i2,i2,i2,i4)")
def _dot2_signed(a0, b0, a1, b1, c):
    return np.int64(a0) * np.int64(b0) + np.int64(a1) * np.int64(b1) + np.int64(c)


@compiled("i8(u2,u2,u2,u2,u4)")
def _dot2_unsigned(a0, b0, a1, b1, c):
    return np.int64(a0) * np.int64(b0) + np.int64(a1) * np.int64(b1) + np.int64(c)


@compiled("i8(u4,u4,i4)")
def _dot4_signed(a, b, c):
    total = np.int64(c)
    for at in (0, 8, 16, 24):
        total += (np.int64(np.int32(a << (24 - at))) >> 24) * (np.int64(np.int32(b << (24 - at))) >> 24)
    return total


@compiled("i8(u4,u4,u4)")
def _dot4_unsigned(a, b, c):
    total = np.int64(c)
    for at in (0, 8, 16, 24):
        total += ((np.int64(a) >> at) & 0xFF) * ((np.int64(b) >> at) & 0xFF)
    return total


@compiled("i8(u4,u4,i4)")
def _dot8_signed(a, b, c):
    total = np.int64(c)
    for at in (0, 4, 8, 12, 16, 20, 24, 28):
        total += (np.int64(np.int32(a << (28 - at))) >> 28) * (np.int64(np.int32(b << (28 - at))) >> 28)
    return total


@compiled("i8(u4,u4,u4)")
def _dot8_unsigned(a, b, c):
    total = np.int64(c)
    for at in (0, 4, 8, 12, 16, 20, 24, 28):
        total += ((np.int64(a) >> at) & 15) * ((np.int64(b) >> at) & 15)
    return total


def _of_pairs(exact):
    """exact(a.lo, b.lo, a.hi, b.hi, c) of packed operands."""
    return lambda a, b, c: exact(a[..., 0], b[..., 0], a[..., 1], b[..., 1], c)


def _dot(exact, dtype):
    """The exact sum cut to 32 bits, and saturated."""
    info = np.iinfo(dtype)
    return (
        lambda a, b, c: exact(a, b, c).astype(dtype),
        lambda a, b, c: np.clip(exact(a, b, c), info.min, info.max).astype(dtype),
    )


for _name, _exact, _dtype in (
    ("v_dot2_i32_i16", _of_pairs(_dot2_signed), I32),
    ("v_dot2c_i32_i16", _of_pairs(_dot2_signed), I32),
    ("v_dot2_u32_u16", _of_pairs(_dot2_unsigned), U32),
    ("v_dot4_i32_i8", _dot4_signed, I32),
    ("v_dot4c_i32_i8", _dot4_signed, I32),
    ("v_dot4_u32_u8", _dot4_unsigned, U32),
    ("v_dot8_i32_i4", _dot8_signed, I32),
    ("v_dot8c_i32_i4", _dot8_signed, I32),
    ("v_dot8_u32_u4", _dot8_unsigned, U32),
):
    alias(_name, *_dot(_exact, _dtype))


def _mix_source(raw, position: int, mods):
    """Source `position` of v_fma_mix*: f32, or the f16 half that op_sel names where op_sel_hi is set; then
    abs, then neg.
    """
    bit = 1 << position
    raw = np.asarray(raw)
    if mods.get("op_sel_hi", 0) & bit:
        shift = 16 if mods.get("op_sel", 0) & bit else 0
        value = extend((raw >> U32(shift)).astype(U16))
    else:
        value = raw.view(F32)
    if mods.get("neg_hi", 0) & bit:
        value = np.abs(value)
    return np.negative(value) if mods.get("neg_lo", 0) & bit else value


@compiled("u2(f4,f4,f4)")
def _fma_to_half(a, b, c):
    return float_to_half(fused(a, b, c))


def _mix_sources(a, b, c, mods):
    return (_mix_source(raw, i, mods) for i, raw in enumerate((a, b, c)))


@op
def v_fma_mix_f32(a, b, c, *, mods):
    """a * b + c in float32, rounded once; each source f32 or f16."""
    return fma_f32(*_mix_sources(a, b, c, mods))


@op
def v_fma_mixlo_f16(a, b, c, dst, *, mods):
    """v_fma_mix_f32 rounded to f16 afterwards (the ISA converts the f32 result); written to the low half."""
    return _fma_to_half(*_mix_sources(a, b, c, mods)).view(F16)


@op
def v_fma_mixhi_f16(a, b, c, dst, *, mods):
    """v_fma_mixlo_f16, written to the high half."""
    return _fma_to_half(*_mix_sources(a, b, c, mods)).view(F16)
