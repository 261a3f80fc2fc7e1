"""The instructions of a wave that later ones may come too close to."""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.emulator.sanitizer.footprint import Footprint, row_name
from petitgen.emulator.sanitizer.hazards import Blocked, Rule, block, broken, longest
from petitgen.emulator.sanitizer.traits import Traits, traits
from petitgen.emulator.sanitizer.wait import Problem


@dataclass(frozen=True, slots=True)
class Recent:
    """One of them.

    age           wait states since
    behind_dgemm  a DGEMM was issued since
    """

    pc: int
    text: str
    age: int
    behind_dgemm: bool = False


Window = tuple[Recent, ...]  # oldest first


class Hazards:
    """The automaton of wait states for one architecture. cautious: keep LLVM's own rules too (hazards.py)."""

    def __init__(self, arch: str, cautious: bool) -> None:
        self.arch = arch
        self.cautious = cautious
        self._traits: dict[int, Traits] = {}

    def step(self, window: Window, touched: Footprint, entry: int) -> tuple[Window, tuple[Problem, ...]]:
        """The window after an instruction, and the wait states that are missing before it."""
        pc = touched.instruction.pc
        mine = self._traits.get(pc)
        if mine is None:
            mine = self._traits[pc] = traits(touched)
        problems: list[Problem] = []
        blocked: Blocked = {}
        for recent in reversed(window):
            problem = self._problem(recent, mine, blocked, entry)
            if problem is not None:
                problems.append(problem)
            block(self._traits[recent.pc], mine, blocked)
        return self._after(window, touched, mine), tuple(problems)

    def _problem(self, recent: Recent, mine: Traits, blocked: Blocked, entry: int) -> Problem | None:
        first = self._traits[recent.pc]
        worst: tuple[int, Rule] | None = None
        for states, rule in broken(first, recent.behind_dgemm, mine, self.arch, blocked):
            if states > recent.age and (self.cautious or not rule.cautious) and (worst is None or states > worst[0]):
                worst = states, rule
        if worst is None:
            return None
        states, rule = worst
        rows = first.ports.get(rule.out, frozenset()) & mine.ports.get(rule.into, frozenset())
        where = f" ({row_name(min(rows))})" if rows and min(rows) < 1024 else ""
        only = "" if not rule.cautious else "; LLVM's rule, not the ISA document's"
        return Problem(
            "hazard",
            f"{rule.text}{where}: needs {states} wait states after `{recent.text}` at +{recent.pc - entry:#x}, has {recent.age}; "
            f"s_nop {states - recent.age - 1} is missing{only}",
        )

    def _after(self, window: Window, touched: Footprint, mine: Traits) -> Window:
        """An MFMA stays as long as an older one: it stands before it (hazards.family)."""
        after = []
        behind = "dgemm" in mine.classes and self.arch == "gfx90a"
        matrix = False
        for r in window:
            age = r.age + mine.states
            first = self._traits[r.pc]
            if age < longest(self.arch, first.classes, first.passes) or (matrix and "mfma" in first.classes):
                after.append(Recent(r.pc, r.text, age, r.behind_dgemm or behind))
                matrix = matrix or "mfma" in first.classes
        if longest(self.arch, mine.classes, mine.passes):
            ins = touched.instruction
            after.append(Recent(ins.pc, ins.text, 0))
        return tuple(after)
