"""From a recording to arrays: for each wave the blocks and accesses in order, for each access its clocks and lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.compiled import loops
from petitgen.emulator.sanitizer.banks import extra_cycles, groups
from petitgen.emulator.state import LANES
from petitgen.profiler.machine import Traces
from petitgen.profiler.timing import Timing
from petitgen.profiler.trace import Recording, Site

Index = NDArray[np.int64]


@loops
def _lines(
    addresses: Any, active: Any, all_active: Any, size: Any, shift: Any, counts: Any, lanes: Any, out: Any
) -> Any:
    """The lines (address >> shift) that each row of lanes touches, one after the other in `out`; how many in all.

    counts: lines of a row;  lanes: active lanes of a row
    """
    total = 0
    for row in range(addresses.shape[0]):
        begin = total
        for lane in range(addresses.shape[1]):
            if not all_active and not active[row, lane]:
                continue
            lanes[row] += 1
            first = addresses[row, lane] >> shift
            last = (addresses[row, lane] + size - 1) >> shift
            for line in range(first, last + 1):
                known = False
                for k in range(total - 1, begin - 1, -1):
                    if out[k] == line:
                        known = True
                        break
                if not known:
                    out[total] = line
                    total += 1
        counts[row] = total - begin
    return total


def lines_of(addresses: Index, active: NDArray[np.bool_] | None, size: int, line: int) -> tuple[Index, Index, Index]:
    """(lines of each row, active lanes of each row, the lines of all rows) of addresses (rows, 64)."""
    rows = addresses.shape[0]
    counts, lanes = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    most = LANES * (1 + -(-size // line)) if size > 1 else LANES
    out = np.empty(rows * most, np.int64)
    mask = np.ones((1, 1), bool) if active is None else active
    total = _lines(addresses, mask, active is None, size, line.bit_length() - 1, counts, lanes, out)
    return counts, lanes, out[:total].copy()


@loops
def _bank_clocks(addresses: Any, active: Any, dwords: Any, order: Any, width: Any, out: Any) -> None:
    """Clocks of each row: one a group of lanes, and one for each bank conflict."""
    for row in range(addresses.shape[0]):
        extra = extra_cycles(addresses[row : row + 1], active[row : row + 1], dwords, order, width)
        out[row] += 64 // width + extra


def lds_clocks(site: Site, addresses: Index, active: NDArray[np.bool_] | None) -> Index:
    """Clocks that the LDS takes for each row of addresses (rows, 64)."""
    width, order = groups(site.size, site.kind)
    mask = np.ones(addresses.shape, bool) if active is None else active
    out = np.zeros(addresses.shape[0], np.int64)
    for place in site.places:
        _bank_clocks(addresses + place, mask, -(-site.size // 4), order, width, out)
    return out


def encode(recording: Recording, per_group: Index, timing: Timing) -> Traces:
    """The recording as arrays. per_group: number of the first wave of each workgroup, and that of waves in all."""
    waves = int(per_group[-1])
    visits = _by_wave([index for _, index in recording.visits], waves)
    blocks = np.repeat([block for block, _ in recording.visits], [index.size for _, index in recording.visits])
    accesses = _by_wave([index for _, index, _ in recording.events], waves)
    per_access = _Accesses(recording, timing)
    order = accesses[1]
    return Traces(
        per_group,
        visits[0],
        blocks.astype(np.int64)[visits[1]],
        accesses[0],
        per_access.site[order],
        per_access.clocks[order],
        per_access.bytes[order],
        per_access.start[order],
        per_access.count[order],
        per_access.lines,
    )


def _by_wave(indices: list[Index], waves: int) -> tuple[Index, Index]:
    """(first of each wave, order): how to sort what happened to groups of waves by wave."""
    flat = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    starts = np.zeros(waves + 1, np.int64)
    np.cumsum(np.bincount(flat, minlength=waves), out=starts[1:])
    return starts, np.argsort(flat, kind="stable")


class _Accesses:
    """Site, clocks, bytes and lines of every access of a wave, in the order of the recording."""

    def __init__(self, recording: Recording, timing: Timing) -> None:
        events = recording.events
        sizes = np.array([index.size for _, index, _ in events], np.int64)
        first = np.cumsum(sizes) - sizes
        total = int(sizes.sum())
        self.site = np.repeat(np.array([site for site, _, _ in events], np.int64), sizes)
        self.clocks, self.bytes = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self.start, self.count = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self._kept: list[Index] = []
        self._lines = 0
        by_site: dict[int, list[int]] = {}
        for number, (site, _, _) in enumerate(events):
            by_site.setdefault(site, []).append(number)
        for site, numbers in by_site.items():
            one = recording.sites[site]
            add = self._lds if one.space == "lds" else self._memory
            add(one, recording, numbers, first, timing)
        self.lines = np.concatenate(self._kept) if self._kept else np.zeros(0, np.int64)

    def _lds(self, site: Site, recording: Recording, numbers: list[int], first: Index, timing: Timing) -> None:
        known: dict[int, tuple[Index, Index]] = {}
        for number in numbers:
            access = recording.events[number][2]
            if access not in known:
                addresses, active = recording.accesses[access]
                lanes = np.full(addresses.shape[0], LANES) if active is None else active.sum(axis=1)
                known[access] = lds_clocks(site, addresses, active), lanes * site.size * len(site.places)
            clocks, size = known[access]
            here = slice(first[number], first[number] + clocks.size)
            self.clocks[here], self.bytes[here] = clocks, size

    def _memory(self, site: Site, recording: Recording, numbers: list[int], first: Index, timing: Timing) -> None:
        chosen = [recording.accesses[recording.events[n][2]] for n in numbers]
        addresses = np.concatenate([a for a, _ in chosen])
        masks = None
        if any(active is not None for _, active in chosen):
            masks = np.concatenate([np.ones(a.shape, bool) if m is None else m for a, m in chosen])
        counts, lanes, lines = lines_of(addresses, masks, site.size, timing.l1_line)
        where = np.concatenate(
            [np.arange(first[n], first[n] + a.shape[0]) for n, (a, _) in zip(numbers, chosen, strict=True)]
        )
        size = lanes * site.size
        self.bytes[where], self.count[where] = size, counts
        self.start[where] = self._lines + np.cumsum(counts) - counts
        address_clocks = LANES // timing.vmem_lanes_per_clock
        data_clocks = -(-size // timing.l1_bytes_per_clock)
        self.clocks[where] = np.maximum(np.maximum(address_clocks, data_clocks), counts)
        self._kept.append(lines)
        self._lines += lines.size
