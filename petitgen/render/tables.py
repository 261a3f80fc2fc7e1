"""Numbers by the magnitude of an E2M1 code, as v_perm_b32 looks them up: four bytes for codes 4 to 7, four for 0 to 3."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

E2M1 = (0, 0.5, 1, 1.5, 2, 3, 4, 6)  # magnitudes by code


def bf16_table(exponent: int) -> tuple[str, ...]:
    """The bytes of the bf16 numbers of E2M1's magnitudes times 2^exponent, for v_perm_b32, as C literals."""
    magnitudes = np.array(E2M1) * 2.0**exponent
    numbers = magnitudes.astype(np.float32).view(np.uint32) >> 16
    high, low = (numbers >> 8).astype(np.uint8), numbers.astype(np.uint8)
    return tuple(dword(half) for half_of in (high, low) for half in (half_of[4:], half_of[:4]))


def fnuz_table(exponent: int) -> tuple[str, ...]:
    """E2M1's magnitudes times 2^exponent as E4M3FNUZ (bias 8, three bits of mantissa), in the same way."""
    codes = [0 if x == 0 else int((math.frexp(x)[1] + 7 + exponent) << 3 | int(math.frexp(x)[0] * 16) & 7) for x in E2M1]
    numbers = np.array(codes, np.uint8)
    return dword(numbers[4:]), dword(numbers[:4])


def dword(four: NDArray[np.uint8]) -> str:
    """Four bytes as a C literal."""
    return f"{int(four.view('<u4')[0]):#010x}u"


TABLES = {"table": bf16_table, "fnuz": fnuz_table}  # by code order
