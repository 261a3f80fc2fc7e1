"""Wait states of every ordered pair of a broad set of instructions: as many as LLVM's hazard recognizer asks for."""

from __future__ import annotations

import pytest

from petitgen.emulator.sanitizer.footprint import footprint
from petitgen.emulator.sanitizer.issue import NOTHING_ISSUED, step
from petitgen.emulator.sanitizer.window import Hazards
from petitgen.isa import decode
from petitgen.isa.model import Instruction

from ..assembled import assemble
from .hazard_cases import every_matrix, matrix, plain
from .recognizer import machine_ir, wait_states

pytestmark = pytest.mark.llvm


def decoded(arch: str, texts: list[str]) -> dict[str, Instruction]:
    code = assemble(arch, "\n".join(["s_nop 0", *texts]))
    found, offset = {}, 4
    for text in texts:
        found[text] = decode(code, offset, arch, offset)
        offset += found[text].size
    return found


class Pairs:
    """Whether two instructions with wait states between them are a hazard."""

    def __init__(self, arch: str, texts: list[str]) -> None:
        self.touched = {text: footprint(ins) for text, ins in decoded(arch, texts).items()}
        self.nop = footprint(decode(bytes(2) + b"\x80\xbf", 0, arch, 0))
        self.arch = arch

    def close(self, first: str, between: list[str], then: str, nops: int) -> bool:
        hazards, window = Hazards(self.arch, cautious=True), ()
        for touched in [self.touched[first], *(self.touched[text] for text in between), *[self.nop] * nops]:
            window, _ = hazards.step(window, touched, 0)
        return bool(hazards.step(window, self.touched[then], 0)[1])


def disagreements(arch: str, programs: list[tuple[str, ...]]) -> list[str]:
    """Programs for which LLVM asks for another number of wait states before the last instruction."""
    texts = list(dict.fromkeys(text for program in programs for text in program))
    pairs = Pairs(arch, texts)
    lines = machine_ir(arch, list(decoded(arch, texts).items()))
    wrong = []
    asked = wait_states(arch, [[lines[text] for text in program] for program in programs])
    assert any(asked), "LLVM asks for nothing: the test does not work"
    for (first, *between, then), nops in zip(programs, asked, strict=True):
        if pairs.close(first, between, then, nops):
            wrong.append(f"LLVM {nops}, ours more: {' ; '.join((first, *between, then))}")
        elif nops and not pairs.close(first, between, then, nops - 1):
            wrong.append(f"LLVM {nops}, ours less: {' ; '.join((first, *between, then))}")
    return wrong


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
@pytest.mark.parametrize("kinds", ["plain-plain", "matrix-plain", "plain-matrix", "matrix-matrix"])
def test_pairs(arch: str, kinds: str) -> None:
    first, then = ({"plain": plain, "matrix": matrix}[kind](arch) for kind in kinds.split("-"))
    first = [text for text in first if not text.startswith("global_load_lds_")]  # llc 19 crashes on what follows them
    wrong = disagreements(arch, [(a, b) for a in first for b in then])
    assert not wrong, f"{len(wrong)} pairs: " + "\n".join(wrong[:40])
