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

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from petitgen.emulator.ops.valu_float import fma_f32, fma_f64
from petitgen.emulator.registry import alias, op


@dataclass(frozen=True, slots=True)
class _Format:
    dtype: type
    bits: type
    mantissa: int  # bits
    exponent_mask: int
    scale: int  # power of two used by v_div_scale
    near_max: int  # exponent difference from which N/D is near the largest number
    tiny: int  # largest biased exponent of a tiny numerator
    underflow: int  # exponent difference below which v_div_fixup returns the smallest number
    default_nan: int

    @property
    def smallest_normal(self):
        return np.finfo(self.dtype).smallest_normal

    def arrays(self, *operands: Any) -> tuple[Any, ...]:
        """The operands as arrays of this format."""
        return tuple(np.asarray(operand, self.dtype) for operand in operands)

    def exponent(self, a):
        """Biased exponent field."""
        return ((a.view(self.bits) >> self.bits(self.mantissa)) & self.bits(self.exponent_mask)).astype(
            np.int64
        )

    def denormal(self, a):
        """Nonzero and below the normal range."""
        return (a != 0) & (np.abs(a) < self.smallest_normal)


F32 = _Format(np.float32, np.uint32, 23, 0xFF, 64, 96, 23, -150, 0xFFC00000)
F64 = _Format(np.float64, np.uint64, 52, 0x7FF, 128, 768, 53, -1075, 0xFFF8000000000000)


def _denormal_quotient(form: _Format, a, b):
    """Is a / b nonzero but below the normal range? A quotient that rounds to zero counts too."""
    quotient = np.abs(a / b)
    return (quotient < form.smallest_normal) & (a != 0) & np.isfinite(b)


def _div_scale(form: _Format):
    def scale(s0, denominator, numerator):
        """s0 (the denominator or the numerator) scaled so that no step of the division meets denormals, and
        whether v_div_fmas must scale back.
        """
        s0, d, n = form.arrays(s0, denominator, numerator)
        up, down = np.ldexp(s0, form.scale), np.ldexp(s0, -form.scale)
        zero = (n == 0) | (d == 0)
        large = form.exponent(n) - form.exponent(d) >= form.near_max
        tiny_reciprocal = _denormal_quotient(form, form.dtype(1), d)
        tiny_quotient = _denormal_quotient(form, n, d)
        denormal = form.denormal(d)
        is_d, is_n = s0 == d, s0 == n
        conditions = [zero, large, denormal, tiny_reciprocal & tiny_quotient, tiny_reciprocal, tiny_quotient]
        conditions.append(form.exponent(n) <= form.tiny)
        nan = np.full_like(s0, np.nan)
        choices = [
            nan,
            np.where(is_d, up, s0),
            up,
            np.where(is_d, down, s0),
            down,
            np.where(is_n, up, s0),
            up,
        ]
        shape = np.broadcast_shapes(s0.shape, d.shape, n.shape)
        scaled = np.select([np.broadcast_to(c, shape) for c in conditions], choices, s0)
        back = ~zero & (large | (~denormal & tiny_quotient))
        return scaled.astype(form.dtype), back

    return scale


def _fma_error(a, b, c, result, fma):
    """a * b + c - result, for a result that fma rounded to nearest (Boldo and Muller's ErrFmaNearest)."""
    product = a * b
    product_error = fma(a, b, -product)
    inner, inner_error = _two_sum(c, product_error)
    outer, outer_error = _two_sum(product, inner)
    return ((outer - result) + outer_error) + inner_error


def _two_sum(a, b):
    """The rounded sum and its exact error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _scale_down(form: _Format, a, b, c, result, fma):
    """(a * b + c) * 2**-scale, rounded once: where the scaled fma is a tie, the fma's own error decides."""
    scaled = np.ldexp(result, -form.scale)
    half = form.dtype(np.ldexp(form.dtype(1), form.scale - 1) * np.finfo(form.dtype).smallest_subnormal)
    halfway = np.abs(result - np.ldexp(scaled, form.scale)) == half
    toward = np.sign(_fma_error(a, b, c, result, fma))
    decided = np.ldexp(result + toward * half, -form.scale)
    return np.where(halfway & (toward != 0), decided, scaled)


def _div_fmas(form: _Format, fma):
    bias = form.exponent_mask >> 1

    def fmas(a, b, c, scale):
        """a * b + c, and where vcc is set scaled back: up if c (the quotient) is large, else down."""
        result = fma(a, b, c)
        if not np.any(scale):
            return result
        up = form.exponent(np.asarray(c)) > bias
        scaled = np.where(up, np.ldexp(result, form.scale), _scale_down(form, a, b, c, result, fma))
        return np.where(scale, scaled, result)

    return fmas


def _quiet(form: _Format, a):
    return (a.view(form.bits) | form.bits(1 << (form.mantissa - 1))).view(form.dtype)


def _div_fixup(form: _Format, exponents: bool = True):
    def fixup(quotient, denominator, numerator):
        """The quotient with its right sign, or what the operands demand."""
        q, d, n = form.arrays(quotient, denominator, numerator)
        negative = np.signbit(d) ^ np.signbit(n)
        infinite_d, infinite_n = np.isinf(d), np.isinf(n)
        magnitude = np.abs(q)
        conditions = [(d == 0) | infinite_n, infinite_d | (n == 0)]
        choices = [form.dtype(np.inf), form.dtype(0)]
        if exponents:
            conditions += [form.exponent(n) - form.exponent(d) < form.underflow, ~np.isfinite(q)]
            choices += [form.dtype(0), form.dtype(np.inf)]  # what underflow and overflow give to nearest even
        shape = np.broadcast_shapes(q.shape, d.shape, n.shape)
        result = np.select([np.broadcast_to(c, shape) for c in conditions], choices, magnitude)
        result = np.where(negative, -result, result)
        invalid = ((d == 0) & (n == 0)) | (infinite_d & infinite_n)
        result = np.where(invalid, form.bits(form.default_nan).view(form.dtype), result)
        result = np.where(np.isnan(d), _quiet(form, d), result)
        return np.where(np.isnan(n), _quiet(form, n), result).astype(form.dtype)

    return fixup


_F16 = _Format(np.float16, np.uint16, 10, 0x1F, 0, 0, 0, 0, 0xFE00)

alias("v_div_scale_f32", _div_scale(F32))
alias("v_div_scale_f64", _div_scale(F64))
alias("v_div_fmas_f32", _div_fmas(F32, fma_f32))
alias("v_div_fmas_f64", _div_fmas(F64, fma_f64))
alias("v_div_fixup_f32", _div_fixup(F32))
alias("v_div_fixup_f64", _div_fixup(F64))
alias("v_div_fixup_f16", _div_fixup(_F16, exponents=False))
alias("v_div_fixup_legacy_f16", _div_fixup(_F16, exponents=False))


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
    exponent = F64.exponent(np.asarray(a))
    shift = (np.asarray(segment) & np.uint32(31)).astype(np.int64) * 53 + np.maximum(exponent - 1077, 0)
    value = np.take(_segments(), np.minimum(shift, len(_segments()) - 1))
    value = np.where(shift >= 1201, 0.0, value)
    return np.ldexp(value, np.where(exponent >= 1968, 128, 0) - 53 - shift)
