"""DS instructions by assembled programs; the LDS is a Python bytearray in the expectations."""

from __future__ import annotations

import numpy as np
import pytest

from .assembled import ALL, Machine

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
RNG = np.random.default_rng(11)
LANE = np.arange(64)
MASK = 0xF00F_1234_8000_0001
SIZE = 1024


def on(mask: int) -> np.ndarray:
    return np.array([mask >> i & 1 for i in range(64)], bool)


def words(count: int = 64, high: int = 1 << 32) -> np.ndarray:
    return RNG.integers(0, high, count, dtype=np.uint64).astype(np.uint32)


def machine(arch: str, mask: int = ALL, **rows: np.ndarray) -> Machine:
    m = Machine(arch, lds=SIZE)
    m.batch.lds[:SIZE] = RNG.integers(0, 256, SIZE)
    m.pair(126, mask)
    for name, row in rows.items():
        m.v[int(name[1:])] = row
    return m


def lds(m: Machine) -> bytearray:
    return bytearray(m.batch.lds[:SIZE].tobytes())


def load(memory: bytearray, address: int, size: int) -> int:
    """0 where any of it lies outside."""
    inside = address + size <= SIZE
    return int.from_bytes(memory[address : address + size], "little") if inside else 0


def store(memory: bytearray, address: int, value: int, size: int) -> None:
    if address + size <= SIZE:
        memory[address : address + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


# Addresses in all alignments, some past the end, some far outside, some that wrap to a small one with the
# offset added.
ADDRESSES = np.concatenate((RNG.integers(0, SIZE, 52),
    [SIZE - 4, SIZE - 2, SIZE - 1, SIZE, SIZE + 5, 0xFFFF0000, 0xFFFFFFF8] * 1,
                            [0xFFFFFFFF, 0, 1, 2, 3])).astype(np.uint32)  # fmt: skip
OFFSET = 12


@BOTH
@pytest.mark.parametrize("mask", [ALL, MASK])
@pytest.mark.parametrize(
    ("name", "size", "signed", "half"),
    [
        ("u8", 1, False, None), ("i8", 1, True, None), ("u16", 2, False, None), ("i16", 2, True, None),
        ("b32", 4, False, None),
        ("b64", 8, False, None), ("b96", 12, False, None), ("b128", 16, False, None),
        ("u8_d16", 1, False, 0), ("u8_d16_hi", 1, False, 1), ("i8_d16", 1, True, 0),
        ("i8_d16_hi", 1, True, 1),
        ("u16_d16", 2, False, 0), ("u16_d16_hi", 2, False, 1),
    ],
)  # fmt: skip
def test_reads(arch, mask, name, size, signed, half):
    registers = max(1, size // 4)
    target = "v4" if registers == 1 else f"v[4:{3 + registers}]"
    m = machine(arch, mask, v0=ADDRESSES, v4=np.full(64, 0x11223344, np.uint32))
    before = m.v[4 : 4 + registers, 0].copy()
    m.run(f"ds_read_{name} {target}, v0 offset:{OFFSET}")
    memory = lds(m)
    for lane in range(64):
        value = load(memory, (int(ADDRESSES[lane]) + OFFSET) % 2**32, size)
        if signed and value >> (8 * size - 1):
            value -= 1 << 8 * size
        if half is not None:
            value = (0x11220000 | value & 0xFFFF) if half == 0 else (0x3344 | (value & 0xFFFF) << 16)
        for k in range(registers):
            expected = value >> 32 * k & 0xFFFFFFFF if on(mask)[lane] else before[k, lane]
            assert m.v[4 + k, 0, lane] == expected, (lane, k)


@BOTH
@pytest.mark.parametrize("mask", [ALL, MASK])
@pytest.mark.parametrize(
    ("name", "size", "half"),
    [
        ("b8", 1, 0),
        ("b16", 2, 0),
        ("b32", 4, 0),
        ("b64", 8, 0),
        ("b96", 12, 0),
        ("b128", 16, 0),
        ("b8_d16_hi", 1, 1),
        ("b16_d16_hi", 2, 1),
    ],
)
def test_writes(arch, mask, name, size, half):
    registers = max(1, size // 4)
    data = [words() for _ in range(registers)]
    m = machine(arch, mask, v0=ADDRESSES, **{f"v{4 + k}": row for k, row in enumerate(data)})
    memory = lds(m)
    source = "v4" if registers == 1 else f"v[4:{3 + registers}]"
    # lanes that overlap have no defined order: keep them apart, at all alignments, and some out of range
    spaced = np.where(LANE < 48, LANE * 20 + LANE % 5, SIZE - OFFSET + LANE).astype(np.uint32)
    m.v[0] = spaced
    m.run(f"ds_write_{name} v0, {source} offset:{OFFSET}")
    for lane in range(64):
        if on(mask)[lane]:
            value = sum(int(row[lane]) << 32 * k for k, row in enumerate(data)) >> 16 * half
            store(memory, (int(spaced[lane]) + OFFSET) % 2**32, value, size)
    assert lds(m) == memory


@BOTH
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("st64", ["", "st64"])
def test_two_addresses(arch, size, st64):
    unit = size * (64 if st64 else 1)
    base = (RNG.permutation(12) * size).astype(np.uint32)
    address = np.resize(base, 64)
    mask = 0xFFF
    first, second = (0, 1) if st64 else (3, 40)
    n = size // 4
    rows = {f"v{4 + k}": words() for k in range(2 * n)}
    m = machine(arch, mask, v0=address, **rows)
    memory = lds(m)
    registers = "v4, v5" if n == 1 else "v[4:5], v[6:7]"
    out = f"v[10:{9 + 2 * n}]"
    m.run(
        f"""ds_read2{st64}_b{8 * size} {out}, v0 offset0:{second} offset1:{first}
        s_waitcnt lgkmcnt(0)
        ds_write2{st64}_b{8 * size} v0, {registers} offset0:{first} offset1:{second}"""
    )
    for lane in range(12):
        for k, place in enumerate((second, first)):
            value = load(memory, int(address[lane]) + place * unit, size)
            got = sum(int(m.v[10 + k * n + j, 0, lane]) << 32 * j for j in range(n))
            assert got == value
    for k, place in enumerate((first, second)):
        for lane in range(12):
            value = sum(int(rows[f"v{4 + k * n + j}"][lane]) << 32 * j for j in range(n))
            store(memory, int(address[lane]) + place * unit, value, size)
    assert lds(m) == memory


def s(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def atomics(bits: int) -> dict:
    top = (1 << bits) - 1
    u, i, b = f"u{bits}", f"i{bits}", f"b{bits}"
    return {
        f"add_{u}": lambda old, x: old + x,
        f"sub_{u}": lambda old, x: old - x,
        f"rsub_{u}": lambda old, x: x - old,
        f"inc_{u}": lambda old, x: 0 if old >= x else old + 1,
        f"dec_{u}": lambda old, x: x if old == 0 or old > x else old - 1,
        f"min_{i}": lambda old, x: min(s(old, bits), s(x, bits)),
        f"max_{i}": lambda old, x: max(s(old, bits), s(x, bits)),
        f"min_{u}": min,
        f"max_{u}": max,
        f"and_{b}": lambda old, x: old & x,
        f"or_{b}": lambda old, x: old | x,
        f"xor_{b}": lambda old, x: old ^ x & top,
    }


EXTRA = {  # (bits, operands, function): not the same spelling with and without rtn
    "mskor_b32": (32, 2, lambda old, x, y: old & ~x | y),
    "mskor_b64": (64, 2, lambda old, x, y: old & ~x | y),
    "cmpst_b32": (32, 2, lambda old, x, y: y if old == x else old),
    "cmpst_b64": (64, 2, lambda old, x, y: y if old == x else old),
}
CASES = {
    **{name: (bits, 1, function) for bits in (32, 64) for name, function in atomics(bits).items()},
    **EXTRA,
}
RETURN_ONLY = {
    "wrxchg_rtn_b32": (32, 1, lambda old, x: x),
    "wrxchg_rtn_b64": (64, 1, lambda old, x: x),
    "wrap_rtn_b32": (32, 2, lambda old, x, y: old - x if old >= x else old + y),
    "condxchg32_rtn_b64": (
        64,
        1,
        lambda old, x: sum(
            ((x >> sh & 0x7FFFFFFF) if x >> sh >> 31 & 1 else old >> sh & 0xFFFFFFFF) << sh for sh in (0, 32)
        ),
    ),
}


@BOTH
@pytest.mark.parametrize("name", [*CASES, *(n.replace("_", "_rtn_", 1) for n in CASES), *RETURN_ONLY])
def test_integer_atomics_with_colliding_lanes(arch, name):
    bits, operands, function = RETURN_ONLY.get(name) or CASES[name.replace("rtn_", "")]
    size, n = bits // 8, bits // 32
    address = (RNG.integers(0, 9, 64) * size).astype(np.uint32)  # 64 lanes on 9 words
    address[5] = SIZE  # out of range: dropped, and 0 comes back
    rows = {f"v{4 + k}": words(high=1 << (32 if k % 2 else 4)) for k in range(operands * n)}
    m = machine(arch, MASK | 0xFF, v0=address, **rows)
    m.batch.lds[: 9 * size] = np.tile(np.frombuffer((5).to_bytes(size, "little"), np.uint8), 9)
    memory = lds(m)
    registers = ", ".join(f"v{4 + k}" if n == 1 else f"v[{4 + 2 * k}:{5 + 2 * k}]" for k in range(operands))
    returns = "rtn" in name
    out = ("v12, " if n == 1 else "v[12:13], ") if returns else ""
    m.run(f"ds_{name} {out}v0, {registers}")
    for lane in np.flatnonzero(on(MASK | 0xFF)):
        old = load(memory, int(address[lane]), size)
        data = [
            sum(int(rows[f"v{4 + k * n + j}"][lane]) << 32 * j for j in range(n)) for k in range(operands)
        ]
        store(memory, int(address[lane]), function(old, *data), size)
        if returns:
            assert sum(int(m.v[12 + j, 0, lane]) << 32 * j for j in range(n)) == old, lane
    assert lds(m) == memory


@BOTH
@pytest.mark.parametrize("name", ["add_f32", "min_f32", "max_f32", "add_f64", "min_f64", "max_f64"])
def test_float_atomics(arch, name):
    dtype = np.float32 if name.endswith("32") else np.float64
    size = dtype().itemsize
    data = RNG.standard_normal(64).astype(dtype)
    start = RNG.standard_normal(4).astype(dtype)
    m = machine(arch)
    m.batch.lds[: 4 * size] = start.view(np.uint8)
    m.v[0] = LANE % 4 * size
    m.v[4 : 4 + size // 4] = data.view(np.uint32).reshape(64, -1).T[:, None, :]
    source, out = ("v4", "v8") if size == 4 else ("v[4:5]", "v[8:9]")
    m.run(f"ds_{name.replace('_', '_rtn_', 1)} {out}, v0, {source}")
    pick = {"add": lambda a, b: dtype(a + b), "min": min, "max": max}[name[:3]]
    words_ = start.copy()
    for lane in range(64):
        got = np.ascontiguousarray(m.v[8 : 8 + size // 4, 0, lane]).view(dtype)[0]
        assert got == words_[lane % 4]
        words_[lane % 4] = pick(words_[lane % 4], data[lane])
    assert np.array_equal(m.batch.lds[: 4 * size].view(dtype), words_)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_packed_float_atomics(kind):
    m = machine("gfx942")
    values = RNG.integers(-8, 9, (64, 2)).astype(
        np.float32
    )  # small integers: exact in both types, in any order
    start = np.array([[1, -1], [2, 3]], np.float32)

    def encode(x: np.ndarray) -> np.ndarray:
        code = (
            x.astype(np.float16).view(np.uint16)
            if kind == "f16"
            else (x.view(np.uint32) >> 16).astype(np.uint16)
        )
        return np.ascontiguousarray(code).view(np.uint32)[:, 0]

    m.batch.lds[:8] = encode(start).view(np.uint8)
    m.v[0], m.v[1] = LANE % 2 * 4, encode(values)
    m.run(f"ds_pk_add_{kind} v0, v1")
    expected = start + np.stack([values[0::2].sum(axis=0), values[1::2].sum(axis=0)])
    assert np.array_equal(m.batch.lds[:8].view(np.uint32), encode(expected.astype(np.float32)))


# --- crossbar and M0 ------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("mask", [ALL, MASK])
def test_permutations(arch, mask):
    address, data, old = words(), words(), words()
    m = machine(arch, mask, v0=address, v1=data, v2=old, v3=old)
    m.run("ds_permute_b32 v2, v0, v1 offset:4\nds_bpermute_b32 v3, v0, v1 offset:8")
    active = on(mask)
    pushed = [0] * 64
    for lane in np.flatnonzero(active):
        pushed[(int(address[lane]) + 4) // 4 % 64] = int(data[lane])
    pulled = [int(data[i]) if active[i] else 0 for i in (address.astype(np.int64) + 8) // 4 % 64]
    assert np.array_equal(m.v[2, 0], np.where(active, pushed, old))
    assert np.array_equal(m.v[3, 0], np.where(active, pulled, old))


SWIZZLES = {
    "swizzle(QUAD_PERM,3,1,0,2)": lambda i: i & ~3 | (3, 1, 0, 2)[i & 3],
    "swizzle(SWAP,4)": lambda i: i ^ 4,
    "swizzle(REVERSE,8)": lambda i: i ^ 7,
    "swizzle(BROADCAST,16,5)": lambda i: i & ~15 | 5,
    'swizzle(BITMASK_PERM,"01pi0")': lambda i: i & 32 | 8 | (i & 4) | (~i & 2),
    "0xc0a3": lambda i: i & 32 | i & 3 | (i + 5) & 28,  # rotate by 5, low two bits kept
    "0xe000": lambda i: i & 32 | int(f"{i & 31:05b}"[::-1], 2),  # FFT decomposition: bits reversed
}


@BOTH
@pytest.mark.parametrize("pattern", SWIZZLES)
@pytest.mark.parametrize("mask", [ALL, MASK])
def test_swizzle(arch, pattern, mask):
    data, old = words(), words()
    m = machine(arch, mask, v0=data, v1=old)
    m.run(f"ds_swizzle_b32 v1, v0 offset:{pattern}")
    active = on(mask)
    expected = [int(data[j]) if active[j] else 0 for j in map(SWIZZLES[pattern], range(64))]
    assert np.array_equal(m.v[1, 0], np.where(active, expected, old))


@BOTH
def test_append_and_consume(arch):
    m = Machine(arch, waves=3, workgroups=1, lds=SIZE)
    m.batch.lds[:SIZE] = 0
    m.s[:, 124] = 64
    for wave, mask in enumerate((0xFF, ALL, 1)):
        m.pair(126, mask, wave)
    m.run("ds_append v0 offset:4\nds_consume v1 offset:8")
    counts = [8, 64, 1]
    before = [0, 8, 72]
    for wave in range(3):
        lanes = slice(0, counts[wave])
        assert (m.v[0, wave, lanes] == before[wave]).all()
        assert (m.v[1, wave, lanes] == -before[wave] & 0xFFFFFFFF).all()
    assert m.batch.lds[64 + 4 :].view(np.uint32)[0] == 73
    assert m.batch.lds[64 + 8 :].view(np.uint32)[0] == -73 & 0xFFFFFFFF


@BOTH
def test_addresses_of_the_lane_number(arch):
    data = words()
    m = machine(arch, v1=data)
    m.s[:, 124] = 128
    m.run("ds_write_addtid_b32 v1 offset:16\nds_read_addtid_b32 v2 offset:20")
    assert np.array_equal(m.batch.lds[144 : 144 + 256].view(np.uint32), data)
    assert np.array_equal(m.v[2, 0, :63], data[1:])


@BOTH
def test_workgroups_have_their_own_lds(arch):
    m = Machine(arch, waves=4, workgroups=2, lds=512)
    m.v[0], m.v[1] = LANE * 4, np.arange(4)[:, None] * 1000 + LANE
    m.s[:, 4] = [0, 256, 0, 256]
    m.run("v_add_u32 v2, s4, v0\nds_write_b32 v2, v1\ns_barrier\nv_xor_b32 v2, 0x100, v2\nds_read_b32 v3, v2")
    assert np.array_equal(m.v[3], np.array([1, 0, 3, 2])[:, None] * 1000 + LANE)
