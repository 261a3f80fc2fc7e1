"""Comparisons of the vector ALU: every v_cmp_* and v_cmpx_*. They return the lane mask; the executor masks it
with EXEC and, for v_cmpx, writes EXEC too.

source: CDNA3 ISA 12.9 (VOPC).
"""

from __future__ import annotations

import numba
import numpy as np

from petitgen.emulator.compiled import compiled, half_to_float
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


# f16 compares bit patterns: numpy's own comparisons of float16 are ten times slower.
@compiled("b1(u2,u2)")
def _half_lt(a, b):
    return half_to_float(a) < half_to_float(b)


@compiled("b1(u2,u2)")
def _half_le(a, b):
    return half_to_float(a) <= half_to_float(b)


@compiled("b1(u2,u2)")
def _half_eq(a, b):
    return half_to_float(a) == half_to_float(b)


def _lt(a, b):
    return _half_lt(a.view(np.uint16), b.view(np.uint16))


def _le(a, b):
    return _half_le(a.view(np.uint16), b.view(np.uint16))


def _eq(a, b):
    return _half_eq(a.view(np.uint16), b.view(np.uint16))


def _gt(a, b):
    return _lt(b, a)


def _ge(a, b):
    return _le(b, a)


def _lg(a, b):
    return _lt(a, b) | _lt(b, a)


def _o(a, b):
    return _eq(a, a) & _eq(b, b)


_HALF: dict[str, Function] = {
    "f": _false, "lt": _lt, "eq": _eq, "le": _le, "gt": _gt, "lg": _lg, "ge": _ge, "o": _o, "u": _negated(_o),
    "nge": _negated(_ge), "nlg": _negated(_lg), "ngt": _negated(_gt), "nle": _negated(_le),
    "neq": _negated(_eq), "nlt": _negated(_lt), "tru": _true,
}  # fmt: skip


@numba.njit(inline="always")
def _kind(magnitude, negative, infinity, quiet, smallest_normal):
    """0 signalling NaN, 1 quiet NaN, 2 -infinity, 3 -normal, 4 -denormal, 5 -0, 6 +0 ... 9 +infinity."""
    if magnitude > infinity:
        return 1 if magnitude & quiet else 0
    size = 3 if magnitude == infinity else (2 if magnitude >= smallest_normal else (1 if magnitude else 0))
    return 5 - size if negative else 6 + size


@compiled("b1(u2,u4)")
def _class_f16(bits, classes):
    kind = _kind(np.int64(bits) & 0x7FFF, bits >> 15, 0x7C00, 0x200, 0x400)
    return (np.int64(classes) >> kind) & 1


@compiled("b1(u4,u4)")
def _class_f32(bits, classes):
    kind = _kind(np.int64(bits) & 0x7FFFFFFF, bits >> 31, 0x7F800000, 0x400000, 0x800000)
    return (np.int64(classes) >> kind) & 1


@compiled("b1(u8,u4)")
def _class_f64(bits, classes):
    magnitude = np.int64(bits & np.uint64(0x7FFFFFFFFFFFFFFF))
    kind = _kind(magnitude, bits >> np.uint64(63), 0x7FF0000000000000, 0x8000000000000, 0x10000000000000)
    return (np.int64(classes) >> kind) & 1


def _classes(ufunc, dtype):
    """Is a of one of the classes that the bits of the second operand name (see _kind)?"""
    return lambda a, classes: ufunc(np.asarray(a).view(dtype), classes)


_CLASS = {
    "f16": _classes(_class_f16, np.uint16),
    "f32": _classes(_class_f32, np.uint32),
    "f64": _classes(_class_f64, np.uint64),
}

for _prefix in ("v_cmp", "v_cmpx"):
    for _type in ("i16", "u16", "i32", "u32", "i64", "u64"):
        for _name, _compare in _INTEGER.items():
            alias(f"{_prefix}_{_name}_{_type}", _compare)
    for _type in ("f16", "f32", "f64"):
        for _name, _compare in (_HALF if _type == "f16" else _FLOAT).items():
            alias(f"{_prefix}_{_name}_{_type}", _compare)
        alias(f"{_prefix}_class_{_type}", _CLASS[_type])
