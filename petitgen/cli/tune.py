"""petitgen tune"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from petitgen.cli import options
from petitgen.errors import TuneError

if TYPE_CHECKING:
    from petitgen.tune.run import Result, Task
    from runtime.library import Library


@click.command(short_help="Find the fastest kernels.")
@click.option("--on", type=click.Choice(["model", "device"]), default="model", show_default=True,
              help="Measure on the timing model, or on this machine's GPU.")  # fmt: skip
@options.arch
@click.option("--shapes", multiple=True, metavar="N,K|FILE", help="Weights, or a file with one a line. Repeatable.")
@click.option("--model", "models", multiple=True, metavar="NAME", help="Weights of this model. Repeatable.")
@click.option("--tp", "ranks", multiple=True, type=click.IntRange(1), help="With so many ranks. Repeatable.")
@click.option("-m", "--m", "rows", multiple=True, metavar="M,...", help="Numbers of rows.")
@click.option("--contract", "names", multiple=True, help="e.g. gemm_nvfp4_bf16. Repeatable.  [default: all]")
@click.option("--cus", type=click.IntRange(1), help="Compute units of the modelled device.")
@click.option("--candidates", default=8, show_default=True, type=click.IntRange(1), help="Kernels tried a problem.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
              help="Table to put results into.  [default: tuned/ARCH.csv]")  # fmt: skip
@click.option("--missing", is_flag=True, help="Only problems that the table has no row for, or none that is built.")
@click.option("--quick", is_flag=True, help="Begin with what the table has for like problems: a third of the time.")
@options.generated
@options.jobs
@options.dask
@options.as_json
def tune(
    on: str,
    arch: str | None,
    shapes: tuple[str, ...],
    models: tuple[str, ...],
    ranks: tuple[int, ...],
    rows: tuple[str, ...],
    names: tuple[str, ...],
    cus: int | None,
    candidates: int,
    output: Path | None,
    missing: bool,
    quick: bool,
    generated: Path,
    jobs: int | None,
    dask: str | None,
    as_json: bool,
) -> None:
    """Find the fastest built kernel, and number of slices, for each problem, and put it into a tuned table.

    Without --shapes, --model and --tp: the weights of Llama-3-70B and 8B and gpt-oss-120b's attention with 1, 2, 4 and
    8 ranks. Rows of the table for other problems stay. The runtime reads the table when PETITGEN_TUNED names it or
    its folder. On the virtual GPU --on device runs, and its times mean nothing.

    \b
    Examples:
      petitgen tune --arch gfx942 --model llama-3-70b --tp 8
      petitgen tune --shapes 8192,28672 -m 1,16,256 --contract gemm_nvfp4_bf16
      petitgen tune --dask tcp://scheduler:8786 -o configs/tuned/gfx942.csv --arch gfx942
      petitgen tune --on device --arch gfx942 --shapes weights.txt
    """
    from petitgen import executors
    from petitgen.tune.problems import parse_rows, parse_weights
    from petitgen.tune.shapes import ROWS

    if on == "device" and (cus or dask or jobs):
        raise click.UsageError("--cus, --jobs and --dask are for --on model: a device is one, and has what it has")
    weights, counts = parse_weights(shapes, models, ranks), parse_rows(rows, ROWS)
    work = _Work(output, missing, quick, not as_json)
    for one in _archs(generated, arch):
        if on == "device":
            _on_device(work, one, generated, weights, counts, names, candidates)
            continue
        with executors.dask(dask) as executor:
            from petitgen.profiler.timing import load_timing
            from petitgen.tune.run import tune as run

            units = load_timing(one, cus).compute_units
            tasks = work.wanted(one, _tasks(generated / one, weights, counts, names, units, candidates))
            work.take(one, run(tasks, jobs=jobs, executor=executor), sum(len(task.rows) for task in tasks))
    work.end(as_json)


def _archs(generated: Path, arch: str | None) -> list[str]:
    from runtime.manifest import FILE_NAME

    found = sorted(path.parent.name for path in generated.glob(f"{arch or '*'}/{FILE_NAME}"))
    if not found:
        raise TuneError(f"{generated}: no kernels built{f' for {arch}' if arch else ''}; build them: petitgen build")
    return found


def _tasks(
    directory: Path,
    weights: Sequence[tuple[int, int]],
    rows: tuple[int, ...],
    names: Sequence[str],
    compute_units: int,
    most: int,
) -> list[Task]:
    from petitgen.tune.run import Task, contracts
    from runtime.manifest import Manifest

    known = contracts(Manifest.load(directory), names)
    return [
        Task(directory.absolute(), contract, n, k, rows, compute_units, kernels, most)
        for contract, kernels in known.items()
        for n, k in weights
    ]


def _on_device(
    work: _Work,
    arch: str,
    generated: Path,
    weights: Sequence[tuple[int, int]],
    rows: tuple[int, ...],
    names: Sequence[str],
    most: int,
) -> None:
    import runtime
    from petitgen.tune.device import Device
    from petitgen.tune.run import tune as run
    from petitgen.tune.run import tune_weight

    with runtime.load(arch, directory=generated) as lib:
        if lib.virtual:
            click.echo("petitgen: this is the virtual GPU: kernels run, but the times are the emulator's and mean"
                       " nothing", err=True)  # fmt: skip
        tasks = work.wanted(arch, _tasks(generated / arch, weights, rows, names, _units(lib), most))
        device = Device(lib)
        measured = "virtual" if lib.virtual else "device"
        results = run(tasks, lambda task: tune_weight(task, device, measured), jobs=1)
        work.take(arch, results, sum(len(task.rows) for task in tasks))


def _units(lib: Library) -> int:
    return lib.hip.compute_units(lib.device)


class _Work:
    """Takes results as they come: into the table, onto the screen."""

    def __init__(self, output: Path | None, missing: bool, quick: bool, show: bool) -> None:
        self.output, self.missing, self.quick, self.show = output, missing, quick, show
        self.start = time.monotonic()
        self.results: list[Result] = []
        self.paths: dict[Path, None] = {}

    def table(self, arch: str) -> Path:
        return self.output or Path("tuned") / f"{arch}.csv"

    def wanted(self, arch: str, tasks: list[Task]) -> list[Task]:
        from petitgen.tune.run import hinted, missing

        left = missing(tasks, arch, self.table(arch)) if self.missing else tasks
        return hinted(left, arch, self.table(arch)) if self.quick else left

    def take(self, arch: str, results: Iterable[tuple[Result, ...]], total: int) -> None:
        from petitgen.tune.run import merge

        path, count = self.table(arch), 0
        for some in results:
            merge(path, [result.row for result in some if result.row])  # now: what is interrupted keeps what it has
            self.paths[path] = None
            self.results += some
            for result in some:
                count += 1
                if self.show:
                    click.echo(f"[{count}/{total}] {_line(result)}")
                    for text in result.left_out:
                        click.echo(f"    left out: {text}")

    def end(self, as_json: bool) -> None:
        failed = [result for result in self.results if result.error]
        if as_json:
            click.echo(json.dumps([asdict(result) for result in self.results], indent=1))
        else:
            done, took = len(self.results) - len(failed), time.monotonic() - self.start
            where = f": {', '.join(map(str, self.paths))}" if done else ""
            click.echo(f"{done} of {len(self.results)} problems tuned in {took:.0f} s{where}")
        if failed:
            sys.exit(1)


def _line(result: Result) -> str:
    problem = f"{result.contract} m={result.m} n={result.n} k={result.k}"
    if result.error:
        return f"{problem}: failed: {result.error}"
    best, others = result.tries[0], result.tries[1:]
    slices = f" in {best.slices} slices" if best.slices > 1 else ""
    text = f"{problem}: {best.us:.2f} us, {best.kernel.partition('__')[2]}{slices}"
    other = next((one for one in others if one.kernel != best.kernel), None)
    return text + (f"; next {other.kernel.partition('__')[2]} {other.us:.2f} us" if other else "")
