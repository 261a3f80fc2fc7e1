"""UE5M3, the scale type of AMD-FP4: five exponent bits, three of mantissa, no sign.

    0x00         0
    0x01..0x07   code * 2^-17
    0x08..0xFE   (1 + m/8) * 2^(e - 15), e the upper five bits and m the lower three: 2^-14 to 114688
    0xFF         NaN

Every value is a float32 number. ml_dtypes and torch have no such type, so it is carried as uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OperandError

MAX = 114688.0  # 0xFE
MIN = 2.0**-17  # 0x01
NAN = 0xFF

_MANTISSA = 3
_DROPPED = 23 - _MANTISSA  # bits of a float32 mantissa that UE5M3 has not
_REBIAS = (127 - 15) << _MANTISSA
_SMALLEST_NORMAL = 2.0**-14


def _values() -> NDArray[np.float32]:
    codes = np.arange(256)
    exponent, mantissa = codes >> _MANTISSA, codes % 8
    values = np.where(exponent == 0, np.ldexp(mantissa, -17), np.ldexp(8 + mantissa, exponent - 18))
    values = values.astype(np.float32)
    values[NAN] = np.nan
    values.setflags(write=False)
    return values


VALUES = _values()
"""float32 [256]: the value of each code."""


def decode(codes: Any) -> NDArray[np.float32]:
    """The values, float32, of codes, uint8 of any shape. OperandError for another dtype."""
    codes = np.asarray(codes)
    if codes.dtype != np.uint8:
        raise OperandError(f"UE5M3 codes have dtype {codes.dtype}: uint8 is needed")
    return VALUES[codes]


def encode(values: Any) -> NDArray[np.uint8]:
    """The codes, uint8, nearest to values, float32 of any shape; of two as near the even one.

    NaN, +-Inf and what is above 114688 give 0xFF (also what would round to 114688), negative numbers and -0 give 0.
    2^-18 and less gives 0. OperandError for another dtype.
    """
    values = np.asarray(values)
    if values.dtype != np.float32:
        raise OperandError(f"values to encode as UE5M3 have dtype {values.dtype}: float32 is needed")
    positive = np.where(values > 0, values, np.float32(0))  # NaN too
    bits = positive.view(np.uint32)
    half = np.uint32((1 << (_DROPPED - 1)) - 1)
    normal = ((bits + half + (bits >> _DROPPED & 1)) >> _DROPPED).astype(np.int64) - _REBIAS
    small = np.rint(np.minimum(positive, np.float32(_SMALLEST_NORMAL)) * np.float32(2.0**17))  # 8 of it is code 8
    codes = np.where(positive < _SMALLEST_NORMAL, small, normal)
    return np.where(np.isfinite(values) & (values <= MAX), codes, NAN).astype(np.uint8)
