"""From a source of a vector or memory instruction to a function that reads it in a group of waves.

Everything that depends on the encoding alone (register numbers, op_sel, SDWA, DPP, neg/abs) is decided here
once, when the instruction is compiled; what remains at run time is a short closure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.scalar_operands import status_reader
from petitgen.emulator.state import AGPR, Group
from petitgen.emulator.types import DOUBLE, DTYPE, HALF, PACKED, PAIR, WORD, as_bits, constant
from petitgen.isa.model import Instruction, Kind, Operand

Array = NDArray[Any]
Reader = Callable[[Group], Any]

_VECTOR_MASKS = ("mask", "vcc", "exec")
SOURCE_NUMBER = {"src0": 0, "src1": 1, "src2": 2}


def row_of(operand: Operand) -> int:
    """The row of a VGPR or AGPR in the register file."""
    return operand.index + AGPR if operand.kind is Kind.AGPR else operand.index


def is_vector(operand: Operand) -> bool:
    """Is it a VGPR or an AGPR?"""
    return operand.kind in (Kind.VGPR, Kind.AGPR)


def operand(instruction: Instruction, *roles: str) -> Operand | None:
    """The first operand with one of these roles, or None. "off" counts as none."""
    for role in roles:
        for candidate in (*instruction.src, *instruction.dst):
            if candidate.role == role:
                return None if candidate.kind is Kind.OFF else candidate
    return None


def vector_reader(op: Operand, ins: Instruction) -> Reader:
    """A source of a vector instruction, typed and shaped as registry.py says, with op_sel, SDWA, neg and abs
    applied."""
    number = SOURCE_NUMBER.get(op.role, -1)
    if ins.mnemonic.startswith("v_fma_mix") and number >= 0:
        return _word_reader(replace(op, type="mix"))
    if op.type in _VECTOR_MASKS:
        return _mask_reader(op)
    if ins.encoding == "SDWA" and number in (0, 1):
        read = _sdwa_reader(op, ins, number)
    elif op.type in WORD or op.kind is Kind.IMM:
        read = _word_reader(op)
    elif op.type in HALF:
        read = _half_reader(op, ins.mods.get("op_sel", 0) >> number & 1 if number >= 0 else 0)
    elif op.type in PACKED:
        read = _packed_reader(op, *_packed_selects(ins, number))
    elif op.type in DOUBLE:
        read = _double_reader(op)
    elif op.type in PAIR:
        read = _pair_reader(op, *_packed_selects(ins, number))
    else:
        read = _block_reader(op)
    return _signed(read, op, ins, number)


def _mask_reader(op: Operand) -> Reader:
    i = op.index
    if op.kind is Kind.CONST:
        bits = np.unpackbits(np.array([op.value & (2**64 - 1)], np.uint64).view(np.uint8), bitorder="little")
        lanes = bits.view(bool).reshape(1, 64)
        return lambda s: lanes
    return lambda s: s.lane_mask(i)


def _word_reader(op: Operand) -> Reader:
    attribute = WORD.get(op.type, "u32")
    i = row_of(op)
    if is_vector(op):
        return {
            "u32": lambda s: s.u32[i],
            "i32": lambda s: s.i32[i],
            "f32": lambda s: s.f32[i],
        }[attribute]
    if op.kind is Kind.SGPR:
        return {
            "u32": lambda s: s.cu32[i],
            "i32": lambda s: s.ci32[i],
            "f32": lambda s: s.cf32[i],
        }[attribute]
    if op.kind is Kind.STATUS:
        read, dtype = status_reader(op, wide=False), DTYPE[attribute]
        return lambda s: read(s).view(dtype).reshape(-1, 1)
    const = constant(op.value, DTYPE[attribute])
    return lambda s: const


def _half_reader(op: Operand, half: int) -> Reader:
    attribute, i = HALF[op.type], row_of(op)
    if is_vector(op):
        return lambda s: getattr(s, attribute)[i][..., half]
    dtype = DTYPE[attribute]
    if op.kind is Kind.CONST:
        const = constant(op.value >> 16 * half, dtype)
        return lambda s: const
    read = _word_reader(_as_u32(op))
    shift = np.uint32(16 * half)
    return lambda s: (read(s) >> shift).astype(np.uint16).view(dtype)


def _as_u32(op: Operand) -> Operand:
    return replace(op, type="u32", dwords=1)


def _packed_selects(ins: Instruction, number: int) -> tuple[int, int]:
    """Which half (or register) feeds the low and the high element. Outside VOP3P: in order."""
    if ins.encoding != "VOP3P" or number < 0:
        return 0, 1
    return ins.mods.get("op_sel", 0) >> number & 1, ins.mods.get("op_sel_hi", 0) >> number & 1


def _packed_reader(op: Operand, low: int, high: int) -> Reader:
    attribute, i = PACKED[op.type], row_of(op)
    dtype = DTYPE[attribute]
    order = None if (low, high) == (0, 1) else [low, high]
    if is_vector(op):
        if order is None:
            return lambda s: getattr(s, attribute)[i]
        if low == high:
            return lambda s: getattr(s, attribute)[i][..., low : low + 1]
        return lambda s: getattr(s, attribute)[i][..., ::-1]
    if op.kind is Kind.CONST:
        halves = np.array([op.value >> 16 * low & 0xFFFF, op.value >> 16 * high & 0xFFFF], np.uint16).view(
            dtype
        )
        return lambda s: halves
    read = _word_reader(_as_u32(op))

    def scalar_halves(s: Group) -> Array:
        halves = np.ascontiguousarray(read(s)).view(dtype).reshape(-1, 1, 2)
        return halves if order is None else halves[..., order]

    return scalar_halves


def _double_reader(op: Operand) -> Reader:
    dtype, i = DOUBLE[op.type], row_of(op)
    if is_vector(op):

        def join(s: Group) -> Array:
            both = np.empty((s.n, 64), np.uint64)
            words = both.view(np.uint32).reshape(s.n, 64, 2)
            words[..., 0] = s.u32[i]
            words[..., 1] = s.u32[i + 1]
            return both.view(dtype)

        return join
    if op.kind is Kind.SGPR:
        attribute = {"u64": "cu64", "b64": "cu64", "i64": "ci64", "f64": "cf64"}[op.type]
        return lambda s: getattr(s, attribute)[i]
    if op.kind is Kind.STATUS:
        read = status_reader(op, wide=True)
        return lambda s: read(s).view(dtype).reshape(-1, 1)
    const = constant(op.value, dtype)
    return lambda s: const


def _pair_reader(op: Operand, low: int, high: int) -> Reader:
    dtype, i = PAIR[op.type], row_of(op)
    if is_vector(op):
        if (low, high) == (0, 1):
            return lambda s: s.block(i, 2).view(dtype)
        return lambda s: np.stack([s.u32[i + low], s.u32[i + high]]).view(dtype)
    if op.kind is Kind.SGPR:
        return lambda s: np.stack([s.cu32[i + low], s.cu32[i + high]]).view(dtype)
    words = [op.value & 0xFFFFFFFF, op.value >> 32 & 0xFFFFFFFF]
    const = np.array([words[low], words[high]], np.uint32).view(dtype).reshape(2, 1, 1)
    return lambda s: const


def _block_reader(op: Operand) -> Reader:
    i, n = row_of(op), op.dwords
    if is_vector(op):
        return lambda s: s.block(i, n)
    if op.kind is Kind.CONST:
        const = np.full((n, 1, 1), op.value & 0xFFFFFFFF, np.uint32)
        return lambda s: np.broadcast_to(const, (n, s.n, 64))
    return lambda s: np.broadcast_to(s.sgpr[:, i : i + n].T[:, :, None], (n, s.n, 64))


# --- source modifiers -----------------------------------------------------------------------------

_SDWA_SHIFT = {0: (0, 8), 1: (8, 8), 2: (16, 8), 3: (24, 8), 4: (0, 16), 5: (16, 16), 6: (0, 32)}


def _sdwa_reader(op: Operand, ins: Instruction, number: int) -> Reader:
    """A byte, a half or all of the register, extended to 32 bits. source: CDNA3 ISA 6.7 (SDWA)."""
    shift, width = _SDWA_SHIFT[ins.mods.get(f"src{number}_sel", 0)]
    sext = ins.mods.get("sext", 0) >> number & 1
    if op.type in PACKED:
        return _packed_reader(op, 0, 1)
    read = _word_reader(_as_u32(op))
    up, down = np.uint32(32 - shift - width), np.uint32(32 - width)
    dtype = DTYPE[HALF[op.type]] if op.type in HALF else DTYPE[WORD[op.type]]
    half = op.type in HALF

    def select(s: Group) -> Array:
        bits = np.asarray(read(s))
        if width < 32:
            bits = bits << up
            bits = (bits.view(np.int32) >> down.view(np.int32)).view(np.uint32) if sext else bits >> down
        return bits.astype(np.uint16).view(dtype) if half else bits.view(dtype)

    return select


def _signed(read: Reader, op: Operand, ins: Instruction, number: int) -> Reader:
    """neg and abs: sign-bit operations, for floats and for what is moved as bits."""
    if ins.encoding in ("VOP3P", "MAI"):
        low, high = (ins.mods.get(field, 0) >> max(number, 0) & 1 for field in ("neg_lo", "neg_hi"))
        if number < 0 or not (low or high):
            return read
        if op.type in PACKED or op.type in PAIR:
            return _sign_each(read, op, low, high)
        return _sign(read, bool(low), False) if low else read
    if not (op.neg or op.abs) or op.type in ("mask", "vcc"):
        return read
    return _sign(read, op.neg, op.abs)


def _sign(read: Reader, neg: bool, magnitude: bool) -> Reader:
    def modified(s: Group) -> Array:
        value = np.asarray(read(s))
        if value.dtype.kind == "f":
            value = np.abs(value) if magnitude else value
            return np.negative(value) if neg else value
        bits = as_bits(value)
        top = bits.dtype.type(1 << 8 * bits.dtype.itemsize - 1)
        bits = bits & ~top if magnitude else bits
        return (bits ^ top if neg else bits).view(value.dtype)

    return modified


def _sign_each(read: Reader, op: Operand, low: int, high: int) -> Reader:
    bits = 16 if op.type in PACKED else 32
    flips = np.array([low << bits - 1, high << bits - 1], np.uint16 if bits == 16 else np.uint32)
    flips = flips if bits == 16 else flips.reshape(2, 1, 1)

    def modified(s: Group) -> Array:
        value = read(s)
        return (as_bits(value) ^ flips).view(value.dtype)

    return modified
