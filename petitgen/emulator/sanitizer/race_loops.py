"""The inner loop of the race check: one memory instruction of a group of waves against what others did to the same dwords.

A dword has four records, the last two writers and the last two readers. A record is one int64, 0 where there is none:

    bits 0-23   number of the operation among those of its wave that use the same kind of memory (LAST: more than that)
    bits 24-45  wave + 1, counted over the whole grid
    bits 46-57  the instruction, as an index into the check's table
    bits 58-61  bytes of the dword that were touched
    bit 62      atomic
    bit 63      LDS written by a load from memory, which vmcnt counts and lgkmcnt does not
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from petitgen.emulator.compiled import loops

LAST = (1 << 24) - 1
WAVES = (1 << 22) - 2
CODES = 1 << 12
WAVE, CODE, BYTES = 24, 46, 58
ATOMIC = 1 << 62
DMA = np.int64(-(1 << 63))


@numba.njit(inline="always")
def _ordered(
    record: Any, me: Any, mine: Any, per_group: Any, first: Any, done: Any, dma_done: Any, seen: Any, acquired: Any
) -> Any:
    """Is the recorded operation certainly over for wave `me`? `mine`: its own vmcnt operations that are."""
    number = record & 0xFFFFFF
    wave = (record >> 24 & 0x3FFFFF) - 1
    if wave == me:
        return record >= 0 or number <= mine
    if number == 0xFFFFFF:
        return True
    if wave // per_group == me // per_group:
        if number <= (dma_done[wave - first] if record < 0 else done[wave - first]):
            return True
        if record < 0:
            return False
    if not acquired[me - first]:
        return False
    return wave < first or number <= seen[me - first, wave - first]


@numba.njit(inline="always")
def _same(old: Any, new: Any, done: Any) -> Any:
    """May `new` take the place of `old`? Of one wave, and equally atomic unless a barrier has made `old` harmless."""
    return (old ^ new) >> 24 & 0x3FFFFF == 0 and ((old ^ new) >> 62 == 0 or old & 0xFFFFFF <= done)


@numba.njit(inline="always")
def _joined(old: Any, new: Any, done: Any) -> Any:
    """The record of a wave that comes back: bytes it touched since the last barrier stay in it."""
    return new | (old & 15 << 58) if old & 0xFFFFFF > done else new


@loops
def visit(
    w0: Any, w1: Any, r0: Any, r1: Any, start: Any, addresses: Any, active: Any, size: Any, store: Any, template: Any,
    waves: Any, numbers: Any, mine: Any, per_group: Any, first: Any, done: Any, dma_done: Any, seen: Any, acquired: Any, out: Any,
) -> Any:  # fmt: skip
    """Check an access against the records of its dwords, and record it. Returns the number of conflicts.

    w0 w1 r0 r1        records by dword
    start              (n,) what to add to the addresses to get byte offsets into the space
    addresses, active  (n, lanes); size: bytes a lane touches
    store              does it write?
    template           the record without wave, number and bytes
    waves, numbers     (n,) wave in the grid, number of this operation
    mine               (n,) own operations counted by vmcnt that are complete
    done, dma_done     by wave of the batch, whose first is `first`: operations that a barrier has put in order
    seen               (W, W): operations of wave column that wave row may rely on, if acquired[row]
    out                (most, 4): of the first conflicts the row in the group, the lane, the other's record, and
                       whether that is a load
    """
    conflicts = 0
    for i in range(addresses.shape[0]):
        me = waves[i]
        base = template | (me + 1) << 24 | min(numbers[i], 0xFFFFFF)
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            begin = addresses[i, lane] + start[i]
            end = begin + size
            for d in range(begin >> 2, (end + 3) >> 2):
                low, high = max(begin - 4 * d, 0), min(end - 4 * d, 4)
                touched = (1 << high) - (1 << low)
                record = base | touched << 58
                for slot in range(4 if store else 2):
                    other = w0[d] if slot == 0 else w1[d] if slot == 1 else r0[d] if slot == 2 else r1[d]
                    if other == 0 or (other >> 58 & 15 & touched) == 0 or (other & record & 1 << 62) != 0:
                        continue
                    if _ordered(other, me, mine[i], per_group, first, done, dma_done, seen, acquired):
                        continue
                    if conflicts < out.shape[0]:
                        out[conflicts, 0], out[conflicts, 1], out[conflicts, 2] = i, lane, other
                        out[conflicts, 3] = slot >> 1
                    conflicts += 1
                a, b = (w0, w1) if store else (r0, r1)
                one, two = a[d], b[d]
                if _same(one, record, done[me - first]):
                    a[d] = _joined(one, record, done[me - first])
                elif one == 0:
                    a[d] = record
                elif _same(two, record, done[me - first]):
                    b[d] = _joined(two, record, done[me - first])
                elif two == 0 or not _ordered(
                    one, me, 0, per_group, first, done, dma_done, seen, acquired
                ):
                    b[d] = record
                else:
                    a[d] = record
    return conflicts


@loops
def observe(
    w0: Any, w1: Any, r0: Any, r1: Any, start: Any, addresses: Any, active: Any, waves: Any, compare: Any, guesses: Any
) -> Any:
    """(n,) bool: the waves whose first dword of some lane was last written by another wave.

    compare: set guesses[code] for the loads that the same wave did at the same place.
    """
    met = np.zeros(addresses.shape[0], np.bool_)
    for i in range(addresses.shape[0]):
        me = waves[i] + 1
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            d = (addresses[i, lane] + start[i]) >> 2
            one, two = w0[d], w1[d]
            if (one != 0 and one >> 24 & 0x3FFFFF != me) or (two != 0 and two >> 24 & 0x3FFFFF != me):
                met[i] = True
            if compare:
                for reader in (r0[d], r1[d]):
                    if reader >> 24 & 0x3FFFFF == me:
                        guesses[reader >> 46 & 0xFFF] = True
    return met
