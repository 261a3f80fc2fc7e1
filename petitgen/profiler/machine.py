"""What goes into the simulation of a CU, and what comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    touches: NDArray[np.int64]
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
    """Timing parameters. l2, mall, hbm: bytes a clock for all CUs together; link: from L2 to one CU. burst: clocks for
    which an unused share is kept; write_back: of an L2."""

    issue: int
    mfma_issue: int
    branch: int
    vmem_queue: int
    lds_queue: int
    lds_latency: int
    smem_latency: int
    l1_latency: int
    l1_lines: int
    line: int
    link: float
    l2: float
    mall: float
    hbm: float
    burst: int
    write_back: int


class Counts(NamedTuple):
    """Filled by the simulation.

    stalls  (instructions, causes) wave-clocks;  issues: (instructions,)
    busy    by class: clocks its unit was taken;  ends: clock each workgroup of the queue ended
    sites   (sites, 2): bytes asked of the L1, and of the L2
    flight  bytes in flight by bin: what was added (positive) and taken away (negative)
    totals  [bytes * clocks in flight, last return from memory, clocks, events, latency sum, loads beyond the L1]
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
