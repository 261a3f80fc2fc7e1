"""The command `petitgen verify`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from petitgen.cli import options

if TYPE_CHECKING:
    from petitgen.verify.runner import KernelReport, Report
    from petitgen.verify.targets import Target


@click.command()
@options.names
@options.arch
@click.option("--shape", "shapes", multiple=True, metavar="M,N,K", help="A shape to verify at. Repeatable.")
@click.option(
    "--slices", multiple=True, type=click.IntRange(1), help="Workgroups that share a tile along K. Repeatable."
)
@options.generated
@options.jobs
@options.dask
@click.option("--sanitize", is_flag=True, help="Also look for faults that results do not show. Slower.")
@options.as_json
def verify(
    names: tuple[str, ...],
    arch: str | None,
    shapes: tuple[str, ...],
    slices: tuple[int, ...],
    generated: Path,
    jobs: int | None,
    dask: str | None,
    sanitize: bool,
    as_json: bool,
) -> None:
    """Run built kernels on the emulated device and compare with a reference: float64, or the definition's own bits.

    Without --shape each kernel runs at sizes below, at and above its tile, with random and nasty data; without
    --slices, too, every third of these also runs with 2 or 3 workgroups a tile. Both are of GEMMs, which they
    select where there are no NAMES; a shape is left out for kernels that do not take it, if others do. The exit
    status is 1 when anything is wrong. With --sanitize missing waits and wait states, races, undefined values and
    accesses out of place are wrong, too.

    \b
    Examples:
      petitgen verify
      petitgen verify 'gemm_nvfp4_bf16__gfx942_*'
      petitgen verify --arch gfx90a --shape 17,4096,4096 --slices 1 --slices 8
      petitgen verify --sanitize 'gemm_nvfp4_*_m16*'
      petitgen verify --json > report.json
    """
    from petitgen import executors
    from petitgen.verify import gemms, parse_shape, run, select

    targets = select(generated, names, arch)
    wanted = [parse_shape(text) for text in shapes] or None
    if (wanted or slices) and not names:
        targets = gemms(targets)
    with executors.dask(dask) as executor:
        report = run(
            targets,
            shapes=wanted,
            jobs=jobs,
            sanitize=sanitize,
            progress=None if as_json else Table(targets),
            slices=slices,
            executor=executor,
        )
    if not wanted and not slices:
        _record(generated, targets, report)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=1))
    else:
        if report.skipped:
            click.echo(f"{len(report.skipped)} left out, which others take. The first: {report.skipped[0]}")
        right = sum(kernel.ok for kernel in report.kernels)
        click.echo(f"{right} of {len(report.kernels)} kernels verified in {report.seconds:.0f} s")
    if not report.ok:
        sys.exit(1)


def _record(generated: Path, targets: Sequence[Target], report: Report) -> None:
    """Note the outcome beside the manifests, for `petitgen list`."""
    from petitgen.build.state import Verified, record

    results: dict[str, dict[str, Verified]] = {}
    for target, kernel in zip(targets, report.kernels, strict=True):
        facts = Verified(target.kernel().sha256, kernel.ok, len(kernel.cases))
        results.setdefault(target.arch, {})[target.name] = facts
    for arch, verified in results.items():
        record(generated, arch, verified)


class Table:
    """Prints a line for each kernel as it is done, and a line for each finding under it."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.width = max(len(target.name) for target in targets)
        self.header = f"{'kernel':{self.width}}  {'shapes':>6}  {'wave-instr':>10}  {'seconds':>7}  result"

    def __call__(self, report: KernelReport) -> None:
        if self.header:  # not before something ran: a refusal is one line
            click.echo(self.header)
            self.header = ""
        instructions = sum(case.instructions for case in report.cases)
        result = click.style("ok", fg="green") if report.ok else click.style("WRONG", fg="red")
        figures = f"{len(report.cases):6}  {instructions:10}  {report.seconds:7.1f}"
        click.echo(f"{report.name:{self.width}}  {figures}  {result}")
        for case in report.cases:
            for finding in case.findings:
                click.echo(f"    {case.title}: {finding}")


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain data, with `ok` at every level. Inf and NaN become strings: JSON has neither."""
    kernels = []
    for kernel in report.kernels:
        cases = [{"ok": case.ok, **asdict(case)} for case in kernel.cases]
        kernels.append({"ok": kernel.ok, **asdict(kernel), "cases": cases})
    return _plain({"ok": report.ok, "seconds": report.seconds, "kernels": kernels, "skipped": report.skipped})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
