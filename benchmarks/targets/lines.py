"""The table of targets: what is to be reached, what is found, and whether it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from petit.summary import LARGE_WEIGHT

from petitgen.profiler.timing import load_timing
from targets.kernels import Built, Measured
from targets.modelled import MANY_ROWS, TILED_ROWS, Case, Results, Spread, geomean, peaks_in_flight, selected, spread

YES, PART, NO, UNKNOWN = "yes", "in part", "no", "-"
DECODE = 16


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. petit, prototype: what those have; met: YES, PART (some of what is counted does), NO, UNKNOWN."""

    what: str
    petit: str
    prototype: str
    reach: str
    found: str
    met: str


@dataclass(frozen=True, slots=True)
class Count:
    """A target for vector instructions for 8 weights in the hot loop."""

    weights: str
    activations: str
    m: int
    petit: str
    prototype: str
    most: float


COUNTS = {
    "gfx942": (
        Count("nvfp4", "bf16", 16, "16.8", "13.1", 13.1),
        Count("nvfp4", "bf16", 8, "16.8", "10.6", 10.6),
        Count("nvfp4", "bf16", 4, "16.8", "-", 9.5),
        Count("mxfp4", "bf16", 16, "16.5", "11.0", 11.0),
        Count("mxfp4", "bf16", 8, "16.5", "9.6", 9.6),
        Count("nvfp4", "fp16", 16, "12.5", "12.1", 12.0),
        Count("mxfp4", "fp16", 16, "-", "10.0", 10.0),
    ),
    "gfx90a": (
        Count("nvfp4", "bf16", 16, "29", "-", 20.0),
        Count("nvfp4", "fp16", 16, "16.5", "-", 13.0),
        Count("mxfp4", "bf16", 16, "-", "-", 20.0),
        Count("mxfp4", "fp16", 16, "-", "-", 13.0),
    ),
}
WAVES, IN_FLIGHT = 4, 36 << 10
PREFILL_RATIO, TILED_RATIO = 0.98, 0.9
ROOFLINE, COVERAGE = 0.85, 0.95
SPEEDUP, SHARDED_SPEEDUP = 1.7, 2.5


def verdict(values: Sequence[float], holds: Callable[[float], bool]) -> str:
    """YES if all hold, NO if none, PART otherwise; UNKNOWN without any."""
    kept = sum(map(holds, values))
    return UNKNOWN if not values else YES if kept == len(values) else PART if kept else NO


def at_least(reach: float) -> Callable[[float], bool]:
    """For verdict()."""
    return lambda value: value >= reach


def static(arch: str, built: Sequence[Built], measured: Sequence[Measured]) -> Iterator[Line]:
    """What the code objects say."""
    for count in COUNTS[arch]:
        yield from _counts(count, measured)
    yield _scratch(built, measured)
    for contract in _contracts(measured):
        yield from _decode(arch, contract, built, measured)
    for contract in _contracts(measured):
        yield from _matrix(arch, contract, built, measured)


def _contracts(measured: Sequence[Measured]) -> list[str]:
    return list(dict.fromkeys(contract_text(one.contract) for one in measured))


def contract_text(contract: str) -> str:
    """gemm_nvfp4_bf16 -> "nvfp4 bf16"."""
    return " ".join(contract.split("_")[1:])


def _counts(count: Count, measured: Sequence[Measured]) -> Iterator[Line]:
    contract = f"{count.weights} {count.activations}"
    what = f"VALU per 8 weights, {contract}, m <= {count.m}"
    ours = [
        one
        for one in measured
        if one.loop == "resident" and one.tile.m == count.m and contract_text(one.contract) == contract
    ]
    apart = [one for one in ours if one.apart]
    hot = [one.figures.valu_per_8 or 0.0 for one in apart]
    met = verdict(hot, lambda value: value <= count.most)
    reach = f"<= {count.most:g}"
    yield Line(what, count.petit, count.prototype, reach, _by_compiler(apart, _hot) or "no such kernel", met)
    yield Line(f"{what}, with the staging of A", "", "", "", _by_compiler(ours, lambda one: one.with_a), UNKNOWN)


def _hot(one: Measured) -> float | None:
    return one.figures.valu_per_8


def _by_compiler(ours: Sequence[Measured], figure: Callable[[Measured], float | None], places: int = 2) -> str:
    parts = []
    for compiler, group in groupby(ours, key=lambda one: one.compiler):
        values = [value for value in map(figure, group) if value is not None]
        if values:
            least, most = f"{min(values):.{places}f}", f"{max(values):.{places}f}"
            parts.append(f"{compiler}: {least if least == most else f'{least} to {most}'}")
    return ", ".join(parts)


def _scratch(built: Sequence[Built], measured: Sequence[Measured]) -> Line:
    using = [one for one in measured if one.figures.scratch_bytes or one.figures.spills]
    refused = [name for one in built for name, _ in one.failed]
    counts = ", ".join(f"{one.label}: {len(one.manifest.kernels)} kernels" for one in built)
    names = ", ".join([*(f"{one.name} ({one.compiler})" for one in using), *refused])
    found = f"{counts}, " + (f"scratch, spills or refused: {names}" if names else "none")
    met = NO if names else YES if len(built) > 1 else PART
    return Line("scratch and spills", "5 of 39 tiles", "0", "none, either compiler", found, met)


def _decode(arch: str, contract: str, built: Sequence[Built], measured: Sequence[Measured]) -> Iterator[Line]:
    """Of the kernels that large weights get at few rows."""
    taken = dict(selected(built[0], arch, contract, (1, 2, 4, 8, 16), LARGE_WEIGHT).kernels)
    ours = [one for one in measured if one.name in taken]
    waves = [float(one.figures.waves) for one in ours]
    kib = [one.in_flight / 1024 for one in ours]
    what = f"waves a SIMD, {contract}, m <= {DECODE}, weights >= 32 M"
    yield Line(what, "1", "4 to 5", f">= {WAVES}", _by_compiler(ours, lambda one: one.figures.waves, 0),
               verdict(waves, at_least(WAVES)))  # fmt: skip
    what = f"KiB of weights in flight a CU, {contract}, the same, static"
    yield Line(what, "< 16", "36", ">= 36", _by_compiler(ours, lambda one: one.in_flight / 1024, 0),
               verdict(kib, at_least(IN_FLIGHT / 1024)))  # fmt: skip
    peaks = peaks_in_flight(built[0], arch, contract)
    if peaks:
        found, _ = peaks
        text = f"least {found.least / 1024:.0f}, mean {found.mean / 1024:.0f} ({built[0].label})"
        yield Line(f"the most KiB in flight a CU, {contract}, modelled", "", "", ">= 36", text,
                   YES if found.least >= IN_FLIGHT else PART if found.mean >= IN_FLIGHT else NO)  # fmt: skip


def _matrix(arch: str, contract: str, built: Sequence[Built], measured: Sequence[Measured]) -> Iterator[Line]:
    """Of the kernels that the runtime takes at many and at middling rows."""
    for rows, ratio, petit, prototype in (
        (MANY_ROWS, PREFILL_RATIO, "0.55 default, 0.82 best", "0.985"),
        (TILED_ROWS, TILED_RATIO, "0.45 to 0.80", "0.83 to 0.87"),
    ):
        taken = selected(built[0], arch, contract, rows).kernels
        total = sum(count for _, count in taken)
        at = f"m >= {rows[0]}" if rows is MANY_ROWS else f"m = {rows[0]} to {rows[-1]}"
        for name, count in taken:
            ours = [one for one in measured if one.name == name]
            if ours[0].loop == "resident":
                continue
            found = [one.figures.efficiency for one in ours if one.figures.efficiency]
            text = _by_compiler(ours, lambda one: one.figures.efficiency, 3) or "llvm-mca is not there"
            what = f"MFMA bound / llvm-mca, {contract}, {at}: {name.split('_')[-2]}, {count} of {total} problems"
            yield Line(what, petit, prototype, f">= {ratio}", text, verdict(found, at_least(ratio)))


def modelled(arch: str, results: Results) -> Iterator[Line]:
    """What a run of benchmarks/petit.py found."""
    streams = load_timing(arch).hbm_efficiency
    name = results.contract
    large, many = results.decode_large(), results.prefill()
    for what, cases, share, key in (
        ("HBM, m <= 16, weights >= 32 M, of the documented peak", large, 1.0, "hbm"),
        (f"HBM, the same, of what streams reach ({streams:.0%} of it)", large, streams, "hbm"),
        ("MFMA, m >= 1024, of the documented peak", many, 1.0, "mfma"),
    ):
        yield _share(f"{name}: {what}", cases, _part(key, share), ROOFLINE)
    yield _share(f"{name}: CUs with work, m = 16, TP 8", results.sharded_16(), _part("coverage", 1.0), COVERAGE)
    everything = [case for case in results.cases if case.petit]
    sharded = [case for case in results.sharded_decode() if case.petit]
    yield from _speedups(name, everything, sharded)


def _part(key: str, of: float) -> Callable[[dict[str, float]], float]:
    return lambda side: side[key] / of


def _share(what: str, cases: Sequence[Case], figure: Callable[[dict[str, float]], float], reach: float) -> Line:
    ours = spread(cases, lambda case: figure(case.ours))
    petit = spread(cases, lambda case: figure(case.petit) if case.petit else None)
    values = [figure(case.ours) for case in cases]
    good = sum(value >= reach for value in values)
    found = f"{_text(ours)}; {good} of {len(values)} problems reach it" if ours else "no such problem"
    return Line(what, _text(petit), "", f">= {reach:.0%}", found, verdict(values, at_least(reach)))


def _text(found: Spread | None) -> str:
    return f"least {found.least:.0%}, mean {found.mean:.0%}" if found else "-"


def _speedups(name: str, everything: Sequence[Case], sharded: Sequence[Case]) -> Iterator[Line]:
    for what, cases, reach in (
        ("all problems", everything, SPEEDUP),
        ("TP 8, m <= 16", sharded, SHARDED_SPEEDUP),
    ):
        found, most = geomean(cases, lambda case: case.speedup), geomean(cases, lambda case: case.most)
        if found and most:
            text = f"{found:.2f} over {len(cases)} problems; a perfect kernel: {most:.2f}"
            yield Line(f"{name}: times as fast as Petit, {what}, geomean", "1", "", f">= {reach}", text,
                       YES if found >= reach else NO)  # fmt: skip
    values = [case.speedup for case in everything if case.speedup]
    if values:
        slower = sum(value < 1 for value in values)
        text = f"least {min(values):.2f}; slower on {slower} of {len(values)}"
        yield Line(f"{name}: never slower than Petit", "", "", ">= 1", text, NO if slower else YES)
