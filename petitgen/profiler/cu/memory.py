"""What memory instructions do: the L1, the servers beyond it, the LDS, and the counters that s_waitcnt looks at."""

from __future__ import annotations

from typing import Any

from petitgen.profiler.classes import LDS, VMEM
from petitgen.profiler.cu.columns import (
    ACCESS,
    ADDRESS,
    ASKS,
    BIN,
    BUSY,
    CLOCKS,
    FILLS,
    GROUP,
    HBM,
    L1_TABLE,
    L2,
    LDS_PATH,
    LG_COUNT,
    LG_DONE,
    LG_SCALAR,
    LGKM_RING,
    LINES,
    LINES_AT,
    LINK,
    MALL,
    PEERS,
    RESIDENT,
    S_HBM,
    S_KIND,
    S_LATENCY,
    S_MALL,
    SITE,
    TAKES,
    TOUCHES,
    VM_COUNT,
    VM_DONE,
    VM_RING,
    VM_STORE,
)  # fmt: skip
from petitgen.profiler.cu.compiled import called, inlined
from petitgen.profiler.machine import LOAD, STORE


@inlined
def vm_returns(w: Any, done: Any, stored: Any, state: Any, totals: Any) -> None:
    """An operation that vmcnt counts; they return in order."""
    n = state[w, VM_COUNT]
    if n > 0:
        done = max(done, state[w, VM_DONE + (n - 1) % VM_RING])
    state[w, VM_DONE + n % VM_RING] = done
    state[w, VM_STORE + n % VM_RING] = stored
    state[w, VM_COUNT] = n + 1
    totals[1] = max(totals[1], done)


@inlined
def lgkm_returns(w: Any, done: Any, scalar: Any, state: Any) -> None:
    """An operation that lgkmcnt counts, in order: scalar loads may overtake, but nobody can rely on it."""
    n = state[w, LG_COUNT]
    if n > 0:
        done = max(done, state[w, LG_DONE + (n - 1) % LGKM_RING])
    state[w, LG_DONE + n % LGKM_RING] = done
    state[w, LG_SCALAR + n % LGKM_RING] = scalar
    state[w, LG_COUNT] = n + 1


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


@called
def vector_memory(
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
    vm_returns(w, int(done) + 1, int(sites[site, S_KIND] == STORE), state, totals)


@inlined
def local_memory(
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
    lgkm_returns(w, int(path[LDS_PATH]) + machine.lds_latency, 0, state)
