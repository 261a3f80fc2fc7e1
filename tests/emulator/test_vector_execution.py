"""What surrounds a vector operation: EXEC, SDWA, DPP, op_sel, neg/abs, clamp, omod, carries, modes, AGPRs,
VGPR indexing.

The operations themselves are tested by test_valu*; here simple ones show how operands are read and results
written.
"""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.errors import EmulationError

from .assembled import ALL, Machine, run, wide

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
LANE = np.arange(64)
RNG = np.random.default_rng(7)
A, B = (RNG.integers(0, 1 << 32, 64, dtype=np.uint64).astype(np.uint32) for _ in range(2))
OLD = RNG.integers(0, 1 << 32, 64, dtype=np.uint64).astype(np.uint32)
MASK = 0xF00F_1234_8000_0001
ON = np.array([MASK >> i & 1 for i in range(64)], bool)


def bits(mask: np.ndarray) -> int:
    return sum(1 << i for i, on in enumerate(mask) if on)


def f32(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.float32)


def halves(row: np.ndarray, dtype: type = np.float16) -> np.ndarray:
    return np.ascontiguousarray(row).view(dtype).reshape(64, 2)


@BOTH
def test_exec_protects_lanes_that_are_off(arch):
    text = """v_add_u32 v2, v0, v1
        v_add_f32 v3, 1.0, v1
        v_lshlrev_b64 v[4:5], 3, v[0:1]
        v_pk_add_u16 v6, v0, v1"""
    state = {f"v{k}": OLD for k in (2, 3, 4, 5, 6)}
    machine = run(arch, text, v0=A, v1=B, exec=MASK, **state)
    v = machine.v[:, 0]
    assert np.array_equal(v[2], np.where(ON, A + B, OLD))
    assert np.array_equal(v[3], np.where(ON, (f32(B) + np.float32(1)).view(np.uint32), OLD))
    shifted = (A.astype(np.uint64) | B.astype(np.uint64) << np.uint64(32)) << np.uint64(3)
    old = OLD.astype(np.uint64) * np.uint64(0x1_0000_0001)
    assert np.array_equal(wide(v, 4), np.where(ON, shifted, old))
    packed = (halves(A, np.uint16) + halves(B, np.uint16)).view(np.uint32)[:, 0]
    assert np.array_equal(v[6], np.where(ON, packed, OLD))


@BOTH
def test_compare_writes_zero_for_lanes_that_are_off(arch):
    text = "v_cmp_lt_u32 vcc, v0, v1\nv_cmp_lt_i32 s[4:5], v0, v1\nv_cndmask_b32 v2, v0, v1, s[4:5]"
    machine = run(arch, text, v0=A, v1=B, v2=OLD, exec=MASK, vcc=ALL, s4=ALL)
    assert int(machine.s[0, 106]) | int(machine.s[0, 107]) << 32 == bits((A < B) & ON)
    less = A.view(np.int32) < B.view(np.int32)
    assert int(machine.s[0, 4]) | int(machine.s[0, 5]) << 32 == bits(less & ON)
    assert np.array_equal(machine.v[2, 0], np.where(ON, np.where(less, B, A), OLD))


@BOTH
def test_cmpx_narrows_exec(arch):
    text = "v_cmpx_gt_u32 s[4:5], v0, v1\nv_mov_b32 v2, 5"
    machine = run(arch, text, v0=A, v1=B, v2=OLD, exec=MASK)
    on = (A > B) & ON
    for pair in (4, 126):
        assert int(machine.s[0, pair]) | int(machine.s[0, pair + 1]) << 32 == bits(on)
    assert np.array_equal(machine.v[2, 0], np.where(on, 5, OLD))


@BOTH
def test_carry_chain(arch):
    text = """v_add_co_u32 v4, vcc, v0, v2
        v_addc_co_u32 v5, vcc, v1, v3, vcc
        v_sub_co_u32 v6, s[8:9], v0, v2
        v_subb_co_u32 v7, s[10:11], v1, v3, s[8:9]"""
    x, y = (RNG.integers(0, 1 << 63, 64, dtype=np.uint64) * np.uint64(2) + np.uint64(1) for _ in range(2))
    machine = run(arch, text, v0=x, v2=y)
    v = machine.v[:, 0]
    assert np.array_equal(wide(v, 4), x + y)
    assert np.array_equal(wide(v, 6), x - y)
    carries = np.array([int(a) + int(b) >> 64 for a, b in zip(x, y, strict=True)], bool)
    assert int(machine.s[0, 106]) | int(machine.s[0, 107]) << 32 == bits(carries)
    assert int(machine.s[0, 10]) | int(machine.s[0, 11]) << 32 == bits(y > x)


@BOTH
@pytest.mark.parametrize("mask", [ALL, MASK ^ 1])
def test_lane_moves(arch, mask):
    text = """v_readfirstlane_b32 s4, v0
        v_readlane_b32 s5, v0, 40
        v_readlane_b32 s6, v0, s8
        v_writelane_b32 v1, s9, 33
        v_writelane_b32 v1, -5, s8"""
    machine = run(arch, text, v0=A, v1=OLD, s8=66, s9=77, exec=mask)
    s = machine.s[0]
    first = next(i for i in range(64) if mask >> i & 1)
    assert s[4:7].tolist() == [A[first], A[40], A[2]]
    expected = OLD.copy()
    expected[33], expected[2] = 77, -5 & 0xFFFFFFFF
    assert np.array_equal(machine.v[1, 0], expected)


@BOTH
def test_readfirstlane_with_no_lane_on_reads_lane_0(arch):
    machine = run(arch, "v_readfirstlane_b32 s4, v0", v0=A, exec=0)
    assert machine.s[0, 4] == A[0]


@BOTH
def test_moves_to_and_from_agprs(arch):
    text = """v_accvgpr_write_b32 a3, v0
        v_accvgpr_read_b32 v1, a3
        v_accvgpr_write_b32 a4, 2.0
        v_accvgpr_mov_b32 a5, a3"""
    machine = run(arch, text, v0=A)
    assert np.array_equal(machine.v[1, 0], A)
    assert np.array_equal(machine.a[5, 0], A)
    assert (machine.a[4, 0] == 0x40000000).all()


@BOTH
def test_swap(arch):
    machine = run(arch, "v_swap_b32 v0, v1", v0=A, v1=B)
    assert np.array_equal(machine.v[:2, 0], [B, A])


# --- source and result modifiers ------------------------------------------------------------------


@BOTH
def test_neg_and_abs(arch):
    text = """v_add_f32 v2, -v0, |v1|
        v_add_f32 v3, -|v0|, -v1
        v_cndmask_b32 v4, -v0, |v1|, s[4:5]
        v_add_f64 v[6:7], -v[0:1], |v[8:9]|"""
    x = np.where(np.isnan(f32(A)), np.float32(1), f32(A))
    y = np.where(np.isnan(f32(B)), np.float32(-2), f32(B))
    d = RNG.standard_normal(64)
    machine = run(arch, text, v0=x, v1=y, v8=d, s4=MASK)
    v = machine.v[:, 0]
    assert np.array_equal(f32(v[2]), -x + np.abs(y), equal_nan=True)
    assert np.array_equal(f32(v[3]), -np.abs(x) - y, equal_nan=True)
    assert np.array_equal(v[4], np.where(ON, np.abs(y).view(np.uint32), (-x).view(np.uint32)))
    pair = (x.view(np.uint32).astype(np.uint64) | y.view(np.uint32).astype(np.uint64) << np.uint64(32)).view(
        np.float64
    )
    assert np.array_equal(wide(v, 6).view(np.float64), -pair + np.abs(d), equal_nan=True)


@BOTH
def test_clamp(arch):
    x = np.linspace(-3, 3, 64).astype(np.float32)
    x[5] = np.nan
    text = "v_add_f32 v2, v0, v0 clamp\nv_add_u32 v3, v4, v5 clamp\nv_pk_mul_f16 v6, v7, v7 clamp"
    half = np.linspace(-2, 2, 128).astype(np.float16).reshape(64, 2).view(np.uint32)[:, 0]
    for dx10, nan in ((1, 0.0), (0, np.nan)):
        machine = run(arch, text, v0=x, v4=A, v5=B, v7=half, mode=0xF0 | dx10 << 8)
        v = machine.v[:, 0]
        expected = np.where(np.isnan(x), np.float32(nan), np.clip(x + x, 0, 1))
        assert np.array_equal(f32(v[2]), expected, equal_nan=True)
        assert np.array_equal(v[3], np.minimum(A.astype(np.uint64) + B, 0xFFFFFFFF))
        squares = halves(half).astype(np.float64) ** 2
        assert np.array_equal(halves(v[6]), np.clip(squares.astype(np.float16), 0, 1))


@BOTH
def test_output_modifier_only_without_denormals_and_ieee(arch):
    x = np.linspace(-3, 3, 64).astype(np.float32)
    text = "v_add_f32 v2, v0, v0 mul:2\nv_add_f32 v3, v0, v0 mul:4\nv_add_f32 v4, v0, v0 div:2"
    for mode, factors in ((0xC0, (2, 4, 0.5)), (0xF0, (1, 1, 1)), (0xC0 | 1 << 9, (1, 1, 1))):
        v = run(arch, text, v0=x, mode=mode).v[:, 0]
        for k, factor in enumerate(factors):
            assert np.array_equal(f32(v[2 + k]), (x + x) * np.float32(factor)), (mode, k)


@BOTH
def test_op_sel_of_16_bit_operations(arch):
    # gfx9: operations with op_sel keep the half they do not write.
    text = """v_mad_u16 v2, v0, v1, 0 op_sel:[1,0,0,0]
        v_mad_u16 v3, v0, v1, 0 op_sel:[0,1,0,1]
        v_add_u16 v4, v0, v1
        v_mul_lo_u16 v5, v0, 3"""
    v = run(arch, text, v0=A, v1=B, **{f"v{k}": OLD for k in (2, 3, 4, 5)}).v[:, 0]
    a, b, old = (row.astype(np.uint64) for row in (A, B, OLD))
    low, high, keep = np.uint64(0xFFFF), np.uint64(16), np.uint64(0xFFFF0000)
    assert np.array_equal(v[2], (old & keep) | ((a >> high) * (b & low) & low))
    assert np.array_equal(v[3], (old & low) | ((a & low) * (b >> high) & low) << high)
    assert np.array_equal(v[4], (a + b) & low)
    assert np.array_equal(v[5], a * np.uint64(3) & low)


@BOTH
def test_packed_selection_and_signs(arch):
    text = """v_pk_add_u16 v2, v0, v1 op_sel:[1,0] op_sel_hi:[0,1]
        v_pk_mul_f16 v3, v4, v5 op_sel_hi:[0,1] neg_lo:[1,0] neg_hi:[0,1]
        v_pk_add_u16 v6, v0, 7 op_sel_hi:[1,0]
        v_pk_add_u16 v7, v0, 7
        v_pk_mul_f16 v8, v4, 2.0
        v_pk_mul_f16 v9, v4, s4 op_sel:[0,1] op_sel_hi:[1,0]"""
    x, y = (RNG.standard_normal((64, 2)).astype(np.float16) for _ in range(2))
    rows = [z.view(np.uint32)[:, 0] for z in (x, y)]
    scalar = np.array([1.5, -3.0], np.float16)
    v = run(arch, text, v0=A, v1=B, v4=rows[0], v5=rows[1], s4=int(scalar.view(np.uint32)[0])).v[:, 0]
    a, b = halves(A, np.uint16), halves(B, np.uint16)
    assert np.array_equal(halves(v[2], np.uint16), a[:, ::-1] + b)
    product = np.stack([-x[:, 0] * y[:, 0], x[:, 0] * -y[:, 1]], axis=1)
    assert np.array_equal(halves(v[3]), product)
    assert np.array_equal(
        halves(v[6], np.uint16), a + np.uint16(7)
    )  # op_sel_hi 0: the constant's low half twice
    assert np.array_equal(halves(v[7], np.uint16), a + np.array([7, 0], np.uint16))  # else its high half is 0
    assert np.array_equal(halves(v[8]), x * np.array([2, 0], np.float16))
    assert np.array_equal(halves(v[9]), x * scalar[::-1])


@BOTH
def test_packed_f32_selection(arch):
    text = """v_pk_add_f32 v[8:9], v[0:1], v[2:3] op_sel:[1,0] op_sel_hi:[0,1]
        v_pk_mul_f32 v[10:11], v[0:1], s[4:5] op_sel_hi:[1,0]
        v_pk_add_f32 v[12:13], v[0:1], v[2:3] neg_lo:[0,1] neg_hi:[1,0]
        v_pk_mov_b32 v[14:15], v[0:1], v[2:3] op_sel:[1,0]"""
    x = RNG.standard_normal((4, 64)).astype(np.float32)
    scalars = np.array([1.25, -4], np.float32).view(np.uint32)
    state = {f"v{k}": x[k] for k in range(4)}
    v = run(arch, text, s4=int(scalars[0]), s5=int(scalars[1]), **state).v[:, 0]
    got = f32(v[8:16])
    assert np.array_equal(got[0:2], [x[1] + x[2], x[0] + x[3]])
    assert np.array_equal(got[2:4], [x[0] * np.float32(1.25), x[1] * np.float32(1.25)])
    assert np.array_equal(got[4:6], [x[0] - x[2], -x[1] + x[3]])
    assert np.array_equal(got[6:8], [x[1], x[2]])


@BOTH
def test_mixed_precision_sources(arch):
    text = """v_fma_mix_f32 v4, v0, v1, v2 op_sel:[1,0,0] op_sel_hi:[1,1,0]
        v_fma_mix_f32 v5, -v0, |v1|, v2 op_sel_hi:[1,1,0]
        v_fma_mixlo_f16 v6, v0, v1, v2 op_sel_hi:[1,1,0]
        v_fma_mixhi_f16 v6, v0, v1, v2 op_sel:[1,1,0] op_sel_hi:[1,1,0]
        v_fma_mix_f32 v7, v0, 2.0, v2 op_sel_hi:[1,0,0]"""
    x, y = (RNG.standard_normal((64, 2)).astype(np.float16) for _ in range(2))
    z = RNG.standard_normal(64).astype(np.float32)
    v = run(arch, text, v0=x.view(np.uint32)[:, 0], v1=y.view(np.uint32)[:, 0], v2=z, v6=OLD).v[:, 0]
    wx, wy, wz = x.astype(np.float64), y.astype(np.float64), z.astype(np.float64)
    assert np.array_equal(f32(v[4]), (wx[:, 1] * wy[:, 0] + wz).astype(np.float32))
    assert np.array_equal(f32(v[5]), (-wx[:, 0] * np.abs(wy[:, 0]) + wz).astype(np.float32))
    expected = np.stack([wx[:, 0] * wy[:, 0] + wz, wx[:, 1] * wy[:, 1] + wz], axis=1).astype(np.float16)
    assert np.array_equal(halves(v[6]), expected)
    assert np.array_equal(f32(v[7]), (wx[:, 0] * 2 + wz).astype(np.float32))


# --- SDWA -----------------------------------------------------------------------------------------

SELECT = {
    "BYTE_0": (0, 8), "BYTE_1": (8, 8), "BYTE_2": (16, 8), "BYTE_3": (24, 8), "WORD_0": (0, 16),
    "WORD_1": (16, 16), "DWORD": (0, 32),
}  # fmt: skip


def part(value: int, select: str, signed: bool = False) -> int:
    shift, width = SELECT[select]
    got = value >> shift & ((1 << width) - 1)
    return got - (1 << width) if signed and got >> (width - 1) else got


@BOTH
@pytest.mark.parametrize("select", SELECT)
def test_sdwa_sources(arch, select):
    text = f"""v_add_u32_sdwa v2, v0, v1 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:{select} src1_sel:DWORD
        v_add_u32_sdwa v3, sext(v0), v1 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:{select} src1_sel:WORD_1
        v_cmp_lt_u32_sdwa s[4:5], v0, v1 src0_sel:{select} src1_sel:{select}"""
    machine = run(arch, text, v0=A, v1=B)
    pairs = list(zip(A.tolist(), B.tolist(), strict=True))
    assert machine.v[2, 0].tolist() == [(part(a, select) + b) % 2**32 for a, b in pairs]
    assert machine.v[3, 0].tolist() == [(part(a, select, True) + (b >> 16)) % 2**32 for a, b in pairs]
    less = np.array([part(a, select) < part(b, select) for a, b in pairs])
    assert int(machine.s[0, 4]) | int(machine.s[0, 5]) << 32 == bits(less)


@BOTH
@pytest.mark.parametrize("select", SELECT)
@pytest.mark.parametrize("unused", ["UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"])
def test_sdwa_destination(arch, select, unused):
    text = f"v_add_u32_sdwa v2, v0, v1 dst_sel:{select} dst_unused:{unused} src0_sel:DWORD src1_sel:DWORD"
    machine = run(arch, text, v0=A, v1=B, v2=OLD, exec=MASK)
    shift, width = SELECT[select]
    for lane in range(64):
        total = (int(A[lane]) + int(B[lane])) & ((1 << width) - 1)
        if unused == "UNUSED_PRESERVE":
            expected = int(OLD[lane]) & ~(((1 << width) - 1) << shift) | total << shift
        elif unused == "UNUSED_SEXT" and total >> (width - 1):
            expected = (total - (1 << width)) << shift
        else:
            expected = total << shift
        expected = expected & 0xFFFFFFFF if ON[lane] else int(OLD[lane])
        assert machine.v[2, 0, lane] == expected, lane


@BOTH
def test_sdwa_float_modifiers(arch):
    x = RNG.standard_normal((64, 2)).astype(np.float16)
    keep, pad = "dst_unused:UNUSED_PRESERVE", "dst_unused:UNUSED_PAD"
    text = f"""v_add_f16_sdwa v2, -v0, |v0| dst_sel:WORD_1 {keep} src0_sel:WORD_0 src1_sel:WORD_1
        v_mul_f32_sdwa v3, -v1, s4 dst_sel:DWORD {pad} src0_sel:DWORD src1_sel:DWORD"""
    y = RNG.standard_normal(64).astype(np.float32)
    v = run(arch, text, v0=x.view(np.uint32)[:, 0], v1=y, v2=OLD, s4=0x40400000).v[:, 0]
    expected = halves(OLD).copy()
    expected[:, 1] = -x[:, 0] + np.abs(x[:, 1])
    assert np.array_equal(v[2], expected.view(np.uint32)[:, 0])
    assert np.array_equal(f32(v[3]), -y * np.float32(3))


@pytest.mark.parametrize("select", ["WORD_0", "WORD_1"])
def test_sdwa_writes_both_registers_of_a_pair(select):
    """A pair has no dst_sel. BF8 is the high byte of fp16 but for its bias, 16 in place of 15."""
    text = f"v_cvt_pk_f32_bf8_sdwa v[2:3], v0 src0_sel:{select}"
    codes = A & np.uint32(0x3F3F3F3F)  # positive, and not where fp16 has Inf and NaN
    v = run("gfx942", text, v0=codes, v2=OLD, v3=OLD, exec=MASK).v[:, 0]
    for register, byte in ((2, 0), (3, 8)):
        code = codes >> np.uint32(byte + (16 if select == "WORD_1" else 0)) & np.uint32(0xFF)
        value = (code << np.uint32(8)).astype(np.uint16).view(np.float16).astype(np.float32) / np.float32(2)
        assert np.array_equal(v[register], np.where(ON, value.view(np.uint32), OLD))


# --- DPP ------------------------------------------------------------------------------------------

ROW, COLUMN = LANE // 16, LANE % 16
# modifier: (lane read by each lane, -1 where there is none)
CONTROLS = {
    "quad_perm:[3,1,0,2]": LANE // 4 * 4 + np.array([3, 1, 0, 2])[LANE % 4],
    "row_shl:3": np.where(COLUMN + 3 < 16, LANE + 3, -1),
    "row_shr:5": np.where(COLUMN >= 5, LANE - 5, -1),
    "row_ror:7": ROW * 16 + (COLUMN - 7) % 16,
    "wave_shl:1": np.where(LANE < 63, LANE + 1, -1),
    "wave_rol:1": (LANE + 1) % 64,
    "wave_shr:1": LANE - 1,
    "wave_ror:1": (LANE - 1) % 64,
    "row_mirror": ROW * 16 + 15 - COLUMN,
    "row_half_mirror": LANE // 8 * 8 + 7 - LANE % 8,
    "row_bcast:15": np.where(ROW > 0, ROW * 16 - 1, -1),
    "row_bcast:31": np.where(LANE >= 32, 31, -1),
    "row_newbcast:11": ROW * 16 + 11,
}


@BOTH
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("mask", [ALL, MASK])
def test_dpp(arch, control, mask):
    text = f"""v_add_u32_dpp v2, v0, v1 {control} row_mask:0xf bank_mask:0xf
        v_add_u32_dpp v3, v0, v1 {control} row_mask:0xf bank_mask:0xf bound_ctrl:0
        v_mov_b32_dpp v4, v0 {control} row_mask:0xa bank_mask:0x6"""
    v = run(arch, text, v0=A, v1=B, v2=OLD, v3=OLD, v4=OLD, exec=mask).v[:, 0]
    on = np.array([mask >> i & 1 for i in range(64)], bool)
    source = CONTROLS[control]
    valid = (source >= 0) & on[source]
    moved = np.where(valid, A[source], 0).astype(np.uint32)
    assert np.array_equal(v[2], np.where(on & valid, moved + B, OLD))
    assert np.array_equal(v[3], np.where(on, moved + B, OLD))
    allowed = (0xA >> ROW & 1).astype(bool) & (0x6 >> COLUMN // 4 & 1).astype(bool)
    assert np.array_equal(v[4], np.where(on & valid & allowed, moved, OLD))


# --- modes ----------------------------------------------------------------------------------------

TINY = np.array([1e-40, -1e-40, 1e-38, 2e-38, -3e-38, 1.5, 0, -0.0] * 8, np.float32)


@BOTH
@pytest.mark.parametrize("denormals", [0, 1, 2, 3])
def test_single_precision_denormals(arch, denormals):
    """MODE[4]: keep denormal sources; MODE[5]: keep denormal results."""
    text = """v_mul_f32 v1, 0.5, v0
        v_add_f32 v2, v0, v0
        v_mov_b32 v3, v0
        v_cmp_eq_f32 vcc, 0, v0
        v_add_f16 v5, v4, v4"""
    half = np.full(64, 3, np.uint32)  # a subnormal f16: ruled by the other field
    machine = run(arch, text, v0=TINY, v4=half, mode=0xC0 | denormals << 4)

    def flush(values: np.ndarray, keep: int) -> np.ndarray:
        values = values.astype(np.float32)
        return (
            values
            if keep
            else np.where(np.abs(values) < np.float32(2.0**-126), np.copysign(np.float32(0), values), values)
        )

    x = flush(TINY, denormals & 1)
    v = machine.v[:, 0]
    assert np.array_equal(v[1], flush(x * np.float32(0.5), denormals & 2).view(np.uint32))
    assert np.array_equal(v[2], flush(x + x, denormals & 2).view(np.uint32))
    assert np.array_equal(v[3], TINY.view(np.uint32))
    assert int(machine.s[0, 106]) | int(machine.s[0, 107]) << 32 == bits(x == 0)
    assert (v[5] == 6).all()


@BOTH
@pytest.mark.parametrize("keep", [0, 3])
def test_half_and_double_denormals(arch, keep):
    text = """v_add_f16 v1, v0, v0
        v_pk_add_f16 v2, v0, v0
        v_add_f64 v[4:5], v[6:7], v[6:7]
        v_add_f32 v8, v9, v9"""
    machine = run(
        arch,
        text,
        v0=np.full(64, 0x0003_8005, np.uint32),
        v6=np.full(64, 5e-324),
        v9=np.full(64, 1e-40, np.float32),
        mode=0x30 | keep << 6,
    )
    v = machine.v[:, 0]
    assert (v[1] == (0x800A if keep else 0x8000)).all()
    assert (v[2] == (0x0006_800A if keep else 0x0000_8000)).all()
    assert (wide(v, 4) == (2 if keep else 0)).all()
    assert np.array_equal(f32(v[8]), np.full(64, 2, np.float32) * np.float32(1e-40))


@BOTH
def test_modes_may_differ_between_waves(arch):
    machine = Machine(arch, waves=3, workgroups=3)
    machine.v[0] = TINY.view(np.uint32)
    machine.batch.mode[:] = [0xF0, 0xC0, 0xF0]
    machine.run("v_add_f32 v1, v0, v0")
    kept = TINY + TINY
    flushed = np.where(np.abs(TINY) < np.float32(2.0**-126), np.copysign(np.float32(0), TINY), kept)
    assert np.array_equal(f32(machine.v[1]), [kept, flushed, kept])


ROUNDING = {0: "nearest", 1: "up", 2: "down", 3: "zero"}


@BOTH
@pytest.mark.parametrize("mode", ROUNDING)
def test_directed_rounding(arch, mode):
    """One third and friends: the exact sum, product and fma lie between two neighbours; MODE chooses."""
    x = RNG.standard_normal(64).astype(np.float32)
    y = RNG.standard_normal(64).astype(np.float32)
    text = """v_mul_f32 v2, v0, v1
        v_add_f32 v3, v0, v1
        v_cvt_f32_f64 v4, v[6:7]
        v_rndne_f32 v5, v0
        v_cvt_i32_f32 v8, v0"""
    d = RNG.standard_normal(64)
    v = run(arch, text, v0=x, v1=y, v6=d, mode=0xF0 | mode).v[:, 0]
    exact = [x.astype(np.float64) * y, x.astype(np.float64) + y, d]
    for k, value in enumerate(exact):
        near = value.astype(np.float32)
        up = np.where(near >= value, near, np.nextafter(near, np.float32(np.inf)))
        down = np.where(near <= value, near, np.nextafter(near, np.float32(-np.inf)))
        expected = {"nearest": near, "up": up, "down": down, "zero": np.where(value > 0, down, up)}[
            ROUNDING[mode]
        ]
        assert np.array_equal(f32(v[2 + k]), expected), k
    assert np.array_equal(f32(v[5]), np.rint(x))
    assert np.array_equal(v[8].view(np.int32), np.trunc(x).astype(np.int32))


@BOTH
def test_directed_rounding_of_halves_is_refused(arch):
    with pytest.raises(EmulationError, match="directed rounding of half precision"):
        run(arch, "v_add_f16 v1, v0, v0", v0=A, mode=0xF0 | 1 << 2)


# --- indexing, divergence -------------------------------------------------------------------------


@BOTH
def test_vgpr_indexing(arch):
    """Each wave has its own index in M0."""
    machine = Machine(arch, waves=4, workgroups=4)
    machine.v[10:20] = (np.arange(10, 20) * 1000)[:, None, None] + LANE
    machine.v[30:50] = 0
    machine.s[:, 4] = [0, 3, 3, 7]
    machine.run(
        """s_set_gpr_idx_on s4, gpr_idx(SRC0)
        v_mov_b32 v1, v10
        s_set_gpr_idx_off
        s_set_gpr_idx_on s4, gpr_idx(DST)
        v_mov_b32 v30, v11
        s_set_gpr_idx_off
        v_mov_b32 v2, v10"""
    )
    for wave, index in enumerate((0, 3, 3, 7)):
        assert np.array_equal(machine.v[1, wave], (10 + index) * 1000 + LANE)
        assert np.array_equal(machine.v[30 + index, wave], 11000 + LANE)
        assert machine.v[30:50, wave].any(axis=1).sum() == 1
    assert np.array_equal(machine.v[2], np.broadcast_to(10000 + LANE, (4, 64)))


@BOTH
def test_index_and_operands_may_change_while_indexing(arch):
    rows = {f"v{k}": np.full(64, 1000 * k, np.uint32) for k in range(10, 40)}
    machine = run(
        arch,
        """s_set_gpr_idx_on s4, gpr_idx(SRC0)
        s_set_gpr_idx_idx s5
        v_mov_b32 v1, v10
        s_set_gpr_idx_mode gpr_idx(SRC0,DST)
        v_mov_b32 v30, v11
        s_set_gpr_idx_off""",
        s4=1, s5=6, **rows,
    )  # fmt: skip
    assert (machine.v[1, 0] == 16000).all()
    assert (machine.v[36, 0] == 17000).all()
    assert (machine.v[30, 0] == 30000).all()


@BOTH
def test_scattered_waves_take_different_paths(arch):
    """Even waves branch: neither group is a contiguous run of waves, and both meet again at the end."""
    machine = Machine(arch, waves=9, workgroups=9)
    machine.v[0] = np.arange(9)[:, None] * 100 + LANE
    machine.s[:, 4] = np.arange(9) % 2
    machine.batch.scc[:] = False
    machine.run(
        """s_cmp_eq_u32 s4, 0
        s_cbranch_scc1 4
        v_add_u32 v0, 7, v0
        s_mov_b32 s5, 11
        v_mov_b32 v1, 1
        s_branch 3
        v_add_u32 v0, 9, v0
        s_mov_b32 s5, 13
        v_mov_b32 v1, 2
        v_lshlrev_b32 v1, 4, v1
        s_add_u32 s6, s5, 1"""
    )
    odd = np.arange(9) % 2
    assert np.array_equal(machine.v[0], np.arange(9)[:, None] * 100 + LANE + np.where(odd, 7, 9)[:, None])
    assert np.array_equal(machine.v[1], np.broadcast_to(np.where(odd, 16, 32)[:, None], (9, 64)))
    assert np.array_equal(machine.s[:, 6], np.where(odd, 12, 14))
    assert machine.scheduler is not None
    executed = machine.scheduler.executed()
    assert executed["v_add_u32"] == 9
    assert executed["v_lshlrev_b32"] == 9


@BOTH
def test_waves_may_meet_at_different_barriers(arch):
    """The hardware counts arrivals: wave 0 of each workgroup waits at one s_barrier, wave 1 at another."""
    machine = Machine(arch, waves=4, workgroups=2)
    machine.s[:, 4] = [0, 1, 0, 1]
    machine.v[0], machine.v[1] = LANE * 4, np.arange(4)[:, None] * 1000 + LANE
    machine.v[2] = machine.v[0] + np.array([0, 256, 0, 256])[:, None]
    machine.v[3] = machine.v[0] + np.array([256, 0, 256, 0])[:, None]
    machine.run(
        """ds_write_b32 v2, v1
        s_cmp_eq_u32 s4, 0
        s_cbranch_scc1 3
        s_nop 0
        s_barrier
        s_branch 1
        s_barrier
        ds_read_b32 v4, v3"""
    )
    assert np.array_equal(machine.v[4], np.array([1, 0, 3, 2])[:, None] * 1000 + LANE)


@BOTH
def test_a_barrier_holds_the_early_wave(arch):
    """Wave 0 arrives first, at a lower pc, and must not read before wave 1 has written and arrived."""
    machine = Machine(arch, waves=2, workgroups=1)
    machine.s[:, 4] = [0, 1]
    machine.v[0], machine.v[1] = LANE * 4, A
    machine.run(
        """s_cmp_eq_u32 s4, 1
        s_cbranch_scc1 5
        s_barrier
        ds_read_b32 v2, v0
        s_nop 0
        s_endpgm
        s_nop 0
        ds_write_b32 v0, v1
        s_barrier"""
    )
    assert np.array_equal(machine.v[2, 0], A)


@BOTH
def test_unknown_instructions_stop_with_their_bytes(arch):
    with pytest.raises(
        EmulationError,
        match=r"s_setvskip at pc 0x1000 \([0-9a-f]{8}, " + arch + r"\), wave 0 of workgroup 0: .*s_setvskip",
    ):
        run(arch, "s_setvskip s0, s1")


@BOTH
def test_an_observer_sees_every_instruction_and_address(arch):
    class Recorder:
        def __init__(self) -> None:
            self.texts: list[str] = []
            self.accesses: list[tuple[str, str, int, int]] = []

        def instruction(self, group, instruction):
            self.texts.append(instruction.text)

        def access(self, group, instruction, space, kind, addresses, size, active):
            self.accesses.append((space, kind, size, int(addresses[0][active[0]].sum())))

    recorder = Recorder()
    machine = Machine(arch)
    buffer = machine.memory.allocate(1024)
    machine.v[0], machine.v[1] = LANE * 4, A
    machine.pair(4, buffer)
    machine.s[:, 126:128] = [7, 0]
    machine.run(
        "global_store_dword v0, v1, s[4:5] offset:8\ns_waitcnt vmcnt(0)\nds_write_b32 v0, v1 offset:16",
        observer=recorder,
    )
    assert recorder.texts == [
        "global_store_dword v0, v1, s[4:5] offset:8", "s_waitcnt vmcnt(0)", "ds_write_b32 v0, v1 offset:16",
        "s_endpgm",
    ]  # fmt: skip
    assert recorder.accesses == [
        ("global", "store", 4, 3 * (buffer + 8) + 12),
        ("lds", "store", 4, 3 * 16 + 12),
    ]
