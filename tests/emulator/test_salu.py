"""Scalar ALU by assembled programs; what each instruction should do is stated on Python integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .assembled import ALL, Machine, run

ARCHS = ("gfx90a", "gfx942")
M32, M64 = (1 << 32) - 1, ALL


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def s32(value: int) -> int:
    return signed(value, 32)


def s64(value: int) -> int:
    return signed(value, 64)


def fits(value: int) -> bool:
    return -(1 << 31) <= value < 1 << 31


def leading(value: int, bits: int, wanted: int) -> int:
    """Position from the top of the first bit equal to `wanted`, or -1."""
    return next((i for i in range(bits) if value >> (bits - 1 - i) & 1 == wanted), -1)


def trailing(value: int, bits: int, wanted: int) -> int:
    return next((i for i in range(bits) if value >> i & 1 == wanted), -1)


def field(value: int, control: int, bits: int, extend: bool) -> int:
    offset, width = control & (bits - 1), control >> 16 & 0x7F
    value = (s64(value) if bits == 64 else s32(value)) if extend else value
    if width == 0:
        return 0
    part = value >> offset
    width = min(width, bits)
    return signed(part, width) if extend else part & ((1 << width) - 1)


def truncated_compare(a: int, b: int) -> int:
    return 0 if a == b else 1


# mnemonic: function(a, b, scc) -> (result or None, scc or None); a and b are unsigned, results are truncated
# afterwards.
Two = Callable[[int, int, int], tuple[int | None, int | None]]


def _logic(function: Callable[[int, int], int]) -> Callable[[int], Two]:
    def of_width(bits: int) -> Two:
        mask = (1 << bits) - 1
        return lambda a, b, scc: (function(a, b) & mask, int(function(a, b) & mask != 0))

    return of_width


LOGIC = {
    "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "andn2": lambda a,
    b: a & ~b,
    "orn2": lambda a, b: a | ~b, "nand": lambda a, b: ~(a & b), "nor": lambda a, b: ~(a | b),
    "xnor": lambda a, b: ~(a ^ b),
}  # fmt: skip

BINARY32: dict[str, Two] = {
    "s_add_u32": lambda a, b, c: (a + b, a + b >> 32),
    "s_sub_u32": lambda a, b, c: (a - b, int(b > a)),
    "s_add_i32": lambda a, b, c: (a + b, int(not fits(s32(a) + s32(b)))),
    "s_sub_i32": lambda a, b, c: (a - b, int(not fits(s32(a) - s32(b)))),
    "s_addc_u32": lambda a, b, c: (a + b + c, a + b + c >> 32),
    "s_subb_u32": lambda a, b, c: (a - b - c, int(b + c > a)),
    "s_min_i32": lambda a, b, c: (min(s32(a), s32(b)), int(s32(a) < s32(b))),
    "s_min_u32": lambda a, b, c: (min(a, b), int(a < b)),
    "s_max_i32": lambda a, b, c: (max(s32(a), s32(b)), int(s32(a) > s32(b))),
    "s_max_u32": lambda a, b, c: (max(a, b), int(a > b)),
    "s_cselect_b32": lambda a, b, c: (a if c else b, None),
    "s_lshl_b32": lambda a, b, c: (a << (b & 31), int(a << (b & 31) & M32 != 0)),
    "s_lshr_b32": lambda a, b, c: (a >> (b & 31), int(a >> (b & 31) != 0)),
    "s_ashr_i32": lambda a, b, c: (s32(a) >> (b & 31), int(s32(a) >> (b & 31) != 0)),
    "s_bfm_b32": lambda a, b, c: (((1 << (a & 31)) - 1) << (b & 31), None),
    "s_mul_i32": lambda a, b, c: (a * b, None),
    "s_mul_hi_u32": lambda a, b, c: (a * b >> 32, None),
    "s_mul_hi_i32": lambda a, b, c: (s32(a) * s32(b) >> 32, None),
    "s_bfe_u32": lambda a, b, c: (field(a, b, 32, False), int(field(a, b, 32, False) != 0)),
    "s_bfe_i32": lambda a, b, c: (field(a, b, 32, True), int(field(a, b, 32, True) != 0)),
    "s_absdiff_i32": lambda a, b, c: (abs(s32(s32(a) - s32(b))), int(a != b)),
    "s_lshl1_add_u32": lambda a, b, c: ((a << 1) + b, int((a << 1) + b > M32)),
    "s_lshl2_add_u32": lambda a, b, c: ((a << 2) + b, int((a << 2) + b > M32)),
    "s_lshl3_add_u32": lambda a, b, c: ((a << 3) + b, int((a << 3) + b > M32)),
    "s_lshl4_add_u32": lambda a, b, c: ((a << 4) + b, int((a << 4) + b > M32)),
    "s_pack_ll_b32_b16": lambda a, b, c: (a & 0xFFFF | b << 16, None),
    "s_pack_lh_b32_b16": lambda a, b, c: (a & 0xFFFF | b & 0xFFFF0000, None),
    "s_pack_hh_b32_b16": lambda a, b, c: (a >> 16 | b & 0xFFFF0000, None),
    **{f"s_{name}_b32": _logic(f)(32) for name, f in LOGIC.items()},
}
EDGES32 = [
    0,
    1,
    2,
    31,
    32,
    0x7FFFFFFF,
    0x80000000,
    0x80000001,
    0xFFFFFFFF,
    0x0010_0004,
    0x0020_0000,
    0x001F_001F,
    0x55AA55AA,
]


def pairs(edges: list[int], bits: int, seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    randoms = [
        int(rng.integers(0, 1 << 63)) * 2 + int(rng.integers(0, 2)) >> int(rng.integers(0, bits))
        for _ in range(120)
    ]
    mixed = [
        (a & ((1 << bits) - 1), b & ((1 << bits) - 1))
        for a, b in zip(randoms[::2], randoms[1::2], strict=True)
    ]
    return [(a, b) for a in edges for b in edges] + mixed


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("mnemonic", BINARY32)
def test_two_sources_of_32_bits(arch, mnemonic):
    cases = [(a, b, c) for a, b in pairs(EDGES32, 32, 1) for c in (0, 1)]
    machine = Machine(arch, waves=len(cases), workgroups=len(cases), lds=0)
    machine.s[:, 1], machine.s[:, 2] = np.array([c[:2] for c in cases], np.uint32).T
    machine.batch.scc[:] = [bool(c[2]) for c in cases]
    machine.run(f"{mnemonic} s3, s1, s2")
    for n, case in enumerate(cases):
        result, scc = BINARY32[mnemonic](*case)
        assert (result or 0) & M32 == machine.s[n, 3], case
        assert machine.batch.scc[n] == bool(case[2] if scc is None else scc), case


BINARY64: dict[str, Two] = {
    "s_cselect_b64": lambda a, b, c: (a if c else b, None),
    **{f"s_{name}_b64": _logic(f)(64) for name, f in LOGIC.items()},
}
SHIFT64: dict[str, Two] = {
    "s_lshl_b64": lambda a, b, c: (a << (b & 63), int(a << (b & 63) & M64 != 0)),
    "s_lshr_b64": lambda a, b, c: (a >> (b & 63), int(a >> (b & 63) != 0)),
    "s_ashr_i64": lambda a, b, c: (s64(a) >> (b & 63), int(s64(a) >> (b & 63) != 0)),
    "s_bfe_u64": lambda a, b, c: (field(a, b, 64, False), int(field(a, b, 64, False) != 0)),
    "s_bfe_i64": lambda a, b, c: (field(a, b, 64, True), int(field(a, b, 64, True) != 0)),
}
EDGES64 = [0, 1, 0x7FFFFFFFFFFFFFFF, 1 << 63, M64, 0xFFFFFFFF, 1 << 32, 0x0123456789ABCDEF]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("mnemonic", [*BINARY64, *SHIFT64])
def test_two_sources_of_64_bits(arch, mnemonic):
    wide_second = mnemonic in BINARY64
    cases = [(a, b if wide_second else b & M32, c) for a, b in pairs(EDGES64, 64, 2) for c in (0, 1)]
    cases += (
        [(a, (w << 16) | o, 0) for a in EDGES64 for w in (0, 1, 33, 63, 64, 100) for o in (0, 5, 63)]
        if not wide_second
        else []
    )
    machine = Machine(arch, waves=len(cases), workgroups=len(cases), lds=0)
    for n, (a, b, c) in enumerate(cases):
        machine.pair(2, a, n)
        machine.pair(4, b, n)
        machine.batch.scc[n] = bool(c)
    machine.run(f"{mnemonic} s[6:7], s[2:3], {'s[4:5]' if wide_second else 's4'}")
    for n, case in enumerate(cases):
        result, scc = (BINARY64 | SHIFT64)[mnemonic](*case)
        got = int(machine.s[n, 6]) | int(machine.s[n, 7]) << 32
        assert (result or 0) & M64 == got, case
        assert machine.batch.scc[n] == bool(case[2] if scc is None else scc), case


def wqm(a: int, bits: int) -> int:
    return sum(15 << q for q in range(0, bits, 4) if a >> q & 15)


def quadmask(a: int, bits: int) -> int:
    return sum(1 << q // 4 for q in range(0, bits, 4) if a >> q & 15)


def with_scc(value: int, bits: int) -> tuple[int, int]:
    return value, int(value & ((1 << bits) - 1) != 0)


# mnemonic: (source bits, destination bits, function(a, scc, old) -> (result, scc or None))
UNARY: dict[str, tuple[int, int, Callable[[int, int, int], tuple[int, int | None]]]] = {
    "s_mov_b32": (32, 32, lambda a, c, d: (a, None)),
    "s_mov_b64": (64, 64, lambda a, c, d: (a, None)),
    "s_cmov_b32": (32, 32, lambda a, c, d: (a if c else d, None)),
    "s_cmov_b64": (64, 64, lambda a, c, d: (a if c else d, None)),
    "s_not_b32": (32, 32, lambda a, c, d: with_scc(~a & M32, 32)),
    "s_not_b64": (64, 64, lambda a, c, d: with_scc(~a & M64, 64)),
    "s_wqm_b32": (32, 32, lambda a, c, d: with_scc(wqm(a, 32), 32)),
    "s_wqm_b64": (64, 64, lambda a, c, d: with_scc(wqm(a, 64), 64)),
    "s_quadmask_b32": (32, 32, lambda a, c, d: with_scc(quadmask(a, 32), 32)),
    "s_quadmask_b64": (64, 64, lambda a, c, d: with_scc(quadmask(a, 64), 64)),
    "s_brev_b32": (32, 32, lambda a, c, d: (int(f"{a:032b}"[::-1], 2), None)),
    "s_brev_b64": (64, 64, lambda a, c, d: (int(f"{a:064b}"[::-1], 2), None)),
    "s_bcnt0_i32_b32": (32, 32, lambda a, c, d: with_scc(32 - a.bit_count(), 32)),
    "s_bcnt0_i32_b64": (64, 32, lambda a, c, d: with_scc(64 - a.bit_count(), 32)),
    "s_bcnt1_i32_b32": (32, 32, lambda a, c, d: with_scc(a.bit_count(), 32)),
    "s_bcnt1_i32_b64": (64, 32, lambda a, c, d: with_scc(a.bit_count(), 32)),
    "s_ff0_i32_b32": (32, 32, lambda a, c, d: (trailing(a, 32, 0), None)),
    "s_ff0_i32_b64": (64, 32, lambda a, c, d: (trailing(a, 64, 0), None)),
    "s_ff1_i32_b32": (32, 32, lambda a, c, d: (trailing(a, 32, 1), None)),
    "s_ff1_i32_b64": (64, 32, lambda a, c, d: (trailing(a, 64, 1), None)),
    "s_flbit_i32_b32": (32, 32, lambda a, c, d: (leading(a, 32, 1), None)),
    "s_flbit_i32_b64": (64, 32, lambda a, c, d: (leading(a, 64, 1), None)),
    "s_flbit_i32": (32, 32, lambda a, c, d: (leading(a, 32, 1 - (a >> 31)), None)),
    "s_flbit_i32_i64": (64, 32, lambda a, c, d: (leading(a, 64, 1 - (a >> 63)), None)),
    "s_sext_i32_i8": (32, 32, lambda a, c, d: (signed(a, 8), None)),
    "s_sext_i32_i16": (32, 32, lambda a, c, d: (signed(a, 16), None)),
    "s_bitset0_b32": (32, 32, lambda a, c, d: (d & ~(1 << (a & 31)), None)),
    "s_bitset1_b32": (32, 32, lambda a, c, d: (d | 1 << (a & 31), None)),
    "s_bitset0_b64": (32, 64, lambda a, c, d: (d & ~(1 << (a & 63)), None)),
    "s_bitset1_b64": (32, 64, lambda a, c, d: (d | 1 << (a & 63), None)),
    "s_abs_i32": (32, 32, lambda a, c, d: with_scc(abs(s32(a)), 32)),
    "s_bitreplicate_b64_b32": (
        32,
        64,
        lambda a, c, d: (sum(3 << 2 * i for i in range(32) if a >> i & 1), None),
    ),
}


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("mnemonic", UNARY)
def test_one_source(arch, mnemonic):
    from_bits, to_bits, function = UNARY[mnemonic]
    old = 0x5A5AC3C3_0FF01234
    edges = EDGES64 if from_bits == 64 else EDGES32
    cases = [(a, c) for a, _ in pairs(edges, from_bits, 3) for c in (0, 1)]
    machine = Machine(arch, waves=len(cases), workgroups=len(cases), lds=0)
    for n, (a, c) in enumerate(cases):
        machine.pair(2, a, n)
        machine.batch.scc[n] = bool(c)
    machine.pair(6, old)
    source, target = ("s[2:3]" if from_bits == 64 else "s2"), ("s[6:7]" if to_bits == 64 else "s6")
    machine.run(f"{mnemonic} {target}, {source}")
    mask = (1 << to_bits) - 1
    for n, (a, c) in enumerate(cases):
        result, scc = function(a, c, old & mask)
        got = (int(machine.s[n, 6]) | int(machine.s[n, 7]) << 32) & mask
        assert result & mask == got, (a, c)
        assert machine.batch.scc[n] == bool(c if scc is None else scc), (a, c)


COMPARE = {
    "eq": lambda a, b: a == b, "lg": lambda a, b: a != b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", COMPARE)
def test_comparisons(arch, name):
    cases = pairs(EDGES32, 32, 4)
    machine = Machine(arch, waves=len(cases), workgroups=len(cases), lds=0)
    machine.s[:, 1], machine.s[:, 2] = np.array(cases, np.uint32).T
    machine.run(
        f"""s_cmp_{name}_i32 s1, s2
        s_cselect_b32 s3, 1, 0
        s_cmp_{name}_u32 s1, s2
        s_cselect_b32 s4, 1, 0
        s_cmpk_{name}_i32 s1, 0x8001
        s_cselect_b32 s5, 1, 0
        s_cmpk_{name}_u32 s1, 0x8001
        s_cselect_b32 s6, 1, 0"""
    )
    for n, (a, b) in enumerate(cases):
        holds = COMPARE[name]
        expected = [holds(s32(a), s32(b)), holds(a, b), holds(s32(a), -0x7FFF), holds(a, 0x8001)]
        assert machine.s[n, 3:7].tolist() == expected, (a, b)


@pytest.mark.parametrize("arch", ARCHS)
def test_64_bit_comparisons_and_bit_tests(arch):
    cases = pairs(EDGES64, 64, 5)
    machine = Machine(arch, waves=len(cases), workgroups=len(cases), lds=0)
    for n, (a, b) in enumerate(cases):
        machine.pair(0, a, n)
        machine.pair(2, b, n)
    machine.run(
        """s_cmp_eq_u64 s[0:1], s[2:3]
        s_cselect_b32 s4, 1, 0
        s_cmp_lg_u64 s[0:1], s[2:3]
        s_cselect_b32 s5, 1, 0
        s_bitcmp0_b32 s0, s2
        s_cselect_b32 s6, 1, 0
        s_bitcmp1_b32 s0, s2
        s_cselect_b32 s7, 1, 0
        s_bitcmp0_b64 s[0:1], s2
        s_cselect_b32 s8, 1, 0
        s_bitcmp1_b64 s[0:1], s2
        s_cselect_b32 s9, 1, 0"""
    )
    for n, (a, b) in enumerate(cases):
        low, high = a >> (b & 31) & 1, a >> (b & 63) & 1
        assert machine.s[n, 4:10].tolist() == [a == b, a != b, 1 - low, low, 1 - high, high], (a, b)


@pytest.mark.parametrize("arch", ARCHS)
def test_immediates(arch):
    machine = run(
        arch,
        """s_movk_i32 s0, 0x8000
        s_cmp_eq_u32 s0, s0
        s_cmovk_i32 s1, 77
        s_addk_i32 s2, 0x7fff
        s_cselect_b32 s5, 1, 0
        s_cmovk_i32 s3, 77
        s_mulk_i32 s4, -3
        s_mov_b32 s6, 0.5
        s_mov_b64 s[8:9], 1.0
        s_mov_b64 s[10:11], -1
        s_mov_b64 s[12:13], 0x12345678
        s_mov_b32 s14, 0xdeadbeef""",
        s1=5, s2=0x7FFFFFF0, s3=5, s4=7,
    )  # fmt: skip
    s = machine.s[0]
    assert s[0] == 0xFFFF8000
    assert s[1] == 77
    assert (s[2], s[5]) == (0x7FFFFFF0 + 0x7FFF, 1)  # overflowed
    assert s[3] == 77
    assert s32(int(s[4])) == -21
    assert s[6] == 0x3F000000
    assert (s[8], s[9]) == (0, 0x3FF00000)
    assert (s[10], s[11]) == (M32, M32)
    assert (s[12], s[13], s[14]) == (0x12345678, 0, 0xDEADBEEF)


SAVEEXEC = {
    "and": lambda s, e: s & e, "or": lambda s, e: s | e, "xor": lambda s, e: s ^ e, "andn2": lambda s,
    e: s & ~e,
    "orn2": lambda s, e: s | ~e, "nand": lambda s, e: ~(s & e), "nor": lambda s, e: ~(s | e),
    "xnor": lambda s, e: ~(s ^ e),
    "andn1": lambda s, e: ~s & e, "orn1": lambda s, e: ~s | e,
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", SAVEEXEC)
def test_saveexec_changes_the_active_lanes(arch, name):
    mask, before = 0xF0F0_1234_5678_9ABC, 0x0FF0_FFFF_0000_1111
    text = f"s_{name}_saveexec_b64 s[4:5], s[2:3]\ns_cselect_b32 s6, 1, 0\nv_mov_b32 v0, 1"
    machine = run(arch, text, s2=mask, exec=before, v0=np.zeros(64, np.uint32))
    after = SAVEEXEC[name](mask, before) & M64
    s = machine.s[0]
    assert int(s[4]) | int(s[5]) << 32 == before
    assert int(s[126]) | int(s[127]) << 32 == after
    assert s[6] == int(after != 0)
    assert [int(x) for x in machine.v[0, 0]] == [after >> i & 1 for i in range(64)]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ["andn1", "andn2"])
def test_wrexec(arch, name):
    mask, before = 0xF0F0_1234_5678_9ABC, 0x0FF0_FFFF_0000_1111
    machine = run(arch, f"s_{name}_wrexec_b64 s[4:5], s[2:3]", s2=mask, exec=before)
    after = SAVEEXEC[name](mask, before) & M64
    s = machine.s[0]
    assert int(s[4]) | int(s[5]) << 32 == after
    assert int(s[126]) | int(s[127]) << 32 == after
    assert bool(machine.batch.scc[0]) == (after != 0)


@pytest.mark.parametrize("arch", ARCHS)
def test_relative_moves(arch):
    machine = run(
        arch,
        """s_movrels_b32 s20, s2
        s_movrels_b64 s[22:23], s[2:3]
        s_movreld_b32 s30, s2
        s_movreld_b64 s[40:41], s[2:3]""",
        m0=4, s2=11, s3=12, s6=66, s7=67,
    )  # fmt: skip
    s = machine.s[0]
    assert (s[20], s[22], s[23], s[34], s[44], s[45]) == (66, 66, 67, 11, 11, 12)


@pytest.mark.parametrize("arch", ARCHS)
def test_program_counter(arch):
    machine = run(
        arch,
        """s_getpc_b64 s[0:1]
        s_add_u32 s0, s0, 20
        s_addc_u32 s1, s1, 0
        s_swappc_b64 s[2:3], s[0:1]
        s_mov_b32 s4, 1
        s_branch 3
        s_mov_b32 s5, 2
        s_setpc_b64 s[2:3]
        s_mov_b32 s6, 3
        s_call_b64 s[8:9], 1
        s_mov_b32 s7, 4
        s_mov_b32 s10, 5""",
        s4=0, s5=0, s6=0, s7=0, s10=0,
    )  # fmt: skip
    s = machine.s[0]
    assert (s[4], s[5]) == (1, 2)  # the call went to the s_mov of s5 and came back
    assert (s[7], s[10]) == (0, 5)  # s_call skipped one instruction
    base = machine.batch.load_base
    assert int(s[2]) | int(s[3]) << 32 == base + 0x1000 + 16
    assert int(s[8]) | int(s[9]) << 32 == base + 0x1000 + 40


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("branch", "state", "taken"),
    [
        ("s_cbranch_scc0", {"scc": False}, True), ("s_cbranch_scc0", {"scc": True}, False),
        ("s_cbranch_scc1", {"scc": False}, False), ("s_cbranch_scc1", {"scc": True}, True),
        ("s_cbranch_vccz", {"vcc": 0}, True), ("s_cbranch_vccz", {"vcc": 1 << 40}, False),
        ("s_cbranch_vccnz", {"vcc": 0}, False), ("s_cbranch_vccnz", {"vcc": 1}, True),
        ("s_cbranch_execz", {"exec": 0}, True), ("s_cbranch_execz", {"exec": 1 << 63}, False),
        ("s_cbranch_execnz", {"exec": 0}, False), ("s_cbranch_execnz", {"exec": ALL}, True),
    ],
)  # fmt: skip
def test_conditional_branches(arch, branch, state, taken):
    machine = run(arch, f"{branch} 1\ns_mov_b32 s0, 1", s0=0, **state)
    assert machine.s[0, 0] == (0 if taken else 1)


@pytest.mark.parametrize("arch", ARCHS)
def test_mode_register(arch):
    machine = run(
        arch,
        """s_getreg_b32 s0, hwreg(HW_REG_MODE, 0, 8)
        s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 2), 1
        s_setreg_b32 hwreg(HW_REG_MODE, 2, 2), s4
        s_getreg_b32 s1, hwreg(HW_REG_MODE, 0, 8)
        s_getreg_b32 s2, hwreg(HW_REG_MODE, 4, 3)""",
        s4=3,
    )
    assert machine.s[0, :3].tolist() == [0xF0, 0xDC, 5]
