"""Whole kernels of both compilers: every instruction reads as llvm-objdump prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from petitgen.isa import CodeObject, disassemble
from petitgen.isa.formats import ARCHS

from .conftest import COMPILERS, KERNELS, NAMES, Build
from .llvm import objdump

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.hip"))


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
@pytest.mark.parametrize("source", GOLDEN, ids=lambda path: path.stem)
def test_golden_renders(source: Path, compiler: str, build: Build, tmp_path: Path) -> None:
    """The kernels under tests/golden."""
    arch = next(arch for arch in ARCHS if f"__{arch}_" in source.stem)
    path = tmp_path / "k.hsaco"
    path.write_bytes(build(source, arch, compiler))
    assert compare(path) > 500


@pytest.mark.llvm
def test_every_built_kernel() -> None:
    """Whatever `petitgen build` left in generated/."""
    built = sorted((ROOT / "generated").glob("*/*.hsaco"))
    if not built:
        pytest.skip("generated/ is empty: run `petitgen build` first")
    assert all(compare(path) > 100 for path in built)
