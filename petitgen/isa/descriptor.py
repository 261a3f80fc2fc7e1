"""The 64-byte kernel descriptor (symbol NAME.kd) of the amdhsa ABI, every field by name.

Source: LLVM "User Guide for AMDGPU Backend", Kernel Descriptor, tables for GFX90A and GFX942
(compute_pgm_rsrc1/2/3).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from petitgen.errors import CodeObjectError

SIZE = 64


@dataclass(frozen=True, slots=True)
class KernelDescriptor:
    """Fields in bit order. Sizes in bytes; float modes as in the MODE register (round: 0 nearest even, 1
    +inf, 2 -inf, 3 zero;
    denormals: 0 flush both, 1 flush outputs, 2 flush inputs, 3 keep)."""

    group_segment_fixed_size: int
    private_segment_fixed_size: int
    kernarg_size: int
    kernel_code_entry_byte_offset: int  # signed, from the descriptor's own address
    accum_offset: int  # first AGPR, in registers: 4..256
    tg_split: int
    granulated_workitem_vgpr_count: int
    granulated_wavefront_sgpr_count: int
    priority: int
    float_round_mode_32: int
    float_round_mode_16_64: int
    float_denorm_mode_32: int
    float_denorm_mode_16_64: int
    priv: int
    enable_dx10_clamp: int
    debug_mode: int
    enable_ieee_mode: int
    bulky: int
    cdbg_user: int
    fp16_overflow: int
    enable_private_segment: int  # gfx90a: wave offset SGPR; gfx942: architected scratch is set up
    user_sgpr_count: int
    enable_trap_handler: int
    enable_sgpr_workgroup_id_x: int
    enable_sgpr_workgroup_id_y: int
    enable_sgpr_workgroup_id_z: int
    enable_sgpr_workgroup_info: int
    enable_vgpr_workitem_id: int  # 0: x, 1: x and y, 2: x, y, z (packed into v0, 10 bits each)
    enable_exceptions: (
        int  # 7 bits: invalid, denormal source, division by zero, overflow, underflow, inexact, integer / 0
    )
    granulated_lds_size: int
    enable_sgpr_private_segment_buffer: int
    enable_sgpr_dispatch_ptr: int
    enable_sgpr_queue_ptr: int
    enable_sgpr_kernarg_segment_ptr: int
    enable_sgpr_dispatch_id: int
    enable_sgpr_flat_scratch_init: int
    enable_sgpr_private_segment_size: int
    enable_wavefront_size32: int
    uses_dynamic_stack: int
    kernarg_preload_spec_length: int  # SGPRs
    kernarg_preload_spec_offset: int  # dwords into the kernarg segment

    @property
    def vgpr_count(self) -> int:
        """Registers a lane is given, VGPRs and AGPRs together (granules of 8)."""
        return (self.granulated_workitem_vgpr_count + 1) * 8

    @property
    def sgpr_count(self) -> int:
        """Scalar registers a wave is given (granules of 16)."""
        return (self.granulated_wavefront_sgpr_count // 2 + 1) * 16


# name: (first bit of the descriptor, width)
_RSRC3, _RSRC1, _RSRC2, _PROPERTIES, _PRELOAD = 44 * 8, 48 * 8, 52 * 8, 56 * 8, 58 * 8
LAYOUT: dict[str, tuple[int, int]] = {
    "group_segment_fixed_size": (0, 32), "private_segment_fixed_size": (32, 32), "kernarg_size": (64, 32),
    "kernel_code_entry_byte_offset": (128, 64),
    "accum_offset": (_RSRC3, 6), "tg_split": (_RSRC3 + 16, 1),
    "granulated_workitem_vgpr_count": (_RSRC1, 6), "granulated_wavefront_sgpr_count": (_RSRC1 + 6, 4),
    "priority": (_RSRC1 + 10, 2), "float_round_mode_32": (_RSRC1 + 12, 2),
    "float_round_mode_16_64": (_RSRC1 + 14, 2),
    "float_denorm_mode_32": (_RSRC1 + 16, 2), "float_denorm_mode_16_64": (_RSRC1 + 18, 2),
    "priv": (_RSRC1 + 20, 1),
    "enable_dx10_clamp": (_RSRC1 + 21, 1), "debug_mode": (_RSRC1 + 22, 1), "enable_ieee_mode": (_RSRC1 + 23,
    1),
    "bulky": (_RSRC1 + 24, 1), "cdbg_user": (_RSRC1 + 25, 1), "fp16_overflow": (_RSRC1 + 26, 1),
    "enable_private_segment": (_RSRC2, 1), "user_sgpr_count": (_RSRC2 + 1, 5),
    "enable_trap_handler": (_RSRC2 + 6, 1),
    "enable_sgpr_workgroup_id_x": (_RSRC2 + 7, 1), "enable_sgpr_workgroup_id_y": (_RSRC2 + 8, 1),
    "enable_sgpr_workgroup_id_z": (_RSRC2 + 9, 1), "enable_sgpr_workgroup_info": (_RSRC2 + 10, 1),
    "enable_vgpr_workitem_id": (_RSRC2 + 11, 2), "granulated_lds_size": (_RSRC2 + 15, 9),
    "enable_exceptions": (_RSRC2 + 24, 7),
    "enable_sgpr_private_segment_buffer": (_PROPERTIES, 1), "enable_sgpr_dispatch_ptr": (_PROPERTIES + 1, 1),
    "enable_sgpr_queue_ptr": (_PROPERTIES + 2, 1), "enable_sgpr_kernarg_segment_ptr": (_PROPERTIES + 3, 1),
    "enable_sgpr_dispatch_id": (_PROPERTIES + 4, 1), "enable_sgpr_flat_scratch_init": (_PROPERTIES + 5, 1),
    "enable_sgpr_private_segment_size": (_PROPERTIES + 6, 1), "enable_wavefront_size32": (_PROPERTIES + 10,
    1),
    "uses_dynamic_stack": (_PROPERTIES + 11, 1),
    "kernarg_preload_spec_length": (_PRELOAD, 7), "kernarg_preload_spec_offset": (_PRELOAD + 7, 9),
}  # fmt: skip
assert set(LAYOUT) == {f.name for f in fields(KernelDescriptor)}


def parse_descriptor(data: bytes, where: str) -> KernelDescriptor:
    """Decode 64 bytes. CodeObjectError if there are fewer."""
    if len(data) < SIZE:
        raise CodeObjectError(
            f"{where}: kernel descriptor has {len(data)} bytes, expected {SIZE}; the file is truncated"
        )
    bits = int.from_bytes(data[:SIZE], "little")
    values = {name: bits >> low & ((1 << width) - 1) for name, (low, width) in LAYOUT.items()}
    values["accum_offset"] = (values["accum_offset"] + 1) * 4
    if values["kernel_code_entry_byte_offset"] >> 63:
        values["kernel_code_entry_byte_offset"] -= 1 << 64
    return KernelDescriptor(**values)
