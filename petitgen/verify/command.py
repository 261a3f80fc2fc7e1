"""The command `petitgen verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from petitgen.verify.runner import KernelReport, Report

EPILOG = """\b
Examples:
  petitgen verify                                     every kernel in generated/
  petitgen verify 'gemm_nvfp4_bf16__gfx942_*'         by name
  petitgen verify --arch gfx90a --shape 17,4096,4096  at a shape of your own
  petitgen verify --json > report.json
"""


@click.command(epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME_GLOB]...")
@click.option("--arch", help="Only kernels of this architecture.")
@click.option(
    "--shape", "shapes", multiple=True, metavar="M,N,K", help="Verify at this shape. May be repeated."
)
@click.option("--generated", type=click.Path(path_type=Path), default=Path("generated"), show_default=True,
              help="Where the built kernels are.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Processes. Default: one a core.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(
    names: tuple[str, ...],
    arch: str | None,
    shapes: tuple[str, ...],
    generated: Path,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Run built kernels on the emulated device and compare with a float64 reference.

    Without --shape each kernel runs at sizes below, at and above its tile, with random and nasty data. The exit
    status is 1 when anything is wrong.
    """
    from petitgen.verify import parse_shape, run, select

    targets = select(generated, names, arch)
    wanted = [parse_shape(text) for text in shapes] or None
    width = max(len(target.name) for target in targets)
    if not as_json:
        click.echo(f"{'kernel':{width}}  {'shapes':>6}  {'wave-instr':>10}  {'seconds':>7}  result")
    report = run(targets, shapes=wanted, jobs=jobs, progress=None if as_json else lambda r: _show(r, width))
    if as_json:
        click.echo(json.dumps(to_json(report), indent=1))
    else:
        right = sum(kernel.ok for kernel in report.kernels)
        click.echo(f"{right} of {len(report.kernels)} kernels verified in {report.seconds:.0f} s")
    if not report.ok:
        sys.exit(1)


def _show(report: KernelReport, width: int) -> None:
    """One line for a kernel, and a line for each finding under it."""
    instructions = sum(case.instructions for case in report.cases)
    result = click.style("ok", fg="green") if report.ok else click.style("WRONG", fg="red")
    click.echo(
        f"{report.name:{width}}  {len(report.cases):6}  {instructions:10}  {report.seconds:7.1f}  {result}"
    )
    for case in report.cases:
        for finding in case.findings:
            click.echo(f"    {case.shape} (lda {case.lda}, ldc {case.ldc}): {finding}")


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain data, with `ok` at every level. Inf and NaN become strings: JSON has neither."""
    kernels = []
    for kernel in report.kernels:
        cases = [{"ok": case.ok, **asdict(case)} for case in kernel.cases]
        kernels.append({"ok": kernel.ok, **asdict(kernel), "cases": cases})
    return _plain({"ok": report.ok, "seconds": report.seconds, "kernels": kernels})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value
