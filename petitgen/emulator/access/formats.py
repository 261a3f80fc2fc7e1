"""Typed buffer accesses: BUFFER_*_FORMAT_* and TBUFFER_*: memory formats to and from 32-bit or 16-bit
components.

source: CDNA3 ISA (MI300) 9.1.4-9.1.5 and the tables of data and number formats of the buffer resource
(9.1.8). A typed access is in range as a whole or not at all. Where the document is silent: integers too large
for their field keep their low bits, and normalized values round to nearest even.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.buffer import Component, active_lanes, compile_addresses, watch
from petitgen.emulator.access.flat import store_to_lds
from petitgen.emulator.access.transfer import checked, gather, scatter
from petitgen.emulator.access.widths import Width
from petitgen.emulator.faults import named, place
from petitgen.emulator.operands import operand, row_of
from petitgen.emulator.state import LANES, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction

Array = NDArray[Any]
Step = Callable[[Group], None]

# Data format -> bits of X, Y, Z, W, from the low end of the element.
COMPONENTS: dict[int, tuple[int, ...]] = {
    1: (8,), 2: (16,), 3: (8, 8), 4: (32,), 5: (16, 16), 6: (11, 11, 10), 7: (10, 11, 11), 8: (2, 10, 10, 10),
    9: (10, 10, 10, 2), 10: (8, 8, 8, 8), 11: (32, 32), 12: (16,) * 4, 13: (32,) * 3, 14: (32,) * 4,
}  # fmt: skip
UNORM, SNORM, USCALED, SSCALED, UINT, SINT, FLOAT = 0, 1, 2, 3, 4, 5, 7
IDENTITY: tuple[int, ...] = (
    4,
    5,
    6,
    7,
)  # destination selects: 4-7 are X-W, 0 and 1 constants


@dataclass(frozen=True, slots=True)
class Typed:
    """A memory format: component bits, number format, and what each loaded component selects."""

    bits: tuple[int, ...]
    number: int
    select: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return sum(self.bits) // 8


def compile_typed(ins: Instruction) -> Step:
    """The step of a typed buffer instruction."""
    verb = "load" if "_load_" in ins.mnemonic else "store"
    names = ins.mnemonic.partition("_format_")[2]
    half, high = names.startswith("d16"), "_hi_" in names
    count = len(names.rpartition("_")[2])
    addresses = compile_addresses(ins)
    body = (_load if verb == "load" else _store)(ins, count, half, high)

    def step(s: Group) -> None:
        before = s.mask
        for word3, waves in _formats(s, ins):
            form = _typed(s, ins, word3)
            if waves is not None:
                s.set_mask(s.active() & waves[:, None])
            try:
                body(s, form, addresses(s, -(-form.size // 4)))
            finally:
                s.set_mask(before)

    return step


def _formats(s: Group, ins: Instruction) -> list[tuple[int, Array | None]]:
    """The distinct fourth words of the descriptors, with the waves that have them (None: all)."""
    resource = operand(ins, "srsrc")
    assert resource is not None
    words = s.su32[resource.index + 3]
    values = np.unique(words)
    return [(int(v), None if values.size == 1 else words == v) for v in values]


def _typed(s: Group, ins: Instruction, word3: int) -> Typed:
    if ins.encoding == "MTBUF":
        code = ins.mods.get("format", 0)
        data, number, select = code & 15, code >> 4, IDENTITY
    else:
        data, number = word3 >> 15 & 15, word3 >> 12 & 7
        select = tuple(word3 >> 3 * k & 7 for k in range(4))
    if data not in COMPONENTS or number == 6:
        raise EmulationError(
            f"{named(s.batch, ins)}: data format {data}, number format {number} is reserved"
        )
    return Typed(COMPONENTS[data], number, select)


def _reach(
    s: Group, ins: Instruction, form: Typed, components: list[Component]
) -> tuple[Array | None, Array | None]:
    """Safe offsets (None if no lane reads or writes) and the lanes in range and on (None: all)."""
    whole = Component(components[0].offsets, _all_in(components))
    active = active_lanes(s, whole)
    kind = "store" if "_store_" in ins.mnemonic else "load"
    watch(s, ins, [whole], kind, form.size)
    offsets = checked(s, ins, whole.offsets, form.size, active)
    unit = min(form.size & -form.size, 4)
    if offsets is not None and (offsets & (unit - 1)).any():
        raise EmulationError(
            f"{place(s, ins, (offsets & (unit - 1)) != 0)[0]}: misaligned typed access of {form.size} bytes"
        )
    return offsets, active


def _all_in(components: list[Component]) -> Array | None:
    masks = [c.inside for c in components if c.inside is not None]
    return np.logical_and.reduce(masks) if masks else None


def _load(
    ins: Instruction, count: int, half: bool, high: bool
) -> Callable[[Group, Typed, list[Component]], None]:
    register = row_of(ins.dst[0]) if ins.dst else 0
    to_lds, offset = ins.mods.get("lds", 0), ins.mods.get("offset", 0)

    def body(s: Group, form: Typed, components: list[Component]) -> None:
        offsets, active = _reach(s, ins, form, components)
        raw = (
            [np.zeros((s.n, LANES), np.uint32)] * len(form.bits)
            if offsets is None
            else _fields(s, form, offsets)
        )
        values = [_selected(form, raw, k) for k in range(count)]
        if active is not None:
            values = [np.where(active, v, np.uint32(0)) for v in values]
        if to_lds:
            store_to_lds(s, ins, values[0], Width(4), offset)
            return
        for k, value in enumerate(_halved(values, form, high, s.u32[register]) if half else values):
            s.write(register + k, value)

    return body


def _fields(s: Group, form: Typed, offsets: Array) -> list[Array]:
    """The bits of each component."""
    first = [gather(s.memory.u8, offsets + 4 * k, min(form.size, 4)) for k in range(-(-form.size // 4))]
    fields, at = [], 0
    for bits in form.bits:
        fields.append(first[at // 32] >> np.uint32(at % 32) & np.uint32((1 << bits) - 1))
        at += bits
    return fields


def _selected(form: Typed, raw: list[Array], k: int) -> Array:
    """Component k of the result as 32 bits: float, or integer for UINT and SINT."""
    choice = form.select[k]
    if choice >= 4 and choice - 4 < len(raw):
        return decoded(raw[choice - 4], form.bits[choice - 4], form.number)
    one = 1 if form.number in (UINT, SINT) else 0x3F800000
    constant = one if choice == 1 or choice == 7 else 0  # a missing W reads 1, other missing components 0
    return np.full(raw[0].shape, constant, np.uint32)


def decoded(field: Array, bits: int, number: int) -> Array:
    """A component from its bits, as the bits of an f32 or a 32-bit integer."""
    shift = np.uint32(32 - bits)
    signed = (field << shift).view(np.int32) >> np.int32(shift)
    if number == UINT:
        return field
    if number == SINT:
        return signed.view(np.uint32)
    if number == FLOAT:
        if bits == 32:
            return field
        # 10- and 11-bit floats are f16 without sign and with a shorter mantissa
        half = field if bits == 16 else field << np.uint32(15 - bits)
        return half.astype(np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    exact = (signed if number in (SNORM, SSCALED) else field).astype(np.float64)
    if number == UNORM:
        exact /= (1 << bits) - 1
    elif number == SNORM:
        exact = np.maximum(exact / ((1 << bits - 1) - 1), -1)
    return exact.astype(np.float32).view(np.uint32)


def _halved(values: list[Array], form: Typed, high: bool, old: Array) -> list[Array]:
    """d16 results: f16 or 16-bit integers, two a register; the _hi form writes the high half only."""
    if form.number in (UINT, SINT):
        short = [v & np.uint32(0xFFFF) for v in values]
    else:
        short = [v.view(np.float32).astype(np.float16).view(np.uint16).astype(np.uint32) for v in values]
    if high:
        return [(old & np.uint32(0xFFFF)) | short[0] << np.uint32(16)]
    if len(short) % 2:
        short.append(np.zeros_like(short[0]))
    return [low | top << np.uint32(16) for low, top in zip(short[::2], short[1::2], strict=True)]


def _store(
    ins: Instruction, count: int, half: bool, high: bool
) -> Callable[[Group, Typed, list[Component]], None]:
    data = operand(ins, "vdata")
    assert data is not None
    register = row_of(data)

    def body(s: Group, form: Typed, components: list[Component]) -> None:
        offsets, active = _reach(s, ins, form, components)
        if offsets is None:
            return
        values = (
            _widened(s, register, count, form, high) if half else [s.u32[register + k] for k in range(count)]
        )
        words = [np.zeros((s.n, LANES), np.uint32) for _ in range(-(-form.size // 4))]
        at = 0
        for k, bits in enumerate(form.bits):
            value = values[k] if k < count else np.zeros((s.n, LANES), np.uint32)
            words[at // 32] |= encoded(value, bits, form.number) << np.uint32(at % 32)
            at += bits
        for k, word in enumerate(words):
            scatter(s.memory.u8, offsets + 4 * k, word, min(form.size, 4), active)

    return body


def _widened(s: Group, register: int, count: int, form: Typed, high: bool) -> list[Array]:
    """d16 sources as 32-bit components."""
    halves = [s.u16[register + k // 2][..., 1 if high else k % 2] for k in range(count)]
    if form.number in (UINT, SINT):
        return [h.astype(np.uint32) for h in halves]
    return [np.ascontiguousarray(h).view(np.float16).astype(np.float32).view(np.uint32) for h in halves]


def encoded(value: Array, bits: int, number: int) -> Array:
    """The bits of a component from an f32 or a 32-bit integer."""
    mask = np.uint32((1 << bits) - 1)
    if number in (UINT, SINT):
        return value & mask
    floats = np.nan_to_num(value.view(np.float32).astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    if number == FLOAT:
        if bits == 32:
            return value
        half = value.view(np.float32).astype(np.float16).view(np.uint16).astype(np.uint32)
        return half if bits == 16 else np.where(half >> 15, 0, half >> np.uint32(15 - bits)).astype(np.uint32)
    top = {UNORM: (1 << bits) - 1, SNORM: (1 << bits - 1) - 1}.get(number, 1)
    low, high = (
        (0, (1 << bits) - 1) if number in (UNORM, USCALED) else (-(1 << bits - 1), (1 << bits - 1) - 1)
    )
    if number == SNORM:
        low = -high
    scaled = np.clip(floats * top, low, high)
    whole = np.rint(scaled) if number in (UNORM, SNORM) else np.trunc(scaled)
    return whole.astype(np.int64).astype(np.uint32) & mask
