"""Conversions: exhaustive where the operand has 16 bits or fewer, edges and random bits elsewhere."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from petitgen.emulator import registry

from . import valu_cases as cases
from .exact_float import DOUBLE, FORMATS, HALF, SINGLE, Format, same

EVERY_HALF = np.arange(65536, dtype=np.uint16).reshape(-1, 64)


def to_integer(form: Format, bits: int, signed: bool, how=math.trunc):
    """Saturating; NaN gives 0."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)

    def expected(a: int) -> int:
        if form.is_nan(a):
            return 0
        if form.is_infinite(a):
            return low if form.sign(a) else high
        return min(max(how(form.value(a)), low), high)

    return expected


def to_float(source: Format, target: Format, toward_zero: bool = False):
    def expected(a: int) -> int | None:
        if source.is_nan(a):
            return None
        if source.is_infinite(a):
            return target.signed(target.infinity, bool(source.sign(a)))
        return target.round(source.value(a), bool(source.sign(a)), toward_zero)

    return expected


def from_integer(target: Format):
    return lambda a: target.round(Fraction(a))


def normalized(form: Format, signed: bool):
    """[-1, 1] or [0, 1] to the range of 16 bits."""
    scale = 32767 if signed else 65535

    def expected(a: int) -> int:
        if form.is_nan(a):
            return 0
        limit = -1 if signed else 0
        if form.is_infinite(a):
            return scale * limit if form.sign(a) else scale
        return round(min(max(form.value(a), limit), 1) * scale)

    return expected


def byte(a: int) -> int:
    return to_integer(SINGLE, 8, False, round)(a)


def into_byte(a: int, place: int, old: int) -> int:
    shift = 8 * (place % 4)
    return old & ~(0xFF << shift) | byte(a) << shift


INTEGER_RESULTS = {
    "v_cvt_i32_f32": to_integer(SINGLE, 32, True),
    "v_cvt_u32_f32": to_integer(SINGLE, 32, False),
    "v_cvt_i32_f64": to_integer(DOUBLE, 32, True),
    "v_cvt_u32_f64": to_integer(DOUBLE, 32, False),
    "v_cvt_i16_f16": to_integer(HALF, 16, True),
    "v_cvt_u16_f16": to_integer(HALF, 16, False),
    "v_cvt_rpi_i32_f32": to_integer(SINGLE, 32, True, lambda value: math.floor(value + Fraction(1, 2))),
    "v_cvt_flr_i32_f32": to_integer(SINGLE, 32, True, math.floor),
    "v_cvt_norm_i16_f16": normalized(HALF, True),
    "v_cvt_norm_u16_f16": normalized(HALF, False),
    "v_cvt_pk_u8_f32": into_byte,
    "v_cvt_pkaccum_u8_f32": into_byte,
}
FLOAT_RESULTS = {
    "v_cvt_f16_f32": to_float(SINGLE, HALF),
    "v_cvt_f32_f16": to_float(HALF, SINGLE),
    "v_cvt_f32_f64": to_float(DOUBLE, SINGLE),
    "v_cvt_f64_f32": to_float(SINGLE, DOUBLE),
    "v_cvt_f32_i32": from_integer(SINGLE),
    "v_cvt_f32_u32": from_integer(SINGLE),
    "v_cvt_f64_i32": from_integer(DOUBLE),
    "v_cvt_f64_u32": from_integer(DOUBLE),
    "v_cvt_f16_u16": from_integer(HALF),
    "v_cvt_f16_i16": from_integer(HALF),
    "v_cvt_off_f32_i4": lambda a: SINGLE.round(Fraction((a % 16 ^ 8) - 8, 16)),
    **{f"v_cvt_f32_ubyte{k}": lambda a, k=k: SINGLE.round(Fraction(a >> 8 * k & 0xFF)) for k in range(4)},
}
PAIRS = {
    "v_cvt_pknorm_i16_f32": normalized(SINGLE, True),
    "v_cvt_pknorm_u16_f32": normalized(SINGLE, False),
    "v_cvt_pknorm_i16_f16": normalized(HALF, True),
    "v_cvt_pknorm_u16_f16": normalized(HALF, False),
}


@pytest.mark.parametrize("mnemonic", INTEGER_RESULTS)
def test_to_integer(mnemonic: str) -> None:
    cases.check(mnemonic, INTEGER_RESULTS[mnemonic])


@pytest.mark.parametrize("mnemonic", FLOAT_RESULTS)
def test_to_float(mnemonic: str) -> None:
    cases.check(mnemonic, FLOAT_RESULTS[mnemonic], same=same(FORMATS[cases.ROWS[mnemonic].dst[0]]))


@pytest.mark.parametrize("mnemonic", PAIRS)
def test_pairs(mnemonic: str) -> None:
    cases.check(mnemonic, lambda a, b: (PAIRS[mnemonic](a), PAIRS[mnemonic](b)))


def test_pkrtz_rounds_toward_zero() -> None:
    expected = to_float(SINGLE, HALF, toward_zero=True)
    equal = same(HALF)
    cases.check(
        "v_cvt_pkrtz_f16_f32",
        lambda a, b: (expected(a), expected(b)),
        same=lambda found, want: all(map(equal, found, want)),
    )


@pytest.mark.parametrize(
    "mnemonic",
    ["v_cvt_f32_f16", "v_cvt_i16_f16", "v_cvt_u16_f16", "v_cvt_norm_i16_f16", "v_cvt_norm_u16_f16"],
)
def test_every_half(mnemonic: str) -> None:
    expected = {**INTEGER_RESULTS, **FLOAT_RESULTS}[mnemonic]
    with np.errstate(all="ignore"):
        result = registry.lookup(mnemonic).function(EVERY_HALF.view(np.float16))
    found = cases.numbers(cases.ROWS[mnemonic].dst[0], result)
    equal = same(SINGLE) if result.dtype == np.float32 else (lambda a, b: a == b)
    wrong = [a for a, value in zip(range(65536), found, strict=True) if not equal(value, expected(a))]
    assert not wrong, f"{mnemonic}({wrong[0]:#x})"


def test_f32_to_f16_on_every_f32_exponent() -> None:
    """Every sign and exponent with the mantissas around each rounding boundary, against numpy's cast."""
    mantissas = np.array(
        [0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x3001, 0x7FF000, 0x7FEFFF, 0x7FFFFF]
    )
    grid = np.arange(512, dtype=np.uint32)[:, None] << np.uint32(23) | mantissas.astype(np.uint32)
    values = grid.reshape(-1, 64).view(np.float32)
    with np.errstate(all="ignore"):
        found, expected = registry.lookup("v_cvt_f16_f32").function(values), values.astype(np.float16)
    nan = np.isnan(expected)
    np.testing.assert_array_equal(found.view(np.uint16)[~nan], expected.view(np.uint16)[~nan])
    assert np.isnan(found[nan]).all()


# --- mixed precision
# -----------------------------------------------------------------------------------------------------


def mix_source(raw: int, position: int, mods: dict[str, int]) -> int:
    """The f32 pattern that a source of v_fma_mix* stands for."""
    bit = 1 << position
    if mods.get("op_sel_hi", 0) & bit:
        half = raw >> 16 if mods.get("op_sel", 0) & bit else raw & 0xFFFF
        if HALF.is_nan(half):
            return 0x7FC00000
        raw = to_float(HALF, SINGLE)(half)
    if mods.get("neg_hi", 0) & bit:
        raw &= 0x7FFFFFFF
    return raw ^ (1 << 31) if mods.get("neg_lo", 0) & bit else raw


MIXES = [
    {}, {"op_sel_hi": 7}, {"op_sel_hi": 3, "op_sel": 2},
    {"op_sel_hi": 5, "op_sel": 5, "neg_lo": 3, "neg_hi": 6},
    {"op_sel": 7, "neg_lo": 4}, {"op_sel_hi": 2, "op_sel": 2, "neg_hi": 1},
]  # fmt: skip


@pytest.mark.parametrize("mods", MIXES, ids=str)
@pytest.mark.parametrize("mnemonic", ["v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16"])
def test_fma_mix(mnemonic: str, mods: dict[str, int]) -> None:
    narrow = mnemonic.endswith("f16")

    def expected(*sources: int) -> int | None:
        total = SINGLE.fma(*(mix_source(raw, position, mods) for position, raw in enumerate(sources[:3])))
        return to_float(SINGLE, HALF)(total) if narrow and total is not None else total

    cases.check(mnemonic, expected, same=same(HALF if narrow else SINGLE), mods=mods)


@pytest.mark.parametrize("mnemonic", ["v_dot2_f32_f16", "v_dot2c_f32_f16"])
def test_dot_of_halves(mnemonic: str) -> None:
    """Each exact product is added in turn, with one rounding."""

    def wide(half: int) -> int:
        value = to_float(HALF, SINGLE)(half)
        return 0x7FC00000 if value is None else value

    def expected(a: tuple[int, int], b: tuple[int, int], c: int) -> int | None:
        for x, y in zip(a, b, strict=True):
            product = SINGLE.multiply(wide(x), wide(y))
            c = None if product is None or c is None else SINGLE.add(c, product)
        return c

    cases.check(mnemonic, expected, same=same(SINGLE))


# --- nothing forgotten
# ---------------------------------------------------------------------------------------------------


def test_every_operation_has_an_expectation() -> None:
    """Vector operations that no test of values names: none."""
    from . import test_valu_float as floats
    from . import test_valu_fp8 as eights
    from . import test_valu_int as integers
    from . import test_valu_math as math_tests

    named = {*integers.EXACT, *integers.PACKED, *integers.PLAIN, *INTEGER_RESULTS, *FLOAT_RESULTS, *PAIRS}
    named |= {*floats.EXPECTED, *floats.PACKED, *math_tests.EXAMPLES}
    named |= {f"v_{name}_{kind}" for name, kind in math_tests.TRANSCENDENTAL}
    named |= {
        f"v_cmp{x}_{name}_{kind}"
        for x in ("", "x")
        for name in (*floats.COMPARE, "class")
        for kind in FORMATS
    }
    named |= {f"v_div_{step}_{kind}" for step in ("scale", "fmas", "fixup") for kind in ("f32", "f64")}
    named |= {"v_div_fixup_f16", "v_div_fixup_legacy_f16", "v_trig_preop_f64", "v_cvt_pkrtz_f16_f32"}
    named |= {"v_fma_mix_f32", "v_fma_mixlo_f16", "v_fma_mixhi_f16", "v_dot2_f32_f16", "v_dot2c_f32_f16"}
    named |= {"v_mbcnt_lo_u32_b32", "v_mbcnt_hi_u32_b32"}
    named |= {
        f"v_cvt_{form.format(name)}"
        for name in eights.EIGHT
        for form in ("f32_{}", "pk_f32_{}", "pk_{}_f32", "sr_{}_f32")
    }
    registry.load()
    ours = {
        name
        for name, op in registry.OPS.items()
        if op.function.__module__.startswith(("petitgen.emulator.ops.valu", "numpy"))
        and name.startswith("v_")
    }
    assert ours - named == set()
