"""DS: the local data share, and the lane permutations that use its crossbar.

source: CDNA3 ISA (MI300) 11 "Data Share Operations", 12.12; out of range: 11.1 "reads return 0, writes are
dropped". LDS addresses are bytes from the workgroup's allocation; any alignment (the HSA ABI sets
SH_MEM_CONFIG to unaligned).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.atomics import DS_ATOMICS
from petitgen.emulator.access.transfer import (
    atomic_update,
    finish_load,
    gather,
    gather_words,
    scatter,
    store_value,
)
from petitgen.emulator.access.widths import DS_LOADS, DS_STORES, Width
from petitgen.emulator.faults import named
from petitgen.emulator.operands import operand, row_of
from petitgen.emulator.state import LANES, M0, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction

Array = NDArray[Any]
Step = Callable[[Group], None]

_LANE = np.arange(LANES)
_WORD = Width(4)


def compile_ds(ins: Instruction) -> Step:
    """The step of a DS instruction."""
    if ins.mods.get("gds"):
        raise EmulationError(f"{ins.mnemonic} gds: the global data share is not emulated")
    name = ins.mnemonic.removeprefix("ds_")
    special = {"permute_b32": _permute, "bpermute_b32": _bpermute, "swizzle_b32": _swizzle,
        "append": _append, "consume": _append,
               "read_addtid_b32": _addtid, "write_addtid_b32": _addtid}  # fmt: skip
    if name in special:
        return special[name](ins)
    verb, _, what = name.partition("_")
    if verb in ("read2", "read2st64", "write2", "write2st64", "wrxchg2", "wrxchg2st64"):
        return _two_addresses(ins, verb, int(what.removeprefix("rtn_")[1:]) // 8)
    if verb == "read" and what in DS_LOADS:
        return _read(ins, DS_LOADS[what])
    if verb == "write" and what in DS_STORES:
        return _write(ins, DS_STORES[what])
    if name.replace("rtn_", "") in DS_ATOMICS:
        return _atomic(ins, name.replace("rtn_", ""))
    raise EmulationError(f"{ins.mnemonic}: no semantics")


def _lanes(s: Group, ins: Instruction, address: Array, size: int, kind: str) -> tuple[Array, Array | None]:
    """Offsets into the batch's LDS, safe in every lane, and the lanes that are on and in range (None:
    all)."""
    limit = s.batch.lds_bytes
    if s.mask is None and int(address.max()) + size <= limit:
        active = None
        offsets = address + s.lds_base
    else:
        active = address + size <= limit
        if s.mask is not None:
            active &= s.mask
        offsets = np.where(active, address + s.lds_base, 0)
    if s.observer is not None:
        past = address + size > limit
        if active is not None and past.any():
            s.observer.out_of_range(s, ins, past & s.active())
        s.observer.access(s, ins, "lds", kind, address, size, s.active() if active is None else active)
    return offsets, active


def lds_addresses(ins: Instruction) -> Callable[[Group], Array]:
    """addr + offset modulo 2**32 as int64: compilers rely on a negative address wrapping."""
    address, offset = operand(ins, "addr"), np.uint32(ins.mods.get("offset", 0))
    assert address is not None
    i = row_of(address)
    if offset:
        return lambda s: (s.u32[i] + offset).astype(np.int64)
    return lambda s: s.u32[i].astype(np.int64)


def _fetch(s: Group, ins: Instruction, address: Array, width: Width) -> list[Array]:
    """Components at `address`; 0 out of range. An access that reaches past the end is out of range as a
    whole."""
    offsets, active = _lanes(s, ins, address, width.size * width.count, "load")
    values = (
        gather_words(s.lds, offsets, width.count) if width.size == 4 else [gather(s.lds, offsets, width.size)]
    )
    return values if active is None else [np.where(active, v, np.uint32(0)) for v in values]


def _put(s: Group, ins: Instruction, address: Array, values: list[Array], size: int) -> None:
    offsets, active = _lanes(s, ins, address, size * len(values), "store")
    for k, value in enumerate(values):
        scatter(s.lds, offsets + 4 * k if k else offsets, value, size, active)


def _read(ins: Instruction, width: Width) -> Step:
    address, register = lds_addresses(ins), row_of(ins.dst[0])

    def step(s: Group) -> None:
        for k, value in enumerate(_fetch(s, ins, address(s), width)):
            finish_load(s, register + k, value, width)

    return step


def _write(ins: Instruction, width: Width) -> Step:
    address, data = lds_addresses(ins), operand(ins, "data0")
    assert data is not None
    register = row_of(data)

    def step(s: Group) -> None:
        _put(
            s, ins, address(s), [store_value(s, register + k, width) for k in range(width.count)], width.size
        )

    return step


def _two_addresses(ins: Instruction, verb: str, size: int) -> Step:
    """offset0 and offset1 count elements (st64: 64 elements) from one address; the exchange returns the old
    values."""
    address, words = lds_addresses(ins), size // 4
    unit = size * (64 if verb.endswith("st64") else 1)
    places = [ins.mods.get("offset0", 0) * unit, ins.mods.get("offset1", 0) * unit]
    data = [row_of(o) for role in ("data0", "data1") if (o := operand(ins, role)) is not None]
    result = row_of(ins.dst[0]) if ins.dst else None
    width = Width(4, words)

    def step(s: Group) -> None:
        base = address(s)
        read = (
            [_fetch(s, ins, base + place & 0xFFFFFFFF, width) for place in places]
            if result is not None
            else []
        )
        for place, register in zip(places, data, strict=False):
            _put(s, ins, base + place & 0xFFFFFFFF, [s.u32[register + k] for k in range(words)], 4)
        if result is not None:
            for k, value in enumerate(v for half in read for v in half):
                s.write(result + k, value)

    return step


def _atomic(ins: Instruction, name: str) -> Step:
    atomic, address = DS_ATOMICS[name], lds_addresses(ins)
    first, second = operand(ins, "data0"), operand(ins, "data1")
    assert first is not None
    registers = [row_of(o) for o in (first, second) if o is not None]
    result = row_of(ins.dst[0]) if ins.dst else None

    def step(s: Group) -> None:
        offsets, active = _lanes(s, ins, address(s), atomic.size, "atomic")
        atomic_update(s, ins, s.lds, offsets, active, atomic, registers, result)

    return step


# --- crossbar -------------------------------------------------------------------------------------


def _permute(ins: Instruction) -> Step:
    """Lane i sends its data to lane (addr / 4) % 64; the highest sender wins; lanes that nobody sends to get
    0."""
    address, data, register = lds_addresses(ins), operand(ins, "data0"), row_of(ins.dst[0])
    assert data is not None
    source = row_of(data)

    def step(s: Group) -> None:
        target = address(s) >> 2 & 63
        moved = np.zeros((s.n, LANES), np.uint32)
        wave, lane = np.nonzero(s.active())
        moved[wave, target[wave, lane]] = s.u32[source][wave, lane]
        s.write(register, moved)

    return step


def _bpermute(ins: Instruction) -> Step:
    """Lane i receives the data of lane (addr / 4) % 64; a lane that is off sends 0."""
    address, data, register = lds_addresses(ins), operand(ins, "data0"), row_of(ins.dst[0])
    assert data is not None
    source = row_of(data)

    def step(s: Group) -> None:
        origin = address(s) >> 2 & 63
        values = s.u32[source] if s.mask is None else np.where(s.mask, s.u32[source], np.uint32(0))
        s.write(register, np.take_along_axis(values, origin, axis=1))

    return step


def swizzle_lanes(offset: int) -> Array:
    """For each lane the lane it reads in ds_swizzle_b32. source: CDNA3 ISA 12.12 DS_SWIZZLE_B32 (the four
    modes)."""
    low = _LANE & 31
    if offset >= 0xE000:  # FFT decomposition
        mask = offset & 31
        if mask == 31:
            return _LANE
        reverse = np.array([int(f"{i:05b}"[::-1], 2) for i in low])
        return (reverse >> mask.bit_count()) | (low & mask) | (_LANE & 32)
    if offset >= 0xC000:  # rotate
        mask, turn = offset & 31, offset >> 5 & 31
        turn = -turn if offset >> 10 & 1 else turn
        return (low & mask) | ((low + turn) & ~mask & 31) | (_LANE & 32)
    if offset & 0x8000:  # quad permute
        return (_LANE & ~3) | (offset >> 2 * (_LANE & 3) & 3)
    return (((low & (offset & 31)) | (offset >> 5 & 31)) ^ (offset >> 10 & 31)) | (_LANE & 32)


def _swizzle(ins: Instruction) -> Step:
    lanes = swizzle_lanes(ins.mods.get("offset", 0))
    address = operand(ins, "addr")
    assert address is not None
    source, register = row_of(address), row_of(ins.dst[0])

    def step(s: Group) -> None:
        values = s.u32[source] if s.mask is None else np.where(s.mask, s.u32[source], np.uint32(0))
        s.write(register, values[:, lanes])

    return step


# --- addressed by M0 ------------------------------------------------------------------------------


def _append(ins: Instruction) -> Step:
    """A counter at M0[15:0] + offset moves by the number of active lanes, wave after wave; all lanes get its
    old value."""
    offset, register = ins.mods.get("offset", 0), row_of(ins.dst[0])
    sign = 1 if ins.mnemonic == "ds_append" else -1

    def step(s: Group) -> None:
        address = (s.cu32[M0] & 0xFFFF).astype(np.int64) + offset
        if (address + 4 > s.batch.lds_bytes).any():
            raise EmulationError(
                f"{named(s.batch, ins)}: counter outside the {s.batch.lds_bytes} bytes of LDS"
            )
        if s.observer is not None:
            everywhere, first = address + np.zeros(LANES, np.int64), np.zeros((s.n, LANES), bool)
            first[:, 0] = True  # one access a wave
            s.observer.access(s, ins, "lds", "atomic", everywhere, 4, first)
        index = (address + s.lds_base)[:, 0] >> 2
        counts = sign * s.active().sum(axis=1)
        words, old = s.lds.view(np.uint32), np.empty(s.n, np.uint32)
        for k in range(s.n):  # a handful of waves, in order
            old[k] = words[index[k]]
            words[index[k]] += np.uint32(counts[k] & 0xFFFFFFFF)
        s.write(register, old[:, None] + np.zeros(LANES, np.uint32))

    return step


def _addtid(ins: Instruction) -> Step:
    """LDS[M0[15:0] + offset + 4 * lane]."""
    offset, result = ins.mods.get("offset", 0), row_of(ins.dst[0]) if ins.dst else None
    data = operand(ins, "data0")

    def step(s: Group) -> None:
        address = (s.cu32[M0] & 0xFFFF).astype(np.int64) + offset + 4 * _LANE
        if result is not None:
            s.write(result, _fetch(s, ins, address, _WORD)[0])
        elif data is not None:
            _put(s, ins, address, [s.u32[row_of(data)]], 4)

    return step
