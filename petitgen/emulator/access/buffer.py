"""MUBUF: buffer loads, stores and atomics with range checking.

source: CDNA3 ISA (MI300) 9.1.5 "Buffer Addressing": address = base + sgpr_offset + buffer_offset, with
buffer_offset = inst_offset + vgpr_offset + stride * (vgpr_index + lane if add_tid), or its swizzled form. Out
of range, so that loads give 0 and stores and atomics are dropped: buffer_offset >= num_records - sgpr_offset
when stride is 0 or swizzling is off, else index >= num_records or offset >= stride. Multi-dword accesses are
checked dword by dword, by their first byte.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.atomics import ATOMICS
from petitgen.emulator.access.flat import store_to_lds
from petitgen.emulator.access.transfer import (
    atomic_update,
    checked,
    finish_load,
    gather,
    gather_words,
    scatter,
    store_value,
)
from petitgen.emulator.access.widths import LOADS, STORES, Width
from petitgen.emulator.memory import BASE
from petitgen.emulator.operands import operand, row_of
from petitgen.emulator.state import LANES, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction, Kind

Array = NDArray[Any]
Step = Callable[[Group], None]

_NOTHING = ("buffer_wbl2", "buffer_invl2", "buffer_inv", "buffer_wbinvl1", "buffer_wbinvl1_vol")
_ELEMENT = 4  # bytes swizzled as one; fixed since gfx9


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Fields of a 128-bit buffer resource: int64 (n, 1), or one number for all waves. base: less BASE."""

    base: Array | int
    stride: Array | int
    records: Array | int
    swizzle: Array | int
    add_tid: Array | int
    index_stride: Array | int
    raw: bool  # stride 0, no swizzle, no add_tid, in every wave
    plain: bool  # no swizzle in any wave


def read_descriptor(s: Group, first: int) -> Descriptor:
    """The descriptor in four SGPRs; decoded again only when it changed."""
    words = s.sgpr[:, first : first + 4]
    key = words.tobytes()
    known = s.descriptors.get(first)
    if known is None or known[0] != key:
        known = s.descriptors[first] = (key, _decode(words))
    return known[1]


def _decode(words: Array) -> Descriptor:
    """source: CDNA3 ISA 9.1.8 "Buffer Resource Descriptor"."""
    wide = (words[:1] if (words == words[0]).all() else words).astype(np.int64)
    w0, w1, w2, w3 = (wide[:, k : k + 1] for k in range(4))
    add_tid = w3 >> 23 & 1
    stride = (w1 >> 16 & 0x3FFF) | np.where(add_tid, (w3 >> 15 & 15) << 14, 0)
    fields = (w0 + ((w1 & 0xFFFF) << 32) - BASE, stride, w2, w1 >> 31 & 1, add_tid, 8 << (w3 >> 21 & 3))
    plain = not fields[3].any()
    raw = plain and not (stride.any() or add_tid.any())
    values: list[Any] = [int(f[0, 0]) for f in fields] if len(wide) == 1 else list(fields)
    base, stride, records, swizzle, add_tid, index_stride = values
    return Descriptor(base, stride, records, swizzle, add_tid, index_stride, raw, plain)


@dataclass(frozen=True, slots=True)
class Component:
    """One dword (or byte, or half) of an access: arena offsets (n, 64), lanes in range (None: all)."""

    offsets: Array
    inside: Array | None


Addresses = Callable[[Group, int], list[Component]]  # (group, number of dwords) -> components


def compile_mubuf(ins: Instruction) -> Step | None:
    """The step of a MUBUF instruction; None if it has no effect here."""
    if ins.mnemonic in _NOTHING:
        return None
    verb, _, what = ins.mnemonic.removeprefix("buffer_").partition("_")
    addresses = compile_addresses(ins)
    if verb == "load" and what in LOADS:
        return (_load_lds if ins.mods.get("lds") else _load)(ins, LOADS[what], addresses)
    if verb == "store" and what in STORES:
        return _store(ins, STORES[what], addresses)
    if verb == "atomic" and what in ATOMICS:
        return _atomic(ins, what, addresses)
    raise EmulationError(f"{ins.mnemonic}: no semantics")


def compile_addresses(ins: Instruction) -> Addresses:
    """A function giving the components of the access."""
    vaddr, srsrc, soffset = operand(ins, "vaddr"), operand(ins, "srsrc"), operand(ins, "soffset")
    assert srsrc is not None
    fixed, idxen, offen = ins.mods.get("offset", 0), ins.mods.get("idxen", 0), ins.mods.get("offen", 0)
    first = row_of(vaddr) if vaddr is not None else 0
    index_row, offset_row = (first if idxen else None), (first + idxen if offen else None)
    constant = soffset.value if soffset is not None and soffset.kind is not Kind.SGPR else None
    sgpr = soffset.index if soffset is not None else 0

    def addresses(s: Group, count: int) -> list[Component]:
        descriptor = read_descriptor(s, srsrc.index)
        base = constant if constant is not None else s.cu32[sgpr].astype(np.int64)
        if offset_row is None:
            offset = np.full((s.n, LANES), fixed, np.int64)
        else:
            offset = s.u32[offset_row].astype(np.int64)
            if fixed:
                offset += fixed
        if descriptor.raw:
            return _raw(s, descriptor, offset, base, count)
        index = np.zeros((s.n, LANES), np.int64) if index_row is None else s.u32[index_row].astype(np.int64)
        index += descriptor.add_tid * np.arange(LANES)
        return _structured(descriptor, offset, index, base, count)

    return addresses


def _raw(s: Group, d: Descriptor, offset: Array, soffset: Array | int, count: int) -> list[Component]:
    """The usual descriptor: an array of bytes."""
    room = d.records - soffset
    start = d.base + soffset
    least = room if isinstance(room, int) else int(room.min())
    if s.mask is None and int(offset.max()) + 4 * (count - 1) < least:
        offset += start
        return [Component(offset if k == 0 else offset + 4 * k, None) for k in range(count)]
    return [Component(offset + (start + 4 * k), offset < room - 4 * k) for k in range(count)]


def _structured(
    d: Descriptor, offset: Array, index: Array, soffset: Array | int, count: int
) -> list[Component]:
    components = []
    for k in range(count):
        at = offset + 4 * k
        linear = at + d.stride * index
        if d.plain:
            where, inside = linear, linear < d.records - soffset
        else:
            step = d.index_stride
            swizzled = (
                (index // step * d.stride + at // _ELEMENT * _ELEMENT) * step
                + index % step * _ELEMENT
                + at % _ELEMENT
            )
            on = np.asarray(d.swizzle) != 0
            checked_as_raw = (np.asarray(d.stride) == 0) | ~on
            where = np.where(on, swizzled, linear)
            structured = (index < d.records) & (at < d.stride)
            inside = np.where(checked_as_raw, where < d.records - soffset, structured)
        components.append(Component(where + (d.base + soffset), inside))
    return components


def active_lanes(s: Group, component: Component) -> Array | None:
    """Lanes that access memory: on, and in range. None for all."""
    if component.inside is None or s.mask is None:
        return s.mask if component.inside is None else component.inside
    return s.mask & component.inside


def watch(s: Group, ins: Instruction, components: list[Component], kind: str, size: int) -> None:
    """Tell the observer."""
    if s.observer is not None:
        for c in components:
            if c.inside is not None and not c.inside.all():
                s.observer.out_of_range(s, ins, s.active() & ~c.inside)
            active = active_lanes(s, c)
            checked(s, ins, c.offsets, size, active)  # observers see no address outside every allocation
            s.observer.access(
                s, ins, "global", kind, c.offsets + BASE, size, s.active() if active is None else active
            )


def _fetch(s: Group, ins: Instruction, width: Width, components: list[Component]) -> list[Array]:
    """The components; 0 where out of range."""
    if s.mask is None and components[0].inside is None and width.size == 4:
        safe = checked(s, ins, components[0].offsets, 4 * width.count, None)
        assert safe is not None
        return gather_words(s.memory.u8, safe, width.count)
    values = []
    for c in components:
        safe = checked(s, ins, c.offsets, width.size, active_lanes(s, c))
        if safe is None:
            values.append(np.zeros((s.n, LANES), np.uint32))
            continue
        value = gather(s.memory.u8, safe, width.size)
        values.append(value if c.inside is None else np.where(c.inside, value, np.uint32(0)))
    return values


def _load(ins: Instruction, width: Width, addresses: Addresses) -> Step:
    register = row_of(ins.dst[0])

    def step(s: Group) -> None:
        components = addresses(s, width.count)
        watch(s, ins, components, "load", width.size)
        for k, value in enumerate(_fetch(s, ins, width, components)):
            finish_load(s, register + k, value, width)

    return step


def _load_lds(ins: Instruction, width: Width, addresses: Addresses) -> Step:
    offset = ins.mods.get("offset", 0)

    def step(s: Group) -> None:
        components = addresses(s, 1)
        watch(s, ins, components, "load", width.size)
        store_to_lds(s, ins, _fetch(s, ins, width, components)[0], width, offset)

    return step


def _store(ins: Instruction, width: Width, addresses: Addresses) -> Step:
    data = operand(ins, "vdata")
    assert data is not None
    register = row_of(data)

    def step(s: Group) -> None:
        components = addresses(s, width.count)
        watch(s, ins, components, "store", width.size)
        for k, c in enumerate(components):
            active = active_lanes(s, c)
            safe = checked(s, ins, c.offsets, width.size, active)
            if safe is not None:
                scatter(s.memory.u8, safe, store_value(s, register + k, width), width.size, active)

    return step


def _atomic(ins: Instruction, what: str, addresses: Addresses) -> Step:
    """All or nothing: the whole word of an atomic is in range or it is dropped and returns 0."""
    atomic = ATOMICS[what]
    data = operand(ins, "vdata")
    assert data is not None
    registers = [row_of(data) + k * atomic.size // 4 for k in range(atomic.operands)]
    result = row_of(ins.dst[0]) if ins.dst else None
    last = atomic.size // 4 - 1

    def step(s: Group) -> None:
        components = addresses(s, last + 1)
        watch(s, ins, components[:1], "atomic", atomic.size)
        first, inside = components[0], components[last].inside
        active = active_lanes(s, Component(first.offsets, inside))
        safe = checked(s, ins, first.offsets, atomic.size, active)
        if safe is not None:
            atomic_update(s, ins, s.memory.u8, safe, active, atomic, registers, result)
        elif result is not None:
            for k in range(last + 1):
                s.write(result + k, np.zeros((s.n, LANES), np.uint32))

    return step
