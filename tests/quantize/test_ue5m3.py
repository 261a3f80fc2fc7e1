"""UE5M3 against the nearest of all values, found by looking at every one of them."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from runtime import ue5m3
from runtime.errors import OperandError


def value_of(code: int) -> float:
    """The definition, in Python's float."""
    exponent, mantissa = divmod(code, 8)
    if code == 255:
        return math.nan
    return mantissa / 8 * 2.0**-14 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 15)


ALL = np.array([value_of(code) for code in range(255)])


def nearest(x: float) -> int:
    """The code of the nearest value; of two the even code."""
    if not math.isfinite(x) or x > 114688:
        return 255
    if x <= 0:
        return 0
    distance = np.abs(ALL - x)
    candidates = np.flatnonzero(distance == distance.min())
    return int(min(candidates, key=lambda code: code % 2))


def test_values():
    np.testing.assert_array_equal(ue5m3.VALUES.astype(np.float64), [value_of(code) for code in range(256)])
    assert ue5m3.VALUES[[0, 1, 7, 8, 0x78, 0xFE]].tolist() == [0, 2**-17, 7 * 2**-17, 2**-14, 1, 114688]
    assert (np.diff(ue5m3.VALUES[:255]) > 0).all()
    assert ue5m3.decode(np.array([[0x78]], np.uint8)).tolist() == [[1.0]]


def test_every_code_comes_back():
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(ue5m3.encode(ue5m3.decode(codes)), codes)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_value_of_16_bits(dtype):
    given = np.arange(1 << 16, dtype=np.uint16).view(dtype).astype(np.float32)
    np.testing.assert_array_equal(ue5m3.encode(given), [nearest(float(x)) for x in given])


def test_ties_and_their_neighbours():
    ties = ((ALL[:-1] + ALL[1:]) / 2).astype(np.float32)
    edges = np.float32([114688, 2**-18, 1e-45, 3.4e38])
    given = np.concatenate([ties, edges])
    given = np.stack([np.nextafter(given, np.float32(-1)), given, np.nextafter(given, np.float32(np.inf))])
    np.testing.assert_array_equal(ue5m3.encode(given), np.vectorize(nearest)(given.astype(np.float64)))


def test_random_floats():
    rng = np.random.default_rng(3)
    given = (rng.uniform(1, 2, 20_000) * 2.0 ** rng.integers(-22, 18, 20_000)).astype(np.float32)
    np.testing.assert_array_equal(ue5m3.encode(given), [nearest(float(x)) for x in given])


@pytest.mark.parametrize("x", [math.nan, -math.nan, math.inf, -math.inf, 114688.01, 118784, 3e38])
def test_what_has_no_value_is_nan(x):
    assert ue5m3.encode(np.float32(x)) == 0xFF


@pytest.mark.parametrize("x", [-0.0, -1e-45, -1, -114689, -3e38])
def test_negative_numbers_are_zero(x):
    assert ue5m3.encode(np.float32(x)) == 0


def test_other_dtypes_are_refused():
    with pytest.raises(OperandError, match="dtype float64: float32 is needed"):
        ue5m3.encode(np.ones(3))
    with pytest.raises(OperandError, match="dtype int64: uint8 is needed"):
        ue5m3.decode(np.arange(3))
