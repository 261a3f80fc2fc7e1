"""IEEE 754 arithmetic on bit patterns in rational numbers: slow, obvious, and independent of numpy and of
petitgen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Format:
    """A binary interchange format."""

    bits: int
    mantissa: int

    @property
    def exponent_bits(self) -> int:
        return self.bits - 1 - self.mantissa

    @property
    def bias(self) -> int:
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.exponent_bits) - 1) << self.mantissa

    @property
    def quiet(self) -> int:
        return 1 << (self.mantissa - 1)

    def field(self, x: int) -> int:
        """Biased exponent."""
        return x >> self.mantissa & ((1 << self.exponent_bits) - 1)

    def sign(self, x: int) -> int:
        return x >> (self.bits - 1)

    def magnitude(self, x: int) -> int:
        return x & ((1 << (self.bits - 1)) - 1)

    def is_nan(self, x: int) -> bool:
        return self.magnitude(x) > self.infinity

    def is_infinite(self, x: int) -> bool:
        return self.magnitude(x) == self.infinity

    def is_zero(self, x: int) -> bool:
        return self.magnitude(x) == 0

    def is_denormal(self, x: int) -> bool:
        return self.field(x) == 0 and not self.is_zero(x)

    def is_signalling(self, x: int) -> bool:
        return self.is_nan(x) and not x & self.quiet

    def value(self, x: int) -> Fraction:
        """The number; x must be finite."""
        digits = x & ((1 << self.mantissa) - 1)
        if self.field(x):
            digits |= 1 << self.mantissa
        scale = max(self.field(x), 1) - self.bias - self.mantissa
        return Fraction(digits) * Fraction(2) ** scale * (-1 if self.sign(x) else 1)

    def signed(self, magnitude: int, negative: bool) -> int:
        return magnitude | negative << (self.bits - 1)

    def round(self, value: Fraction, negative_zero: bool = False, toward_zero: bool = False) -> int:
        """Nearest even (or toward zero). `negative_zero`: the sign of a value that is exactly zero."""
        if value == 0:
            return self.signed(0, negative_zero)
        negative, value = value < 0, abs(value)
        exponent = max(_floor_log2(value), 1 - self.bias)
        scaled = value / Fraction(2) ** (exponent - self.mantissa)
        digits = math.floor(scaled) if toward_zero else round(scaled)  # Python rounds halves to even
        if digits < 1 << self.mantissa:
            return self.signed(digits, negative)
        pattern = ((exponent + self.bias - 1) << self.mantissa) + digits
        if pattern >= self.infinity:
            pattern = self.infinity - 1 if toward_zero else self.infinity
        return self.signed(pattern, negative)

    def add(self, a: int, b: int) -> int | None:
        """a + b; None for NaN."""
        return self.fma(a, self.one, b)

    def multiply(self, a: int, b: int) -> int | None:
        """a * b; None for NaN."""
        if self.is_nan(a) or self.is_nan(b):
            return None
        negative = bool(self.sign(a) ^ self.sign(b))
        if self.is_infinite(a) or self.is_infinite(b):
            return None if self.is_zero(a) or self.is_zero(b) else self.signed(self.infinity, negative)
        return self.round(self.value(a) * self.value(b), negative)

    def fma(self, a: int, b: int, c: int) -> int | None:
        """a * b + c rounded once; None for NaN."""
        if any(map(self.is_nan, (a, b, c))):
            return None
        negative = bool(self.sign(a) ^ self.sign(b))
        if self.is_infinite(a) or self.is_infinite(b):
            if self.is_zero(a) or self.is_zero(b) or (self.is_infinite(c) and self.sign(c) != negative):
                return None
            return self.signed(self.infinity, negative)
        if self.is_infinite(c):
            return c
        product = self.value(a) * self.value(b)
        both_negative = negative and bool(self.sign(c))
        zero = product == 0 and self.is_zero(c)
        return self.round(product + self.value(c), both_negative and zero)

    @property
    def one(self) -> int:
        return self.bias << self.mantissa

    def negate(self, x: int) -> int:
        return x ^ 1 << (self.bits - 1)

    def flush(self, x: int) -> int:
        """A denormal as zero of its sign."""
        return self.signed(0, bool(self.sign(x))) if self.is_denormal(x) else x

    def minimum(self, a: int, b: int, largest: bool = False) -> int:
        """v_min and v_max in IEEE mode (CDNA3 ISA 12.7)."""
        for x in (a, b):
            if self.is_signalling(x):
                return x | self.quiet
        if self.is_nan(a):
            return b
        if self.is_nan(b):
            return a

        def order(x: int) -> tuple[float, int]:
            size = self.magnitude(x)
            return (-size, 0) if self.sign(x) else (size, 1)

        return max(a, b, key=order) if largest else min(a, b, key=order)


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


HALF, SINGLE, DOUBLE = Format(16, 10), Format(32, 23), Format(64, 52)
FORMATS = {"f16": HALF, "f32": SINGLE, "f64": DOUBLE}


def same(form: Format):
    """Equality of a result and an expectation in which None stands for any quiet NaN."""
    return lambda found, want: (
        form.is_nan(found) and not form.is_signalling(found) if want is None else found == want
    )
