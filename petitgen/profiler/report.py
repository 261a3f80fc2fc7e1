"""Profiles as rows of a table and as the JSON of `petitgen profile --json` (profile.schema.json)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from petitgen.profiler.result import Hot, Profile
from petitgen.profiler.words import microseconds, percent, size

SCHEMA = 1  # of the JSON: raised when a key goes or changes its meaning, not when one is added
COLUMNS = (
    "kernel", "problem", "time", "HBM", "MFMA", "bound by", "waves/SIMD", "KiB in flight/CU", "most", "CUs", "issue", "first stall",
)  # fmt: skip
HOT_COLUMNS = ("offset", "instruction", "issued", "time", "stalls")
STALLS_SHOWN = 3  # of one instruction


@dataclass(frozen=True, slots=True)
class Entry:
    """One profiled launch.

    name    of the kernel in a manifest, or its symbol
    shape   (m, n, k) of a GEMM;  slices: workgroups that share an output tile; None for other kernels
    """

    name: str
    shape: tuple[int, int, int] | None
    slices: int | None
    profile: Profile

    @property
    def problem(self) -> str:
        """What was computed, for people: 16x8192x8192, 4 slices."""
        if self.shape is None:
            return self.profile.problem.name if self.profile.problem else "-"
        sliced = f", {self.slices} slices" if self.slices and self.slices > 1 else ""
        return "x".join(map(str, self.shape)) + sliced

    @property
    def title(self) -> str:
        return f"{self.name} at {self.problem}" if self.problem != "-" else self.name


@dataclass(frozen=True, slots=True)
class Failed:
    """A launch that could not be profiled, and why."""

    name: str
    shape: tuple[int, int, int] | None
    error: str


def row(entry: Entry) -> tuple[str, ...]:
    """The facts of one launch, under COLUMNS."""
    one = entry.profile
    first = f"{one.stalls[0].cause} {percent(one.stalls[0].share)}" if one.stalls else "-"
    return (
        entry.name,
        entry.problem,
        microseconds(one.time_us),
        percent(one.hbm_fraction),
        percent(one.mfma_fraction),
        one.bound,
        str(one.waves_per_simd),
        f"{one.bytes_in_flight_mean / 1024:.1f}",
        f"{one.bytes_in_flight_peak / 1024:.1f}",
        percent(one.cu_coverage),
        percent(one.issue_share),
        first,
    )


def hot_row(hot: Hot, total: float) -> tuple[str, ...]:
    """One instruction, under HOT_COLUMNS; time is its share of all wave-clocks, of which there are `total`."""
    stalls = ", ".join(f"{cause} {percent(clocks / total)}" for cause, clocks in hot.stalls[:STALLS_SHOWN])
    return f"{hot.pc:#x}", hot.text, str(hot.issues), percent(hot.clocks / total), stalls


def wave_clocks(profile: Profile) -> float:
    """Of the modelled CU, all causes and issue together; at least 1, to divide by."""
    return max(sum(hot.clocks for hot in profile.hot), 1.0)


def facts(profile: Profile) -> tuple[tuple[str, str], ...]:
    """What the model says of one launch, in (name, words) for people."""
    used, moved = profile.occupancy, profile.traffic
    x, y, z = profile.grid
    ideal = "roofline", f"{percent(profile.hbm_fraction)} of HBM, {percent(profile.mfma_fraction)} of MFMA"
    rates = f"L1 {percent(moved.l1_hit)}, L2 {percent(moved.l2_hit)}"
    rates += f", Infinity Cache {percent(moved.mall_hit)}" if moved.mall else ""
    return (
        ("device", f"{profile.product} ({profile.arch}), {profile.compute_units} CUs at {profile.clock_mhz:.0f} MHz"),
        (
            "time",
            f"{microseconds(profile.time_us)}, {microseconds(profile.launch_us)} of it to start and end the kernel",
        ),
        *((ideal,) if profile.problem else ()),
        ("bound by", profile.bound),
        ("grid", f"{x} x {y} x {z} workgroups of {profile.block} work-items"),
        (
            "CUs",
            f"{percent(profile.cu_coverage)} have work, balance {percent(profile.cu_balance)}, rounds {profile.rounds}",
        ),
        (
            "occupancy",
            f"{used.waves_per_simd} waves a SIMD, {used.workgroups_per_cu} workgroups a CU fit (limit: {used.limited_by});"
            f" {used.resident_workgroups:.1f} are there",
        ),
        (
            "takes",
            f"{used.registers} registers a lane, {used.lds_bytes} bytes of LDS, {used.scratch_bytes} of scratch a lane",
        ),
        (
            "in flight",
            f"{size(profile.bytes_in_flight_mean)} of loads a CU on average, {size(profile.bytes_in_flight_peak)} at most;"
            f" latency {profile.memory_latency:.0f} clocks",
        ),
        (
            "traffic",
            f"HBM {size(moved.hbm)}, L2 {size(moved.l2)}, L1 {size(moved.l1)}, LDS {size(moved.lds)}; hits: {rates}",
        ),
    )


def as_data(entries: Sequence[Entry], failed: Sequence[Failed] = ()) -> dict[str, Any]:
    """What --json prints."""
    profiles = [{"name": one.name, "shape": one.shape, "slices": one.slices, **asdict(one.profile)} for one in entries]
    return {"schema": SCHEMA, "profiles": profiles, "failed": [asdict(one) for one in failed]}
