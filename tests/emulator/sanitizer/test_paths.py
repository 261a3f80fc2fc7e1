"""Compiled kernels keep every wait and wait state on every path, and need nearly every one that the compiler put there."""

from __future__ import annotations

import pytest

from petitgen.emulator.sanitizer.footprint import Unit

from .paths import Paths

FILES = ("arithmetic", "atomics", "basic", "buffers", "shared")


@pytest.mark.parametrize("name", FILES)
def test_compilers_leave_nothing_to_find(kernels, name: str) -> None:
    code = kernels(name)
    for kernel in code.kernels.values():
        paths = Paths(kernel, code.arch, cautious=True)
        assert paths.problems() == [], kernel.name
        assert len(paths.reachable()) > 5


# Without communication between waves, and calls, every wait is for a register: leaving out any must be found.
@pytest.mark.parametrize("name", ["basic", "buffers"])
def test_every_wait_is_needed(kernels, name: str) -> None:
    code, tried = kernels(name), 0
    for kernel in code.kernels.values():
        paths = Paths(kernel, code.arch, cautious=True)
        for touched in paths.reachable():
            if touched.instruction.mnemonic == "s_waitcnt":
                found = paths.problems(deleted=touched.instruction.pc)
                assert any(check == "wait" for _, check, _ in found), (kernel.name, touched.instruction)
                tried += 1
    assert tried > 5


@pytest.mark.parametrize("name", FILES)
def test_every_wait_state_is_needed(kernels, name: str) -> None:
    code = kernels(name)
    for kernel in code.kernels.values():
        paths = Paths(kernel, code.arch, cautious=True)
        listed = paths.reachable()
        for before, nop, after in zip(listed, listed[1:], listed[2:], strict=False):
            if nop.instruction.mnemonic != "s_nop" or _splits_clause(before.unit, after.unit):
                continue
            found = paths.problems(deleted=nop.instruction.pc)
            assert any(check == "hazard" for _, check, _ in found), (kernel.name, nop.instruction)


def _splits_clause(before: Unit, after: Unit) -> bool:
    """Where XNACK may be on, compilers part loads whose replay would read what one of them wrote; no wait state is meant."""
    memory = (Unit.VMEM, Unit.FLAT), (Unit.SMEM,)
    return any(before in kind and after in kind for kind in memory)
