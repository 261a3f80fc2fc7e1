"""The issue rules: whether a wave's instruction may go now, and which units it takes when it does."""

from __future__ import annotations

from typing import Any

from petitgen.profiler.classes import (
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
from petitgen.profiler.cu.columns import (
    ADDRESS,
    ARBITRATION,
    BESIDE,
    BUSY,
    CLOCKS,
    COUNT,
    DISTANCE,
    FILLS,
    HISTORY,
    ISSUED,
    KIND,
    LATENCY,
    LDS_BUSY,
    LDS_PATH,
    LDS_WAIT,
    LG_COUNT,
    LG_DONE,
    LG_SCALAR,
    LGKM_RING,
    LGKMCNT,
    MFMA_BUSY,
    MFMA_FREE,
    MFMA_RESULT,
    NOPS,
    READY,
    SIMD,
    SMEM_WAIT,
    STORE_WAIT,
    TOUCHES,
    VALU_BUSY,
    VALU_FREE,
    VALU_RESULT,
    VM_COUNT,
    VM_DONE,
    VM_RING,
    VM_STORE,
    VMCNT,
    VMEM_BUSY,
    VMEM_WAIT,
)  # fmt: skip
from petitgen.profiler.cu.compiled import inlined
from petitgen.profiler.cu.memory import lgkm_returns, local_memory, vector_memory, vm_returns


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
def blocked(w: Any, t: Any, i: Any, used: Any, code: Any, state: Any, units: Any, path: Any, machine: Any) -> Any:
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
def execute(
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
        lgkm_returns(w, t + machine.smem_latency, 1, state)
    elif kind == LDS:
        used[2] = True
        local_memory(w, i, t, code, access, state, path, moved, totals, machine)
    elif kind == VMEM:
        used[3] = True
        if code[i, TOUCHES] == WRITE_BACK:
            vm_returns(w, t + machine.write_back, 1, state, totals)
        elif code[i, TOUCHES] == INVALIDATE:
            units[FILLS] += machine.l1_lines  # every line is now too old
            vm_returns(w, t + machine.l1_latency, 0, state, totals)
        elif code[i, TOUCHES] == RECORDED:
            vector_memory(w, t, access, lines, sites, state, units, path, tags, moved, flight, totals, machine)
    elif kind == BRANCH:
        used[4] = True
        totals[BUSY + kind] += clocks
    elif kind == NOP:
        state[w, READY] = t + clocks
        stalls[i, NOPS] += clocks - machine.issue
