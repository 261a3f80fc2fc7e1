"""Data races: accesses of different waves to the same bytes that nothing puts in order, and barriers that do not match.

Within a workgroup only s_barrier orders. What a wave did before it arrives is ordered before what any wave of
the workgroup does after it, if

    LDS      the operation was complete when the wave arrived: waited for with lgkmcnt (vmcnt for a load from
             memory to LDS)
    global   always: the waves of a workgroup share the vector L1, which serves them in order (source: LLVM "User
             Guide for AMDGPU Backend", memory model gfx90a and gfx942: no vmcnt(0) at workgroup scope)

Workgroups are ordered only through an acquire (buffer_wbinvl1_vol on gfx90a, buffer_inv on gfx942): then all that
had been completed anywhere by that time counts as released, so that a missing release, as opposed to a missing
acquire, is not seen. Atomics do not race with each other. Loads past the caches (glc on gfx90a; sc0, sc1 on
gfx942), with which compilers express atomic loads, do not race at all. Two writers and two readers are remembered
for each dword, which is enough to see every race with the last writer or with either of the last two readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import BASE, DeviceMemory
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.footprint import Footprint, Unit
from petitgen.emulator.sanitizer.race_loops import ATOMIC, CODE, CODES, DMA, LAST, WAVES, visit
from petitgen.emulator.unwritten import zeros
from petitgen.emulator.state import Array, Batch, Group
from petitgen.isa.model import Instruction

Index = NDArray[np.int64]
Outstanding = Callable[[Index], tuple[Index, Index]]

ACQUIRES = frozenset(
    {"buffer_inv", "buffer_invl2", "buffer_wbinvl1", "buffer_wbinvl1_vol"}
)  # they count on no counter
REPORTED = 1024  # conflicts of one instruction that are looked at
_PAST_CACHES = ("glc", "sc0", "sc1")


class Records:
    """What is remembered of a memory: the last writers and readers of each dword."""

    def __init__(self, dwords: int) -> None:
        self.w0, self.w1, self.r0, self.r1 = (zeros(dwords, np.int64) for _ in range(4))


@dataclass(slots=True)
class _Waves:
    """Counts of operations by wave of the batch.

    lds, vmem            issued
    arrived_*            complete when the wave came to the barrier it is at, or was last at
    done_lds, done_dma   complete, and done_global: issued, at the last barrier that let the wave go
    seen_lds             issued at that barrier: if not in done_lds, it was the wait that was missing
    """

    lds: Index
    vmem: Index
    arrived_lds: Index
    arrived_dma: Index
    done_lds: Index
    done_dma: Index
    done_global: Index
    seen_lds: Index
    barrier: Index  # pc of the barrier the wave waits at, or -1


class RaceCheck:
    """Races of one launch.

    findings, entry   of the launch; entry: pc of the kernel, to name other instructions
    outstanding       (waves of the batch) -> LDS and VMEM operations that may be unfinished (IssueCheck.outstanding)
    per_group, waves  waves of a workgroup, and of the grid
    """

    def __init__(
        self,
        findings: Findings,
        entry: int,
        outstanding: Outstanding,
        memory: DeviceMemory,
        per_group: int,
        waves: int,
    ) -> None:
        self.findings = findings
        self.entry = entry
        self.outstanding = outstanding
        self.memory = memory
        self.per_group = per_group
        self.tracked = waves <= WAVES
        self._codes: dict[int, int] = {}  # pc -> number in records
        self._texts: list[tuple[int, str]] = [(0, "another instruction")]
        self._global: Records | None = None
        self._published = np.zeros(waves, np.int64)
        self._acquired = np.zeros(-(-waves // per_group), bool)
        self._out = np.zeros((REPORTED, 4), np.int64)
        self._first = 0
        self._any_dma = False
        self._batch: Batch | None = None

    def batch(self, batch: Batch) -> None:
        """New waves. The ones before have ended: all they did is complete."""
        if self._batch is not None:
            self._published[self._first : self._first + self._batch.waves] = LAST
        self._batch = batch
        self._first = batch.first_workgroup * self.per_group
        self._lds = Records(batch.lds.size // 4)
        self._w = _Waves(
            *(np.zeros(batch.waves, np.int64) for _ in range(8)), np.full(batch.waves, -1, np.int64)
        )
        self._live = np.bincount(batch.workgroup)
        self._waiting = np.zeros_like(self._live)
        self._first_of_group = np.searchsorted(batch.workgroup, np.arange(self._live.size))

    # --- operations -----------------------------------------------------------------------------------

    def instruction(self, group: Group, touched: Footprint) -> None:
        """Count operations; follow barriers."""
        unit, name = touched.unit, touched.instruction.mnemonic
        if unit is Unit.LDS:
            self._w.lds[group.where] += 1
        elif unit is Unit.VMEM:
            if name in ACQUIRES:
                self._acquire(group)
            else:
                self._w.vmem[group.where] += 1
        elif unit is Unit.FLAT:
            self._w.lds[group.where] += 1
            self._w.vmem[group.where] += 1
        elif name == "s_barrier":
            self._arrive(group, touched.instruction)
        elif name in ("s_endpgm", "s_endpgm_saved"):
            self._end(group)

    def access(
        self,
        group: Group,
        ins: Instruction,
        space: str,
        kind: str,
        addresses: Array,
        size: int,
        active: Array,
    ) -> None:
        """One component of a memory access."""
        if space == "scratch" or not self.tracked:
            return
        mods = ins.mods
        cached = not any(m in mods for m in _PAST_CACHES)
        if kind == "load" and not cached:
            return
        dma = space == "lds" and bool(mods.get("lds") or "_load_lds_" in ins.mnemonic)
        template = self._code(ins) << CODE
        if kind == "atomic" or not cached:
            template |= ATOMIC
        if dma:
            template |= int(DMA)
            self._any_dma = True
        w, where = self._w, group.where
        numbers = (w.lds if space == "lds" and not dma else w.vmem)[where]
        mine = self._own_dma(group)
        if space == "lds":
            records, start, done = self._lds, group.lds_base[:, 0], w.done_lds
        else:
            records, start, done = self._records(), np.full(group.n, -BASE, np.int64), w.done_global
        count = visit(
            records.w0, records.w1, records.r0, records.r1, start, addresses, active, size, kind != "load", np.int64(template),
            group.index + self._first, numbers, mine, self.per_group, self._first, done, w.done_dma, self._published,
            self._acquired, self._out,
        )  # fmt: skip
        if count:
            self._report(group, ins, space, kind, self._out[: min(count, REPORTED)])

    def _own_dma(self, group: Group) -> Index:
        """Loads to LDS of each wave that are complete by now."""
        if not self._any_dma:
            return self._w.vmem[group.where]
        return self._w.vmem[group.where] - self.outstanding(group.index)[1]

    def _records(self) -> Records:
        if self._global is None:
            self._global = Records(self.memory.extent // 4)
        return self._global

    def _code(self, ins: Instruction) -> int:
        known = self._codes.get(ins.pc)
        if known is None:
            known = len(self._texts) if len(self._texts) < CODES else 0
            self._codes[ins.pc] = known
            if known:
                self._texts.append((ins.pc, ins.text))
        return known

    # --- order ----------------------------------------------------------------------------------------

    def _acquire(self, group: Group) -> None:
        """From now on these workgroups may rely on what is complete, wherever it was done."""
        batch = group.batch
        complete = self._w.vmem - self.outstanding(batch.wave_id)[1]
        self._published[self._first : self._first + batch.waves] = complete
        self._acquired[(group.index + self._first) // self.per_group] = True

    def _arrive(self, group: Group, ins: Instruction) -> None:
        w, where = self._w, group.where
        lds, vmem = self.outstanding(group.index)
        w.arrived_lds[where] = w.lds[where] - lds
        w.arrived_dma[where] = w.vmem[where] - vmem
        w.barrier[where] = ins.pc
        self._waiting += np.bincount(group.batch.workgroup[group.index], minlength=self._live.size)
        self._release(ins)

    def _end(self, group: Group) -> None:
        """What ended waves did is complete when the barrier that need not wait for them lets the others go."""
        w, where = self._w, group.where
        w.arrived_lds[where], w.arrived_dma[where] = w.lds[where], w.vmem[where]
        self._live -= np.bincount(group.batch.workgroup[group.index], minlength=self._live.size)
        self._release(None)

    def _release(self, ins: Instruction | None) -> None:
        """Workgroups all of whose waves have arrived go on."""
        complete = (self._waiting > 0) & (self._waiting == self._live)
        if not complete.any():
            return
        assert self._batch is not None
        w, through = self._w, complete[self._batch.workgroup]
        w.done_lds[through], w.done_dma[through] = w.arrived_lds[through], w.arrived_dma[through]
        w.done_global[through], w.seen_lds[through] = w.vmem[through], w.lds[through]
        self._compare_barriers(complete)
        w.barrier[through] = -1
        self._waiting[complete] = 0

    # --- findings -------------------------------------------------------------------------------------

    def _compare_barriers(self, complete: Array) -> None:
        """One barrier of a workgroup must be one instruction."""
        assert self._batch is not None
        pcs = self._w.barrier
        highest = np.maximum.reduceat(pcs, self._first_of_group)
        lowest = np.minimum.reduceat(
            np.where(pcs < 0, highest[self._batch.workgroup], pcs), self._first_of_group
        )
        for number in np.flatnonzero(complete & (lowest != highest)):
            at = int(highest[number])
            wave = int(np.flatnonzero((self._batch.workgroup == number) & (pcs == at))[0])
            self.findings.add(
                "barrier",
                f"some waves of the workgroup wait here while others wait at the s_barrier at +{int(lowest[number]) - self.entry:#x}",
                _barrier(at, self._batch.arch), self._batch.workgroup_name(wave), wave - int(self._first_of_group[number]),
            )  # fmt: skip

    def _report(self, group: Group, ins: Instruction, space: str, kind: str, conflicts: Array) -> None:
        """One finding for each other instruction and reason."""
        others, codes = conflicts[:, 2], conflicts[:, 2] >> CODE & (CODES - 1)
        waves = (others >> 24 & 0x3FFFFF) - 1
        mine = group.index[conflicts[:, 0]] + self._first
        reason = np.where(waves == mine, 3, np.where(waves // self.per_group != mine // self.per_group, 2, 0))
        local = np.where(reason == 0, waves - self._first, 0)
        if space == "lds":
            issued = np.where(others < 0, self._w.done_global[local], self._w.seen_lds[local])
            reason += (reason == 0) & ((others & LAST) <= issued)
        keys = np.stack((codes, reason, conflicts[:, 3], others < 0), axis=1)
        for key in np.unique(keys, axis=0):
            rows = conflicts[(keys == key).all(axis=1)]
            row = int(rows[0, 0])
            lanes = (
                0
                if space == "scalar"
                else int(np.bitwise_or.reduce(np.int64(1) << rows[rows[:, 0] == row, 1])) & (1 << 64) - 1
            )
            wave = int(group.index[row])
            message = self._message(space, kind, int(key[0]), int(key[1]), bool(key[2]), bool(key[3]))
            self.findings.add(
                "race", message, ins, group.batch.workgroup_name(wave), wave % self.per_group, lanes or (1 << 64) - 1,
                len(np.unique(rows[:, 0])),
            )  # fmt: skip

    def _message(self, space: str, kind: str, code: int, reason: int, loads: bool, dma: bool) -> str:
        pc, text = self._texts[code]
        other = f"`{text}` at +{pc - self.entry:#x}" if code else text
        what = "LDS" if space == "lds" else "memory"
        does = {"load": "reads", "store": "writes", "atomic": "updates"}[kind]
        did = "reads" if loads else "writes"
        counter = "vmcnt" if dma else "lgkmcnt"
        return (
            f"{does} {what} that {other} {did} "
            + (
                "in another wave, with no s_barrier between",
                f"in another wave, which does not wait with s_waitcnt {counter} for it before the s_barrier between",
                "in another workgroup; only atomics and an acquire put workgroups in order",
                "itself, without the s_waitcnt vmcnt that it needs",
            )[reason]
        )


def _barrier(pc: int, arch: str) -> Instruction:
    return Instruction(pc, 4, arch, "s_barrier", "SOPP", (), (), {}, (0xBF8A0000,), "s_barrier")
