"""16-bit integer arithmetic of the vector ALU, single and packed. Results wrap; the clamped forms saturate.

source: CDNA3 ISA 12.7, 12.10, 12.11. Packed operands are (W, 64, 2) and every operation is element-wise.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.registry import Function, alias

U16, I16, I32, I64 = np.uint16, np.int16, np.int32, np.int64


def _saturating(dtype, compute):
    """compute() in int64, clipped to a 16-bit dtype."""
    info = np.iinfo(dtype)

    def saturated(*operands):
        wide = compute(*(np.asarray(x).astype(I64) for x in operands))
        return np.clip(wide, info.min, info.max).astype(dtype)

    return saturated


def _mad(a, b, c):
    return a * b + c


def _subrev(a, b):
    return b - a


def _lshlrev(shift, a):
    return np.left_shift(a, shift & U16(15))


def _lshrrev(shift, a):
    return np.right_shift(a, shift & U16(15))


def _ashrrev(shift, a):
    return np.right_shift(a, (shift & U16(15)).astype(I16))


_UNSIGNED: dict[str, Function] = {
    "v_add_u16": np.add, "v_sub_u16": np.subtract, "v_subrev_u16": _subrev, "v_mul_lo_u16": np.multiply,
    "v_mad_u16": _mad, "v_mad_legacy_u16": _mad, "v_pk_add_u16": np.add, "v_pk_sub_u16": np.subtract,
    "v_pk_mul_lo_u16": np.multiply, "v_pk_mad_u16": _mad,
}  # fmt: skip
_SIGNED: dict[str, Function] = {
    "v_add_i16": np.add, "v_sub_i16": np.subtract, "v_mad_i16": _mad, "v_mad_legacy_i16": _mad,
    "v_pk_add_i16": np.add, "v_pk_sub_i16": np.subtract, "v_pk_mad_i16": _mad,
}  # fmt: skip
_PLAIN: dict[str, Function] = {
    "v_min_u16": np.minimum, "v_max_u16": np.maximum, "v_min_i16": np.minimum, "v_max_i16": np.maximum,
    "v_lshlrev_b16": _lshlrev, "v_lshrrev_b16": _lshrrev, "v_ashrrev_i16": _ashrrev,
    "v_pk_min_u16": np.minimum, "v_pk_max_u16": np.maximum,
    "v_pk_min_i16": np.minimum, "v_pk_max_i16": np.maximum,
    "v_pk_lshlrev_b16": _lshlrev, "v_pk_lshrrev_b16": _lshrrev, "v_pk_ashrrev_i16": _ashrrev,
}  # fmt: skip

for _name, _function in _UNSIGNED.items():
    alias(_name, _function, _saturating(U16, _function))
for _name, _function in _SIGNED.items():
    alias(_name, _function, _saturating(I16, _function))
for _name, _function in _PLAIN.items():
    alias(_name, _function)
