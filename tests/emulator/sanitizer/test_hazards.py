"""Wait states: for every rule a program that leaves exactly enough, and the same with one fewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from petitgen.emulator.mfma_table import SHAPES
from petitgen.emulator.sanitizer.footprint import footprint
from petitgen.emulator.sanitizer.hazards import RULES, Rule, broken
from petitgen.emulator.sanitizer.traits import traits

from .programs import findings, instructions

Row = tuple[str, str, int, list[str]]  # arch, "!" LLVM's rule alone or "?" the document's, wait states, instructions


def rows() -> list[Row]:
    """hazards.txt."""
    found = []
    for line in Path(__file__).with_name("hazards.txt").read_text().splitlines():
        if not line.startswith("#"):
            arch, states, text = line.split(maxsplit=2)
            found.append((arch, states.strip("0123456789"), int(states.strip("!?")), text.split(" ; ")))
    return found


def nops(count: int) -> list[str]:
    """Wait states in as few instructions as the assembler has."""
    return [f"s_nop {min(8, count - done) - 1}" for done in range(0, count, 8)]


def hazards(arch: str, cautious: bool, lines: list[str]) -> list[tuple[int, str]]:
    """(line, message) of hazards alone."""
    return [(line, text) for line, check, text in findings(arch, "\n".join(lines), cautious) if check == "hazard"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{' ; '.join(row[3])}-{row[2]}")
def test_one_wait_state_decides(row: Row) -> None:
    arch, source, states, (*first, then) = row
    assert hazards(arch, True, [*first, *nops(states), then]) == []
    short = [*first, *nops(states - 1), then]
    (found,) = hazards(arch, True, short)
    assert found[0] == len(short) - 1
    assert "s_nop 0 is missing" in found[1]
    assert ("LLVM's rule" in found[1]) == (source == "!")
    assert bool(hazards(arch, False, short)) == (source != "!")


def _passes(arch: str, member: str) -> set[int]:
    """Passes that the matrix instructions of a class have."""
    found = set()
    for shape in SHAPES[arch].values():
        counts = shape.c_registers, shape.a_registers, shape.b_registers
        d, a, b = (f"v[{first}:{first + n - 1}]" if n > 1 else f"v{first}" for first, n in zip((0, 32, 48), counts, strict=True))
        (ins,) = instructions(arch, f"{shape.mnemonic} {d}, {a}, {b}, {'v64' if shape.sparse else 0}")
        kind = traits(footprint(ins))
        if member in kind.classes:
            found.add(kind.passes)
    return found


def _deciding(arch: str, row: Row) -> list[tuple[Rule, int]]:
    """The rules that ask for the wait states of a row, with the passes of its first instruction."""
    first, *between, then = (traits(footprint(i)) for i in instructions(arch, "\n".join(row[3])))
    behind = any("dgemm" in t.classes for t in between)
    applied = broken(first, behind, then, arch, {})
    return [(rule, first.passes) for states, rule in applied if states == row[2] + len(between)]


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942"])
def test_every_rule_has_its_program(arch: str) -> None:
    covered = {(id(rule), passes) for row in rows() if row[0] == arch for rule, passes in _deciding(arch, row)}
    for rule in RULES:
        if arch not in rule.archs:
            continue
        if isinstance(rule.states, int):
            assert any(known == id(rule) for known, _ in covered), rule
        else:
            exist = _passes(arch, rule.first)
            missing = {p for p, n in rule.states.items() if n and p in exist} - {p for known, p in covered if known == id(rule)}
            assert not missing, (rule, missing)


def test_wait_states_are_counted() -> None:
    """Every instruction counts one, s_nop n counts n + 1, whatever stands between."""
    first, then = "v_mfma_f32_16x16x16_f16 v[0:3], v[44:45], v[52:53], 0", "v_mov_b32_e32 v40, v1"  # 7 on gfx942
    others = ["s_waitcnt vmcnt(0)", "s_mov_b32 s4, s5", "v_mov_b32_e32 v40, s4", "s_nop 2", "v_nop"]  # 7 together
    assert not hazards("gfx942", False, [first, *others, then])
    for k in range(len(others)):
        assert hazards("gfx942", False, [first, *others[:k], *others[k + 1 :], then]), others[k]
