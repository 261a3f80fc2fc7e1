"""Compilers that wrap their output all the same. Layout: ClangOffloadBundler documentation."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from petitgen.errors import ToolchainError
from petitgen.toolchain import Compiler, choose


def bundle(*entries: tuple[str, bytes]) -> bytes:
    head = b"__CLANG_OFFLOAD_BUNDLE__" + struct.pack("<Q", len(entries))
    size = len(head) + sum(24 + len(name) for name, _ in entries)
    table, body = b"", b""
    for name, data in entries:
        table += struct.pack("<QQQ", size + len(body), len(data), len(name)) + name.encode()
        body += data
    return head + table + body


@pytest.fixture
def compiler(bare: Path, make_hipcc) -> Compiler:
    return choose("gfx942", str(make_hipcc("path/hipcc"))).selected


def compiled(compiler: Compiler, writes: bytes, directory: Path) -> bytes:
    """What compile() gives when the compiler writes these bytes."""
    (directory / "object.elf").write_bytes(writes)
    source = directory / "k.hip"
    source.write_text("")
    return compiler.compile(source, "gfx942")


def test_bundle_is_unwrapped(compiler: Compiler, elf: bytes, tmp_path: Path) -> None:
    wrapped = bundle(("host-x86_64-unknown-linux-gnu--", b""), ("hipv4-amdgcn-amd-amdhsa--gfx942", elf))
    assert compiled(compiler, wrapped, tmp_path) == elf
    assert compiled(compiler, elf, tmp_path) == elf


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"CCOB" + bytes(100),
        b"int main() {}" * 10,
        b"\x7fELF" + bytes(14) + b"\x3e\x00" + bytes(44),
        bundle(("hipv4-amdgcn-amd-amdhsa--gfx90a", b"\x7fELF" + bytes(60))),
        bundle(("hipv4-amdgcn-amd-amdhsa--gfx942", b"\x7fELF" + bytes(60)))[:60],
    ],
    ids=["empty", "compressed", "text", "host ELF", "other arch", "truncated"],
)
def test_no_code_object(compiler: Compiler, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ToolchainError, match=r"path/hipcc: "):
        compiled(compiler, data, tmp_path)
