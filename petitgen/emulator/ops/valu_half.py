"""f16 arithmetic of the vector ALU, single and packed.

source: CDNA3 ISA 12.7, 12.8, 12.10, 12.11.

Packed operands are (W, 64, 2) and every operation is element-wise, so one function serves v_add_f16 and
v_pk_add_f16. Sums and products are formed in float32 and rounded once more: exact, because 24 bits are at
least twice 11 plus 2. Fused forms add in float64 (the product is exact; where the sum is not, the small term
is below half an f16 ulp of the large one and cannot make or break a tie) and round to f16 once. NaN as in
valu_float.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import compiled, double_to_half, float_to_half, half_to_float
from petitgen.emulator.ops.valu_float import _frexp_exp, _frexp_mant, med3
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


@compiled("u2(u2,u2,u2)")
def _fma(a, b, c):
    return double_to_half(
        np.float64(half_to_float(a)) * np.float64(half_to_float(b)) + np.float64(half_to_float(c))
    )


# v_mad_f16 and its kin round the product and flush denormals whatever the mode says.
@compiled("u2(u2,u2,u2)")
def _mad(a, b, c):
    a = a if a & np.uint16(0x7C00) else a & np.uint16(0x8000)
    b = b if b & np.uint16(0x7C00) else b & np.uint16(0x8000)
    c = c if c & np.uint16(0x7C00) else c & np.uint16(0x8000)
    product = float_to_half(half_to_float(a) * half_to_float(b))
    product = product if product & np.uint16(0x7C00) else product & np.uint16(0x8000)
    total = float_to_half(half_to_float(product) + half_to_float(c))
    return total if total & np.uint16(0x7C00) else total & np.uint16(0x8000)


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


@op
def v_med3_f16(a, b, c):
    """The middle one of three."""
    return med3(a, b, c, min_f16, max_f16)


for _name, _function in (("trunc", np.trunc), ("ceil", np.ceil), ("floor", np.floor), ("rndne", np.rint)):
    alias(f"v_{_name}_f16", _function)


@op
def v_fract_f16(a):
    """a - floor(a), at most the largest number below 1."""
    return np.minimum(sub_f16(a, np.floor(a)), np.nextafter(F16(1), F16(0)))


alias("v_frexp_mant_f16", _frexp_mant)


@op
def v_frexp_exp_i16_f16(a):
    """Exponent that goes with the significand in [0.5, 1); 0 for zeros, infinities and NaN."""
    return _frexp_exp(a).astype(np.int16)


@op
def v_ldexp_f16(a, exponent):
    """a * 2**exponent, rounded once."""
    return np.ldexp(a, np.clip(exponent, -100, 100))


@op
def v_pack_b32_f16(a, b):
    """{b, a}: a in the low half. Bits are kept, NaN payloads too."""
    low, high = np.broadcast_arrays(np.asarray(a).view(U16), np.asarray(b).view(U16))
    return np.stack([low, high], axis=-1).view(F16)
