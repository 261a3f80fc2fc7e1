"""From a simulated CU to a Profile of the launch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.mfma_table import shape
from petitgen.emulator.sanitizer.lines import LineTable
from petitgen.profiler.classes import LDS, MFMA, SALU, TRANS, VALU, VMEM
from petitgen.profiler.cu.columns import ISSUE, SIMDS
from petitgen.profiler.machine import Counts
from petitgen.profiler.model import Run
from petitgen.profiler.result import (
    CAUSES,
    CLASSES,
    Bound,
    ClassUse,
    Event,
    Hot,
    Problem,
    Profile,
    Roofline,
    Stall,
    Traffic,
)

Floats = NDArray[np.float64]
_CAUSES = tuple(CAUSES)
# A resource that is busy for this share of the time is what binds; else waves wait for latencies.
BINDS = 0.7


def summarize(run: Run, problem: Problem | None, timeline: bool, seconds: float) -> Profile:
    """All that is said about a run. seconds: what the model took."""
    timing, counts = run.timing, run.counts
    moved = _traffic(run)
    us, bounds = _time(run, moved)
    roofline = _roofline(run, problem, us)
    total = float(counts.stalls.sum() + counts.issues.sum() * timing.issue_clocks)
    workgroups = int(np.prod(run.grid))
    busiest = run.placement.numbers.size
    return Profile(
        kernel=run.kernel.name,
        arch=run.program.code.arch,
        product=timing.device,
        compute_units=timing.compute_units,
        clock_mhz=float(timing.clock_mhz),
        grid=run.grid,
        block=run.block,
        problem=problem,
        time_us=us + timing.launch_us,
        launch_us=timing.launch_us,
        clocks=us * timing.clock_mhz,
        bound=bounds[0].name if bounds and bounds[0].share >= BINDS else "latency",
        bounds=bounds,
        hbm_fraction=None if problem is None else problem.bytes / roofline.hbm_peak / us,
        mfma_fraction=_mfma_fraction(problem, roofline, us),
        cu_coverage=min(1.0, workgroups / timing.compute_units),
        cu_balance=workgroups / (busiest * min(workgroups, timing.compute_units)),
        rounds=-(-busiest // run.occupancy.workgroups_per_cu),
        workgroups=workgroups,
        occupancy=run.occupancy,
        bytes_in_flight_mean=float(counts.totals[0] / max(counts.totals[2], 1)),
        bytes_in_flight_peak=int(np.cumsum(counts.flight).max(initial=0)),
        memory_latency=float(counts.totals[4] / max(counts.totals[5], 1)),
        issue_share=float(counts.issues.sum() * timing.issue_clocks / max(total, 1)),
        stalls=_stalls(counts, total),
        classes=_classes(run),
        hot=_hot(run),
        traffic=moved,
        roofline=roofline,
        timeline=_timeline(run) if timeline else (),
        notes=_notes(run),
        seconds=seconds,
    )


def _time(run: Run, moved: Traffic) -> tuple[float, tuple[Bound, ...]]:
    """Time without the launch, and what each resource alone would take of it."""
    us = run.clocks / run.timing.clock_mhz
    bounds = _bounds(run, moved, us)
    longest = max([us, *(b.us for b in bounds if b.name in ("HBM", "MALL", "L2"))])
    if longest > us:  # the whole device cannot be faster than its memory
        bounds = tuple(Bound(b.name, b.us, b.us / longest) for b in bounds)
    return longest, bounds


def _scale(run: Run) -> float:
    """From what the simulated workgroups did to the whole launch."""
    return float(np.prod(run.grid)) / run.simulated.size


def _traffic(run: Run) -> Traffic:
    counts, sites, scale = run.counts, run.program.sites, _scale(run)
    asked, beyond = counts.sites[:, 0] * scale, counts.sites[:, 1] * scale
    in_lds = np.array([s.space == "lds" for s in sites], bool)
    loads = np.array([s.kind == "load" and s.space == "memory" for s in sites], bool)
    scratch = np.array([s.scratch for s in sites], bool)
    n = len(sites)
    asked, beyond = asked[:n], beyond[:n]
    lds, l1, l2 = asked[in_lds].sum(), asked[~in_lds].sum(), beyond.sum()
    mall, hbm = (beyond * run.source.mall[:n]).sum(), (beyond * run.source.hbm[:n]).sum()
    plain = lds / run.timing.lds_bytes_per_clock
    before = mall if run.timing.mall_bytes else hbm
    return Traffic(
        lds=float(lds),
        lds_conflict_clocks=max(0.0, float(counts.busy[LDS] * scale - plain)),
        l1=float(l1),
        l2=float(l2),
        mall=float(mall),
        hbm=float(hbm),
        scratch=float(asked[scratch].sum()),
        l1_hit=_hit(asked[loads].sum(), beyond[loads].sum()),
        l2_hit=_hit(l2, before),
        mall_hit=_hit(mall, hbm) if run.timing.mall_bytes else 0.0,
    )


def _hit(asked: float, missed: float) -> float:
    return float(max(0.0, 1 - missed / asked)) if asked > 0 else 0.0


def _bounds(run: Run, moved: Traffic, us: float) -> tuple[Bound, ...]:
    """Time that each resource alone needs, longest first."""
    timing, counts = run.timing, run.counts
    queue = run.placement.numbers.size / run.simulated.size / timing.clock_mhz  # clocks simulated -> us of the queue
    vector = counts.busy[VALU] + counts.busy[TRANS] + timing.mfma_issue_clocks * _issues(run, MFMA)
    alone = {
        "HBM": moved.hbm / (timing.hbm_gbps * 1e3 * timing.hbm_efficiency),
        "L2": moved.l2 / (timing.l2_bytes_per_clock * timing.xcds * timing.clock_mhz),
        "L1": counts.busy[VMEM] * queue,
        "LDS": counts.busy[LDS] * queue,
        "MFMA": counts.busy[MFMA] / SIMDS * queue,
        "VALU": vector / SIMDS * queue,
    }
    if timing.mall_bytes:
        alone["MALL"] = moved.mall / (timing.mall_gbps * 1e3 * timing.mall_efficiency)
    bounds = [Bound(name, float(t), float(t / us)) for name, t in alone.items() if t > 0]
    return tuple(sorted(bounds, key=lambda b: -b.us))


def _issues(run: Run, kind: int) -> int:
    return int(run.counts.issues[run.table.kind == kind].sum())


def _roofline(run: Run, problem: Problem | None, us: float) -> Roofline:
    timing = run.timing
    peak = 0.0
    for mnemonic in {ins.mnemonic for ins, n in zip(run.table.instructions, run.counts.issues, strict=True) if n}:
        if mnemonic.startswith("v_mfma"):
            s = shape(mnemonic, run.program.code.arch)
            flops = 2 * s.m * s.n * s.k * s.blocks / (4 * timing.passes(mnemonic))
            peak = max(peak, flops * SIMDS * timing.compute_units * timing.clock_mhz)
    return Roofline(
        hbm_peak=timing.hbm_gbps * 1e3,
        hbm_achievable=timing.hbm_gbps * 1e3 * timing.hbm_efficiency,
        mfma_peak=peak,
        intensity=None if problem is None or not problem.bytes else problem.flops / problem.bytes,
        flops_per_us=None if problem is None else problem.flops / us,
    )


def _mfma_fraction(problem: Problem | None, roofline: Roofline, us: float) -> float | None:
    return None if problem is None or not roofline.mfma_peak else problem.flops / roofline.mfma_peak / us


def _stalls(counts: Counts, total: float) -> tuple[Stall, ...]:
    by_cause = counts.stalls.sum(axis=0)
    found = [Stall(c, float(n), float(n / max(total, 1))) for c, n in zip(_CAUSES, by_cause, strict=True) if n > 0]
    return tuple(sorted(found, key=lambda stall: -stall.clocks))


def _classes(run: Run) -> tuple[ClassUse, ...]:
    clocks = max(float(run.counts.totals[2]), 1.0)
    uses = []
    for number, name in enumerate(CLASSES):
        issues = _issues(run, number)
        if issues:
            units = SIMDS if number in (VALU, TRANS, MFMA, SALU) else 1
            busy = float(run.counts.busy[number]) / units
            uses.append(ClassUse(name, issues, busy, busy / clocks))
    return tuple(uses)


def _hot(run: Run) -> tuple[Hot, ...]:
    """By instruction of the kernel; blocks that overlap share theirs."""
    lines = LineTable(run.program.code.elf)
    by_pc: dict[int, tuple[int, Floats, int]] = {}
    for i, ins in enumerate(run.table.instructions):
        if run.counts.issues[i] or run.counts.stalls[i].any():
            issues, stalls, _ = by_pc.get(ins.pc, (0, np.zeros(len(_CAUSES)), i))
            by_pc[ins.pc] = issues + int(run.counts.issues[i]), stalls + run.counts.stalls[i], i
    found = []
    for pc, (issues, stalls, i) in by_pc.items():
        causes = [(_CAUSES[c], float(stalls[c])) for c in np.argsort(-stalls) if stalls[c] > 0]
        clocks = float(issues * run.timing.issue_clocks + stalls.sum())
        text, kind = run.table.instructions[i].text, CLASSES[run.table.kind[i]]
        source = lines.at(pc)
        found.append(Hot(pc - run.kernel.entry, text, kind, source, issues, clocks, tuple(causes)))
    return tuple(sorted(found, key=lambda hot: -hot.clocks))


def _timeline(run: Run) -> tuple[Event, ...]:
    counts = run.counts
    waves = counts.placed.shape[1]
    found = []
    for w, start, end, state, i, group in counts.events[: int(counts.totals[3])].tolist():
        in_group = next(k for k in range(waves) if counts.placed[group, k] % 64 == w)
        found.append(
            Event(
                simd=int(counts.placed[group, in_group]) // 64,
                slot=w,
                workgroup=group,
                wave=in_group,
                start=start,
                end=end,
                state="issue" if state == ISSUE else _CAUSES[state],
                name=CLASSES[run.table.kind[i]],
                pc=run.table.instructions[i].pc - run.kernel.entry,
            )
        )
    return tuple(sorted(found, key=lambda event: event.start))


def _notes(run: Run) -> tuple[str, ...]:
    timing = run.timing
    cache = "Infinity Cache" if timing.mall_bytes else "L2"
    return (
        *run.notes,
        f"{run.source.footprint / 1e6:.1f} MB of device memory are read; what the launch calls warm is in the {cache},"
        " everything else is cold",
        "workgroups that run at the same time keep in step; workgroups of a CU share nothing in its L1",
        "instruction fetch costs nothing but after a taken branch; clocks do not drop under load",
    )
