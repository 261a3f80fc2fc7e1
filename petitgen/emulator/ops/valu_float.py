"""f32 and f64 arithmetic, min/max/med and rounding of the vector ALU.

source: CDNA3 ISA 12.7, 12.8, 12.11; CDNA2 ISA for v_mac_f32, v_mad_f32, v_mad_legacy_f32, v_madmk_f32,
v_madak_f32.

NaN: a result that is NaN is quiet. An operation with NaN operands returns one of them, quieted; an invalid
operation returns the default NaN of the host (the ISA documents name none). min and max follow the IEEE mode
that compilers set: a signalling NaN operand comes back quieted, a quiet one loses to a number. Rounding is to
nearest even.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.compiled import bits32, bits64, compiled, float32_of, float64_of, fused
from petitgen.emulator.registry import alias, op

F32, F64 = np.float32, np.float64


@compiled("f4(f4,f4)")
def _subrev_f32(a, b):
    return b - a


@compiled("f4(f4,f4,f4)")
def fma_f32(a, b, c):
    """a * b + c, rounded once."""
    return fused(a, b, c)


@compiled("f8(f8,f8,f8)")
def fma_f64(a, b, c):
    """a * b + c, rounded once."""
    return fused(a, b, c)


@compiled("f4(f4,f4,f4)")
def _fmamk_f32(a, k, b):
    return fused(a, k, b)


alias("v_add_f32", np.add)
alias("v_sub_f32", np.subtract)
alias("v_subrev_f32", _subrev_f32)
alias("v_mul_f32", np.multiply)
alias("v_fma_f32", fma_f32)
alias("v_fmac_f32", fma_f32)
alias("v_fmaak_f32", fma_f32)  # source order a, b, K
alias("v_fmamk_f32", _fmamk_f32)  # source order a, K, b
alias("v_add_f64", np.add)
alias("v_mul_f64", np.multiply)
alias("v_fma_f64", fma_f64)
alias("v_fmac_f64", fma_f64)


# v_mad_f32 and its kin round the product and flush denormals whatever the mode says.
@compiled("f4(f4,f4,f4)")
def _mad_f32(a, b, c):
    tiny = np.float32(2.0**-126)
    a = a * np.float32(0) if abs(a) < tiny else a
    b = b * np.float32(0) if abs(b) < tiny else b
    c = c * np.float32(0) if abs(c) < tiny else c
    product = np.float32(a * b)
    product = product * np.float32(0) if abs(product) < tiny else product
    total = np.float32(product + c)
    return total * np.float32(0) if abs(total) < tiny else total


@compiled("f4(f4,f4,f4)")
def _mad_legacy_f32(a, b, c):
    tiny = np.float32(2.0**-126)
    a = a * np.float32(0) if abs(a) < tiny else a
    b = b * np.float32(0) if abs(b) < tiny else b
    c = c * np.float32(0) if abs(c) < tiny else c
    zero = (a == np.float32(0)) | (b == np.float32(0))
    product = np.float32(0) if zero else np.float32(a * b)
    product = product * np.float32(0) if abs(product) < tiny else product
    total = np.float32(product + c)
    return total * np.float32(0) if abs(total) < tiny else total


@compiled("f4(f4,f4)")
def _mul_legacy_f32(a, b):
    return np.float32(0) if (a == np.float32(0)) | (b == np.float32(0)) else a * b


alias("v_mad_f32", _mad_f32)
alias("v_mac_f32", _mad_f32)
alias("v_madak_f32", _mad_f32)
alias("v_mad_legacy_f32", _mad_legacy_f32)
alias("v_mul_legacy_f32", _mul_legacy_f32)


@op
def v_madmk_f32(a, k, b):
    """a * K + b."""
    return _mad_f32(a, k, b)


# A number against a NaN wins unless the NaN is signalling; equal operands are told apart by their sign, which
# is what or (and) of the two patterns does.
@compiled("f4(f4,f4)")
def min_f32(a, b):
    quiet = np.uint32(0x400000)
    x, y = bits32(a), bits32(b)
    equal = float32_of(np.uint32(x | y))
    result = a if a < b else (b if b < a else equal)
    result = (float32_of(np.uint32(y | quiet)) if b != b else b) if a != a else (a if b != b else result)
    signalling = (a != a) & (np.uint32(x & quiet) == np.uint32(0))
    other = (b != b) & (np.uint32(y & quiet) == np.uint32(0))
    result = float32_of(np.uint32(y | quiet)) if other else result
    return float32_of(np.uint32(x | quiet)) if signalling else result


@compiled("f4(f4,f4)")
def max_f32(a, b):
    quiet = np.uint32(0x400000)
    x, y = bits32(a), bits32(b)
    equal = float32_of(np.uint32(x & y))
    result = a if a > b else (b if b > a else equal)
    result = (float32_of(np.uint32(y | quiet)) if b != b else b) if a != a else (a if b != b else result)
    signalling = (a != a) & (np.uint32(x & quiet) == np.uint32(0))
    other = (b != b) & (np.uint32(y & quiet) == np.uint32(0))
    result = float32_of(np.uint32(y | quiet)) if other else result
    return float32_of(np.uint32(x | quiet)) if signalling else result


@compiled("f8(f8,f8)")
def min_f64(a, b):
    quiet = np.uint64(0x8000000000000)
    x, y = bits64(a), bits64(b)
    equal = float64_of(np.uint64(x | y))
    result = a if a < b else (b if b < a else equal)
    result = (float64_of(np.uint64(y | quiet)) if b != b else b) if a != a else (a if b != b else result)
    signalling = (a != a) & (np.uint64(x & quiet) == np.uint64(0))
    other = (b != b) & (np.uint64(y & quiet) == np.uint64(0))
    result = float64_of(np.uint64(y | quiet)) if other else result
    return float64_of(np.uint64(x | quiet)) if signalling else result


@compiled("f8(f8,f8)")
def max_f64(a, b):
    quiet = np.uint64(0x8000000000000)
    x, y = bits64(a), bits64(b)
    equal = float64_of(np.uint64(x & y))
    result = a if a > b else (b if b > a else equal)
    result = (float64_of(np.uint64(y | quiet)) if b != b else b) if a != a else (a if b != b else result)
    signalling = (a != a) & (np.uint64(x & quiet) == np.uint64(0))
    other = (b != b) & (np.uint64(y & quiet) == np.uint64(0))
    result = float64_of(np.uint64(y | quiet)) if other else result
    return float64_of(np.uint64(x | quiet)) if signalling else result


def med3(a, b, c, minimum, maximum):
    """The middle one; with a NaN among them, the minimum of the three (ISA: V_MED3_F32)."""
    largest = maximum(maximum(a, b), c)
    middle = np.where(largest == a, maximum(b, c), np.where(largest == b, maximum(a, c), maximum(a, b)))
    nan = np.isnan(a) | np.isnan(b) | np.isnan(c)
    return np.where(nan, minimum(minimum(a, b), c), middle)


@op
def v_min3_f32(a, b, c):
    """min(min(a, b), c)."""
    return min_f32(min_f32(a, b), c)


@op
def v_max3_f32(a, b, c):
    """max(max(a, b), c)."""
    return max_f32(max_f32(a, b), c)


@op
def v_med3_f32(a, b, c):
    """The middle one of three."""
    return med3(a, b, c, min_f32, max_f32)


alias("v_min_f32", min_f32)
alias("v_max_f32", max_f32)
alias("v_min_f64", min_f64)
alias("v_max_f64", max_f64)

for _type in ("f32", "f64"):
    alias(f"v_trunc_{_type}", np.trunc)
    alias(f"v_ceil_{_type}", np.ceil)
    alias(f"v_floor_{_type}", np.floor)
    alias(f"v_rndne_{_type}", np.rint)


def _fract(dtype):
    """a - floor(a), at most the largest number below 1 (ISA: result clamped to 0x3f7fffff); NaN for NaN and
    infinity.
    """
    below_one = np.nextafter(dtype(1), dtype(0))
    return lambda a: np.minimum(a - np.floor(a), below_one)


alias("v_fract_f32", _fract(F32))
alias("v_fract_f64", _fract(F64))


def _frexp_mant(a):
    """Significand in [0.5, 1), with the sign; zeros, infinities and NaN come back as they are."""
    return np.where(np.isfinite(a), np.frexp(a)[0], a)


def _frexp_exp(a):
    """Exponent that goes with the significand in [0.5, 1); 0 for zeros, infinities and NaN."""
    return np.where(np.isfinite(a), np.frexp(a)[1], 0).astype(np.int32)


alias("v_frexp_mant_f32", _frexp_mant)
alias("v_frexp_mant_f64", _frexp_mant)
alias("v_frexp_exp_i32_f32", _frexp_exp)
alias("v_frexp_exp_i32_f64", _frexp_exp)


def ldexp(a, exponent):
    """a * 2**exponent, rounded once."""
    return np.ldexp(a, np.clip(np.asarray(exponent).view(np.int32), -5000, 5000))


alias("v_ldexp_f32", ldexp)
alias("v_ldexp_f64", ldexp)
