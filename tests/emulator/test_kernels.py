"""Compiled HIP kernels against numpy: what compilers make of ordinary code, on both archs and by both
compilers."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from petitgen.emulator import DeviceMemory, LoadedCode, launch
from petitgen.errors import EmulationError, PetitgenError
from petitgen.isa import disassemble

RNG = np.random.default_rng
U32 = np.uint32


def words(seed: int, n: int, high: int = 1 << 32) -> np.ndarray:
    return RNG(seed).integers(0, high, n, dtype=np.uint64).astype(np.uint32)


# --- addressing, arguments, control flow ----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 63, 64, 65, 257, 1000])
def test_saxpy_tails(kernels, n):
    x, y = RNG(1).standard_normal((2, n)).astype(np.float32)
    guarded = np.concatenate((y, np.full(50, 7, np.float32)))
    launch(kernels("basic"), "saxpy", -(-n // 96), 96, [x, guarded, np.float32(3.5), U32(n)])
    expected = (x.astype(np.float64) * 3.5 + y).astype(np.float32)  # one rounding: the compiler fuses
    assert np.array_equal(guarded[:n], expected)
    assert (guarded[n:] == 7).all()


def test_ids_in_three_dimensions(kernels):
    grid, block = (3, 2, 2), (4, 3, 2)
    width, height, depth = (g * b for g, b in zip(grid, block, strict=True))
    out = np.zeros((depth, height, width), np.uint32)
    launch(kernels("basic"), "ids", grid, block, [out, U32(width), U32(height)])
    z, y, x = np.indices(out.shape)
    assert np.array_equal(out, x | y << 8 | z << 16)


def test_implicit_arguments_and_dispatch_packet(kernels):
    out = np.zeros(12, np.uint32)
    launch(kernels("basic"), "implicit", (3, 2), (64, 2, 1), [out])
    assert out[:3].tolist() == [3, 2, 1]  # block_count
    assert out[3:6].tolist() == [64 | 2 << 16, 1, 0]  # group_size and remainder, 16 bits each
    assert out[7] == 64 | 2 << 16  # packet: workgroup size x, y after header and setup
    assert out[9:12].tolist() == [192, 4, 1]  # grid in work-items


def test_narrow_loads_and_stores(kernels):
    n, rng = 300, RNG(2)
    b, h = rng.integers(0, 256, n).astype(np.uint8), rng.integers(0, 65536, n).astype(np.uint16)
    sb, sh = rng.integers(-128, 128, n).astype(np.int8), rng.integers(-32768, 32768, n).astype(np.int16)
    out, bo, ho = np.zeros(n, np.int32), np.zeros(n, np.uint8), np.zeros(n, np.uint16)
    launch(kernels("basic"), "bytes", 5, 64, [b, sb, h, sh, out, bo, ho, U32(n)])
    wide = [a.astype(np.int64) for a in (b, sb, h, sh)]
    assert np.array_equal(out, wide[0] + 3 * wide[1] + 5 * wide[2] + 7 * wide[3])
    assert np.array_equal(bo[::-1], b ^ 0x55)
    assert np.array_equal(ho[::-1], (wide[2] + wide[3]) & 0xFFFF)


def test_structs_go_by_value(kernels):
    pair = np.zeros(1, [("a", "<i4"), ("pad", "<i4"), ("b", "<f8")])
    pair["a"], pair["b"] = -5, 2.25
    out = np.zeros(64)
    launch(kernels("basic"), "by_value", 1, 64, [pair.tobytes(), np.int8(3), out])
    assert (out == -5 + 2.25 * 3).all()


TABLE = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]


def rodata_reference(value: int) -> int:
    v = TABLE[value & 15]
    cases = [v + 17, v * 23, v ^ 0x1234, v - 99, v * v, ~v, v << 5, -v, v | 0x8000]
    return cases[value % 11] if value % 11 < 9 else 7


def test_constants_in_the_image(kernels):
    values = words(3, 256)
    out = np.zeros(256, np.int32)
    launch(kernels("basic"), "rodata", 2, 128, [values, out])
    assert out.tolist() == [rodata_reference(int(v)) for v in values]


def test_device_variables_live_as_long_as_the_loaded_code(kernels):
    loaded = LoadedCode(kernels("basic"), DeviceMemory())
    out = np.zeros(1, np.int32)
    seen = []
    for _ in range(2):
        launch(loaded, "bump", 1, 64, [out])
        seen.append(int(out[0]))
    launch(kernels("basic"), "bump", 1, 64, [out])
    assert seen == [42, 44]
    assert out[0] == 42


def collatz_steps(v: int) -> int:
    count = 0
    while v != 1:
        v = 3 * v + 1 if v & 1 else v // 2
        count += 1
    return count


def test_divergent_loop(kernels):
    values = np.concatenate((words(4, 200, 100000) + 1, [1, 27, 837799])).astype(np.uint32)
    steps = np.zeros(values.size, np.uint32)
    launch(kernels("basic"), "collatz", 4, 64, [values, steps, U32(values.size)])
    assert steps.tolist() == [collatz_steps(int(v)) for v in values]


def nested_reference(limit: int) -> int:
    acc = 0
    for a in range(limit):
        if a % 3 == 1:
            continue
        for b in range(a, 0, -2):
            if (a * b) % 7 == 5:
                break
            acc += a ^ b
        if acc > 1000:
            return -acc
    return acc


def test_nested_divergence(kernels):
    limits = RNG(5).integers(0, 60, 500).astype(np.int32)
    out = np.zeros(500, np.int32)
    launch(kernels("basic"), "nested", 8, 64, [limits, out, U32(500)])
    assert out.tolist() == [nested_reference(int(v)) for v in limits]


# --- LDS ------------------------------------------------------------------------------------------


def test_reduction_through_lds(kernels):
    values = RNG(6).integers(-50, 50, 5 * 256 - 17).astype(np.float32)
    out = np.zeros(5, np.float32)
    launch(kernels("shared"), "reduce", 5, 256, [values, out, U32(values.size)])
    padded = np.pad(values, (0, 17)).reshape(5, 256)
    assert np.array_equal(out, padded.sum(axis=1))  # small integers: exact in any order


def test_transpose(kernels):
    matrix = words(7, 32 * 32).reshape(32, 32)
    out = np.zeros_like(matrix)
    launch(kernels("shared"), "transpose", (2, 2), (16, 16), [matrix, out, U32(32)])
    assert np.array_equal(out, matrix.T)


def test_dynamic_lds(kernels):
    values = words(8, 3 * 160)
    out = np.zeros_like(values)
    launch(kernels("shared"), "rotate", 3, 160, [values, out], dynamic_lds=640)
    assert np.array_equal(out.reshape(3, 160), np.roll(values.reshape(3, 160), -5, axis=1))


def test_wide_lds_accesses(kernels):
    rows = words(9, 256).reshape(64, 4)
    out = np.zeros_like(rows)
    launch(kernels("shared"), "wide", 1, 64, [rows, out])
    lane = np.arange(64)
    v, w, c = rows[(lane + 1) & 63].copy(), rows[63 - lane][:, 1:], rows[lane ^ 5]
    v[:, 0] += w[:, 0]
    v[:, 1] ^= w[:, 1]
    v[:, 2] -= w[:, 2]
    v[:, 3] = v[:, 3] * 3 + c[:, 0] + c[:, 3]
    assert np.array_equal(out, v)


def test_narrow_lds_accesses(kernels):
    values = words(10, 64, 65536).astype(np.uint16)
    out = np.zeros_like(values)
    launch(kernels("shared"), "narrow", 1, 64, [values, out])
    lane = np.arange(64)
    signed = values[63 - lane].astype(np.uint8).view(np.int8).astype(np.int64)
    assert np.array_equal(out, (values[(lane + 9) & 63] + signed) & 0xFFFF)


def test_histogram(kernels):
    values = words(11, 5000)
    out = np.full(16, 100, np.uint32)
    launch(kernels("shared"), "histogram", 4, 128, [values, out, U32(5000)])
    assert np.array_equal(out, 100 + np.bincount(values & 15, minlength=16))


def test_softmax(kernels):
    rows = (RNG(12).standard_normal((6, 700)) * 8).astype(np.float32)
    out = np.zeros_like(rows)
    launch(kernels("shared"), "softmax", 6, 256, [rows, out, U32(700)])
    exact = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    exact /= exact.sum(axis=1, keepdims=True)
    assert np.allclose(out, exact, rtol=4e-6, atol=1e-12)


def test_ended_waves_do_not_hold_a_barrier(kernels):
    values = words(13, 512)
    out = np.zeros_like(values)
    launch(kernels("shared"), "early", 2, 256, [values, out])
    lane = np.arange(256)
    source = lane ^ 64 ^ np.where(lane >= 128, 64, 0)
    expected = np.where(lane < 192, values.reshape(2, 256)[:, source], 0)
    assert np.array_equal(out.reshape(2, 256), expected)


# --- atomics --------------------------------------------------------------------------------------


def test_integer_atomics(kernels):
    values = words(14, 777)
    start = np.zeros(12, np.uint32)
    start[5], start[10], start[11] = 0xFFFFFFFF, 0xFFFFFFFF, 0x7FFFFFFF
    out = start.copy()
    launch(kernels("atomics"), "integers", 13, 64, [values, out, U32(777)])
    wide = values.astype(np.int64)
    expected = start.astype(object)
    for k in range(4):
        expected[k] = int(wide[values & 3 == k].sum()) % 2**32
    expected[4] = -int(wide.sum()) % 2**32
    expected[5] = int(np.bitwise_and.reduce(values | np.uint32(0xFFFF0000)))
    expected[6] = int(np.bitwise_or.reduce(np.uint32(1) << (values & 31)))
    for k in (0, 1):
        expected[7 + k] = int(np.bitwise_xor.reduce(values[values & 1 == k]))
    expected[9], expected[10] = int(values.max()), int(values.min())
    expected[11] = int(values.view(np.int32).min()) % 2**32
    assert out.tolist() == expected.tolist()


@pytest.mark.parametrize("block", [128, 70, 3])
def test_returned_values_are_a_serial_order(kernels, block):
    """Also: a block that is no multiple of the wave has exactly its work-items."""
    values = words(15, 5 * block)
    counters, out = np.zeros(4, np.uint32), np.zeros(5 * block, np.uint32)
    launch(kernels("atomics"), "tickets", 5, block, [counters, out, values])
    for k in range(4):
        mine = values & 3 == k
        order = np.argsort(out[mine], kind="stable")
        got, step = out[mine][order], (1 + (values[mine] & 1))[order]
        assert np.array_equal(got, np.concatenate(([0], np.cumsum(step)[:-1])))
        assert counters[k] == step.sum()


def test_long_atomics(kernels):
    values = RNG(16).integers(0, 1 << 62, 256, dtype=np.uint64)
    out = np.zeros(3 + 256, np.uint64)
    launch(kernels("atomics"), "long_integers", 2, 128, [values, out])
    for k in (0, 1):
        assert out[k] == sum(int(v) for v in values if v & 1 == k) % 2**64
    assert out[2] == values.max()
    assert np.array_equal(out[3:], values * np.uint64(3))


def test_float_atomics_by_compare_and_swap(kernels):
    values = RNG(17).integers(-100, 100, 192).astype(np.float32)
    total, halves = np.array([5], np.float32), np.zeros(2)
    launch(kernels("atomics"), "floats", 3, 64, [values, total, halves])
    assert total[0] == 5 + values.sum()
    assert halves.tolist() == [values[0::2].sum(), values[1::2].sum()]


def test_lds_atomics(kernels):
    values = words(18, 256, 1 << 20)
    out, wide = np.zeros(8 + 256, np.uint32), np.zeros(2, np.uint64)
    launch(kernels("atomics"), "local", 1, 256, [values, out, wide])
    odd = (values & 1).astype(bool)
    assert out[:3].tolist() == [int(values.sum()), int(values.max()), int(values.min())]
    assert out[3:5].tolist() == [int((~odd).sum()), int(odd.sum())]
    for mask in (odd, ~odd):
        assert sorted(out[8:][mask]) == list(range(mask.sum()))
    assert wide.tolist() == [int(values[~odd].sum()) << 20, int(values[odd].sum()) << 20]


def test_a_spin_lock_is_passed_on(kernels):
    mutex, value = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
    launch(kernels("atomics"), "lock", 3, 256, [mutex, value], limit=20_000_000)
    assert value[0] == 12
    assert mutex[0] == 0


def test_a_wave_can_wait_for_another(kernels):
    box, out = np.zeros(2, np.uint32), np.zeros(64, np.uint32)
    launch(kernels("atomics"), "flag", 1, 128, [box, out], limit=20_000_000)
    assert np.array_equal(out, 1234 + np.arange(64))


# --- arithmetic -----------------------------------------------------------------------------------


def signed64(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def long_reference(x: int, y: int) -> list[int]:
    ux, uy = x % 2**64, y % 2**64
    quotient = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    last = x - y if x < y else ux.bit_count() + 64 - (uy | 1).bit_length()
    shift = y & 63
    return [
        signed64(v)
        for v in (x + y, x * y, quotient, ux % uy if y else 0, x << shift, x >> shift, ux >> shift, last)
    ]


def test_long_integers(kernels):
    rng = RNG(19)
    edges = [0, 1, -1, 2, -2, 63, 2**31, -(2**31), 2**32 + 5, 2**62, -(2**63) + 1, 2**63 - 1]
    pairs = [(a, b) for a in edges for b in edges]
    pairs += [
        (int(rng.integers(-(2**63), 2**63)), int(rng.integers(-(2**63), 2**63)) >> int(rng.integers(0, 60)))
        for _ in range(112)
    ]
    x, y = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    out = np.zeros((x.size, 8), np.int64)
    launch(kernels("arithmetic"), "long_math", 4, 64, [x, y, out, U32(x.size)])
    assert out.tolist() == [long_reference(a, b) for a, b in pairs]


def test_doubles(kernels):
    rng = RNG(20)
    x, y = (rng.standard_normal(200) * 10.0 ** rng.integers(-3, 5, 200) for _ in range(2))
    out = np.zeros((200, 8))
    launch(kernels("arithmetic"), "double_math", 4, 64, [x, y, out, U32(200)])
    with np.errstate(all="ignore"):
        assert np.array_equal(out[:, 0], x + y)
        assert np.array_equal(out[:, 1], x * y)
        assert np.allclose(out[:, 2], x / y, rtol=5e-16)
        assert np.allclose(out[:, 3], np.sqrt(np.abs(x)), rtol=5e-16)
        exact = (x.astype(np.longdouble) * y - x).astype(np.float64)
        assert np.allclose(out[:, 4], exact, rtol=1e-15)
        assert np.allclose(out[:, 5], np.floor(x) + np.ceil(y) + np.trunc(x * 3) + np.rint(y * 5), rtol=1e-15)
        chosen = np.where(x < y, np.trunc(x), np.trunc(np.abs(y)))
        assert np.array_equal(out[:, 6], chosen)
        assert np.allclose(out[:, 7], np.minimum(x, y) - np.maximum(x, y) + x.astype(np.float32), rtol=1e-15)


def test_floats(kernels):
    rng = RNG(21)
    x, y = (
        (rng.standard_normal(200) * 10.0 ** rng.integers(-2, 3, 200)).astype(np.float32) for _ in range(2)
    )
    out = np.zeros((200, 6), np.float32)
    launch(kernels("arithmetic"), "float_math", 4, 64, [x, y, out, U32(200)])
    wx, wy = x.astype(np.float64), y.astype(np.float64)
    assert np.array_equal(out[:, 0], (x / y))
    assert np.array_equal(out[:, 1], np.sqrt(np.abs(x)))
    assert np.array_equal(out[:, 2], (wx * wy + 1).astype(np.float32))
    scaled = (
        np.trunc((x * np.float32(1e6)).astype(np.float64)),
        np.trunc((np.abs(y) * np.float32(1e9)).astype(np.float64)),
    )
    assert np.array_equal(out[:, 3], scaled[0].astype(np.float32) + scaled[1].astype(np.float32))
    expected = np.floor(x) - np.rint(y) + np.where(x > y, np.trunc(x), -y)
    assert np.allclose(out[:, 4], expected, rtol=1e-6)
    assert np.allclose(out[:, 5], np.trunc(x) + np.trunc(np.abs(y)) + np.copysign(x, y), rtol=1e-6, atol=1e-5)


def test_halves(kernels):
    x, y = (RNG(22 + k).standard_normal(200).astype(np.float16) for k in range(2))
    out = np.zeros((200, 4), np.float16)
    launch(kernels("arithmetic"), "half_math", 4, 64, [x, y, out, U32(200)])
    wx, wy = x.astype(np.float64), y.astype(np.float64)
    expected = [wx + wy, wx * wy, (wx * wy + 1).astype(np.float32), np.where(wx < wy, -wx, wy)]
    for k, value in enumerate(expected):
        assert np.array_equal(out[:, k], value.astype(np.float16)), k


def test_packed_math(kernels):
    rng = RNG(24)
    a, b = (rng.standard_normal((64, 2)).astype(np.float16) for _ in range(2))
    c = rng.standard_normal((64, 2)).astype(np.float32)
    s = rng.integers(-300, 300, (64, 2)).astype(np.int16)
    out, fout, sout = np.zeros_like(a), np.zeros_like(c), np.zeros_like(s)
    launch(kernels("arithmetic"), "packed", 1, 64, [a, b, out, c, fout, s, sout])
    assert np.array_equal(out, (a.astype(np.float64) * b + 1.5).astype(np.float16))
    assert np.array_equal(fout, (c.astype(np.float64) * c[:, ::-1] + 2).astype(np.float32))
    assert np.array_equal(sout, (s.astype(np.int64) * s[:, ::-1] + [3, -7]).astype(np.int16))


def dynamic_reference(v: int, i: int, rounds: int) -> int:
    box = [(v + k) % 2**32 for k in range(96)]
    for r in range(rounds):
        box[(v + r * 7) % 2**32 % 96] ^= (box[(r + i) % 96] * 5 + r) % 2**32
    total = 0
    for entry in box:
        total = (total * 31 + entry) % 2**32
    return total


def test_private_arrays_in_scratch(kernels):
    values = words(25, 192, 1 << 31)
    out = np.zeros_like(values)
    code = kernels("arithmetic")
    assert (
        code.kernel("dynamic_index").descriptor.private_segment_fixed_size >= 384
    )  # else it tests something else
    launch(code, "dynamic_index", 3, 64, [values, out, U32(20)])
    assert out.tolist() == [dynamic_reference(int(v), i, 20) for i, v in enumerate(values)]


def mix(box: list[int], n: int, seed: int) -> int:
    for k in range(n):
        box[k] = (box[k] + seed * (k + 1)) % 2**32
        seed ^= box[k] >> 3
    return seed


def test_function_calls_with_pointers_to_private_memory(kernels):
    values = words(26, 192, 1 << 20)
    out = np.zeros_like(values)
    launch(kernels("arithmetic"), "called", 3, 64, [values, out])
    for i, v in enumerate(values.tolist()):
        box = [v * (k + 3) % 2**32 for k in range(6)]
        a = mix(box, 6, v)
        b = mix(box, 3, a)
        assert out[i] == (a + b + box[v % 6]) % 2**32


@pytest.mark.parametrize("pick", [0, 7, 15])
def test_uniform_vector_index(kernels, pick):
    values = words(27, 64 * 16).reshape(64, 16)
    out = np.zeros(64, np.uint32)
    launch(kernels("arithmetic"), "uniform_index", 1, 64, [values, out, U32(pick)])
    rows = values.copy()
    rows[:, pick * 3 & 15] = 77
    lane = np.arange(64)
    assert np.array_equal(out, rows[:, pick & 15] + rows[lane, (pick + lane % 4) & 15])


def test_lane_operations(kernels):
    values = words(28, 64)
    out = np.zeros((64, 8), np.uint32)
    launch(kernels("arithmetic"), "lanes", 1, 64, [values, out])
    lane = np.arange(64)
    assert (out[:, 0] == values[0]).all()
    assert (out[:, 1] == values[37]).all()
    assert np.array_equal(out[:, 2], values[lane * 7 & 63])
    assert np.array_equal(out[:, 3], values[(lane - 3) & 63])
    assert np.array_equal(out[:, 4], values[lane ^ 1])  # and 0x1f, or 0, xor 1
    assert np.array_equal(out[:, 5], np.where(lane % 16 >= 1, values[lane - 1], 0))  # row_shr:1 bound_ctrl:0
    moved = np.where((lane % 16 < 15) & (lane % 16 // 4 % 2 == 1), values[(lane + 1) & 63], values + 1)
    assert np.array_equal(out[:, 6], moved)  # row_shl:1, banks 1 and 3 only, the old value elsewhere
    ballot = sum(int(v & 1) << i for i, v in enumerate(values))
    below = np.array([(ballot & ((1 << i) - 1)).bit_count() for i in range(64)], np.uint32)
    assert np.array_equal(out[:, 7], np.uint32(ballot & 0xFFFFFFFF) ^ np.uint32(ballot >> 32) ^ below)


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_unoptimized_code(built, arch):
    """All variables in scratch, every access through flat pointers, every helper a call."""
    basic, arithmetic, shared = (
        built(name, arch, "ziglang", optimize=False) for name in ("basic", "arithmetic", "shared")
    )
    assert basic.kernel("collatz").descriptor.private_segment_fixed_size > 0
    limits = RNG(5).integers(0, 40, 128).astype(np.int32)
    out = np.zeros(128, np.int32)
    launch(basic, "nested", 2, 64, [limits, out, U32(128)])
    assert out.tolist() == [nested_reference(int(v)) for v in limits]
    values = words(25, 64, 1 << 31)
    result = np.zeros_like(values)
    launch(arithmetic, "dynamic_index", 1, 64, [values, result, U32(20)])
    assert result.tolist() == [dynamic_reference(int(v), i, 20) for i, v in enumerate(values)]
    numbers = RNG(6).integers(-50, 50, 2 * 128).astype(np.float32)
    sums = np.zeros(2, np.float32)
    launch(shared, "reduce", 2, 128, [numbers, sums, U32(256)])
    assert np.array_equal(sums, numbers.reshape(2, 128).sum(axis=1))


# --- buffer descriptors ---------------------------------------------------------------------------


def resource(address: int, size: int) -> bytes:
    """A raw buffer descriptor: base, stride 0, num_records in bytes, 32-bit data format."""
    return np.array([address & 0xFFFFFFFF, address >> 32, size, 0x00027000], "<u4").tobytes()


def test_range_checked_copy(kernels):
    memory = DeviceMemory()
    source = RNG(29).integers(0, 256, 4096).astype(np.uint8)
    src, dst = memory.allocate(source), memory.allocate(np.full(4096, 0xEE, np.uint8))
    readable, writable, shift = 1500, 1212, 20
    args = [resource(src, readable), resource(dst, writable), U32(shift)]
    launch(kernels("buffers"), "copy", 4, 64, args, memory=memory)
    got = memory.read(dst, np.uint8, 4096)
    # dword by dword: word i is read from byte 4i + shift, and is 0 where that lies at or past the end
    word = np.arange(1024) * 4
    expected = np.where(
        (word + shift < readable)[:, None], source.reshape(-1, 4)[(word + shift) // 4 % 1024], 0
    ).reshape(-1)
    assert np.array_equal(got[:writable], expected[:writable])
    assert (got[writable:] == 0xEE).all()


def test_pieces_of_every_width(kernels):
    memory = DeviceMemory()
    source = RNG(30).integers(0, 256, 1024).astype(np.uint8)
    src, dst = memory.allocate(source), memory.allocate(np.full(64 * 32, 0xEE, np.uint8))
    limit = 512
    launch(kernels("buffers"), "pieces", 1, 64, [resource(src, limit), resource(dst, 64 * 32)], memory=memory)
    got = memory.read(dst, np.uint8, (64, 32))
    visible = np.concatenate((np.where(np.arange(1024) < limit, source, 0), np.zeros(64, np.uint8)))

    def at(start: int, size: int) -> list[int]:
        words = [
            visible[i : i + min(4, size)] if i < limit else np.zeros(min(4, size), np.uint8)
            for i in range(start, start + size, 4)
        ]
        return np.concatenate(words).tolist()

    for t in range(64):
        row = [*at(t + 3, 1), 0, 0, 0, *at(2 * t + 4, 2), 0, 0, *at(12 * t + 8, 12), *at(8 * t, 8)]
        row += [t, 0xEE, t * 257 & 255, t * 257 >> 8]
        assert got[t].tolist() == row, t


# --- faults ---------------------------------------------------------------------------------------


def test_access_past_an_allocation_says_where_and_what_and_who(kernels):
    x, y = np.zeros(200, np.float32), np.zeros(300, np.float32)
    with pytest.raises(EmulationError) as caught:
        launch(kernels("basic"), "saxpy", 2, 128, [x, y, np.float32(1), U32(300)])
    found = re.match(
        r"saxpy\+0x(\w+) `(global_load_dword v\d+, .*)` \((\w{8}) (\w{8}), pc 0x(\w+)\), "
        r"wave 1 of workgroup 1, lanes 0xffffffffffffff00, first lane 8: 4 bytes at address",
        str(caught.value),
    )
    assert found, caught.value
    offset, text, low, high, pc = found.groups()
    kernel = kernels("basic").kernel("saxpy")
    at = int(offset, 16)
    assert int(pc, 16) == kernel.entry + at
    assert kernel.code[at : at + 8] == struct.pack("<II", int(low, 16), int(high, 16))
    listed = disassemble(kernel.code, kernels("basic").arch, kernel.entry)
    assert [ins.text for ins in listed if ins.pc == int(pc, 16)] == [text]


def test_an_endless_loop_meets_the_limit(kernels):
    box, out = np.zeros(2, np.uint32), np.zeros(64, np.uint32)
    with pytest.raises(EmulationError, match="more than 5000 wave-instructions"):
        launch(kernels("atomics"), "flag", 1, 64, [box, out], limit=5000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"args": []}, "takes 4 arguments, 0 given"),
        ({"kernel": "nothing"}, "no kernel 'nothing'"),
        ({"block": 2048}, "at most 1024"),
        ({"grid": 0}, "at least 1"),
        ({"dynamic_lds": 1 << 20}, "at most 65536"),
    ],
)
def test_bad_launches(kernels, change, message):
    x = np.zeros(64, np.float32)
    call = {
        "kernel": "saxpy",
        "grid": 1,
        "block": 64,
        "args": [x, x, np.float32(1), U32(64)],
        "dynamic_lds": 0,
    } | change
    with pytest.raises(PetitgenError, match=message):
        launch(kernels("basic"), **call)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (2, np.float64(1), "has 4 bytes, the value given has 8"),
        (2, np.zeros(1, np.float32), "goes by value"),
        (3, 1 << 40, "does not fit into 4 bytes"),
        (3, "n", "a str; pass"),
    ],
)
def test_bad_arguments(kernels, position, value, message):
    x = np.zeros(64, np.float32)
    args = [x, x, np.float32(1), U32(64)]
    args[position] = value
    with pytest.raises(EmulationError, match=message):
        launch(kernels("basic"), "saxpy", 1, 64, args)
