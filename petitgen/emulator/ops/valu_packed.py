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
from petitgen.emulator.registry import alias, op

U16, U32, I32, I64, F16, F32 = np.uint16, np.uint32, np.int32, np.int64, np.float16, np.float32

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


def _signed(packed, bits: int):
    """The signed fields of `bits` bits of a b32, lowest first on a new last axis, as int64."""
    fields = np.asarray(packed).astype(I64)[..., None] >> np.arange(0, 32, bits)
    shift = 64 - bits
    return (fields << shift) >> shift


def _unsigned(packed, bits: int):
    """The unsigned fields of `bits` bits of a b32, lowest first on a new last axis, as int64."""
    return (np.asarray(packed).astype(I64)[..., None] >> np.arange(0, 32, bits)) & ((1 << bits) - 1)


def _halves(packed, bits: int):
    """A pk_i16 or pk_u16 operand as int64."""
    return np.asarray(packed).astype(I64)


def _dot(fields, bits: int, dtype):
    """c + sum of the products of the fields, wrapping at 32 bits; and its saturating form."""
    info = np.iinfo(dtype)

    def exact(a, b, c):
        return (fields(a, bits) * fields(b, bits)).sum(axis=-1) + np.asarray(c).astype(I64)

    return (
        lambda a, b, c: exact(a, b, c).astype(dtype),
        lambda a, b, c: np.clip(exact(a, b, c), info.min, info.max).astype(dtype),
    )


for _names, _fields, _bits, _dtype in (
    (("v_dot2_i32_i16", "v_dot2c_i32_i16"), _halves, 16, I32),
    (("v_dot2_u32_u16",), _halves, 16, U32),
    (("v_dot4_i32_i8", "v_dot4c_i32_i8"), _signed, 8, I32),
    (("v_dot4_u32_u8",), _unsigned, 8, U32),
    (("v_dot8_i32_i4", "v_dot8c_i32_i4"), _signed, 4, I32),
    (("v_dot8_u32_u4",), _unsigned, 4, U32),
):
    for _name in _names:
        alias(_name, *_dot(_fields, _bits, _dtype))


@compiled("f4(u2)")
def _extend(half):
    return half_to_float(half)


def _mix_source(raw, position: int, mods):
    """Source `position` of v_fma_mix*: f32, or the f16 half that op_sel names where op_sel_hi is set; then
    abs, then neg.
    """
    bit = 1 << position
    raw = np.asarray(raw)
    if mods.get("op_sel_hi", 0) & bit:
        shift = 16 if mods.get("op_sel", 0) & bit else 0
        value = _extend((raw >> U32(shift)).astype(U16))
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
