"""Waves a SIMD, against LLVM's own tables for gfx90a (GCNSubtarget: 512 VGPRs, blocks of 8; AMDGPUBaseInfo)."""

from __future__ import annotations

import pytest

from petitgen.spec import load_catalog
from petitgen.spec.occupancy import room

ARCH = load_catalog().archs["gfx90a"]


@pytest.mark.parametrize(
    ("registers", "waves"),
    [
        *((1, 8), (64, 8), (65, 7), (72, 7), (73, 6), (80, 6), (96, 5), (97, 4), (128, 4), (129, 3)),
        *((168, 3), (169, 2), (256, 2), (257, 1), (512, 1)),
    ],
)
def test_registers(registers: int, waves: int) -> None:
    assert room(ARCH, registers, sgprs=16, lds_bytes=0, block=64).waves_per_simd == waves


@pytest.mark.parametrize(("sgprs", "waves"), [(96, 8), (100, 8), (102, 7), (112, 7)])
def test_sgprs(sgprs: int, waves: int) -> None:
    assert room(ARCH, 32, sgprs, lds_bytes=0, block=64).waves_per_simd == waves


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
    assert room(ARCH, 32, 16, lds, block).waves_per_simd == waves


@pytest.mark.parametrize(
    ("registers", "lds", "block", "workgroups", "waves", "limit"),
    [
        (168, 0, 512, 1, 2, "registers"),  # three waves a SIMD are one workgroup of eight and a half: two on each
        (168, 0, 1024, 0, 0, "registers"),
        (64, 0, 128, 16, 8, "waves"),
        (32, 0, 64, 32, 8, "waves"),  # one wave needs no barrier
        (32, 65537, 64, 0, 0, "LDS"),
        (32, 4096, 128, 16, 8, "waves"),
        (32, 4097, 128, 14, 7, "LDS"),
    ],
)
def test_whole_workgroups(registers: int, lds: int, block: int, workgroups: int, waves: int, limit: str) -> None:
    found = room(ARCH, registers, 16, lds, block)
    assert (found.workgroups, found.waves_per_simd, found.limit) == (workgroups, waves, limit)


def test_lds_is_allocated_in_blocks_of_128_dwords() -> None:
    assert [room(ARCH, 8, 16, size, 64).lds_bytes for size in (0, 1, 512, 513)] == [0, 512, 512, 1024]
