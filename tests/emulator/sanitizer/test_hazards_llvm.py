"""Wait states of every ordered pair of a broad set of instructions: as many as LLVM's hazard recognizer asks for."""

from __future__ import annotations

import random

import pytest

from petitgen.emulator.sanitizer.footprint import footprint
from petitgen.emulator.sanitizer.window import Hazards
from petitgen.isa import decode
from petitgen.isa.model import Instruction

from ..assembled import assemble
from .hazard_cases import every_matrix, matrix, plain
from .recognizer import machine_ir, wait_states
from .test_hazards import rows

pytestmark = pytest.mark.llvm


def decoded(arch: str, texts: list[str]) -> dict[str, Instruction]:
    code = assemble(arch, "\n".join(["s_nop 0", *texts]))
    found, offset = {}, 4
    for text in texts:
        found[text] = decode(code, offset, arch, offset)
        offset += found[text].size
    return found


class Programs:
    """Whether straight-line programs with wait states between their instructions are free of hazards."""

    def __init__(self, arch: str, texts: list[str]) -> None:
        self.touched = {text: footprint(ins) for text, ins in decoded(arch, texts).items()}
        self.nop = footprint(decode(bytes(2) + b"\x80\xbf", 0, arch, 0))
        self.arch = arch

    def clean(self, program: tuple[str, ...], added: list[int]) -> bool:
        hazards, window = Hazards(self.arch, cautious=True), ()
        for text, nops in zip(program, [0, *added], strict=True):
            for touched in [*[self.nop] * nops, self.touched[text]]:
                window, problems = hazards.step(window, touched, 0)
                if problems:
                    return False
        return True


def disagreements(arch: str, programs: list[tuple[str, ...]]) -> list[str]:
    """Programs to which LLVM adds other wait states: not enough for our table, or one more than it needs at the end."""
    texts = list(dict.fromkeys(text for program in programs for text in program))
    ours = Programs(arch, texts)
    lines = machine_ir(arch, list(decoded(arch, texts).items()))
    theirs = wait_states(arch, [[lines[text] for text in program] for program in programs])
    assert any(added[-1] for added in theirs), "LLVM asks for nothing: the test does not work"
    wrong = []
    for program, added in zip(programs, theirs, strict=True):
        if not ours.clean(program, added):
            wrong.append(f"LLVM {added}, ours more: {' ; '.join(program)}")
        elif added[-1] and ours.clean(program, [*added[:-1], added[-1] - 1]):
            wrong.append(f"LLVM {added}, ours less: {' ; '.join(program)}")
    return wrong


def first_ones(texts: list[str]) -> list[str]:
    """Those that llc 19 lets be followed by others: it crashes on what comes after a global load to LDS."""
    return [text for text in texts if not text.startswith("global_load_lds_")]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
@pytest.mark.parametrize("kinds", ["plain-plain", "matrix-plain", "plain-matrix", "matrix-matrix"])
def test_pairs(arch: str, kinds: str) -> None:
    first, then = ({"plain": plain, "matrix": matrix}[kind](arch) for kind in kinds.split("-"))
    wrong = disagreements(arch, [(a, b) for a in first_ones(first) for b in then])
    assert not wrong, f"{len(wrong)} pairs: " + "\n".join(wrong[:40])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_longer_programs(arch: str) -> None:
    """Wait states are counted over the instructions between, and each dependence keeps its own count."""
    draw = random.Random(arch)
    choices = first_ones(plain(arch)) + 2 * matrix(arch)
    wrong = disagreements(arch, [tuple(draw.choices(choices, k=draw.randint(3, 6))) for _ in range(6000)])
    assert not wrong, f"{len(wrong)} programs: " + "\n".join(wrong[:40])


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_every_matrix_instruction(arch: str) -> None:
    """The passes of all of them, seen by how long a VALU must wait."""
    readers = ["v_mov_b32_e32 v40, v1", "v_mov_b32_e32 v1, v40", "ds_read_b32 v40, v0"]
    wrong = disagreements(arch, [(a, b) for a in every_matrix(arch) for b in readers])
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_the_recorded_programs_are_llvms(arch: str) -> None:
    """hazards.txt, which the fast tests use, says what LLVM says."""
    recorded = [row for row in rows() if row[0] == arch and row[1] != "?"]
    texts = list(dict.fromkeys(text for row in recorded for text in row[3]))
    lines = machine_ir(arch, list(decoded(arch, texts).items()))
    asked = wait_states(arch, [[lines[text] for text in row[3]] for row in recorded])
    assert [added[-1] for added in asked] == [row[2] for row in recorded]
