"""One CU, clock by clock where anything can happen: compiled loops over plain arrays.

Each SIMD has an issue slot every four clocks. In a slot every wave, the oldest first, may issue one instruction, and of
each kind of unit (vector, scalar, memory, LDS, branch) only one instruction of all waves goes. A wave that cannot issue
notes why, so every clock of every wave is either an issue or has a cause.

Memory beyond the CU is three servers (L2, Infinity Cache, HBM) with this CU's share of their bandwidth, and a latency
for each site that the device model decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.compiled import loops
from petitgen.profiler.classes import BARRIER, BRANCH, LDS, MFMA, NO_WAIT, NOP, SALU, SMEM, TRANS, VMEM, WAIT
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
LOAD, STORE, ATOMIC = range(3)


class Code(NamedTuple):
    """The table of instructions (classes.Table), and by block the pc it starts at and the pc after it."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    kind: NDArray[np.int64]
    clocks: NDArray[np.int64]
    beside: NDArray[np.bool_]
    vmcnt: NDArray[np.int64]
    lgkmcnt: NDArray[np.int64]
    distance: NDArray[np.int64]
    latency: NDArray[np.int64]
    accesses: NDArray[np.bool_]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


class Traces(NamedTuple):
    """What the traced workgroups did. CSR: waves of a workgroup, visits and accesses of a wave, lines of an access.

    access_clocks  of the LDS, or of the path to the L1;  access_bytes: that lanes ask for
    """

    waves: NDArray[np.int64]
    visits: NDArray[np.int64]
    blocks: NDArray[np.int64]
    accesses: NDArray[np.int64]
    access_site: NDArray[np.int64]
    access_clocks: NDArray[np.int64]
    access_bytes: NDArray[np.int64]
    line_start: NDArray[np.int64]
    line_count: NDArray[np.int64]
    lines: NDArray[np.int64]


class Sites(NamedTuple):
    """By site: LOAD, STORE or ATOMIC; clocks beyond the L1; of each byte that leaves the L1 the share that goes on to
    the Infinity Cache and to HBM."""

    kind: NDArray[np.int64]
    latency: NDArray[np.float64]
    mall: NDArray[np.float64]
    hbm: NDArray[np.float64]


class Queue(NamedTuple):
    """The workgroups of this CU in order: which trace, the first clock it may start, how many CUs have one as far down
    their own queue; slots: how many run at once."""

    trace: NDArray[np.int64]
    start: NDArray[np.int64]
    peers: NDArray[np.float64]
    slots: int


class Machine(NamedTuple):
    """Timing parameters. l2, mall, hbm: bytes a clock for all CUs together; link: from L2 to one CU."""

    issue: int
    mfma_issue: int
    branch: int
    vmem_queue: int
    lds_queue: int
    lds_latency: int
    smem_latency: int
    l1_latency: int
    l1_rate: int
    l1_lines: int
    line: int
    link: float
    l2: float
    mall: float
    hbm: float
    l2_latency: int


class Counts(NamedTuple):
    """Filled by the simulation.

    stalls  (instructions, causes) wave-clocks;  issues: (instructions,)
    busy    by class: clocks its unit was taken;  ends: clock each workgroup of the queue ended
    sites   (sites, 2): bytes asked of the L1, and of the L2
    flight  bytes in flight by bin: what was added (positive) and taken away (negative)
    totals  [bytes * clocks in flight, wave-clocks, clocks of the run, events, latency sum, requests]
    events  (limit, 6): wave slot, start, end, state, instruction, workgroup
    placed  (workgroups, waves): SIMD * 64 + slot of each wave
    """

    stalls: NDArray[np.float64]
    issues: NDArray[np.int64]
    busy: NDArray[np.float64]
    ends: NDArray[np.int64]
    sites: NDArray[np.float64]
    flight: NDArray[np.float64]
    totals: NDArray[np.float64]
    events: NDArray[np.int64]
    placed: NDArray[np.int64]


class Waves(NamedTuple):
    """State of the wave slots, (slots,) unless noted. `ready`: not before this clock; `known`: accounted up to here."""

    live: NDArray[np.bool_]
    simd: NDArray[np.int64]
    age: NDArray[np.int64]
    group: NDArray[np.int64]
    visit: NDArray[np.int64]
    final: NDArray[np.int64]
    at: NDArray[np.int64]
    access: NDArray[np.int64]
    ready: NDArray[np.int64]
    known: NDArray[np.int64]
    cause: NDArray[np.int64]
    count: NDArray[np.int64]
    issued: NDArray[np.int64]  # (slots, HISTORY)
    vm_count: NDArray[np.int64]
    vm_done: NDArray[np.int64]  # (slots, VM_RING)
    vm_store: NDArray[np.int64]
    lg_count: NDArray[np.int64]
    lg_done: NDArray[np.int64]  # (slots, LGKM_RING)
    lg_scalar: NDArray[np.int64]
    waiting: NDArray[np.bool_]


class Units(NamedTuple):
    """When each unit is free. float: vmem, lds, l2, mall, hbm at 0 to 4 of `path`; simd state in arrays of four.

    next    (4,) next clock at which a SIMD looks;  tags, stamps: the L1
    groups  (queue, 2): live waves, waves at the barrier
    numbers [fills of the L1, next of the queue, resident workgroups, age]
    """

    valu: NDArray[np.int64]
    mfma: NDArray[np.int64]
    next: NDArray[np.int64]
    path: NDArray[np.float64]
    tags: NDArray[np.int64]
    stamps: NDArray[np.int64]
    groups: NDArray[np.int64]
    numbers: NDArray[np.int64]
    peers: NDArray[np.float64]


@loops
def _note(w: Any, until: Any, state: Any, waves: Any, counts: Any, limit: Any) -> None:
    """An event of the timeline, merged with the wave's last if they are one."""
    n = int(counts.totals[3])
    if n >= limit:
        return
    events = counts.events
    events[n, 0], events[n, 1], events[n, 2] = w, waves.known[w], until
    events[n, 3], events[n, 4], events[n, 5] = state, waves.at[w], waves.group[w]
    counts.totals[3] = n + 1


@loops
def _settle(w: Any, t: Any, waves: Any, counts: Any, limit: Any) -> None:
    """Account the clocks up to `t` to what the wave waited for."""
    passed = t - waves.known[w]
    if passed > 0:
        counts.stalls[waves.at[w], waves.cause[w]] += passed
        if limit > 0:
            _note(w, t, waves.cause[w], waves, counts, limit)
        waves.known[w] = t


@loops
def _launch(j: Any, t: Any, code: Any, traces: Any, queue: Any, waves: Any, units: Any, counts: Any) -> None:
    """Put workgroup j of the queue on the SIMDs, the emptiest first."""
    trace = queue.trace[j]
    first, last = traces.waves[trace], traces.waves[trace + 1]
    begin = max(t, queue.start[j])
    units.groups[j, 0], units.groups[j, 1] = last - first, 0
    units.numbers[2] += 1
    units.peers[0] += queue.peers[j]
    for i in range(first, last):
        crowd = np.zeros(SIMDS, np.int64)
        w = -1
        for k in range(waves.live.size):
            if waves.live[k]:
                crowd[waves.simd[k]] += 1
            elif w < 0:
                w = k
        simd = int(np.argmin(crowd))
        waves.live[w], waves.simd[w], waves.group[w] = True, simd, j
        waves.age[w] = units.numbers[3]
        units.numbers[3] += 1
        waves.visit[w], waves.final[w] = traces.visits[i], traces.visits[i + 1]
        waves.at[w] = code.first[traces.blocks[traces.visits[i]]]
        waves.access[w] = traces.accesses[i]
        waves.ready[w] = waves.known[w] = begin
        waves.count[w] = waves.vm_count[w] = waves.lg_count[w] = 0
        waves.waiting[w] = False
        counts.placed[j, i - first] = simd * 64 + w
        units.next[simd] = min(units.next[simd], begin + (simd - begin) % 4)


@loops
def _l1_misses(w: Any, r: Any, traces: Any, waves: Any, units: Any, machine: Any) -> Any:
    """Lines of an access that the L1 does not hold; it does from now on. Workgroups share nothing."""
    missed = 0
    apart = waves.group[w] << 44
    for k in range(traces.line_start[r], traces.line_start[r] + traces.line_count[r]):
        line = traces.lines[k] + apart
        place = (line ^ line >> 13 ^ line >> 44) & (L1_TABLE - 1)
        if units.tags[place] != line or units.numbers[0] - units.stamps[place] >= machine.l1_lines:
            missed += 1
            units.tags[place] = line
            units.stamps[place] = units.numbers[0]
            units.numbers[0] += 1
    return missed


@loops
def _serve(t: Any, size: Any, site: Any, sites: Any, units: Any, machine: Any) -> Any:
    """Clock at which `size` bytes have passed the servers beyond the L1 that they go to."""
    share = units.numbers[2] / units.peers[0]
    path = units.path
    path[2] = max(path[2], t) + size / min(machine.link, machine.l2 * share)
    done = path[2]
    if sites.mall[site] > 0:
        path[3] = max(path[3], t) + size * sites.mall[site] / (machine.mall * share)
        done = max(done, path[3])
    if sites.hbm[site] > 0:
        path[4] = max(path[4], t) + size * sites.hbm[site] / (machine.hbm * share)
        done = max(done, path[4])
    return done


@loops
def _memory(w: Any, t: Any, traces: Any, sites: Any, waves: Any, units: Any, machine: Any, counts: Any) -> Any:
    """A vector memory instruction: the clock at which it has returned."""
    r = waves.access[w]
    waves.access[w] = r + 1
    site = traces.access_site[r]
    clocks, size = traces.access_clocks[r], traces.access_bytes[r]
    begin = max(units.path[0], t)
    units.path[0] = begin + clocks
    counts.busy[VMEM] += clocks
    counts.sites[site, 0] += size
    done = begin + clocks + machine.l1_latency
    if sites.kind[site] == LOAD:
        size = _l1_misses(w, r, traces, waves, units, machine) * machine.line
    if size > 0:
        served = _serve(begin, size, site, sites, units, machine)
        done = max(done, served + sites.latency[site])
        counts.sites[site, 1] += size
        if sites.kind[site] == LOAD:
            counts.totals[0] += size * (done - t)
            counts.totals[4] += done - t
            counts.totals[5] += 1
            last = counts.flight.size - 1
            counts.flight[min(t // BIN, last)] += size
            counts.flight[min(int(done) // BIN, last)] -= size
    finished = int(done) + 1
    n = waves.vm_count[w]
    if n > 0:
        finished = max(finished, waves.vm_done[w, (n - 1) % VM_RING])
    waves.vm_done[w, n % VM_RING] = finished
    waves.vm_store[w, n % VM_RING] = sites.kind[site] == STORE
    waves.vm_count[w] = n + 1
    return finished


@loops
def _lgkm(w: Any, done: Any, scalar: Any, waves: Any) -> None:
    """An operation that lgkmcnt counts, in order: scalar loads may overtake, but nobody can rely on it."""
    n = waves.lg_count[w]
    if n > 0:
        done = max(done, waves.lg_done[w, (n - 1) % LGKM_RING])
    waves.lg_done[w, n % LGKM_RING] = done
    waves.lg_scalar[w, n % LGKM_RING] = scalar
    waves.lg_count[w] = n + 1


@loops
def _waits_until(w: Any, i: Any, code: Any, waves: Any) -> Any:
    """(clock, cause) that s_waitcnt lets the wave go on."""
    clock, cause = 0, VMEM_WAIT
    n, left = waves.vm_count[w], code.vmcnt[i]
    if left != NO_WAIT and n > left:
        place = (n - left - 1) % VM_RING
        clock = waves.vm_done[w, place]
        cause = STORE_WAIT if waves.vm_store[w, place] else VMEM_WAIT
    n, left = waves.lg_count[w], code.lgkmcnt[i]
    if left != NO_WAIT and n > left:
        place = (n - left - 1) % LGKM_RING
        if waves.lg_done[w, place] > clock:
            clock = waves.lg_done[w, place]
            cause = SMEM_WAIT if waves.lg_scalar[w, place] else LDS_WAIT
    return clock, cause


@loops
def _blocked(w: Any, t: Any, i: Any, used: Any, code: Any, waves: Any, units: Any, machine: Any) -> Any:
    """(clock, cause): why the wave's instruction cannot issue now, and when to look again; cause -1 if it can."""
    for d in range(code.distance.shape[1]):
        back = code.distance[i, d]
        if back > 0:
            there = waves.issued[w, (waves.count[w] - back) % HISTORY] + code.latency[i, d]
            if there > t:
                return there, (MFMA_RESULT if code.kind[i - back] == MFMA else VALU_RESULT)
    kind, s = code.kind[i], waves.simd[w]
    if kind == WAIT:
        clock, cause = _waits_until(w, i, code, waves)
        return clock, (cause if clock > t else -1)
    if kind <= MFMA:
        if units.valu[s] > t:
            return units.valu[s], VALU_BUSY
        if (kind == MFMA or not code.beside[i]) and units.mfma[s] > t:
            return units.mfma[s], MFMA_BUSY
        return t + machine.issue, (ARBITRATION if used[0] else -1)
    if SALU <= kind <= SMEM:
        return t + machine.issue, (ARBITRATION if used[1] else -1)
    if kind == LDS:
        if units.path[1] - t > machine.lds_queue:
            return int(units.path[1]) - machine.lds_queue + 1, LDS_BUSY
        return t + machine.issue, (ARBITRATION if used[2] else -1)
    if kind == VMEM:
        n = waves.vm_count[w]
        if n >= VM_RING - 1 and waves.vm_done[w, (n - VM_RING + 1) % VM_RING] > t:
            return waves.vm_done[w, (n - VM_RING + 1) % VM_RING], VMEM_BUSY
        if units.path[0] - t > machine.vmem_queue:
            return int(units.path[0]) - machine.vmem_queue + 1, VMEM_BUSY
        return t + machine.issue, (ARBITRATION if used[3] else -1)
    if kind == BRANCH:
        return t + machine.issue, (ARBITRATION if used[4] else -1)
    return t, -1


@loops
def _execute(
    w: Any,
    t: Any,
    i: Any,
    used: Any,
    code: Any,
    traces: Any,
    sites: Any,
    waves: Any,
    units: Any,
    machine: Any,
    counts: Any,
) -> None:
    """What issuing the instruction does to the units and to the wave's counters."""
    kind, s, clocks = code.kind[i], waves.simd[w], code.clocks[i]
    waves.ready[w] = t + machine.issue
    if kind <= TRANS:
        used[0] = True
        units.valu[s] = t + clocks
        counts.busy[kind] += clocks
    elif kind == MFMA:
        used[0] = True
        units.valu[s] = t + machine.mfma_issue
        units.mfma[s] = t + clocks
        counts.busy[kind] += clocks
    elif kind == SALU:
        used[1] = True
        counts.busy[kind] += clocks
    elif kind == SMEM:
        used[1] = True
        counts.busy[kind] += clocks
        _lgkm(w, t + machine.smem_latency, 1, waves)
    elif kind == LDS:
        used[2] = True
        if code.accesses[i]:
            r = waves.access[w]
            waves.access[w] = r + 1
            clocks = traces.access_clocks[r]
            counts.sites[traces.access_site[r], 0] += traces.access_bytes[r]
        units.path[1] = max(units.path[1], t) + clocks
        counts.busy[kind] += clocks
        _lgkm(w, int(units.path[1]) + machine.lds_latency, 0, waves)
    elif kind == VMEM:
        used[3] = True
        if code.accesses[i]:
            _memory(w, t, traces, sites, waves, units, machine, counts)
    elif kind == BRANCH:
        used[4] = True
        counts.busy[kind] += clocks
    elif kind == NOP:
        waves.ready[w] = t + clocks
        counts.stalls[i, NOPS] += clocks - machine.issue


@loops
def _advance(w: Any, t: Any, i: Any, code: Any, traces: Any, waves: Any, machine: Any) -> Any:
    """To the next instruction; False if there is none. What follows a taken branch must be fetched."""
    visit = waves.visit[w]
    block = traces.blocks[visit]
    waves.issued[w, waves.count[w] % HISTORY] = t
    waves.count[w] += 1
    waves.known[w] = waves.ready[w]  # the clocks of s_nop are accounted already
    if i + 1 < code.last[block]:
        waves.at[w] = i + 1
        waves.cause[w] = ARBITRATION
        return True
    if visit + 1 >= waves.final[w]:
        return False
    waves.visit[w] = visit + 1
    following = traces.blocks[visit + 1]
    waves.at[w] = code.first[following]
    waves.cause[w] = ARBITRATION
    if code.start[following] != code.end[block]:
        waves.ready[w] = t + machine.branch
        waves.cause[w] = FETCH
    return True


@loops
def _release(
    j: Any, t: Any, code: Any, traces: Any, waves: Any, units: Any, machine: Any, counts: Any, limit: Any
) -> None:
    """Let the waves of a workgroup go past their barrier, if all that live are there."""
    if units.groups[j, 1] == 0 or units.groups[j, 1] != units.groups[j, 0]:
        return
    units.groups[j, 1] = 0
    for w in range(waves.live.size):
        if waves.live[w] and waves.group[w] == j and waves.waiting[w]:
            _settle(w, t, waves, counts, limit)
            waves.waiting[w] = False
            i = waves.at[w]
            counts.issues[i] += 1
            waves.ready[w] = t + machine.issue
            _advance(w, t, i, code, traces, waves, machine)
            s = waves.simd[w]
            units.next[s] = min(units.next[s], t + machine.issue + (s - t) % 4)


@loops
def _slot(
    s: Any,
    t: Any,
    order: Any,
    code: Any,
    traces: Any,
    sites: Any,
    queue: Any,
    waves: Any,
    units: Any,
    machine: Any,
    counts: Any,
    limit: Any,
) -> Any:
    """One issue slot of a SIMD; the next clock at which there may be something to do."""
    used = np.zeros(5, np.bool_)
    later = FAR
    for k in range(order.size):
        w = order[k]
        if not waves.live[w] or waves.simd[w] != s or waves.waiting[w]:
            continue
        if waves.ready[w] > t:
            later = min(later, waves.ready[w])
            continue
        _settle(w, t, waves, counts, limit)
        i = waves.at[w]
        j = waves.group[w]
        clock, cause = _blocked(w, t, i, used, code, waves, units, machine)
        if cause >= 0:
            waves.cause[w] = cause
            if cause <= SALU_RESULT:
                waves.ready[w] = clock
            later = min(later, clock)
            continue
        if code.kind[i] == BARRIER:
            waves.waiting[w], waves.cause[w] = True, AT_BARRIER
            units.groups[j, 1] += 1
            _release(j, t, code, traces, waves, units, machine, counts, limit)
            continue
        counts.issues[i] += 1
        _execute(w, t, i, used, code, traces, sites, waves, units, machine, counts)
        if limit > 0:
            _note(w, t + machine.issue, ISSUE, waves, counts, limit)
        if _advance(w, t, i, code, traces, waves, machine):
            later = min(later, waves.ready[w])
            continue
        waves.live[w] = False
        counts.totals[1] += t + machine.issue
        units.groups[j, 0] -= 1
        _release(j, t, code, traces, waves, units, machine, counts, limit)
        if units.groups[j, 0] == 0:
            counts.ends[j] = t + machine.issue
            units.numbers[2] -= 1
            units.peers[0] -= queue.peers[j]
            if units.numbers[1] < queue.trace.size:
                following = units.numbers[1]
                units.numbers[1] += 1
                _launch(following, t + machine.issue, code, traces, queue, waves, units, counts)
    return later


@loops
def _run(
    code: Any, traces: Any, sites: Any, queue: Any, machine: Any, waves: Any, units: Any, counts: Any, limit: Any
) -> None:
    """All workgroups of the queue from first to last."""
    for _ in range(min(queue.slots, queue.trace.size)):
        j = units.numbers[1]
        units.numbers[1] += 1
        _launch(j, 0, code, traces, queue, waves, units, counts)
    order = np.arange(waves.live.size)
    age = -1
    while True:
        if units.numbers[3] != age:
            age = units.numbers[3]
            order = np.argsort(waves.age)
        s = int(np.argmin(units.next))
        t = units.next[s]
        if t >= FAR:
            break
        units.next[s] = FAR
        later = _slot(s, t, order, code, traces, sites, queue, waves, units, machine, counts, limit)
        if later < FAR:
            clock = t + machine.issue * max(1, (later - t + machine.issue - 1) // machine.issue)
            units.next[s] = min(units.next[s], clock)
        counts.totals[2] = max(counts.totals[2], t + machine.issue)


def run(code: Code, traces: Traces, sites: Sites, queue: Queue, machine: Machine, *, limit: int = 0) -> Counts:
    """Simulate one CU. limit: most events of the timeline, 0 for none."""
    per_group = int((traces.waves[1:] - traces.waves[:-1]).max())
    counts = _counts(code, sites, queue, per_group, limit)
    _run(code, traces, sites, queue, machine, _waves(queue.slots * per_group), _units(queue), counts, limit)
    return counts


def _counts(code: Code, sites: Sites, queue: Queue, per_group: int, limit: int) -> Counts:
    return Counts(
        stalls=np.zeros((code.kind.size, len(CAUSES))),
        issues=np.zeros(code.kind.size, np.int64),
        busy=np.zeros(NOP + 1),
        ends=np.zeros(queue.trace.size, np.int64),
        sites=np.zeros((max(sites.kind.size, 1), 2)),
        flight=np.zeros(1 << 18),
        totals=np.zeros(6),
        events=np.zeros((max(limit, 1), 6), np.int64),
        placed=np.zeros((queue.trace.size, per_group), np.int64),
    )


def _waves(slots: int) -> Waves:
    def zeros(*shape: int) -> NDArray[np.int64]:
        return np.zeros((slots, *shape), np.int64)

    off = np.zeros(slots, bool)
    plain = [zeros() for _ in range(11)]
    return Waves(
        off.copy(), *plain, zeros(HISTORY), zeros(), zeros(VM_RING), zeros(VM_RING), zeros(), zeros(LGKM_RING),
        zeros(LGKM_RING), off,
    )  # fmt: skip


def _units(queue: Queue) -> Units:
    return Units(
        valu=np.zeros(SIMDS, np.int64),
        mfma=np.zeros(SIMDS, np.int64),
        next=np.full(SIMDS, FAR, np.int64),
        path=np.zeros(5),
        tags=np.full(L1_TABLE, -1, np.int64),
        stamps=np.zeros(L1_TABLE, np.int64),
        groups=np.zeros((queue.trace.size, 2), np.int64),
        numbers=np.zeros(4, np.int64),
        peers=np.zeros(1),
    )
