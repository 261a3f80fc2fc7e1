"""SMEM: scalar loads, stores, atomics, and the clocks.

source: CDNA3 ISA (MI300) 8 "Scalar Memory Operations": addresses are dword-aligned (the low two bits are
ignored); a buffer load is clamped to num_records bytes and reads 0 beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.atomics import ATOMICS, apply
from petitgen.emulator.access.transfer import checked
from petitgen.emulator.memory import BASE
from petitgen.emulator.operands import operand
from petitgen.emulator.state import FLAT_SCRATCH, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction, Kind

Array = NDArray[Any]
Step = Callable[[Group], None]

_NOTHING = ("s_dcache_inv", "s_dcache_wb", "s_dcache_inv_vol", "s_dcache_wb_vol", "s_dcache_discard",
    "s_dcache_discard_x2",
            "s_atc_probe", "s_atc_probe_buffer")  # fmt: skip
_REALTIME = 10  # core clocks to one tick of the 100 MHz counter, about


def compile_smem(ins: Instruction) -> Step | None:
    """The step of an SMEM instruction; None if it has no effect here."""
    if ins.mnemonic in _NOTHING:
        return None
    if ins.mnemonic in ("s_memtime", "s_memrealtime"):
        return _clock(ins)
    address = _address(ins)
    if "_load_" in ins.mnemonic:
        return _load(ins, address)
    if "_store_" in ins.mnemonic:
        return _store(ins, address)
    if "_atomic_" in ins.mnemonic:
        return _atomic(ins, address)
    raise EmulationError(f"{ins.mnemonic}: no semantics")


def _clock(ins: Instruction) -> Step:
    register, divide = ins.dst[0].index, _REALTIME if ins.mnemonic == "s_memrealtime" else 1

    def step(s: Group) -> None:
        s.su64[register][...] = s.batch.clock // divide

    return step


def _offset(ins: Instruction) -> Callable[[Group], Array | int]:
    offset = operand(ins, "offset", "soffset")
    fixed = ins.mods.get("offset", 0)
    if offset is None or offset.kind in (Kind.IMM, Kind.CONST):
        total = fixed + (offset.value if offset is not None else 0)
        return lambda s: total
    i = offset.index
    return lambda s: s.su32[i].astype(np.int64) + fixed


def _address(ins: Instruction) -> Callable[[Group], tuple[Array, Array]]:
    """Arena offset of the first byte (n,), and how many bytes from there on may be read (n,)."""
    base, offset = operand(ins, "sbase"), _offset(ins)
    assert base is not None
    i = base.index
    plenty = np.int64(1 << 62)
    if "buffer" not in ins.mnemonic:
        scratch = "scratch" in ins.mnemonic

        def pointer(s: Group) -> tuple[Array, Array]:
            start: Array = s.si64[i] + offset(s)
            if scratch:
                start = start + s.si64[FLAT_SCRATCH]
            return ((start & ~3) - BASE), np.full(s.n, plenty)

        return pointer

    def buffer(s: Group) -> tuple[Array, Array]:
        low = s.si64[i] & 0xFFFF_FFFF_FFFF
        at: Array = np.broadcast_to(np.asarray(offset(s), np.int64) & ~3, s.n)
        records = s.su32[i + 2].astype(np.int64)
        stride = (s.su32[i + 1] >> np.uint32(16) & np.uint32(0x3FFF)).astype(np.int64)
        return (low & ~3) + at - BASE, np.where(stride == 0, records, records * stride) - at

    return buffer


def _load(ins: Instruction, address: Callable[[Group], tuple[Array, Array]]) -> Step:
    dst = ins.dst[0]
    first, count = dst.index, dst.dwords
    words = np.arange(count, dtype=np.int64)

    def step(s: Group) -> None:
        start, room = address(s)
        inside = room[:, None] > 4 * words
        whole = bool(inside.all())
        offsets = start[:, None] + 4 * words
        active = None if whole else inside
        safe = checked(s, ins, offsets, 4, active)
        if s.observer is not None:
            s.observer.access(s, ins, "scalar", "load", offsets + BASE, 4, inside)
        values = np.zeros((s.n, count), np.uint32) if safe is None else s.memory.u32.take(safe >> 2)
        s.sgpr[:, first : first + count] = values if whole else np.where(inside, values, 0)

    return step


def _store(ins: Instruction, address: Callable[[Group], tuple[Array, Array]]) -> Step:
    data = operand(ins, "sdata")
    assert data is not None
    first, count = data.index, data.dwords
    words = np.arange(count, dtype=np.int64)

    def step(s: Group) -> None:
        start, room = address(s)
        inside = room[:, None] > 4 * words
        offsets = start[:, None] + 4 * words
        if checked(s, ins, offsets, 4, inside) is not None:
            s.memory.u32[offsets[inside] >> 2] = s.sgpr[:, first : first + count][inside]

    return step


def _atomic(ins: Instruction, address: Callable[[Group], tuple[Array, Array]]) -> Step:
    atomic = ATOMICS[ins.mnemonic.partition("atomic_")[2]]
    data = operand(ins, "sdata")
    assert data is not None
    register, wide = data.index, atomic.size == 8

    def step(s: Group) -> None:
        start, room = address(s)
        inside = room > 0
        if checked(s, ins, start[:, None], atomic.size, inside[:, None]) is None:
            return
        file, words = (s.su64, s.memory.u64) if wide else (s.su32, s.memory.u32)
        values = tuple(file[register + k * atomic.size // 4][inside] for k in range(atomic.operands))
        old = apply(words, start[inside] // atomic.size, values, atomic, bool(ins.dst))
        if ins.dst and old is not None:
            file[register][inside] = old

    return step
