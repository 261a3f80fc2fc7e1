"""Rates of vector instructions against LLVM's scheduling model, as llvm-mca prints it: 1 unit is 4 clocks."""

from __future__ import annotations

import re
import subprocess

import pytest

from petitgen.profiler.classes import MFMA, TRANS, VALU, build_table, class_of, is_conversion
from petitgen.profiler.timing import load_timing
from petitgen.profiler.trace import TracedProgram

from .programs import program

pytestmark = pytest.mark.llvm

BOTH = """
v_add_f32 v0, v1, v2
v_add_u32 v0, v1, v2
v_add3_u32 v0, v1, v2, v3
v_and_or_b32 v0, v1, v2, v3
v_bfe_u32 v0, v1, v2, v3
v_bfi_b32 v0, v1, v2, v3
v_bfrev_b32 v0, v1
v_alignbit_b32 v0, v1, v2, v3
v_cndmask_b32 v0, v1, v2, vcc
v_cmp_gt_u32 vcc, v1, v2
v_cvt_f16_f32 v0, v1
v_cvt_f32_f16 v0, v1
v_cvt_f32_i32 v0, v1
v_cvt_i32_f32 v0, v1
v_cvt_f32_ubyte1 v0, v1
v_cvt_pkrtz_f16_f32 v0, v1, v2
v_cvt_pk_u8_f32 v0, v1, v2, v3
v_dot2_f32_f16 v0, v1, v2, v3
v_exp_f32 v0, v1
v_fma_f32 v0, v1, v2, v3
v_fma_f64 v[0:1], v[2:3], v[4:5], v[6:7]
v_fma_mix_f32 v0, v1, v2, v3
v_ldexp_f32 v0, v1, v2
v_log_f32 v0, v1
v_lshl_add_u32 v0, v1, v2, v3
v_lshlrev_b64 v[0:1], v2, v[4:5]
v_mad_u32_u24 v0, v1, v2, v3
v_max_f32 v0, v1, v2
v_mov_b32 v0, v1
v_mul_lo_u32 v0, v1, v2
v_perm_b32 v0, v1, v2, v3
v_pk_add_f16 v0, v1, v2
v_pk_fma_f32 v[0:1], v[2:3], v[4:5], v[6:7]
v_pk_mul_f32 v[0:1], v[2:3], v[4:5]
v_pk_lshlrev_b16 v0, v1, v2
v_rcp_f32 v0, v1
v_readfirstlane_b32 s4, v1
v_rsq_f32 v0, v1
v_sin_f32 v0, v1
v_sqrt_f32 v0, v1
"""
ONLY_942 = """
v_cvt_f32_fp8 v0, v1
v_cvt_pk_f32_bf8 v[0:1], v2
v_cvt_pk_f32_fp8 v[0:1], v2
v_mov_b64 v[0:1], v[2:3]
v_mfma_f32_16x16x16_bf16 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f32_16x16x32_fp8_bf8 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f32_16x16x4_f32 v[0:3], v4, v6, v[0:3]
v_mfma_f32_32x32x8_f16 v[0:15], v[20:21], v[22:23], v[0:15]
v_mfma_f32_32x32x4_xf32 v[0:15], v[20:21], v[22:23], v[0:15]
v_mfma_f32_32x32x4_2b_f16 v[0:31], v[40:41], v[42:43], v[0:31]
v_mfma_f32_4x4x4_16b_f16 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f64_16x16x4_f64 v[0:7], v[8:9], v[10:11], v[0:7]
v_smfmac_f32_16x16x32_f16 v[0:3], v[4:5], v[6:9], v10
"""
ONLY_90A = """
v_mfma_f32_16x16x16f16 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f32_16x16x16bf16_1k v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f32_32x32x8f16 v[0:15], v[20:21], v[22:23], v[0:15]
v_mfma_f32_4x4x4f16 v[0:3], v[4:5], v[6:7], v[0:3]
v_mfma_f64_4x4x4f64 v[0:1], v[2:3], v[4:5], v[0:1]
"""


def units(arch: str, text: str) -> dict[str, tuple[int, float]]:
    """Instruction -> latency and reciprocal throughput in units."""
    command = [
        "llvm-mca-19",
        "-mtriple=amdgcn",
        f"-mcpu={arch}",
        "-instruction-info",
        "-summary-view=0",
        "-resource-pressure=0",
    ]
    said = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^ \d+ +(\d+) +([\d.]+) .* (v_\w+) ", said, re.M)
    return {re.sub("_e(32|64)$", "", name): (int(latency), float(rate)) for latency, rate, name in rows}


@pytest.mark.parametrize(("arch", "own"), [("gfx90a", ONLY_90A), ("gfx942", ONLY_942)])
def test_clocks_of_vector_instructions(arch: str, own: str):
    text = BOTH.strip() + own.rstrip()
    timing, expected = load_timing(arch), units(arch, text)
    code = program(text, arch)
    traced = TracedProgram(code, code.kernel("k"))
    table = build_table([traced.block(code.kernel("k").entry)], set(), timing)
    seen = 0
    for ins, kind, clocks in zip(table.instructions, table.kind, table.clocks, strict=True):
        if ins.mnemonic not in expected:
            continue
        seen += 1
        latency, rate = expected[ins.mnemonic]
        assert kind == class_of(ins)
        assert kind in (VALU, TRANS, MFMA)
        # llvm-mca adds what a matrix instruction reads late to its latency; the unit is taken for its passes
        assert clocks == 4 * (rate if kind == MFMA else latency), ins.text
        assert is_conversion(ins) == ("cvt" in ins.mnemonic and latency == 4)
    assert seen == len(text.splitlines())
