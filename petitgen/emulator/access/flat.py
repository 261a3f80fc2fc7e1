"""FLAT, GLOBAL and SCRATCH instructions.

source: CDNA3 ISA (MI300) 10 "Flat Memory Instructions" and 9.1.5.2 (the swizzle of scratch). Scratch of a
wave is dword-interleaved: dword d of lane l lies at FLAT_SCRATCH + 256 * d + 4 * l, the layout that the
swizzled private segment buffer of gfx90a gives too, so both ways to reach it agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.atomics import ATOMICS
from petitgen.emulator.access.transfer import (
    atomic_update,
    checked,
    finish_load,
    gather,
    gather_words,
    misaligned,
    scatter,
    store_value,
)
from petitgen.emulator.access.widths import LOADS, STORES, Width
from petitgen.emulator.faults import named, place
from petitgen.emulator.memory import BASE
from petitgen.emulator.operands import operand, row_of
from petitgen.emulator.state import FLAT_SCRATCH, LANES, M0, PRIVATE_APERTURE, SHARED_APERTURE, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction, Operand

Array = NDArray[Any]
Step = Callable[[Group], None]

_LANE_BYTES = 4 * np.arange(LANES, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Piece:
    """Lanes of an access that fall into one space. offsets: byte offsets into `space`; step: distance of
    components."""

    name: str
    space: Array
    offsets: Array
    active: Array | None
    step: int = 4


Resolve = Callable[[Group, int], list[Piece]]  # (group, bytes of the whole access) -> pieces


def compile_flat(ins: Instruction) -> Step:
    """The step of a FLAT, GLOBAL or SCRATCH instruction."""
    verb, _, what = ins.mnemonic.partition("_")[2].partition("_")
    resolve = resolver(ins)
    if verb == "load" and what.startswith("lds_"):
        return _lds_load(ins, LOADS[what.removeprefix("lds_")], resolve)
    if verb == "load" and what in LOADS:
        return _load(ins, LOADS[what], resolve)
    if verb == "store" and what in STORES:
        return _store(ins, STORES[what], resolve)
    if verb == "atomic" and what in ATOMICS:
        return _atomic(ins, what, resolve)
    raise EmulationError(f"{ins.mnemonic}: no semantics")


def resolver(ins: Instruction) -> Resolve:
    """Where the lanes point: a function of the group and the bytes of the whole access."""
    family = ins.mnemonic.partition("_")[0]
    return {"global": _global_resolver, "flat": _flat_resolver, "scratch": _scratch_resolver}[family](ins)


# --- what is done ---------------------------------------------------------------------------------


def _watch(s: Group, ins: Instruction, pieces: list[Piece], kind: str, size: int) -> None:
    if s.observer is not None:
        for piece in pieces:
            active = s.active() if piece.active is None else piece.active
            addresses = piece.offsets - s.lds_base if piece.name == "lds" else piece.offsets + BASE
            s.observer.access(s, ins, piece.name, kind, addresses, size, active)


def _fetch(piece: Piece, width: Width) -> list[Array]:
    if width.size == 4 and piece.step == 4:
        return gather_words(piece.space, piece.offsets, width.count)
    return [gather(piece.space, piece.offsets + k * piece.step, width.size) for k in range(width.count)]


def _fetch_all(s: Group, ins: Instruction, width: Width, resolve: Resolve) -> list[Array] | None:
    """The components in every lane, or None if no lane is on."""
    size = width.size * width.count
    pieces = resolve(s, size)
    _watch(s, ins, pieces, "load", size)
    if not pieces:
        return None
    values = _fetch(pieces[0], width)
    for piece in pieces[1:]:
        assert piece.active is not None
        values = [
            np.where(piece.active, new, old) for new, old in zip(_fetch(piece, width), values, strict=True)
        ]
    return values


def _load(ins: Instruction, width: Width, resolve: Resolve) -> Step:
    register = row_of(ins.dst[0])

    def step(s: Group) -> None:
        values = _fetch_all(s, ins, width, resolve)
        if values is not None:
            for k, value in enumerate(values):
                finish_load(s, register + k, value, width)

    return step


def _lds_load(ins: Instruction, width: Width, resolve: Resolve) -> Step:
    """Memory to LDS at M0 + offset + 4 * lane, one dword a lane."""
    offset = ins.mods.get("offset", 0)

    def step(s: Group) -> None:
        values = _fetch_all(s, ins, width, resolve)
        if values is not None:
            store_to_lds(s, ins, values[0], width, offset)

    return step


def store_to_lds(s: Group, ins: Instruction, value: Array, width: Width, offset: int) -> None:
    """The LDS half of a load to LDS: dword `lane` of M0[15:0] + offset; lanes beyond the LDS are dropped."""
    if width.signed:
        value = value.astype(np.int8 if width.size == 1 else np.int16).astype(np.int32).view(np.uint32)
    local = (s.cu32[M0] & 0xFFFF).astype(np.int64) + offset + _LANE_BYTES
    active = s.active() & (local >= 0) & (local + 4 <= s.batch.lds_bytes)
    if s.observer is not None:
        s.observer.access(s, ins, "lds", "store", local, 4, active)
    scatter(s.lds, local + s.lds_base, value, 4, active)


def _store(ins: Instruction, width: Width, resolve: Resolve) -> Step:
    data = operand(ins, "vdata")
    assert data is not None
    register, size = row_of(data), width.size * width.count

    def step(s: Group) -> None:
        pieces = resolve(s, size)
        _watch(s, ins, pieces, "store", size)
        for piece in pieces:
            for k in range(width.count):
                value = store_value(s, register + k, width)
                scatter(
                    piece.space,
                    piece.offsets + k * piece.step if k else piece.offsets,
                    value,
                    width.size,
                    piece.active,
                )

    return step


def _atomic(ins: Instruction, what: str, resolve: Resolve) -> Step:
    atomic = ATOMICS[what]
    data = operand(ins, "vdata")
    assert data is not None
    registers = [row_of(data) + k * atomic.size // 4 for k in range(atomic.operands)]
    result = row_of(ins.dst[0]) if ins.dst else None

    def step(s: Group) -> None:
        pieces = resolve(s, atomic.size)
        _watch(s, ins, pieces, "atomic", atomic.size)
        if len(pieces) > 1:
            raise EmulationError(
                f"{named(s.batch, ins)}: lanes of one atomic in different memories"
            )
        for piece in pieces:
            atomic_update(s, ins, piece.space, piece.offsets, piece.active, atomic, registers, result)

    return step


# --- where the lanes point ------------------------------------------------------------------------


def _vector_address(address: Operand | None) -> Callable[[Group], Array]:
    """The VGPR part of an address as int64 (n, 64) or 0; a 64-bit one has BASE subtracted."""
    if address is None:
        return lambda s: np.zeros((s.n, LANES), np.int64)
    i = row_of(address)
    if address.dwords == 1:
        return lambda s: s.u32[i].astype(np.int64)

    def join(s: Group) -> Array:
        both = np.empty((s.n, LANES), np.int64)
        words = both.view(np.uint32).reshape(s.n, LANES, 2)
        words[..., 0] = s.u32[i]
        words[..., 1] = s.u32[i + 1]
        both -= BASE
        return both

    return join


def _global_resolver(ins: Instruction) -> Resolve:
    vaddr, saddr, offset = operand(ins, "vaddr"), operand(ins, "saddr"), ins.mods.get("offset", 0)
    read = _vector_address(vaddr)

    def resolve(s: Group, size: int) -> list[Piece]:
        offsets = read(s)
        if saddr is not None:
            offsets += s.ci64[saddr.index] + (offset - BASE)
        elif offset:
            offsets += offset
        safe = checked(s, ins, offsets, size, s.mask)
        return [] if safe is None else [Piece("global", s.memory.u8, safe, s.mask)]

    return resolve


def _scratch_resolver(ins: Instruction) -> Resolve:
    vaddr, saddr, offset = operand(ins, "vaddr"), operand(ins, "saddr"), ins.mods.get("offset", 0)
    read = _vector_address(vaddr)

    def resolve(s: Group, size: int) -> list[Piece]:
        private = read(s)
        if saddr is not None:
            private += s.cu32[saddr.index].astype(np.int64)
        return _scratch_piece(s, ins, (private + offset) & 0xFFFFFFFF, size, s.mask)

    return resolve


def _scratch_piece(
    s: Group, ins: Instruction, private: Array, size: int, active: Array | None
) -> list[Piece]:
    """Lanes in the private segment; `private` is the address within it."""
    limit = s.batch.private_bytes
    bad = (private + size > limit) if active is None else active & (private + size > limit)
    if bad.any():
        where, lane = place(s, ins, bad)
        raise EmulationError(
            f"{where}: {size} bytes at scratch address {int(private[lane]):#x}, "
            f"past the {limit} bytes a lane has"
        )
    if active is not None:
        if not active.any():
            return []
        private = np.where(active, private, 0)
    if size > 1 and misaligned(private, min(size, 4)):
        raise EmulationError(
            f"{place(s, ins, (private & 3) != 0)[0]}: misaligned scratch access of {size} bytes"
        )
    base = s.ci64[FLAT_SCRATCH] - BASE
    offsets = base + ((private >> 2) << 8) + _LANE_BYTES + (private & 3)
    return [Piece("scratch", s.memory.u8, offsets, active, step=256)]


def _flat_resolver(ins: Instruction) -> Resolve:
    vaddr, offset = operand(ins, "vaddr"), ins.mods.get("offset", 0)
    assert vaddr is not None
    read, high = _vector_address(vaddr), row_of(vaddr) + 1

    def resolve(s: Group, size: int) -> list[Piece]:
        offsets = read(s)
        offsets += offset
        top = s.u32[high]
        if int(top.max()) < SHARED_APERTURE:
            safe = checked(s, ins, offsets, size, s.mask)
            return [] if safe is None else [Piece("global", s.memory.u8, safe, s.mask)]
        return _split(s, ins, offsets, top, size)

    return resolve


def _split(s: Group, ins: Instruction, offsets: Array, top: Array, size: int) -> list[Piece]:
    """The pieces of an access some of whose lanes may point to LDS or scratch."""
    active = s.active()
    shared, private = active & (top == SHARED_APERTURE), active & (top == PRIVATE_APERTURE)
    rest = active & ~shared & ~private
    pieces = []
    safe = checked(s, ins, offsets, size, rest)
    if safe is not None:
        pieces.append(Piece("global", s.memory.u8, safe, rest))
    local = (offsets + BASE) & 0xFFFFFFFF
    if shared.any():
        bad = shared & (local + size > s.batch.lds_bytes)
        if bad.any():
            where, lane = place(s, ins, bad)
            limit = s.batch.lds_bytes
            raise EmulationError(
                f"{where}: {size} bytes at LDS address {int(local[lane]):#x}, "
                f"past the {limit} bytes of the workgroup"
            )
        pieces.append(Piece("lds", s.lds, np.where(shared, local, 0) + s.lds_base, shared))
    if private.any():
        pieces += _scratch_piece(s, ins, local, size, private)
    return pieces
