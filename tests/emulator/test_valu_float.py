"""Floating-point operations against rational arithmetic (exact_float) and the ISA's own examples."""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import numpy as np
import pytest

from petitgen.emulator import registry

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


# a * b + c one bit away from a tie of f16 that is too fine for float32 to see.
NEARLY_TIES = [
    (0x3C01, 0x3BFE, 0x6801, 0x6801),
    (0xBC01, 0x3BFE, 0xE801, 0xE801),
    (0x3C01, 0x3BFF, 0x6800, 0x6801),
]


@pytest.mark.parametrize("mnemonic", ["v_fma_f16", "v_fma_legacy_f16", "v_pk_fma_f16", "v_pk_fmac_f16"])
@pytest.mark.parametrize("operands", NEARLY_TIES, ids=lambda values: hex(values[2]))
def test_half_fma_rounds_once(mnemonic: str, operands: tuple[int, ...]) -> None:
    *sources, expected = operands
    assert HALF.fma(*sources) == expected
    packed = (2,) if "_pk_" in mnemonic else ()
    arrays = [np.full((1, 64, *packed), source, np.uint16).view(np.float16) for source in sources]
    assert (registry.lookup(mnemonic).function(*arrays).view(np.uint16) == expected).all()


COMPARE = {
    "f": "", "lt": "<", "eq": "=", "le": "<=", "gt": ">", "lg": "<>", "ge": ">=", "o": "<=>", "u": "?",
    "nge": "<?", "nlg": "=?", "ngt": "<=?", "nle": ">?", "neq": "<>?", "nlt": ">=?", "tru": "<=>?",
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
