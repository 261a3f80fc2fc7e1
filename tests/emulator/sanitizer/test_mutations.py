"""Take every s_waitcnt, s_barrier and s_nop out of compiled kernels, one at a time: the sanitizer must see it.

Three of our GEMMs and five plain HIP kernels, on both architectures, by both compilers. A line may go unseen only
where needed.py, which knows nothing of the sanitizer, says that it was not needed; how many are is printed (-s).
Compilers put in superfluous waits where paths join, and s_nop between loads for the replay of page faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from petitgen.emulator import LaunchResult
from petitgen.emulator.sanitizer import Sanitizer
from petitgen.errors import EmulationError
from petitgen.isa import CodeObject, disassemble

from . import needed as oracle
from .mutated_kernels import SUBJECTS, Subject
from .mutations import Line, Tools, body, candidates, tools, without

ARCHS = ("gfx90a", "gfx942")
COMPILERS = [
    pytest.param("ziglang", marks=pytest.mark.compiler),
    pytest.param("clang19", marks=pytest.mark.llvm),
]
SAMPLE = ("transpose", "matrix")
# Larger kernels take a minute or two each: every architecture and every compiler, not each with each.
OF_LARGER = [
    pytest.param("gfx90a", "ziglang", marks=pytest.mark.compiler),
    pytest.param("gfx942", "clang19", marks=pytest.mark.llvm),
]


def sanitized(subject: Subject, code: CodeObject, kernel: str) -> Iterator[LaunchResult]:
    """Launches with every check on, those rules that only compilers keep among them."""
    return subject.launches(code, kernel, lambda resources: Sanitizer(resources, cautious=True))


def seen(subject: Subject, code: CodeObject, kernel: str) -> bool:
    """Does the sanitizer find anything?"""
    try:
        return any(result.findings for result in sanitized(subject, code, kernel))
    except EmulationError:
        return True  # gone so wrong that the kernel does not end, or leaves its buffers


def paths_of(subject: Subject, code: CodeObject, kernel: str, lines: Sequence[Line]) -> set[oracle.Path]:
    """The ways that waves take through a kernel. The text and the code object must hold the same instructions."""
    facts = code.kernel(kernel)
    decoded = disassemble(facts.code, code.arch, 0)[: len(lines)]
    assert [one.mnemonic for one in decoded] == [_plain(line.mnemonic) for line in lines]
    positions = {one.pc: position for position, one in enumerate(decoded)}
    recorders: list[oracle.Recorder] = []

    def record(resources: Sequence[bytes]) -> oracle.Recorder:
        recorders.append(oracle.Recorder(facts.entry, positions))
        return recorders[-1]

    for _ in subject.launches(code, kernel, record):
        pass
    return set().union(*(recorder.paths() for recorder in recorders))


def _plain(mnemonic: str) -> str:
    for suffix in ("_e32", "_e64", "_sdwa", "_dpp"):
        mnemonic = mnemonic.removesuffix(suffix)
    return mnemonic


def check(subject: Subject, tool: Tools, folder: Path) -> None:
    kernel, source = subject.source(tool.arch)
    (folder / f"{subject.name}.hip").write_text(source)
    assembly = tool.assembly(folder / f"{subject.name}.hip")
    lines = [line for line in body(assembly, kernel) if isinstance(line, Line)]
    whole = CodeObject.load(tool.link(assembly, folder))
    for result in sanitized(subject, whole, kernel):
        assert not result.findings, "\n".join(map(str, result.findings))
    taken = paths_of(subject, whole, kernel, lines)
    assert not any(oracle.goes_wrong(path, lines) for path in taken)
    reached = set(oracle.executed(taken))
    counts = {"found": 0, "not needed": 0, "not executed": 0}
    for line in candidates(lines):
        if line.position not in reached:
            counts["not executed"] += 1
        elif seen(subject, CodeObject.load(tool.link(without(assembly, line), folder)), kernel):
            counts["found"] += 1
        else:
            place = f"{subject.name} {tool.arch} {tool.name}, line {line.number + 1}: {line.text}"
            assert not oracle.needed(line, lines, taken), f"taken out and not found: {place}"
            counts["not needed"] += 1
    print(f"\n{subject.name} {tool.arch} {tool.name}: {counts}")
    assert counts["found"] >= 5
    assert counts["not executed"] <= sum(counts.values()) // 10


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.name in SAMPLE], ids=lambda s: s.name)
def test_lines_taken_out_are_found(subject: Subject, arch: str, compiler: str, tmp_path: Path) -> None:
    check(subject, tools(compiler, arch), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "compiler"), OF_LARGER)
@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.name not in SAMPLE], ids=lambda s: s.name)
def test_lines_taken_out_of_larger_kernels_are_found(
    subject: Subject, arch: str, compiler: str, tmp_path: Path
) -> None:
    check(subject, tools(compiler, arch), tmp_path)
