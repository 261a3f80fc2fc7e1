"""The life of a wave: its workgroup starts, it goes from block to block, meets others at barriers, and ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from petitgen.profiler.cu.account import settle
from petitgen.profiler.cu.columns import (
    ACCESS,
    AGE,
    AGES,
    ARBITRATION,
    AT,
    CAUSE,
    COUNT,
    END,
    FETCH,
    FINAL,
    FIRST,
    FOLLOWING,
    GROUP,
    HISTORY,
    ISSUED,
    ISSUES,
    KNOWN,
    LAST,
    LG_COUNT,
    LIVE,
    NEXT,
    PEERS,
    READY,
    RESIDENT,
    SIMD,
    START,
    VISIT,
    VM_COUNT,
    WAITING,
)  # fmt: skip
from petitgen.profiler.cu.compiled import called, inlined


@called
def launch(
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


@inlined
def advance(w: Any, t: Any, i: Any, code: Any, blocks: Any, visited: Any, state: Any, machine: Any) -> Any:
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
def release(
    j: Any, t: Any, code: Any, blocks: Any, visited: Any, state: Any, units: Any, groups: Any, stalls: Any,
    events: Any, totals: Any, machine: Any, limit: Any,
) -> None:  # fmt: skip
    """Let the waves of a workgroup go past their barrier, if all that live are there."""
    if groups[j, 1] == 0 or groups[j, 1] != groups[j, 0]:
        return
    groups[j, 1] = 0
    for w in range(state.shape[0]):
        if state[w, LIVE] and state[w, GROUP] == j and state[w, WAITING]:
            settle(w, t, state, stalls, events, totals, limit)
            state[w, WAITING] = False
            i = state[w, AT]
            stalls[i, ISSUES] += 1
            state[w, READY] = t + machine.issue
            advance(w, t, i, code, blocks, visited, state, machine)
            s = state[w, SIMD]
            units[NEXT + s] = min(units[NEXT + s], t + machine.issue + (s - t) % 4)


@called
def finish(
    w: Any, j: Any, t: Any, code: Any, blocks: Any, wave_of: Any, visits: Any, visited: Any, accessed: Any, queue: Any,
    state: Any, units: Any, path: Any, groups: Any, stalls: Any, events: Any, placed: Any, totals: Any, crowd: Any,
    machine: Any, limit: Any,
) -> None:  # fmt: skip
    """A wave has ended; with the last of its workgroup the next one of the queue starts."""
    state[w, LIVE] = False
    groups[j, 0] -= 1
    release(j, t, code, blocks, visited, state, units, groups, stalls, events, totals, machine, limit)
    if groups[j, 0] > 0:
        return
    groups[j, 2] = t
    units[RESIDENT] -= 1
    path[PEERS] -= queue[j, 2]
    if units[FOLLOWING] < queue.shape[0]:
        following = units[FOLLOWING]
        units[FOLLOWING] += 1
        launch(
            following, t, wave_of, visits, visited, accessed, blocks, queue, state, units, path, groups, placed, crowd
        )


@called
def sort_by_age(order: Any, state: Any) -> None:
    """Wave slots, the one with the oldest wave first."""
    for k in range(1, order.size):
        w, place = order[k], k
        while place > 0 and state[order[place - 1], AGE] > state[w, AGE]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = w
