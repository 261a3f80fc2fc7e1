"""Typed buffer accesses of one to four components, in words and halves: which registers and bytes they touch,
and with what. Conversions themselves are in test_typed_buffers.py."""

from __future__ import annotations

import numpy as np
import pytest

from .test_memory import BOTH, LANE, RNG, Device, words
from .test_typed_buffers import DATA, NUMBER, as_word, value_of

NAMES = ["x", "xy", "xyz", "xyzw"]
POISON = 0xDEADBEEF
ONE = {"UINT": 1, "FLOAT": 0x3F800000, "UNORM": 0x3F800000}
ONE_HALF = {"UINT": 1, "FLOAT": 0x3C00, "UNORM": 0x3C00}


def program(family: str, verb: str, half: str, name: str, data: str, number: str, last: str) -> str:
    form = f" format:[BUF_DATA_FORMAT_{data}, BUF_NUM_FORMAT_{number}]" if family == "tbuffer" else ""
    return f"{family}_{verb}_format_{half}{name} {last}, v0, s[8:11], 0{form} offen offset:16"


def device(arch: str, data: str, number: str) -> tuple[Device, np.ndarray, int]:
    """A machine with a descriptor of 60 elements, each lane at an element of its own; the element's size."""
    bits, code = DATA[data]
    size = sum(bits) // 8
    m = Device(arch)
    m.resource(8, 16 + 60 * size, word3=4 | 5 << 3 | 6 << 6 | 7 << 9 | NUMBER[number] << 12 | code << 15)
    elements = RNG.permutation(64)
    m.v[0] = elements * size
    return m, elements, size


def fields(raw: int, bits: tuple[int, ...]) -> list[int]:
    """The components of an element, X at the low end."""
    starts = np.concatenate(([0], np.cumsum(bits)))
    return [raw >> int(start) & (1 << width) - 1 for start, width in zip(starts, bits, strict=False)]


@BOTH
@pytest.mark.parametrize("family", ["buffer", "tbuffer"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("data", "number"), [("8_8_8_8", "UNORM"), ("16_16", "UINT"), ("32_32_32", "UINT"), ("8", "UINT")]
)
def test_loads(arch, family, name, data, number):
    m, elements, size = device(arch, data, number)
    bits, count = DATA[data][0], len(name)
    m.v[4:9] = POISON
    m.run(program(family, "load", "", name, data, number, "v4" if count == 1 else f"v[4:{3 + count}]"))
    for lane, element in enumerate(elements.tolist()):
        parts = fields(m.word(16 + element * size, size), bits)
        wanted = [as_word(value_of(p, w, number), number) for p, w in zip(parts, bits, strict=True)]
        wanted += [0, 0, 0, ONE[number]][len(wanted) :]
        wanted = (wanted if element < 60 else [0] * 4)[:count] + [POISON] * (5 - count)
        assert m.v[4:9, 0, lane].tolist() == wanted, lane


@BOTH
@pytest.mark.parametrize("family", ["buffer", "tbuffer"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("data", "number"), [("8_8_8_8", "UINT"), ("16_16_16_16", "UINT"), ("16_16", "FLOAT")])
def test_loads_of_halves(arch, family, name, data, number):
    """Two components to a register; 16 bits of FLOAT come as they are."""
    m, elements, size = device(arch, data, number)
    if number == "FLOAT":  # no NaN, whose payload need not survive
        m.data[:] &= 0x7B
        m.memory.write(m.address, m.data)
    bits, count = DATA[data][0], len(name)
    used = (count + 1) // 2
    m.v[4:7] = POISON
    m.run(program(family, "load", "d16_", name, data, number, "v4" if used == 1 else "v[4:5]"))
    for lane, element in enumerate(elements.tolist()):
        parts = fields(m.word(16 + element * size, size), bits)
        parts = ((parts + [0, 0, 0, ONE_HALF[number]][len(parts) :]) if element < 60 else [0] * 4)[:count]
        parts += [0] * (count % 2)
        wanted = [parts[k] | parts[k + 1] << 16 for k in range(0, len(parts), 2)]
        got = m.v[4:7, 0, lane].tolist()
        if count % 2:  # the high half of the last register is nobody's
            got[used - 1] &= 0xFFFF
        assert got == wanted + [POISON] * (3 - used), lane


# Formats with no more components than are stored: those that are too many are dropped.
STORED = {"x": ["8", "16", "32"], "xy": ["8", "16_16", "32_32"], "xyz": ["16_16", "32", "32_32_32"],
          "xyzw": ["8_8", "16_16_16_16", "32_32_32", "32_32_32_32"]}  # fmt: skip


@BOTH
@pytest.mark.parametrize("family", ["buffer", "tbuffer"])
@pytest.mark.parametrize(("name", "data"), [(name, data) for name in NAMES for data in STORED[name]])
def test_stores(arch, family, name, data):
    m, elements, size = device(arch, data, "UINT")
    bits, count = DATA[data][0], len(name)
    for k in range(count):
        m.v[4 + k] = words(high=1 << bits[min(k, len(bits) - 1)])
    memory = m.bytes()
    m.run(program(family, "store", "", name, data, "UINT", "v4" if count == 1 else f"v[4:{3 + count}]"))
    for lane, element in enumerate(elements.tolist()):
        value = at = 0
        for k, width in enumerate(bits):
            value, at = value | int(m.v[4 + k, 0, lane]) << at, at + width
        if element < 60:
            memory[16 + element * size : 16 + (element + 1) * size] = value.to_bytes(size, "little")
    assert m.bytes() == memory


@BOTH
@pytest.mark.parametrize("family", ["buffer", "tbuffer"])
@pytest.mark.parametrize(
    ("name", "data", "number"),
    [("x", "16", "UINT"), ("xy", "16_16", "UINT"), ("xyz", "16_16", "UINT"), ("xyzw", "16_16_16_16", "UINT"),
     ("x", "32", "FLOAT"), ("xy", "32_32", "FLOAT"), ("xyz", "32_32_32", "FLOAT"),
     ("xyzw", "32_32_32_32", "FLOAT")],
)  # fmt: skip
def test_stores_of_halves(arch, family, name, data, number):
    """Halves go as they are into 16 bits, and widened, which is exact, into floats of 32."""
    m, elements, size = device(arch, data, number)
    bits, used = DATA[data][0], (len(name) + 1) // 2
    halves = RNG.standard_normal((4, 64)).astype(np.float16)
    codes = halves.view(np.uint16).astype(np.uint32)
    m.v[4], m.v[5] = codes[0] | codes[1] << 16, codes[2] | codes[3] << 16
    memory = m.bytes()
    m.run(program(family, "store", "d16_", name, data, number, "v4" if used == 1 else "v[4:5]"))
    stored = codes.astype(np.uint16) if number == "UINT" else halves.astype(np.float32)
    for lane in LANE[elements < 60]:
        at = 16 + int(elements[lane]) * size
        memory[at : at + size] = np.ascontiguousarray(stored[: len(bits), lane]).tobytes()
    assert m.bytes() == memory
