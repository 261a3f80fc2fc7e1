"""FP8 and BF8 conversions against ml_dtypes' FNUZ types: every code, and every rounding boundary."""

from __future__ import annotations

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from petitgen.emulator import registry

EIGHT = {"fp8": ml_dtypes.float8_e4m3fnuz, "bf8": ml_dtypes.float8_e5m2fnuz}
CODES = np.arange(256, dtype=np.uint32).reshape(-1, 64)


@pytest.mark.parametrize("name", EIGHT)
def test_every_code_decodes(name: str) -> None:
    expected = CODES.astype(np.uint8).view(EIGHT[name]).astype(np.float32)
    one = registry.lookup(f"v_cvt_f32_{name}").function
    np.testing.assert_array_equal(one(CODES | np.uint32(0xABCDEF00)), expected)
    two = registry.lookup(f"v_cvt_pk_f32_{name}").function
    low, high = two(CODES | np.uint32(0x7F00), mods={})
    np.testing.assert_array_equal(low, expected)
    np.testing.assert_array_equal(high, two(np.uint32(0x7F), mods={})[0] + np.zeros_like(expected))
    np.testing.assert_array_equal(two(CODES << np.uint32(16), mods={"op_sel": 1})[0], expected)


def interesting_singles(name: str) -> np.ndarray:
    """Every code's value, what lies halfway between, the next f32 on both sides, and random bits."""
    values = np.arange(256, dtype=np.uint8).view(EIGHT[name]).astype(np.float32)
    values = np.sort(values[np.isfinite(values)])
    halfway = (values[1:] + values[:-1]) / 2
    beyond = values[[0, -1]] * np.float32(1.0625)
    near = np.concatenate([values, halfway, beyond, beyond * 8])
    near = np.concatenate(
        [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    )
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38], np.float32)
    random = np.random.default_rng(4).integers(0, 2**32, 20000, dtype=np.uint32).view(np.float32)
    values = np.concatenate([near, special, random]).astype(np.float32)
    return values[: len(values) // 64 * 64].reshape(-1, 64)


@pytest.mark.parametrize("name", EIGHT)
@pytest.mark.parametrize("half", [0, 1])
def test_encodes_to_nearest_even(name: str, half: int) -> None:
    values = interesting_singles(name)
    dst = np.full(values.shape, 0x11223344, np.uint32)
    with np.errstate(all="ignore"):
        pack = registry.lookup(f"v_cvt_pk_{name}_f32").function
        found = pack(values, -values, dst, mods={"op_sel": 8 * half})
        low, high = (x.astype(EIGHT[name]).view(np.uint8).astype(np.uint32) for x in (values, -values))
    kept, shift = (0x11220000, 0) if half == 0 else (0x3344, 16)
    np.testing.assert_array_equal(found, np.uint32(kept) | (low | high << np.uint32(8)) << np.uint32(shift))


@pytest.mark.parametrize(("name", "mantissa", "bias"), [("fp8", 3, 8), ("bf8", 2, 16)])
@pytest.mark.parametrize("place", range(4))
def test_stochastic_rounding_is_a_cut_after_noise(name: str, mantissa: int, bias: int, place: int) -> None:
    """code = floor(|a| / ulp + noise), noise the top bits of the second source as a fraction of an ulp."""
    generator = np.random.default_rng(place)
    a = (generator.standard_normal((8, 64)) * 2.0 ** generator.integers(-14, 6, (8, 64))).astype(np.float32)
    random = generator.integers(0, 2**32, (8, 64), dtype=np.uint32)
    dst = np.full(a.shape, 0x11223344, np.uint32)
    found = registry.lookup(f"v_cvt_sr_{name}_f32").function(a, random, dst, mods={"op_sel": place << 2})
    dropped = 23 - mantissa
    for value, noise, word in zip(
        a.ravel().tolist(), random.ravel().tolist(), found.ravel().tolist(), strict=True
    ):
        size = abs(Fraction(value))
        exponent = max(math.frexp(value)[1] - 1, 1 - bias)
        ulp = Fraction(2) ** (exponent - mantissa)
        steps = math.floor(size / ulp + Fraction(noise >> (32 - dropped), 1 << dropped))
        code = np.float32(steps * ulp * (-1 if value < 0 else 1)).astype(EIGHT[name]).view(np.uint8)
        code = 0 if steps == 0 else int(code)
        assert word == 0x11223344 & ~(0xFF << 8 * place) | code << 8 * place, (value, hex(noise))


def test_stochastic_rounding_keeps_what_is_not_finite() -> None:
    a = np.array([[np.inf, -np.inf, np.nan, 0.0]], np.float32)
    noise, dst = np.full((1, 4), 0xFFFFFFFF, np.uint32), np.zeros((1, 4), np.uint32)
    found = registry.lookup("v_cvt_sr_fp8_f32").function(a, noise, dst, mods={})
    assert found.tolist() == [[0x80, 0x80, 0x80, 0]]
