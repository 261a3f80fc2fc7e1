"""Whole kernels of both compilers: every instruction reads as llvm-objdump prints it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from petitgen.isa import CodeObject, disassemble
from petitgen.isa.formats import ARCHS

from .conftest import NAMES, Build
from .llvm import objdump


@pytest.mark.llvm
@pytest.mark.compiler
@pytest.mark.parametrize("compiler", ["clang-19", "ziglang"])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", NAMES)
def test_disassembly(name: str, arch: str, compiler: str, build: Build, tmp_path: Path) -> None:
    """Text and address of every instruction of every kernel."""
    elf = build(name, arch, compiler)
    path = tmp_path / "k.hsaco"
    path.write_bytes(elf)
    theirs = dict(objdump(path, arch))
    code_object = CodeObject.load(path)
    assert code_object.kernels
    for kernel in code_object.kernels.values():
        ours = {i.pc: i.text for i in disassemble(kernel.code, arch, kernel.entry)}
        inside = range(kernel.entry, kernel.entry + len(kernel.code))
        expected = {pc: text for pc, text in theirs.items() if pc in inside}
        assert ours == expected


@pytest.mark.compiler
def test_decoding_is_fast(build: Build) -> None:
    """4,000 different-looking instructions in well under 0.3 s, twice that allowed for a busy machine."""
    kernel = CodeObject.load(build("matrix", "gfx942", "ziglang")).kernel("matrix")
    disassemble(kernel.code, "gfx942")  # tables
    code = kernel.code * (16000 // len(kernel.code) + 1)
    start = time.perf_counter()
    assert len(disassemble(code, "gfx942")) > 2000
    assert time.perf_counter() - start < 0.6
