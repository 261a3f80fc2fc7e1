"""Block scales: from the largest magnitude of each block to codes, and codes to values. docs/quantization.md."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime import ue5m3

E2M1_LARGEST = 6.0
OUTER_FLOOR = 1e-30  # of tensors of zeros, so that nothing is divided by zero
_E8M0_NAN = 0xFF

_CODES = np.arange(256, dtype=np.uint8)
# float32 [256], the value of each code, by the name that runtime.formats has for the type
VALUES: dict[str, NDArray[np.float32]] = {
    "e4m3fn": _CODES.view(ml_dtypes.float8_e4m3fn).astype(np.float32),
    "ue5m3": ue5m3.VALUES,
    "e8m0": _CODES.view(ml_dtypes.float8_e8m0fnu).astype(np.float32),
}


@dataclass(frozen=True, slots=True)
class Minifloat:
    """A scale type with three mantissa bits, as far as it is positive.

    zero  the code of a block of zeros; None: as that of any other block, so `smallest`
    """

    bias: int
    smallest: float
    largest: float
    nan: int
    zero: int | None


MINIFLOATS = {
    "e4m3fn": Minifloat(bias=7, smallest=2.0**-9, largest=448.0, nan=0x7F, zero=0),
    "ue5m3": Minifloat(bias=15, smallest=ue5m3.MIN, largest=ue5m3.MAX, nan=ue5m3.NAN, zero=None),
}


def values(scale: str, codes: Tensor) -> Tensor:
    """The values, float32, of the codes of a scale type."""
    return torch.tensor(VALUES[scale], device=codes.device)[codes.long()]


def outer_of(x: Tensor, scale: str) -> Tensor:
    """The outer scale of a float32 tensor, float32 []: its largest finite magnitude is 6 times the largest scale."""
    magnitude = torch.where(x.isfinite(), x.abs(), 0.0).amax()
    return (magnitude / magnitude.new_tensor(MINIFLOATS[scale].largest * E2M1_LARGEST)).clamp(min=OUTER_FLOOR)


def inner(largest: Tensor, outer: Tensor, scale: str) -> Tensor:
    """The codes, uint8, of blocks whose largest magnitude is `largest`, float32; NaN's where that is not finite.

    Divisors are tensors: by a Python number, torch multiplies with the reciprocal on some devices.
    """
    kind = MINIFLOATS[scale]
    wanted = (largest / outer / largest.new_tensor(E2M1_LARGEST)).clamp(kind.smallest, kind.largest)
    return torch.where(largest.isfinite(), _nearest(wanted, kind), kind.nan).to(torch.uint8)


def _nearest(x: Tensor, kind: Minifloat) -> Tensor:
    """The codes, int32, nearest to float32 values between the smallest and the largest; ties to even."""
    bits = x.view(torch.int32)
    normal = (bits + 0x7FFFF + (bits >> 20 & 1) >> 20) - ((127 - kind.bias) << 3)
    subnormal = torch.round(x / x.new_tensor(kind.smallest)).to(torch.int32)  # 8 of it are the smallest normal number
    return torch.where(x < 8 * kind.smallest, subnormal, normal)


def exponents(largest: Tensor) -> Tensor:
    """The E8M0 codes, uint8: 2^floor(log2(largest)) / 4, no less than 2^-127; NaN where largest is not finite.

    The exponent field of a float32 is floor(log2) + 127, and 0 for subnormal numbers, whose codes are 0 as that of 0.
    """
    field = largest.view(torch.int32) >> 23
    return torch.where(largest.isfinite(), (field - 2).clamp(min=0), _E8M0_NAN).to(torch.uint8)


def inverse(codes: Tensor) -> Tensor:
    """1 / the values of the E8M0 codes that `exponents` gives: 2^(127 - code), normal numbers all. NaN for NaN."""
    powers = ((254 - codes.to(torch.int32)) << 23).view(torch.float32)
    return torch.where(codes == _E8M0_NAN, torch.nan, powers)
