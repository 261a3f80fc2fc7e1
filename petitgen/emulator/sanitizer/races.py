"""Data races: accesses of different waves to the same bytes that nothing puts in order, and barriers that do not match.

Within a workgroup only s_barrier orders. What a wave did before it arrives is ordered before what any wave of
the workgroup does after it, if

    LDS      the operation was complete when the wave arrived: waited for with lgkmcnt (vmcnt for a load from
             memory to LDS)
    global   always: the waves of a workgroup share the vector L1, which serves them in order (source: LLVM "User
             Guide for AMDGPU Backend", memory model gfx90a and gfx942: no vmcnt(0) at workgroup scope)

Across workgroups, and between barriers, waves learn of each other through memory: an atomic that returns a value, and
a load past the caches (glc on gfx90a; sc0 or sc1 on gfx942, with which compilers express atomic loads), puts what the
last writers of the place had completed and knew before it, in order before what follows. That the reader also has to
invalidate its L1 is not checked. Atomics do not race with each other; loads past the caches do not race
at all. Two writers and two readers are remembered for each dword: enough to see every race with the last writer or
with either of the last two readers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import BASE, DeviceMemory
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.footprint import Footprint, Unit
from petitgen.emulator.sanitizer.movement import movement
from petitgen.emulator.sanitizer.race_loops import (
    ATOMIC,
    CODE,
    COMPARE,
    DMA,
    LEARN,
    WAVES,
    Access,
    Order,
    Records,
    visit,
)
from petitgen.emulator.sanitizer.race_report import (
    NOT_COMPLETE,
    OTHER_GROUP,
    OTHER_WAVE,
    OWN,
    Event,
    RaceReport,
    compares,
    conflicts_of,
)
from petitgen.emulator.state import Array, Batch, Group
from petitgen.emulator.unwritten import zeros
from petitgen.isa.model import Instruction

Index = NDArray[np.int64]
Outstanding = Callable[[Index], tuple[Index, Index]]

UNCOUNTED = frozenset({"buffer_inv", "buffer_invl2", "buffer_wbinvl1", "buffer_wbinvl1_vol"})  # by any counter
REPORTED = 1 << 15  # conflicts of one instruction that are looked at
_PAST_CACHES = ("glc", "sc0", "sc1")


def new_records(dwords: int) -> Records:
    """No access to any dword yet."""
    return Records(*(zeros(dwords, np.int64) for _ in range(4)))


@dataclass(slots=True)
class _Waves:
    """Counts of operations by wave of the batch.

    lds, vmem            issued
    arrived_*            complete when the wave came to the barrier it is at, or was last at
    done_lds, done_dma   complete, and done_global: issued, at the last barrier that let the wave go
    seen_lds             issued at that barrier: if not in done_lds, it was the wait that was missing
    published_*          complete at the last atomic
    """

    lds: Index
    vmem: Index
    arrived_lds: Index
    arrived_dma: Index
    done_lds: Index
    done_dma: Index
    done_global: Index
    seen_lds: Index
    published_lds: Index
    published_vmem: Index
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
        self.report = RaceReport(findings, entry, per_group)
        self._global: Records | None = None
        self._out = np.zeros((REPORTED, 4), np.int64)
        self._first = 0
        self._any_dma = False
        self._batch: Batch | None = None

    def batch(self, batch: Batch) -> None:
        """New waves."""
        self._batch = batch
        self._first = int(batch.numbers[0]) * self.per_group
        self._lds = new_records(batch.lds.size // 4)
        self._w = _Waves(**{f.name: np.zeros(batch.waves, np.int64) for f in fields(_Waves)})
        self._w.barrier[:] = -1
        self._learnt = np.zeros(batch.waves, bool)
        self._seen_lds = self._seen_vmem = np.zeros((1, 1), np.int64)  # (W, W) once a wave learns
        self._live = np.bincount(batch.workgroup)
        self._waiting = np.zeros_like(self._live)
        self._first_of_group = np.searchsorted(batch.workgroup, np.arange(self._live.size))

    # --- operations -----------------------------------------------------------------------------------

    def instruction(self, group: Group, touched: Footprint) -> None:
        """Count operations; follow barriers."""
        unit, name = touched.unit, touched.instruction.mnemonic
        self._touched, self._part = touched, 0
        if unit is Unit.LDS:
            self._w.lds[group.where] += 1
        elif unit is Unit.VMEM:
            if name not in UNCOUNTED:
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
        part, self._part = self._part, self._part + 1
        lds, past = space == "lds", any(m in ins.mods for m in _PAST_CACHES)
        dma = lds and self._touched.to_lds
        self._any_dma |= dma
        template = self.report.code(ins) << CODE | (ATOMIC if kind == "atomic" or past else 0) | (DMA if dma else 0)
        sync = LEARN if (kind == "atomic" and ins.dst) or (kind == "load" and past) else 0
        if sync:
            self._prepare_learning()
            sync |= COMPARE if compares(ins) else 0
        w = self._w
        if template & ATOMIC and kind != "load":
            self._publish(group)
        numbers = (w.lds if lds and not dma else w.vmem)[group.where]
        order = Order(
            self._first, self.per_group, w.done_lds if lds else w.done_global, w.done_dma,
            self._seen_lds if lds else self._seen_vmem, self._learnt, w.done_global if lds else w.done_lds,
            self._seen_vmem if lds else self._seen_lds, w.published_lds if lds else w.published_vmem,
            w.published_vmem if lds else w.published_lds,
        )  # fmt: skip
        start = group.lds_base[:, 0] if lds else np.full(group.n, -BASE, np.int64)
        count = visit(
            self._lds if lds else self._records(),
            Access(
                start, addresses, active, size, kind != "load", sync, kind != "load" or not past, template,
                group.index + self._first, numbers, self._own_dma(group),
            ),
            order, self.report.guesses, self._out,
        )  # fmt: skip
        if count:
            data, skip = movement(self._touched).component(part, size) if kind == "store" else ((), 0)
            event = Event(group, ins, space, kind, addresses, size, active, data, skip, numbers, self._first)
            self.report.add(event, conflicts_of(self._out[: min(count, REPORTED)], self._reason(event)))

    def _reason(self, event: Event) -> Callable[[Array, Array, Array, Array], Array]:
        def reason(row: Array, wave: Array, number: Array, dma: Array) -> Array:
            mine = event.group.index[row] + self._first
            why = np.where(wave // self.per_group != mine // self.per_group, OTHER_GROUP, OTHER_WAVE)
            why[wave == mine] = OWN
            if event.space == "lds":
                local = wave - self._first
                issued = np.where(dma, self._w.done_global[local], self._w.seen_lds[local])
                why[(why == OTHER_WAVE) & (number <= issued)] = NOT_COMPLETE
            return why

        return reason

    def _own_dma(self, group: Group) -> Index:
        """Loads to LDS of each wave that are complete by now."""
        if not self._any_dma:
            return self._w.vmem[group.where]
        return self._w.vmem[group.where] - self.outstanding(group.index)[1]

    def _records(self) -> Records:
        if self._global is None or self._global.w0.size < self.memory.extent // 4:
            self._global = new_records(self.memory.extent // 4)
        return self._global

    # --- order ----------------------------------------------------------------------------------------

    def _publish(self, group: Group) -> None:
        """Whoever meets what is written now learns what had been complete."""
        w, where = self._w, group.where
        lds, vmem = self.outstanding(group.index)
        w.published_lds[where], w.published_vmem[where] = w.lds[where] - lds, w.vmem[where] - vmem

    def _prepare_learning(self) -> None:
        if len(self._seen_lds) < len(self._learnt):
            size = (len(self._learnt),) * 2
            self._seen_lds, self._seen_vmem = np.zeros(size, np.int64), np.zeros(size, np.int64)

    def _share(self, through: NDArray[np.bool_]) -> None:
        """What one wave of a workgroup learnt, all know after a barrier."""
        if not (self._learnt & through).any():
            return
        for seen in (self._seen_lds, self._seen_vmem):
            together = seen.reshape(-1, self.per_group, len(seen)).max(axis=1)
            seen[through] = np.repeat(together, self.per_group, axis=0)[through]
        any_wave = self._learnt.reshape(-1, self.per_group).any(axis=1)
        self._learnt |= np.repeat(any_wave, self.per_group) & through

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
        self._share(through)
        self._compare_barriers(complete)
        w.barrier[through] = -1
        self._waiting[complete] = 0

    # --- barriers -------------------------------------------------------------------------------------

    def _compare_barriers(self, complete: Array) -> None:
        """One barrier of a workgroup must be one instruction."""
        assert self._batch is not None
        pcs = self._w.barrier
        highest = np.maximum.reduceat(pcs, self._first_of_group)
        lowest = np.minimum.reduceat(np.where(pcs < 0, highest[self._batch.workgroup], pcs), self._first_of_group)
        for number in np.flatnonzero(complete & (lowest != highest)):
            at = int(highest[number])
            wave = int(np.flatnonzero((self._batch.workgroup == number) & (pcs == at))[0])
            self.findings.add(
                "barrier",
                f"some waves of the workgroup wait here while others wait at the s_barrier at +{int(lowest[number]) - self.entry:#x}",
                _barrier(at, self._batch.arch), self._batch.workgroup_name(wave), wave - int(self._first_of_group[number]),
            )  # fmt: skip


def _barrier(pc: int, arch: str) -> Instruction:
    return Instruction(pc, 4, arch, "s_barrier", "SOPP", (), (), {}, (0xBF8A0000,), "s_barrier")
