"""Instructions whose every ordered pair is put before LLVM's hazard recognizer.

Their registers are chosen to meet: results in v0-v3 and s4-s7, sources among the same, each instruction in several forms.
"""

from __future__ import annotations

from petitgen.emulator.mfma_table import SHAPES, Shape

_EVERYWHERE = """
v_mov_b32_e32 v1, v40
v_mov_b32_e32 v40, v1
v_mov_b32_e32 v40, s4
v_mov_b32_e32 v40, vcc_lo
v_mov_b32_e32 v40, exec_lo
v_add_f32_e32 v2, v1, v3
v_add_f32_e64 v40, s4, v41
v_add_f64 v[0:1], v[2:3], v[42:43]
v_fma_f64 v[40:41], v[42:43], v[44:45], v[46:47]
v_fma_f64 v[0:1], v[2:3], v[44:45], v[46:47]
v_fmac_f64_e32 v[40:41], v[42:43], v[44:45]
v_fma_f32 v1, v2, v3, v1
v_fmac_f32_e32 v1, v2, v40
v_pk_fma_f32 v[0:1], v[2:3], v[40:41], v[42:43]
v_pk_mul_f32 v[0:1], v[2:3], v[40:41] op_sel_hi:[0,0]
v_pk_add_f16 v1, v2, v40
v_mad_u64_u32 v[0:1], s[4:5], v2, v3, v[42:43]
v_perm_b32 v40, v1, v2, v3
v_lshlrev_b32_e32 v2, 3, v1
v_rcp_f32_e32 v1, v2
v_exp_f32_e32 v2, v1
v_sqrt_f16_e32 v1, v40
v_rcp_f64_e32 v[0:1], v[2:3]
v_rsq_f32_e64 v3, |v1|
v_cmp_lt_f32_e32 vcc, v1, v2
v_cmp_lt_f32_e64 s[4:5], v1, v40
v_cmp_lt_f64_e64 s[6:7], v[0:1], v[2:3]
v_cmpx_lt_f32_e32 vcc, v40, v41
v_cmpx_lt_f32_e64 s[4:5], v1, v41
v_cndmask_b32_e32 v1, v2, v3, vcc
v_cndmask_b32_e64 v40, v41, v1, s[4:5]
v_add_co_u32_e32 v1, vcc, v2, v3
v_addc_co_u32_e32 v1, vcc, v40, v41, vcc
v_addc_co_u32_e64 v1, s[4:5], v40, v41, s[6:7]
v_div_scale_f32 v1, vcc, v2, v2, v40
v_div_scale_f64 v[0:1], s[4:5], v[2:3], v[2:3], v[40:41]
v_div_fmas_f32 v40, v1, v2, v3
v_div_fmas_f64 v[40:41], v[42:43], v[44:45], v[46:47]
v_div_fixup_f32 v1, v2, v3, v40
v_readlane_b32 s4, v1, s5
v_readlane_b32 s5, v40, s4
v_readlane_b32 s6, v2, 3
v_readfirstlane_b32 s4, v1
v_readfirstlane_b32 m0, v40
v_readfirstlane_b32 vcc_lo, v40
v_writelane_b32 v1, 5, s4
v_writelane_b32 v2, s4, 3
v_writelane_b32 v40, 1, m0
v_add_f32_sdwa v1, v2, v3 dst_sel:WORD_1 dst_unused:UNUSED_PAD src0_sel:DWORD src1_sel:DWORD
v_add_f32_sdwa v2, v1, v3 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:WORD_1 src1_sel:DWORD
v_cmp_lt_f32_sdwa s[4:5], v1, v3 src0_sel:WORD_1 src1_sel:DWORD
v_fma_f16 v1, v2, v3, v40 op_sel:[0,0,0,1]
v_fma_f16 v1, v2, v3, v40 op_sel:[1,0,0,0]
v_fma_mixhi_f16 v1, v2, v3, v40
v_mov_b32_dpp v1, v2 quad_perm:[1,0,3,2] row_mask:0xf bank_mask:0xf
v_add_f32_dpp v40, v1, v41 row_shr:1 row_mask:0xf bank_mask:0xf
v_accvgpr_read_b32 v1, a1
v_accvgpr_write_b32 a1, v1
v_accvgpr_mov_b32 a2, a1
v_dot2_f32_f16 v1, v2, v3, v40
v_dot2_f32_f16 v40, v1, v41, v42
v_dot2_f32_f16 v1, v40, v41, v1
v_dot4_i32_i8 v1, v2, v3, v40
v_dot2c_f32_f16_e32 v1, v2, v3
v_dot4c_i32_i8_e32 v1, v40, v41
v_nop
s_mov_b32 s4, s5
s_mov_b64 s[4:5], s[6:7]
s_mov_b32 m0, s4
s_mov_b64 exec, s[4:5]
s_mov_b64 vcc, s[4:5]
s_add_u32 s4, s5, s6
s_and_saveexec_b64 s[4:5], vcc
s_setreg_b32 hwreg(HW_REG_MODE, 0, 4), s4
s_setreg_imm32_b32 hwreg(HW_REG_MODE, 4, 4), 0xf
s_setreg_b32 hwreg(HW_REG_TRAPSTS, 0, 4), s4
s_getreg_b32 s4, hwreg(HW_REG_MODE, 0, 4)
s_getreg_b32 s4, hwreg(HW_REG_TRAPSTS, 0, 4)
s_movrels_b32 s4, s5
s_movreld_b64 s[4:5], s[6:7]
s_sendmsg sendmsg(MSG_INTERRUPT)
s_ttracedata
s_load_dword s4, s[6:7], 0x0
s_load_dwordx4 s[4:7], s[2:3], 0x0
s_buffer_load_dword s8, s[4:7], 0x0
buffer_load_dword v1, v2, s[4:7], s8 offen
buffer_load_dword v1, off, s[4:7], 0
buffer_load_dword v1, off, s[20:23], s4
buffer_load_dwordx4 v[0:3], v40, s[20:23], 0 offen
buffer_load_dword a1, v1, s[20:23], 0 offen
buffer_load_dword v2, s[4:7], 0 offen lds
buffer_load_dword off, s[20:23], 0 lds
buffer_store_dword v1, v2, s[4:7], 0 offen
buffer_store_dwordx2 v[0:1], v40, s[20:23], 0 offen
buffer_store_dwordx3 v[0:2], v40, s[20:23], 0 offen
buffer_store_dwordx4 v[0:3], v40, s[20:23], 0 offen
buffer_store_dwordx4 v[0:3], off, s[20:23], s8
buffer_store_dwordx4 a[0:3], off, s[20:23], 0
buffer_atomic_add v1, v2, s[20:23], 0 offen
buffer_atomic_cmpswap_x2 v[0:3], v40, s[20:23], 0 offen
global_load_dword v1, v2, s[4:5]
global_load_dwordx4 v[0:3], v[40:41], off
global_store_dword v1, v2, s[4:5]
global_store_dwordx2 v1, v[2:3], s[20:21]
global_store_dwordx3 v[40:41], v[0:2], off
global_store_dwordx4 v40, v[0:3], s[20:21]
global_store_dwordx4 v[40:41], a[0:3], off
global_atomic_add v40, v1, s[20:21]
global_atomic_cmpswap_x2 v40, v[0:3], s[20:21]
flat_load_dword v1, v[2:3]
flat_store_dwordx4 v[40:41], v[0:3]
flat_store_dword v[0:1], v2
scratch_load_dword v1, v2, off
scratch_load_dword v40, off, s4
scratch_store_dwordx4 v40, v[0:3], off
ds_read_b32 v1, v2
ds_read_b128 v[0:3], v40
ds_read_b32 a1, v1
ds_write_b32 v1, v2
ds_write_b128 v40, v[0:3]
ds_write_b64 v40, a[0:1]
ds_add_rtn_u32 v1, v2, v3
ds_bpermute_b32 v1, v2, v3
ds_read_addtid_b32 v1
ds_write_addtid_b32 v1
"""

_GFX942 = """
v_cvt_pk_fp8_f32 v1, v2, v3 op_sel:[0,0,1]
v_cvt_pk_fp8_f32 v1, v2, v3
v_cvt_f32_fp8_e32 v40, v1
v_lshl_add_u64 v[0:1], v[2:3], 2, v[40:41]
global_load_lds_dword v[0:1], off
global_load_lds_dword v1, s[4:5]
global_atomic_pk_add_bf16 v40, v1, s[20:21]
"""


def _registers(letter: str, first: int, count: int) -> str:
    return f"{letter}{first}" if count == 1 else f"{letter}[{first}:{first + count - 1}]"


def _matrix(shape: Shape, letter: str = "v") -> list[str]:
    """Forms of one matrix instruction: accumulating, shifted by two registers, starting anew, reading v0-v3 as factors."""
    n, a, b = shape.c_registers, shape.a_registers, shape.b_registers
    sparse = [] if not shape.sparse else ["v39"]

    def form(d: int, first: int, second: int, c: str) -> str:
        factors = [_registers("v", first, a), _registers("v", second, b)]
        last = sparse or [c]
        return f"{shape.mnemonic} {', '.join([_registers(letter, d, n), *factors, *last])}"

    far = 44 if n < 32 else 64
    forms = [form(0, far, far + 8, _registers(letter, 0, n)), form(2, far, far + 8, _registers(letter, 2, n))]
    forms.append(form(80, 0, far, _registers(letter, 80, n)) if a <= 4 else "")
    forms.append(form(80, far, 0, _registers(letter, 80, n)))
    if not sparse:
        forms += [form(0, far, far + 8, "0"), form(80, far, far + 8, _registers(letter, 0, n))]
        if n > 2:
            forms.append(form(80, far, far + 8, _registers(letter, 2, n)))
    else:
        forms.append(form(80, far, far + 8, "").replace("v39", "v1"))
    return [text for text in forms if text]


MATRIX = {
    "gfx90a": ("v_mfma_f32_4x4x4f16", "v_mfma_f32_16x16x16f16", "v_mfma_f32_32x32x8f16", "v_mfma_f32_16x16x4f32",
               "v_mfma_i32_16x16x16i8", "v_mfma_f64_16x16x4f64", "v_mfma_f64_4x4x4f64", "v_mfma_f32_32x32x1f32"),
    "gfx942": ("v_mfma_f32_4x4x4_16b_f16", "v_mfma_f32_16x16x16_f16", "v_mfma_f32_32x32x8_f16", "v_mfma_f32_16x16x8_xf32",
               "v_mfma_f32_4x4x1_16b_f32", "v_mfma_f32_16x16x4_f32", "v_mfma_f32_32x32x2_f32", "v_mfma_f32_16x16x4_4b_f16",
               "v_mfma_i32_16x16x32_i8", "v_mfma_f32_16x16x32_fp8_fp8", "v_mfma_f64_16x16x4_f64", "v_mfma_f64_4x4x4_4b_f64",
               "v_smfmac_f32_16x16x32_f16", "v_smfmac_f32_32x32x16_bf16", "v_mfma_f32_32x32x4_2b_f16"),
}  # fmt: skip


def plain(arch: str) -> list[str]:
    """Everything that is no matrix instruction."""
    return [line for line in (_EVERYWHERE + (_GFX942 if arch == "gfx942" else "")).splitlines() if line]


def matrix(arch: str) -> list[str]:
    """Matrix instructions, one accumulating in AGPRs among them."""
    forms = [text for name in MATRIX[arch] for text in _matrix(SHAPES[arch][name])]
    return forms + _matrix(SHAPES[arch][MATRIX[arch][1]], "a")


def every_matrix(arch: str) -> list[str]:
    """All matrix instructions, each in its plainest form."""
    return [_matrix(shape)[0] for shape in SHAPES[arch].values()]
