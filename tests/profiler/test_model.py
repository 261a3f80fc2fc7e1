"""Does the model keep the promises of the documents? Expectations are from data sheets, LLVM and published
measurements, named at each test; configs/archs.yaml is not read here."""

from __future__ import annotations

import numpy as np
import pytest

from petitgen.emulator import DeviceMemory
from petitgen.errors import ProfileError
from petitgen.profiler import Launch, Problem, Profile, profile
from petitgen.profiler.result import CAUSES

from .programs import loop, program

pytestmark = pytest.mark.llvm

ARCHS = ("gfx90a", "gfx942")
UNITS = {"gfx90a": 110, "gfx942": 304}  # CUs of a MI250X die and of a MI300X. Source: their data sheets
CLOCK = {"gfx90a": 1700, "gfx942": 2100}  # MHz, likewise


def run(
    body: str, arch: str = "gfx942", *, grid: int = 1, block: int = 64, vgprs: int = 64, lds: int = 0, **kw
) -> Profile:
    memory = DeviceMemory()
    memory.unwritten.assume_written()
    size = kw.pop("size", 1 << 20)
    warm = kw.pop("warm", False)
    buffer = memory.allocate(size)
    launch = Launch(
        program(body, arch, vgprs, lds),
        "k",
        [buffer, np.uint32(0)],
        grid,
        block,
        memory=memory,
        warm=(buffer,) if warm else (),
    )
    return profile(launch, **kw)


def growth(body: str, few: int, many: int, **kw) -> float:
    """Clocks that one more turn of a loop takes: what starting and ending cost falls out."""
    times = [run(loop(body, n), **kw).clocks for n in (few, many)]
    return (times[1] - times[0]) / (many - few)


def us(profile: Profile) -> float:
    return profile.time_us - profile.launch_us


# --- matrix units -----------------------------------------------------------------------------------------------------

MFMA = {
    "gfx90a": ("v_mfma_f32_32x32x8f16", "v_mfma_f32_16x16x16f16"),
    "gfx942": ("v_mfma_f32_32x32x8_f16", "v_mfma_f32_16x16x16_f16"),
}
# Dense f16: 383.0 TFLOPS of a whole MI250X, 1307.4 of a MI300X. Source: their data sheets
PEAK = {"gfx90a": 383.0e12 / 2, "gfx942": 1307.4e12}
# Clocks of a 32x32x8 and a 16x16x16. Source: AMD matrix instruction calculator
CLOCKS = {"gfx90a": (64, 32), "gfx942": (32, 16)}


@pytest.mark.parametrize("arch", ARCHS)
def test_matrix_instructions_alone_reach_the_peak(arch: str):
    name = MFMA[arch][0]
    body = "\n".join(
        f"{name} v[{16 * i}:{16 * i + 15}], v[64:65], v[66:67], v[{16 * i}:{16 * i + 15}]" for i in range(4)
    )
    turns, waves = 50, 4
    result = run(loop("\n".join([body] * 8), turns), arch, grid=UNITS[arch], block=64 * waves, vgprs=68)
    flops = 2 * 32 * 32 * 8 * 32 * turns * waves * UNITS[arch]
    assert 0.95 <= flops / (us(result) * 1e-6) / PEAK[arch] <= 1.0
    assert result.bound == "MFMA"
    assert result.roofline.mfma_peak * 1e6 == pytest.approx(PEAK[arch], rel=0.005)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("shape", [0, 1])
def test_a_chain_of_sums_takes_the_passes_of_each(arch: str, shape: int):
    name, last = MFMA[arch][shape], (15, 3)[shape]
    body = "\n".join([f"{name} v[0:{last}], v[64:65], v[66:67], v[0:{last}]"] * 64)
    assert growth(body, 10, 30, arch=arch, vgprs=68) / 64 == pytest.approx(CLOCKS[arch][shape], rel=0.03)


# --- vector and scalar units -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "clocks"),
    [
        ("v_add_f32 v1, v1, v2", 4),  # LLVM SISchedule: 1 unit of 4 clocks
        ("v_fma_f64 v[2:3], v[2:3], v[4:5], v[6:7]", 4),  # full rate: 47.9 and 81.7 TFLOPS of FP64
        ("v_exp_f32 v1, v1", 16),  # a quarter of the rate
        ("v_cvt_f32_i32 v1, v1", 16),
        ("s_add_u32 s10, s10, s11", 4),
        ("s_nop 7", 32),  # eight wait states
    ],
)
@pytest.mark.parametrize("arch", ARCHS)
def test_a_chain_of_one_instruction(arch: str, instruction: str, clocks: int):
    body = "\n".join([instruction] * 512)
    assert growth(body, 5, 10, arch=arch) / 512 == pytest.approx(clocks, rel=0.03)


@pytest.mark.parametrize(
    ("arch", "instruction", "flops", "peak"),
    [  # data sheets: vector FP64 and FP32
        ("gfx90a", "v_fma_f64 v[2:3], v[4:5], v[6:7], v[8:9]", 2, 47.9e12 / 2),
        ("gfx942", "v_fma_f64 v[2:3], v[4:5], v[6:7], v[8:9]", 2, 81.7e12),
        ("gfx942", "v_pk_fma_f32 v[2:3], v[4:5], v[6:7], v[8:9]", 4, 163.4e12),
    ],
)
def test_vector_peaks(arch: str, instruction: str, flops: int, peak: float):
    turns = 100
    result = run(loop("\n".join([instruction] * 64), turns), arch, grid=UNITS[arch], block=512)
    done = flops * 64 * 64 * 8 * turns * UNITS[arch]
    assert 0.93 <= done / (us(result) * 1e-6) / peak <= 1.0
    assert result.bound == "VALU"


def beside(arch: str, others: str, count: int) -> float:
    """Time with vector instructions beside matrix instructions of another wave, over that of the latter alone."""
    name = MFMA[arch][1]
    matrix = "\n".join(
        [
            f"{name} v[{4 * (i % 4)}:{4 * (i % 4) + 3}], v[64:65], v[66:67], v[{4 * (i % 4)}:{4 * (i % 4) + 3}]"
            for i in range(16)
        ]
    )
    both = f"""
v_readfirstlane_b32 s4, v0
s_cmp_ge_u32 s4, 256
s_cbranch_scc1 .Lothers
{loop(matrix, 100)}
s_endpgm
.Lothers:
{loop(chr(10).join([others] * 16 * count), 100).replace("Lloop", "Lsecond")}
"""
    alone = run(loop(matrix, 100), arch, block=256, vgprs=68).clocks
    return run(both, arch, block=512, vgprs=68).clocks / alone


@pytest.mark.parametrize(("arch", "free"), [("gfx942", 3), ("gfx90a", 7)])
def test_vector_instructions_fit_beside_matrix_instructions(arch: str, free: int):
    """12 of 16 clocks of a 16x16x16 on gfx942, 28 of 32 on gfx90a. Source: AMD matrix instruction calculator"""
    assert beside(arch, "v_add_f32 v20, v21, v22", free) == pytest.approx(1.0, abs=0.1)
    assert beside(arch, "v_add_f32 v20, v21, v22", free + 1) > 1.1


def test_packed_floats_do_not_run_beside_matrix_instructions():
    """LLVM, isNeverCoissue: packed F32 waits for the matrix unit of gfx942."""
    assert beside("gfx942", "v_pk_fma_f32 v[20:21], v[22:23], v[24:25], v[26:27]", 2) > 1.4


# --- memory -------------------------------------------------------------------------------------------------------------

STREAM = """
s_load_dwordx2 s[4:5], s[0:1], 0
s_mul_i32 s6, s2, {stride}
v_lshlrev_b32 v1, 4, v0
v_add_u32 v1, s6, v1
s_waitcnt lgkmcnt(0)
"""
LOADS = "\n".join(
    f"global_load_dwordx4 v[{4 + 4 * i}:{7 + 4 * i}], v1, s[4:5]\nv_add_u32 v1, {{step}}, v1" for i in range(8)
)


@pytest.mark.parametrize(("arch", "published"), [("gfx942", 4.32e12), ("gfx90a", 1.37e12)])
def test_a_stream_reaches_the_published_bandwidth(arch: str, published: float):
    """BabelStream: copy 4.32 TB/s on a MI300X, dot 1.37 TB/s on a die of a MI250X."""
    groups, turns, block = 4 * UNITS[arch], 16, 256
    each = 8 * turns * 16 * block
    body = STREAM.format(stride=each) + loop(LOADS.format(step=16 * block) + "\ns_waitcnt vmcnt(0)", turns)
    problem = Problem("stream", 0, groups * each)
    result = run(body, arch, grid=groups, block=block, size=groups * each, problem=problem)
    assert groups * each / (us(result) * 1e-6) == pytest.approx(published, rel=0.05)
    assert result.traffic.hbm == pytest.approx(groups * each, rel=0.01)
    assert result.bound == "HBM"
    assert result.hbm_fraction == pytest.approx(groups * each / (us(result) * result.roofline.hbm_peak))


CHASE = """
s_load_dwordx2 s[4:5], s[0:1], 0
v_mov_b32 v1, {start}
s_waitcnt lgkmcnt(0)
"""


@pytest.mark.parametrize(
    ("arch", "step", "size", "warm", "clocks"),
    [  # mt4g (TU Munich): pointer chases on a MI300X and a MI210
        ("gfx942", 0, 1 << 20, False, 116),  # L1
        ("gfx942", 128, 1 << 26, True, 288 + 209),  # Infinity Cache: the L2's latency and its miss penalty
        ("gfx942", 128, 1 << 26, False, 880),  # HBM
        ("gfx90a", 0, 1 << 20, False, 122),
        ("gfx90a", 128, 1 << 22, True, 302),  # L2
        ("gfx90a", 128, 1 << 26, False, 741),
    ],
)
def test_latencies_of_dependent_loads(arch: str, step: int, size: int, warm: bool, clocks: int):
    load = f"global_load_dword v2, v1, s[4:5]\ns_waitcnt vmcnt(0)\nv_add_u32 v1, {step}, v1"
    times = [run(CHASE.format(start=0) + loop(load, n), arch, size=size, warm=warm).clocks for n in (64, 192)]
    overhead = 4 * 7 + 32  # the other six instructions of the loop, and its branch
    assert (times[1] - times[0]) / 128 == pytest.approx(clocks + overhead, rel=0.1)


def test_an_invalidated_l1_holds_nothing():
    """The line comes from the L2 each time: 288 clocks and not 116."""
    load = "global_load_dword v2, v1, s[4:5]\ns_waitcnt vmcnt(0)\n{}"
    kept, gone = (
        [run(CHASE.format(start=0) + loop(load.format(then), n)).clocks for n in (64, 192)]
        for then in ("", "buffer_inv sc1\ns_waitcnt vmcnt(0)")
    )
    once_more = (gone[1] - gone[0] - (kept[1] - kept[0])) / 128
    assert once_more == pytest.approx(288 - 116 + 116, rel=0.15)  # the miss, and the invalidation that is waited for


def test_latency_of_scalar_loads():
    """Arguments are read once: a miss of the scalar cache, 48 + 124 clocks. Source: mt4g, MI300X"""
    assert growth("s_load_dword s4, s[0:1], 0\ns_waitcnt lgkmcnt(0)\n" * 16, 5, 10) / 16 == pytest.approx(
        172 + 4, rel=0.05
    )


def test_a_taken_branch_fetches_anew():
    """LLVM SISchedule, WriteBranch: 8 units of 4 clocks. One that is not taken costs its slot."""
    taken = growth(f"s_branch .Lnext{0}\ns_nop 0\n.Lnext{0}:\n" * 1, 5, 10)
    straight = growth("s_nop 0", 5, 10)
    assert taken - straight == pytest.approx(32 - 4, abs=4)


def test_waits_let_the_newest_operations_be():
    """Loads return in order: waiting for all but the last of four does not wait for the fourth's bank of the LDS."""
    reads = "v_mov_b32 v1, 0\n" + loop(
        "ds_read_b32 v2, v1\nds_read_b32 v3, v1\ns_waitcnt lgkmcnt({})\nv_add_f32 v2, v2, v2", 50
    )
    all_of_them, but_one = (run(reads.format(n), lds=1024).clocks for n in (0, 1))
    assert all_of_them - but_one > 50 * 1


def test_what_was_read_a_while_ago_is_in_the_l2():
    """64 KB are more than the L1 of gfx942 (32 KB): every round after the first takes the L2's 288 clocks."""
    line = "global_load_dword v2, v1, s[4:5]\ns_waitcnt vmcnt(0)\nv_add_u32 v1, 128, v1\nv_and_b32 v1, 0xffff, v1"
    times = [run(CHASE.format(start=0) + loop(line, 512 * n), size=1 << 16).clocks for n in (16, 48)]
    assert (times[1] - times[0]) / (32 * 512) == pytest.approx(288 + 4 * 8 + 32, rel=0.1)


def test_more_waves_hide_latency_until_the_bandwidth_is_used_up():
    """A wave asks for 1 KB and waits its 880 clocks. 4.32 TB/s for 880 clocks at 2.1 GHz are 1.81 MB in flight, 6 KB on
    each of 304 CUs: up to five waves each adds its own rate, and from seven on nothing is to be had."""
    body = STREAM.format(stride=1 << 14) + loop(
        "global_load_dwordx4 v[4:7], v1, s[4:5]\nv_add_u32 v1, 0x400, v1\ns_waitcnt vmcnt(0)", 16
    )
    rates = []
    for waves in (1, 2, 4, 8, 16):
        result = run(body, grid=304 * waves, size=304 * waves << 14)
        rates.append(304 * waves * (1 << 14) / us(result) * 1e-6)  # TB/s
    assert rates[0] == pytest.approx(304 * 1024 / (880 / 2100) * 1e-6, rel=0.15)
    assert rates[1] == pytest.approx(2 * rates[0], rel=0.05)
    assert rates[2] == pytest.approx(4 * rates[0], rel=0.1)
    assert 3.5 < rates[3] < 4.33
    assert 3.9 < rates[4] < 4.33


@pytest.mark.parametrize(("stride", "factor"), [(4, 1), (8, 2), (16, 4), (128, 32)])
def test_bank_conflicts_take_their_factor(stride: int, factor: int):
    """32 banks of 4 bytes serve 32 lanes a clock: lanes `stride` apart meet stride / 4 at a time in one bank."""
    body = f"v_and_b32 v1, 63, v0\nv_mul_u32_u24 v1, {stride}, v1\n" + loop("ds_read_b32 v2, v1\n" * 32, 50)
    result = run(body, block=1024, lds=16384)
    reads = 32 * 50 * 16
    assert result.clocks / reads == pytest.approx(2 * factor, rel=0.1)
    assert result.traffic.lds_conflict_clocks == pytest.approx((2 * factor - 2) * reads)


def test_wide_lds_reads_take_128_bytes_a_clock():
    body = "v_lshlrev_b32 v1, 4, v0\nv_and_b32 v1, 0x3ff, v1\n" + loop("ds_read_b128 v[4:7], v1\n" * 16, 50)
    result = run(body + "\ns_waitcnt lgkmcnt(0)", block=1024, lds=16384)
    moved = 16 * 50 * 16 * 1024
    assert moved / result.clocks == pytest.approx(128, rel=0.05)
    assert result.traffic.lds == moved


def test_latency_of_the_lds():
    """51 clocks on a MI300X, 50 on a MI210. Source: mt4g"""
    for arch, clocks in (("gfx942", 51), ("gfx90a", 50)):
        body = "ds_read_b32 v1, v1\ns_waitcnt lgkmcnt(0)\n" * 8
        per_read = growth(body, 10, 30, arch=arch, lds=1024) / 8
        assert per_read == pytest.approx(clocks + 2 + 4 + 4, rel=0.12)  # its two clocks, its issue and that of the wait


# --- workgroups ----------------------------------------------------------------------------------------------------------


def test_a_barrier_waits_for_the_slowest_wave():
    body = """
v_readfirstlane_b32 s4, v0
s_cmp_ge_u32 s4, 64
s_cbranch_scc1 .Lfast
s_sleep 100
.Lfast:
s_barrier
"""
    result = run(body, block=256)
    assert result.clocks > 6400
    stalled = {stall.cause: stall.clocks for stall in result.stalls}
    assert stalled["barrier"] == pytest.approx(3 * 6400, rel=0.05)


@pytest.mark.parametrize(
    ("vgprs", "lds", "block", "waves", "by"),
    [
        (64, 0, 256, 8, "waves"),
        (128, 0, 256, 4, "registers"),
        (256, 0, 256, 2, "registers"),
        (72, 0, 64, 7, "registers"),
        (64, 32768, 256, 2, "LDS"),
        (64, 65536, 512, 2, "LDS"),
    ],
)
def test_occupancy(vgprs: int, lds: int, block: int, waves: int, by: str):
    """512 registers a lane in blocks of 8, 64 KB of LDS, 8 waves a SIMD. Source: ISA documents, LLVM user guide"""
    result = run("s_nop 0", grid=304 * 64, block=block, vgprs=vgprs, lds=lds)
    assert (result.waves_per_simd, result.occupancy.limited_by) == (waves, by)


def test_rounds_and_the_tail():
    """Two waves a SIMD fit: 304 CUs run 608 workgroups of four waves at once, the 609th alone."""
    body = loop("v_add_f32 v1, v1, v2\n" * 100, 50)
    once, twice = (run(body, grid=n, block=256, vgprs=256) for n in (608, 609))
    assert (once.rounds, twice.rounds) == (1, 2)
    assert twice.clocks == pytest.approx(1.5 * once.clocks, rel=0.1)  # it has its SIMDs for itself
    few = run(body, grid=76, block=256, vgprs=256)
    assert few.cu_coverage == 0.25
    assert run(body, grid=152, block=256, compute_units=152, vgprs=256).cu_coverage == 1.0


def test_every_clock_of_every_wave_has_a_cause():
    body = STREAM.format(stride=1 << 16) + loop(
        "global_load_dwordx4 v[4:7], v1, s[4:5]\nds_read_b32 v9, v0\ns_barrier\nv_exp_f32 v10, v10\ns_waitcnt vmcnt(0)",
        20,
    )
    result = run(body, grid=304, block=256, lds=4096, size=304 << 16, timeline=True)
    in_events = sum(event.end - event.start for event in result.timeline)
    stalled = sum(stall.clocks for stall in result.stalls)
    issued = 4 * sum(use.issues for use in result.classes)
    assert in_events == pytest.approx(stalled + issued, rel=0.02)
    assert stalled == pytest.approx(sum(hot.clocks - 4 * hot.issues for hot in result.hot))
    assert {event.state for event in result.timeline} >= {"issue", "vmem wait", "barrier"}
    assert sum(stall.share for stall in result.stalls) + result.issue_share == pytest.approx(1.0)


# --- sharing -------------------------------------------------------------------------------------------------------------


def test_what_workgroups_share_comes_from_hbm_once():
    """304 workgroups read the same 64 KB: each XCD fetches it, HBM gives it once."""
    body = STREAM.format(stride=0) + loop(LOADS.format(step=4096) + "\ns_waitcnt vmcnt(0)", 2)
    result = run(body, grid=304, block=256, size=1 << 16)
    assert result.traffic.l2 == 304 * (1 << 16)
    assert result.traffic.mall == 8 * (1 << 16)
    assert result.traffic.hbm == 1 << 16
    assert result.traffic.l2_hit == pytest.approx(1 - 8 / 304)


def test_a_warm_buffer_does_not_come_from_hbm():
    body = STREAM.format(stride=1 << 15) + loop(LOADS.format(step=4096) + "\ns_waitcnt vmcnt(0)", 1)
    cold, warm = (run(body, grid=304, block=256, size=304 << 15, warm=w) for w in (False, True))
    assert cold.traffic.hbm == 304 << 15
    assert warm.traffic.hbm == 0
    assert warm.clocks < cold.clocks


def test_what_does_not_fit_the_caches_is_fetched_again():
    """Eight rounds of workgroups over 512 MB, twice the Infinity Cache: half of it is still there at the next use."""
    groups = 304 * 8
    size = 1 << 29
    each = 8 * 4096
    body = STREAM.format(stride=each) + loop(LOADS.format(step=4096), 1)
    fits = run(body, grid=groups, block=256, size=groups * each)
    assert fits.traffic.hbm == pytest.approx(groups * each, rel=0.01)
    assert size > fits.traffic.hbm


def test_a_loop_that_exceeds_the_instruction_cache_is_told():
    """64 KB for two CUs of gfx942, 32 KB of gfx90a. Source: ROCm documentation, GPU specifications"""
    body = "v_perm_b32 v1, v1, v2, v3\n" * 5000  # 40 KB
    notes = {arch: " ".join(run(loop(body, 2), arch).notes) for arch in ARCHS}
    assert "instruction cache, which is not modelled" in notes["gfx90a"]
    assert "instruction cache, which is not modelled" not in notes["gfx942"]


# --- refusals ------------------------------------------------------------------------------------------------------------


def test_a_kernel_that_does_not_end(monkeypatch):
    monkeypatch.setattr("petitgen.profiler.trace.MOST", 10_000)
    with pytest.raises(ProfileError, match="the trace stopped: more than 10000 wave-instructions executed"):
        run(".Lhere:\ns_branch .Lhere")


def test_a_workgroup_that_does_not_fit():
    with pytest.raises(ProfileError, match="does not fit a CU: registers"):
        run("s_nop 0", block=1024, vgprs=256)


def test_another_architecture():
    with pytest.raises(ProfileError, match="is for gfx942, the model was asked for gfx90a"):
        profile(Launch(program("s_nop 0"), "k", [0, np.uint32(0)], 1, 64), "gfx90a")


# --- causes --------------------------------------------------------------------------------------------------------------

ONE = "v_mfma_f32_32x32x8_f16 v[0:15], v[32:33], v[34:35], v[0:15]\n"
OTHER = "v_mfma_f32_32x32x8_f16 v[16:31], v[32:33], v[34:35], v[16:31]\n"
THIRTY = "global_load_dwordx4 v[4:7], v1, s[4:5]\n" * 30
WHY = {  # cause -> (a kernel that stalls for it, work-items)
    "vmem wait": (STREAM.format(stride=4096) + THIRTY + "s_waitcnt vmcnt(0)", 64),
    "store wait": (STREAM.format(stride=4096) + "global_store_dword v1, v2, s[4:5]\ns_waitcnt vmcnt(0)", 64),
    "lds wait": ("ds_read_b32 v1, v2\ns_waitcnt lgkmcnt(0)", 64),
    "smem wait": ("s_load_dwordx2 s[4:5], s[0:1], 0x0\ns_waitcnt lgkmcnt(0)", 64),
    "barrier": ("v_readfirstlane_b32 s4, v0\ns_cmp_ge_u32 s4, 64\ns_cbranch_scc1 .L1\ns_sleep 9\n.L1:\ns_barrier", 128),
    "valu result": ("v_exp_f32 v1, v1\nv_add_f32 v2, v1, v1", 64),
    "mfma result": (ONE * 2, 64),
    "valu busy": ("v_exp_f32 v1, v1\nv_exp_f32 v2, v3", 64),
    "mfma busy": (ONE + OTHER, 64),
    "lds busy": ("v_lshlrev_b32 v1, 7, v0\n" + "ds_read_b32 v2, v1\n" * 8, 64),
    "vmem busy": (STREAM.format(stride=4096) + THIRTY, 64),
    "arbitration": ("s_add_u32 s4, s4, s5\n" * 9, 512),
    "fetch": ("s_branch .Lnext\n.Lelse:\ns_nop 0\n.Lnext:", 64),
    "nop": ("s_nop 7", 64),
}


def test_every_cause_is_one_that_occurs():
    for cause, (body, block) in WHY.items():
        assert cause in {stall.cause for stall in run(body, block=block, lds=16384).stalls}, cause
    assert set(WHY) == set(CAUSES)
