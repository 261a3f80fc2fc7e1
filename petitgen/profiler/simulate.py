"""One CU, clock by clock where anything can happen: compiled loops over plain arrays.

Each SIMD has an issue slot every four clocks. In a slot every wave, the oldest first, may issue one instruction, and of
each kind of unit (vector, scalar, memory, LDS, branch) only one instruction of all waves goes. A wave that cannot issue
notes why, so every clock of every wave is either an issue or has a cause.

Memory beyond the CU is three servers (L2, Infinity Cache, HBM) with this CU's share of their bandwidth, and a latency
for each site that the device model decides.

All loops stand in this file: numba's cache watches only the file of the function that it compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from petitgen.profiler.classes import (
    BARRIER,
    BRANCH,
    DEPENDENCIES,
    INVALIDATE,
    LDS,
    MFMA,
    NO_WAIT,
    NOP,
    RECORDED,
    SALU,
    SMEM,
    TRANS,
    VMEM,
    WAIT,
    WRITE_BACK,
)  # fmt: skip
from petitgen.profiler.machine import LOAD, STORE, Code, Counts, Machine, Queue, Sites, Traces
from petitgen.profiler.result import CAUSES

(
    VMEM_WAIT, LDS_WAIT, SMEM_WAIT, STORE_WAIT, AT_BARRIER, VALU_RESULT, MFMA_RESULT, SALU_RESULT, VALU_BUSY, MFMA_BUSY,
    SALU_BUSY, LDS_BUSY, VMEM_BUSY, ARBITRATION, FETCH, NOPS,
) = range(len(CAUSES))  # fmt: skip
ISSUE = len(CAUSES)  # state of an event in which a wave issued

SIMDS = 4
FAR = 1 << 60
VM_RING, LGKM_RING, HISTORY = 64, 16, 64
L1_TABLE = 1 << 13  # places of the L1's tag table
BIN = 64  # clocks of a bin of bytes in flight

# Counting references of arrays would take most of the time: nothing below makes an array, and nothing is counted.
_UNCOUNTED: dict[str, Any] = {"_nrt": False}
inlined: Any = numba.njit(inline="always", **_UNCOUNTED)
called: Any = numba.njit(error_model="numpy", **_UNCOUNTED)  # not so often; compiling them once saves time


def _compiled(function: Callable[..., Any]) -> Any:
    """Compiled at its first call; kept on disk where that can be."""
    try:
        return numba.njit(cache=True, error_model="numpy", **_UNCOUNTED)(function)
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        return numba.njit(error_model="numpy", **_UNCOUNTED)(function)


# Columns of the arrays that the loops share. `code`, an instruction a row: distances and latencies come in pairs.
KIND, CLOCKS, BESIDE, VMCNT, LGKMCNT, TOUCHES, DISTANCE, LATENCY = 0, 1, 2, 3, 4, 5, 6, 6 + DEPENDENCIES
# `blocks`: rows of `code`, and the pcs it starts at and ends before
FIRST, LAST, START, END = range(4)
# `access`, and `sites`
SITE, TAKES, ASKS, LINES_AT, LINES = range(5)
S_KIND, S_LATENCY, S_MALL, S_HBM = range(4)
# `state`, a wave slot a row. READY: not before this clock; KNOWN: accounted up to here
(
    LIVE, SIMD, AGE, GROUP, VISIT, FINAL, AT, ACCESS, READY, KNOWN, CAUSE, COUNT, WAITING, VM_COUNT, LG_COUNT,
) = range(15)  # fmt: skip
ISSUED = 16
VM_DONE = ISSUED + HISTORY
VM_STORE = VM_DONE + VM_RING
LG_DONE = VM_STORE + VM_RING
LG_SCALAR = LG_DONE + LGKM_RING
STATE = LG_SCALAR + LGKM_RING
# `units`: when each SIMD's units are free, and when it looks again; counters
VALU_FREE, MFMA_FREE, NEXT, FILLS, FOLLOWING, RESIDENT, AGES, UNITS = 0, 4, 8, 12, 13, 14, 15, 16
# `path`, as floats: when the paths are free (that of vector memory, LDS, from the L2, and the servers); sum of peers
ADDRESS, LDS_PATH, LINK, L2, MALL, HBM, PEERS, PATHS = range(8)
# `groups`: live waves, waves at the barrier, clock of the end. `tags`: line, fill number
# `totals`: bytes * clocks in flight, last return from memory, clocks of the run, events, sum of latencies, loads beyond
# the L1; from BUSY on by class
BUSY = 6
ISSUES = len(CAUSES)  # of `stalls`: the column after those of the causes


@called
def _note(w: Any, until: Any, what: Any, state: Any, events: Any, totals: Any, limit: Any) -> None:
    """An event of the timeline, merged with the wave's last if they are one."""
    n = int(totals[3])
    if n >= limit:
        return
    events[n, 0], events[n, 1], events[n, 2] = w, state[w, KNOWN], until
    events[n, 3], events[n, 4], events[n, 5] = what, state[w, AT], state[w, GROUP]
    totals[3] = n + 1


@inlined
def _settle(w: Any, t: Any, state: Any, stalls: Any, events: Any, totals: Any, limit: Any) -> None:
    """Account the clocks up to `t` to what the wave waited for."""
    passed = t - state[w, KNOWN]
    if passed > 0:
        stalls[state[w, AT], state[w, CAUSE]] += passed
        if limit > 0:
            _note(w, t, state[w, CAUSE], state, events, totals, limit)
        state[w, KNOWN] = t


@called
def _launch(
    j: Any, t: Any, wave_of: Any, visits: Any, visited: Any, accessed: Any, blocks: Any, queue: Any, state: Any,
    units: Any, path: Any, groups: Any, placed: Any, crowd: Any,
) -> None:  # fmt: skip
    """Put workgroup j of the queue on the SIMDs, the emptiest first."""
    trace = queue[j, 0]
    first, last = wave_of[trace], wave_of[trace + 1]
    begin = max(t, queue[j, 1])
    groups[j, 0], groups[j, 1] = last - first, 0
    units[RESIDENT] += 1
    path[PEERS] += queue[j, 2]
    for i in range(first, last):
        crowd[:] = 0
        w = -1
        for k in range(state.shape[0]):
            if state[k, LIVE]:
                crowd[state[k, SIMD]] += 1
            elif w < 0:
                w = k
        simd = int(np.argmin(crowd))
        state[w, LIVE], state[w, SIMD], state[w, GROUP] = True, simd, j
        state[w, AGE] = units[AGES]
        units[AGES] += 1
        state[w, VISIT], state[w, FINAL] = visits[i], visits[i + 1]
        state[w, AT] = blocks[visited[visits[i]], FIRST]
        state[w, ACCESS] = accessed[i]
        state[w, READY] = state[w, KNOWN] = begin
        state[w, COUNT] = state[w, VM_COUNT] = state[w, LG_COUNT] = 0
        state[w, WAITING] = False
        placed[j, i - first] = simd * 64 + w
        units[NEXT + simd] = min(units[NEXT + simd], begin + (simd - begin) % 4)


@called
def _l1_misses(w: Any, r: Any, access: Any, lines: Any, state: Any, units: Any, tags: Any, machine: Any) -> Any:
    """Lines of an access that the L1 does not hold; it does from now on. Workgroups share nothing."""
    missed = 0
    apart = state[w, GROUP] << 44
    for k in range(access[r, LINES_AT], access[r, LINES_AT] + access[r, LINES]):
        line = lines[k] + apart
        place = (line ^ line >> 13 ^ line >> 44) & (L1_TABLE - 1)
        if tags[place, 0] != line or units[FILLS] - tags[place, 1] >= machine.l1_lines:
            missed += 1
            tags[place, 0] = line
            tags[place, 1] = units[FILLS]
            units[FILLS] += 1
    return missed


@inlined
def _serve(t: Any, size: Any, site: Any, sites: Any, units: Any, path: Any, machine: Any) -> Any:
    """Clock at which `size` bytes have passed the servers beyond the L1 that they go to.

    What this CU left of its share in the last `burst` clocks it may still use: the others left theirs, too.
    """
    share = units[RESIDENT] / path[PEERS]
    path[LINK] = max(path[LINK], t) + size / machine.link
    path[L2] = max(path[L2], t - machine.burst) + size / (machine.l2 * share)
    done = max(path[LINK], path[L2])
    if sites[site, S_MALL] > 0:
        path[MALL] = max(path[MALL], t - machine.burst) + size * sites[site, S_MALL] / (machine.mall * share)
        done = max(done, path[MALL])
    if sites[site, S_HBM] > 0:
        path[HBM] = max(path[HBM], t - machine.burst) + size * sites[site, S_HBM] / (machine.hbm * share)
        done = max(done, path[HBM])
    return done


@inlined
def _returns(w: Any, done: Any, stored: Any, state: Any, totals: Any) -> None:
    """An operation that vmcnt counts; they return in order."""
    n = state[w, VM_COUNT]
    if n > 0:
        done = max(done, state[w, VM_DONE + (n - 1) % VM_RING])
    state[w, VM_DONE + n % VM_RING] = done
    state[w, VM_STORE + n % VM_RING] = stored
    state[w, VM_COUNT] = n + 1
    totals[1] = max(totals[1], done)


@called
def _memory(
    w: Any, t: Any, access: Any, lines: Any, sites: Any, state: Any, units: Any, path: Any, tags: Any, moved: Any,
    flight: Any, totals: Any, machine: Any,
) -> None:  # fmt: skip
    """A vector memory instruction."""
    r = state[w, ACCESS]
    state[w, ACCESS] = r + 1
    site = access[r, SITE]
    clocks, size = access[r, TAKES], access[r, ASKS]
    begin = max(path[ADDRESS], t)
    path[ADDRESS] = begin + clocks
    totals[BUSY + VMEM] += clocks
    moved[site, 0] += size
    done = begin + clocks + machine.l1_latency
    if sites[site, S_KIND] == LOAD:
        size = _l1_misses(w, r, access, lines, state, units, tags, machine) * machine.line
    if size > 0:
        served = _serve(begin, size, site, sites, units, path, machine)
        done = max(done, served + sites[site, S_LATENCY])
        moved[site, 1] += size
        if sites[site, S_KIND] == LOAD:
            totals[0] += size * (done - t)
            totals[4] += done - t
            totals[5] += 1
            last = flight.size - 1
            flight[min(t // BIN, last)] += size
            flight[min(int(done) // BIN, last)] -= size
    _returns(w, int(done) + 1, int(sites[site, S_KIND] == STORE), state, totals)


@inlined
def _lgkm(w: Any, done: Any, scalar: Any, state: Any) -> None:
    """An operation that lgkmcnt counts, in order: scalar loads may overtake, but nobody can rely on it."""
    n = state[w, LG_COUNT]
    if n > 0:
        done = max(done, state[w, LG_DONE + (n - 1) % LGKM_RING])
    state[w, LG_DONE + n % LGKM_RING] = done
    state[w, LG_SCALAR + n % LGKM_RING] = scalar
    state[w, LG_COUNT] = n + 1


@inlined
def _waits_until(w: Any, i: Any, code: Any, state: Any) -> Any:
    """(clock, cause) that s_waitcnt lets the wave go on."""
    clock, cause = 0, VMEM_WAIT
    n, left = state[w, VM_COUNT], code[i, VMCNT]
    if left != NO_WAIT and n > left:
        place = (n - left - 1) % VM_RING
        clock = state[w, VM_DONE + place]
        cause = STORE_WAIT if state[w, VM_STORE + place] else VMEM_WAIT
    n, left = state[w, LG_COUNT], code[i, LGKMCNT]
    if left != NO_WAIT and n > left:
        place = (n - left - 1) % LGKM_RING
        if state[w, LG_DONE + place] > clock:
            clock = state[w, LG_DONE + place]
            cause = SMEM_WAIT if state[w, LG_SCALAR + place] else LDS_WAIT
    return clock, cause


@inlined
def _blocked(w: Any, t: Any, i: Any, used: Any, code: Any, state: Any, units: Any, path: Any, machine: Any) -> Any:
    """(clock, cause): why the wave's instruction cannot issue now, and when to look again; cause -1 if it can."""
    for d in range(DEPENDENCIES):
        back = code[i, DISTANCE + d]
        if back > 0:
            there = state[w, ISSUED + (state[w, COUNT] - back) % HISTORY] + code[i, LATENCY + d]
            if there > t:
                return there, (MFMA_RESULT if code[i - back, KIND] == MFMA else VALU_RESULT)
    kind, s = code[i, KIND], state[w, SIMD]
    if kind == WAIT:
        clock, cause = _waits_until(w, i, code, state)
        return clock, (cause if clock > t else -1)
    if kind <= MFMA:
        if units[VALU_FREE + s] > t:
            return units[VALU_FREE + s], VALU_BUSY
        if (kind == MFMA or not code[i, BESIDE]) and units[MFMA_FREE + s] > t:
            return units[MFMA_FREE + s], MFMA_BUSY
        return t + machine.issue, (ARBITRATION if used[0] else -1)
    if SALU <= kind <= SMEM:
        return t + machine.issue, (ARBITRATION if used[1] else -1)
    if kind == LDS:
        if path[LDS_PATH] - t > machine.lds_queue:
            return int(path[LDS_PATH]) - machine.lds_queue + 1, LDS_BUSY
        return t + machine.issue, (ARBITRATION if used[2] else -1)
    if kind == VMEM:
        n = state[w, VM_COUNT]
        if n >= VM_RING - 1 and state[w, VM_DONE + (n - VM_RING + 1) % VM_RING] > t:
            return state[w, VM_DONE + (n - VM_RING + 1) % VM_RING], VMEM_BUSY
        if path[ADDRESS] - t > machine.vmem_queue:
            return int(path[ADDRESS]) - machine.vmem_queue + 1, VMEM_BUSY
        return t + machine.issue, (ARBITRATION if used[3] else -1)
    if kind == BRANCH:
        return t + machine.issue, (ARBITRATION if used[4] else -1)
    return t, -1


@inlined
def _local(
    w: Any, i: Any, t: Any, code: Any, access: Any, state: Any, path: Any, moved: Any, totals: Any, machine: Any,
) -> None:  # fmt: skip
    """An LDS instruction."""
    clocks = code[i, CLOCKS]
    if code[i, TOUCHES]:
        r = state[w, ACCESS]
        state[w, ACCESS] = r + 1
        clocks = access[r, TAKES]
        moved[access[r, SITE], 0] += access[r, ASKS]
    path[LDS_PATH] = max(path[LDS_PATH], t) + clocks
    totals[BUSY + LDS] += clocks
    _lgkm(w, int(path[LDS_PATH]) + machine.lds_latency, 0, state)


@inlined
def _execute(
    w: Any, t: Any, i: Any, used: Any, code: Any, access: Any, lines: Any, sites: Any, state: Any, units: Any,
    path: Any, tags: Any, moved: Any, flight: Any, stalls: Any, totals: Any, machine: Any,
) -> None:  # fmt: skip
    """What issuing the instruction does to the units and to the wave's counters."""
    kind, s, clocks = code[i, KIND], state[w, SIMD], code[i, CLOCKS]
    state[w, READY] = t + machine.issue
    if kind <= TRANS:
        used[0] = True
        units[VALU_FREE + s] = t + clocks
        totals[BUSY + kind] += clocks
    elif kind == MFMA:
        used[0] = True
        units[VALU_FREE + s] = t + machine.mfma_issue
        units[MFMA_FREE + s] = t + clocks
        totals[BUSY + kind] += clocks
    elif kind == SALU:
        used[1] = True
        totals[BUSY + kind] += clocks
    elif kind == SMEM:
        used[1] = True
        totals[BUSY + kind] += clocks
        _lgkm(w, t + machine.smem_latency, 1, state)
    elif kind == LDS:
        used[2] = True
        _local(w, i, t, code, access, state, path, moved, totals, machine)
    elif kind == VMEM:
        used[3] = True
        if code[i, TOUCHES] == WRITE_BACK:
            _returns(w, t + machine.write_back, 1, state, totals)
        elif code[i, TOUCHES] == INVALIDATE:
            units[FILLS] += machine.l1_lines  # every line is now too old
            _returns(w, t + machine.l1_latency, 0, state, totals)
        elif code[i, TOUCHES] == RECORDED:
            _memory(w, t, access, lines, sites, state, units, path, tags, moved, flight, totals, machine)
    elif kind == BRANCH:
        used[4] = True
        totals[BUSY + kind] += clocks
    elif kind == NOP:
        state[w, READY] = t + clocks
        stalls[i, NOPS] += clocks - machine.issue


@inlined
def _advance(w: Any, t: Any, i: Any, code: Any, blocks: Any, visited: Any, state: Any, machine: Any) -> Any:
    """To the next instruction; False if there is none. What follows a taken branch must be fetched."""
    visit = state[w, VISIT]
    block = visited[visit]
    state[w, ISSUED + state[w, COUNT] % HISTORY] = t
    state[w, COUNT] += 1
    state[w, KNOWN] = state[w, READY]  # the clocks of s_nop are accounted already
    if i + 1 < blocks[block, LAST]:
        state[w, AT] = i + 1
        state[w, CAUSE] = ARBITRATION
        return True
    if visit + 1 >= state[w, FINAL]:
        return False
    state[w, VISIT] = visit + 1
    following = visited[visit + 1]
    state[w, AT] = blocks[following, FIRST]
    state[w, CAUSE] = ARBITRATION
    if blocks[following, START] != blocks[block, END]:
        state[w, READY] = t + machine.branch
        state[w, CAUSE] = FETCH
    return True


@called
def _release(
    j: Any, t: Any, code: Any, blocks: Any, visited: Any, state: Any, units: Any, groups: Any, stalls: Any,
    events: Any, totals: Any, machine: Any, limit: Any,
) -> None:  # fmt: skip
    """Let the waves of a workgroup go past their barrier, if all that live are there."""
    if groups[j, 1] == 0 or groups[j, 1] != groups[j, 0]:
        return
    groups[j, 1] = 0
    for w in range(state.shape[0]):
        if state[w, LIVE] and state[w, GROUP] == j and state[w, WAITING]:
            _settle(w, t, state, stalls, events, totals, limit)
            state[w, WAITING] = False
            i = state[w, AT]
            stalls[i, ISSUES] += 1
            state[w, READY] = t + machine.issue
            _advance(w, t, i, code, blocks, visited, state, machine)
            s = state[w, SIMD]
            units[NEXT + s] = min(units[NEXT + s], t + machine.issue + (s - t) % 4)


@called
def _finish(
    w: Any, j: Any, t: Any, code: Any, blocks: Any, wave_of: Any, visits: Any, visited: Any, accessed: Any, queue: Any,
    state: Any, units: Any, path: Any, groups: Any, stalls: Any, events: Any, placed: Any, totals: Any, crowd: Any,
    machine: Any, limit: Any,
) -> None:  # fmt: skip
    """A wave has ended; with the last of its workgroup the next one of the queue starts."""
    state[w, LIVE] = False
    groups[j, 0] -= 1
    _release(j, t, code, blocks, visited, state, units, groups, stalls, events, totals, machine, limit)
    if groups[j, 0] > 0:
        return
    groups[j, 2] = t
    units[RESIDENT] -= 1
    path[PEERS] -= queue[j, 2]
    if units[FOLLOWING] < queue.shape[0]:
        following = units[FOLLOWING]
        units[FOLLOWING] += 1
        _launch(
            following, t, wave_of, visits, visited, accessed, blocks, queue, state, units, path, groups, placed, crowd
        )


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
        _settle(w, t, state, stalls, events, totals, limit)
        i = state[w, AT]
        j = state[w, GROUP]
        clock, cause = _blocked(w, t, i, used, code, state, units, path, machine)
        if cause >= 0:
            state[w, CAUSE] = cause
            if cause <= SALU_RESULT:
                state[w, READY] = clock
            later = min(later, clock)
            continue
        if code[i, KIND] == BARRIER:
            state[w, WAITING], state[w, CAUSE] = True, AT_BARRIER
            groups[j, 1] += 1
            _release(j, t, code, blocks, visited, state, units, groups, stalls, events, totals, machine, limit)
            continue
        stalls[i, ISSUES] += 1
        _execute(
            w, t, i, used, code, access, lines, sites, state, units, path, tags, moved, flight, stalls, totals,
            machine,
        )  # fmt: skip
        if limit > 0:
            _note(w, t + machine.issue, ISSUE, state, events, totals, limit)
        if _advance(w, t, i, code, blocks, visited, state, machine):
            later = min(later, state[w, READY])
            continue
        _finish(
            w, j, t + machine.issue, code, blocks, wave_of, visits, visited, accessed, queue, state, units, path, groups,
            stalls, events, placed, totals, crowd, machine, limit,
        )  # fmt: skip
    return later


@called
def _sort_by_age(order: Any, state: Any) -> None:
    """Wave slots, the one with the oldest wave first."""
    for k in range(1, order.size):
        w, place = order[k], k
        while place > 0 and state[order[place - 1], AGE] > state[w, AGE]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = w


@_compiled
def _run(
    order: Any, used: Any, crowd: Any, code: Any, blocks: Any, wave_of: Any, visits: Any, visited: Any, accessed: Any,
    access: Any, lines: Any, sites: Any, queue: Any, state: Any, units: Any, path: Any, tags: Any, groups: Any,
    stalls: Any, totals: Any, moved: Any, flight: Any, events: Any, placed: Any, machine: Any, limit: Any, slots: Any,
) -> None:  # fmt: skip
    """All workgroups of the queue from first to last."""
    for _ in range(min(slots, queue.shape[0])):
        j = units[FOLLOWING]
        units[FOLLOWING] += 1
        _launch(j, 0, wave_of, visits, visited, accessed, blocks, queue, state, units, path, groups, placed, crowd)
    age = -1
    while True:
        if units[AGES] != age:
            age = units[AGES]
            _sort_by_age(order, state)
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
    stalls = np.zeros((code.kind.size, len(CAUSES) + 1))
    totals, moved = np.zeros(BUSY + NOP + 1), np.zeros((max(sites.kind.size, 1), 2))
    groups, flight = np.zeros((count, 3), np.int64), np.zeros(1 << 18)
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
