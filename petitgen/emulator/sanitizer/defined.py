"""Values that were never written: in registers, LDS, scratch and device memory.

As memcheck does with memory, undefined values are followed while they are copied and computed with, and reported where
they matter: in an address, a buffer descriptor, a branch, EXEC, an atomic, or when they are stored to global memory.
What is reported counts as defined from then on. Lanes that are off are never reported. Registers that the dispatch
does not fill, LDS, scratch, and device memory allocated without contents start undefined.
"""

from __future__ import annotations

import numpy as np

from petitgen.emulator.memory import BASE, DeviceMemory
from petitgen.emulator.sanitizer import undefined_memory as flags
from petitgen.emulator.sanitizer.findings import Findings
from petitgen.emulator.sanitizer.footprint import AGPR, EXEC, M0, SGPR, VCC, Footprint, Unit, row_name
from petitgen.emulator.sanitizer.movement import Movement
from petitgen.emulator.sanitizer.undefined import Bytes, Shadow, View, packed, spread
from petitgen.emulator.sanitizer.undefined_plan import Plan, Watched, compile_plan
from petitgen.emulator.state import Array, Batch, Group
from petitgen.emulator.unwritten import UNWRITTEN
from petitgen.isa.model import Instruction

_EVERY = (1 << 64) - 1


class DefinedCheck:
    """Undefined values of one launch."""

    def __init__(self, findings: Findings, memory: DeviceMemory) -> None:
        self.findings = findings
        self.memory = memory
        self._plans: dict[int, Plan] = {}
        self._indexed = False  # s_set_gpr_idx_on is in force
        self._part = 0  # accesses of the instruction so far
        self._data: list[Bytes] | None = None  # what is undefined of its data, None: nothing

    def batch(self, batch: Batch) -> None:
        """New waves."""
        self.registers = Shadow(batch)
        self._lds = np.full(batch.lds.size, UNWRITTEN, np.uint8)
        self._first_of_group = np.searchsorted(batch.workgroup, np.arange(int(batch.workgroup[-1]) + 1))

    def instruction(self, group: Group, touched: Footprint) -> None:
        """Report what matters, and follow the rest."""
        ins = touched.instruction
        plan = self._plans.get(ins.pc)
        if plan is None:
            plan = self._plans[ins.pc] = compile_plan(touched)
        self._plan, self._part, self._data = plan, 0, None
        dirty = self.registers.dirty
        if plan.indexing is not None:
            self._indexed = plan.indexing
        if plan.rows.isdisjoint(dirty):
            return
        view = View(self.registers, group)
        for watched in plan.watched:
            if not dirty.isdisjoint(watched.rows):
                self._watch(view, ins, watched)
        if plan.rule is not None:
            if self._indexed and touched.unit in (Unit.VALU, Unit.TRANS):
                _define_indexed(view, touched)
            else:
                plan.rule(view)
            if EXEC in dirty or EXEC + 1 in dirty:
                self._watch(view, ins, Watched("the lane mask it writes to", (EXEC, EXEC + 1), False))
        elif plan.move is not None:
            self._before_access(view, plan.move)

    # --- what matters ---------------------------------------------------------------------------------

    def _watch(self, view: View, ins: Instruction, watched: Watched) -> None:
        if watched.vector:
            bad: Array = np.zeros(view.group.n, np.uint64)
            for row in watched.rows:
                bad = bad | np.bitwise_or.reduce(view.bytes_of(row), axis=1)
            bad = bad & view.exec
        else:
            bad = _decisive(view, ins, watched.rows)
        if bad.any():
            self._report(
                view, ins, f"{watched.what} {_names(watched.rows)} was never given a value", bad, watched.vector
            )
        for row in watched.rows:
            view.define(row, view.exec if watched.vector else None)

    def _report(self, view: View, ins: Instruction, message: str, bad: Array, by_lane: bool) -> None:
        batch, which = view.group.batch, np.flatnonzero(bad)
        wave = int(view.group.index[which[0]])
        workgroup = int(batch.workgroup[wave])
        lanes = int(bad[which[0]]) if by_lane else _EVERY
        self.findings.add(
            "undefined", message, ins, batch.workgroup_name(wave), wave - int(self._first_of_group[workgroup]), lanes,
            which.size,
        )  # fmt: skip

    # --- memory ---------------------------------------------------------------------------------------

    def _before_access(self, view: View, move: Movement) -> None:
        """Keep what is undefined of the data, and let the result be what memory will say."""
        if not self.registers.dirty.isdisjoint(move.data):
            self._data = [view.vector(row).copy() for row in move.data]
        for row in move.target:
            if row >= SGPR:
                view.define(row, None)
            elif row in self.registers.dirty:
                view.set_vector(row, view.vector(row) & ~_part_mask(move.half), view.exec)

    def access(
        self, group: Group, ins: Instruction, space: str, kind: str, addresses: Array, size: int, active: Array
    ) -> None:
        """One component of a memory access: what is undefined moves between registers and memory."""
        move = self._plan.move
        if move is None or (space == "scratch" and self._astray(addresses, active)):
            return
        number, self._part = self._part, self._part + 1
        place = self._place(group, space)
        if space == "scalar":
            if place is not None:
                self._scalar_load(group, move, place[0], addresses, active)
            return
        step = 256 if space == "scratch" else 4
        if kind == "load":
            self._load(group, move, number, place, (addresses, active, size, step))
        elif move.to_lds:
            self._store(group, ins, move, 0, space, place, (addresses, active, size, step))
        elif kind == "store":
            self._store(group, ins, move, number, space, place, (addresses, active, size, step))
        else:
            self._atomic(group, ins, move, space, place, (addresses, active, size, step))

    def _astray(self, addresses: Array, active: Array) -> bool:
        """Is the scratch base no address at all? It has been reported."""
        lanes = addresses[active]
        return lanes.size > 0 and not BASE <= int(lanes.min()) <= int(lanes.max()) < BASE + self.memory.extent

    def _place(self, group: Group, space: str) -> tuple[Array, Array] | None:
        """Flags of a memory and what to add to its addresses; None while all of it is defined."""
        if space == "lds":
            return self._lds, group.lds_base[:, 0]
        unwritten = self.memory.unwritten.bytes()
        return None if unwritten is None else (unwritten, np.full(group.n, -BASE, np.int64))

    def _gather(self, group: Group, place: tuple[Array, Array] | None, lanes: tuple) -> Array | None:
        if place is None:
            return None
        addresses, active, size, step = lanes
        out = np.zeros((-(-size // 4), group.n, 4), np.uint64)
        return out if flags.gather(*place, addresses, active, size, step, out) else None

    def _load(self, group: Group, move: Movement, number: int, place: tuple[Array, Array] | None, lanes: tuple) -> None:
        found = self._gather(group, place, lanes)
        if move.to_lds:
            self._data = None if found is None else [found[0]]
            return
        if found is None:
            return
        if move.typed:
            anywhere = spread(np.bitwise_or.reduce(np.bitwise_or.reduce(found, axis=2), axis=0))
            found = np.stack([anywhere] * len(move.target))
        first = move.first(number, lanes[2])
        view = View(self.registers, group)
        for k, new in enumerate(found[: len(move.target) - first]):
            row = move.target[first + k]
            view.set_vector(row, view.vector(row) | _extended(new, move), None)

    def _store(
        self, group: Group, ins: Instruction, move: Movement, number: int, space: str,
        place: tuple[Array, Array] | None, lanes: tuple,
    ) -> None:  # fmt: skip
        addresses, active, size, step = lanes
        count = -(-size // 4)
        first = 0 if move.to_lds else move.first(number, size)
        data = None if self._data is None else self._stored(move, first, count)
        if data is not None and space == "global":
            self._report_data(group, ins, move, first, data, active, size, "stores")
            data = None
        if place is None:
            return
        if data is None:
            flags.define(*place, addresses, active, size, step)
        else:
            flags.scatter(*place, addresses, active, size, step, data)

    def _stored(self, move: Movement, first: int, count: int) -> Array:
        assert self._data is not None
        if move.typed:
            anywhere = np.bitwise_or.reduce(np.bitwise_or.reduce(np.stack(self._data), axis=2), axis=0)
            return np.stack([spread(anywhere)] * count)
        data = np.stack(self._data[first : first + count])
        if move.half == 1:
            data = np.concatenate((data[..., 2:], data[..., 2:]), axis=2)
        return data

    def _report_data(
        self,
        group: Group,
        ins: Instruction,
        move: Movement,
        first: int,
        data: Array,
        active: Array,
        size: int,
        verb: str,
    ) -> None:
        used = data[..., : min(size, 4)]
        bad = np.bitwise_or.reduce(np.bitwise_or.reduce(used, axis=2), axis=0) & packed(active)
        if bad.any():
            view = View(self.registers, group)
            names = _names(move.data[first : first + len(data)])
            self._report(view, ins, f"{verb} {names}, which was never given a value", bad, True)
            for row in move.data[first : first + len(data)]:
                view.define(row, bad)

    def _atomic(
        self,
        group: Group,
        ins: Instruction,
        move: Movement,
        space: str,
        place: tuple[Array, Array] | None,
        lanes: tuple,
    ) -> None:
        addresses, active, size, step = lanes
        if self._data is not None:
            self._report_data(group, ins, move, 0, self._stored(move, 0, len(move.data)), active, size, "takes")
        found = self._gather(group, place, lanes)
        if found is None:
            return
        assert place is not None
        view = View(self.registers, group)
        if space == "global" and not move.swaps:
            bad = np.bitwise_or.reduce(np.bitwise_or.reduce(found, axis=2), axis=0)
            self._report(view, ins, "updates memory that was never written", bad, True)
        if space == "global" or move.swaps:
            flags.define(*place, addresses, active, size, step)
        if space != "global" or move.swaps:
            for row, new in zip(move.target, found, strict=False):
                view.set_vector(row, view.vector(row) | new, None)

    def _scalar_load(self, group: Group, move: Movement, unwritten: Array, addresses: Array, active: Array) -> None:
        words = unwritten.view(np.uint32)
        bits = np.where(active, words[np.where(active, (addresses - BASE) >> 2, 0)], np.uint32(0))
        if bits.any():
            view = View(self.registers, group)
            for k, row in enumerate(move.target):
                view.set_scalar(row, bits[:, k])


def _part_mask(half: int | None) -> Bytes:
    """The bytes of a half of a register; None: of all of it."""
    chosen = {None: (1, 1, 1, 1), 0: (1, 1, 0, 0), 1: (0, 0, 1, 1)}[half]
    return np.array(chosen, np.uint64) * np.uint64(_EVERY)


def _extended(new: Bytes, move: Movement) -> Bytes:
    """What a loaded byte or half leaves undefined in the register."""
    if move.extends:
        new = spread(np.bitwise_or.reduce(new, axis=1)) & _part_mask(0 if move.half is not None else None)
    if move.half == 1:
        new = np.concatenate((np.zeros_like(new[:, :2]), new[:, :2]), axis=1)
    return new


def _define_indexed(view: View, touched: Footprint) -> None:
    """Under VGPR indexing the destination is known only now; sources are taken as defined."""
    m0 = int(view.group.su32[M0 - SGPR][0])
    shift = m0 & 0xFF if m0 >> 15 & 1 else 0
    for _, registers in touched.results:
        for row in registers:
            view.define(row + shift if row < AGPR else row, view.exec if row < SGPR else None)


def _decisive(view: View, ins: Instruction, registers: tuple[int, ...]) -> Array:
    """Undefined bits of scalar registers; of vcc in a branch only when no defined bit decides it."""
    if ins.mnemonic.startswith("s_cbranch_vcc"):
        undefined = view.pair(VCC)
        return np.where(view.group.su64[VCC - SGPR] & ~undefined != 0, np.uint64(0), undefined)
    bad = np.zeros(view.group.n, np.uint64)
    for row in registers:
        bad = bad | view.scalar(row)
    return bad


def _names(registers: tuple[int, ...]) -> str:
    """v4, v[2:5], s[4:7], scc, vcc."""
    first, last = registers[0], registers[-1]
    if (first, last) in ((VCC, VCC + 1), (EXEC, EXEC + 1)):
        return "vcc" if first == VCC else "exec"
    if first == last:
        return row_name(first)
    kind, base = ("v", 0) if first < AGPR else ("a", AGPR) if first < SGPR else ("s", SGPR)
    return f"{kind}[{first - base}:{last - base}]"
