"""f16 arithmetic of the vector ALU, single and packed.

source: CDNA3 ISA 12.7, 12.8, 12.10, 12.11.

Packed operands are (W, 64, 2) and every operation is element-wise, so one function serves v_add_f16 and
v_pk_add_f16. Sums and products are formed in float32 and rounded once more: exact, because 24 bits are at
least twice 11 plus 2. Fused forms have an exact float32 product; their sum is rounded to odd, which makes the
rounding to f16 the only one. NaN as in valu_float.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import compiled, float_to_half, half_to_float, odd_sum
from petitgen.emulator.ops.valu_float import max_f32, med3, min_f32
from petitgen.emulator.registry import alias, op

F16, U16 = np.float16, np.uint16


def on_bits(ufunc):
    """The f16 function of a ufunc on bit patterns."""
    return lambda *operands: ufunc(*(np.asarray(x).view(U16) for x in operands)).view(F16)


@compiled("u2(u2,u2)")
def _add(a, b):
    return float_to_half(half_to_float(a) + half_to_float(b))


@compiled("u2(u2,u2)")
def _sub(a, b):
    return float_to_half(half_to_float(a) - half_to_float(b))


@compiled("u2(u2,u2)")
def _mul(a, b):
    return float_to_half(half_to_float(a) * half_to_float(b))


# Two ufuncs, since LLVM does not vectorise the two steps in one.
@compiled("f4(u2,u2,u2)")
def _fma_odd(a, b, c):
    return odd_sum(np.float32(half_to_float(a) * half_to_float(b)), half_to_float(c))


@compiled("f4(u2)")
def extend(a):
    return half_to_float(a)


@compiled("u2(f4)")
def shorten(a):
    return float_to_half(a)


def _fma(a, b, c):
    return shorten(_fma_odd(a, b, c))


# v_mad_f16 and its kin round the product and flush denormals whatever the mode says.
@compiled("u2(u2,u2)")
def _mul_flushed(a, b):
    a = a if a & np.uint16(0x7C00) else a & np.uint16(0x8000)
    b = b if b & np.uint16(0x7C00) else b & np.uint16(0x8000)
    product = float_to_half(half_to_float(a) * half_to_float(b))
    return product if product & np.uint16(0x7C00) else product & np.uint16(0x8000)


@compiled("u2(u2,u2)")
def _add_flushed(a, b):
    b = b if b & np.uint16(0x7C00) else b & np.uint16(0x8000)
    total = float_to_half(half_to_float(a) + half_to_float(b))
    return total if total & np.uint16(0x7C00) else total & np.uint16(0x8000)


def _mad(a, b, c):
    return _add_flushed(_mul_flushed(a, b), c)


@compiled("u2(u2,u2)")
def _min(a, b):
    x, y = half_to_float(a), half_to_float(b)
    quiet = np.uint16(0x200)
    result = a if x < y else (b if y < x else a | b)
    result = (b | quiet if y != y else b) if x != x else (a if y != y else result)
    result = b | quiet if (y != y) & ((b & quiet) == 0) else result
    return a | quiet if (x != x) & ((a & quiet) == 0) else result


@compiled("u2(u2,u2)")
def _max(a, b):
    x, y = half_to_float(a), half_to_float(b)
    quiet = np.uint16(0x200)
    result = a if x > y else (b if y > x else a & b)
    result = (b | quiet if y != y else b) if x != x else (a if y != y else result)
    result = b | quiet if (y != y) & ((b & quiet) == 0) else result
    return a | quiet if (x != x) & ((a & quiet) == 0) else result


add_f16, sub_f16, mul_f16, fma_f16 = on_bits(_add), on_bits(_sub), on_bits(_mul), on_bits(_fma)
min_f16, max_f16, mad_f16 = on_bits(_min), on_bits(_max), on_bits(_mad)

alias("v_add_f16", add_f16)
alias("v_sub_f16", sub_f16)
alias("v_mul_f16", mul_f16)
alias("v_min_f16", min_f16)
alias("v_max_f16", max_f16)
alias("v_fma_f16", fma_f16)
alias("v_fma_legacy_f16", fma_f16)
alias("v_mad_f16", mad_f16)
alias("v_mad_legacy_f16", mad_f16)
alias("v_mac_f16", mad_f16)
alias("v_madak_f16", mad_f16)
alias("v_pk_add_f16", add_f16)
alias("v_pk_mul_f16", mul_f16)
alias("v_pk_min_f16", min_f16)
alias("v_pk_max_f16", max_f16)
alias("v_pk_fma_f16", fma_f16)
alias("v_pk_fmac_f16", fma_f16)


@op
def v_subrev_f16(a, b):
    """b - a."""
    return sub_f16(b, a)


@op
def v_madmk_f16(a, k, b):
    """a * K + b, product rounded, denormals flushed."""
    return mad_f16(a, k, b)


@op
def v_min3_f16(a, b, c):
    """min(min(a, b), c)."""
    return min_f16(min_f16(a, b), c)


@op
def v_max3_f16(a, b, c):
    """max(max(a, b), c)."""
    return max_f16(max_f16(a, b), c)


def in_f32(compute):
    """The f16 function of one on float32 whose results need at most one rounding to f16."""
    return lambda *operands: shorten(compute(*(extend(np.asarray(x).view(U16)) for x in operands))).view(F16)


@op
def v_med3_f16(a, b, c):
    """The middle one of three."""
    return in_f32(lambda x, y, z: med3(x, y, z, min_f32, max_f32))(a, b, c)


for _name, _function in (("trunc", np.trunc), ("ceil", np.ceil), ("floor", np.floor), ("rndne", np.rint)):
    alias(f"v_{_name}_f16", in_f32(_function))


def _fract(wide):
    return np.minimum(wide - np.floor(wide), np.float32(1 - 2.0**-11))


alias("v_fract_f16", in_f32(_fract))  # a - floor(a), at most the largest number below 1


@op
def v_frexp_mant_f16(a):
    """Significand in [0.5, 1), with the sign; zeros, infinities and NaN come back as they are."""
    significand = np.frexp(extend(np.asarray(a).view(U16)))[0]
    return np.where(np.isfinite(significand), shorten(significand).view(F16), a)


@op
def v_frexp_exp_i16_f16(a):
    """Exponent that goes with the significand in [0.5, 1); 0 for zeros, infinities and NaN."""
    wide = extend(np.asarray(a).view(U16))
    return np.where(np.isfinite(wide), np.frexp(wide)[1], 0).astype(np.int16)


@op
def v_ldexp_f16(a, exponent):
    """a * 2**exponent, rounded once: the power of two is exact in float32."""
    return in_f32(lambda wide: np.ldexp(wide, np.clip(exponent, -60, 60)))(a)


@op
def v_pack_b32_f16(a, b):
    """{b, a}: a in the low half. Bits are kept, NaN payloads too."""
    low, high = np.broadcast_arrays(np.asarray(a).view(U16), np.asarray(b).view(U16))
    return np.stack([low, high], axis=-1).view(F16)
