"""How many workgroups of a kernel run on a CU at once, and so how many waves on a SIMD.

LLVM's figures for gfx90a and gfx942. AMDGPUUsage, kernel descriptor: a lane's registers (VGPRs and AGPRs, one file) go in
blocks of 8, LDS in blocks of 128 dwords. AMDGPUBaseInfo, getMaxWorkGroupsPerCU: 16 workgroups of more than one wave have
barriers. GCNSubtarget, getOccupancyWithNumSGPRs: 8 waves with up to 100 SGPRs, 7 with more, as 800 a SIMD make it.
"""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.spec.model import Arch

REGISTER_GRANULE, LDS_GRANULE = 8, 512
SGPRS_PER_SIMD = 800
MOST_WORKGROUPS = 16  # of more than one wave
UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class Room:
    """What a CU has room for.

    workgroups      0 if not even one fits
    waves_per_simd  of those workgroups, on the SIMD that has most
    limit           what more would not fit: waves, registers, SGPRs, LDS or workgroups
    lds_bytes       of a workgroup, as allocated
    """

    workgroups: int
    waves_per_simd: int
    limit: str
    lds_bytes: int


def room(arch: Arch, registers: int, sgprs: int, lds_bytes: int, block: int) -> Room:
    """Room on a CU for workgroups of `block` work-items.

    registers  VGPRs and AGPRs a lane, as the kernel descriptor allocates them
    sgprs      of a wave, VCC, FLAT_SCRATCH and XNACK_MASK among them, as .sgpr_count in the metadata has them
    lds_bytes  of a workgroup
    """
    waves = -(-block // arch.wave_size)
    of_a_simd = {
        "waves": arch.max_waves_per_simd,
        "registers": arch.registers // (-(-max(registers, 1) // REGISTER_GRANULE) * REGISTER_GRANULE),
        "SGPRs": SGPRS_PER_SIMD // max(sgprs, 1),
    }
    most = {name: there * arch.simds // waves for name, there in of_a_simd.items()}
    lds = -(-lds_bytes // LDS_GRANULE) * LDS_GRANULE
    most["LDS"] = arch.lds_bytes // lds if lds else UNLIMITED
    most["workgroups"] = MOST_WORKGROUPS if waves > 1 else UNLIMITED
    limit = min(most, key=lambda name: most[name])
    return Room(most[limit], -(-most[limit] * waves // arch.simds), limit, lds)
