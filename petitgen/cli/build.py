"""petitgen build"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from petitgen import executors
from petitgen.build.run import Observer, Outcome, Report
from petitgen.build.run import build as run_build
from petitgen.cli import options
from petitgen.cli.table import table
from petitgen.spec import load_catalog


@click.command(short_help="Build kernels.")
@options.names
@options.arch
@options.generated
@options.configs
@options.hipcc
@click.option("-j", "--jobs", type=click.IntRange(1), help="Compilers at a time.  [default: one a core]")
@options.dask
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of compiled objects.  [default: petitgen/objects in the user's cache directory]",
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@options.as_json
def build(
    names: tuple[str, ...],
    arch: str | None,
    generated: Path,
    configs: Path | None,
    hipcc: str | None,
    jobs: int | None,
    dask: str | None,
    cache: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Build kernels into generated/<arch>/: NAME.hip, NAME.hsaco and manifest.json.

    Without NAMES, all of them. Only what changed is compiled. A kernel that fails is reported with its
    command and the compiler's output, the others are built all the same, and the exit status is 1.

    \b
    Examples:
      petitgen build
      petitgen build --arch gfx942 'gemm_nvfp4_bf16__*'
      petitgen build --hipcc ziglang -j 4
    """
    catalog = load_catalog(configs)
    selected = catalog.select(names, arch)
    observer = Observer() if quiet or as_json else progress(sys.stderr.isatty())
    start = time.monotonic()
    with executors.dask(dask) as executor:
        report = run_build(
            selected,
            catalog.instances,
            generated,
            hipcc=hipcc,
            jobs=jobs,
            cache=cache,
            observer=observer,
            executor=executor,
        )
    if as_json:
        click.echo(json.dumps(_as_data(report), indent=1))
    elif not quiet:
        click.echo(_table(report))
    for outcome in report.failed:
        click.echo(_failure(outcome, generated), err=True)
    if not quiet and not as_json:
        click.echo(_summary(report, time.monotonic() - start))
    if report.failed:
        sys.exit(1)


class Lines(Observer):
    """A line an event: for logs."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def note(self, text: str) -> None:
        click.echo(text, err=True)

    def started(self, total: int) -> None:
        self.total = total

    def finished(self, outcome: Outcome) -> None:
        self.done += 1
        if outcome.state != "cached":
            line = f"[{self.done}/{self.total}] {outcome.state} {outcome.name} ({outcome.seconds:.1f} s)"
            click.echo(line, err=True)


class Bar(Observer):
    """A bar that moves: for terminals."""

    def __init__(self) -> None:
        self.bar: Any = None

    def note(self, text: str) -> None:
        click.echo(text, err=True)

    def started(self, total: int) -> None:
        self.bar = click.progressbar(length=total, label="building", file=sys.stderr, show_pos=True)
        self.bar.render_progress()

    def finished(self, outcome: Outcome) -> None:
        self.bar.update(1)

    def ended(self) -> None:
        if self.bar is not None:
            self.bar.render_finish()  # gives the terminal its cursor back


def progress(terminal: bool) -> Observer:
    """What shows progress on a terminal, or in a log."""
    return Bar() if terminal else Lines()


def _table(report: Report) -> str:
    rows: list[tuple[object, ...]] = []
    for outcome in report.outcomes:
        if outcome.kernel is None:
            rows.append((outcome.name, outcome.state, "", "", "", "", outcome.seconds))
            continue
        used = outcome.kernel.resources
        figures = (used.registers, used.lds_bytes, used.waves_per_simd, outcome.kernel.size)
        rows.append((outcome.name, outcome.state, *figures, outcome.seconds))
    return table(("kernel", "state", "registers", "LDS", "waves/SIMD", "bytes", "seconds"), rows)


def _failure(outcome: Outcome, generated: Path) -> str:
    parts = [f"\npetitgen: {outcome.name} failed"]
    if outcome.command:
        parts.append(f"command (in {generated / outcome.arch}): {outcome.command}")
    return "\n".join([*parts, outcome.error])


def _summary(report: Report, seconds: float) -> str:
    states = [outcome.state for outcome in report.outcomes]
    counts = [f"{states.count(state)} {state}" for state in ("compiled", "cached", "failed") if state in states]
    return f"{len(states)} kernels in {seconds:.1f} s: {', '.join(counts)}; {report.output}/<arch>/manifest.json"


def _as_data(report: Report) -> dict[str, Any]:
    compilers = {choice.arch: choice.selected.identity for choice in report.choices}
    return {"compilers": compilers, "kernels": [asdict(outcome) for outcome in report.outcomes]}
