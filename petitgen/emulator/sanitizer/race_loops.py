"""The inner loop of the race check: a memory instruction of a group of waves against what others did to its dwords.

A dword has four records: its last two writers and its last two readers. A record is one int64, 0 where there is none:

    bits 0-23   number of the operation among those of its wave on the same kind of memory (all ones: that or more)
    bits 24-45  wave + 1, counted over the whole grid
    bits 46-57  the instruction, as an index into the report's table
    bits 58-61  bytes of the dword that were touched
    bit 62      atomic
    bit 63      LDS written by a load from memory, which vmcnt counts and lgkmcnt does not
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba

from petitgen.emulator.compiled import loops

WAVES = (1 << 22) - 2
CODES = 1 << 12
CODE = 46
ATOMIC = 1 << 62
DMA = -(1 << 63)
LEARN, COMPARE = 1, 2  # Access.sync


class Records(NamedTuple):
    """By dword: the last two writers and the last two readers."""

    w0: Any
    w1: Any
    r0: Any
    r1: Any


class Access(NamedTuple):
    """One component of a memory instruction.

    start              (n,) what to add to the addresses to get byte offsets into the memory
    addresses, active  (n, lanes); size: bytes that a lane touches
    store              does it write?
    sync               LEARN: what others wrote there tells the wave how far they are; COMPARE: a compare-and-swap
    plain              may it be in a race? If not it is not recorded either
    template           the record without wave, number and bytes
    waves, numbers     (n,) wave in the grid, number of this operation
    mine               (n,) own operations counted by vmcnt that are complete
    """

    start: Any
    addresses: Any
    active: Any
    size: Any
    store: Any
    sync: Any
    plain: Any
    template: Any
    waves: Any
    numbers: Any
    mine: Any


class Order(NamedTuple):
    """What is in order, by wave of the batch, whose first is wave `first` of the grid; *_other: in the other memory.

    done, dma_done  operations that a barrier has put before all that follows in the workgroup
    seen            (W, W): operations of wave column that wave row learnt of, if learnt[row]
    published       operations that were complete at the wave's last atomic
    """

    first: Any
    per_group: Any
    done: Any
    dma_done: Any
    seen: Any
    learnt: Any
    done_other: Any
    seen_other: Any
    published: Any
    published_other: Any


@numba.njit(inline="always")
def _wave(record: Any) -> Any:
    return (record >> 24 & 0x3FFFFF) - 1


@numba.njit
def _ordered(record: Any, me: Any, mine: Any, order: Any) -> Any:
    """Is the recorded operation certainly over for wave `me`? `mine`: its own vmcnt operations that are."""
    number, wave, first = record & 0xFFFFFF, _wave(record), order.first
    if wave == me:
        return record >= 0 or number <= mine
    if number == 0xFFFFFF:
        return True
    if wave // order.per_group == me // order.per_group:
        if number <= (order.dma_done[wave - first] if record < 0 else order.done[wave - first]):
            return True
        if record < 0:
            return False
    if not order.learnt[me - first]:
        return False
    return wave < first or number <= order.seen[me - first, wave - first]


@numba.njit
def _learn(record: Any, me: Any, order: Any) -> None:
    """Wave `me` met what another wave wrote: what that wave did and knew before is in order from now on."""
    first, wave = order.first, _wave(record)
    if record == 0 or wave == me:
        return
    row = me - first
    order.learnt[row] = True
    if wave < first:
        return
    other = wave - first
    atomic = record >> 62 & 1  # by a plain store, which gives no such time, the wave tells of all before it
    number = order.published[other] if atomic else record & 0xFFFFFF
    if order.seen[row, other] >= number and number != 0:
        return
    for w in range(order.seen.shape[0]):
        order.seen[row, w] = max(order.seen[row, w], order.seen[other, w])
        order.seen_other[row, w] = max(order.seen_other[row, w], order.seen_other[other, w])
    group = other // order.per_group * order.per_group
    for w in range(group, group + order.per_group):
        if w == other:
            continue  # its own stores it must wait for; its waits cannot cover those of the waves beside it
        order.seen[row, w] = max(order.seen[row, w], order.done[w])
        order.seen_other[row, w] = max(order.seen_other[row, w], order.done_other[w])
    order.seen[row, other] = max(order.seen[row, other], number)
    order.seen_other[row, other] = max(order.seen_other[row, other], order.published_other[other])


@numba.njit(inline="always")
def _same(old: Any, new: Any, done: Any) -> Any:
    """May `new` replace `old`? Of one wave, and equally atomic unless a barrier has made `old` harmless."""
    return (old ^ new) >> 24 & 0x3FFFFF == 0 and ((old ^ new) >> 62 == 0 or old & 0xFFFFFF <= done)


@numba.njit(inline="always")
def _joined(old: Any, new: Any, done: Any) -> Any:
    """The record of a wave that comes back: bytes it touched since the last barrier stay in it."""
    return new | (old & 15 << 58) if old & 0xFFFFFF > done else new


@numba.njit
def _conflict(other: Any, load: Any, i: Any, lane: Any, access: Any, order: Any, conflicts: Any, out: Any) -> Any:
    """One more conflict, listed in `out`, if nothing puts the recorded access in order."""
    if _ordered(other, access.waves[i], access.mine[i], order):
        return conflicts
    if conflicts < out.shape[0]:
        out[conflicts, 0], out[conflicts, 1], out[conflicts, 2], out[conflicts, 3] = i, lane, other, load
    return conflicts + 1


@numba.njit
def _remember(a: Any, b: Any, d: Any, record: Any, me: Any, order: Any) -> None:
    """Put a record in the first of two places, or in the second where that keeps what may still matter."""
    one, two, done = a[d], b[d], order.done[me - order.first]
    if _same(one, record, done):
        a[d] = _joined(one, record, done)
    elif _same(two, record, done):
        b[d] = _joined(two, record, done)
    elif two == 0 or not _ordered(one, me, 0, order):
        b[d] = record
    else:
        a[d] = record


@numba.njit
def _meet(i: Any, lane: Any, records: Any, access: Any, order: Any, guesses: Any) -> None:
    """What a wave learns, and shows of its loads, by an atomic."""
    d, me = (access.addresses[i, lane] + access.start[i]) >> 2, access.waves[i]
    _learn(records.w0[d], me, order)
    _learn(records.w1[d], me, order)
    if access.sync & 2 != 0:
        for reader in (records.r0[d], records.r1[d]):
            if _wave(reader) == me:
                guesses[reader >> 46 & 0xFFF] = True


@loops
def visit(records: Any, access: Any, order: Any, guesses: Any, out: Any) -> Any:
    """Check an access against the records of its dwords, and record it. Returns the number of conflicts.

    guesses  set by instruction for the loads that a wave did before its compare-and-swap of the same place
    out      (most, 4): of the first conflicts the row in the group, the lane, the other's record, is it a load?

    The usual cases are written out here, without calls: this runs for every dword of every lane.
    """
    conflicts = 0
    w0, w1, r0, r1 = records.w0, records.w1, records.r0, records.r1
    first, done, learnt, per_group = order.first, order.done, order.learnt, order.per_group
    start, addresses, active, size, store = access.start, access.addresses, access.active, access.size, access.store
    sync, plain, waves, numbers = access.sync, access.plain, access.waves, access.numbers
    a, b = (w0, w1) if store else (r0, r1)
    for i in range(addresses.shape[0]):
        me = waves[i]
        low = me // per_group * per_group
        base, finished = access.template | (me + 1) << 24 | min(numbers[i], 0xFFFFFF), done[me - first]
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            begin = addresses[i, lane] + start[i]
            if sync != 0:
                _meet(i, lane, records, access, order, guesses)
            if not plain:
                continue
            for d in range(begin >> 2, (begin + size + 3) >> 2):
                touched = (1 << min(begin + size - 4 * d, 4)) - (1 << max(begin - 4 * d, 0))
                record = base | touched << 58
                for slot in range(4 if store else 2):
                    other = w0[d] if slot == 0 else w1[d] if slot == 1 else r0[d] if slot == 2 else r1[d]
                    if other == 0 or other >> 58 & 15 & touched == 0 or other & record & 1 << 62 != 0:
                        continue
                    if other > 0:
                        wave = (other >> 24 & 0x3FFFFF) - 1
                        if wave == me or (low <= wave < low + per_group and other & 0xFFFFFF <= done[wave - first]):
                            continue
                    conflicts = _conflict(other, slot >> 1, i, lane, access, order, conflicts, out)
                one = a[d]
                wave = (one >> 24 & 0x3FFFFF) - 1
                if one == 0:
                    a[d] = record
                elif wave == me and (one ^ record) >> 62 == 0:
                    a[d] = record | (one & 15 << 58) if one & 0xFFFFFF > finished else record
                elif one > 0 and low <= wave < low + per_group and one & 0xFFFFFF <= done[wave - first]:
                    a[d] = record
                elif wave == me or one < 0 or learnt[me - first]:
                    _remember(a, b, d, record, me, order)
                else:
                    two = b[d]
                    same = (two ^ record) >> 62 == 0 and (two ^ record) >> 24 & 0x3FFFFF == 0
                    b[d] = record | (two & 15 << 58) if same and two & 0xFFFFFF > finished else record
    return conflicts
