"""SMEM stores, atomics and wide buffer loads by assembled programs, against address arithmetic on Python
integers."""

from __future__ import annotations

import numpy as np
import pytest

from .test_memory import ATOMICS, BOTH, RNG, SIZE, Device, words

WAVES = 3
COUNTS = {"dword": 1, "dwordx2": 2, "dwordx4": 4, "dwordx8": 8, "dwordx16": 16}


def registers(first: int, count: int) -> str:
    return f"s{first}" if count == 1 else f"s[{first}:{first + count - 1}]"


def number(values: np.ndarray) -> int:
    """Dwords as one integer, the first the lowest."""
    return sum(int(value) << 32 * k for k, value in enumerate(values))


@BOTH
@pytest.mark.parametrize("records", [SIZE, 300, 292, 0])
@pytest.mark.parametrize("name", ["dwordx2", "dwordx8", "dwordx16"])
def test_wide_buffer_loads_are_clamped(arch, name, records):
    """Dword by dword: those past num_records are 0, what else comes from memory."""
    count = COUNTS[name]
    m = Device(arch, waves=WAVES)
    m.resource(4, records)
    offsets = [0, 256, 280]
    m.s[:, 20] = offsets
    m.run(f"s_buffer_load_{name} {registers(24, count)}, s[4:7], s20")
    for wave, offset in enumerate(offsets):
        expected = [m.word(offset + 4 * k) if offset + 4 * k < records else 0 for k in range(count)]
        assert m.s[wave, 24 : 24 + count].tolist() == expected


@BOTH
@pytest.mark.parametrize("records", [SIZE, 96 * 12])
def test_buffer_loads_with_a_stride_count_records(arch, records):
    """With a stride num_records counts elements, not bytes."""
    m = Device(arch)
    m.resource(4, records // 12, stride=12)
    m.run(f"s_buffer_load_dwordx2 s[8:9], s[4:7], {records // 12 * 12 - 4:#x}")
    assert m.s[0, 8:10].tolist() == [m.word(records // 12 * 12 - 4), 0]


@BOTH
@pytest.mark.parametrize(
    ("text", "shift"), [("0x14", 0x14), ("-0x20", -0x20), ("s6", 0), ("s6 offset:0x28", 0x28), ("0x17", 0x14)]
)
@pytest.mark.parametrize("name", ["dword", "dwordx2", "dwordx4"])
def test_stores(arch, name, text, shift):
    """Each wave at its own place; the two low bits of the address are ignored."""
    count = COUNTS[name]
    m = Device(arch, waves=WAVES)
    bases, offsets = [64, 512, 1024], [0, 128, 256]
    for wave, base in enumerate(bases):
        m.pair(4, m.address + base, wave)
    m.s[:, 6] = offsets
    m.s[:, 8:12] = words(4 * WAVES).reshape(WAVES, 4)
    memory = m.bytes()
    m.run(f"s_store_{name} {registers(8, count)}, s[4:5], {text}")
    for wave in range(WAVES):
        at = bases[wave] + shift + (offsets[wave] if "s6" in text else 0)
        memory[at : at + 4 * count] = number(m.s[wave, 8 : 8 + count]).to_bytes(4 * count, "little")
    assert m.bytes() == memory


@BOTH
@pytest.mark.parametrize("records", [SIZE, 264, 0])
@pytest.mark.parametrize("name", ["dword", "dwordx2", "dwordx4"])
def test_buffer_stores_are_clamped(arch, name, records):
    count = COUNTS[name]
    m = Device(arch, waves=WAVES)
    m.resource(4, records)
    offsets = [0, 128, 256]
    m.s[:, 20] = offsets
    m.s[:, 8:12] = words(4 * WAVES).reshape(WAVES, 4)
    memory = m.bytes()
    m.run(f"s_buffer_store_{name} {registers(8, count)}, s[4:7], s20")
    for wave, offset in enumerate(offsets):
        for at, value in zip(range(offset, offset + 4 * count, 4), m.s[wave, 8:12].tolist(), strict=False):
            if at < records:
                memory[at : at + 4] = value.to_bytes(4, "little")
    assert m.bytes() == memory


@BOTH
@pytest.mark.parametrize("family", ["s_atomic", "s_buffer_atomic"])
@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("name", ATOMICS)
def test_atomics_of_waves_that_meet(arch, family, returns, name):
    """Eight waves on two words, one after the other; a wave past the end of the buffer does nothing."""
    bits, function = ATOMICS[name]
    size, n = bits // 8, bits // 32
    operands = 2 if function is None else 1
    buffer = "buffer" in family
    m = Device(arch, waves=8)
    m.memory.write(m.address + 16, np.tile(np.frombuffer((5).to_bytes(size, "little"), np.uint8), 2))
    offsets = [16 + size * (wave % 2) for wave in range(8)]
    if buffer:
        offsets[5] = 64
        m.resource(4, 64)
    else:
        m.pair(4, m.address)
    m.s[:, 20] = offsets
    # Small numbers meet what is there; in the odd dwords (the high ones of 64 bits) only signs and zeros.
    data = RNG.integers(0, 8, (8, operands * n)).astype(np.uint32)
    data[:, 0] |= RNG.integers(0, 2, 8).astype(np.uint32) << np.uint32(31)
    if n == 2:
        data[:, 1::2] = RNG.choice([0, 0, 1, 0xFFFFFFFF], (8, operands))
    if operands == 2:
        data[::3, n:] = [5] if n == 1 else [5, 0]  # these compare equal, the first time
    m.s[:, 8 : 8 + operands * n] = data
    base, end = ("s[4:7]" if buffer else "s[4:5]"), (" glc" if returns else "")
    memory = m.bytes()
    m.run(f"{family}_{name} {registers(8, operands * n)}, {base}, s20{end}")
    for wave, at in enumerate(offsets):
        values = [number(data[wave, k * n : k * n + n]) for k in range(operands)]
        dropped = buffer and at >= 64
        old = int.from_bytes(memory[at : at + size], "little")
        new = (values[0] if old == values[1] else old) if function is None else function(old, values[0])
        if not dropped:
            memory[at : at + size] = (new & ((1 << bits) - 1)).to_bytes(size, "little")
            assert number(m.s[wave, 8 : 8 + n]) == (old if returns else values[0]), wave
    assert m.bytes() == memory


@BOTH
@pytest.mark.parametrize(
    "line",
    ["s_dcache_discard s[4:5], 0x40", "s_dcache_discard_x2 s[4:5], 0x40", "s_atc_probe 1, s[4:5], 0x10",
     "s_atc_probe_buffer 1, s[8:11], 0x10"],
)  # fmt: skip
def test_cache_and_translation_hints_change_nothing(arch, line):
    """Memory is coherent at once, so there is no dirty line to lose, and every page is there."""
    m = Device(arch, waves=WAVES)
    m.s[:, :100] = words(100 * WAVES).reshape(WAVES, 100)
    m.pair(4, m.address)
    m.resource(8, SIZE)
    registers_before, memory = m.s.copy(), m.bytes()
    m.run(line)
    assert np.array_equal(m.s, registers_before)
    assert m.bytes() == memory
    assert m.scheduler is not None
    assert m.scheduler.executed()[line.split()[0]] == WAVES
