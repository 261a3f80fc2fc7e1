"""The memory beyond the CUs: what workgroups that run at the same time share, and where their bytes come from.

Sharing is counted, not assumed: the workgroups of the first round are run up to where a load comes round again, and
the lines of each load are compared, within an XCD and across the device. Workgroups that run at the same time are
taken to keep in step, so that a line that several of them want is fetched once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.memory import BASE, DeviceMemory
from petitgen.profiler.machine import ATOMIC, LOAD, STORE, Sites
from petitgen.profiler.streams import lines_of
from petitgen.profiler.timing import Timing
from petitgen.profiler.trace import Recording, Site

Index = NDArray[np.int64]
Floats = NDArray[np.float64]
Buffer = tuple[int, int]  # an allocation: arena offset, bytes
_KINDS = {"load": LOAD, "store": STORE, "atomic": ATOMIC}


@dataclass(frozen=True, slots=True)
class Sharing:
    """By site: lines wanted in an XCD, and on the device, over lines asked for by its workgroups. 1 is no sharing."""

    xcd: Floats
    device: Floats


def sharing(recording: Recording, numbers: Index, timing: Timing) -> Sharing:
    """From a recording of one wave of each of the workgroups `numbers`, which run at the same time."""
    count = len(recording.sites)
    xcd, device = np.ones(count), np.ones(count)
    for site in range(count):
        chosen = [(waves, recording.accesses[access]) for s, waves, access in recording.events if s == site]
        if not chosen or recording.sites[site].space != "memory" or recording.sites[site].kind != "load":
            continue
        addresses = np.concatenate([a for _, (a, _) in chosen])
        masks = None
        if any(active is not None for _, (_, active) in chosen):
            masks = np.concatenate([np.ones(a.shape, bool) if m is None else m for _, (a, m) in chosen])
        waves = np.concatenate([w for w, _ in chosen])
        counts, _, lines = lines_of(addresses, masks, recording.sites[site].size, timing.l2_line)
        if not lines.size:
            continue
        where = np.repeat(numbers[waves] % timing.xcds, counts)
        xcd[site] = np.unique(lines * timing.xcds + where).size / lines.size
        device[site] = np.unique(lines).size / lines.size
    return Sharing(xcd, device)


@dataclass(frozen=True, slots=True)
class Origin:
    """By site, of each byte that leaves an L1: what goes to the Infinity Cache, and to HBM; latency beyond the L1.

    footprint  bytes of device memory that the launch touches
    """

    mall: Floats
    hbm: Floats
    latency: Floats
    footprint: float

    def less(self, share: Floats, timing: Timing) -> Origin:
        """With only `share` of each site's bytes from beyond the L2."""
        latency = share * self.latency + (1 - share) * timing.l2_latency
        return Origin(self.mall * share, self.hbm * share, latency, self.footprint)


def allocations(recording: Recording, memory: DeviceMemory) -> list[Buffer | None]:
    """By site: the allocation that its first access is in."""
    found: list[Buffer | None] = [None] * len(recording.sites)
    for site, _, access in recording.events:
        if found[site] is None and recording.sites[site].space == "memory":
            addresses, active = recording.accesses[access]
            inside = addresses if active is None else addresses[active]
            if inside.size:
                found[site] = memory.allocation(int(inside.flat[0]))
    return found


def wanted(recording: Recording, where: list[Buffer | None], per_group: Index, timing: Timing) -> Floats:
    """By site: bytes that a workgroup asks for, each line of a buffer once; mean of the traced workgroups.

    Sites that share lines share their bytes in proportion to what each asks for.
    """
    group = np.repeat(np.arange(per_group.size - 1), np.diff(per_group))
    asked = np.zeros(len(recording.sites))
    lines_by_buffer: dict[Buffer, list[Index]] = {}
    for site, waves, access in recording.events:
        one, buffer = recording.sites[site], where[site]
        if one.space != "memory" or buffer is None:
            continue
        addresses, active = recording.accesses[access]
        counts, _, lines = lines_of(addresses, active, one.size, timing.l2_line)
        asked[site] += lines.size
        lines_by_buffer.setdefault(buffer, []).append(lines + (np.repeat(group[waves], counts) << 44))
    total = np.zeros(len(recording.sites))
    for buffer, pieces in lines_by_buffer.items():
        own = np.array([w == buffer for w in where])
        size = np.unique(np.concatenate(pieces)).size * timing.l2_line / (per_group.size - 1)
        total[own] = asked[own] / max(asked[own].sum(), 1) * size
    return total


def origin(
    sites: list[Site],
    where: list[Buffer | None],
    want: Floats,
    shared: Sharing,
    workgroups: int,
    warm: tuple[int, ...],
    timing: Timing,
) -> Origin:
    """Where the bytes of each site come from, over the whole launch.

    A buffer's bytes come from HBM once if the launch's footprint fits the last cache, and else for each round of
    workgroups anew, in proportion. What an XCD read in an earlier round is in its L2 in the same way.
    """
    count = len(sites)
    found = Origin(np.zeros(count), np.zeros(count), np.full(count, float(timing.l2_latency)), 0.0)
    reads = np.array([s.space == "memory" and s.kind == "load" and not s.scratch for s in sites], bool)
    chip = _reuse(where, reads, want * shared.device * workgroups, timing.mall_bytes or timing.l2_bytes)
    die = _reuse(where, reads, want * shared.xcd * workgroups / timing.xcds, timing.l2_bytes)
    for i, site in enumerate(sites):
        buffer = where[i]
        if site.space != "memory" or buffer is None:
            continue
        is_warm = buffer[0] + BASE in warm
        if not reads[i]:
            _written(i, site, is_warm, found, timing)
            continue
        cold = chip.cold[buffer] - (chip.first[buffer] if is_warm else 0.0)
        beyond = shared.xcd[i] * die.cold[buffer]
        if timing.mall_bytes:
            found.mall[i], found.hbm[i] = beyond, min(beyond, shared.device[i] * cold)
            far = cold * timing.hbm_latency + (1 - cold) * timing.mall_latency
            found.latency[i] += die.cold[buffer] * (far - timing.l2_latency)
        else:
            found.hbm[i] = shared.xcd[i] * cold
            found.latency[i] += cold * (timing.hbm_latency - timing.l2_latency)
    return replace(found, footprint=chip.footprint)


@dataclass(frozen=True, slots=True)
class _Reuse:
    """What a cache keeps of each buffer from one round of workgroups to the next.

    cold   share of what the rounds ask for that the cache does not have;  first: of that, read for the first time
    footprint  bytes of all buffers
    """

    cold: dict[Buffer, float]
    first: dict[Buffer, float]
    footprint: float


def _reuse(where: list[Buffer | None], reads: NDArray[np.bool_], asked: Floats, cache: int) -> _Reuse:
    """asked: bytes of each site over all rounds, what is shared in a round counted once."""
    rounds: dict[Buffer, float] = {}
    for buffer, read, size in zip(where, reads, asked, strict=True):
        if read and buffer is not None:
            rounds[buffer] = rounds.get(buffer, 0.0) + float(size)
    once = {b: min(float(b[1]), size) for b, size in rounds.items()}
    footprint = sum(once.values())
    fits = min(1.0, cache / max(footprint, 1.0))
    first = {b: fits * once[b] / max(size, 1.0) for b, size in rounds.items()}
    return _Reuse({b: min(1.0, first[b] + 1 - fits) for b in rounds}, first, footprint)


def refetched(missed: Floats, want: Floats, where: list[Buffer | None]) -> Floats | None:
    """By site: bytes a workgroup wants of its buffer over those that the L1 asked for; None if hardly any were asked for
    twice.

    missed, want: bytes a workgroup
    """
    share = np.ones(want.size)
    twice = 0.0
    for buffer in {b for b in where if b is not None}:
        own = np.array([w == buffer for w in where])
        asked, once = missed[own].sum(), want[own].sum()
        if 0 < once < 0.95 * asked:
            share[own] = once / asked
            twice += asked - once
    return share if twice > 0.05 * missed.sum() else None


def _written(i: int, site: Site, is_warm: bool, found: Origin, timing: Timing) -> None:
    """Stores and atomics: through L2 to memory; scratch and what is warm stays in the last cache."""
    stays = is_warm or site.scratch or site.kind == "atomic"
    if timing.mall_bytes:
        found.mall[i], found.hbm[i] = (0.0 if site.scratch else 1.0), (0.0 if stays else 1.0)
    else:
        found.hbm[i] = 0.0 if stays else 1.0
    if site.kind == "atomic" and timing.mall_bytes:
        found.latency[i] = timing.mall_latency


def as_sites(sites: list[Site], source: Origin) -> Sites:
    """What the simulation wants to know of the sites."""
    if not sites:
        return Sites(np.zeros(1, np.int64), np.zeros(1), np.zeros(1), np.zeros(1))
    kinds = np.array([_KINDS[s.kind] for s in sites], np.int64)
    return Sites(kinds, source.latency, source.mall, source.hbm)
