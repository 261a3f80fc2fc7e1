"""What stands where in the arrays that the loops share, and their sizes."""

from __future__ import annotations

from petitgen.profiler.classes import DEPENDENCIES
from petitgen.profiler.result import CAUSES

(
    VMEM_WAIT, LDS_WAIT, SMEM_WAIT, STORE_WAIT, AT_BARRIER, VALU_RESULT, MFMA_RESULT, VALU_BUSY, MFMA_BUSY, LDS_BUSY,
    VMEM_BUSY, ARBITRATION, FETCH, NOPS,
) = range(len(CAUSES))  # fmt: skip
LAST_KNOWN = MFMA_RESULT  # up to here a cause says when the wave can go on
ISSUE = len(CAUSES)  # state of an event in which a wave issued

SIMDS = 4
FAR = 1 << 60
VM_RING, LGKM_RING, HISTORY = 64, 16, 64
L1_TABLE = 1 << 13  # places of the L1's tag table
BIN, BINS = 64, 1 << 18  # clocks of a bin of bytes in flight, and how many there are

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
