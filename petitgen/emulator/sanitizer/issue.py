"""What a wave has issued: operations that no s_waitcnt proved finished, and instructions whose results are not ready yet.

Both depend on the path of a wave and on nothing else. So a wave's issue state is a small immutable value, states are numbered,
and the step from (state, instruction) to the next state and to what is wrong is worked out once, in plain Python, and looked
up from then on: a step of any number of waves in the same state costs one look in a dict.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.sanitizer import wait
from petitgen.emulator.sanitizer.findings import Findings, place
from petitgen.emulator.sanitizer.footprint import Footprint
from petitgen.emulator.sanitizer.wait import NOTHING_PENDING, Pending, Problem
from petitgen.emulator.sanitizer.window import Hazards, Window
from petitgen.emulator.state import Batch, Group

MOST_STATES = 1 << 17  # then the table is started anew


@dataclass(frozen=True, slots=True)
class Issue:
    """The issue state of a wave."""

    pending: Pending
    window: Window = ()


NOTHING_ISSUED = Issue(NOTHING_PENDING)
Step = tuple[int, tuple[Problem, ...]]


def step(state: Issue, touched: Footprint, hazards: Hazards, entry: int) -> tuple[Issue, tuple[Problem, ...]]:
    """The state after an instruction, and what is wrong with it. `entry`: as in IssueCheck."""
    pending, late = wait.step(state.pending, touched, entry)
    window, close = hazards.step(state.window, touched, entry)
    return Issue(pending, window), late + close


class IssueCheck:
    """Waits and hazards of all waves.

    arch, findings  of the launch
    entry           pc of the kernel, to name other instructions by their distance from it
    cautious        keep the wait states that only LLVM asks for, too (hazards.py)
    """

    def __init__(self, arch: str, findings: Findings, entry: int, cautious: bool = False) -> None:
        self.hazards = Hazards(arch, cautious)
        self.findings = findings
        self.entry = entry
        self._waves: NDArray[np.int64] = np.zeros(0, np.int64)  # state of each wave, but for those of the current group
        self._forget()
        self._group: Group | None = None
        self._now: list[int] = []  # the states of the waves of the group, all different
        self._which: NDArray[np.intp] | None = None  # index into them by wave; None: there is one

    def batch(self, batch: Batch) -> None:
        """New waves, which have issued nothing."""
        self._group = None
        self._waves = np.full(batch.waves, self._number(NOTHING_ISSUED))

    def instruction(self, group: Group, touched: Footprint) -> None:
        """The waves of `group` issue an instruction."""
        if group is not self._group:
            self._switch(group)
        pc = touched.instruction.pc
        if self._which is None:
            state = self._now[0]
            number, problems = self._steps[state].get(pc) or self._compute(state, touched)
            if problems:
                self._report(problems, group, touched, None)
            self._now[0] = number
        else:
            self._several(group, touched, pc)

    def outstanding(self, waves: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(LDS, VMEM) operations of each wave that may be unfinished; FLAT counts in both. Stores count like loads."""
        self._leave()
        states = self._waves[waves]
        used, which = np.unique(states, return_inverse=True)
        pending = [self._states[n].pending for n in used]
        lds, vm = (np.array([len(queue) for queue in queues]) for queues in zip(*((p.lds, p.vm) for p in pending), strict=True))
        return lds[which], vm[which]

    # --- groups ---

    def _switch(self, group: Group) -> None:
        self._leave()
        if len(self._states) > MOST_STATES:
            self._compact()
        self._group = group
        states = self._waves[group.where]
        if (states == states[0]).all():
            self._now, self._which = [int(states[0])], None
        else:
            used, self._which = np.unique(states, return_inverse=True)
            self._now = [int(n) for n in used]

    def _leave(self) -> None:
        """Write the states of the current group back; it is looked up again when it goes on."""
        if self._group is not None:
            now = self._now[0] if self._which is None else np.array(self._now)[self._which]
            self._waves[self._group.where] = now
            self._group = None

    def _several(self, group: Group, touched: Footprint, pc: int) -> None:
        assert self._which is not None
        after = []
        for k, state in enumerate(self._now):
            number, problems = self._steps[state].get(pc) or self._compute(state, touched)
            if problems:
                self._report(problems, group, touched, self._which == k)
            after.append(number)
        distinct = sorted(set(after))
        if len(distinct) < len(after):
            position = {number: k for k, number in enumerate(distinct)}
            self._which = None if len(distinct) == 1 else np.array([position[n] for n in after])[self._which]
            after = distinct
        self._now = after

    def _report(
        self, problems: tuple[Problem, ...], group: Group, touched: Footprint, which: NDArray[np.bool_] | None
    ) -> None:
        waves = group.index if which is None else group.index[which]
        workgroup, wave = place(group.batch, int(waves[0]))
        for problem in problems:
            self.findings.add(problem.check, problem.message, touched.instruction, workgroup, wave, count=waves.size)

    # --- states ---

    def _forget(self) -> None:
        self._states: list[Issue] = []
        self._numbers: dict[Issue, int] = {}
        self._steps: list[dict[int, Step]] = []  # by state: pc -> step

    def _number(self, state: Issue) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self._states)
            self._states.append(state)
            self._steps.append({})
        return number

    def _compact(self) -> None:
        """Keep only the states that waves are in: code with very many paths would fill the memory."""
        used, which = np.unique(self._waves, return_inverse=True)
        kept = [self._states[n] for n in used]
        self._forget()
        self._waves = np.array([self._number(state) for state in kept])[which]

    def _compute(self, number: int, touched: Footprint) -> Step:
        state, problems = step(self._states[number], touched, self.hazards, self.entry)
        known = self._steps[number][touched.instruction.pc] = self._number(state), problems
        return known
