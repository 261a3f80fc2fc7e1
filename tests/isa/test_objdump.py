"""Whole kernels of both compilers: every instruction reads as llvm-objdump prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from petitgen.build.run import build as build_kernels
from petitgen.isa import CodeObject, disassemble
from petitgen.isa.formats import ARCHS
from petitgen.spec import load_catalog

from .conftest import COMPILERS, KERNELS, NAMES, Build
from .llvm import objdump


def compare(path: Path) -> int:
    """Compare text and address of every instruction of every kernel; how many there were."""
    code_object = CodeObject.load(path)
    theirs = dict(objdump(path, code_object.arch))
    ours: dict[int, str] = {}
    expected: dict[int, str] = {}
    for kernel in code_object.kernels.values():
        inside = range(kernel.entry, kernel.entry + len(kernel.code))
        ours |= {i.pc: i.text for i in disassemble(kernel.code, code_object.arch, kernel.entry)}
        expected |= {pc: text for pc, text in theirs.items() if pc in inside}
    assert ours == expected, path.name
    return len(ours)


@pytest.mark.llvm
@pytest.mark.compiler
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", NAMES)
def test_plain_kernels(name: str, arch: str, compiler: str, build: Build, tmp_path: Path) -> None:
    """Small HIP kernels: f64, atomics, packed math, SDWA, DPP, scratch, 64-bit integers, MFMA."""
    path = tmp_path / "k.hsaco"
    path.write_bytes(build(KERNELS / f"{name}.hip", arch, compiler))
    assert compare(path) >= 50


@pytest.mark.llvm
@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("arch", ARCHS)
def test_every_kernel_of_the_matrix(arch: str, compiler: str, tmp_path: Path) -> None:
    """All that the specs ask for, built by either compiler. Objects that were built before come from the cache."""
    selected = load_catalog().select(arch=arch)
    report = build_kernels(selected, selected, tmp_path, hipcc=compiler)
    assert not report.failed, report.failed[0].error
    counts = {path.stem: compare(path) for path in sorted(tmp_path.glob("*/*.hsaco"))}
    assert set(counts) == {one.name for one in selected}
    assert min(counts.values()) > 500
