"""Compilers may wrap their output in an offload bundle; what is stored is always raw ELF."""

from __future__ import annotations

import struct

from petitgen.errors import ToolchainError

ELF_MAGIC = b"\x7fELF"
BUNDLE_MAGIC = b"__CLANG_OFFLOAD_BUNDLE__"  # ClangOffloadBundler documentation, "Bundled Binary File Layout"
COMPRESSED_MAGIC = b"CCOB"
EM_AMDGPU = 224


def raw_elf(data: bytes, arch: str) -> bytes:
    """The AMDGPU ELF in `data`: itself an ELF, or a bundle with an entry for `arch`. Or ToolchainError."""
    if data.startswith(BUNDLE_MAGIC):
        data = _entry(data, arch)
    if data.startswith(COMPRESSED_MAGIC):
        raise ToolchainError(
            "the compiler wrote a compressed offload bundle: take --offload-compress off its flags"
        )
    if not data.startswith(ELF_MAGIC) or len(data) < 64:
        raise ToolchainError(f"the compiler wrote no ELF: {len(data)} bytes starting with {data[:8]!r}")
    machine = struct.unpack_from("<H", data, 18)[0]
    if machine != EM_AMDGPU:
        raise ToolchainError(f"the compiler wrote an ELF for machine {machine}, not for AMDGPU ({EM_AMDGPU})")
    return data


def _entry(data: bytes, arch: str) -> bytes:
    """Layout: magic, u64 count, then for each entry u64 offset, u64 size, u64 id length, id."""
    found = []
    try:
        (count,) = struct.unpack_from("<Q", data, len(BUNDLE_MAGIC))
        position = len(BUNDLE_MAGIC) + 8
        for _ in range(count):
            offset, size, length = struct.unpack_from("<QQQ", data, position)
            position += 24
            target = data[position : position + length].decode("ascii", "replace")
            position += length
            found.append(target)
            if size and target.split("--")[-1].split(":")[0] == arch:
                return data[offset : offset + size]
    except struct.error as error:
        raise ToolchainError("the compiler wrote a truncated offload bundle") from error
    raise ToolchainError(
        f"the compiler's bundle has no code for {arch}, only {', '.join(found) or 'nothing'}"
    )
