"""What the timing model says: from the results of benchmarks/petit.py, and of our decode kernels' bytes in flight."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from petit.sides import COMPUTE_UNITS, Setting, our_selection
from petit.summary import DECODE_ROWS, LARGE_WEIGHT, PREFILL_ROWS

from petitgen.profiler import profile_gemm
from petitgen.tune.shapes import ROWS, weights
from targets.kernels import Built

RANKS = 8  # "TP 8"
MANY_ROWS = tuple(m for m in ROWS if m >= PREFILL_ROWS)
TILED_ROWS = (64, 128, 256)
DECODE_CHECKED = (1, 16)  # rows at which bytes in flight are modelled


@dataclass(frozen=True, slots=True)
class Case:
    """One problem of a result file. ours, petit: the Side of petit.sides as JSON; petit None where it refuses."""

    m: int
    n: int
    k: int
    sharded: bool  # a weight that one of eight ranks has
    ours: dict[str, Any]
    petit: dict[str, Any] | None

    @property
    def speedup(self) -> float | None:
        """Petit's time over ours."""
        return self.petit["us"] / self.ours["us"] if self.petit else None

    @property
    def most(self) -> float | None:
        """Petit's time over that of a kernel which is all that the model allows."""
        return self.petit["us"] / self.ours["limit_us"] if self.petit else None


@dataclass(frozen=True, slots=True)
class Results:
    """One file that `benchmarks/petit.py --json` wrote. contract: "nvfp4 bf16"."""

    file: str
    contract: str
    compute_units: int
    cases: tuple[Case, ...]

    def decode_large(self) -> list[Case]:
        """Few rows, and weights large enough for bandwidth to decide."""
        return [case for case in self.cases if case.m <= DECODE_ROWS and case.n * case.k >= LARGE_WEIGHT]

    def prefill(self) -> list[Case]:
        """Many rows."""
        return [case for case in self.cases if case.m >= PREFILL_ROWS]

    def sharded_16(self) -> list[Case]:
        """16 rows on one of eight ranks."""
        return [case for case in self.cases if case.m == DECODE_ROWS and case.sharded]

    def sharded_decode(self) -> list[Case]:
        """Few rows on one of eight ranks."""
        return [case for case in self.cases if case.m <= DECODE_ROWS and case.sharded]


@dataclass(frozen=True, slots=True)
class Spread:
    """Least and mean of a figure, and of how many."""

    least: float
    mean: float
    count: int


def read(directory: Path, arch: str) -> list[Results]:
    """All result files of an architecture, in order of name. SystemExit for one that cannot be read."""
    found = []
    for path in sorted(directory.glob("*.json")):
        try:
            data = json.loads(path.read_text())
            if "targets" not in data and data["arch"] == arch:  # what targets.py writes itself is no input
                found.append(_results(path.name, data))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path}: not what benchmarks/petit.py --json writes: {error!r}") from error
    return found


def _results(file: str, data: dict[str, Any]) -> Results:
    sharded = {(w["n"], w["k"]) for w in data["shapes"] if any(ranks == RANKS for _, ranks, _ in w["uses"])}
    cases = tuple(
        Case(row["m"], row["n"], row["k"], (row["n"], row["k"]) in sharded, row["ours"], row["petit"])
        for row in data["rows"]
        if row["ours"]
    )
    return Results(file, f"{data['weights']} {data['activations']}", data["compute_units"], cases)


def spread(cases: Sequence[Case], figure: Callable[[Case], float | None]) -> Spread | None:
    """None where no case has the figure."""
    values = [value for value in map(figure, cases) if value is not None]
    return Spread(min(values), mean(values), len(values)) if values else None


def geomean(cases: Sequence[Case], figure: Callable[[Case], float | None]) -> float | None:
    """None where no case has the figure."""
    values = [value for value in map(figure, cases) if value]
    return math.exp(mean(map(math.log, values))) if values else None


@dataclass(frozen=True, slots=True)
class Selected:
    """Which kernels the runtime takes at these rows, and for how many of the weights: (name, count), most first."""

    rows: tuple[int, ...]
    kernels: tuple[tuple[str, int], ...]


def selected(built: Built, arch: str, contract: str, rows: Sequence[int], least: int = 0) -> Selected:
    """Over the weights of petitgen.tune.shapes with `least` elements or more."""
    setting = _setting(built, arch, contract)
    counts: dict[str, int] = {}
    for weight in weights():
        for m in rows if weight.n * weight.k >= least else ():
            name = our_selection(setting, (m, weight.n, weight.k)).kernel.name
            counts[name] = counts.get(name, 0) + 1
    return Selected(tuple(rows), tuple(sorted(counts.items(), key=lambda one: -one[1])))


def peaks_in_flight(built: Built, arch: str, contract: str) -> tuple[Spread, int] | None:
    """Most bytes in flight a CU over the large weights at few rows, and the least waves a SIMD that fit."""
    setting = _setting(built, arch, contract)
    peaks, waves = [], []
    for weight in weights():
        for m in DECODE_CHECKED:
            if weight.n * weight.k < LARGE_WEIGHT:
                continue
            shape = m, weight.n, weight.k
            chosen = our_selection(setting, shape)
            directory = setting.generated / arch
            found = profile_gemm(chosen.kernel, directory, *shape, chosen.slices, arch, setting.compute_units)
            peaks.append(float(found.bytes_in_flight_peak))
            waves.append(found.waves_per_simd)
    return (Spread(min(peaks), mean(peaks), len(peaks)), min(waves)) if peaks else None


def _setting(built: Built, arch: str, contract: str) -> Setting:
    fmt, *types = contract.split()  # "nvfp4 bf16"; "nvfp4 fp8 bf16" with results of another type
    return Setting(arch, fmt, "_".join(types), COMPUTE_UNITS[arch], Path(), built.root)
