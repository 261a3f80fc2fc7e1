"""Activation types, and what of their range is verified."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np


@dataclass(frozen=True, slots=True)
class FloatType:
    """An activation type.

    largest  the largest magnitude promised to work (bf16: sums of products must stay inside f32)
    small    normal numbers far below 1
    faint    an outer scale that pushes results down to the subnormal numbers of the type
    loud     an outer scale that overflows the type for the largest rows only
    """

    name: str
    dtype: np.dtype
    largest: float
    small: float
    faint: float
    loud: float


BF16 = FloatType("bf16", np.dtype(ml_dtypes.bfloat16), 2.0**64, 2.0**-60, 2.0**-120, 2.0**100)
FP16 = FloatType("fp16", np.dtype(np.float16), 65504.0, 2.0**-10, 2.0**-22, 2.0**8)
FP8 = FloatType("fp8", np.dtype(ml_dtypes.float8_e4m3fnuz), 240.0, 2.0**-7, 1.0, 1.0)  # is no type of results
FLOAT_TYPES = {kind.name: kind for kind in (BF16, FP16, FP8)}
