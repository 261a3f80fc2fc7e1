"""Which waves run next.

All waves at one pc step together. Of several groups the one with the lowest pc runs, until it meets another
group, splits at a branch, waits at a barrier, or ends: so waves that took different paths meet again after
the join. A group that keeps running while others could is interrupted now and then, for code that waits for
another wave.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.control import END
from petitgen.emulator.program import Block, Program
from petitgen.emulator.state import Batch, Group
from petitgen.errors import EmulationError

Index = NDArray[np.int64]
PATIENCE = 1024  # blocks a group may run while another could


class Scheduler:
    """Runs batches of one kernel and counts what they execute."""

    def __init__(self, program: Program, limit: int | None = None) -> None:
        self.program = program
        self.limit = limit
        self.issued = 0  # wave-instructions
        self.visits: Counter[int] = Counter()  # block pc -> waves that ran it

    def run(self, batch: Batch, entry: int) -> None:
        """Run every wave of `batch` from `entry` to its end. EmulationError on a fault or past the limit."""
        run = _BatchRun(self, batch)
        run.put(entry, np.arange(batch.waves, dtype=np.int64))
        with np.errstate(all="ignore"):
            run.loop()

    def executed(self) -> Counter[str]:
        """Wave-instructions by mnemonic."""
        total: Counter[str] = Counter()
        for pc, waves in self.visits.items():
            for ins, _ in self.program.blocks[pc].instructions:
                total[ins.mnemonic] += waves
        return total


class _BatchRun:
    """The waves of one batch: ready by pc, or waiting at a barrier."""

    def __init__(self, scheduler: Scheduler, batch: Batch) -> None:
        self.scheduler = scheduler
        self.batch = batch
        self.ready: dict[int, Index] = {}
        self.waiting: list[tuple[int, Index]] = []  # (pc after the barrier, waves)
        self.live = np.bincount(batch.workgroup)
        self.arrived = np.zeros_like(self.live)
        self.impatient = False

    def put(self, pc: int, waves: Index) -> None:
        """Waves are ready to run at `pc`, together with those already there."""
        there = self.ready.get(pc)
        self.ready[pc] = waves if there is None else np.sort(np.concatenate((there, waves)))

    def loop(self) -> None:
        """Until no wave is left."""
        while self.ready:
            pc = max(self.ready) if self.impatient else min(self.ready)
            self.impatient = False
            self._advance(pc, self.ready.pop(pc))
        assert not self.waiting  # a barrier lets go once all live waves of its workgroup wait

    def _advance(self, pc: int, waves: Index) -> None:
        """Run one group as far as it can go by itself."""
        program, batch = self.scheduler.program, self.batch
        group = batch.group(waves)
        others = min(self.ready, default=None)
        patience = PATIENCE
        while True:
            block = program.block(pc)
            self._count(block, group.n)
            if group.observer is None:
                for step in block.steps:
                    step(group)
            else:
                _observed(group, block)
            after = block.exit(group)
            if block.barrier:
                group.flush()
                assert isinstance(after, int)
                if not self._arrive(after, waves):
                    return
            elif not isinstance(after, int):
                group.flush()
                for target, taken in after:
                    self.put(target, waves[taken])
                return
            elif after == END:
                group.flush()
                self._retire(waves)
                return
            pc = after
            if others is not None:
                patience -= 1
                if pc >= others or not patience:
                    group.flush()
                    self.put(pc, waves)
                    self.impatient = not patience
                    return

    def _count(self, block: Block, waves: int) -> None:
        scheduler = self.scheduler
        scheduler.visits[block.start] += waves
        scheduler.issued += waves * len(block.instructions)
        self.batch.clock += len(block.instructions)
        if scheduler.limit is not None and scheduler.issued > scheduler.limit:
            at = self.batch.locate(block.start) if self.batch.locate is not None else None
            raise EmulationError(
                f"more than {scheduler.limit} wave-instructions executed, last at "
                f"{at if at is not None else f'pc {block.start:#x}'}; endless loop?"
            )

    def _arrive(self, pc: int, waves: Index) -> bool:
        """Waves reach a barrier. True if they all may go straight on."""
        here = np.bincount(self.batch.workgroup[waves], minlength=self.live.size)
        if not self.waiting and (here[here > 0] == self.live[here > 0]).all():
            return True
        self.arrived += here
        self.waiting.append((pc, waves))
        self._release()
        return False

    def _retire(self, waves: Index) -> None:
        """Waves end. Their workgroup no longer waits for them."""
        self.live -= np.bincount(self.batch.workgroup[waves], minlength=self.live.size)
        self._release()

    def _release(self) -> None:
        """Let go the workgroups all of whose waves wait."""
        if not self.waiting:
            return
        complete = (self.arrived > 0) & (self.arrived == self.live)
        if not complete.any():
            return
        still: list[tuple[int, Any]] = []
        for pc, waves in self.waiting:
            free = complete[self.batch.workgroup[waves]]
            if free.any():
                self.put(pc, waves[free])
            if not free.all():
                still.append((pc, waves[~free]))
        self.waiting = still
        self.arrived[complete] = 0


def _observed(group: Group, block: Block) -> None:
    """The steps of a block with the observer told about every instruction."""
    observer = group.observer
    assert observer is not None
    for ins, step in block.instructions:
        observer.instruction(group, ins)
        if step is not None:
            step(group)
