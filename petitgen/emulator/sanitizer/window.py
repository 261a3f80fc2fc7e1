"""The instructions of a wave that later ones may come too close to."""

from __future__ import annotations

from dataclasses import dataclass

from petitgen.emulator.sanitizer.footprint import Footprint, row_name
from petitgen.emulator.sanitizer.hazards import Rule, broken, longest
from petitgen.emulator.sanitizer.traits import Traits, traits
from petitgen.emulator.sanitizer.wait import Problem


@dataclass(frozen=True, slots=True)
class Recent:
    """One of them.

    age           wait states since
    live          rows of its result that no later MFMA has overwritten: those of an earlier MFMA it does not outlive
    behind_dgemm  a DGEMM was issued since
    """

    pc: int
    text: str
    age: int
    live: frozenset[int]
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
        problems, kept = [], []
        for recent in window:
            problem = self._problem(recent, mine, entry)
            if problem is None:
                kept.append(recent)
            else:
                problems.append(problem)
        return self._after(kept, touched, mine), tuple(problems)

    def _problem(self, recent: Recent, mine: Traits, entry: int) -> Problem | None:
        first = self._traits[recent.pc]
        worst: tuple[int, Rule] | None = None
        for states, rule in broken(first, recent.live, recent.behind_dgemm, mine, self.arch):
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

    def _after(self, window: list[Recent], touched: Footprint, mine: Traits) -> Window:
        after = []
        overwritten = mine.ports.get("result", frozenset()) if "mfma" in mine.classes else frozenset()
        behind = "dgemm" in mine.classes and self.arch == "gfx90a"
        for r in window:
            age = r.age + mine.states
            first = self._traits[r.pc]
            if age < longest(self.arch, first.classes, first.passes):
                live = r.live - overwritten if "mfma" in first.classes else r.live
                after.append(Recent(r.pc, r.text, age, live, r.behind_dgemm or behind))
        if longest(self.arch, mine.classes, mine.passes):
            ins = touched.instruction
            after.append(Recent(ins.pc, ins.text, 0, mine.ports.get("result", frozenset())))
        return tuple(after)
