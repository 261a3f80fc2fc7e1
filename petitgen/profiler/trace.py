"""What a few workgroups do: the blocks each wave runs, and the addresses of each access to memory and LDS.

The emulator runs them, with `needed` deciding what is worth executing. A trace has no notion of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.access.buffer import active_lanes, compile_addresses
from petitgen.emulator.access.flat import resolver
from petitgen.emulator.access.lds import lds_addresses
from petitgen.emulator.access.widths import DS_LOADS, DS_STORES, LOADS, STORES
from petitgen.emulator.dispatch import Dispatch
from petitgen.emulator.operands import operand
from petitgen.emulator.program import Block, Program, Step, compile_step
from petitgen.emulator.scheduler import Scheduler
from petitgen.emulator.state import AGPR, LANES, M0, Batch, Group
from petitgen.errors import DecodeError, EmulationError, ProfileError
from petitgen.isa import CodeObject, Instruction, Kernel, decode
from petitgen.isa.model import Kind
from petitgen.profiler.needed import (
    is_float_compare,
    is_integer_atomic,
    is_matrix,
    is_memory,
    needed,
    zeroed,
)

Index = NDArray[np.int64]
MOST = 20_000_000  # wave-instructions that one trace may run through
_LANES = np.arange(LANES, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Site:
    """One memory instruction of the program.

    space    "memory" or "lds"
    kind     "load", "store" or "atomic"
    size     bytes a lane accesses at one place;  places: offsets of its places from the recorded address
    scratch  spills, and what the program keeps in private memory
    """

    ins: Instruction
    space: str
    kind: str
    size: int
    places: tuple[int, ...] = (0,)
    scratch: bool = False


@dataclass(slots=True)
class Recording:
    """What the steps of a run note down, in order.

    visits     block number, waves
    events     site number, waves, index into `accesses`; what LDS sees repeats, so it is kept once
    accesses   addresses (n, 64), active lanes (n, 64) or None for all
    """

    sites: list[Site] = field(default_factory=list)
    visits: list[tuple[int, Index]] = field(default_factory=list)
    events: list[tuple[int, Index, int]] = field(default_factory=list)
    accesses: list[tuple[NDArray[np.int64], NDArray[np.bool_] | None]] = field(default_factory=list)
    known: dict[tuple[int, bytes, bytes], int] = field(default_factory=dict)
    once: bool = False  # stop when a load from memory comes round again: only the first of each site is wanted
    seen: dict[int, int] = field(default_factory=dict)
    waves: int = 0

    def keep(self, number: int, site: Site, addresses: NDArray[np.int64], active: NDArray[np.bool_] | None) -> int:
        """Where in `accesses` an access is, now."""
        new = len(self.accesses)
        if site.space == "lds":
            key = number, addresses.tobytes(), b"" if active is None else active.tobytes()
            found = self.known.setdefault(key, new)
            if found != new:
                return found
        self.accesses.append((addresses, active))
        return new


class _EnoughError(Exception):
    """A recording with `once` has what it wants."""


class TracedProgram(Program):
    """A kernel's blocks, with steps that record and without those that nobody needs."""

    def __init__(self, code: CodeObject, kernel: Kernel) -> None:
        super().__init__(code, kernel)
        self.recording = Recording()
        self.listing = listing(code, kernel)
        self.needed = needed(self.listing)
        self.known = {ins.pc for ins in self.listing}
        self.order: list[Block] = []
        self.site_of: dict[int, int] = {}  # pc -> number
        self.sites: list[Site] = []

    def begin(self, once: bool, waves: int) -> Recording:
        """A new, empty recording, for so many waves."""
        self.recording = Recording(sites=self.sites, once=once, waves=waves)
        return self.recording

    def _compile(self, start: int) -> Block:
        block = super()._compile(start)
        number = len(self.order)
        self.order.append(block)

        def visit(s: Group) -> None:
            self.recording.visits.append((number, s.index))

        return Block(start, (visit, *block.steps), block.instructions, block.exit, block.barrier)

    def _step(self, ins: Instruction, indexed: bool) -> Step | None:
        wanted = ins.pc in self.needed or ins.pc not in self.known
        if is_matrix(ins):
            return None
        if is_memory(ins) and ins.encoding != "SMEM":
            return self._memory_step(ins, wanted)
        if not wanted:
            return None
        return super()._step(zeroed(ins) if is_float_compare(ins) else ins, indexed)

    def _memory_step(self, ins: Instruction, wanted: bool) -> Step | None:
        site = site_of(ins)
        if site is None:
            return None
        number = self.site_of.setdefault(ins.pc, len(self.sites))
        if number == len(self.sites):
            self.sites.append(site)
        watch = self._watch(number, site)
        executed = wanted and (site.kind != "store" or site.space == "lds")
        if not executed or (site.kind == "atomic" and not is_integer_atomic(ins)):
            return watch
        run = compile_step(ins)
        assert run is not None

        def both(s: Group) -> None:
            watch(s)
            run(s)

        return both

    def _watch(self, number: int, site: Site) -> Step:
        find = _FINDERS[site.ins.encoding](site)
        in_memory = site.space == "memory" and site.kind == "load"

        def step(s: Group) -> None:
            addresses, active = find(s)
            recording = self.recording
            if recording.once:
                if in_memory:
                    count = recording.seen.get(number, 0) + s.n
                    recording.seen[number] = count
                    if count > 2 * recording.waves:
                        raise _EnoughError
                    if count > recording.waves:
                        return
                elif site.space == "lds":
                    return
            recording.events.append((number, s.index, recording.keep(number, site, addresses, active)))

        return step


def listing(code: CodeObject, kernel: Kernel) -> list[Instruction]:
    """The instructions of a kernel in order, up to what does not decode (padding, data)."""
    result, offset = [], 0
    while offset < len(kernel.code):
        try:
            ins = decode(kernel.code, offset, code.arch, kernel.entry + offset)
        except DecodeError:
            break
        result.append(ins)
        offset += ins.size
    return result


def record(program: TracedProgram, dispatch: Dispatch, *, once: bool = False) -> Recording:
    """Run the workgroups of `dispatch`. ProfileError if they do not come to an end, or cannot be run."""
    total = 0 if dispatch.workgroups is None else dispatch.workgroups.size
    recording = program.begin(once, total * dispatch.waves_per_group)
    scheduler = Scheduler(program, MOST)
    offset = 0
    try:
        for batch in dispatch.batches():
            _clear(batch, dispatch.kernel)
            first_visit, first_event = len(recording.visits), len(recording.events)
            scheduler.run(batch, dispatch.entry)
            _renumber(recording, first_visit, first_event, offset)
            offset += batch.waves
    except _EnoughError:
        pass
    except EmulationError as error:
        raise ProfileError(f"{dispatch.kernel.name}: the trace stopped: {error}") from error
    return recording


def _clear(batch: Batch, kernel: Kernel) -> None:
    """Registers of which nothing is known hold zero: what is not executed reads as that. v0 holds the work-items."""
    vgprs, total = kernel.descriptor.accum_offset, kernel.descriptor.vgpr_count
    batch.vgpr[1 : min(vgprs, total)] = 0
    batch.vgpr[AGPR : AGPR + max(total - vgprs, 0)] = 0


def _renumber(recording: Recording, visit: int, event: int, offset: int) -> None:
    """Waves of a later batch come after those of the batches before it."""
    if not offset:
        return
    recording.visits[visit:] = [(block, waves + offset) for block, waves in recording.visits[visit:]]
    recording.events[event:] = [(site, waves + offset, access) for site, waves, access in recording.events[event:]]


# --- what an instruction accesses ------------------------------------------------------------------


def site_of(ins: Instruction) -> Site | None:
    """What a memory instruction accesses; None if it accesses nothing (cache control)."""
    if ins.encoding == "DS":
        return _lds_site(ins)
    verb, _, what = ins.mnemonic.partition("_")[2].partition("_")
    scratch = ins.encoding == "SCRATCH"
    if verb == "atomic":
        size = 8 if ins.mnemonic.endswith(("_x2", "f64")) else 4
        return Site(ins, "memory", "atomic", size, scratch=scratch)
    widths = {"load": LOADS, "store": STORES}.get(verb)
    if widths is None:
        return None
    width = widths.get(what.removeprefix("lds_"))
    size = width.size * width.count if width is not None else _format_size(what)
    return Site(ins, "memory", verb, size, scratch=scratch)


def _format_size(what: str) -> int:
    """Bytes of a typed access: format_xyzw, format_d16_xy."""
    components = len(what.rpartition("_")[2])
    return components * (2 if "d16" in what else 4)


def _lds_site(ins: Instruction) -> Site | None:
    name = ins.mnemonic.removeprefix("ds_")
    verb, _, what = name.partition("_")
    if verb in ("read2", "read2st64", "write2", "write2st64"):
        size = int(what[1:]) // 8
        unit = size * (64 if verb.endswith("st64") else 1)
        places = tuple(ins.mods.get(f"offset{i}", 0) * unit for i in range(2))
        return Site(ins, "lds", "load" if verb.startswith("read") else "store", size, places)
    if verb in ("read", "write"):
        width = (DS_LOADS if verb == "read" else DS_STORES).get(what)
        size = width.size * width.count if width is not None else 4
        return Site(ins, "lds", "load" if verb == "read" else "store", size)
    return Site(ins, "lds", "atomic", 8 if ins.mnemonic.endswith("64") else 4)


Finder = Callable[[Group], tuple[NDArray[np.int64], "NDArray[np.bool_] | None"]]


def _buffer_finder(site: Site) -> Finder:
    addresses = compile_addresses(site.ins)

    def find(s: Group) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        (component,) = addresses(s, 1)
        return component.offsets, active_lanes(s, component)

    return find


def _flat_finder(site: Site) -> Finder:
    resolve = resolver(site.ins)

    def find(s: Group) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        pieces = resolve(s, site.size)
        if not pieces:
            return np.zeros((s.n, LANES), np.int64), np.zeros((s.n, LANES), bool)
        return pieces[0].offsets, pieces[0].active

    return find


def _lds_finder(site: Site) -> Finder:
    address = operand(site.ins, "addr")
    if address is None or address.kind is not Kind.VGPR:  # addressed by M0
        fixed = site.ins.mods.get("offset", 0)

        def by_m0(s: Group) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
            return (s.cu32[M0] & 0xFFFF).astype(np.int64) + fixed + 4 * _LANES, s.mask

        return by_m0
    find = lds_addresses(site.ins)
    return lambda s: (find(s), s.mask)


_FINDERS: dict[str, Callable[[Site], Finder]] = {
    **dict.fromkeys(("MUBUF", "MTBUF"), _buffer_finder),
    **dict.fromkeys(("FLAT", "GLOBAL", "SCRATCH"), _flat_finder),
    "DS": _lds_finder,
}
