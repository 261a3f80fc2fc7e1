"""One CU, clock by clock where anything can happen: compiled loops over plain arrays.

Each SIMD has an issue slot every four clocks. In a slot every wave, the oldest first, may issue one instruction, and of
each kind of unit (vector, scalar, memory, LDS, branch) only one instruction of all waves goes. A wave that cannot issue
notes why, so every clock of every wave is either an issue or has a cause.

Memory beyond the CU is three servers (L2, Infinity Cache, HBM) with this CU's share of their bandwidth, and a latency
for each site that the device model decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.profiler.classes import BARRIER, NOP
from petitgen.profiler.cu.account import note, settle
from petitgen.profiler.cu.columns import (
    AGES,
    AT,
    AT_BARRIER,
    BINS,
    BUSY,
    CAUSE,
    FAR,
    FOLLOWING,
    GROUP,
    ISSUE,
    ISSUES,
    KIND,
    L1_TABLE,
    LAST_KNOWN,
    LIVE,
    MFMA_FREE,
    NEXT,
    PATHS,
    READY,
    SIMD,
    SIMDS,
    STATE,
    UNITS,
    VALU_FREE,
    WAITING,
)  # fmt: skip
from petitgen.profiler.cu.compiled import inlined, kept
from petitgen.profiler.cu.issue import blocked, execute
from petitgen.profiler.cu.waves import advance, finish, launch, release, sort_by_age
from petitgen.profiler.machine import Code, Counts, Machine, Queue, Sites, Traces


@inlined
def _slot(
    s: Any, t: Any, order: Any, used: Any, crowd: Any, code: Any, blocks: Any, wave_of: Any, visits: Any, visited: Any,
    accessed: Any, access: Any, lines: Any, sites: Any, queue: Any, state: Any, units: Any, path: Any, tags: Any,
    groups: Any, stalls: Any, totals: Any, moved: Any, flight: Any, events: Any, placed: Any, machine: Any, limit: Any,
) -> Any:  # fmt: skip
    """One issue slot of a SIMD; the next clock at which there may be something to do."""
    for unit in range(used.size):  # slices would cost more than the rest
        used[unit] = False
    later = FAR
    for k in range(order.size):
        w = order[k]
        if not state[w, LIVE] or state[w, SIMD] != s or state[w, WAITING]:
            continue
        if state[w, READY] > t:
            later = min(later, state[w, READY])
            continue
        settle(w, t, state, stalls, events, totals, limit)
        i = state[w, AT]
        j = state[w, GROUP]
        clock, cause = blocked(w, t, i, used, code, state, units, path, machine)
        if cause >= 0:
            state[w, CAUSE] = cause
            if cause <= LAST_KNOWN:
                state[w, READY] = clock
            later = min(later, clock)
            continue
        if code[i, KIND] == BARRIER:
            state[w, WAITING], state[w, CAUSE] = True, AT_BARRIER
            groups[j, 1] += 1
            release(j, t, code, blocks, visited, state, units, groups, stalls, events, totals, machine, limit)
            continue
        stalls[i, ISSUES] += 1
        execute(
            w, t, i, used, code, access, lines, sites, state, units, path, tags, moved, flight, stalls, totals,
            machine,
        )  # fmt: skip
        if limit > 0:
            note(w, t + machine.issue, ISSUE, state, events, totals, limit)
        if advance(w, t, i, code, blocks, visited, state, machine):
            later = min(later, state[w, READY])
            continue
        finish(
            w, j, t + machine.issue, code, blocks, wave_of, visits, visited, accessed, queue, state, units, path, groups,
            stalls, events, placed, totals, crowd, machine, limit,
        )  # fmt: skip
    return later


@kept
def _run(
    order: Any, used: Any, crowd: Any, code: Any, blocks: Any, wave_of: Any, visits: Any, visited: Any, accessed: Any,
    access: Any, lines: Any, sites: Any, queue: Any, state: Any, units: Any, path: Any, tags: Any, groups: Any,
    stalls: Any, totals: Any, moved: Any, flight: Any, events: Any, placed: Any, machine: Any, limit: Any, slots: Any,
) -> None:  # fmt: skip
    """All workgroups of the queue from first to last."""
    for _ in range(min(slots, queue.shape[0])):
        j = units[FOLLOWING]
        units[FOLLOWING] += 1
        launch(j, 0, wave_of, visits, visited, accessed, blocks, queue, state, units, path, groups, placed, crowd)
    age = -1
    while True:
        if units[AGES] != age:
            age = units[AGES]
            sort_by_age(order, state)
        s = 0
        for other in range(1, SIMDS):
            if units[NEXT + other] < units[NEXT + s]:
                s = other
        t = units[NEXT + s]
        if t >= FAR:
            break
        units[NEXT + s] = FAR
        later = _slot(
            s, t, order, used, crowd, code, blocks, wave_of, visits, visited, accessed, access, lines, sites, queue,
            state, units, path, tags, groups, stalls, totals, moved, flight, events, placed, machine, limit,
        )  # fmt: skip
        if later < FAR:
            clock = t + machine.issue * max(1, (later - t + machine.issue - 1) // machine.issue)
            units[NEXT + s] = min(units[NEXT + s], clock)
        totals[2] = max(totals[2], t + machine.issue)
    for s in range(SIMDS):
        totals[2] = max(totals[2], units[MFMA_FREE + s], units[VALU_FREE + s])
    totals[2] = max(totals[2], totals[1])


def run(code: Code, traces: Traces, sites: Sites, queue: Queue, machine: Machine, *, limit: int = 0) -> Counts:
    """Simulate one CU. limit: most events of the timeline, 0 for none."""
    per_group = int((traces.waves[1:] - traces.waves[:-1]).max())
    count = queue.trace.size
    stalls = np.zeros((code.kind.size, ISSUES + 1))
    totals, moved = np.zeros(BUSY + NOP + 1), np.zeros((max(sites.kind.size, 1), 2))
    groups, flight = np.zeros((count, 3), np.int64), np.zeros(BINS)
    events, placed = np.zeros((max(limit, 1), 6), np.int64), np.zeros((count, per_group), np.int64)
    units, tags = np.zeros(UNITS, np.int64), np.full((L1_TABLE, 2), -1, np.int64)
    units[NEXT : NEXT + SIMDS] = FAR
    state = np.zeros((queue.slots * per_group, STATE), np.int64)
    order, used, crowd = np.arange(len(state)), np.zeros(5, bool), np.zeros(SIMDS, np.int64)
    _run(
        order, used, crowd, *_flat(code, traces, sites, queue), state, units, np.zeros(PATHS), tags, groups, stalls,
        totals, moved, flight, events, placed, machine, limit, queue.slots,
    )  # fmt: skip
    return Counts(
        stalls[:, :ISSUES], stalls[:, ISSUES].astype(np.int64), totals[BUSY:], groups[:, 2], moved, flight,
        totals[:BUSY], events, placed,
    )  # fmt: skip


def _flat(code: Code, traces: Traces, sites: Sites, queue: Queue) -> tuple[NDArray[Any], ...]:
    """The inputs in the form of the loops."""
    instructions = (code.kind, code.clocks, code.beside, code.vmcnt, code.lgkmcnt, code.touches)
    accesses = (traces.access_site, traces.access_clocks, traces.access_bytes, traces.line_start, traces.line_count)
    return (
        np.concatenate([np.column_stack(instructions).astype(np.int64), code.distance, code.latency], axis=1),
        np.column_stack((code.first, code.last, code.start, code.end)),
        traces.waves,
        traces.visits,
        traces.blocks,
        traces.accesses,
        np.column_stack(accesses),
        traces.lines,
        np.column_stack((sites.kind, sites.latency, sites.mall, sites.hbm)).astype(np.float64),
        np.column_stack((queue.trace, queue.start, queue.peers.astype(np.int64))),
    )
