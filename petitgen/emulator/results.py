"""Results of vector instructions: from values to the active lanes of a register, or to a lane mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import modes
from petitgen.emulator.operands import row_of
from petitgen.emulator.registry import KEEPS_HIGH_HALF, WRITES_HIGH_HALF
from petitgen.emulator.state import EXEC, Group
from petitgen.emulator.types import DOUBLE, FLOAT_CLASS, HALF, PACKED, PAIR, WORD, as_bits
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction, Kind, Operand

Array = NDArray[Any]
Writer = Callable[[Group, Any], None]


def vector_writers(ins: Instruction) -> list[Writer]:
    """A writer for each result of a vector instruction, in the order of its destinations."""
    if any(o.role == "exec" for o in ins.dst):  # v_cmpx: one result for the mask and for EXEC
        return [_compare_writer(ins)]
    return [_vector_writer(o, ins, first=k == 0) for k, o in enumerate(ins.dst)]


def _compare_writer(ins: Instruction) -> Writer:
    registers = [o.index for o in ins.dst if o.kind is Kind.SGPR]

    def write(s: Group, lanes: Any) -> None:
        lanes = _lanes(s, lanes)
        for register in registers:
            s.set_lane_mask(register, lanes)
        s.exec_changed()

    return write


def _lanes(s: Group, value: Any) -> Array:
    """A mask result as bool (n, 64) with the lanes that are off cleared, as the hardware writes it."""
    value = np.asarray(value)
    if s.mask is not None:
        return value & s.mask
    return value if value.shape == (s.n, 64) else np.broadcast_to(value, (s.n, 64))


def _vector_writer(op: Operand, ins: Instruction, first: bool) -> Writer:
    if op.kind is Kind.SGPR:
        if op.type not in ("mask", "vcc"):
            raise EmulationError(f"{ins.mnemonic}: a result of type {op.type} in {op.name}")
        return _mask_writer(op.index)
    register = row_of(op)
    clamp = ins.mods.get("clamp", 0) if op.type in FLOAT_CLASS else 0
    if ins.encoding == "SDWA" and first and op.dwords == 1:  # a pair has no dst_sel: all of it is written
        write = _sdwa_writer(op, ins)
    elif op.type in WORD:

        def write(s: Group, value: Any) -> None:
            s.write(register, value)

    elif op.type in HALF:
        write = _half_writer(register, ins)
    elif op.type in PACKED:
        write = _packed_writer(register)
    elif op.type in DOUBLE:
        write = _double_writer(register)
    elif op.type in PAIR:
        write = _block_writer(register, 2)
    else:
        write = _block_writer(register, op.dwords)
    return _modified(write, ins, op.type, clamp)


def _modified(write: Writer, ins: Instruction, type_: str, clamp: int) -> Writer:
    omod = modes.output_modifier(ins.mods.get("omod", 0), type_)
    if not clamp and omod is None:
        return write

    def modify(s: Group, value: Any) -> None:
        if omod is not None:
            value = omod(value, s.mode)
        if clamp:
            value = modes.clamp_float(value, s.mode, type_)
        write(s, value)

    return modify


def _mask_writer(register: int) -> Writer:
    def write(s: Group, lanes: Any) -> None:
        s.set_lane_mask(register, _lanes(s, lanes))
        if register == EXEC:
            s.exec_changed()

    return write


def _half_writer(register: int, ins: Instruction) -> Writer:
    """source: CDNA3 ISA 6.2.1: which half is written, and whether the other one is kept or zeroed."""
    selected = ins.encoding == "VOP3" and bool(ins.mods.get("op_sel", 0) & 8)
    high = selected or ins.mnemonic in WRITES_HIGH_HALF
    keep = high or ins.mnemonic in KEEPS_HIGH_HALF
    shift, kept = np.uint32(16 if high else 0), np.uint32(0xFFFF if high else 0xFFFF0000)

    def write(s: Group, value: Any) -> None:
        bits = as_bits(value).astype(np.uint32)
        if high:
            bits = bits << shift
        s.write(register, (s.u32[register] & kept) | bits if keep else bits)

    return write


def _packed_writer(register: int) -> Writer:
    def write(s: Group, value: Any) -> None:
        bits = as_bits(value)
        if s.mask32 is None:
            s.u16[register][...] = bits
        else:
            whole = np.empty((s.n, 64, 2), np.uint16)
            whole[...] = bits
            s.write(register, whole.view(np.uint32)[..., 0])

    return write


def _double_writer(register: int) -> Writer:
    def write(s: Group, value: Any) -> None:
        value = np.asarray(value)
        if value.shape != (s.n, 64) or not value.flags.c_contiguous:
            value = np.ascontiguousarray(np.broadcast_to(value, (s.n, 64)))
        words = value.view(np.uint32).reshape(s.n, 64, 2)
        s.write(register, words[..., 0])
        s.write(register + 1, words[..., 1])

    return write


def _block_writer(register: int, count: int) -> Writer:
    def write(s: Group, values: Any) -> None:
        for k in range(count):
            s.write(register + k, values[k])

    return write


def _sdwa_writer(op: Operand, ins: Instruction) -> Writer:
    """Place the result in a byte or half, and pad, sign-extend or keep the rest. source: CDNA3 ISA 6.7
    (SDWA)."""
    register, unused = row_of(op), ins.mods.get("dst_unused", 0)
    shift, width = {0: (0, 8), 1: (8, 8), 2: (16, 8), 3: (24, 8), 4: (0, 16), 5: (16, 16), 6: (0, 32)}[
        ins.mods.get("dst_sel", 0)
    ]
    field = np.uint32(((1 << width) - 1) << shift)
    below = np.uint32((1 << shift) - 1)

    def write(s: Group, value: Any) -> None:
        bits = as_bits(value)
        if op.type in PACKED:
            bits = np.ascontiguousarray(np.broadcast_to(bits, (s.n, 64, 2))).view(np.uint32)[..., 0]
        bits = bits.astype(np.uint32) << np.uint32(shift)
        if unused == 2:
            bits = (s.u32[register] & ~field) | (bits & field)
        elif unused == 1 and width < 32:
            up = np.uint32(32 - shift - width)
            bits = ((bits << up).view(np.int32) >> up.astype(np.int32)).view(np.uint32) & ~below
        else:
            bits = bits & field
        s.write(register, bits)

    return write
