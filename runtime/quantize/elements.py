"""E2M1: float32 to codes, to the nearest or at random, and codes to bytes, two in each."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

_VALUES = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)


def _above(x: float) -> float:
    """The next float32: what is larger than x is at least this."""
    return float(np.nextafter(np.float32(x), np.float32(math.inf)))


# From where on a magnitude has the code 1, 2, .. 7. A tie goes to the even code: up where that is the upper one.
_NEAREST = (_above(0.25), 0.75, _above(1.25), 1.75, _above(2.5), 3.5, _above(5.0))
_BELOW = tuple(float(v) for v in _VALUES[1:8])  # the same without rounding up
_GAPS = (*np.diff(_VALUES[:8]).tolist(), 1.0)  # from a value to the next; above 6 there is none


def encode(x: Tensor, words: Tensor | None = None) -> Tensor:
    """The E2M1 codes, uint8, of float32 values; 6 from there on, Inf too; 0 for NaN. Each keeps its sign.

    words  int64 of the shape of x, 0 to 2^32 - 1: up where the word is less than the fraction of the gap, in 2^-32,
           that x is above the value below it. None: to the nearest, ties to even.
    """
    magnitude = x.abs().nan_to_num(nan=0.0, posinf=6.0).clamp(max=6.0).contiguous()
    if words is None:
        code = torch.bucketize(magnitude, magnitude.new_tensor(_NEAREST), right=True, out_int32=True)
    else:
        below = torch.bucketize(magnitude, magnitude.new_tensor(_BELOW), right=True)
        fraction = (magnitude - magnitude.new_tensor(_VALUES[:8])[below]) / magnitude.new_tensor(_GAPS)[below]
        code = below + (words < (fraction * 2.0**32).long())
    sign = torch.signbit(x) & ~x.isnan()
    return code.to(torch.uint8) | (sign.to(torch.uint8) << 3)


def decode(codes: Tensor) -> Tensor:
    """The values, float32, of E2M1 codes."""
    return torch.tensor(_VALUES, device=codes.device)[codes.long()]


def to_bytes(codes: Tensor) -> Tensor:
    """[..., L] -> [..., L/2]: the lower nibble is the even one. L is even."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def from_bytes(packed: Tensor) -> Tensor:
    """[..., L/2] -> [..., L]."""
    return torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2)
