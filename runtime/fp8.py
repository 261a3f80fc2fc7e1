"""8-bit floating-point codes: from what checkpoints have to E4M3FNUZ, and to the packed form of runtime.formats.

E4M3FNUZ (bias 8, no negative zero, NaN is 0x80) is what gfx942 multiplies. E4M3FN (OCP, bias 7, NaN is 0x7f and 0xff) has
twice the value for the same bits, so that it becomes E4M3FNUZ exactly when its scale is doubled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.formats import BRICK_K, BRICK_N, LANES

NAN = 0x80
FNUZ, FN = "float8_e4m3fnuz", "float8_e4m3fn"  # as numpy (ml_dtypes) and torch call them
FACTORS = {FNUZ: 1.0, "uint8": 1.0, FN: 2.0}
"""What the scale of codes of a dtype is to be multiplied by, when the codes become E4M3FNUZ. uint8: E4M3FNUZ already."""

_HALVES, _GROUPS, _RUN = 2, 2, 8  # of a brick, of a half, and codes that are neighbours
_QUADS = LANES // BRICK_N


def to_fnuz(codes: NDArray[np.uint8], dtype: str) -> NDArray[np.uint8]:
    """Codes of one of FACTORS as E4M3FNUZ, of values that are FACTORS[dtype] smaller."""
    if dtype != FN:
        return codes
    return np.where(codes & 0x7F == 0x7F, np.uint8(NAN), np.where(codes == 0x80, np.uint8(0), codes))


def pack_codes(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [N, K] -> uint8 [K/128, N/16, 2, 64, 16], padded with zero codes."""
    n, k = codes.shape
    padded = np.pad(codes, ((0, -n % BRICK_N), (0, -k % BRICK_K)))
    # [tile n][n][tile k][half][g][quad][j]
    parts = padded.reshape(-1, BRICK_N, padded.shape[1] // BRICK_K, _HALVES, _GROUPS, _QUADS, _RUN)
    bricks = parts.transpose(2, 0, 3, 5, 1, 4, 6)
    return np.ascontiguousarray(bricks).reshape(*bricks.shape[:3], LANES, _GROUPS * _RUN)


def unpack_codes(packed: NDArray[np.uint8], n: int, k: int) -> NDArray[np.uint8]:
    """The inverse: uint8 [N, K]."""
    tiles_k, tiles_n = packed.shape[:2]
    bricks = packed.reshape(tiles_k, tiles_n, _HALVES, _QUADS, BRICK_N, _GROUPS, _RUN)
    rows = bricks.transpose(1, 4, 0, 2, 5, 3, 6).reshape(tiles_n * BRICK_N, tiles_k * BRICK_K)
    return np.ascontiguousarray(rows[:n, :k])
