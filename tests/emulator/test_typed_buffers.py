"""Typed buffer accesses, against formats written out on Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

from .test_memory import BOTH, LANE, RNG, Device, s

# name: (bits of x, y, z, w from the low end, data format code)
DATA = {
    "8": ((8,), 1), "16": ((16,), 2), "8_8": ((8, 8), 3), "32": ((32,), 4), "16_16": ((16, 16), 5),
    "10_11_11": ((11, 11, 10), 6),
    "2_10_10_10": ((10, 10, 10, 2), 9), "8_8_8_8": ((8,) * 4, 10), "32_32": ((32,) * 2, 11),
    "16_16_16_16": ((16,) * 4, 12),
    "32_32_32": ((32,) * 3, 13), "32_32_32_32": ((32,) * 4, 14),
}  # fmt: skip
NUMBER = {"UNORM": 0, "SNORM": 1, "USCALED": 2, "SSCALED": 3, "UINT": 4, "SINT": 5, "FLOAT": 7}
CASES = [
    *[
        (d, n)
        for d in ("8", "16", "8_8", "16_16", "2_10_10_10", "8_8_8_8", "16_16_16_16")
        for n in NUMBER
        if n != "FLOAT"
    ],
    *[(d, n) for d in ("32", "32_32", "32_32_32", "32_32_32_32") for n in ("UINT", "SINT", "FLOAT")],
    *[(d, "FLOAT") for d in ("16", "16_16", "10_11_11", "16_16_16_16")],
]


def small_float(code: int, bits: int) -> float:
    """Unsigned, 5 bits of exponent with bias 15, the rest mantissa."""
    mantissa_bits = bits - 5
    exponent, mantissa = code >> mantissa_bits, code & ((1 << mantissa_bits) - 1)
    if exponent == 31:
        return float("nan") if mantissa else float("inf")
    if exponent == 0:
        return mantissa * 2.0 ** (-14 - mantissa_bits)
    return (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - 15)


def value_of(code: int, bits: int, number: str) -> float | int:
    signed = s(code, bits)
    if number == "UNORM":
        return code / ((1 << bits) - 1)
    if number == "SNORM":
        return max(signed / ((1 << bits - 1) - 1), -1.0)
    if number in ("USCALED", "UINT"):
        return code
    if number in ("SSCALED", "SINT"):
        return signed
    if bits in (10, 11):
        return small_float(code, bits)
    dtype, unsigned = (np.float16, np.uint16) if bits == 16 else (np.float32, np.uint32)
    return float(np.array(code, unsigned).view(dtype))


def as_word(value: float | int, number: str) -> int:
    if number in ("UINT", "SINT"):
        return int(value) & 0xFFFFFFFF
    return int(np.float32(value).view(np.uint32))


@BOTH
@pytest.mark.parametrize(("data", "number"), CASES)
def test_loads(arch, data, number):
    bits, code = DATA[data]
    size = sum(bits) // 8
    m = Device(arch)
    select = 4 | 5 << 3 | 6 << 6 | 7 << 9
    m.resource(8, 60 * size, word3=select | NUMBER[number] << 12 | code << 15)
    elements = RNG.permutation(64)
    m.v[0] = elements * size
    form = f"[BUF_DATA_FORMAT_{data}, BUF_NUM_FORMAT_{number}]"
    m.run(
        f"""buffer_load_format_xyzw v[4:7], v0, s[8:11], 0 offen
        tbuffer_load_format_xyzw v[12:15], v0, s[8:11], 0 format:{form} offen"""
    )
    for lane in range(64):
        element = int(elements[lane])
        raw, at, expected = m.word(element * size, size), 0, []
        for width in bits:
            expected.append(as_word(value_of(raw >> at & ((1 << width) - 1), width, number), number))
            at += width
        one = 1 if number in ("UINT", "SINT") else 0x3F800000
        expected += [0, 0, 0, one][len(expected) :]
        if element >= 60:
            expected = [0] * 4
        for got in (m.v[4:8, 0, lane], m.v[12:16, 0, lane]):
            same = np.array_equal(got, np.array(expected, np.uint32))
            floats = np.array_equal(
                got.view(np.float32), np.array(expected, np.uint32).view(np.float32), equal_nan=True
            )
            assert same or (number == "FLOAT" and floats), (lane, got, expected)


@BOTH
@pytest.mark.parametrize(("data", "number"), [case for case in CASES if sum(DATA[case[0]][0]) <= 64])
def test_what_is_stored_is_loaded_again(arch, data, number):
    """Every representable value survives the way from memory to registers and back."""
    bits, code = DATA[data]
    size = sum(bits) // 8
    m = Device(arch)
    if number == "FLOAT":  # keep away from NaNs, whose payloads need not survive
        m.memory.write(m.address, m.memory.read(m.address, np.uint8, 1024) & 0x3B)
    if number == "SNORM":  # -128 and -127 are both -1
        data_bytes = m.memory.read(m.address, np.uint8, 1024)
        m.memory.write(m.address, np.where(data_bytes & 0x7F, data_bytes, data_bytes | 1))
        if data == "2_10_10_10":
            m.memory.write(m.address, m.memory.read(m.address, np.uint32, 256) & 0x5FEFFBFE | 0x401)
    m.resource(8, 4096, word3=4 | 5 << 3 | 6 << 6 | 7 << 9 | NUMBER[number] << 12 | code << 15)
    m.v[0] = LANE * size
    m.run(
        """buffer_load_format_xyzw v[4:7], v0, s[8:11], 0 offen
        s_waitcnt vmcnt(0)
        buffer_store_format_xyzw v[4:7], v0, s[8:11], 0 offen offset:2048"""
    )
    start = m.memory.read(m.address, np.uint8, 64 * size)
    assert np.array_equal(m.memory.read(m.address + 2048, np.uint8, 64 * size), start)


@BOTH
def test_stores_round_and_saturate(arch):
    m = Device(arch)
    select = 4 | 5 << 3 | 6 << 6 | 7 << 9
    m.resource(8, 4096, word3=select | 0 << 12 | 10 << 15)
    m.v[0] = LANE * 4
    values = np.array([-0.5, 0.25, 1.5, 0.501], np.float32)
    m.v[4:8] = values.view(np.uint32)[:, None, None]
    m.run("buffer_store_format_xyzw v[4:7], v0, s[8:11], 0 offen")
    assert m.memory.read(m.address, np.uint8, 4).tolist() == [0, 64, 255, 128]


@BOTH
def test_half_precision_registers(arch):
    m = Device(arch)
    select = 4 | 5 << 3 | 6 << 6 | 7 << 9
    m.resource(8, 4096, word3=select | 0 << 12 | 10 << 15)
    m.v[0], m.v[6] = LANE * 4, 0x11112222
    m.run(
        """buffer_load_format_d16_xyzw v[4:5], v0, s[8:11], 0 offen
        buffer_load_format_d16_hi_x v6, v0, s[8:11], 0 offen
        buffer_load_format_d16_x v7, v0, s[8:11], 0 offen
        s_waitcnt vmcnt(0)
        buffer_store_format_d16_xyzw v[4:5], v0, s[8:11], 0 offen offset:1024
        buffer_store_format_d16_hi_x v6, v0, s[8:11], 0 offen offset:2048"""
    )
    bytes_ = m.data[:256].reshape(64, 4)
    exact = (bytes_.astype(np.float32) / np.float32(255)).astype(np.float16).view(np.uint16).astype(np.uint32)
    assert np.array_equal(m.v[4, 0], exact[:, 0] | exact[:, 1] << 16)
    assert np.array_equal(m.v[5, 0], exact[:, 2] | exact[:, 3] << 16)
    assert np.array_equal(m.v[6, 0], 0x2222 | exact[:, 0] << 16)
    assert np.array_equal(m.v[7, 0], exact[:, 0])
    assert np.array_equal(m.memory.read(m.address + 1024, np.uint8, (64, 4)), bytes_)
    assert np.array_equal(m.memory.read(m.address + 2048, np.uint8, (64, 4))[:, 0], bytes_[:, 0])


@BOTH
def test_destination_selects(arch):
    m = Device(arch)
    m.resource(8, 4096, word3=7 | 1 << 3 | 0 << 6 | 4 << 9 | 4 << 12 | 10 << 15)  # W, 1, 0, X of 8_8_8_8 UINT
    m.v[0] = LANE * 4
    m.run("buffer_load_format_xyzw v[4:7], v0, s[8:11], 0 offen")
    bytes_ = m.data[:256].reshape(64, 4)
    assert np.array_equal(m.v[4:8, 0], [bytes_[:, 3], np.ones(64), np.zeros(64), bytes_[:, 0]])
