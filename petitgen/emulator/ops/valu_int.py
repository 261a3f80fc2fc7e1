"""32- and 64-bit integer arithmetic of the vector ALU. Results wrap; the clamped forms saturate.

source: CDNA3 ISA 12.7 (VOP2), 12.11 (VOP3); the CDNA2 ISA says the same.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import compiled
from petitgen.emulator.registry import alias, clamped, op

U32, I32, U64, I64 = np.uint32, np.int32, np.uint64, np.int64
U32_MAX, I32_MIN, I32_MAX = 2**32 - 1, -(2**31), 2**31 - 1


def _saturate(wide, dtype):
    """int64 values clipped to the range of a 32-bit dtype."""
    info = np.iinfo(dtype)
    return np.clip(wide, info.min, info.max).astype(dtype)


def _sat_add(dtype):
    return lambda a, b: _saturate(np.add(a, b, dtype=I64), dtype)


def _sat_sub(dtype):
    return lambda a, b: _saturate(np.subtract(a, b, dtype=I64), dtype)


def _sat_subrev(dtype):
    return lambda a, b: _saturate(np.subtract(b, a, dtype=I64), dtype)


@compiled("u4(u4,u4)")
def _subrev(a, b):
    return b - a


alias("v_add_u32", np.add, _sat_add(U32))
alias("v_sub_u32", np.subtract, _sat_sub(U32))
alias("v_subrev_u32", _subrev, _sat_subrev(U32))
alias("v_add_i32", np.add, _sat_add(I32))
alias("v_sub_i32", np.subtract, _sat_sub(I32))

alias("v_min_u32", np.minimum)
alias("v_min_i32", np.minimum)
alias("v_max_u32", np.maximum)
alias("v_max_i32", np.maximum)
alias("v_mul_lo_u32", np.multiply)


@op
def v_add_co_u32(a, b):
    """Sum and carry-out."""
    total = np.add(a, b)
    return total, np.less(total, a)


@clamped("v_add_co_u32")
def _(a, b):
    total, carry = v_add_co_u32(a, b)
    return np.where(carry, U32(U32_MAX), total), carry


@op
def v_sub_co_u32(a, b):
    """Difference and borrow."""
    return np.subtract(a, b), np.less(a, b)


@clamped("v_sub_co_u32")
def _(a, b):
    return np.where(a < b, U32(0), a - b), np.less(a, b)


@op
def v_subrev_co_u32(a, b):
    """v_sub_co_u32 with the operands exchanged."""
    return v_sub_co_u32(b, a)


@clamped("v_subrev_co_u32")
def _(a, b):
    return np.where(b < a, U32(0), b - a), np.less(b, a)


@op
def v_addc_co_u32(a, b, carry):
    """Sum with carry-in, and carry-out."""
    total = np.add(a, b, dtype=U64) + carry
    return total.astype(U32), total > U32_MAX


@clamped("v_addc_co_u32")
def _(a, b, carry):
    total = np.add(a, b, dtype=U64) + carry
    return np.minimum(total, U64(U32_MAX)).astype(U32), total > U32_MAX


@op
def v_subb_co_u32(a, b, borrow):
    """Difference with borrow-in, and borrow-out."""
    total = np.subtract(a, b, dtype=I64) - borrow
    return total.astype(U32), total < 0


@clamped("v_subb_co_u32")
def _(a, b, borrow):
    total = np.subtract(a, b, dtype=I64) - borrow
    return np.maximum(total, 0).astype(U32), total < 0


@op
def v_subbrev_co_u32(a, b, borrow):
    """v_subb_co_u32 with the operands exchanged."""
    return v_subb_co_u32(b, a, borrow)


@clamped("v_subbrev_co_u32")
def _(a, b, borrow):
    total = np.subtract(b, a, dtype=I64) - borrow
    return np.maximum(total, 0).astype(U32), total < 0


@compiled("u4(u4,u4)")
def _mul_hi_u32(a, b):
    return np.uint64(np.uint64(a) * np.uint64(b)) >> np.uint64(32)


@compiled("i4(i4,i4)")
def _mul_hi_i32(a, b):
    return np.int64(np.int64(a) * np.int64(b)) >> 32


alias("v_mul_hi_u32", _mul_hi_u32)
alias("v_mul_hi_i32", _mul_hi_i32)


# The 24-bit forms take the low 24 bits of each source, zero- or sign-extended.
@compiled("u4(u4,u4)")
def _mul_u32_u24(a, b):
    return np.uint32(a & np.uint32(0xFFFFFF)) * np.uint32(b & np.uint32(0xFFFFFF))


@compiled("u4(u4,u4)")
def _mul_hi_u32_u24(a, b):
    return np.uint64(np.uint64(a & np.uint32(0xFFFFFF)) * np.uint64(b & np.uint32(0xFFFFFF))) >> np.uint64(32)


@compiled("i4(i4,i4)")
def _mul_i32_i24(a, b):
    return (np.int32(a << 8) >> 8) * (np.int32(b << 8) >> 8)


@compiled("i4(i4,i4)")
def _mul_hi_i32_i24(a, b):
    return (np.int64(np.int32(a << 8) >> 8) * np.int64(np.int32(b << 8) >> 8)) >> 32


@compiled("u4(u4,u4,u4)")
def _mad_u32_u24(a, b, c):
    return np.uint32(a & np.uint32(0xFFFFFF)) * np.uint32(b & np.uint32(0xFFFFFF)) + c


@compiled("i4(i4,i4,i4)")
def _mad_i32_i24(a, b, c):
    return (np.int32(a << 8) >> 8) * (np.int32(b << 8) >> 8) + c


def _sat_mad_u32_u24(a, b, c):
    product = np.multiply(a & U32(0xFFFFFF), b & U32(0xFFFFFF), dtype=U64)
    return np.minimum(product + c, U64(U32_MAX)).astype(U32)


def _sat_mad_i32_i24(a, b, c):
    return _saturate(np.multiply((a << 8) >> 8, (b << 8) >> 8, dtype=I64) + c, I32)


alias("v_mul_u32_u24", _mul_u32_u24)
alias("v_mul_hi_u32_u24", _mul_hi_u32_u24)
alias("v_mul_i32_i24", _mul_i32_i24)
alias("v_mul_hi_i32_i24", _mul_hi_i32_i24)
alias("v_mad_u32_u24", _mad_u32_u24, _sat_mad_u32_u24)
alias("v_mad_i32_i24", _mad_i32_i24, _sat_mad_i32_i24)


@op
def v_mad_u32_u16(a, b, c):
    """u16 * u16 + u32."""
    return np.multiply(a, b, dtype=U32) + c


@clamped("v_mad_u32_u16")
def _(a, b, c):
    return np.minimum(np.multiply(a, b, dtype=U64) + c, U64(U32_MAX)).astype(U32)


@op
def v_mad_i32_i16(a, b, c):
    """i16 * i16 + i32."""
    return np.multiply(a, b, dtype=I32) + c


@clamped("v_mad_i32_i16")
def _(a, b, c):
    return _saturate(np.multiply(a, b, dtype=I64) + c, I32)


@op
def v_mad_u64_u32(a, b, c):
    """u32 * u32 + u64, and the carry out of bit 63."""
    total = np.multiply(a, b, dtype=U64) + c
    return total, np.less(total, c)


@op
def v_mad_i64_i32(a, b, c):
    """i32 * i32 + i64, and bit 64 of the 65-bit sum, which is the sign of the exact result."""
    product = np.multiply(a, b, dtype=I64)
    total = product + c
    overflow = ((product ^ total) & (c ^ total)) < 0
    return total, (total < 0) ^ overflow


@op
def v_lshl_add_u64(a, shift, c):
    """(a << shift) + c. Only shifts 0 to 4 are supported; the hardware takes others as 0."""
    amount = (np.asarray(shift) & 7).astype(U64)
    return np.left_shift(a, np.where(amount > 4, U64(0), amount)) + c


@compiled("u4(u4,u4,u4)")
def _add3(a, b, c):
    return a + b + c


@compiled("u4(u4,u4,u4)")
def _lshl_add(a, shift, c):
    return np.uint32(a << np.uint32(shift & np.uint32(31))) + c


@compiled("u4(u4,u4,u4)")
def _add_lshl(a, b, shift):
    return np.uint32(a + b) << np.uint32(shift & np.uint32(31))


@compiled("u4(u4,u4,u4)")
def _xad(a, b, c):
    return (a ^ b) + c


alias("v_add3_u32", _add3)
alias("v_lshl_add_u32", _lshl_add)
alias("v_add_lshl_u32", _add_lshl)
alias("v_xad_u32", _xad)


def _three(combine):
    """min3 or max3 from the two-operand form."""
    return lambda a, b, c: combine(combine(a, b), c)


def median(a, b, c):
    """The middle one of three integers."""
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


for _type in ("u32", "i32", "u16", "i16"):
    alias(f"v_min3_{_type}", _three(np.minimum))
    alias(f"v_max3_{_type}", _three(np.maximum))
    alias(f"v_med3_{_type}", median)
