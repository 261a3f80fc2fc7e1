"""profile(): from a launch to a Profile."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.dispatch import Dispatch
from petitgen.emulator.launch import LoadedCode, prepared
from petitgen.emulator.memory import DeviceMemory
from petitgen.errors import ProfileError
from petitgen.isa import CodeObject, Kernel
from petitgen.profiler.classes import Table, build_table
from petitgen.profiler.cu import simulate
from petitgen.profiler.device import Origin, allocations, as_sites, origin, refetched, sharing, wanted
from petitgen.profiler.launches import (
    Dim3,
    Launch,
    Placement,
    dim3,
    load_arch,
    occupancy,
    place,
    representatives,
    with_slices,
)
from petitgen.profiler.machine import Code, Counts, Machine, Queue, Traces
from petitgen.profiler.result import Occupancy, Problem, Profile
from petitgen.profiler.streams import encode
from petitgen.profiler.timing import Timing, load_timing
from petitgen.profiler.trace import TracedProgram, record

Index = NDArray[np.int64]
PROGRAMS = 32  # compiled kernels kept
MOST_TRACED = 128  # workgroups traced for one profile
BUDGET = 4_000_000  # wave-instructions to simulate; what is beyond repeats and is extrapolated
EVENTS = 200_000  # of a timeline


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a simulated launch knows, for the summary."""

    kernel: Kernel
    timing: Timing
    grid: Dim3
    block: int
    occupancy: Occupancy
    placement: Placement
    simulated: Index  # positions of the queue that were simulated
    table: Table
    program: TracedProgram
    source: Origin
    counts: Counts
    clocks: float
    notes: tuple[str, ...]


def profile(
    launch: Launch,
    arch: str | None = None,
    *,
    problem: Problem | None = None,
    compute_units: int | None = None,
    timeline: bool = False,
) -> Profile:
    """Model one launch on an otherwise idle device.

    arch           default: the code object's
    problem        what no kernel can avoid, for the rooflines
    compute_units  in place of the device's own number
    timeline       keep what every wave of the modelled CU did when (up to EVENTS stretches)
    ProfileError if the kernel does not end or does not fit, or the architecture has no timing parameters.
    """
    from petitgen.profiler.summary import summarize  # it needs Run

    begin = time.perf_counter()
    name = arch or launch.code.arch
    if name != launch.code.arch:
        raise ProfileError(f"the code object is for {launch.code.arch}, the model was asked for {name}")
    run = _run(launch, load_timing(name, compute_units), timeline)
    return summarize(run, problem, timeline, time.perf_counter() - begin)


_programs: OrderedDict[tuple[str, str], TracedProgram] = OrderedDict()


def _program(code: CodeObject, kernel: Kernel) -> TracedProgram:
    key = (code.sha256, kernel.name)
    if key not in _programs:
        _programs[key] = TracedProgram(code, kernel)
        if len(_programs) > PROGRAMS:
            _programs.popitem(last=False)
    _programs.move_to_end(key)
    return _programs[key]


def _run(launch: Launch, timing: Timing, timeline: bool) -> Run:
    kernel = launch.code.kernel(launch.symbol)
    grid, block = dim3(launch.grid), int(np.prod(dim3(launch.block)))
    lds = kernel.descriptor.group_segment_fixed_size + launch.dynamic_lds
    room = occupancy(kernel, load_arch(launch.code.arch), block, lds, timing, int(np.prod(grid)))
    placement = place(grid, timing)
    program = _program(launch.code, kernel)
    memory = launch.memory or DeviceMemory()
    loaded = LoadedCode(launch.code, memory)
    try:
        with prepared(loaded, kernel, grid, launch.block, launch.args, launch.dynamic_lds) as dispatch:
            traced = _Traced(program, dispatch, placement, grid, room, timing, memory, launch.warm)
    finally:
        loaded.unload()
    return traced.run(timeline, block)


class _Traced:
    """The traces of a launch, its memory traffic, and the simulation of them."""

    def __init__(
        self,
        program: TracedProgram,
        dispatch: Dispatch,
        placement: Placement,
        grid: Dim3,
        room: Occupancy,
        timing: Timing,
        memory: DeviceMemory,
        warm: tuple[int, ...],
    ) -> None:
        self.program, self.kernel, self.grid, self.room, self.timing = program, dispatch.kernel, grid, room, timing
        self.placement = placement
        self.notes: list[str] = []
        numbers = self._chosen()
        waves = dispatch.waves_per_group
        recording = record(program, _with(dispatch, numbers, None))
        self.per_group = np.arange(numbers.size + 1, dtype=np.int64) * waves
        self.traces = encode(recording, self.per_group, timing)
        where = allocations(recording, memory)
        want = wanted(recording, where, self.per_group, timing)
        together = self._together(dispatch)
        first_round = record(program, _with(dispatch, together, 1), once=True)
        self.table = build_table(program.order, set(program.site_of), timing)  # with blocks that only these met
        self.instructions = _lengths(self.traces, self.table, waves)
        loop = _longest_loop(self.traces, program)
        if loop > timing.icache_bytes:
            self.notes.append(f"a loop of {loop} bytes exceeds the {timing.icache_bytes} of the instruction cache, which"
                              " is not modelled: the kernel is told too fast")  # fmt: skip
        shared = sharing(first_round, together, timing)
        count = int(np.prod(grid))
        where += [None] * (len(program.sites) - len(where))  # sites that only other workgroups met
        self.want, self.where = _padded(want, program), where
        self.source = origin(program.sites, where, self.want, shared, count, warm, timing)

    def _chosen(self) -> Index:
        """The workgroups to trace; sets `position`, for each of the queue that of its trace."""
        alike = representatives(self.placement.numbers, self.grid)
        numbers = with_slices(alike, self.grid)
        if numbers.size > MOST_TRACED:
            numbers = np.unique(alike)[:MOST_TRACED]
            self.notes.append(f"{self.grid[2]} slices a tile are too many to trace together: none arrives last")
        self.position = np.minimum(np.searchsorted(numbers, alike), numbers.size - 1)
        return numbers

    def _together(self, dispatch: Dispatch) -> Index:
        """Workgroups that run at the same time: the first round."""
        total = int(np.prod(self.grid))
        return np.arange(min(total, self.timing.compute_units * self.room.workgroups_per_cu), dtype=np.int64)

    def run(self, timeline: bool, block: int) -> Run:
        """The modelled CU, and what follows from it for the launch."""
        chosen = self._sample()
        queue, code, machine = self._queue(chosen), self._code(), _machine(self.timing)
        counts = simulate.run(code, self.traces, as_sites(self.program.sites, self.source), queue, machine)
        missed = counts.sites[: self.want.size, 1] / chosen.size
        again = refetched(missed, self.want, self.where)
        if again is not None:  # what the L1 lost and asked for again is in the L2
            self.source = self.source.less(again, self.timing)
        if again is not None or timeline:
            sites = as_sites(self.program.sites, self.source)
            counts = simulate.run(code, self.traces, sites, queue, machine, limit=EVENTS if timeline else 0)
        clocks = _extrapolated(counts, queue.slots, self.placement.numbers.size)
        return Run(
            self.kernel, self.timing, self.grid, block, self.room, self.placement, chosen, self.table, self.program,
            self.source, counts, clocks, tuple(self.notes),
        )  # fmt: skip

    def _sample(self) -> Index:
        """Positions of the queue to simulate: all of them, or as many as the budget allows, evenly spread."""
        count = self.position.size
        mean = float(self.instructions[self.position].mean())
        slots = self.room.workgroups_per_cu
        most = max(int(BUDGET / mean), 2 * slots)
        if count <= most:
            return np.arange(count)
        self.notes.append(f"{most} of the CU's {count} workgroups were simulated; the rest repeats")
        return np.linspace(0, count - 1, most).round().astype(np.int64)

    def _queue(self, chosen: Index) -> Queue:
        timing = self.timing
        waves = int(self.per_group[1])
        a_round = timing.compute_units / timing.xcds * waves * timing.wave_launch_clocks
        start = (np.arange(chosen.size) * a_round).astype(np.int64)
        start[self.room.workgroups_per_cu :] = 0  # they start when another ends
        return Queue(
            self.position[chosen].astype(np.int64), start, self.placement.peers[chosen], self.room.workgroups_per_cu
        )

    def _code(self) -> Code:
        t, (start, end) = self.table, _places(self.program)
        return Code(
            t.first,
            t.last,
            t.kind,
            t.clocks,
            t.beside,
            t.vmcnt,
            t.lgkmcnt,
            t.distance,
            t.latency,
            t.touches,
            start,
            end,
        )


def _with(dispatch: Dispatch, numbers: Index, waves: int | None) -> Dispatch:
    return replace(dispatch, workgroups=numbers, waves=waves)


def _padded(values: NDArray[np.float64], program: TracedProgram) -> NDArray[np.float64]:
    """One value a site: those that only other workgroups met come last."""
    return np.concatenate([values, np.zeros(len(program.sites) - values.size)])


def _lengths(traces: Traces, table: Table, waves: int) -> NDArray[np.float64]:
    """Wave-instructions of each traced workgroup."""
    sizes = (table.last - table.first)[traces.blocks]
    total = np.concatenate([[0], np.cumsum(sizes)])
    by_wave = total[traces.visits[1:]] - total[traces.visits[:-1]]
    return np.asarray(by_wave.reshape(-1, waves).sum(axis=1), np.float64)


def _longest_loop(traces: Traces, program: TracedProgram) -> int:
    """Bytes of code from where the first wave jumps back to, up to where it jumps from; the most."""
    blocks = traces.blocks[: traces.visits[1]]
    start, end = _places(program)
    back = start[blocks[1:]] <= start[blocks[:-1]]
    return int((end[blocks[:-1]] - start[blocks[1:]])[back].max(initial=0))


def _places(program: TracedProgram) -> tuple[Index, Index]:
    """By block: the pc it starts at, and the pc after it."""
    last = [block.instructions[-1][0] for block in program.order]
    start = np.array([block.start for block in program.order], np.int64)
    return start, np.array([ins.pc + ins.size for ins in last], np.int64)


def _extrapolated(counts: Counts, slots: int, count: int) -> float:
    """Clocks of the whole queue, of which `counts` may be a part."""
    ends = np.sort(counts.ends)
    if ends.size == count:
        return float(counts.totals[2])
    first = ends[: min(slots, ends.size)].mean()
    rate = (ends[-slots:].mean() - first) / max(ends.size - slots, 1)
    return float(counts.totals[2] + rate * (count - ends.size))


def _machine(timing: Timing) -> Machine:
    return Machine(
        issue=timing.issue_clocks,
        mfma_issue=timing.mfma_issue_clocks,
        branch=timing.branch_clocks,
        vmem_queue=timing.vmem_queue_clocks,
        lds_queue=timing.lds_queue_clocks,
        lds_latency=timing.lds_latency,
        smem_latency=timing.smem_latency,
        l1_latency=timing.l1_latency,
        l1_lines=timing.l1_bytes // timing.l1_line,
        line=timing.l1_line,
        link=float(timing.l1_bytes_per_clock),
        l2=float(timing.l2_bytes_per_clock * timing.xcds),
        mall=timing.mall_bytes_per_clock,
        hbm=timing.hbm_bytes_per_clock,
        burst=timing.burst_clocks,
        write_back=timing.l2_latency + timing.mall_latency,
    )
