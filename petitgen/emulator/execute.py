"""From a decoded instruction to the function that executes it: vector and scalar ALU.

`compile_vector` and `compile_scalar` bind operands, modifiers and semantics once; the returned `step(group)` runs the
instruction for all waves of a group.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator import dpp, modes
from petitgen.emulator.operands import is_vector, row_of, scalar_reader, scalar_writer, vector_reader
from petitgen.emulator.registry import KEEPS_HIGH_HALF, WRITES_HIGH_HALF, Op, lookup
from petitgen.emulator.state import EXEC, Group
from petitgen.emulator.types import DOUBLE, DTYPE, FLOAT_CLASS, HALF, PACKED, PAIR, WORD, as_bits
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction, Kind, Operand

Array = NDArray[Any]
Step = Callable[[Group], None]
Writer = Callable[[Group, Any], None]


def bound(op: Op, ins: Instruction, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the keywords that the op declares filled in."""
    known: dict[str, Any] = {"arch": ins.arch, "mods": ins.mods}
    given = {name: known[name] for name in op.keywords}
    if ins.mnemonic == "v_swap_b32":  # its results are its arguments: views of what the first write changes
        return lambda a, b: function(a.copy(), b.copy())
    return (lambda *args: function(*args, **given)) if given else function


def compile_scalar(ins: Instruction) -> Step:
    """A step for a scalar ALU instruction whose op is in the registry."""
    op = lookup(ins.mnemonic)
    function = bound(op, ins, op.function)
    readers = [scalar_reader(o) for o in ins.src]
    writers = [scalar_writer(o) for o in ins.dst]
    return _step(function, readers, writers)


def compile_vector(ins: Instruction) -> Step:
    """A step for a vector ALU instruction whose op is in the registry."""
    op = lookup(ins.mnemonic)
    integer = not any(o.type in FLOAT_CLASS for o in ins.dst)
    clamp = ins.mods.get("clamp", 0)
    chosen = op.clamped if clamp and integer and op.clamped is not None else op.function
    function = bound(op, ins, chosen)
    readers = [vector_reader(o, ins) for o in ins.src]
    if ins.encoding == "DPP":
        readers = [dpp.moved(r, ins) if o.role == "src0" else r for o, r in zip(ins.src, readers, strict=True)]
    writers = _vector_writers(ins)
    plain = fast_step(op, ins) if chosen is op.ufunc else None
    step = plain or _step(function, readers, writers)
    types = [o.type for o in (*ins.src, *ins.dst)]
    if any(t in FLOAT_CLASS for t in types):
        step = _with_modes(ins, step, function, readers, writers)
    return dpp.enabled(step, ins) if ins.encoding == "DPP" else step


def fast_step(op: Op, ins: Instruction) -> Step | None:
    """A ufunc on whole registers writes straight into the destination while all lanes are on. None if it does not apply."""
    dst = ins.dst[0] if len(ins.dst) == 1 else None
    if dst is None or not is_vector(dst) or dst.type not in WORD or ins.encoding in ("SDWA", "DPP") or op.ufunc is None:
        return None
    if any(o.type not in WORD or o.neg or o.abs for o in ins.src) or ins.mods.get("clamp") or ins.mods.get("omod"):
        return None
    ufunc, target, readers = op.ufunc, row_of(dst), [vector_reader(o, ins) for o in ins.src]
    rows = WORD[dst.type]
    if len(readers) == 1:
        (first,) = readers

        def unary(s: Group) -> None:
            if s.mask32 is None:
                ufunc(first(s), out=getattr(s, rows)[target])
            else:
                s.write(target, ufunc(first(s)))

        return unary
    if len(readers) != 2:
        return None
    first, second = readers

    def binary(s: Group) -> None:
        if s.mask32 is None:
            ufunc(first(s), second(s), out=getattr(s, rows)[target])
        else:
            s.write(target, ufunc(first(s), second(s)))

    return binary


def _step(function: Callable[..., Any], readers: list[Callable[[Group], Any]], writers: list[Writer]) -> Step:
    """Read, compute, write; unrolled for the usual counts of sources."""
    if len(writers) != 1:

        def several(s: Group) -> None:
            for write, value in zip(writers, function(*[r(s) for r in readers]), strict=True):
                write(s, value)

        return several
    (write,) = writers
    if len(readers) == 1:
        (first,) = readers
        return lambda s: write(s, function(first(s)))
    if len(readers) == 2:
        first, second = readers
        return lambda s: write(s, function(first(s), second(s)))
    if len(readers) == 3:
        first, second, third = readers
        return lambda s: write(s, function(first(s), second(s), third(s)))
    return lambda s: write(s, function(*[r(s) for r in readers]))


# --- results -------------------------------------------------------------------------------------------------------------


def _vector_writers(ins: Instruction) -> list[Writer]:
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
    if ins.encoding == "SDWA" and first:
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
    """Place the result in a byte or half, and pad, sign-extend or keep the rest. source: CDNA3 ISA 6.7 (SDWA)."""
    register, unused = row_of(op), ins.mods.get("dst_unused", 0)
    shift, width = {0: (0, 8), 1: (8, 8), 2: (16, 8), 3: (24, 8), 4: (0, 16), 5: (16, 16), 6: (0, 32)}[ins.mods.get("dst_sel", 0)]
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


# --- floating-point modes ------------------------------------------------------------------------------------------------


def _with_modes(
    ins: Instruction, step: Step, function: Callable[..., Any], readers: list[Callable[[Group], Any]], writers: list[Writer]
) -> Step:
    """`step` while MODE is the usual one, else a careful version of it."""
    flush_sources = [modes.source_flusher(ins.mnemonic, o.type) for o in ins.src]
    flush_results = [modes.result_flusher(o.type) for o in ins.dst]
    result_type = next((o.type for o in ins.dst if o.type in FLOAT_CLASS), "")
    compute = modes.rounded(ins.mnemonic, result_type, function)

    def careful(s: Group) -> None:
        mode = s.special
        if mode is None:
            step(s)
            return
        values = [r(s) for r in readers]
        values = [v if f is None else f(v, mode) for v, f in zip(values, flush_sources, strict=True)]
        result = compute(mode, *values)
        results = result if len(writers) > 1 else (result,)
        for write, value, flush in zip(writers, results, flush_results, strict=False):
            write(s, value if flush is None else flush(value, mode))

    return careful
