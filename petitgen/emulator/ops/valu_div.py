"""The division macro's steps and the argument reduction of trigonometry: v_div_scale, v_div_fmas,
v_div_fixup, v_trig_preop.

source: CDNA3 ISA 12.11. Four places where the text cannot be taken literally:

- v_div_scale gives the vcc bit "iff post-scaling is required" and scales either the denominator or the
  numerator by 2**64 (f64: 2**128); v_div_fmas must therefore multiply by 2**64 when the quotient is large and
  by 2**-64 when it is small. The CDNA texts print 2**32 (2**64); the RDNA texts print what is done here, by
  the exponent of the third source.
- DENORM of a quotient means below the normal range of the format, f64 for the reciprocal of an f32 included:
  a literal test of 1/f32 for a float64 denormal is never true, so 1/S1 is tested in S1's own format.
- Where both 1/S1 and S2/S1 are denormal the text scales the denominator by 2**64, which overflows: it is
  2**-64.
- v_div_fixup tests "exponent(S1) == 255" for an overflow after infinite and NaN denominators are dealt with,
  where it can never hold. A quotient that overflows reaches it as infinity or as the NaN of infinity -
  infinity, so S0 is tested.

With these the compilers' f32 sequence gives the correctly rounded quotient for every pair of operands, and
the f64 one for every pair but those whose denominator has a significand of ones (an exception of the
iteration).
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from petitgen.emulator.compiled import bits32, bits64, compiled, float32_of, float64_of, fused
from petitgen.emulator.ops.valu_half import on_bits
from petitgen.emulator.registry import alias, op

# What v_div_scale found, in the order of its tests.
ZERO, LARGE, DENORMAL, BOTH_TINY, TINY_RECIPROCAL, TINY_QUOTIENT, TINY_NUMERATOR, PLAIN = range(8)


@numba.njit(inline="always")
def _exponent32(a):
    """Biased exponent field."""
    return np.int64(bits32(a) >> np.uint32(23)) & 0xFF


@numba.njit(inline="always")
def _exponent64(a):
    """Biased exponent field."""
    return np.int64(bits64(a) >> np.uint64(52)) & 0x7FF


@numba.njit(inline="always")
def _case(d, n, d_exponent, n_exponent, reciprocal, quotient, smallest_normal, near_max, tiny):
    """Which case of v_div_scale; a quotient that rounds to zero counts as below the normal range."""
    if n == 0 or d == 0:
        return ZERO
    if n_exponent - d_exponent >= near_max:
        return LARGE
    if d_exponent == 0:
        return DENORMAL
    finite = abs(d) < np.inf
    tiny_reciprocal = finite and abs(reciprocal) < smallest_normal
    tiny_quotient = finite and abs(quotient) < smallest_normal
    if tiny_reciprocal:
        return BOTH_TINY if tiny_quotient else TINY_RECIPROCAL
    if tiny_quotient:
        return TINY_QUOTIENT
    return TINY_NUMERATOR if n_exponent <= tiny else PLAIN


@numba.njit(inline="always")
def _direction(case, is_denominator, is_numerator):
    """+1 to scale up, -1 to scale down, 0 to leave."""
    if case in (DENORMAL, TINY_NUMERATOR):
        return 1
    if case == TINY_RECIPROCAL:
        return -1
    if case == LARGE:
        return 1 if is_denominator else 0
    if case == BOTH_TINY:
        return -1 if is_denominator else 0
    return 1 if case == TINY_QUOTIENT and is_numerator else 0


@numba.njit(inline="always")
def _case32(d, n):
    reciprocal, quotient = np.float32(np.float32(1) / d), np.float32(n / d)
    smallest = np.float32(2.0**-126)
    return _case(d, n, _exponent32(d), _exponent32(n), reciprocal, quotient, smallest, 96, 23)


@numba.njit(inline="always")
def _case64(d, n):
    return _case(d, n, _exponent64(d), _exponent64(n), 1.0 / d, n / d, 2.0**-1022, 768, 53)


@compiled("f4(f4,f4,f4)")
def _scaled32(s0, d, n):
    case = _case32(d, n)
    way = _direction(case, s0 == d, s0 == n)
    factor = np.float32(2.0**64) if way > 0 else (np.float32(2.0**-64) if way < 0 else np.float32(1))
    return np.float32(np.nan) if case == ZERO else np.float32(s0 * factor)


@compiled("f8(f8,f8,f8)")
def _scaled64(s0, d, n):
    case = _case64(d, n)
    way = _direction(case, s0 == d, s0 == n)
    factor = 2.0**128 if way > 0 else (2.0**-128 if way < 0 else 1.0)
    return np.nan if case == ZERO else s0 * factor


@compiled("b1(f4,f4)")
def _back32(d, n):
    case = _case32(d, n)
    return (case == LARGE) | (case == BOTH_TINY) | (case == TINY_QUOTIENT)


@compiled("b1(f8,f8)")
def _back64(d, n):
    case = _case64(d, n)
    return (case == LARGE) | (case == BOTH_TINY) | (case == TINY_QUOTIENT)


@op
def v_div_scale_f32(s0, denominator, numerator):
    """s0 (denominator or numerator) scaled so that no step of the division meets denormals, and whether
    v_div_fmas must scale back.
    """
    return _scaled32(s0, denominator, numerator), _back32(denominator, numerator)


@op
def v_div_scale_f64(s0, denominator, numerator):
    """v_div_scale_f32 in double precision."""
    return _scaled64(s0, denominator, numerator), _back64(denominator, numerator)


@numba.njit(inline="always")
def _fma_error(a, b, c, result):
    """a * b + c - result, for a result that fma rounded to nearest (Boldo and Muller's ErrFmaNearest)."""
    product = a * b
    product_error = fused(a, b, -product)
    inner = c + product_error
    part = inner - c
    inner_error = (c - (inner - part)) + (product_error - part)
    outer = product + inner
    part = outer - product
    outer_error = (product - (outer - part)) + (inner - part)
    return ((outer - result) + outer_error) + inner_error


@numba.njit(inline="always")
def _scale_down(a, b, c, result, down, up, half):
    """(a * b + c) * down, rounded once: where the scaled fma is a tie, the fma's own error decides."""
    scaled = result * down
    if abs(result - scaled * up) != half:
        return scaled
    error = _fma_error(a, b, c, result)
    return (result + half) * down if error > 0 else ((result - half) * down if error < 0 else scaled)


@compiled("f4(f4,f4,f4,b1)")
def _fmas32(a, b, c, scale):
    """a * b + c, and where vcc is set scaled back: up if c (the quotient) is large, else down."""
    result = fused(a, b, c)
    if not scale:
        return result
    down, up = np.float32(2.0**-64), np.float32(2.0**64)
    if _exponent32(c) > 127:
        return result * up
    return _scale_down(a, b, c, result, down, up, np.float32(2.0 ** (64 - 150)))


@compiled("f8(f8,f8,f8,b1)")
def _fmas64(a, b, c, scale):
    """a * b + c, and where vcc is set scaled back: up if c (the quotient) is large, else down."""
    result = fused(a, b, c)
    if not scale:
        return result
    if _exponent64(c) > 1023:
        return result * 2.0**128
    return _scale_down(a, b, c, result, 2.0**-128, 2.0**128, 2.0 ** (128 - 1075))


@numba.njit(inline="always")
def _fixed_magnitude(q, d, n, underflows):
    """|quotient|, or what the operands demand; underflow and overflow as nearest even gives them."""
    if d == 0 or abs(n) == np.inf:
        return np.inf
    if abs(d) == np.inf or n == 0 or underflows:
        return 0.0
    return abs(q) if abs(q) < np.inf else np.inf


@compiled("f4(f4,f4,f4)")
def _fixup32(q, d, n):
    quiet = np.uint32(0x400000)
    if n != n or d != d:
        return float32_of(np.uint32(bits32(n if n != n else d) | quiet))
    if (d == 0 and n == 0) or (abs(d) == np.inf and abs(n) == np.inf):
        return float32_of(np.uint32(0xFFC00000))
    magnitude = np.float32(_fixed_magnitude(q, d, n, _exponent32(n) - _exponent32(d) < -150))
    negative = np.uint32(bits32(d) ^ bits32(n)) >> np.uint32(31)
    return -magnitude if negative else magnitude


@compiled("f8(f8,f8,f8)")
def _fixup64(q, d, n):
    quiet = np.uint64(0x8000000000000)
    if n != n or d != d:
        return float64_of(np.uint64(bits64(n if n != n else d) | quiet))
    if (d == 0 and n == 0) or (abs(d) == np.inf and abs(n) == np.inf):
        return float64_of(np.uint64(0xFFF8000000000000))
    magnitude = np.float64(_fixed_magnitude(q, d, n, _exponent64(n) - _exponent64(d) < -1075))
    negative = np.uint64(bits64(d) ^ bits64(n)) >> np.uint64(63)
    return -magnitude if negative else magnitude


@compiled("u2(u2,u2,u2)")
def _fixup16(q, d, n):
    size_d, size_n, infinity = d & 0x7FFF, n & 0x7FFF, 0x7C00
    if size_n > infinity or size_d > infinity:
        return (n if size_n > infinity else d) | 0x200
    if (size_d == 0 and size_n == 0) or (size_d == infinity and size_n == infinity):
        return 0xFE00
    magnitude = q & 0x7FFF
    if size_d == 0 or size_n == infinity:
        magnitude = infinity
    elif size_d == infinity or size_n == 0:
        magnitude = 0
    return magnitude | ((d ^ n) & 0x8000)


alias("v_div_fmas_f32", _fmas32)
alias("v_div_fmas_f64", _fmas64)
alias("v_div_fixup_f32", _fixup32)
alias("v_div_fixup_f64", _fixup64)
alias("v_div_fixup_f16", on_bits(_fixup16))
alias("v_div_fixup_legacy_f16", on_bits(_fixup16))


@cache
def two_over_pi(bits: int = 1201) -> int:
    """The first `bits` fraction bits of 2/pi, from Machin's formula in integers."""
    work = bits + 64

    def arctan_inverse(x: int) -> int:
        term = total = (1 << work) // x
        n, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return ((2 << (2 * work)) // pi) >> (work - bits)


@cache
def _segments() -> np.ndarray:
    """float64 of the 53 bits of 2/pi that start at each shift (bits beyond the table are zero)."""
    table = two_over_pi()
    return np.array([float(((table << shift) >> 1148) & ((1 << 53) - 1)) for shift in range(1201 + 64)])


@op
def v_trig_preop_f64(a, segment):
    """Segment `segment` of 2/pi, aligned for the exponent of a."""
    exponent = ((np.asarray(a).view(np.uint64) >> np.uint64(52)) & np.uint64(0x7FF)).astype(np.int64)
    shift = (np.asarray(segment) & np.uint32(31)).astype(np.int64) * 53 + np.maximum(exponent - 1077, 0)
    value = np.take(_segments(), np.minimum(shift, len(_segments()) - 1))
    value = np.where(shift >= 1201, 0.0, value)
    return np.ldexp(value, np.where(exponent >= 1968, 128, 0) - 53 - shift)
