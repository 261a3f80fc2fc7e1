"""Comparisons of the vector ALU: every v_cmp_* and v_cmpx_*. They return the lane mask; the executor masks it
with EXEC and, for v_cmpx, writes EXEC too.

source: CDNA3 ISA 12.9 (VOPC).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from petitgen.emulator.registry import Function, alias


def _false(a, b):
    return np.zeros(np.broadcast_shapes(np.shape(a), np.shape(b)), bool)


def _true(a, b):
    return np.ones(np.broadcast_shapes(np.shape(a), np.shape(b)), bool)


_INTEGER: dict[str, Function] = {
    "f": _false, "lt": np.less, "eq": np.equal, "le": np.less_equal,
    "gt": np.greater, "ne": np.not_equal, "ge": np.greater_equal, "t": _true,
}  # fmt: skip


def _ordered(a, b):
    return (a == a) & (b == b)


def _unordered(a, b):
    return (a != a) | (b != b)


def _less_or_greater(a, b):
    return (a < b) | (a > b)


def _negated(compare):
    """True where the comparison does not hold, and so with a NaN."""
    return lambda a, b: np.logical_not(compare(a, b))


_FLOAT: dict[str, Function] = {
    "f": _false, "lt": np.less, "eq": np.equal, "le": np.less_equal, "gt": np.greater, "lg": _less_or_greater,
    "ge": np.greater_equal, "o": _ordered, "u": _unordered, "nge": _negated(np.greater_equal),
    "nlg": _negated(_less_or_greater), "ngt": _negated(np.greater), "nle": _negated(np.less_equal),
    "neq": np.not_equal, "nlt": _negated(np.less), "tru": _true,
}  # fmt: skip


def _class(size: int, exponent_mask: int, mantissa_mask: int, quiet_bit: int):
    """Is a of one of the classes named by the bits of `classes`? 0 signalling NaN, 1 quiet NaN, 2 -infinity,
    3 -normal, 4 -denormal, 5 -0, 6 +0, 7 +denormal, 8 +normal, 9 +infinity.
    """
    integer: Any = {2: np.uint16, 4: np.uint32, 8: np.uint64}[size]
    exponent_bits, mantissa_bits, quiet = integer(exponent_mask), integer(mantissa_mask), integer(quiet_bit)

    def classify(bits, classes):
        exponent, mantissa = bits & exponent_bits, bits & mantissa_bits
        negative = (bits & ~(exponent_bits | mantissa_bits)) != 0
        top, zero = exponent == exponent_bits, exponent == 0
        kind = np.where(top, 9, np.where(zero, np.where(mantissa == 0, 6, 7), 8))
        kind = np.where(negative, 11 - kind, kind)
        kind = np.where(top & (mantissa != 0), ((bits & quiet) != 0).astype(kind.dtype), kind)
        return ((np.asarray(classes).astype(np.int64) >> kind) & 1).astype(bool)

    return lambda a, classes: classify(np.asarray(a).view(integer), classes)


_CLASS = {
    "f16": _class(2, 0x7C00, 0x3FF, 0x200),
    "f32": _class(4, 0x7F800000, 0x7FFFFF, 0x400000),
    "f64": _class(8, 0x7FF0000000000000, 0xFFFFFFFFFFFFF, 0x8000000000000),
}

for _prefix in ("v_cmp", "v_cmpx"):
    for _type in ("i16", "u16", "i32", "u32", "i64", "u64"):
        for _name, _compare in _INTEGER.items():
            alias(f"{_prefix}_{_name}_{_type}", _compare)
    for _type in ("f16", "f32", "f64"):
        for _name, _compare in _FLOAT.items():
            alias(f"{_prefix}_{_name}_{_type}", _compare)
        alias(f"{_prefix}_class_{_type}", _CLASS[_type])
