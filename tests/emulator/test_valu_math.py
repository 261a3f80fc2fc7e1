"""Division sequences and transcendental operations: rounding, the ISA's examples, the host's functions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from petitgen.emulator import registry
from petitgen.emulator.ops.valu_div import two_over_pi

from . import valu_cases as cases
from .exact_float import FORMATS, HALF, SINGLE, Format, same


def result_format(mnemonic: str) -> Format:
    return FORMATS.get(cases.ROWS[mnemonic].dst[0], SINGLE)


# --- division
# ------------------------------------------------------------------------------------------------------------


def divided(kind: str, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The sequence that LLVM emits for an IEEE division; the f64 reciprocal is given the hardware's poor
    accuracy.
    """
    names = ("div_scale", "div_fmas", "div_fixup", "fma", "rcp")
    scale, fmas, fixup, fma, rcp = (registry.lookup(f"v_{name}_{kind}").function for name in names)
    one = numerator.dtype.type(1)
    d, _ = scale(denominator, denominator, numerator)
    n, post = scale(numerator, denominator, numerator)
    y = rcp(d)
    if kind == "f64":
        y = y * (1 + 2.0**-29)
        y = fma(y, fma(-d, y, one), y)
    y = fma(fma(-d, y, one), y, y)
    q = n * y
    if kind == "f32":
        q = fma(fma(-d, q, n), y, q)
    return fixup(fmas(fma(-d, q, n), y, q, post), denominator, numerator)


@pytest.mark.parametrize("kind", ["f32", "f64"])
def test_division_sequence_is_correctly_rounded(kind: str) -> None:
    generator = np.random.default_rng(11)
    bits = 32 if kind == "f32" else 64
    a = np.frombuffer(generator.bytes(200_000 * bits // 8), f"u{bits // 8}").view(f"f{bits // 8}")
    b = generator.permutation(a)
    edge = np.array(cases.edges(kind), f"u{bits // 8}").view(a.dtype)
    n, d = np.concatenate([a, np.repeat(edge, len(edge))]), np.concatenate([b, np.tile(edge, len(edge))])
    if kind == "f64":  # a significand of ones is the known exception of two Newton steps (Markstein)
        ones = (1 << 52) - 1
        keep = d.view(np.uint64) & np.uint64(ones) != ones
        n, d = n[keep], d[keep]
    with np.errstate(all="ignore"):
        found, expected = divided(kind, n, d), n / d
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found), nan)
    np.testing.assert_array_equal(found[~nan].view(f"u{bits // 8}"), expected[~nan].view(f"u{bits // 8}"))


@pytest.mark.parametrize("mnemonic", ["v_div_fixup_f16", "v_div_fixup_legacy_f16"])
def test_fixup_of_halves(mnemonic: str) -> None:
    def expected(q: int, d: int, n: int) -> int:
        if HALF.is_nan(n) or HALF.is_nan(d):
            return (n if HALF.is_nan(n) else d) | HALF.quiet
        negative = bool(HALF.sign(d) ^ HALF.sign(n))
        if (HALF.is_zero(d) and HALF.is_zero(n)) or (HALF.is_infinite(d) and HALF.is_infinite(n)):
            return 0xFE00
        if HALF.is_zero(d) or HALF.is_infinite(n):
            return HALF.signed(HALF.infinity, negative)
        if HALF.is_infinite(d) or HALF.is_zero(n):
            return HALF.signed(0, negative)
        return HALF.signed(HALF.magnitude(q), negative)

    cases.check(mnemonic, expected)


# --- transcendental
# ------------------------------------------------------------------------------------------------------

# source: the functional examples of CDNA3 ISA 12.8
EXAMPLES = {
    "v_exp_f32": {0xFF800000: 0, 0x80000000: 0x3F800000, 0x7F800000: 0x7F800000},
    "v_log_f32": {
        0xFF800000: None, 0xBF800000: None, 1 << 31: 0xFF800000, 0: 0xFF800000, 0x3F800000: 0,
        0x7F800000: 0x7F800000,
    },
    "v_rcp_f32": {
        0xFF800000: 1 << 31, 0xC0000000: 0xBF000000, 1 << 31: 0xFF800000, 0: 0x7F800000, 0x7F800000: 0,
    },
    "v_rsq_f32": {
        0xFF800000: None, 1 << 31: 0xFF800000, 0: 0x7F800000, 0x40800000: 0x3F000000, 0x7F800000: 0,
    },
    "v_sqrt_f32": {
        0xFF800000: None, 1 << 31: 1 << 31, 0: 0, 0x40800000: 0x40000000, 0x7F800000: 0x7F800000,
    },
    "v_sin_f32": {
        0xFF800000: None, 0xFF7FFFFF: 0, 1 << 31: 1 << 31, 0x3E800000: 0x3F800000, 0x7F800000: None,
    },
    "v_cos_f32": {
        0xFF800000: None, 0xFF7FFFFF: 0x3F800000, 1 << 31: 0x3F800000, 0x3E800000: 0, 0x7F800000: None,
    },
    "v_rcp_f16": {0xFC00: 0x8000, 0xC000: 0xB800, 0x8000: 0xFC00, 0: 0x7C00, 0x7C00: 0},
    "v_sqrt_f16": {0xFC00: None, 0x8000: 0x8000, 0: 0, 0x4400: 0x4000, 0x7C00: 0x7C00},
    "v_rsq_f16": {0xFC00: None, 0x8000: 0xFC00, 0: 0x7C00, 0x4400: 0x3800, 0x7C00: 0},
    "v_log_f16": {0xFC00: None, 0xBC00: None, 0x8000: 0xFC00, 0: 0xFC00, 0x3C00: 0, 0x7C00: 0x7C00},
    "v_exp_f16": {0xFC00: 0, 0x8000: 0x3C00, 0x7C00: 0x7C00},
    "v_sin_f16": {0xFC00: None, 0xFBFF: 0, 0x8000: 0x8000, 0x3400: 0x3C00, 0x7BFF: 0, 0x7C00: None},
    "v_cos_f16": {0xFC00: None, 0xFBFF: 0x3C00, 0x8000: 0x3C00, 0x3400: 0, 0x7BFF: 0x3C00, 0x7C00: None},
}  # fmt: skip


@pytest.mark.parametrize("mnemonic", EXAMPLES)
def test_examples_of_the_isa(mnemonic: str) -> None:
    form = result_format(mnemonic)
    function = registry.lookup(mnemonic).function
    for pattern, want in EXAMPLES[mnemonic].items():
        with np.errstate(all="ignore"):
            operand = np.full((1, 64), pattern, f"u{form.bits // 8}").view(f"f{form.bits // 8}")
            found = int(function(operand).view(f"u{form.bits // 8}")[0, 0])
        assert same(form)(found, want), f"{mnemonic}({pattern:#x}) = {found:#x}"


def turns(function):
    """Of a fraction of a turn, reduced exactly first."""
    return lambda x: function(2 * math.pi * math.remainder(x, 1))


ACCURATE = {
    "exp": lambda x: 2.0**x, "log": math.log2, "rcp": lambda x: 1 / x, "rsq": lambda x: 1 / math.sqrt(x),
    "sqrt": math.sqrt, "sin": turns(math.sin), "cos": turns(math.cos),
}  # fmt: skip
TRANSCENDENTAL = [(name, kind) for name in ACCURATE for kind in ("f16", "f32")]
TRANSCENDENTAL += [("exp_legacy", "f32"), ("log_legacy", "f32"), ("rcp_iflag", "f32")]
TRANSCENDENTAL += [(name, "f64") for name in ("rcp", "rsq", "sqrt")]


@pytest.mark.parametrize(("name", "kind"), TRANSCENDENTAL)
def test_accuracy(name: str, kind: str) -> None:
    """Within one unit in the last place of the host's function; f32 denormals flushed."""
    form, function = FORMATS[kind], ACCURATE[name.split("_")[0]]
    flushes = kind == "f32" and name not in ("sin", "cos")
    close = 0
    for (a,), (found,) in cases.run(f"v_{name}_{kind}", seed=5):
        if form.is_nan(a) or form.is_infinite(a) or form.is_zero(a) or (flushes and form.is_denormal(a)):
            continue
        try:
            want = function(float(form.value(a)))
            exact = Fraction(want)
        except (ValueError, OverflowError):  # NaN or infinity
            continue
        smallest = Fraction(2) ** (1 - form.bias)
        if flushes and abs(exact) < smallest:
            assert form.is_zero(found)
        elif abs(exact) < Fraction(2) ** (form.bias + 1) * (1 - Fraction(1, 2 ** (form.mantissa + 2))):
            ulp = Fraction(2) ** (max(form.field(found), 1) - form.bias - form.mantissa)
            ulp = max(ulp, Fraction(2) ** -45) if name in ("sin", "cos") else ulp  # the host rounds 2 pi
            assert abs(form.value(found) - exact) <= ulp, (hex(a), hex(found), want)
            close += 1
    assert close > 50


# The first 24 words of 24 bits of 2/pi, as printed in fdlibm's k_rem_pio2.c.
TWO_OVER_PI = """A2F983 6E4E44 1529FC 2757D1 F534DD C0DB62 95993C 439041 FE5163 ABDEBB C561B7 246E3A
424DD2 E00649 2EEA09 D1921C FE1DEB 1CB129 A73EE8 8235F5 2EBB44 84E99C 7026B4 5F7E41"""


def test_two_over_pi() -> None:
    assert two_over_pi(576) == int(TWO_OVER_PI.replace("\n", "").replace(" ", ""), 16)


def test_trig_preop_gives_aligned_segments() -> None:
    table = two_over_pi(1201)
    generator = np.random.default_rng(9)
    a = generator.integers(0, 0x7FE0000000000000, 64, dtype=np.uint64)
    segment = generator.integers(0, 40, 64, dtype=np.uint32)
    found = registry.lookup("v_trig_preop_f64").function(a.view(np.float64)[None], segment[None])[0]
    for pattern, index, result in zip(a.tolist(), segment.tolist(), found.tolist(), strict=True):
        exponent = pattern >> 52
        shift = (index & 31) * 53 + max(exponent - 1077, 0)
        window = (table << shift) >> 1148 & (1 << 53) - 1
        scale = -53 - shift + (128 if exponent >= 1968 else 0)
        assert result == math.ldexp(window, scale)
