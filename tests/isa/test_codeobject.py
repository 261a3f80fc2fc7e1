"""Code objects: what is in them, and that a damaged one is one clear error."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from petitgen.errors import CodeObjectError
from petitgen.isa import CodeObject, unbundle
from petitgen.isa.bundle import MAGIC
from petitgen.isa.descriptor import parse_descriptor
from petitgen.isa.formats import ARCHS

from .conftest import KERNELS, Build
from .llvm import objdump

STORED = Path(__file__).parent / "objects"  # built once from kernels/memory.hip, see objects/README.md


def stored(arch: str) -> bytes:
    """A small code object in the repository, so that this file needs no compiler."""
    return (STORED / f"memory_{arch}.hsaco").read_bytes()


def bundle(*entries: tuple[str, bytes]) -> bytes:
    """An offload bundle, written from the description of the format."""
    header = MAGIC + struct.pack("<Q", len(entries))
    position = len(header) + sum(24 + len(target) for target, _ in entries)
    body = b""
    for target, blob in entries:
        header += struct.pack("<QQQ", position + len(body), len(blob), len(target)) + target.encode()
        body += blob
    return header + body


@pytest.mark.parametrize("arch", ARCHS)
def test_what_a_code_object_says(arch: str) -> None:
    """Arch, version, kernels and their arguments, as the source has them."""
    code_object = CodeObject.load(stored(arch))
    assert (code_object.arch, code_object.version) == (arch, 5)
    assert code_object.features == {"xnack": "any", "sramecc": "any"}
    assert list(code_object.kernels) == ["scratch", "shared_memory", "buffers"]
    explicit = [a for a in code_object.kernels["scratch"].args if not a.hidden]
    assert [(a.offset, a.size, a.value_kind) for a in explicit] == [
        (0, 8, "global_buffer"),
        (8, 8, "global_buffer"),
        (16, 4, "by_value"),
    ]
    by_value = code_object.kernels["buffers"].args[0]
    assert (by_value.offset, by_value.size, by_value.value_kind) == (0, 16, "by_value")
    assert len(code_object.sha256) == 64


@pytest.mark.parametrize("arch", ARCHS)
def test_resources_and_descriptor_agree(arch: str) -> None:
    """Two independent records of the same facts: the metadata note and the descriptor."""
    for kernel in CodeObject.load(stored(arch)).kernels.values():
        descriptor, resources = kernel.descriptor, kernel.resources
        assert descriptor.group_segment_fixed_size == resources.group_segment_fixed_size
        assert descriptor.private_segment_fixed_size == resources.private_segment_fixed_size
        assert descriptor.kernarg_size == resources.kernarg_segment_size
        assert descriptor.vgpr_count >= resources.vgpr_count
        assert descriptor.accum_offset >= resources.vgpr_count - resources.agpr_count
        assert descriptor.uses_dynamic_stack == resources.uses_dynamic_stack
        assert (resources.wavefront_size, resources.max_flat_workgroup_size) == (64, 256)
        assert (descriptor.float_denorm_mode_32, descriptor.float_round_mode_32) == (3, 0)
        assert (descriptor.enable_dx10_clamp, descriptor.enable_ieee_mode) == (1, 1)
        assert (descriptor.enable_sgpr_workgroup_id_x, descriptor.enable_sgpr_kernarg_segment_ptr) == (1, 1)


@pytest.mark.parametrize("arch", ARCHS)
def test_memory_use(arch: str) -> None:
    """LDS and scratch of the kernels that ask for them."""
    kernels = CodeObject.load(stored(arch)).kernels
    assert kernels["scratch"].resources.private_segment_fixed_size >= 40 * 4
    assert kernels["shared_memory"].resources.group_segment_fixed_size == 256 * 16 + 64 * 16 + 256
    assert kernels["buffers"].resources.group_segment_fixed_size == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_the_image_holds_code_and_constants(arch: str) -> None:
    """Every segment, .rodata included; kernel code is where its symbol says."""
    code_object = CodeObject.load(stored(arch))
    table = struct.pack("<8f", 1, 2, 3, 5, 7, 11, 13, 17)
    assert any(table in data for _, data in code_object.segments)
    for kernel in code_object.kernels.values():
        assert code_object.read(kernel.entry, len(kernel.code)) == kernel.code
        functions = {(f.name, f.address, f.size) for f in code_object.functions}
        assert (kernel.name, kernel.entry, len(kernel.code)) in functions
    with pytest.raises(CodeObjectError, match="not in a loadable segment"):
        code_object.read(1 << 40, 4)


def test_descriptor_fields() -> None:
    """A descriptor made by hand: every bit is found where the ABI document puts it."""
    rsrc1 = 5 | 3 << 6 | 1 << 12 | 2 << 14 | 3 << 16 | 3 << 18 | 1 << 21 | 1 << 23
    rsrc2 = 1 | 8 << 1 | 1 << 7 | 1 << 9 | 2 << 11
    rsrc3, properties, preload = 31 | 1 << 16, 1 << 3 | 1 << 11, 4 | 2 << 7
    sizes = struct.pack("<IIIIq20x", 4096, 64, 280, 0, -256)
    words = sizes + struct.pack("<IIIHHI", rsrc3, rsrc1, rsrc2, properties, preload, 0)
    found = parse_descriptor(words, "here")
    sizes_found = (found.group_segment_fixed_size, found.private_segment_fixed_size, found.kernarg_size)
    assert sizes_found == (4096, 64, 280)
    assert (found.kernel_code_entry_byte_offset, found.accum_offset, found.tg_split) == (-256, 128, 1)
    assert (found.vgpr_count, found.sgpr_count) == (48, 32)
    assert (found.float_round_mode_32, found.float_round_mode_16_64) == (1, 2)
    assert (found.float_denorm_mode_32, found.float_denorm_mode_16_64) == (3, 3)
    assert (found.enable_dx10_clamp, found.enable_ieee_mode, found.enable_private_segment) == (1, 1, 1)
    assert (found.user_sgpr_count, found.enable_vgpr_workitem_id) == (8, 2)
    ids = (
        found.enable_sgpr_workgroup_id_x,
        found.enable_sgpr_workgroup_id_y,
        found.enable_sgpr_workgroup_id_z,
    )
    assert ids == (1, 0, 1)
    assert (found.enable_sgpr_kernarg_segment_ptr, found.uses_dynamic_stack) == (1, 1)
    assert (found.kernarg_preload_spec_length, found.kernarg_preload_spec_offset) == (4, 2)
    with pytest.raises(CodeObjectError, match="63 bytes"):
        parse_descriptor(words[:63], "here")


def test_bundles() -> None:
    """One entry of several, by arch; the host's is never taken."""
    both = bundle(
        ("host-x86_64-unknown-linux--", b""),
        ("hipv4-amdgcn-amd-amdhsa--gfx90a", stored("gfx90a")),
        ("hipv4-amdgcn-amd-amdhsa--gfx942:sramecc+:xnack-", stored("gfx942")),
    )
    for arch in ARCHS:
        assert CodeObject.load(both, arch).elf == stored(arch)
    assert unbundle(both, "gfx942:sramecc+:xnack-") == stored("gfx942")
    assert unbundle(b"anything else") == b"anything else"
    with pytest.raises(CodeObjectError, match="several entries fit"):
        CodeObject.load(both)
    with pytest.raises(
        CodeObjectError, match=r"nothing for gfx1100 \(it holds gfx90a, gfx942:sramecc\+:xnack-\)"
    ):
        CodeObject.load(both, "gfx1100")
    with pytest.raises(CodeObjectError, match="compressed"):
        CodeObject.load(b"CCOB" + b"\0" * 60)
    for length in range(len(MAGIC), len(both), 512):
        with pytest.raises(CodeObjectError):
            CodeObject.load(both[:length], "gfx942")


@pytest.mark.parametrize("arch", ARCHS)
def test_a_truncated_file_is_one_clear_error(arch: str) -> None:
    """Cut at every 64th byte: always CodeObjectError, in one line, never anything else."""
    whole = stored(arch)
    for length in range(0, len(whole) - 1, 64):
        with pytest.raises(CodeObjectError) as caught:
            CodeObject.load(whole[:length])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arch", ARCHS)
def test_flipped_bytes_raise_nothing_else(arch: str) -> None:
    """A damaged header or note: loads, or CodeObjectError."""
    whole = stored(arch)
    refusals = []
    for position in range(0, 2048, 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        try:
            CodeObject.load(bytes(damaged))
        except CodeObjectError as error:
            refusals.append(str(error))
    assert len(refusals) > 50
    assert not [text for text in refusals if "\n" in text]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({18: 62, 19: 0}, "EM_X86_64, not an AMDGPU"),
        ({7: 0}, "not an AMDGPU"),
        ({48: 0x41}, "machine 0x41 is not supported"),
        ({8: 9}, "ABI 9 is not supported"),
        ({0: 0}, "not an ELF"),
    ],
)
def test_the_wrong_machine(change: dict[int, int], complaint: str) -> None:
    """Header fields that make it somebody else's."""
    damaged = bytearray(stored("gfx942"))
    for position, value in change.items():
        damaged[position] = value
    with pytest.raises(CodeObjectError, match=complaint):
        CodeObject.load(bytes(damaged))


def test_missing_things(tmp_path: Path) -> None:
    """No file, another arch than asked for, no such kernel."""
    with pytest.raises(CodeObjectError, match="cannot be read"):
        CodeObject.load(tmp_path / "none.hsaco")
    with pytest.raises(CodeObjectError, match="is for gfx942, not gfx90a"):
        CodeObject.load(stored("gfx942"), "gfx90a")
    code_object = CodeObject.load(stored("gfx942"))
    with pytest.raises(CodeObjectError, match=r"no kernel 'gemm'; .* has: scratch, shared_memory, buffers"):
        code_object.kernel("gemm")
    with pytest.raises(CodeObjectError, match="several kernels, name one"):
        code_object.kernel()


@pytest.mark.llvm
@pytest.mark.compiler
@pytest.mark.parametrize("arch", ARCHS)
def test_entries_are_where_objdump_finds_them(arch: str, build: Build, tmp_path: Path) -> None:
    """A kernel starts at an instruction, and its last one ends the program."""
    path = tmp_path / "k.hsaco"
    path.write_bytes(build(KERNELS / "memory.hip", arch, "ziglang"))
    theirs = dict(objdump(path, arch))
    for kernel in CodeObject.load(path).kernels.values():
        assert kernel.entry in theirs
        assert theirs[kernel.entry + len(kernel.code) - 4] == "s_endpgm"
