"""Gather from and scatter to a flat array of bytes: the device arena or the LDS of a batch.

Offsets are int64 (n, 64) byte offsets into `space`, a uint8 array; every one must be inside it, also in lanes
that are off.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.atomics import Atomic, apply
from petitgen.emulator.access.widths import Width
from petitgen.emulator.faults import place
from petitgen.emulator.memory import BASE
from petitgen.emulator.state import LANES, Group
from petitgen.errors import EmulationError
from petitgen.isa.model import Instruction

Array = NDArray[Any]

_VIEW = {1: (np.uint8, 0), 2: (np.uint16, 1), 4: (np.uint32, 2), 8: (np.uint64, 3)}


def checked(s: Group, ins: Instruction, offsets: Array, size: int, active: Array | None) -> Array | None:
    """Arena offsets made safe to use in every lane; None if no lane is on.

    EmulationError if an active lane leaves the allocations.
    """
    if active is not None:
        first = int(active.argmax())
        if not active.flat[first]:
            return None
        offsets = np.where(active, offsets, offsets.flat[first])
    if not s.memory.contains(int(offsets.min()), int(offsets.max()) + size):
        bad = s.memory.outside(offsets, size)
        if bad.any():
            where, lane = place(s, ins, bad)
            address = int(offsets[lane]) + BASE
            raise EmulationError(
                f"{where}: {size} bytes at address {address & 2**64 - 1:#x} are outside every allocation; "
                f"{s.memory.nearest(address)}"
            )
    return offsets


def gather(space: Array, offsets: Array, size: int) -> Array:
    """`size` bytes (1, 2, 4) at each offset as uint32, zero-extended; any alignment."""
    dtype, shift = _VIEW[size]
    if shift == 0:
        return space.take(offsets).astype(np.uint32)
    if not misaligned(offsets, size):
        values = space.view(dtype).take(offsets >> shift)
        return values if size == 4 else values.astype(np.uint32)
    values = space.take(offsets).astype(np.uint32)
    for k in range(1, size):
        values |= space.take(offsets + k).astype(np.uint32) << np.uint32(8 * k)
    return values


def gather_words(space: Array, offsets: Array, count: int) -> list[Array]:
    """`count` consecutive dwords at each offset; any alignment."""
    if misaligned(offsets, 4):
        return [gather(space, offsets + 4 * k, 4) for k in range(count)]
    words = space.view(np.uint32)
    index = offsets >> 2
    values = [words.take(index)]
    for _ in range(1, count):
        index += 1
        values.append(words.take(index))
    return values


def misaligned(offsets: Array, size: int) -> bool:
    """Is any offset not a multiple of `size`?"""
    return bool(np.bitwise_or.reduce(offsets, axis=None) & (size - 1))


def scatter(space: Array, offsets: Array, values: Array, size: int, active: Array | None) -> None:
    """Store the low `size` bytes (1, 2, 4) of each value. Where lanes collide, the highest wave and lane
    wins."""
    if active is not None:
        offsets, values = offsets[active], values[active]
    dtype, shift = _VIEW[size]
    if not shift or not misaligned(offsets, size):
        space.view(dtype)[offsets >> shift] = values if size == 4 else values.astype(dtype)
        return
    for k in range(size):
        space[offsets + k] = (values >> np.uint32(8 * k)).astype(np.uint8)


def finish_load(s: Group, register: int, raw: Array, width: Width) -> None:
    """Extend a loaded component and write it to `register` in the active lanes."""
    if width.signed:
        raw = raw.astype(np.int8 if width.size == 1 else np.int16).astype(np.int32).view(np.uint32)
    if width.half is not None:
        old = s.u32[register]
        raw = (
            (old & 0xFFFF0000) | (raw & 0xFFFF)
            if width.half == 0
            else (old & 0xFFFF) | (raw << np.uint32(16))
        )
    s.write(register, raw)


def store_value(s: Group, register: int, width: Width) -> Array:
    """The dwords that a store of `width` takes from `register`."""
    row = s.u32[register]
    return row >> np.uint32(16) if width.half == 1 else row


def atomic_update(
    s: Group,
    ins: Instruction,
    space: Array,
    offsets: Array,
    active: Array | None,
    atomic: Atomic,
    data: list[int],
    result: int | None,
) -> None:
    """Run `atomic` in the active lanes; `data` names the first register of each operand; the old value goes
    to `result`."""
    size = atomic.size
    where = active if active is not None else np.ones((s.n, LANES), bool)
    chosen = offsets[where]
    if chosen.size and misaligned(chosen, size):
        bad = where & ((offsets & (size - 1)) != 0)
        raise EmulationError(f"{place(s, ins, bad)[0]}: an atomic of {size} bytes at a misaligned address")
    dtype, shift = _VIEW[size]
    operands = tuple(_data(s, register, size)[where] for register in data)
    old = apply(space.view(dtype), chosen >> shift, operands, atomic, result is not None)
    if result is None or old is None:
        return
    whole = np.zeros((s.n, LANES), dtype)
    whole[where] = old
    words = whole.view(np.uint32).reshape(s.n, LANES, size // 4)
    for k in range(size // 4):
        s.write(result + k, words[..., k])


def _data(s: Group, register: int, size: int) -> Array:
    """A 32- or 64-bit value of every lane, as unsigned."""
    if size == 4:
        return s.u32[register]
    both = np.empty((s.n, LANES, 2), np.uint32)
    both[..., 0], both[..., 1] = s.u32[register], s.u32[register + 1]
    return both.view(np.uint64)[..., 0]
