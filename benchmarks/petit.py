"""Petit 0.0.3 and this project, side by side on the same model of the same device.

    python benchmarks/petit.py [--arch gfx942] [--format nvfp4] [--activations bf16] [--quick] [--json F] [--plot F.svg]

It fetches petit-kernel 0.0.3 with pip into a temporary directory and reads the code objects in its wheel; nothing of it
stays. Then, for the weights of Llama-3-70B, Llama-3-8B and gpt-oss-120b at 1, 2, 4 and 8 ranks and 1 to 4096 rows of A:

1. Every kernel that either side takes is run on the emulated device, on a small problem, and held against float64:
   Petit's weights and scales are laid out by its own repack kernels, on the same device.
2. The hot loops are counted (benchmarks/loops.py).
3. Every problem is run through the timing model (petitgen.profiler), with the same parameters for both: Petit with
   the tile that its chooser takes, ours with the kernel and slices that the runtime selects.

Petit's chooser does not look at the device, and a user can tune it by hand: --best also models six of its tiles that
suit the problem and the number of compute units, and compares with the fastest. Published figures are of such tiles.

Nothing here is measured on hardware: docs/profiler.md says what the model leaves out. A shape that Petit refuses
(K % 256, N % 64, MXFP4 with fp16) is listed, and left out of every mean. gpt-oss-120b: its attention projections; its
experts are a grouped GEMM, which Petit 0.0.3 has not, and their K of 2880 it refuses.

Our kernels have to be built (petitgen build). The exit status is 1 if a result is wrong or a problem failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the clone, installed or not

import loops
from petit import checks, loopfigures, summary, wheel
from petit.plot import draw
from petit.sides import COMPUTE_UNITS, Row, Setting, model

from petitgen.errors import PetitgenError
from petitgen.tune.shapes import MODELS, RANKS, ROWS, Weight, weights
from runtime.errors import RuntimeLibraryError

ROOT = Path(__file__).resolve().parents[1]
QUICK_ROWS, QUICK_RANKS = (1, 16, 256, 4096), (1, 8)
CHUNK = 4  # problems a worker takes at a time: neighbours share kernels, whose traces it keeps


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run found."""

    setting: Setting
    weights: tuple[Weight, ...]
    checks: tuple[checks.Check, ...]
    loops: tuple[tuple[str, loops.Figures], ...]
    rows: tuple[Row, ...]
    summary: summary.Summary

    @property
    def ok(self) -> bool:
        """All results right, and every problem modelled."""
        return not any(check.wrong for check in self.checks) and not self.summary.failed


def say(text: str) -> None:
    """Progress, where it does not mix with the result."""
    print(text, file=sys.stderr, flush=True)


def run(setting: Setting, found: tuple[Weight, ...], ms: Sequence[int], jobs: int) -> Run:
    """The three steps of this file's first page."""
    shapes = [(m, weight.n, weight.k) for m in ms for weight in found]
    kernels = checks.used(setting, shapes)
    checked = []
    for check in checks.check(setting, kernels):
        checked.append(check)
        say(f"{'WRONG' if check.wrong else 'right'}  {check.kernel} at {check.m}x{check.n}x{check.k} {check.wrong}")
    figures = tuple(loopfigures.measure(setting, kernels))
    rows = modelled(setting, shapes, jobs)
    return Run(setting, found, tuple(checked), figures, tuple(rows), summary.summarize(rows, found))


def modelled(setting: Setting, shapes: Sequence[tuple[int, int, int]], jobs: int) -> list[Row]:
    """A row a problem, in order, with progress."""
    rows: list[Row] = []
    start = said = time.monotonic()
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for row in pool.map(partial(model, setting), shapes, chunksize=CHUNK):
            rows.append(row)
            now = time.monotonic()
            if row.failed:
                say(f"FAILED  {row.m}x{row.n}x{row.k}: {row.failed}")
            if now - said > 5 or len(rows) == len(shapes):
                said = now
                say(f"modelled {len(rows)} of {len(shapes)} problems in {now - start:.0f} s")
    return rows


def text(found: Run) -> str:
    """The report."""
    s = found.setting
    wrong = [check for check in found.checks if check.wrong]
    lines = [
        f"Petit {wheel.VERSION} and petitgen, {s.weights} x {s.activations}, modelled on {s.arch} with {s.compute_units} CUs",
        "Times are those of a model; docs/profiler.md says what it leaves out.",
        "",
        f"results of {len(found.checks)} kernels against float64 on the emulated device: "
        + (f"{len(wrong)} WRONG" if wrong else "all right"),
        *(f"WRONG  {check.kernel} at {check.m}x{check.n}x{check.k}: {check.wrong}" for check in wrong),
        "",
        loopfigures.NOTE,
        loopfigures.HEADER,
        *(loopfigures.text(name, figures) for name, figures in found.loops),
        "",
        summary.HEADER,
        *map(summary.row_text, found.rows),
        "",
        *summary.summary_text(found.summary),
    ]
    return "\n".join(lines)


def to_json(found: Run) -> str:
    """All of it. Keys as the fields of the dataclasses; paths left out."""
    s = found.setting
    data = {
        "petit": wheel.VERSION,
        "arch": s.arch,
        "compute_units": s.compute_units,
        "weights": s.weights,
        "activations": s.activations,
        "shapes": [asdict(weight) for weight in found.weights],
        "checks": [asdict(check) for check in found.checks],
        "loops": [
            {"kernel": name, "valu_per_8": f.valu_per_8, "efficiency": f.efficiency, **asdict(f)}
            for name, f in found.loops
        ],
        "rows": [{**asdict(row), "speedup": row.speedup} for row in found.rows],
        "summary": asdict(found.summary),
    }
    return json.dumps(data, indent=1) + "\n"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="gfx942", choices=tuple(COMPUTE_UNITS))
    parser.add_argument("--format", default="nvfp4", choices=("nvfp4", "mxfp4"))
    parser.add_argument("--activations", default="bf16", choices=("bf16", "fp16"))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=tuple(MODELS))
    parser.add_argument("--m", nargs="+", type=int, help="rows of A")
    parser.add_argument("--tp", nargs="+", type=int, choices=RANKS, help="ranks of a tensor-parallel group")
    parser.add_argument("--quick", action="store_true", help="few rows of A, 1 and 8 ranks")
    parser.add_argument("--best", action="store_true", help="also the best of six of Petit's tiles (much slower)")
    parser.add_argument("--compute-units", type=int, help="of the modelled device; gfx90a: 104 (MI210), 110 (MI250X)")
    parser.add_argument("--generated", type=Path, default=ROOT / "generated", help="where our built kernels are")
    parser.add_argument("--wheel", type=Path, help=f"a wheel of {wheel.PACKAGE} {wheel.VERSION}, not to be fetched")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a picture there, .svg or .png")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("benchmarks/petit.py: --plot needs matplotlib: pip install -e '.[benchmark]'")
    ms = options.m or (QUICK_ROWS if options.quick else ROWS)
    ranks = options.tp or (QUICK_RANKS if options.quick else RANKS)
    with tempfile.TemporaryDirectory() as directory:
        try:
            path = options.wheel or wheel.download(Path(directory))
            units = options.compute_units or COMPUTE_UNITS[options.arch]
            setting = Setting(
                options.arch, options.format, options.activations, units, path, options.generated, options.best
            )
            found = run(setting, weights(options.models, ranks), ms, options.jobs)
        except (wheel.WheelError, PetitgenError, RuntimeLibraryError) as error:
            raise SystemExit(f"benchmarks/petit.py: {error}") from None
    print(text(found))
    if options.json:
        options.json.write_text(to_json(found))
    if options.plot and not any(row.speedup for row in found.rows):
        say(f"{options.plot}: not written, there is nothing to compare")
    elif options.plot:
        title = f"{options.format} x {options.activations}, {options.arch} with {units} CUs, modelled"
        draw(found.rows, title, options.plot)
    return 0 if found.ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
