"""What these kernels were to reach, beside what they do, for one architecture.

    python benchmarks/petit.py --arch gfx942 --json benchmarks/results/gfx942-nvfp4-bf16.json      # first, for the speedups
    python benchmarks/targets.py [--arch gfx942] [--results benchmarks/results] [--json FILE] [--markdown FILE]

It builds every kernel of the architecture with each compiler that is there (hipcc or clang-19, and the clang of the ziglang
wheel), into a temporary directory, and

1. counts their hot loops (benchmarks/loops.py; llvm-mca 19 for loops of matrix instructions),
2. asks the runtime which of them it takes for the weights of real models, and models bytes in flight,
3. reads what benchmarks/petit.py wrote for this architecture: times, rooflines, compute units with work.

The kernels of the first compiler are those that are selected and modelled. "in part": some of the compilers, kernels or
problems that a line is about reach the target.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone, installed or not

from petit.sides import COMPUTE_UNITS
from targets import lines
from targets.kernels import Built, Measured, builds, measure
from targets.modelled import read

ROOT = Path(__file__).resolve().parents[1]


def say(text: str) -> None:
    """Progress, where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


COLUMNS = ("what", "Petit 0.0.3", "prototype", "reach", "found", "reached")
KERNELS = (
    "kernel", "compiler", "loop", "VALU/8", "with A", "registers", "scratch", "waves", "KiB in flight", "MFMA bound/mca",
)  # fmt: skip


def cells(line: lines.Line) -> tuple[str, ...]:
    """Under COLUMNS."""
    return line.what, line.petit, line.prototype, line.reach, line.found, line.met


def kernel_cells(one: Measured) -> tuple[str, ...]:
    """Under KERNELS."""
    f = one.figures
    resident = one.loop == "resident"
    return (
        one.name,
        one.compiler,
        one.loop,
        f"{f.valu_per_8:.2f}" if f.valu_per_8 else "-",
        f"{one.with_a:.2f}" if one.with_a else "-",
        str(f.registers),
        str(f.scratch_bytes),
        str(f.waves),
        f"{one.in_flight / 1024:.0f}",
        f"{f.efficiency:.3f}" if f.efficiency and not resident else "-",
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def plain(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in columns."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)]  # fmt: skip


def to_json(arch: str, built: Sequence[Built], found: Sequence[lines.Line], measured: Sequence[Measured]) -> str:
    """All figures."""
    data = {
        "arch": arch,
        "compilers": [one.version for one in built],
        "targets": [asdict(line) for line in found],
        "kernels": [
            {"valu_per_8": one.figures.valu_per_8, "efficiency": one.figures.efficiency, **asdict(one)}
            for one in measured
        ],
    }
    return json.dumps(data, indent=1) + "\n"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="gfx942", choices=tuple(COMPUTE_UNITS))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="of benchmarks/petit.py")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write both tables there")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as directory:
        built = builds(options.arch, Path(directory), options.jobs, say)
        for one in built:
            for name, why in one.failed:
                say(f"FAILED  {name} with {one.label}: {why}")
        measured: list[Measured] = []
        for one in built:
            say(f"counting {len(one.manifest.kernels)} kernels of {one.label}")
            measured += measure(one, options.arch)
        found = list(lines.static(options.arch, built, measured))
    results = read(options.results, options.arch)
    for result in results:
        found += lines.modelled(options.arch, result)
    if not results:
        say(f"{options.results}: no results for {options.arch}, so no times; benchmarks/petit.py --json writes them")
    rows, kernels = [cells(line) for line in found], [kernel_cells(one) for one in measured]
    versions = f"{options.arch}; " + "; ".join(one.version for one in built)
    print(versions, "", *plain(COLUMNS, rows), "", *plain(KERNELS, kernels), sep="\n")
    if options.json:
        options.json.write_text(to_json(options.arch, built, found, measured))
    if options.markdown:
        text = [versions, "", *markdown(COLUMNS, rows), "", *markdown(KERNELS, kernels)]
        options.markdown.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
