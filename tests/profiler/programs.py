"""Tiny assembled kernels for the model: a body between the usual directives, linked into a code object."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from petitgen.isa import CodeObject

SOURCE = """
.amdgcn_target "amdgcn-amd-amdhsa--{arch}"
.text
.globl k
.p2align 8
.type k,@function
k:
{body}
s_endpgm
.Lend:
.size k, .Lend-k
.rodata
.p2align 6
.amdhsa_kernel k
  .amdhsa_group_segment_fixed_size {lds}
  .amdhsa_kernarg_size 16
  .amdhsa_user_sgpr_kernarg_segment_ptr 1
  .amdhsa_system_sgpr_workgroup_id_x 1
  .amdhsa_system_vgpr_workitem_id 0
  .amdhsa_next_free_vgpr {vgprs}
  .amdhsa_next_free_sgpr 40
  .amdhsa_accum_offset {vgprs}
.end_amdhsa_kernel
.amdgpu_metadata
---
amdhsa.version:
  - 1
  - 2
amdhsa.kernels:
  - .name: k
    .symbol: k.kd
    .kernarg_segment_size: 16
    .kernarg_segment_align: 8
    .group_segment_fixed_size: {lds}
    .private_segment_fixed_size: 0
    .wavefront_size: 64
    .sgpr_count: 46
    .vgpr_count: {vgprs}
    .agpr_count: 0
    .max_flat_workgroup_size: 1024
    .args:
      - .name: buffer
        .offset: 0
        .size: 8
        .value_kind: global_buffer
        .address_space: global
      - .name: count
        .offset: 8
        .size: 4
        .value_kind: by_value
...
.end_amdgpu_metadata
"""


@cache
def program(body: str, arch: str = "gfx942", vgprs: int = 64, lds: int = 0) -> CodeObject:
    """A code object with one kernel `k(buffer, count)`. On entry s[0:1] is the kernarg, s2 the workgroup, v0 the work-item."""
    with TemporaryDirectory() as directory:
        source, output = Path(directory) / "k.s", Path(directory) / "k.hsaco"
        source.write_text(SOURCE.format(arch=arch, body=body, vgprs=vgprs, lds=lds))
        command = ["clang-19", "-x", "assembler", "-target", "amdgcn-amd-amdhsa", f"-mcpu={arch}", "-fuse-ld=lld"]
        made = subprocess.run([*command, "-o", output, source], capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        return CodeObject.load(output)


def loop(body: str, times: int) -> str:
    """`body`, `times` times over, counted in s33."""
    return f"s_mov_b32 s33, {times}\n.Lloop:\n{body}\ns_sub_u32 s33, s33, 1\ns_cmp_lg_u32 s33, 0\ns_cbranch_scc1 .Lloop"
