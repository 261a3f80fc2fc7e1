"""Waves a SIMD, against LLVM's own table for gfx90a (GCNSubtarget: 512 VGPRs, blocks of 8)."""

from __future__ import annotations

import pytest

from petitgen.build.occupancy import waves_per_simd
from petitgen.spec import load_catalog

ARCH = load_catalog().archs["gfx90a"]


@pytest.mark.parametrize(
    ("registers", "waves"),
    [
        *((1, 8), (64, 8), (65, 7), (72, 7), (73, 6), (80, 6), (96, 5), (97, 4), (128, 4), (129, 3)),
        *((168, 3), (169, 2), (256, 2), (257, 1), (512, 1)),
    ],
)
def test_registers(registers: int, waves: int) -> None:
    assert waves_per_simd(ARCH, registers, sgprs=16, lds_bytes=0, block=64) == waves


@pytest.mark.parametrize(("sgprs", "waves"), [(96, 8), (100, 8), (102, 7), (112, 7)])
def test_sgprs(sgprs: int, waves: int) -> None:
    assert waves_per_simd(ARCH, 32, sgprs, lds_bytes=0, block=64) == waves


@pytest.mark.parametrize(
    ("lds", "block", "waves"),
    [
        (0, 256, 8),
        (65536, 256, 1),  # one workgroup of four waves: one on each SIMD
        (32768, 256, 2),
        (32769, 256, 1),  # allocated in blocks of 512 bytes: no second one fits
        (16384, 512, 8),
        (65536, 1024, 4),
        (65536, 64, 1),  # one wave on one SIMD
    ],
)
def test_lds(lds: int, block: int, waves: int) -> None:
    assert waves_per_simd(ARCH, 32, 16, lds, block) == waves
