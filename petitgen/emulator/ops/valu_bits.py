"""Logic, shifts, bit fields, permutes and bit counts of the vector ALU.

source: CDNA3 ISA 12.7 (VOP2), 12.8 (VOP1), 12.11 (VOP3).
Shift counts use as many low bits as the width needs.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import compiled
from petitgen.emulator.registry import alias, op

U32, I32, U64 = np.uint32, np.int32, np.uint64

alias("v_mov_b32", np.positive)
alias("v_mov_b64", np.positive)
alias("v_accvgpr_read_b32", np.positive)
alias("v_accvgpr_write_b32", np.positive)
alias("v_accvgpr_mov_b32", np.positive)
alias("v_and_b32", np.bitwise_and)
alias("v_or_b32", np.bitwise_or)
alias("v_xor_b32", np.bitwise_xor)
alias("v_not_b32", np.bitwise_not)


@compiled("u4(u4,u4)")
def _xnor(a, b):
    return ~(a ^ b)


@compiled("u4(u4,u4,u4)")
def _and_or(a, b, c):
    return (a & b) | c


@compiled("u4(u4,u4,u4)")
def _or3(a, b, c):
    return a | b | c


@compiled("u4(u4,u4,u4)")
def _lshl_or(a, shift, c):
    return np.uint32(a << np.uint32(shift & np.uint32(31))) | c


@compiled("u4(u4,u4)")
def _lshlrev(shift, a):
    return a << np.uint32(shift & np.uint32(31))


@compiled("u4(u4,u4)")
def _lshrrev(shift, a):
    return a >> np.uint32(shift & np.uint32(31))


@compiled("i4(u4,i4)")
def _ashrrev(shift, a):
    return a >> np.int32(shift & np.uint32(31))


@compiled("u8(u4,u8)")
def _lshlrev64(shift, a):
    return a << np.uint64(shift & np.uint32(63))


@compiled("u8(u4,u8)")
def _lshrrev64(shift, a):
    return a >> np.uint64(shift & np.uint32(63))


@compiled("i8(u4,i8)")
def _ashrrev64(shift, a):
    return a >> np.int64(shift & np.uint32(63))


alias("v_xnor_b32", _xnor)
alias("v_and_or_b32", _and_or)
alias("v_or3_b32", _or3)
alias("v_lshl_or_b32", _lshl_or)
alias("v_lshlrev_b32", _lshlrev)
alias("v_lshrrev_b32", _lshrrev)
alias("v_ashrrev_i32", _ashrrev)
alias("v_lshlrev_b64", _lshlrev64)
alias("v_lshrrev_b64", _lshrrev64)
alias("v_ashrrev_i64", _ashrrev64)


@compiled("u4(u4,u4,u4)")
def _bfe_u32(a, offset, width):
    mask = np.uint32(np.uint32(1) << np.uint32(width & np.uint32(31))) - np.uint32(1)
    return np.uint32(a >> np.uint32(offset & np.uint32(31))) & mask


@compiled("i4(i4,u4,u4)")
def _bfe_i32(a, offset, width):
    bits = np.int64(width & np.uint32(31))
    field = np.int64(a) >> np.int64(offset & np.uint32(31))
    # Moving the field to the top and back extends its sign; a width of 0 leaves nothing.
    return np.int32(np.int64(field << (64 - bits)) >> (64 - bits)) if bits else np.int32(0)


@compiled("u4(u4,u4,u4)")
def _bfi(mask, a, b):
    return (mask & a) | (~mask & b)


@compiled("u4(u4,u4)")
def _bfm(width, offset):
    ones = np.uint32(np.uint32(np.uint32(1) << np.uint32(width & np.uint32(31))) - np.uint32(1))
    return ones << np.uint32(offset & np.uint32(31))


@compiled("u4(u4,u4,u4)")
def _alignbit(high, low, shift):
    pair = np.uint64(np.uint64(high) << np.uint64(32)) | np.uint64(low)
    return np.uint64(pair) >> np.uint64(shift & np.uint32(31))


@compiled("u4(u4,u4,u4)")
def _alignbyte(high, low, shift):
    pair = np.uint64(np.uint64(high) << np.uint64(32)) | np.uint64(low)
    return np.uint64(pair) >> np.uint64(np.uint64(shift & np.uint32(3)) * np.uint64(8))


@compiled("u4(u4,u4,u4)")
def _perm(high, low, selectors):
    """Each selector byte: 0-7 a byte of {high, low}, 8-11 signs of bytes 1, 3, 5, 7, 12 0x00, above 0xff."""
    pair = np.int64(np.uint64(np.uint64(high) << np.uint64(32)) | np.uint64(low))
    result = np.int64(0)
    for at in (0, 8, 16, 24):
        selector = (np.int64(selectors) >> at) & 0xFF
        byte = (pair >> ((selector & 7) << 3)) & 0xFF
        sign = -((pair >> (((selector & 3) << 4) + 15)) & 1) & 0xFF
        # Masks rather than choices, so that the loop over lanes is vectorised.
        below_8, below_12, above_12 = (selector - 8) >> 63, (selector - 12) >> 63, (12 - selector) >> 63
        result |= ((byte & below_8) | (sign & ~below_8 & below_12) | (above_12 & 0xFF)) << at
    return np.uint32(result)


alias("v_bfe_u32", _bfe_u32)
alias("v_bfe_i32", _bfe_i32)
alias("v_bfi_b32", _bfi)
alias("v_bfm_b32", _bfm)
alias("v_alignbit_b32", _alignbit)
alias("v_alignbyte_b32", _alignbyte)
alias("v_perm_b32", _perm)


@compiled("u4(u4)")
def _bfrev(a):
    v = np.uint32(np.uint32(a >> np.uint32(1)) & np.uint32(0x55555555)) | np.uint32(
        np.uint32(a & np.uint32(0x55555555)) << np.uint32(1)
    )
    v = np.uint32(np.uint32(v >> np.uint32(2)) & np.uint32(0x33333333)) | np.uint32(
        np.uint32(v & np.uint32(0x33333333)) << np.uint32(2)
    )
    v = np.uint32(np.uint32(v >> np.uint32(4)) & np.uint32(0x0F0F0F0F)) | np.uint32(
        np.uint32(v & np.uint32(0x0F0F0F0F)) << np.uint32(4)
    )
    v = np.uint32(np.uint32(v >> np.uint32(8)) & np.uint32(0x00FF00FF)) | np.uint32(
        np.uint32(v & np.uint32(0x00FF00FF)) << np.uint32(8)
    )
    return np.uint32(v >> np.uint32(16)) | np.uint32(v << np.uint32(16))


alias("v_bfrev_b32", _bfrev)


@op
def v_ffbh_u32(a):
    """Leading zeros; -1 for 0."""
    # frexp of the exact float64 gives the position of the highest one.
    highest = np.frexp(np.asarray(a, np.float64))[1]
    return np.where(np.equal(a, 0), I32(-1), I32(32) - highest).astype(I32).view(U32)


@op
def v_ffbl_b32(a):
    """Trailing zeros; -1 for 0."""
    a = np.asarray(a)
    lowest = np.frexp((a & (~a + U32(1))).astype(np.float64))[1]
    return np.where(np.equal(a, 0), I32(-1), lowest - I32(1)).astype(I32).view(U32)


@op
def v_ffbh_i32(a):
    """Leading bits equal to the sign bit up to the first that differs; -1 when all are equal."""
    a = np.asarray(a).view(I32)
    return v_ffbh_u32((a ^ (a >> I32(31))).view(U32)).view(I32)


@op
def v_bcnt_u32_b32(a, b):
    """Ones in a, plus b."""
    return np.add(np.bitwise_count(np.asarray(a)), b, dtype=U32)


LANES = np.arange(64, dtype=U64)
BELOW = (U64(1) << LANES) - U64(1)  # the lanes below each lane
BELOW_LOW, BELOW_HIGH = BELOW.astype(U32), (BELOW >> U64(32)).astype(U32)


@op
def v_mbcnt_lo_u32_b32(mask, b):
    """Ones of mask that belong to lanes 0-31 below this lane, plus b."""
    return np.add(np.bitwise_count(mask & BELOW_LOW), b, dtype=U32)


@op
def v_mbcnt_hi_u32_b32(mask, b):
    """Ones of mask that belong to lanes 32-63 below this lane, plus b."""
    return np.add(np.bitwise_count(mask & BELOW_HIGH), b, dtype=U32)


@compiled("u4(u4,u4,b1)")
def _cndmask(a, b, mask):
    """mask ? b : a."""
    return b if mask else a


alias("v_cndmask_b32", _cndmask)


@op
def v_swap_b32(a, b):
    """The two registers exchanged: a is src0, b the old destination; results for destination and src0."""
    return a, b
