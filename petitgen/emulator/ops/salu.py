"""Scalar ALU: arithmetic, logic, moves and comparisons (salu_bits: shifts, fields, counts).

Arguments are arrays of shape (waves,) in the order of the table row, scc as bool; results come back in the
order of its destinations. source of every op: CDNA3 ISA (MI300) 12.1-12.4; the CDNA2 document says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.registry import alias, op

Array = NDArray[Any]


def _same(value: Any) -> Any:
    return value


def with_scc(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """A result and SCC = (result != 0)."""

    def both(*args: Any) -> tuple[Any, Any]:
        result = function(*args)
        return result, result != 0

    return both


# --- arithmetic -----------------------------------------------------------------------------------


@op
def s_add_u32(a, b):
    """D = a + b; SCC = carry out."""
    total = np.add(a, b)
    return total, total < a


@op
def s_sub_u32(a, b):
    """D = a - b; SCC = borrow."""
    return np.subtract(a, b), np.greater(b, a)


@op
def s_add_i32(a, b):
    """D = a + b; SCC = signed overflow."""
    total = np.add(a, b)
    return total, ((a ^ total) & (b ^ total)) < 0


@op
def s_sub_i32(a, b):
    """D = a - b; SCC = signed overflow."""
    total = np.subtract(a, b)
    return total, ((a ^ b) & (a ^ total)) < 0


@op
def s_addc_u32(a, b, scc):
    """D = a + b + SCC; SCC = carry out."""
    total = np.asarray(a, np.uint64) + np.asarray(b, np.uint64) + scc
    return total.astype(np.uint32), total > 0xFFFFFFFF


@op
def s_subb_u32(a, b, scc):
    """D = a - b - SCC; SCC = borrow."""
    total = np.asarray(a, np.int64) - np.asarray(b, np.int64) - scc
    return total.astype(np.uint32), total < 0


@op
def s_addk_i32(k, a):
    """D = D + simm16; SCC = signed overflow."""
    return s_add_i32(a, np.int32(k))


@op
def s_mulk_i32(k, a):
    """D = D * simm16."""
    return np.multiply(a, np.int32(k))


def _choose(pick: np.ufunc) -> Callable[..., Any]:
    """min/max: SCC = the first operand was chosen (strictly)."""
    return lambda a, b: (pick(a, b), (a < b) if pick is np.minimum else (a > b))


for _name, _ufunc in (("min", np.minimum), ("max", np.maximum)):
    for _type in ("i32", "u32"):
        alias(f"s_{_name}_{_type}", _choose(_ufunc))

alias("s_mul_i32", np.multiply)


@op
def s_mul_hi_u32(a, b):
    """High half of the 64-bit product."""
    return (np.asarray(a, np.uint64) * np.asarray(b, np.uint64) >> np.uint64(32)).astype(np.uint32)


@op
def s_mul_hi_i32(a, b):
    """High half of the signed 64-bit product."""
    return (np.asarray(a, np.int64) * np.asarray(b, np.int64) >> np.int64(32)).astype(np.int32)


def _shift_add(shift: int) -> Callable[..., Any]:
    """D = (a << shift) + b; SCC = the exact sum does not fit."""

    def shift_add(a: Any, b: Any) -> Any:
        total = (np.asarray(a, np.uint64) << np.uint64(shift)) + np.asarray(b, np.uint64)
        return total.astype(np.uint32), total > 0xFFFFFFFF

    return shift_add


for _n in (1, 2, 3, 4):
    alias(f"s_lshl{_n}_add_u32", _shift_add(_n))


@op
def s_absdiff_i32(a, b):
    """D = |a - b| (modulo 2**32); SCC = D != 0."""
    difference = np.abs(np.asarray(a - b, np.int32))
    return difference, difference != 0


@op
def s_abs_i32(a):
    """D = |a|; SCC = D != 0."""
    return np.abs(a), a != 0


# --- logic, moves and selection -------------------------------------------------------------------

_LOGIC: dict[str, Callable[..., Any]] = {
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "andn2": lambda a, b: a & ~b, "orn2": lambda a, b: a | ~b,
    "nand": lambda a, b: ~(a & b), "nor": lambda a, b: ~(a | b), "xnor": lambda a, b: ~(a ^ b),
    "andn1": lambda a, b: ~a & b, "orn1": lambda a, b: ~a | b,
}  # fmt: skip


def _saveexec(logic: Callable[..., Any]) -> Callable[..., Any]:
    """D = EXEC; EXEC = S0 op EXEC; SCC = EXEC != 0."""

    def saveexec(a: Any, exec_: Any) -> Any:
        new = logic(a, exec_)
        return exec_, new, new != 0

    return saveexec


def _wrexec(logic: Callable[..., Any]) -> Callable[..., Any]:
    """D = EXEC = S0 op EXEC; SCC = EXEC != 0."""

    def wrexec(a: Any, exec_: Any) -> Any:
        new = logic(a, exec_)
        return new, new, new != 0

    return wrexec


for _name, _logic in _LOGIC.items():
    if not _name.endswith("n1"):
        alias(f"s_{_name}_b32", with_scc(_logic))
        alias(f"s_{_name}_b64", with_scc(_logic))
    alias(f"s_{_name}_saveexec_b64", _saveexec(_logic))
for _name in ("andn1", "andn2"):
    alias(f"s_{_name}_wrexec_b64", _wrexec(_LOGIC[_name]))

for _mnemonic in ("s_mov_b32", "s_mov_b64"):
    alias(_mnemonic, _same)
alias("s_movk_i32", np.int32)
for _mnemonic in ("s_not_b32", "s_not_b64"):
    alias(_mnemonic, with_scc(np.bitwise_not))


def _conditional(new: Any, scc: Any, old: Any) -> Any:
    """D = SCC ? S0 : D."""
    return np.where(scc, new, old)


for _mnemonic in ("s_cmov_b32", "s_cmov_b64"):
    alias(_mnemonic, _conditional)


@op
def s_cmovk_i32(k, scc, old):
    """D = SCC ? simm16 : D."""
    return np.where(scc, np.int32(k), old)


def _select(a: Any, b: Any, scc: Any) -> Any:
    """D = SCC ? S0 : S1."""
    return np.where(scc, a, b)


for _mnemonic in ("s_cselect_b32", "s_cselect_b64"):
    alias(_mnemonic, _select)


# --- comparisons ----------------------------------------------------------------------------------

_COMPARE = {
    "eq": np.equal,
    "lg": np.not_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
}
for _name, _compare in _COMPARE.items():
    for _type in ("i32", "u32"):
        alias(f"s_cmp_{_name}_{_type}", _compare)
    alias(f"s_cmpk_{_name}_i32", lambda a, k, f=_compare: f(a, np.int32(k)))
    alias(f"s_cmpk_{_name}_u32", lambda a, k, f=_compare: f(a, np.uint32(k & 0xFFFF)))
alias("s_cmp_eq_u64", np.equal)
alias("s_cmp_lg_u64", np.not_equal)


def _bit_test(wanted: int, bits: int) -> Callable[..., Any]:
    """SCC = (S0[S1] == wanted)."""
    return lambda a, n: (
        ((a >> np.asarray(n & np.uint32(bits - 1)).astype(a.dtype)) & a.dtype.type(1)) == wanted
    )


for _wanted in (0, 1):
    for _bits in (32, 64):
        alias(f"s_bitcmp{_wanted}_b{_bits}", _bit_test(_wanted, _bits))
