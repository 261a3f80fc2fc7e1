"""The issue states of many waves: groups that part, meet again, and forget; what is outstanding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from petitgen.emulator.sanitizer import issue
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.footprint import footprint
from petitgen.emulator.sanitizer.issue import IssueCheck

from .programs import ENTRY, instructions

PROGRAM = """
global_load_dword v1, v0, s[2:3]
ds_read_b32 v2, v0
s_waitcnt vmcnt(0)
s_waitcnt lgkmcnt(0)
v_add_u32_e32 v20, v1, v1
v_add_u32_e32 v20, v2, v2
flat_load_dword v1, v[10:11]
"""
LOAD, READ, WAIT_VM, WAIT_LGKM, USE_LOADED, USE_READ, FLAT = range(7)


class Waves:
    """Six waves in two workgroups, and a check that watches them."""

    def __init__(self) -> None:
        self.listed = [footprint(i) for i in instructions("gfx942", PROGRAM)]
        self.findings = Findings()
        self.check = IssueCheck("gfx942", self.findings, ENTRY)
        self.batch = SimpleNamespace(waves=6, workgroup=np.repeat([0, 1], 3))
        self.batch.workgroup_name = lambda wave: 10 + int(self.batch.workgroup[wave])
        self.check.batch(self.batch)  # type: ignore[arg-type]

    def run(self, waves: list[int], *steps: int) -> None:
        """One group of `waves` takes some steps of the program, in any order."""
        index = np.array(waves)
        where = slice(waves[0], waves[-1] + 1) if waves == list(range(waves[0], waves[-1] + 1)) else index
        group = SimpleNamespace(where=where, index=index, batch=self.batch)
        for k in steps:
            self.check.instruction(group, self.listed[k])  # type: ignore[arg-type]

    def found(self) -> list[tuple[int, int, int, int]]:
        """(line, workgroup, wave, count) of each finding."""
        lines = {t.instruction.pc - ENTRY: k for k, t in enumerate(self.listed)}
        return [(lines[f.pc], f.workgroup, f.wave, f.count) for f in self.findings.named("k", ENTRY)]

    def outstanding(self) -> list[tuple[int, int]]:
        """(LDS, VMEM) of every wave."""
        lds, vm = self.check.outstanding(np.arange(6))
        return list(zip(lds.tolist(), vm.tolist(), strict=True))


@pytest.fixture
def waves() -> Waves:
    return Waves()


def test_waves_of_one_path(waves: Waves) -> None:
    waves.run([0, 1, 2, 3, 4, 5], LOAD, READ, WAIT_VM, USE_LOADED, USE_READ)
    assert waves.found() == [(USE_READ, 10, 0, 6)]


def test_each_wave_keeps_what_it_issued(waves: Waves) -> None:
    waves.run([0, 1, 2, 3, 4, 5], LOAD, READ)
    waves.run([1, 4], WAIT_VM)
    waves.run([0, 2, 3, 5], WAIT_LGKM)
    assert waves.outstanding() == [(0, 1), (1, 0), (0, 1), (0, 1), (1, 0), (0, 1)]
    waves.run([0, 1, 2, 3, 4, 5], USE_LOADED)  # together again, in two states
    assert waves.found() == [(USE_LOADED, 10, 0, 4)]
    waves.run([4, 5], USE_READ)
    assert waves.found()[1:] == [(USE_READ, 11, 1, 1)]


def test_states_that_become_one_again(waves: Waves) -> None:
    waves.run([0, 2], LOAD)
    waves.run([0, 1, 2, 3], WAIT_VM, READ, USE_LOADED)
    assert waves.found() == []
    assert waves.outstanding() == [(1, 0)] * 4 + [(0, 0)] * 2


def test_outstanding_counts_flat_in_both(waves: Waves) -> None:
    waves.run([3], FLAT)
    assert waves.outstanding()[3] == (1, 1)
    waves.run([3], WAIT_VM)
    assert waves.outstanding()[3] == (1, 0)


def test_a_batch_starts_anew(waves: Waves) -> None:
    waves.run([0, 1, 2, 3, 4, 5], LOAD)
    waves.check.batch(waves.batch)  # type: ignore[arg-type]
    waves.run([0, 1, 2, 3, 4, 5], USE_LOADED)
    assert waves.found() == []


def test_too_many_states_are_thrown_away_and_nothing_is_lost(waves: Waves, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue, "MOST_STATES", 2)
    for k in range(6):
        waves.run([k], LOAD, *[READ] * k)
    assert waves.outstanding() == [(k, 1) for k in range(6)]
    waves.run([5], USE_LOADED)
    assert waves.found() == [(USE_LOADED, 11, 2, 1)]
