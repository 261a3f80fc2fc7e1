"""How many waves of a kernel fit on a SIMD at once."""

from __future__ import annotations

from petitgen.spec.model import Arch

# gfx90a and gfx942 hand out registers (VGPRs and AGPRs in one file) in blocks of 8 a lane: LLVM AMDGPUUsage,
# "granulated_workitem_vgpr_count"; LDS goes in blocks of 128 dwords; 800 SGPRs a SIMD.
REGISTER_GRANULE = 8
LDS_GRANULE = 512
SGPRS_PER_SIMD = 800


def waves_per_simd(arch: Arch, registers: int, sgprs: int, lds_bytes: int, block: int) -> int:
    """Waves a SIMD, at least 1.

    registers  VGPRs and AGPRs a lane;  lds_bytes  a workgroup;  block  work-items a workgroup
    """
    limits = [arch.max_waves_per_simd, arch.registers // _round_up(max(registers, 1), REGISTER_GRANULE)]
    limits.append(SGPRS_PER_SIMD // max(sgprs, 1))
    if lds_bytes:
        workgroups = arch.lds_bytes // _round_up(lds_bytes, LDS_GRANULE)
        limits.append(workgroups * -(-block // arch.wave_size) // arch.simds)
    return max(1, min(limits))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
