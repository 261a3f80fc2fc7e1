"""Operand types of the instruction tables, as numpy sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# One 32-bit register: the row attribute of state.Group.
WORD = {
    "u32": "u32", "b32": "u32", "i32": "i32", "f32": "f32", "u24": "u32", "i24": "i32", "mix": "u32",
    "i8x4": "u32", "u8x4": "u32", "i4x8": "u32", "u4x8": "u32", "xf32": "u32",
}  # fmt: skip
# Half a register.
HALF = {"u16": "u16", "b16": "u16", "bf16": "u16", "i16": "i16", "f16": "f16"}
# Both halves of a register.
PACKED = {"pk_u16": "u16", "pk_b16": "u16", "pk_bf16": "u16", "pk_i16": "i16", "pk_f16": "f16"}
# Two registers as one 64-bit element.
DOUBLE = {"u64": np.uint64, "b64": np.uint64, "i64": np.int64, "f64": np.float64}
# Two registers as two 32-bit elements.
PAIR = {"pk_f32": np.float32, "pk_b32": np.uint32}

DTYPE = {
    "u32": np.uint32,
    "i32": np.int32,
    "f32": np.float32,
    "u16": np.uint16,
    "i16": np.int16,
    "f16": np.float16,
}

# Floating types and the MODE fields that rule them: 0 single precision, 1 half and double.
FLOAT_CLASS = {"f32": 0, "pk_f32": 0, "f16": 1, "pk_f16": 1, "f64": 1}

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def constant(bits: int, dtype: type) -> Any:
    """A numpy scalar of `dtype` from its bit pattern; excess high bits are dropped."""
    size = np.dtype(dtype).itemsize
    return np.array(bits & ((1 << 8 * size) - 1), _UNSIGNED[size]).view(dtype)[()]


def as_bits(values: Any) -> NDArray[Any]:
    """The same memory as unsigned integers of the same width."""
    array = np.asarray(values)
    return array.view(_UNSIGNED[array.dtype.itemsize])
