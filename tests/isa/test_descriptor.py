"""Kernel descriptors with random fields, against the directives llvm-objdump makes of them."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from petitgen.isa import CodeObject
from petitgen.isa.descriptor import LAYOUT, SIZE, KernelDescriptor, parse_descriptor
from petitgen.isa.formats import ARCHS

OBJECTS = Path(__file__).parent / "objects"
# .amdhsa_<directive> by field, where the name is not the field's own.
DIRECTIVES = {
    "enable_dx10_clamp": "dx10_clamp",
    "enable_ieee_mode": "ieee_mode",
    "enable_vgpr_workitem_id": "system_vgpr_workitem_id",
    **{f"enable_sgpr_{name}": f"system_sgpr_{name}" for name in ("workgroup_id_x", "workgroup_id_y")},
    **{f"enable_sgpr_{name}": f"system_sgpr_{name}" for name in ("workgroup_id_z", "workgroup_info")},
    **{f"enable_sgpr_{name}": f"user_sgpr_{name}" for name in ("dispatch_ptr", "queue_ptr", "dispatch_id")},
    **{
        f"enable_sgpr_{name}": f"user_sgpr_{name}" for name in ("kernarg_segment_ptr", "private_segment_size")
    },
    "kernarg_preload_spec_length": "user_sgpr_kernarg_preload_length",
    "kernarg_preload_spec_offset": "user_sgpr_kernarg_preload_offset",
}
SCRATCH = {  # architected flat scratch has no registers of its own to set up
    "gfx90a": {
        "enable_private_segment": "system_sgpr_private_segment_wavefront_offset",
        "enable_sgpr_private_segment_buffer": "user_sgpr_private_segment_buffer",
        "enable_sgpr_flat_scratch_init": "user_sgpr_flat_scratch_init",
    },
    "gfx942": {"enable_private_segment": "enable_private_segment"},
}
OWN_NAME = (
    *("group_segment_fixed_size", "private_segment_fixed_size", "kernarg_size", "accum_offset", "tg_split"),
    *("float_round_mode_32", "float_round_mode_16_64", "float_denorm_mode_32", "float_denorm_mode_16_64"),
    *("fp16_overflow", "uses_dynamic_stack"),
)


def drawn(seed: int, arch: str) -> bytes:
    """64 bytes with random values in the fields that have directives."""
    rng = random.Random(f"{arch} {seed}")
    bits = 0
    for name in (*DIRECTIVES, *OWN_NAME, *SCRATCH[arch], "granulated_workitem_vgpr_count"):
        low, width = LAYOUT[name]
        bits |= rng.randrange(1 << min(width, 16)) << low
    return bits.to_bytes(SIZE, "little")


def directives(elf: Path, kernel: str) -> dict[str, int]:
    """{directive without .amdhsa_: value} as llvm-objdump reads the descriptor of a kernel."""
    command = ["llvm-objdump-19", "-D", f"--disassemble-symbols={kernel}.kd", str(elf)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"^\t\.amdhsa_(\w+) (\d+)$", text, re.MULTILINE)}


def differing(ours: KernelDescriptor, theirs: dict[str, int], arch: str) -> list[str]:
    """The fields that differ; a directive that is not printed stands for 0."""
    names = {name: name for name in OWN_NAME} | DIRECTIVES | SCRATCH[arch]
    wrong = [field for field, name in names.items() if getattr(ours, field) != theirs.get(name, 0)]
    return wrong + ["vgpr_count"] * (ours.vgpr_count != theirs["next_free_vgpr"])


@pytest.mark.llvm
@pytest.mark.parametrize("arch", ARCHS)
def test_every_field_is_where_llvm_reads_it(arch: str, tmp_path: Path) -> None:
    """Random descriptors written over the one of a stored code object."""
    path = OBJECTS / f"memory_{arch}.hsaco"
    whole = path.read_bytes()
    kernel = CodeObject.load(path).kernels["scratch"]
    address = kernel.entry - kernel.descriptor.kernel_code_entry_byte_offset
    original = CodeObject.load(path).read(address, SIZE)
    assert differing(kernel.descriptor, directives(path, "scratch"), arch) == []
    assert whole.count(original) == 1
    patched = tmp_path / "patched.hsaco"
    for draw in range(12):
        words = drawn(draw, arch)
        patched.write_bytes(whole.replace(original, words))
        theirs = directives(patched, "scratch")
        assert len(theirs) > 20
        assert differing(parse_descriptor(words, "here"), theirs, arch) == []
