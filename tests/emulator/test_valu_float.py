"""Floating-point operations against rational arithmetic (exact_float) and the ISA's own examples."""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import numpy as np
import pytest

from petitgen.emulator import registry
from petitgen.emulator.ops.valu_div import two_over_pi

from . import valu_cases as cases
from .exact_float import DOUBLE, FORMATS, HALF, SINGLE, Format, same


def mad(form: Format):
    """Product and sum rounded apart, denormals flushed everywhere."""

    def expected(a: int, b: int, c: int) -> int | None:
        product = form.multiply(form.flush(a), form.flush(b))
        if product is None or form.is_nan(c):
            return None
        total = form.add(form.flush(product), form.flush(c))
        return None if total is None else form.flush(total)

    return expected


def legacy(form: Format):
    """DX9: zero times anything is +0."""
    return lambda a, b: 0 if form.is_zero(a) or form.is_zero(b) else form.multiply(a, b)


def mad_legacy(a: int, b: int, c: int) -> int | None:
    a, b, c = map(SINGLE.flush, (a, b, c))
    product = legacy(SINGLE)(a, b)
    if product is None or SINGLE.is_nan(c):
        return None
    total = SINGLE.add(SINGLE.flush(product), c)
    return None if total is None else SINGLE.flush(total)


def median(form: Format):
    def expected(a: int, b: int, c: int) -> int:
        if any(map(form.is_nan, (a, b, c))):
            return form.minimum(form.minimum(a, b), c)
        top = form.minimum(form.minimum(a, b, True), c, True)

        def equal(x: int) -> bool:
            return x == top or (form.is_zero(x) and form.is_zero(top))

        if equal(a):
            return form.minimum(b, c, True)
        return form.minimum(a, c if equal(b) else b, True)

    return expected


def rounded(form: Format, how):
    """To an integer, keeping the sign of zero."""

    def expected(a: int) -> int | None:
        if form.is_nan(a):
            return None
        if form.is_infinite(a):
            return a
        return form.round(Fraction(how(form.value(a))), negative_zero=bool(form.sign(a)))

    return expected


def fract(form: Format):
    def expected(a: int) -> int | None:
        if form.is_nan(a) or form.is_infinite(a):
            return None
        value = form.value(a)
        return min(form.round(value - math.floor(value)), form.one - 1)

    return expected


def frexp(form: Format, a: int) -> tuple[int, int]:
    """(significand's pattern, exponent)."""
    if form.is_nan(a) or form.is_infinite(a) or form.is_zero(a):
        return a, 0
    value, exponent = abs(form.value(a)), 0
    while value >= 1:
        value, exponent = value / 2, exponent + 1
    while value < Fraction(1, 2):
        value, exponent = value * 2, exponent - 1
    return form.signed(form.round(value), bool(form.sign(a))), exponent


def ldexp(form: Format):
    def expected(a: int, exponent: int) -> int | None:
        if form.is_nan(a):
            return None
        if form.is_infinite(a) or form.is_zero(a):
            return a
        return form.round(form.value(a) * Fraction(2) ** max(min(exponent, 5000), -5000))

    return expected


def cube(x: int, y: int, z: int, on_z, on_y, on_x):
    """The expression of the major axis; z wins ties, then y. Comparisons with a NaN do not hold."""

    def reaches(a: int, b: int) -> bool:
        ordered = not SINGLE.is_nan(a) and not SINGLE.is_nan(b)
        return ordered and SINGLE.magnitude(a) >= SINGLE.magnitude(b)

    return on_z if reaches(z, x) and reaches(z, y) else (on_y if reaches(y, x) else on_x)


def below_zero(x: int) -> bool:
    return bool(SINGLE.sign(x)) and not SINGLE.is_zero(x) and not SINGLE.is_nan(x)


def face(x: int, y: int, z: int) -> int:
    faces = 5 if below_zero(z) else 4, 3 if below_zero(y) else 2, 1 if below_zero(x) else 0
    return SINGLE.round(Fraction(cube(x, y, z, *faces)))


negate = SINGLE.negate
EXPECTED: dict[str, object] = {
    "v_cubeid_f32": face,
    "v_cubesc_f32": lambda x, y, z: cube(
        x, y, z, negate(x) if below_zero(z) else x, x, z if below_zero(x) else negate(z)
    ),
    "v_cubetc_f32": lambda x, y, z: cube(x, y, z, negate(y), negate(z) if below_zero(y) else z, negate(y)),
    "v_cubema_f32": lambda x, y, z: cube(x, y, z, *(SINGLE.add(w, w) for w in (z, y, x))),
    "v_mac_f32": mad(SINGLE),
    "v_mad_f32": mad(SINGLE),
    "v_madak_f32": mad(SINGLE),
    "v_madmk_f32": lambda a, k, b: mad(SINGLE)(a, k, b),
    "v_mad_legacy_f32": mad_legacy,
    "v_mul_legacy_f32": legacy(SINGLE),
    "v_fmac_f32": SINGLE.fma,
    "v_fmac_f64": DOUBLE.fma,
    "v_fmaak_f32": SINGLE.fma,
    "v_fmamk_f32": SINGLE.fma,
    "v_mac_f16": mad(HALF),
    "v_mad_f16": mad(HALF),
    "v_mad_legacy_f16": mad(HALF),
    "v_madak_f16": mad(HALF),
    "v_madmk_f16": mad(HALF),
    "v_fma_legacy_f16": HALF.fma,
}
for _name, _form in FORMATS.items():
    EXPECTED |= {
        f"v_add_{_name}": _form.add,
        f"v_mul_{_name}": _form.multiply,
        f"v_fma_{_name}": _form.fma,
        f"v_min_{_name}": _form.minimum,
        f"v_max_{_name}": lambda a, b, form=_form: form.minimum(a, b, True),
        f"v_ldexp_{_name}": ldexp(_form),
        f"v_fract_{_name}": fract(_form),
        f"v_frexp_mant_{_name}": lambda a, form=_form: frexp(form, a)[0],
        f"v_frexp_exp_{'i16' if _name == 'f16' else 'i32'}_{_name}": lambda a, form=_form: frexp(form, a)[1],
    }
    for _operation, _how in (
        ("trunc", math.trunc),
        ("ceil", math.ceil),
        ("floor", math.floor),
        ("rndne", round),
    ):
        EXPECTED[f"v_{_operation}_{_name}"] = rounded(_form, _how)
for _name, _form in (("f16", HALF), ("f32", SINGLE)):
    EXPECTED |= {
        f"v_sub_{_name}": lambda a, b, form=_form: form.add(a, form.negate(b)),
        f"v_subrev_{_name}": lambda a, b, form=_form: form.add(b, form.negate(a)),
        f"v_min3_{_name}": lambda a, b, c, form=_form: form.minimum(form.minimum(a, b), c),
        f"v_max3_{_name}": lambda a, b, c, form=_form: form.minimum(form.minimum(a, b, True), c, True),
        f"v_med3_{_name}": median(_form),
    }
PACKED = {
    "v_pk_add_f16": (HALF, HALF.add),
    "v_pk_mul_f16": (HALF, HALF.multiply),
    "v_pk_fma_f16": (HALF, HALF.fma),
    "v_pk_fmac_f16": (HALF, HALF.fma),
    "v_pk_min_f16": (HALF, HALF.minimum),
    "v_pk_max_f16": (HALF, lambda a, b: HALF.minimum(a, b, True)),
    "v_pk_add_f32": (SINGLE, SINGLE.add),
    "v_pk_mul_f32": (SINGLE, SINGLE.multiply),
    "v_pk_fma_f32": (SINGLE, SINGLE.fma),
}


def result_format(mnemonic: str) -> Format:
    return FORMATS.get(cases.ROWS[mnemonic].dst[0], SINGLE)


@pytest.mark.parametrize("mnemonic", EXPECTED)
def test_exact(mnemonic: str) -> None:
    kind = cases.ROWS[mnemonic].dst[0]
    cases.check(mnemonic, EXPECTED[mnemonic], same=same(FORMATS[kind]) if kind in FORMATS else operator.eq)


@pytest.mark.parametrize("mnemonic", PACKED)
def test_packed(mnemonic: str) -> None:
    form, element = PACKED[mnemonic]
    equal = same(form)
    cases.check(
        mnemonic,
        lambda *pairs: tuple(map(element, *pairs)),
        same=lambda found, want: all(map(equal, found, want)),
    )


COMPARE = {
    "f": "", "lt": "<", "eq": "=", "le": "<=", "gt": ">", "lg": "<>", "ge": ">=", "o": "<=>", "u": "?", "nge": "<?",
    "nlg": "=?", "ngt": "<=?", "nle": ">?", "neq": "<>?", "nlt": ">=?", "tru": "<=>?",
}  # fmt: skip


@pytest.mark.parametrize("prefix", ["v_cmp", "v_cmpx"])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", COMPARE)
def test_compares(prefix: str, name: str, kind: str) -> None:
    """Each comparison holds for the relations in its string: less, equal, greater, unordered (?)."""
    form = FORMATS[kind]

    def relation(a: int, b: int) -> str:
        if form.is_nan(a) or form.is_nan(b):
            return "?"
        x, y = (-form.magnitude(v) if form.sign(v) else form.magnitude(v) for v in (a, b))
        return "<" if x < y else (">" if x > y else "=")

    cases.check(
        f"{prefix}_{name}_{kind}", lambda a, b: relation(a, b) in COMPARE[name] if COMPARE[name] else False
    )


@pytest.mark.parametrize("prefix", ["v_cmp", "v_cmpx"])
@pytest.mark.parametrize("kind", FORMATS)
def test_classes(prefix: str, kind: str) -> None:
    form = FORMATS[kind]

    def number(a: int) -> int:
        if form.is_nan(a):
            return 0 if form.is_signalling(a) else 1
        side = 3 if form.is_infinite(a) else (0 if form.is_zero(a) else (1 if form.is_denormal(a) else 2))
        return 5 - side if form.sign(a) else 6 + side

    cases.check(f"{prefix}_class_{kind}", lambda a, classes: bool(classes >> number(a) & 1))


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
        0xFF800000: None, 0xBF800000: None, 0x80000000: 0xFF800000, 0: 0xFF800000, 0x3F800000: 0, 0x7F800000: 0x7F800000,
    },
    "v_rcp_f32": {0xFF800000: 1 << 31, 0xC0000000: 0xBF000000, 1 << 31: 0xFF800000, 0: 0x7F800000, 0x7F800000: 0},
    "v_rsq_f32": {0xFF800000: None, 1 << 31: 0xFF800000, 0: 0x7F800000, 0x40800000: 0x3F000000, 0x7F800000: 0},
    "v_sqrt_f32": {0xFF800000: None, 1 << 31: 1 << 31, 0: 0, 0x40800000: 0x40000000, 0x7F800000: 0x7F800000},
    "v_sin_f32": {0xFF800000: None, 0xFF7FFFFF: 0, 1 << 31: 1 << 31, 0x3E800000: 0x3F800000, 0x7F800000: None},
    "v_cos_f32": {0xFF800000: None, 0xFF7FFFFF: 0x3F800000, 1 << 31: 0x3F800000, 0x3E800000: 0, 0x7F800000: None},
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
