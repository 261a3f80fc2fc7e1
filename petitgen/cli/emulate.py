"""petitgen emulate"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from petitgen.cli import options
from petitgen.cli.coverage import print_coverage
from petitgen.cli.emulate_report import Outcome, Request, as_data, report
from petitgen.emulator import DeviceMemory, LaunchResult, Observer, launch
from petitgen.emulator.arguments import Buffer, BufferSpec, kernel_arguments, parse, parse_buffer, place, save
from petitgen.emulator.sanitizer import Finding, Sanitizer
from petitgen.emulator.trace import Trace
from petitgen.errors import EmulationError
from petitgen.isa import CodeObject, Kernel
from runtime.descriptors import buffer_resource


@click.command(short_help="Run any gfx90a or gfx942 code object on the emulated device.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@options.kernel
@options.grid
@options.block
@options.arguments
@options.buffers
@options.dynamic_lds
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random contents.")
@click.option("--dump", multiple=True, metavar="NAME=FILE.npy", help="Write a buffer after the run.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N wave-instructions.")
@click.option(
    "--sanitize", is_flag=True, help="Look for faults that results do not show; see docs/emulator.md."
)
@click.option(
    "--beyond", multiple=True, metavar="NAME", help="This buffer may be accessed past its end: tails."
)
@click.option("--trace", is_flag=True, help="Print each instruction as it is executed.")
@click.option("--arch", help="Which architecture of a bundle of several; with --coverage: only this one.")
@click.option(
    "--coverage", "cover", is_flag=True, help="Print which instructions are implemented and tested."
)
@click.option("--missing", is_flag=True, help="With --coverage: list the instructions that are not tested.")
@options.as_json
def emulate(
    file: Path | None,
    kernel: str | None,
    grid: str,
    block: str,
    arguments: tuple[str, ...],
    buffers: tuple[str, ...],
    dynamic_lds: int,
    seed: int,
    dump: tuple[str, ...],
    limit: int | None,
    sanitize: bool,
    beyond: tuple[str, ...],
    trace: bool,
    arch: str | None,
    cover: bool,
    missing: bool,
    as_json: bool,
) -> None:
    """Run a kernel of FILE, a .hsaco of anyone's making, on the emulated device.

    \b
    SPEC of an argument, in the order of the kernel's parameters:
      NAME:DTYPE[SHAPE]        a pointer to a buffer with nothing in it
      NAME:DTYPE[SHAPE]=INIT   ... that holds random, zeros, ones, iota, a number or @FILE.npy
      DTYPE=VALUE              a scalar: i32=1024, f32=0.5
      bytes=HEX                a struct by value
      ptr=NAME, rsrc=NAME      pointer or 128-bit buffer descriptor of a --buffer (or of an argument)
    DTYPE is i8 to i64, u8 to u64, f16, bf16, f32, f64 or an 8-bit float as ml_dtypes names it.

    The exit status is 1 when the sanitizer finds something, or the kernel stops at a fault.

    \b
    Examples:
      petitgen emulate k.hsaco --kernel scale --grid 4,2 --block 256 \\
          --arg 'in:f32[2048]=random' --arg 'out:f32[2048]' --arg i32=2048 --dump out=out.npy
      petitgen emulate k.hsaco --grid 8 --block 64 --arg 'x:f16[512]=@x.npy' --sanitize
      petitgen emulate k.hsaco --buffer 'a:bf16[16,64]=random' --arg rsrc=a --trace
      petitgen emulate --coverage
    """
    if cover:
        if file is not None:
            raise click.UsageError("--coverage is about the emulator: give it no FILE")
        print_coverage(arch, missing, as_json)
        return
    if file is None:
        raise click.UsageError("FILE is missing: a code object (.hsaco), or --coverage")
    if trace and as_json:
        raise click.UsageError("--trace prints text: not together with --json")
    request = Request(
        grid=options.numbers(grid, "--grid"),
        block=options.numbers(block, "--block"),
        arguments=tuple(parse(text) for text in arguments),
        buffers=tuple(parse_buffer(text) for text in buffers),
        beyond=beyond,
        dynamic_lds=dynamic_lds,
        seed=seed,
        limit=limit,
        sanitize=sanitize,
        trace=trace,
    )
    code = CodeObject.load(file, arch)
    memory = DeviceMemory()
    declared = (*request.buffers, *(spec for spec in request.arguments if isinstance(spec, BufferSpec)))
    dumps = _dumps(dump, [spec.name for spec in declared])
    placed = place(declared, memory, seed)
    outcome = _run(code, code.kernel(kernel), request, placed, memory)
    for name, path in dumps.items():
        save(placed[name].read(memory), path)
    click.echo(
        json.dumps(as_data(outcome), indent=1) if as_json else report(outcome, placed, memory, request)
    )
    if outcome.error and not as_json:
        click.echo(f"petitgen: {outcome.error}", err=True)
    if not outcome.ok:
        sys.exit(1)


# --- running ---------------------------------------------------------------------------------------------


def _run(
    code: CodeObject, kernel: Kernel, request: Request, placed: Mapping[str, Buffer], memory: DeviceMemory
) -> Outcome:
    values = kernel_arguments(kernel, request.arguments, placed, code.arch, buffer_resource)
    observer: Observer | None = None
    if request.trace:
        click.echo(Trace.HEADER)
        observer = Trace(click.echo, kernel.entry)
    start = time.perf_counter()
    result: LaunchResult | None = None
    findings: tuple[Finding, ...] = ()
    error = ""
    sanitizer = _sanitizer(request, code.arch, placed)
    try:
        result = launch(
            code, kernel.name, request.grid, request.block, values, request.dynamic_lds,
            memory=memory, observer=observer, limit=request.limit, sanitize=sanitizer,
        )  # fmt: skip
        findings = result.findings
    except EmulationError as fault:
        error, findings = str(fault), fault.findings
    return Outcome(kernel, code.arch, result, findings, error, time.perf_counter() - start)


def _sanitizer(request: Request, arch: str, placed: Mapping[str, Buffer]) -> Sanitizer | bool:
    if not request.sanitize:
        return False
    unknown = [name for name in request.beyond if name not in placed]
    if unknown:
        raise EmulationError(
            f"--beyond {unknown[0]}: no such buffer; there are: {', '.join(placed) or 'none'}"
        )
    buffers = [placed[name] for name in request.beyond]
    return Sanitizer(intended=[buffer_resource(b.address, b.spec.nbytes, arch) for b in buffers])


def _dumps(texts: Sequence[str], names: Sequence[str]) -> dict[str, Path]:
    """What to write where. Checked before the run, which may take a while."""
    found = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise EmulationError(f"--dump {text}: write NAME=FILE.npy")
        if name not in names:
            raise EmulationError(
                f"--dump {text}: no buffer {name!r}; there are: {', '.join(names) or 'none'}"
            )
        if not Path(path).parent.is_dir():
            raise EmulationError(f"--dump {text}: {Path(path).parent} is no directory")
        found[name] = Path(path)
    return found
