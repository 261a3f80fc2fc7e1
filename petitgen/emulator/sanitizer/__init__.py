"""Watches a run for faults that results do not show: missing waits and wait states, races, undefined values, bad accesses.

`launch(..., sanitize=True)` makes a Sanitizer and puts what it found into `LaunchResult.findings`. Semantics know nothing of
it; without it a run costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from petitgen.emulator.dispatch import Dispatch
from petitgen.emulator.sanitizer.accesses import AccessCheck, private
from petitgen.emulator.sanitizer.banks import BankCount
from petitgen.emulator.sanitizer.defined import DefinedCheck
from petitgen.emulator.sanitizer.findings import Finding, Findings
from petitgen.emulator.sanitizer.footprint import Footprint, footprint
from petitgen.emulator.sanitizer.issue import IssueCheck
from petitgen.emulator.sanitizer.races import RaceCheck
from petitgen.emulator.state import Array, Batch, Group, Observer
from petitgen.isa.model import Instruction

__all__ = ["Finding", "Sanitizer", "footprint"]


class Sanitizer(Observer):
    """All checks of one launch.

    intended  buffer descriptors (16 bytes each) whose out-of-range accesses are meant; None: those of none
    cautious  report missing wait states that only LLVM asks for, too (hazards.py)
    past_lds  accesses past the workgroup's LDS are meant
    scratch   report the use of scratch memory

    One object serves one launch: `start`, then `batch` before each batch, then the events of an Observer.
    """

    def __init__(
        self,
        intended: Sequence[bytes] | None = None,
        cautious: bool = False,
        past_lds: bool = False,
        scratch: bool = False,
    ) -> None:
        self.cautious, self.past_lds, self.scratch = cautious, past_lds, scratch
        self.intended = frozenset(intended or ())
        self.found = Findings()
        self._footprints: dict[int, Footprint] = {}  # by pc
        self._entry = 0
        self._kernel = ""

    def start(self, run: Dispatch) -> None:
        """The launch begins; the checks are made for its kernel and architecture."""
        self._kernel, self._entry = run.kernel.name, run.kernel.entry
        self.issue = IssueCheck(run.arch, self.found, run.kernel.entry, self.cautious)
        waves = run.waves_per_group * math.prod(run.grid)
        self.races = RaceCheck(
            self.found, run.kernel.entry, self.issue.outstanding, run.memory, run.waves_per_group, waves
        )
        self.defined = DefinedCheck(self.found, run.memory)
        self.accesses = AccessCheck(
            self.found, self.intended, run.waves_per_group, past_lds=self.past_lds, scratch=self.scratch
        )
        self.banks = BankCount()
        checks = (self.issue, self.races, self.defined, self.accesses)
        self._each_instruction = [check.instruction for check in checks]
        self._each_batch = [self.issue.batch, self.races.batch, self.defined.batch]
        watchers = (self.races, self.defined, self.accesses, self.banks)
        self._each_access = [check.access for check in watchers]

    def batch(self, batch: Batch) -> None:
        """New waves; state of the ones before is forgotten."""
        for check in self._each_batch:
            check(batch)

    def instruction(self, group: Group, instruction: Instruction) -> None:
        """See Observer."""
        touched = self._footprints.get(instruction.pc)
        if touched is None:
            touched = self._footprints[instruction.pc] = footprint(instruction)
        for check in self._each_instruction:
            check(group, touched)

    def access(
        self, group: Group, instruction: Instruction, space: str, kind: str, addresses: Array, size: int, active: Array
    ) -> None:
        """See Observer. Scratch that a buffer instruction reaches by its descriptor is scratch to every check."""
        if space == "global" and private(group, instruction):
            space = "scratch"
        for check in self._each_access:
            check(group, instruction, space, kind, addresses, size, active)

    def out_of_range(self, group: Group, instruction: Instruction, lanes: Array) -> None:
        """See Observer."""
        self.accesses.out_of_range(group, instruction, lanes)

    def bank_conflicts(self) -> dict[int, tuple[str, int, int]]:
        """By offset from the kernel's entry: disassembly, wave-instructions, extra cycles (banks.py)."""
        return self.banks.result(self._entry)

    def misaligned(self) -> dict[int, tuple[str, int, int]]:
        """By offset from the kernel's entry: disassembly, and how many waves and lanes met it (accesses.py)."""
        return self.accesses.counts(self._entry)

    def findings(self) -> tuple[Finding, ...]:
        """What was found so far, by pc."""
        self.races.report.finish()
        return tuple(self.found.named(self._kernel, self._entry))
