"""Scalar ALU: shifts, bit fields, and bits counted, searched and rearranged. Conventions as in salu.py.

source of every op: CDNA3 ISA (MI300) 12.1 and 12.3; the CDNA2 document says the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.ops.salu import with_scc
from petitgen.emulator.registry import alias, op

Array = NDArray[Any]


def _shift(ufunc: np.ufunc, bits: int) -> Callable[..., Any]:
    """Shift by the low 5 or 6 bits of S1; SCC = result != 0."""
    return with_scc(lambda a, b: ufunc(a, (b & np.uint32(bits - 1)).astype(a.dtype)))


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

# --- bits counted and searched --------------------------------------------------------------------


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
    alias(f"s_bcnt1_i32_b{_bits}", with_scc(lambda a: np.bitwise_count(a).astype(np.int32)))
    alias(f"s_bcnt0_i32_b{_bits}", with_scc(lambda a: np.bitwise_count(~a).astype(np.int32)))
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
        room = bits.shape[1] - quads.shape[1]
        return _packed(np.repeat(quads, group, axis=1) if spread else np.pad(quads, ((0, 0), (0, room))), dtype)

    return with_scc(reduce)


for _bits, _dtype in ((32, np.uint32), (64, np.uint64)):
    alias(f"s_wqm_b{_bits}", _any_of(4, True, _dtype))
    alias(f"s_quadmask_b{_bits}", _any_of(4, False, _dtype))


@op
def s_bitreplicate_b64_b32(a):
    """Every bit twice."""
    return _packed(np.repeat(_bytes_first(a), 2, axis=1), np.uint64)
