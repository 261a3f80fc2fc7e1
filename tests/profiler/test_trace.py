"""A trace executes little of a kernel: it must go the same ways and to the same addresses as all of it does."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from petitgen.build.run import build
from petitgen.emulator import LoadedCode, launch
from petitgen.emulator.launch import prepared
from petitgen.emulator.memory import BASE
from petitgen.isa import CodeObject
from petitgen.profiler import gemm_launch, profile_gemm
from petitgen.profiler.model import _with
from petitgen.profiler.needed import is_memory
from petitgen.profiler.trace import TracedProgram, record
from petitgen.spec import load_catalog
from runtime.manifest import Kernel, Manifest

from .programs import program

SLICES = 3


class Watch:
    """All that a real run does, by wave of the grid: how often each pc, and the lanes' addresses at each access."""

    def __init__(self, waves: int) -> None:
        self.waves = waves
        self.executed: Counter[tuple[int, int]] = Counter()
        self.accessed: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
        self._first = True

    def _numbers(self, group: Any) -> list[int]:
        batch = group.batch
        first = batch.numbers[0] * self.waves
        return [int(first + w) for w in group.index]

    def instruction(self, group: Any, ins: Any) -> None:
        self._first = True
        for wave in self._numbers(group):
            self.executed[wave, ins.pc] += 1

    def access(self, group: Any, ins: Any, space: str, kind: str, addresses: Any, size: int, active: Any) -> None:
        if space == "scalar" or not self._first:
            return
        self._first = False
        for row, wave in enumerate(self._numbers(group)):
            self.accessed[wave, ins.pc].append(np.where(active[row], addresses[row], -1).tolist())

    def out_of_range(self, *_: Any) -> None:
        pass


def traced(code: CodeObject, args: Any, grid: Any, block: int, memory: Any) -> tuple[Counter, dict]:
    """The same from a trace of all workgroups."""
    kernel = code.kernel(None)
    loaded = LoadedCode(code, memory)
    with prepared(loaded, kernel, grid, block, args) as dispatch:
        numbers = np.arange(int(np.prod(grid)))
        one = TracedProgram(code, kernel)
        recording = record(one, _with(dispatch, numbers, None))
    executed: Counter[tuple[int, int]] = Counter()
    accessed: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
    for block_number, waves in recording.visits:
        for ins, _ in one.order[block_number].instructions:
            for wave in waves.tolist():
                executed[wave, ins.pc] += 1
    for number, waves, access in recording.events:
        site = recording.sites[number]
        addresses, active = recording.accesses[access]
        base = BASE if site.space == "memory" else 0
        first = addresses + base + (site.places[0] if len(site.places) > 1 else 0)
        rows = first if active is None else np.where(active, first, -1)
        for row, wave in enumerate(waves.tolist()):
            accessed[wave, site.ins.pc].append(rows[row].tolist())
    return executed, accessed


def compare(code: CodeObject, args: Any, again: Any, grid: Any, block: int, memory: Any, second: Any) -> None:
    watch = Watch(-(-block // 64))
    launch(code, None, grid, block, args, memory=memory, observer=watch)
    executed, accessed = traced(code, again, grid, block, second)
    assert executed == watch.executed
    assert accessed.keys() == watch.accessed.keys()
    for key, rows in watch.accessed.items():
        assert accessed[key] == rows, key


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest kernel of each loop, arch and activation type, built."""
    smallest: dict[Any, Any] = {}
    for one in load_catalog().gemms:
        size = (one.tile.m * one.tile.n * max(one.tile.k, 128), one.name)
        key = (one.arch.name, one.activations.name, one.tile.loop)
        smallest[key] = min(smallest.get(key, (size, one)), (size, one), key=lambda pair: pair[0])
    chosen = [one for _, one in smallest.values()]
    folder = tmp_path_factory.mktemp("generated")
    assert not build(chosen, chosen, folder).failed
    return folder


def kernels(folder: Path, arch: str) -> list[Kernel]:
    return list(Manifest.load(folder / arch).kernels.values())


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_gemms_go_the_same_ways(generated: Path, arch: str):
    for kernel in kernels(generated, arch):
        several = "slices" in {argument.name for argument in kernel.kernarg.args}
        code = CodeObject.load(generated / arch / kernel.file)
        k = SLICES * max(kernel.tile["unit"], 512) - 128
        one, two = (
            gemm_launch(kernel, code, kernel.tile["m"] + 1, kernel.tile["n"] + 3, k, SLICES if several else 1) for _ in "ab"
        )
        compare(code, one.args, two.args, one.grid, kernel.block, one.memory, two.memory)


@pytest.mark.compiler
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_little_is_executed_and_a_profile_follows(generated: Path, arch: str):
    for kernel in kernels(generated, arch):
        code = CodeObject.load(generated / arch / kernel.file)
        one = TracedProgram(code, code.kernel(kernel.symbol))
        arithmetic = [ins for ins in one.listing if not is_memory(ins)]
        executed = sum(ins.pc in one.needed for ins in arithmetic)
        assert executed < 0.9 * len(arithmetic)  # what branches and addresses of the epilogue come from, too
        result = profile_gemm(kernel, generated / arch, 16, 1024, 2048)
        assert result.roofline.mfma_peak > 0
        assert result.traffic.hbm >= 0.98 * 1024 * 2048 * (1 / 2 + 1 / 32)  # the weights and their scales at least


DIVERGENT = """
s_load_dwordx2 s[4:5], s[0:1], 0
v_lshlrev_b32 v1, 2, v0
v_mov_b32 v2, v0
v_mov_b32 v7, 1.0
s_waitcnt lgkmcnt(0)
s_mov_b64 s[10:11], exec
.Lloop:
v_mul_f32 v7, v7, v7
global_load_dword v3, v1, s[4:5]
s_waitcnt vmcnt(0)
v_add_u32 v1, 0x100, v1
v_sub_u32 v2, v2, 1
v_cmp_lt_i32 vcc, 0, v2
s_and_b64 exec, exec, vcc
s_cbranch_execnz .Lloop
s_mov_b64 exec, s[10:11]
v_cmp_eq_u32 vcc, 0, v3
s_and_saveexec_b64 s[12:13], vcc
s_cbranch_execz .Ljoin
v_mov_b32 v1, 0x40
.Ljoin:
s_or_b64 exec, exec, s[12:13]
global_store_dword v1, v7, s[4:5]
v_and_b32 v4, 0xfc, v1
ds_write_b32 v4, v2
s_waitcnt lgkmcnt(0)
s_barrier
ds_read_b32 v5, v4
s_waitcnt lgkmcnt(0)
v_readfirstlane_b32 s14, v5
s_cmp_lg_u32 s14, 0
s_cbranch_scc1 .Lend
global_load_dword v6, v5, s[4:5]
.Lend:
s_waitcnt vmcnt(0)
"""


@pytest.mark.llvm
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_divergence_data_and_values_passed_through_lds(arch: str):
    """Lanes leave a loop at different times, a branch depends on what was loaded, an address came through LDS."""
    from petitgen.emulator import DeviceMemory

    code = program(DIVERGENT.replace(".Lend", ".Lout"), arch, lds=1024)
    memories = [DeviceMemory() for _ in "ab"]
    addresses = [memory.allocate(np.zeros(1 << 18, np.uint8)) for memory in memories]
    for memory, address in zip(memories, addresses, strict=True):
        memory.write(address + 0x100, np.arange(64, dtype=np.uint32))  # some zero, most not
    args = [[address, np.uint32(0)] for address in addresses]
    compare(code, args[0], args[1], (2, 1, 1), 128, *memories)
