"""SCRATCH loads and stores of every width, against bytes put where the interleaving of the ABI has them."""

from __future__ import annotations

import numpy as np
import pytest

from .test_memory import BOTH, LANE, LOADS, MASK, RNG, STORES, Device, block, loaded, words

PRIVATE = 128  # bytes a lane


def spot(byte: int, lane: int) -> int:
    """Where byte `byte` of a lane lies: dword d of lane l is dword 64 d + l of the wave's scratch."""
    return 256 * (byte // 4) + 4 * lane + byte % 4


def private(memory: bytes | bytearray, byte: int, size: int, lane: int) -> int:
    return int.from_bytes(bytes(memory[spot(byte + k, lane)] for k in range(size)), "little")


def scratch(arch: str) -> tuple[Device, int]:
    """A machine with random scratch, and its address."""
    m = Device(arch, private=PRIVATE)
    address = m.memory.allocate(RNG.integers(0, 256, 64 * PRIVATE).astype(np.uint8))
    m.pair(102, address)
    m.pair(126, MASK | 0xFF00)
    return m, address


def contents(m: Device, address: int) -> bytearray:
    return bytearray(m.memory.read(address, np.uint8, 64 * PRIVATE).tobytes())


def on(lane: int) -> bool:
    return bool((MASK | 0xFF00) >> lane & 1)


def offsets(size: int) -> np.ndarray:
    """Byte offsets in a lane's scratch, aligned as the width asks, with 8 to spare at the end."""
    unit = min(size, 4)
    return RNG.integers(0, (PRIVATE - 8 - size) // unit, 64) * unit


@BOTH
@pytest.mark.parametrize(("name", "size", "signed", "half"), LOADS)
def test_loads(arch, name, size, signed, half):
    m, address = scratch(arch)
    at = offsets(size)
    m.v[0], m.v[4] = at, words()
    before, memory = m.v[4:8, 0].copy(), contents(m, address)
    m.run(f"scratch_load_{name} {block(4, size)}, v0, off offset:8")
    for lane in range(64):
        value = private(memory, int(at[lane]) + 8, size, lane)
        value = loaded(value, size, signed, half, int(before[0, lane]))
        for k in range(max(1, size // 4)):
            expected = value >> 32 * k & 0xFFFFFFFF if on(lane) else before[k, lane]
            assert m.v[4 + k, 0, lane] == expected, (lane, k)


@BOTH
@pytest.mark.parametrize(("name", "size", "half"), STORES)
def test_stores(arch, name, size, half):
    m, address = scratch(arch)
    at = offsets(size)
    rows = [words() for _ in range(4)]
    m.v[0] = at
    for k, row in enumerate(rows):
        m.v[4 + k] = row
    memory = contents(m, address)
    m.run(f"scratch_store_{name} v0, {block(4, size)}, off offset:8")
    for lane in filter(on, range(64)):
        value = sum(int(row[lane]) << 32 * k for k, row in enumerate(rows)) >> 16 * half
        for k in range(size):
            memory[spot(int(at[lane]) + 8 + k, lane)] = value >> 8 * k & 0xFF
    assert contents(m, address) == memory


@pytest.mark.parametrize(
    ("family", "name", "size", "signed"),
    [
        (family, *width)
        for family in ("scratch", "global")
        for width in (("ubyte", 1, 0), ("sbyte", 1, 1), ("ushort", 2, 0), ("sshort", 2, 1), ("dword", 4, 0))
    ],
)
def test_loads_to_lds(family, name, size, signed):
    """A dword a lane, at M0 and the offset, which counts on both sides; lanes that are off keep theirs."""
    m, address = scratch("gfx942")
    m.s[:, 124] = 128
    m.batch.lds[:] = 0xAA
    if family == "scratch":
        m.v[0], m.s[:, 6] = offsets(size), 0
        memory = contents(m, address)
        values = [private(memory, int(m.v[0, 0, lane]) + 8, size, lane) for lane in LANE]
        m.run(f"scratch_load_lds_{name} v0, off offset:8")
    else:
        m.v[0] = RNG.permutation(64) * 4
        m.pair(4, m.address)
        values = [m.word(int(m.v[0, 0, lane]) + 8, size) for lane in LANE]
        m.run(f"global_load_lds_{name} v0, s[4:5] offset:8")
    got = m.batch.lds[128 + 8 :][:256].view(np.uint32)
    for lane, value in enumerate(values):
        extended = loaded(value, size, bool(signed), None, 0) & 0xFFFFFFFF
        assert got[lane] == (extended if on(lane) else 0xAAAAAAAA), lane
