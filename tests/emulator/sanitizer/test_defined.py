"""Undefined values: how they spread, against what really changes with them, and where they are reported.

The first part needs no list of rules: waves run one instruction with different values in the undefined bytes and equal
ones elsewhere. What then differs in the result must be marked undefined; for instructions that move and select bytes
nothing else may be.
"""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.emulator.memory import DeviceMemory
from petitgen.emulator.sanitizer.footprint import AGPR, SCC, SGPR

from .watched import LANE, Watched

BOTH = pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
TRIALS = 48
EVERY = (1 << 64) - 1

# --- what changes is marked -----------------------------------------------------------------------

# v8 (and v9) are written; v0-v7 and s[20:27] hold bytes that are undefined in some lanes
EXACT = [
    "v_mov_b32_e32 v8, v0", "v_not_b32_e32 v8, v0", "v_and_b32_e32 v8, 0xff00ff, v0", "v_or_b32_e32 v8, 0xffff00, v0",
    "v_xor_b32_e32 v8, v0, v1", "v_xor_b32_e32 v8, v0, v0", "v_sub_u32_e32 v8, v0, v0", "v_lshlrev_b32_e32 v8, 8, v0",
    "v_lshrrev_b32_e32 v8, 16, v0", "v_alignbyte_b32 v8, v0, v1, 1", "v_alignbit_b32 v8, v0, v1, 24",
    "v_perm_b32 v8, v0, v1, s12", "v_cndmask_b32_e32 v8, v0, v1, vcc",
    "v_lshl_or_b32 v8, v0, 16, v1", "v_bfe_u32 v8, v0, 8, 16", "v_and_or_b32 v8, v0, s13, v1", "v_swap_b32 v8, v0",
    "v_bfi_b32 v8, s13, v0, v1",
    "v_accvgpr_write_b32 a8, v0",
    "v_or3_b32 v8, v0, v1, 0",
    "v_mov_b32_e32 v8, s20",
    "ds_bpermute_b32 v8, v10, v0", "ds_permute_b32 v8, v10, v0", "ds_swizzle_b32 v8, v0 offset:swizzle(REVERSE,8)",
    "v_readlane_b32 s30, v0, 5", "v_readfirstlane_b32 s30, v0",

]  # fmt: skip
# The whole of what a lane reads decides: more may be marked than changes.
SOUND = [
    "v_pk_add_u16 v8, v0, v1 op_sel_hi:[0,1]",
    "v_pack_b32_f16 v8, v0, v1 op_sel:[1,0,0]",
    "v_mov_b32_dpp v8, v0 quad_perm:[3,1,0,2] row_mask:0xa bank_mask:0xf bound_ctrl:0",
    "v_mov_b32_dpp v8, v0 row_shr:1 row_mask:0xf bank_mask:0xf",
    "v_mov_b32_sdwa v8, v0 dst_sel:BYTE_1 dst_unused:UNUSED_PRESERVE src0_sel:BYTE_3",
    "v_mov_b32_sdwa v8, v0 dst_sel:WORD_1 dst_unused:UNUSED_PAD src0_sel:BYTE_2",
    "v_add_u32_e32 v8, v0, v1", "v_mul_f32_e32 v8, v0, v1", "v_fma_f32 v8, v0, v1, v2", "v_mad_u32_u24 v8, v0, v1, v2",
    "v_add_f16_e32 v8, v0, v1", "v_fma_mixlo_f16 v8, v0, v1, v2 op_sel_hi:[1,0,0]", "v_cvt_f32_ubyte2_e32 v8, v0",
    "v_cvt_f16_f32_e32 v8, v0", "v_cvt_f32_f16_e32 v8, v0", "v_ashrrev_i32_e32 v8, 9, v0", "v_bfe_i32 v8, v0, 4, 9",
    "v_lshlrev_b32_e32 v8, v1, v0", "v_add3_u32 v8, v0, v1, v2", "v_pk_fma_f16 v8, v0, v1, v2", "v_mbcnt_lo_u32_b32 v8, s20, v1",
    "v_pk_fma_f32 v[8:9], v[0:1], v[2:3], v[4:5]", "v_fma_f64 v[8:9], v[0:1], v[2:3], v[4:5]", "v_dot2_f32_f16 v8, v0, v1, v2",
    "v_mad_u64_u32 v[8:9], s[30:31], v0, v1, v[2:3]", "v_lshlrev_b64 v[8:9], 7, v[0:1]", "v_cmp_lt_u32_e32 vcc, v0, v1",
    "v_cmp_eq_f16_e64 s[30:31], v0, v1", "v_add_co_u32_e32 v8, vcc, v0, v1", "v_addc_co_u32_e32 v8, vcc, v0, v1, vcc",
    "v_max_f32_e32 v8, s20, v0", "v_sad_u8 v8, v0, v1, v2", "v_bcnt_u32_b32 v8, v0, v1", "v_cvt_pk_u8_f32 v8, v0, 2, v1",
    "v_add_f16_sdwa v8, v0, v1 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE src0_sel:WORD_1 src1_sel:WORD_0",
    "v_add_u32_dpp v8, v0, v1 row_bcast:15 row_mask:0xa bank_mask:0xf", "v_pk_mul_lo_u16 v8, v0, v1",
]  # fmt: skip
ONLY_GFX942 = [
    "v_mov_b64_e32 v[8:9], v[0:1]", "v_lshl_add_u64 v[8:9], v[0:1], 3, v[2:3]", "v_pk_mov_b32 v[8:9], v[0:1], v[2:3]",
    "v_cvt_pk_fp8_f32 v8, v0, v1 op_sel:[0,0,1]", "v_cvt_f32_fp8_e32 v8, v0", "v_cvt_pk_f32_bf8_e32 v[8:9], v0",
    "v_cvt_sr_fp8_f32 v8, v0, v1 op_sel:[0,0,1,0]",
]  # fmt: skip


def trial(arch: str, text: str, seed: int, mask: int = EVERY) -> tuple[Watched, np.ndarray, np.ndarray]:
    """Waves with equal values but where v0-v9, s[20:27] and vcc are undefined; how v8, v9 and a8 differ after `text`, and
    what of them is marked: bool (3, 64, 4), lane and byte."""
    rng = np.random.default_rng(seed)
    m = Watched(arch, TRIALS, TRIALS)
    undefined = rng.random((10, 64, 4)) < 0.3
    noise = rng.integers(0, 256, (10, TRIALS, 64, 4))
    base = rng.integers(0, 256, (10, 1, 64, 4)) & np.where(rng.random((10, 1, 64, 4)) < 0.2, 0, 255)
    m.v[:10] = np.where(undefined[:, None], noise, base).astype(np.uint8).view(np.uint32)[..., 0]
    m.a[8] = m.v[9]
    m.v[10] = 4 * ((LANE * 7 + 3) % 64)
    bits = rng.integers(0, 1 << 32, 10, dtype=np.uint64).astype(np.uint32)
    m.s[:, 20:28] = rng.integers(0, 1 << 32, 8, dtype=np.uint64).astype(np.uint32)
    m.s[:, 20:28] ^= bits[:8] & rng.integers(0, 1 << 32, (TRIALS, 8), dtype=np.uint64).astype(np.uint32)
    m.s[:, 12], m.s[:, 13] = 0x07020C04, 0xFFFF
    m.pair(28, 0)
    m.pair(30, 0)
    m.pair(126, mask)
    m.pair(106, 0x123456789ABCDEF0)
    m.batch.scc[:] = rng.integers(0, 2, TRIALS)
    m.watch()
    shadow = m.sanitizer.defined.registers
    packed = np.packbits(undefined, axis=1, bitorder="little")  # (10, 8, 4)
    shadow.vector[:10] = np.ascontiguousarray(packed.transpose(0, 2, 1)).view(np.uint64)[:, None, :, 0]
    shadow.vector[AGPR + 8] = shadow.vector[9]
    shadow.scalar[20:28] = bits[:8, None]
    shadow.scalar[SCC - SGPR] = 1
    shadow.dirty |= {*range(10), AGPR + 8, SCC, *range(SGPR + 20, SGPR + 28)}
    assert m.find(text) == []
    rows = np.stack([m.v[8], m.v[9], m.a[8]])
    values = np.ascontiguousarray(rows).view(np.uint8).reshape(3, TRIALS, 64, 4)
    differs = (values != values[:, :1]).any(axis=1)
    marks = shadow.vector[[8, 9, AGPR + 8], 0]  # (3, 4)
    marked = np.unpackbits(marks[..., None].view(np.uint8), axis=2, bitorder="little").astype(bool)  # (3, 4, 64)
    return m, differs, marked.transpose(0, 2, 1)


def scalar_bits(m: Watched, first: int, count: int) -> tuple[list[int], list[int]]:
    """Bits of SGPRs that differ between the waves, and those that are marked."""
    values = m.s[:, first : first + count]
    differ = [int(x) for x in np.bitwise_or.reduce(values ^ values[:1], axis=0)]
    return differ, [int(x) for x in m.sanitizer.defined.registers.scalar[first : first + count, 0]]


@BOTH
@pytest.mark.parametrize("text", EXACT)
@pytest.mark.parametrize("mask", [EVERY, 0x0123_4567_89AB_CDE1])
def test_what_moves_bytes_marks_exactly_what_changes(arch, text, mask):
    m, differs, marked = trial(arch, text, seed=len(text), mask=mask)
    assert differs.any() or "v0, v0" in text or "s30" in text
    assert np.array_equal(differs, marked)
    differ, marks = scalar_bits(m, 30, 1)
    assert differ[0] & ~marks[0] == 0
    assert all((differ[0] >> 8 * b & 0xFF != 0) == (marks[0] >> 8 * b & 0xFF == 0xFF) for b in range(4))


@pytest.mark.parametrize(
    ("arch", "text"),
    [(arch, text) for arch in ("gfx90a", "gfx942") for text in SOUND] + [("gfx942", text) for text in ONLY_GFX942],
)
@pytest.mark.parametrize("mask", [EVERY, 0xFEDC_BA98_7654_3210])
def test_what_changes_is_marked(arch, text, mask):
    m, differs, marked = trial(arch, text, seed=len(text) + 1, mask=mask)
    assert not (differs & ~marked).any()
    for first in (30, 106):
        differ, marks = scalar_bits(m, first, 2)
        assert all(d & ~k == 0 for d, k in zip(differ, marks, strict=True))
        if "v_cmp" in text or "_co_" in text:  # the bits of lanes that are off are known to be 0
            assert (marks[0] | marks[1] << 32) & ~mask == 0


SCALAR_EXACT = [
    "s_mov_b64 s[30:31], s[20:21]", "s_not_b32 s30, s20", "s_and_b64 s[30:31], s[20:21], s[22:23]", "s_or_b32 s30, s20, s22",
    "s_andn2_b64 s[30:31], s[20:21], s[22:23]", "s_orn2_b64 s[30:31], s[20:21], s[22:23]", "s_xor_b32 s30, s20, s20",
    "s_nand_b32 s30, s20, s22", "s_xnor_b64 s[30:31], s[20:21], s[22:23]", "s_and_b32 s30, s20, 0xff0", "s_lshl_b32 s30, s20, 5",
    "s_lshr_b64 s[30:31], s[20:21], 9", "s_ashr_i32 s30, s20, 11", "s_bfe_u32 s30, s20, 0x80004", "s_pack_lh_b32_b16 s30, s20, s22",
    "s_bitset1_b32 s20, 3",
]  # fmt: skip
SCALAR_SOUND = [
    "s_add_u32 s30, s20, s22", "s_mul_i32 s30, s20, s22", "s_bcnt1_i32_b64 s30, s[20:21]", "s_cmp_eq_u32 s20, s22",
    "s_bfe_i32 s30, s20, 0x80004", "s_cselect_b32 s30, s20, s22", "s_bitcmp1_b32 s20, s22", "s_ff1_i32_b32 s30, s20",
    "s_addc_u32 s30, s20, s22", "s_min_i32 s30, s20, s22", "s_sext_i32_i16 s30, s20", "s_brev_b32 s30, s20",
    "s_cmov_b32 s20, s22", "s_lshl_b32 s30, s20, s22",
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("text", [*SCALAR_EXACT, *SCALAR_SOUND])
def test_scalar_bits_that_change_are_marked(arch, text):
    m, _, _ = trial(arch, text, seed=len(text))
    differ, marks = scalar_bits(m, 20, 12)
    assert all(d & ~k == 0 for d, k in zip(differ, marks, strict=True))
    if text in SCALAR_EXACT:
        assert differ == marks
    if not (m.batch.scc == m.batch.scc[0]).all():
        assert m.sanitizer.defined.registers.scalar[SCC - SGPR, 0] & 1


MATRICES = [
    ("gfx90a", "v_mfma_f32_16x16x4f32 a[0:3], v0, v1, a[4:7]"), ("gfx90a", "v_mfma_f32_4x4x1f32 a[0:3], v0, v1, a[4:7]"),
    ("gfx90a", "v_mfma_f32_32x32x1f32 a[0:31], v0, v1, a[32:63]"),
    ("gfx90a", "v_mfma_f32_4x4x1f32 a[0:3], v0, v1, a[4:7] cbsz:2 abid:1"),
    ("gfx942", "v_mfma_f32_32x32x2_f32 a[0:15], v0, v1, a[16:31]"),
    ("gfx942", "v_mfma_f32_16x16x1_4b_f32 a[0:15], v0, v1, a[16:31] blgp:2"),
]  # fmt: skip


@pytest.mark.parametrize(("arch", "text"), MATRICES)
def test_matrix_rows_and_columns_that_change_are_marked(arch, text):
    rng = np.random.default_rng(len(text))
    m = Watched(arch, 16, 16)
    undefined = rng.random((66, 64)) < 0.04
    noise, base = (rng.standard_normal((66, waves, 64)).astype(np.float32) for waves in (16, 1))
    values = np.where(undefined[:, None], noise, base).view(np.uint32)
    m.v[:2], m.a[:64] = values[:2], values[2:]
    m.watch()
    shadow = m.sanitizer.defined.registers
    lanes = np.packbits(undefined, axis=1, bitorder="little").view(np.uint64)[:, :1]  # (66, 1)
    shadow.vector[:2], shadow.vector[AGPR : AGPR + 64] = lanes[:2, None], lanes[2:, None]
    shadow.dirty |= {0, 1, *range(AGPR, AGPR + 64)}
    m.find(text)
    count = int(text.split("a[0:")[1].split("]")[0]) + 1
    result = m.a[:count].view(np.float32)
    differs = (result != result[:, :1]).any(axis=1)
    marks = shadow.vector[AGPR : AGPR + count, 0, 0]
    marked = np.unpackbits(marks[:, None].view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert 0.01 < differs.mean() < 0.9
    assert np.array_equal(differs, marked)


# --- where it is reported -------------------------------------------------------------------------


def with_output(arch: str, **options) -> Watched:
    m = Watched(arch, **options)
    m.v[0] = 4 * LANE
    m.pair(4, m.memory.allocate(np.zeros(256, np.uint32)))
    return m


STORE = "global_store_dword v0, v1, s[4:5]"


@BOTH
def test_storing_a_register_that_was_never_written(arch):
    m = with_output(arch)
    m.pair(126, 0xF0)
    (found,) = m.find(STORE)
    assert (found.check, found.text, found.lanes) == ("undefined", STORE, 0xF0)
    assert "stores v1, which was never given a value" in found.message
    m = with_output(arch)
    m.v[1] = 1
    assert m.find(STORE) == []


@BOTH
def test_only_lanes_that_have_no_value_are_reported(arch):
    text = f"s_mov_b64 exec, 0xffff\nv_mov_b32_e32 v1, 5\ns_mov_b64 exec, -1\n{STORE}\n{STORE}"
    (found,) = with_output(arch).find(text)  # and once only: after the report it counts as defined
    assert found.lanes == 0xFFFF_FFFF_FFFF_0000


@BOTH
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("global_load_dword v2, v9, s[4:5]", "the address v9"),
        ("global_load_dword v2, v0, s[40:41]", "the address s[40:41]"),
        ("flat_load_dword v2, v[8:9]", "the address v[8:9]"),
        ("buffer_load_dword v2, v0, s[40:43], 0 offen", "the buffer descriptor s[40:43]"),
        ("buffer_load_dword v2, v9, s[8:11], 0 offen", "the address v9"),
        ("buffer_load_dword v2, off, s[8:11], s40", "the offset s40"),
        ("ds_read_b32 v2, v9", "the LDS address v9"),
        ("ds_write_b32 v9, v0", "the LDS address v9"),
        ("s_load_dword s50, s[40:41], 0x0", "the address s[40:41]"),
        ("s_cmp_eq_u32 s40, 0\ns_cbranch_scc1 0", "the branch condition scc"),
        ("s_mov_b64 vcc, s[40:41]\ns_cbranch_vccnz 0", "the branch condition vcc"),
        ("s_and_saveexec_b64 s[50:51], s[40:41]", "the lane mask it writes to exec"),
        ("v_cmpx_eq_u32_e32 vcc, v9, v0", "the lane mask it writes to exec"),
        ("s_setreg_b32 hwreg(HW_REG_MODE), s40", "the value for a hardware register s40"),
        ("global_atomic_add v0, v9, s[4:5]", "takes v9"),
    ],
)
def test_where_a_value_matters(arch, text, said):
    """The poison in registers makes some of these go astray: what was found before comes with the error."""
    from petitgen.errors import EmulationError

    m = with_output(arch)
    m.quad(8, 0, 0, 0, 0x00020000)
    try:
        found = m.find(text)
    except EmulationError:
        found = m.sanitizer.findings()
    assert [f.text for f in found if said in f.message] == [text.splitlines()[-1]]


@BOTH
def test_where_it_does_not_matter(arch):
    m = with_output(arch)
    m.s[:, 8] = 1
    text = """v_add_f32_e32 v2, v9, v8
    ds_write_b32 v0, v9
    v_cndmask_b32_e64 v1, v0, v9, s[40:41]
    s_mov_b64 vcc, 0
    v_cndmask_b32_e32 v1, v0, v9, vcc
    s_add_u32 s50, s40, 1
    s_mov_b64 s[42:43], s[40:41]
    s_bitset1_b32 s42, 4
    s_cmp_lg_u32 s42, 0
    s_cbranch_scc1 0
    s_mov_b64 vcc, s[42:43]
    s_cbranch_vccnz 0
    global_store_dword v0, v1, s[4:5]"""
    # scc is not known to be 1 for a compare, but is for the bit test that vccnz makes
    (found,) = m.find(text)
    assert found.text == "s_cbranch_scc1 0"


# --- memory ---------------------------------------------------------------------------------------


@BOTH
def test_lds_that_nobody_wrote(arch):
    text = f"ds_write_b16 v0, v0\ns_waitcnt lgkmcnt(0)\nds_read_{{}} v1, v0\ns_waitcnt lgkmcnt(0)\n{STORE}"
    assert with_output(arch).find(text.format("u16")) == []
    (found,) = with_output(arch).find(text.format("b32"))
    assert found.text == STORE
    assert with_output(arch).find(text.format("b32").replace(STORE, "global_store_short v0, v1, s[4:5]")) == []


@BOTH
def test_parts_of_registers_that_loads_leave_alone(arch):
    m = with_output(arch)
    load = "global_load_short_d16 v1, v0, s[4:5]\ns_waitcnt vmcnt(0)"
    assert m.find(f"{load}\nglobal_store_short v0, v1, s[4:5]") == []
    assert len(with_output(arch).find(f"{load}\n{STORE}")) == 1
    assert with_output(arch).find(f"{load}\n{load.replace('d16', 'd16_hi')}\n{STORE}") == []


@BOTH
def test_device_memory_that_nobody_wrote(arch):
    m = with_output(arch)
    m.pair(6, m.memory.allocate(256))
    m.memory.write(int(m.s[0, 6]) | int(m.s[0, 7]) << 32, np.zeros(32, np.uint32))
    (found,) = m.find(f"global_load_dword v1, v0, s[6:7]\ns_waitcnt vmcnt(0)\n{STORE}")
    assert found.lanes == 0xFFFF_FFFF_0000_0000
    m = with_output(arch)
    m.pair(6, m.memory.allocate(256))
    m.v[1] = 3
    load = "global_load_dword v1, v0, s[6:7]\ns_waitcnt vmcnt(0)"
    assert m.find(f"global_store_dword v0, v1, s[6:7]\ns_waitcnt vmcnt(0)\n{load}\n{STORE}") == []


@BOTH
def test_counting_in_memory_that_nobody_cleared(arch):
    m = with_output(arch)
    m.pair(6, m.memory.allocate(256))
    (found,) = m.find("global_atomic_add v0, v0, s[6:7]")
    assert "updates memory that was never written" in found.message


@BOTH
def test_scalar_loads_and_memory_loaded_to_lds_carry_it_along(arch):
    m = with_output(arch)
    m.pair(6, m.memory.allocate(256))
    (found,) = m.find(
        "s_load_dwordx2 s[50:51], s[6:7], 0x0\ns_waitcnt lgkmcnt(0)\ns_and_saveexec_b64 s[52:53], s[50:51]"
    )
    assert found.text == "s_and_saveexec_b64 s[52:53], s[50:51]"
    m = with_output(arch)
    base = m.memory.allocate(256)
    m.quad(8, base & 0xFFFFFFFF, base >> 32, 128, 0x00020000)  # lanes past 128 bytes are out of range: 0
    text = "buffer_load_dword v0, s[8:11], 0 offen lds\ns_waitcnt vmcnt(0)\nds_read_b32 v1, v0\ns_waitcnt lgkmcnt(0)"
    (found,) = m.find(f"{text}\n{STORE}", "undefined")
    assert found.lanes == 0x0000_0000_FFFF_FFFF


def test_scratch_that_nobody_wrote():
    m = with_output("gfx942", private=16)
    m.pair(102, m.memory.allocate(64 * 16))
    m.v[1] = 7
    text = f"scratch_store_dword off, v1, off offset:4\nscratch_load_dword v1, off, off offset:{{}}\ns_waitcnt vmcnt(0)\n{STORE}"
    assert m.find(text.format(4)) == []
    m = with_output("gfx942", private=16)
    m.pair(102, m.memory.allocate(64 * 16))
    m.v[1] = 7
    assert [f.text for f in m.find(text.format(8))] == [STORE]


def test_what_memory_remembers_of_the_host():
    memory = DeviceMemory()
    kept, filled = memory.allocate(64), memory.allocate(bytes(64))
    memory.write(kept + 16, bytes(8))
    flags = memory.unwritten.bytes()
    assert flags is not None
    start, other = memory.offset_of(kept, 64, "test"), memory.offset_of(filled, 64, "test")
    assert np.flatnonzero(flags[start : start + 64] == 0).tolist() == list(range(16, 24))
    assert not flags[other : other + 64].any()
    memory.write(kept, bytes(64))  # from now on the bytes themselves are kept up to date
    assert not flags[start : start + 64].any()
    memory.free(kept)
    again = memory.allocate(64)
    assert again == kept
    assert flags[start : start + 64].all()
    memory.unwritten.assume_written()
    assert memory.unwritten.bytes() is None
