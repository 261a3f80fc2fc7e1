"""Vector instructions that treat the bytes of a dword apart: what each byte of the result depends on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.sanitizer.footprint import rows
from petitgen.emulator.sanitizer.undefined import ALL, NONE, Bytes, View, spread
from petitgen.isa.model import Instruction, Kind, Operand

Function = Callable[[View, int], Bytes]  # (view, number of the register within the result) -> its undefined bytes


def source(operand: Operand) -> Function:
    """The undefined bytes of an operand."""
    registers = rows(operand)
    if not registers:
        return lambda view, k: np.zeros((view.group.n, 4), np.uint64)
    return lambda view, k: view.bytes_of(registers[k])


def equal(operand: Operand, byte: int) -> Function:
    """The bytes whose value is `byte`."""
    registers = rows(operand)
    if operand.kind in (Kind.CONST, Kind.IMM):
        return lambda view, k: np.broadcast_to(_constant(operand.value >> 32 * k, byte), (view.group.n, 4))
    if not registers:  # a status register
        return lambda view, k: np.zeros((view.group.n, 4), np.uint64)
    if operand.kind is Kind.SGPR:
        return lambda view, k: _scalar(view.group.su32[operand.index + k], byte)
    return lambda view, k: _vector(view.group.u32[registers[k]], byte)


def _constant(value: int, byte: int) -> Bytes:
    return np.array([[ALL if value >> 8 * b & 0xFF == byte else NONE for b in range(4)]], np.uint64)


def _scalar(values: NDArray[np.uint32], byte: int) -> Bytes:
    parts = values[:, None] >> np.arange(0, 32, 8, dtype=np.uint32) & np.uint32(0xFF)
    return np.where(parts == byte, ALL, NONE)


def _vector(values: NDArray[np.uint32], byte: int) -> Bytes:
    equal_bytes = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), 64, 4) == byte
    columns = np.packbits(equal_bytes, axis=1, bitorder="little")  # (n, 8, 4)
    return np.ascontiguousarray(columns.transpose(0, 2, 1)).view(np.uint64)[..., 0]


def _and(a: Bytes, za: Bytes, b: Bytes, zb: Bytes) -> Bytes:
    """`z`: bytes that are known to be the absorbing value, if defined."""
    return (a | b) & ~(za & ~a) & ~(zb & ~b)


def _absorbing(byte: int) -> Callable[[Instruction], Function]:
    """AND (a zero byte hides the other) or OR (a byte of ones does)."""

    def compile_rule(ins: Instruction) -> Function:
        (a, b), (za, zb) = [source(o) for o in ins.src[:2]], [equal(o, byte) for o in ins.src[:2]]
        return lambda view, k: _and(a(view, k), za(view, k), b(view, k), zb(view, k))

    return compile_rule


def _joined(ins: Instruction) -> Function:
    """Byte b of the result depends on bytes b of all sources."""
    readers = [source(o) for o in ins.src]
    if len(readers) == 2 and ins.mnemonic.startswith("v_xor") and rows(ins.src[0]) == rows(ins.src[1]) != ():
        readers = []

    def join(view: View, k: int) -> Bytes:
        total = np.zeros((view.group.n, 4), np.uint64)
        for read in readers:
            total = total | read(view, k)
        return total

    return join


def _and_or(ins: Instruction) -> Function:
    both, other = _absorbing(0)(ins), source(ins.src[2])
    return lambda view, k: both(view, k) | other(view, k)


def _insert(ins: Instruction) -> Function:
    """V_BFI: (mask & a) | (~mask & b)."""
    mask, a, b = (source(o) for o in ins.src)
    none, full = equal(ins.src[0], 0), equal(ins.src[0], 0xFF)
    return lambda view, k: mask(view, k) | (a(view, k) & ~none(view, k)) | (b(view, k) & ~full(view, k))


def _select(ins: Instruction) -> Function:
    """V_CNDMASK: src1 where the mask is set, src0 elsewhere."""
    zero, one = source(ins.src[0]), source(ins.src[1])
    mask = ins.src[2]
    first = rows(mask)[0] if rows(mask) else None

    def select(view: View, k: int) -> Bytes:
        a, b = zero(view, k), one(view, k)
        if first is None:
            return b if mask.value else a
        chosen, unknown = view.group.su64[mask.index][:, None], view.pair(first)[:, None]
        return (b & chosen) | (a & ~chosen) | unknown

    return select


def _overlapping(ins: Instruction, take: Callable[[int], tuple[int, int]], operand: Operand) -> Function:
    """Result byte b holds bits take(b) = (first, last) of the source dword, clipped to it."""
    read = source(operand)
    picked = []
    for b in range(4):
        first, last = take(b)
        picked.append([p for p in range(4) if 8 * p <= last and 8 * p + 7 >= first])

    def shift(view: View, k: int) -> Bytes:
        values = read(view, k)
        zero = np.zeros(len(values), np.uint64)
        return np.stack([np.bitwise_or.reduce(values[:, p], axis=1) if p else zero for p in picked], axis=1)

    return shift


def _whole(ins: Instruction) -> Function:
    """Any byte of any source makes all of the result undefined."""
    readers = [source(o) for o in ins.src]

    def whole(view: View, k: int) -> Bytes:
        lanes = np.zeros(view.group.n, np.uint64)
        for read in readers:
            lanes = lanes | np.bitwise_or.reduce(read(view, k), axis=1)
        return spread(lanes)

    return whole


def _known(operand: Operand) -> int | None:
    return operand.value & 0xFFFFFFFF if operand.kind in (Kind.CONST, Kind.IMM) else None


def _shift(left: bool, arithmetic: bool = False) -> Callable[[Instruction], Function]:
    """Shifts by a constant; the amount comes first."""

    def compile_rule(ins: Instruction) -> Function:
        amount = _known(ins.src[0])
        if amount is None:
            return _whole(ins)
        by = amount & 31
        if left:
            return _overlapping(ins, lambda b: (8 * b - by, 8 * b + 7 - by), ins.src[1])
        top = 31 if arithmetic else 1 << 30
        return _overlapping(ins, lambda b: (min(8 * b + by, top), min(8 * b + 7 + by, top)), ins.src[1])

    return compile_rule


def _shift_or(ins: Instruction) -> Function:
    """V_LSHL_OR: (a << b) | c."""
    amount, other = _known(ins.src[1]), source(ins.src[2])
    if amount is None:
        return _whole(ins)
    by = amount & 31
    moved = _overlapping(ins, lambda b: (8 * b - by, 8 * b + 7 - by), ins.src[0])
    return lambda view, k: moved(view, k) | other(view, k)


def _extract(ins: Instruction) -> Function:
    """V_BFE with constant offset and width: what lies outside the field plays no part."""
    offset, width = _known(ins.src[1]), _known(ins.src[2])
    if offset is None or width is None:
        return _whole(ins)
    first, bits = offset & 31, width & 31
    last = first + bits - 1
    if ins.mnemonic == "v_bfe_i32":
        return _overlapping(ins, lambda b: (first, last), ins.src[0])
    nothing = (1 << 30, 1 << 30)
    return _overlapping(
        ins, lambda b: (first + 8 * b, min(first + 8 * b + 7, last)) if 8 * b < bits else nothing, ins.src[0]
    )


def _align(unit: int) -> Callable[[Instruction], Function]:
    """V_ALIGNBIT and V_ALIGNBYTE: 32 bits of {src0, src1} from a constant bit on."""

    def compile_rule(ins: Instruction) -> Function:
        amount = _known(ins.src[2])
        if amount is None:
            return _whole(ins)
        by = (amount & 31) if unit == 1 else 8 * (amount & 3)
        low = _overlapping(ins, lambda b: (8 * b + by, 8 * b + 7 + by), ins.src[1])
        high = _overlapping(ins, lambda b: (8 * b + by - 32, 8 * b + 7 + by - 32), ins.src[0])
        return lambda view, k: low(view, k) | high(view, k)

    return compile_rule


def _permute(ins: Instruction) -> Function:
    """V_PERM: selectors 0-3 take a byte of src1, 4-7 of src0, 8-11 a sign (bytes 1 and 3 of each), others constants."""
    low, high, unknown = source(ins.src[1]), source(ins.src[0]), source(ins.src[2])
    fixed = _known(ins.src[2])

    def permute(view: View, k: int) -> Bytes:
        selector = fixed if fixed is not None else _uniform(view, ins.src[2])
        if selector is None:
            return _whole(ins)(view, k)
        both = np.concatenate((low(view, k), high(view, k)), axis=1)
        zero = np.zeros(len(both), np.uint64)
        columns = []
        for b in range(4):
            s = selector >> 8 * b & 0xFF
            columns.append(both[:, s] if s < 8 else both[:, 2 * (s - 8) + 1] if s < 12 else zero)
        return np.stack(columns, axis=1) | unknown(view, k)

    return permute


def _uniform(view: View, operand: Operand) -> int | None:
    """The value of an operand if it is the same everywhere."""
    registers = rows(operand)
    if not registers:
        return None
    values = view.group.su32[operand.index] if operand.kind is Kind.SGPR else view.group.u32[registers[0]]
    first = values.flat[0]
    return int(first) if (values == first).all() else None


BYTEWISE: dict[str, Callable[[Instruction], Function]] = {
    **dict.fromkeys(
        ("v_mov_b32", "v_mov_b64", "v_not_b32", "v_xor_b32", "v_xnor_b32", "v_or3_b32", "v_accvgpr_read_b32",
         "v_accvgpr_write_b32", "v_accvgpr_mov_b32"),
        _joined,
    ),
    "v_and_b32": _absorbing(0),
    "v_or_b32": _absorbing(0xFF),
    "v_and_or_b32": _and_or,
    "v_bfi_b32": _insert,
    "v_cndmask_b32": _select,
    "v_lshlrev_b32": _shift(left=True),
    "v_lshrrev_b32": _shift(left=False),
    "v_ashrrev_i32": _shift(left=False, arithmetic=True),
    "v_lshl_or_b32": _shift_or,
    "v_bfe_u32": _extract,
    "v_bfe_i32": _extract,
    "v_alignbit_b32": _align(1),
    "v_alignbyte_b32": _align(8),
    "v_perm_b32": _permute,
}  # fmt: skip
