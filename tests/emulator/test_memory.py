"""SMEM, MUBUF, FLAT, GLOBAL and SCRATCH by assembled programs, against address arithmetic on Python
integers."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from petitgen.emulator.memory import BASE
from petitgen.errors import EmulationError

from .assembled import ALL, Machine

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
RNG = np.random.default_rng(13)
LANE = np.arange(64)
MASK = 0xF00F_1234_8000_0001
ON = np.array([MASK >> i & 1 for i in range(64)], bool)
SIZE = 4096


def returning(arch: str) -> str:
    """The bit that makes an atomic return the old value."""
    return "sc0" if arch == "gfx942" else "glc"


def words(count: int = 64, high: int = 1 << 32) -> np.ndarray:
    return RNG.integers(0, high, count, dtype=np.uint64).astype(np.uint32)


class Device(Machine):
    """A machine with one buffer of random bytes."""

    def __init__(self, arch: str, waves: int = 1, **more: int) -> None:
        super().__init__(arch, waves, waves, **more)
        self.data = RNG.integers(0, 256, SIZE).astype(np.uint8)
        self.address = self.memory.allocate(self.data)

    def bytes(self) -> bytearray:
        return bytearray(self.memory.read(self.address, np.uint8, SIZE).tobytes())

    def word(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self.data[offset : offset + size].tobytes(), "little")

    def pointers(self, register: int, offsets: np.ndarray) -> None:
        """64-bit addresses in a VGPR pair."""
        address = self.address + offsets.astype(np.int64)
        self.v[register], self.v[register + 1] = address & 0xFFFFFFFF, address >> 32

    def resource(
        self, first: int, records: int, stride: int = 0, swizzle: int = 0, word3: int = 0x27000
    ) -> None:
        address = self.address
        self.quad(first, address & 0xFFFFFFFF, address >> 32 | stride << 16 | swizzle << 31, records, word3)


# --- scalar ---------------------------------------------------------------------------------------


@BOTH
def test_scalar_loads(arch):
    m = Device(arch, waves=3)
    m.pair(4, m.address)
    m.s[:, 6] = [0, 64, 128]
    m.run(
        """s_load_dword s8, s[4:5], 0x14
        s_load_dwordx2 s[10:11], s[4:5], s6
        s_load_dwordx4 s[12:15], s[4:5], 0x40
        s_load_dwordx8 s[16:23], s[4:5], s6 offset:0x20
        s_load_dwordx16 s[24:39], s[4:5], 0x100
        s_load_dword s40, s[4:5], 0x17
        s_load_dwordx2 vcc, s[4:5], 0x0"""
    )
    memory = m.data.view(np.uint32)
    for wave in range(3):
        s, shift = m.s[wave], 16 * wave
        assert s[8] == memory[5]
        assert np.array_equal(s[10:12], memory[shift : shift + 2])
        assert np.array_equal(s[12:16], memory[16:20])
        assert np.array_equal(s[16:24], memory[shift + 8 : shift + 16])
        assert np.array_equal(s[24:40], memory[64:80])
        assert s[40] == memory[5]  # the two low bits are ignored
        assert np.array_equal(s[106:108], memory[0:2])


@BOTH
def test_scalar_load_below_its_base(arch):
    m = Device(arch)
    m.pair(4, m.address + 512)
    m.run("s_load_dwordx2 s[8:9], s[4:5], -0x10")
    assert np.array_equal(m.s[0, 8:10], m.data.view(np.uint32)[124:126])


@BOTH
def test_scalar_buffer_loads_are_clamped(arch):
    m = Device(arch)
    m.resource(4, 40)
    m.s[:, 20] = 28
    m.run(
        """s_buffer_load_dwordx4 s[8:11], s[4:7], s20
        s_buffer_load_dword s12, s[4:7], 0x24
        s_buffer_load_dword s13, s[4:7], 0x28"""
    )
    memory = m.data.view(np.uint32)
    assert m.s[0, 8:14].tolist() == [*memory[7:10].tolist(), 0, memory[9], 0]


@BOTH
def test_scalar_load_outside_memory(arch):
    m = Device(arch)
    m.pair(4, m.address + SIZE - 8)
    with pytest.raises(
        EmulationError, match=r"s_load_dwordx4 at pc 0x1000 \(.*\), wave 0 of workgroup 0: .* outside every allocation"
    ):
        m.run("s_load_dwordx4 s[8:11], s[4:5], 0x0")


@BOTH
def test_clock_runs_forward(arch):
    m = Device(arch).run("s_memtime s[4:5]\ns_nop 0\ns_branch 0\ns_memtime s[6:7]\ns_memrealtime s[8:9]")
    assert m.s[0, 6] > m.s[0, 4]


# --- loads and stores -----------------------------------------------------------------------------

LOADS = [
    ("ubyte", 1, False, None), ("sbyte", 1, True, None), ("ushort", 2, False, None),
    ("sshort", 2, True, None),
    ("dword", 4, False, None), ("dwordx2", 8, False, None), ("dwordx3", 12, False, None),
    ("dwordx4", 16, False, None),
    ("ubyte_d16", 1, False, 0), ("ubyte_d16_hi", 1, False, 1), ("sbyte_d16", 1, True, 0),
    ("sbyte_d16_hi", 1, True, 1),
    ("short_d16", 2, False, 0), ("short_d16_hi", 2, False, 1),
]  # fmt: skip
STORES = [
    ("byte", 1, 0), ("byte_d16_hi", 1, 1), ("short", 2, 0), ("short_d16_hi", 2, 1), ("dword", 4, 0),
    ("dwordx2", 8, 0),
    ("dwordx3", 12, 0), ("dwordx4", 16, 0),
]  # fmt: skip


def block(first: int, size: int) -> str:
    count = max(1, size // 4)
    return f"v{first}" if count == 1 else f"v[{first}:{first + count - 1}]"


def loaded(value: int, size: int, signed: bool, half: int | None, old: int) -> int:
    if signed and value >> (8 * size - 1):
        value -= 1 << 8 * size
    if half is None:
        return value
    return old & 0xFFFF0000 | value & 0xFFFF if half == 0 else old & 0xFFFF | (value & 0xFFFF) << 16


# family: (text of the address operands, set-up of the machine with lane offsets)
def _global_pointer(m: Device, offsets: np.ndarray) -> str:
    m.pointers(0, offsets - 20)
    return "v[0:1], {}off offset:20"


def _global_base(m: Device, offsets: np.ndarray) -> str:
    m.pair(4, m.address + 100)
    m.v[0] = offsets
    return "v0, {}s[4:5] offset:-100"


def _flat(m: Device, offsets: np.ndarray) -> str:
    m.pointers(0, offsets - 12)
    return "v[0:1]{} offset:12"


WAYS: dict[str, tuple[str, Callable[[Device, np.ndarray], str]]] = {
    "pointer": ("global", _global_pointer), "base": ("global", _global_base), "flat": ("flat", _flat),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mask", [ALL, MASK])
@pytest.mark.parametrize(("name", "size", "signed", "half"), LOADS)
def test_loads(arch, way, mask, name, size, signed, half):
    family, setup = WAYS[way]
    m = Device(arch)
    offsets = RNG.integers(0, SIZE - 16, 64) // (1 if size % 4 else 4) * (1 if size % 4 else 4)
    address = setup(m, offsets).format("")
    m.v[4] = old = words()
    m.pair(126, mask)
    before = m.v[4:8, 0].copy()
    m.run(f"{family}_load_{name} {block(4, size)}, {address}")
    for lane in range(64):
        value = loaded(m.word(int(offsets[lane]), size), size, signed, half, int(old[lane]))
        for k in range(max(1, size // 4)):
            expected = value >> 32 * k & 0xFFFFFFFF if mask >> lane & 1 else before[k, lane]
            assert m.v[4 + k, 0, lane] == expected, (lane, k)


@BOTH
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mask", [ALL, MASK])
@pytest.mark.parametrize(("name", "size", "half"), STORES)
def test_stores(arch, way, mask, name, size, half):
    family, setup = WAYS[way]
    m = Device(arch)
    offsets = RNG.permutation(SIZE // 32)[:64] * 32 + LANE % (
        8 if size % 4 else 1
    )  # apart: no lane meets another
    address = setup(m, offsets).format(block(4, size) + ", " if way != "flat" else ", " + block(4, size))
    rows = [words() for _ in range(4)]
    for k, row in enumerate(rows):
        m.v[4 + k] = row
    m.pair(126, mask)
    memory = m.bytes()
    m.run(f"{family}_store_{name} {address}")
    for lane in range(64):
        if mask >> lane & 1:
            value = sum(int(row[lane]) << 32 * k for k, row in enumerate(rows)) >> 16 * half
            at = int(offsets[lane])
            memory[at : at + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    assert m.bytes() == memory


@BOTH
def test_misaligned_dwords(arch):
    m = Device(arch)
    m.pointers(0, LANE * 40 + 1)
    m.run(
        """global_load_dwordx2 v[4:5], v[0:1], off
        s_waitcnt vmcnt(0)
        global_store_dwordx2 v[0:1], v[4:5], off offset:9"""
    )
    memory = m.bytes()
    for lane in range(64):
        at = lane * 40 + 1
        assert int(m.v[4, 0, lane]) | int(m.v[5, 0, lane]) << 32 == m.word(at, 8)
        assert memory[at + 9 : at + 17] == m.data[at : at + 8].tobytes()


@BOTH
def test_one_flat_load_may_reach_all_three_memories(arch):
    m = Device(arch, private=64)
    scratch = m.memory.allocate(np.arange(64 * 16, dtype=np.uint32))  # dword d of lane l is number 64 d + l
    m.pair(102, scratch)
    m.batch.lds[:1024] = np.arange(256, dtype=np.uint32).view(np.uint8)
    target = LANE % 4  # global, LDS, scratch, off
    m.pointers(0, LANE * 8)
    m.v[0] = np.where(target == 1, LANE * 4, np.where(target == 2, LANE % 16 * 4, m.v[0]))
    m.v[1] = np.where(target == 1, 0x10000, np.where(target == 2, 0x20000, m.v[1]))
    m.v[4] = 77
    m.pair(126, sum(1 << i for i in range(64) if target[i] != 3))
    m.run(
        """flat_load_dword v4, v[0:1]
        s_waitcnt vmcnt(0) lgkmcnt(0)
        v_add_u32 v5, 1, v4
        flat_store_dword v[0:1], v5"""
    )
    data = m.data.view(np.uint32)
    expected = np.select(
        [target == 0, target == 1, target == 2], [data[LANE * 2], LANE, LANE % 16 * 64 + LANE], 77
    )
    assert np.array_equal(m.v[4, 0], expected)
    assert np.array_equal(m.memory.read(m.address, np.uint32, 128)[0::8], data[0:128:8] + 1)
    assert m.batch.lds[:1024].view(np.uint32)[1::4][:16].tolist() == [4 * k + 2 for k in range(16)]
    stored = m.memory.read(scratch, np.uint32, (16, 64))
    for lane in range(64):
        changed = np.flatnonzero(stored[:, lane] != np.arange(16) * 64 + lane)
        assert changed.tolist() == ([lane % 16] if target[lane] == 2 else [])


@BOTH
def test_scratch_is_interleaved(arch):
    m = Device(arch, waves=2, private=256)
    scratch = m.memory.allocate(np.zeros(2 * 64 * 64, np.uint32))
    for wave in range(2):
        m.pair(102, scratch + wave * 64 * 256, wave)
    m.v[0], m.v[4], m.v[5] = LANE % 8 * 4, words(), words()
    m.s[:, 6] = 64
    program = """scratch_store_dwordx2 v0, v[4:5], off offset:16
        scratch_store_dword off, v4, s6 offset:8
        scratch_store_short v0, v5, off offset:130
        s_waitcnt vmcnt(0)
        scratch_load_dwordx2 v[8:9], v0, off offset:16
        scratch_load_sbyte v10, v0, off offset:131"""
    m.run(program)
    stored = m.memory.read(scratch, np.uint32, (2, 64, 64))
    for wave in range(2):
        dword = LANE % 8 + 4
        # the pair of lane l is at dwords d and d + 1, where a later lane's own dwords cannot reach
        assert np.array_equal(stored[wave, dword, LANE], m.v[4, wave])
        assert np.array_equal(stored[wave, dword + 1, LANE], m.v[5, wave])
        assert np.array_equal(stored[wave, 18], m.v[4, wave])
        assert np.array_equal(m.v[8:10, wave], m.v[4:6, wave])
        high = (m.v[5, wave] >> 8).astype(np.uint8).view(np.int8)
        assert np.array_equal(m.v[10, wave].view(np.int32), high)


@BOTH
@pytest.mark.parametrize(
    "instruction", ["scratch_load_dword v1, v0, off offset:4", "scratch_store_dwordx2 v0, v[4:5], off"]
)
def test_scratch_past_its_end(arch, instruction):
    m = Device(arch, private=64)
    m.pair(102, m.memory.allocate(64 * 64))
    m.v[0] = np.where(LANE == 9, 60, 0)
    with pytest.raises(
        EmulationError, match=r"lane 9: . bytes at scratch address 0x.*, past the 64 bytes a lane has"
    ):
        m.run(instruction)


@BOTH
def test_a_wild_pointer_names_lane_and_distance(arch):
    m = Device(arch)
    m.pointers(0, np.where(LANE == 21, SIZE + 3, LANE * 4))
    pattern = (
        rf"lane 21: 4 bytes at address {m.address + SIZE + 3:#x} .* 3 bytes past the end of .*{SIZE} bytes"
    )
    with pytest.raises(EmulationError, match=pattern):
        m.run("global_load_dword v4, v[0:1], off")


# --- atomics --------------------------------------------------------------------------------------


def s(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def integer_atomics(bits: int) -> dict:
    suffix = "" if bits == 32 else "_x2"
    table = {
        "swap": lambda old, x: x,
        "add": lambda old, x: old + x,
        "sub": lambda old, x: old - x,
        "smin": lambda old, x: min(s(old, bits), s(x, bits)),
        "umin": min,
        "smax": lambda old, x: max(s(old, bits), s(x, bits)),
        "umax": max,
        "and": lambda old, x: old & x,
        "or": lambda old, x: old | x,
        "xor": lambda old, x: old ^ x,
        "inc": lambda old, x: 0 if old >= x else old + 1,
        "dec": lambda old, x: x if old == 0 or old > x else old - 1,
    }
    return {f"{name}{suffix}": (bits, function) for name, function in table.items()}


ATOMICS = {**integer_atomics(32), **integer_atomics(64), "cmpswap": (32, None), "cmpswap_x2": (64, None)}


@BOTH
@pytest.mark.parametrize("family", ["global", "flat", "buffer"])
@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("name", ATOMICS)
def test_integer_atomics_with_colliding_lanes(arch, family, returns, name):
    bits, function = ATOMICS[name]
    size, n = bits // 8, bits // 32
    operands = 2 if function is None else 1
    m = Device(arch)
    offsets = RNG.integers(0, 9, 64) * size
    m.memory.write(m.address, np.tile(np.frombuffer((5).to_bytes(size, "little"), np.uint8), 9))
    rows = [words(high=8 if k % n == 0 else 2) for k in range(operands * n)]
    for k, row in enumerate(rows):
        m.v[4 + k] = row
    m.pair(126, MASK | 0xFFFF)
    m.pointers(0, offsets)
    m.v[2] = offsets
    m.resource(8, 8 * size)  # the ninth word is out of range
    data, out = block(4, operands * size), block(12, size)
    end = " " + returning(arch) if returns else ""
    text = {
        "global": f"global_atomic_{name} {out + ', ' if returns else ''}v[0:1], {data}, off{end}",
        "flat": f"flat_atomic_{name} {out + ', ' if returns else ''}v[0:1], {data}{end}",
        "buffer": f"buffer_atomic_{name} {data}, v2, s[8:11], 0 offen{end}",
    }[family]
    result = 4 if family == "buffer" else 12
    memory = m.bytes()
    m.run(text)
    for lane in np.flatnonzero([(MASK | 0xFFFF) >> i & 1 for i in range(64)]):
        at = int(offsets[lane])
        values = [sum(int(rows[k * n + j][lane]) << 32 * j for j in range(n)) for k in range(operands)]
        old = int.from_bytes(memory[at : at + size], "little")
        dropped = family == "buffer" and at >= 8 * size
        new = (values[0] if old == values[1] else old) if function is None else function(old, values[0])
        if not dropped:
            memory[at : at + size] = (new & ((1 << bits) - 1)).to_bytes(size, "little")
        if returns:
            got = sum(int(m.v[result + j, 0, lane]) << 32 * j for j in range(n))
            assert got == (0 if dropped else old), lane
    assert m.bytes() == memory


FLOATS = {"add_f32": np.float32, "add_f64": np.float64, "min_f64": np.float64, "max_f64": np.float64}


@BOTH
@pytest.mark.parametrize("name", FLOATS)
def test_float_atomics(arch, name):
    dtype = FLOATS[name]
    size = dtype().itemsize
    m = Device(arch)
    start, data = (RNG.integers(-99, 99, n).astype(dtype) for n in (4, 64))
    m.memory.write(m.address, start)
    m.pointers(0, LANE % 4 * size)
    m.v[4 : 4 + size // 4] = data.view(np.uint32).reshape(64, -1).T[:, None, :]
    m.run(f"global_atomic_{name} v[0:1], {block(4, size)}, off")
    reduce = {"add": np.sum, "min": np.min, "max": np.max}[name[:3]]
    expected = [reduce(np.append(data[k::4], start[k])) for k in range(4)]
    assert m.memory.read(m.address, dtype, 4).tolist() == expected


@pytest.mark.parametrize(("arch", "kind"), [("gfx90a", "f16"), ("gfx942", "f16"), ("gfx942", "bf16")])
def test_packed_float_atomics_when_lanes_collide(arch, kind):
    dtype = np.float16 if kind == "f16" else ml_dtypes.bfloat16
    m = Device(arch)
    start, data = (RNG.standard_normal((n, 2)).astype(dtype) for n in (2, 64))
    m.memory.write(m.address, np.ascontiguousarray(start).view(np.uint8))
    m.pointers(0, LANE % 2 * 4)
    m.v[4] = np.ascontiguousarray(data).view(np.uint32)[:, 0]
    m.run(f"global_atomic_pk_add_{kind} v[0:1], v4, off")
    expected = start.copy()
    for lane in range(64):  # one after the other, each sum rounded
        expected[lane % 2] = (expected[lane % 2].astype(np.float32) + data[lane].astype(np.float32)).astype(
            dtype
        )
    got = m.memory.read(m.address, np.uint16, (2, 2))
    assert np.array_equal(got, np.ascontiguousarray(expected).view(np.uint16))


@BOTH
def test_misaligned_atomic(arch):
    m = Device(arch)
    m.pointers(0, LANE * 4 + (LANE == 3))
    with pytest.raises(EmulationError, match=r"lane 3: an atomic of 4 bytes at a misaligned address"):
        m.run("global_atomic_add v[0:1], v4, off")


# --- buffers --------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("soffset", ["0", "16", "s20"])
@pytest.mark.parametrize("records", [SIZE, 1000, 997, 0])
@pytest.mark.parametrize(("name", "size", "signed", "half"), LOADS)
def test_raw_buffer_loads(arch, soffset, records, name, size, signed, half):
    m = Device(arch)
    m.resource(8, records)
    m.s[:, 20] = 36
    extra = {"0": 0, "16": 16, "s20": 36}[soffset] + 8
    offsets = RNG.integers(0, 1100, 64) // 4 * 4
    m.v[0], m.v[4] = offsets, words()
    old = m.v[4, 0].copy()
    m.run(f"buffer_load_{name} {block(4, size)}, v0, s[8:11], {soffset} offen offset:8")
    for lane in range(64):
        at = int(offsets[lane]) + extra
        parts = [
            m.word(at + 4 * k, min(size, 4)) if at + 4 * k < records else 0 for k in range(max(1, size // 4))
        ]
        for k, value in enumerate(parts):
            expected = loaded(value, size, signed, half, int(old[lane])) & 0xFFFFFFFF
            assert m.v[4 + k, 0, lane] == expected, (lane, k)


@BOTH
@pytest.mark.parametrize("records", [SIZE, 1000])
@pytest.mark.parametrize(("name", "size", "half"), STORES)
def test_raw_buffer_stores(arch, records, name, size, half):
    m = Device(arch)
    m.resource(8, records)
    offsets = RNG.permutation(128)[:64] * 16
    rows = [words() for _ in range(4)]
    m.v[0] = offsets
    for k, row in enumerate(rows):
        m.v[4 + k] = row
    m.pair(126, MASK | 0xFF00FF)
    memory = m.bytes()
    m.run(f"buffer_store_{name} {block(4, size)}, v0, s[8:11], 4 offen offset:4")
    for lane in np.flatnonzero([(MASK | 0xFF00FF) >> i & 1 for i in range(64)]):
        for k in range(max(1, size // 4)):
            at = int(offsets[lane]) + 8 + 4 * k
            if at < records:
                value = int(rows[k][lane]) >> 16 * half
                memory[at : at + min(size, 4)] = (value & ((1 << 8 * min(size, 4)) - 1)).to_bytes(
                    min(size, 4), "little"
                )
    assert m.bytes() == memory


@BOTH
def test_each_wave_has_its_own_descriptor(arch):
    m = Device(arch, waves=3)
    m.resource(8, 256)
    m.s[:, 8] += np.array([0, 256, 512], np.uint32)
    m.s[:, 10] = [256, 128, 0]
    m.v[0] = LANE * 4
    m.run("buffer_load_dword v4, v0, s[8:11], 0 offen")
    data = m.data.view(np.uint32)
    for wave, records in enumerate((256, 128, 0)):
        assert np.array_equal(m.v[4, wave], np.where(records > LANE * 4, data[64 * wave + LANE], 0))


@BOTH
@pytest.mark.parametrize("swizzle", [0, 1])
@pytest.mark.parametrize("add_tid", [0, 1])
def test_structured_buffers(arch, swizzle, add_tid):
    """idxen and offen together: index * stride + offset, or its swizzled form with an index stride of 16."""
    stride, records, index_stride = 24, (20 if swizzle else 500), 16
    m = Device(arch)
    m.resource(8, records, stride, swizzle, word3=1 << 21 | add_tid << 23 | (0 if add_tid else 0x27000))
    index = (RNG.integers(0, 8, 64) if add_tid else RNG.integers(0, 26, 64)).astype(np.int64)
    offset = RNG.integers(0, 8, 64) * 4
    m.v[0], m.v[1] = index, offset
    m.run("buffer_load_dwordx2 v[4:5], v[0:1], s[8:11], 8 idxen offen offset:4")
    for lane in range(64):
        row = int(index[lane]) + (lane if add_tid else 0)
        for k in range(2):
            at = int(offset[lane]) + 4 + 4 * k
            if swizzle:
                place = (row // index_stride * stride + at) * index_stride + row % index_stride * 4
                inside = row < records and at < stride
            else:
                place = row * stride + at
                inside = place < records - 8
            expected = m.word(place + 8) if inside else 0
            assert m.v[4 + k, 0, lane] == expected, (lane, k)


@BOTH
def test_swizzled_buffer_is_scratch(arch):
    """The private segment buffer of the ABI: stride 0, 4-byte elements, 64 lanes interleaved."""
    m = Device(arch)
    m.resource(8, 0xFFFFFFFF, 0, 1, word3=1 << 23 | 3 << 21)
    m.s[:, 20] = 256
    m.run("buffer_load_dwordx2 v[4:5], off, s[8:11], s20 offset:8")
    data = m.data.view(np.uint32)
    assert np.array_equal(m.v[4:6, 0], [data[64 + 2 * 64 + LANE], data[64 + 3 * 64 + LANE]])


@BOTH
@pytest.mark.parametrize(("name", "size"), [("ubyte", 1), ("ushort", 2), ("dword", 4)])
def test_buffer_load_to_lds(arch, name, size):
    m = Device(arch)
    m.resource(8, 200)
    m.s[:, 124] = 64
    m.batch.lds[:] = 0xAA
    m.v[0] = offsets = RNG.permutation(64) * 4
    m.pair(126, MASK)
    m.run(f"buffer_load_{name} v0, s[8:11], 0 offen offset:4 lds")
    got = m.batch.lds[64 + 4 : 64 + 4 + 256].view(np.uint32)
    for lane in range(64):
        at = int(offsets[lane]) + 4
        value = m.word(at, size) if at < 200 else 0
        assert got[lane] == (value if ON[lane] else 0xAAAAAAAA), lane


@pytest.mark.parametrize(("name", "size"), [("ubyte", 1), ("sshort", 2), ("dword", 4)])
def test_global_load_to_lds(name, size):
    m = Device("gfx942")
    m.pair(4, m.address)
    m.s[:, 124] = 128
    m.v[0] = offsets = RNG.permutation(64) * 4
    m.run(f"global_load_lds_{name} v0, s[4:5] offset:8")
    got = m.batch.lds[128 + 8 :][:256].view(np.uint32)
    for lane in range(64):
        value = m.word(int(offsets[lane]) + 8, size)
        value = s(value, 16) & 0xFFFFFFFF if name == "sshort" else value
        assert got[lane] == value


@BOTH
def test_buffer_that_describes_more_than_there_is(arch):
    m = Device(arch)
    m.resource(8, SIZE + 64)
    m.v[0] = LANE * 4 + SIZE - 128
    with pytest.raises(
        EmulationError, match=r"buffer_load_dword at pc 0x1000 .* lane 32: .* outside every allocation"
    ):
        m.run("buffer_load_dword v4, v0, s[8:11], 0 offen")


@BOTH
def test_addresses_stay_48_bits(arch):
    m = Device(arch)
    assert m.address >= BASE
    assert m.address >> 48 == 0
