"""What depends on where things are placed: arguments read past their end, and words that the loader fills in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from petitgen.emulator import DeviceMemory, LoadedCode, launch
from petitgen.errors import CodeObjectError
from petitgen.isa.relocations import relocations

U32 = np.uint32


@pytest.mark.parametrize("sanitize", [False, True])
def test_three_trailing_ints(kernels, sanitize):
    a, b = (np.random.default_rng(seed).integers(-999, 999, 64).astype(np.int32) for seed in (1, 2))
    out = np.zeros(64, np.int32)
    args = [a, b, out, np.int32(3), np.int32(-7), np.int32(11)]
    result = launch(kernels("placed"), "three_ints", 1, 64, args, sanitize=sanitize)
    assert np.array_equal(out, a * 3 - b * 7 + 11)
    assert not result.findings


def test_a_table_of_functions(kernels):
    pick = (np.arange(64) % 3).astype(np.uint32)
    values, out = np.arange(-20, 44, dtype=np.int32), np.zeros(64, np.int32)
    launch(kernels("placed"), "by_function", 1, 64, [pick, values, out])
    assert np.array_equal(out, np.choose(pick, [2 * values, values**2, -values]))


def test_a_table_of_pointers(kernels):
    memory = DeviceMemory()
    memory.allocate(12345)  # so that the image is not where an arena begins
    pick = (np.arange(64) % 3).astype(np.uint32)
    for _ in range(2):  # each image has its own base
        loaded, out = LoadedCode(kernels("placed"), memory), np.zeros(64, np.int32)
        launch(loaded, "by_pointer", 1, 64, [pick, out])
        assert np.array_equal(out, np.choose(pick, [2, 7, 1000]))


def test_an_unknown_relocation_is_refused(kernels):
    code = kernels("placed")
    entry = next(r for r in relocations(code) if r.kind == 13)
    record = entry.address.to_bytes(8, "little") + (13).to_bytes(8, "little")
    assert code.elf.count(record) == 1
    for number in (9, 200):
        damaged = code.elf.replace(record, record[:8] + number.to_bytes(8, "little"))
        memory = DeviceMemory()
        with pytest.raises(CodeObjectError, match=f"unknown type {number} at {entry.address:#x}"):
            LoadedCode(dataclasses.replace(code, elf=damaged), memory)
        assert memory.extent <= 256  # nothing was allocated
