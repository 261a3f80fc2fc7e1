"""From conflicting accesses to findings: what is harmless after all, and how the rest is said.

Harmless, because compilers and common code do it:
    stores of the value that is there already, or that all writers store;
    a plain load that only guesses the value for a compare-and-swap on the same place by the same wave;
    a plain store against an exchange or compare-and-swap in global memory: how gfx90a gives a lock back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import BASE
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.race_loops import CODE, CODES
from petitgen.emulator.state import Array, Group
from petitgen.isa.model import Instruction

OTHER_WAVE, NOT_COMPLETE, OTHER_GROUP, OWN = range(4)
_REASONS = (
    "in another wave, with no s_barrier between",
    "in another wave, which does not wait for it with s_waitcnt {counter} before the s_barrier between",
    "in another workgroup; only atomics and an acquire put workgroups in order",
    "itself, without the s_waitcnt vmcnt that it needs",
)
_DOES = {"load": "reads", "store": "writes", "atomic": "updates"}
_EVERY = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Event:
    """One component of a memory access of a group, as the observer is told of it.

    data     what is stored: registers (rows) of the component, first byte within them; () for loads
    numbers  (n,) the operation's number by wave; first: number in the grid of the batch's first wave
    """

    group: Group
    instruction: Instruction
    space: str
    kind: str
    addresses: Array
    size: int
    active: Array
    data: tuple[int, ...]
    skip: int
    numbers: Array
    first: int


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Of each conflict: row in the group, lane, wave and number and instruction of the other, whether it loads, whether
    vmcnt counts it, and the reason."""

    row: Array
    lane: Array
    wave: Array
    number: Array
    code: Array
    loads: Array
    dma: Array
    reason: Array

    def where(self, keep: NDArray[np.bool_]) -> Conflicts:
        """Some of them."""
        return Conflicts(*(getattr(self, name)[keep] for name in self.__slots__))


def conflicts_of(out: Array, reason: Callable[[Array, Array, Array, Array], Array]) -> Conflicts:
    """The conflicts that race_loops.visit listed; `reason`(row, wave, number, dma)."""
    record, row = out[:, 2], out[:, 0]
    wave, number, dma = (record >> 24 & 0x3FFFFF) - 1, record & 0xFFFFFF, record < 0
    code = record >> CODE & (CODES - 1)
    return Conflicts(row, out[:, 1], wave, number, code, out[:, 3] != 0, dma, reason(row, wave, number, dma))


class RaceReport:
    """Findings of races in one launch."""

    def __init__(self, findings: Findings, entry: int, per_group: int) -> None:
        self.findings = findings
        self.entry = entry
        self.per_group = per_group
        self.guesses = np.zeros(CODES, bool)  # loads that a compare-and-swap of their wave followed
        self._codes: dict[int, int] = {}
        self._known: list[Instruction | None] = [None]
        self._pending: list[tuple[int, tuple]] = []  # races of a load that may turn out to be a guess

    def code(self, ins: Instruction) -> int:
        """Number of an instruction in records; 0 for those past the end of the table."""
        known = self._codes.get(ins.pc)
        if known is None:
            known = self._codes[ins.pc] = len(self._known) if len(self._known) < CODES else 0
            if known:
                self._known.append(ins)
        return known

    def add(self, event: Event, found: Conflicts) -> None:
        """Report what is no harmless conflict: one finding for each other instruction and reason."""
        if event.data and not found.loads.all():
            found = found.where(found.loads | ~self._same_value(event, found))
        keys = np.stack((found.code, found.reason, found.loads, found.dma), axis=1).astype(np.int64)
        for key in np.unique(keys, axis=0):
            other = self._known[int(key[0])]
            if event.space == "global" and _lock(event.instruction, other, event.kind, bool(key[2])):
                continue
            chosen = found.where((keys == key).all(axis=1))
            finding = self._finding(event, chosen, other, bool(key[2]), bool(key[3]), int(key[1]))
            guess = self._guess(event, other, bool(key[2]))
            if guess is None:
                self.findings.add(*finding)
            else:
                self._pending.append((guess, finding))

    def finish(self) -> None:
        """Report the loads that no compare-and-swap followed."""
        for guess, finding in self._pending:
            if not self.guesses[guess]:
                self.findings.add(*finding)
        self._pending = []

    # --- what is harmless -----------------------------------------------------------------------------

    def _guess(self, event: Event, other: Instruction | None, other_loads: bool) -> int | None:
        """The plain load of a load and a compare-and-swap that conflict, by its number."""
        mine = event.instruction
        if event.kind == "load" and other is not None and compares(other):
            return self.code(mine) or None
        if other is not None and other_loads and compares(mine):
            return self.code(other)
        return None

    def _same_value(self, event: Event, found: Conflicts) -> NDArray[np.bool_]:
        """Per conflict: do all who write there in this event write the same, and was it there already?"""
        data = _stored(event)
        start = _starts(event)
        mine = start[found.row, found.lane]
        present = event.group.lds if event.space == "lds" else event.group.memory.u8
        there = present[mine[:, None] + np.arange(event.size)]
        same_event = np.isin(found.wave - event.first, event.group.index) & (found.code == self.code(event.instruction))
        rows = np.clip(np.searchsorted(event.group.index, found.wave - event.first), 0, event.group.n - 1)
        same_event &= event.numbers[rows] == found.number
        unchanged = (there == data[found.row, found.lane]).all(axis=1) | same_event
        return unchanged & ~np.isin(mine, _disputed(start[event.active], data[event.active]))

    # --- how it is said -------------------------------------------------------------------------------

    def _finding(
        self, event: Event, chosen: Conflicts, other: Instruction | None, loads: bool, dma: bool, reason: int
    ) -> tuple:
        row = int(chosen.row[0])
        lanes = 0
        for lane in np.unique(chosen.lane[chosen.row == row]):
            lanes |= 1 << int(lane)
        wave = int(event.group.index[row])
        what = "LDS" if event.space == "lds" else "memory"
        place = "another instruction"
        if other is not None:
            place = f"`{other.text}` at +{other.pc - self.entry:#x}"
        why = _REASONS[reason].format(counter="vmcnt" if dma else "lgkmcnt")
        message = f"{_DOES[event.kind]} {what} that {place} {'reads' if loads else 'writes'} {why}"
        return (
            "race", message, event.instruction, event.group.batch.workgroup_name(wave), wave % self.per_group,
            _EVERY if event.space == "scalar" else lanes, len(np.unique(chosen.row)),
        )  # fmt: skip


def compares(ins: Instruction) -> bool:
    """Is it a compare-and-swap?"""
    return "cmpswap" in ins.mnemonic or "cmpst" in ins.mnemonic


def _lock(mine: Instruction, other: Instruction | None, kind: str, other_loads: bool) -> bool:
    if other is None or other_loads or kind == "load":
        return False
    exchanges = ["_swap" in i.mnemonic or compares(i) for i in (mine, other)]
    return exchanges[0] != exchanges[1] and "_store_" in (other if exchanges[0] else mine).mnemonic


def _starts(event: Event) -> NDArray[np.int64]:
    """Offsets of the lanes into the array that holds the memory."""
    return event.addresses + (event.group.lds_base if event.space == "lds" else -BASE)


def _stored(event: Event) -> NDArray[np.uint8]:
    """(n, 64, size) bytes to be stored."""
    words = np.stack([event.group.u32[row] for row in event.data], axis=2)
    return np.ascontiguousarray(words).view(np.uint8)[..., event.skip : event.skip + event.size]


def _disputed(start: NDArray[np.int64], data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The places where not all writers write the same."""
    order = np.argsort(start, kind="stable")
    start, data = start[order], data[order]
    differs = (start[1:] == start[:-1]) & (data[1:] != data[:-1]).any(axis=1)
    return np.unique(start[1:][differs])
