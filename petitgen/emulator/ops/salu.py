"""Scalar ALU: SOP1, SOP2, SOPC and SOPK but for what moves the program counter or reads hardware registers.

Arguments are arrays of shape (waves,) in the order of the table row, scc as bool; results come back in the order of its
destinations. source of every op: CDNA3 ISA (MI300) 12.1-12.4; the CDNA2 document says the same.
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


def _both(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """A result and SCC = (result != 0)."""

    def with_scc(*args: Any) -> tuple[Any, Any]:
        result = function(*args)
        return result, result != 0

    return with_scc


# --- arithmetic ----------------------------------------------------------------------------------------------------------


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


# --- logic, moves and selection ------------------------------------------------------------------------------------------

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
        alias(f"s_{_name}_b32", _both(_logic))
        alias(f"s_{_name}_b64", _both(_logic))
    alias(f"s_{_name}_saveexec_b64", _saveexec(_logic))
for _name in ("andn1", "andn2"):
    alias(f"s_{_name}_wrexec_b64", _wrexec(_LOGIC[_name]))

for _mnemonic in ("s_mov_b32", "s_mov_b64"):
    alias(_mnemonic, _same)
alias("s_movk_i32", np.int32)
for _mnemonic in ("s_not_b32", "s_not_b64"):
    alias(_mnemonic, _both(np.bitwise_not))


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

# --- shifts and fields ---------------------------------------------------------------------------------------------------


def _shift(ufunc: np.ufunc, bits: int) -> Callable[..., Any]:
    """Shift by the low 5 or 6 bits of S1; SCC = result != 0."""
    return _both(lambda a, b: ufunc(a, (b & np.uint32(bits - 1)).astype(a.dtype)))


for _bits in (32, 64):
    alias(f"s_lshl_b{_bits}", _shift(np.left_shift, _bits))
    alias(f"s_lshr_b{_bits}", _shift(np.right_shift, _bits))
    alias(f"s_ashr_i{_bits}", _shift(np.right_shift, _bits))


@op
def s_bfm_b32(width, offset):
    """((1 << width[4:0]) - 1) << offset[4:0]."""
    ones = (np.uint64(1) << np.asarray(width & 31, np.uint64)) - np.uint64(1)
    return (ones << np.asarray(offset & 31, np.uint64)).astype(np.uint32)


@op
def s_bfm_b64(width, offset):
    """((1 << width[5:0]) - 1) << offset[5:0]."""
    ones = (np.uint64(1) << np.asarray(width & 63, np.uint64)) - np.uint64(1)
    return ones << np.asarray(offset & 63, np.uint64)


def _bit_field(bits: int) -> Callable[..., Any]:
    """S1[4:0] (64 bits: [5:0]) is the offset, S1[22:16] the width; signed forms extend; SCC = result != 0."""

    def extract(value: Any, field: Any) -> Any:
        offset, width = field & (bits - 1), np.minimum(field >> 16 & 0x7F, bits)
        shifted = np.asarray(value) >> np.asarray(offset).astype(value.dtype)
        up = np.asarray(bits - width)
        safe = np.minimum(up, bits - 1).astype(value.dtype)
        result = np.where(width == 0, value.dtype.type(0), (shifted << safe) >> safe)
        return result, result != 0

    return extract


for _bits in (32, 64):
    alias(f"s_bfe_u{_bits}", _bit_field(_bits))
    alias(f"s_bfe_i{_bits}", _bit_field(_bits))


@op
def s_bitset0_b32(n, old):
    """D[S0[4:0]] = 0."""
    return old & ~(np.uint32(1) << (n & np.uint32(31)))


@op
def s_bitset1_b32(n, old):
    """D[S0[4:0]] = 1."""
    return old | (np.uint32(1) << (n & np.uint32(31)))


@op
def s_bitset0_b64(n, old):
    """D[S0[5:0]] = 0."""
    return old & ~(np.uint64(1) << np.asarray(n & 63, np.uint64))


@op
def s_bitset1_b64(n, old):
    """D[S0[5:0]] = 1."""
    return old | (np.uint64(1) << np.asarray(n & 63, np.uint64))


@op
def s_pack_ll_b32_b16(a, b):
    """{b[15:0], a[15:0]}."""
    return (a & 0xFFFF) | (b << np.uint32(16))


@op
def s_pack_lh_b32_b16(a, b):
    """{b[31:16], a[15:0]}."""
    return (a & 0xFFFF) | (b & 0xFFFF0000)


@op
def s_pack_hh_b32_b16(a, b):
    """{b[31:16], a[31:16]}."""
    return (a >> np.uint32(16)) | (b & 0xFFFF0000)



def _extend(narrow: type) -> Callable[..., Any]:
    """The low 8 or 16 bits, sign-extended."""
    return lambda a: np.asarray(a).astype(narrow).astype(np.int32)


alias("s_sext_i32_i8", _extend(np.int8))
alias("s_sext_i32_i16", _extend(np.int16))

# --- bits counted and searched -------------------------------------------------------------------------------------------


def _bytes_first(value: Any) -> Array:
    """Bits of each element, least significant first: (waves, 32 or 64) uint8."""
    array = np.atleast_1d(np.ascontiguousarray(value))
    return np.unpackbits(array.view(np.uint8).reshape(array.size, -1), axis=1, bitorder="little")


def _packed(bits: Array, dtype: type) -> Array:
    return np.packbits(bits, axis=1, bitorder="little").view(dtype)[:, 0]


def _first_one(bits: Array) -> Array:
    """Position of the first 1, or -1."""
    return np.where(bits.any(axis=1), bits.argmax(axis=1), -1).astype(np.int32)


def _sign_run(value: Any) -> Array:
    """Leading bits equal to the sign bit, or -1 if all are."""
    bits = _bytes_first(value)[:, ::-1]
    return _first_one(bits != bits[:, :1])


for _bits, _dtype in ((32, np.uint32), (64, np.uint64)):
    alias(f"s_brev_b{_bits}", lambda a, t=_dtype: _packed(_bytes_first(a)[:, ::-1], t))
    alias(f"s_bcnt1_i32_b{_bits}", _both(lambda a: np.bitwise_count(a).astype(np.int32)))
    alias(f"s_bcnt0_i32_b{_bits}", _both(lambda a: np.bitwise_count(~a).astype(np.int32)))
    alias(f"s_ff1_i32_b{_bits}", lambda a: _first_one(_bytes_first(a)))
    alias(f"s_ff0_i32_b{_bits}", lambda a: _first_one(_bytes_first(~a)))
    alias(f"s_flbit_i32_b{_bits}", lambda a: _first_one(_bytes_first(a)[:, ::-1]))
alias("s_flbit_i32", _sign_run)
alias("s_flbit_i32_i64", _sign_run)


def _any_of(group: int, spread: bool, dtype: type) -> Callable[..., Any]:
    """wqm: every group of 4 bits becomes all ones if any is set; quadmask: one bit a group."""

    def reduce(a: Any) -> Any:
        bits = _bytes_first(a)
        quads = bits.reshape(bits.shape[0], -1, group).any(axis=2)
        if spread:
            quads = np.repeat(quads, group, axis=1)
        else:
            quads = np.pad(quads, ((0, 0), (0, bits.shape[1] - quads.shape[1])))
        return _packed(quads, dtype)

    return _both(reduce)


for _bits, _dtype in ((32, np.uint32), (64, np.uint64)):
    alias(f"s_wqm_b{_bits}", _any_of(4, True, _dtype))
    alias(f"s_quadmask_b{_bits}", _any_of(4, False, _dtype))


@op
def s_bitreplicate_b64_b32(a):
    """Every bit twice."""
    return _packed(np.repeat(_bytes_first(a), 2, axis=1), np.uint64)


# --- comparisons ---------------------------------------------------------------------------------------------------------

_COMPARE = {"eq": np.equal, "lg": np.not_equal, "gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal}
for _name, _ufunc in _COMPARE.items():
    for _type in ("i32", "u32"):
        alias(f"s_cmp_{_name}_{_type}", _ufunc)
    alias(f"s_cmpk_{_name}_i32", lambda a, k, f=_ufunc: f(a, np.int32(k)))
    alias(f"s_cmpk_{_name}_u32", lambda a, k, f=_ufunc: f(a, np.uint32(k & 0xFFFF)))
alias("s_cmp_eq_u64", np.equal)
alias("s_cmp_lg_u64", np.not_equal)


def _bit_test(wanted: int, bits: int) -> Callable[..., Any]:
    """SCC = (S0[S1] == wanted)."""
    return lambda a, n: ((a >> np.asarray(n & np.uint32(bits - 1)).astype(a.dtype)) & a.dtype.type(1)) == wanted


for _wanted in (0, 1):
    for _bits in (32, 64):
        alias(f"s_bitcmp{_wanted}_b{_bits}", _bit_test(_wanted, _bits))
