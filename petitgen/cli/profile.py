"""petitgen profile"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from petitgen.cli import options
from petitgen.errors import ProfileError

if TYPE_CHECKING:
    from petitgen.cli.profile_run import FileLaunch
    from petitgen.profiler.report import Entry, Failed

CODE_OBJECTS = (".hsaco", ".co", ".o")


@click.command(short_help="Model how long kernels take, and why.")
@options.names
@click.option("--shape", "shapes", multiple=True, metavar="M,N,K", help="A problem for the kernels. Repeatable.")
@click.option(
    "--slices",
    type=click.IntRange(1),
    metavar="S",
    help="Workgroups that share a tile along K.  [default: as many as the runtime would take]",
)
@options.arch
@click.option(
    "--cus", type=click.IntRange(1), metavar="N", help="Compute units of the device.  [default: the product's]"
)
@options.generated
@click.option(
    "--hot", type=click.IntRange(0), metavar="N", help="Hottest instructions to print.  [default: 10 of one launch]"
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with pictures, too.")
@click.option("--timeline", is_flag=True, help="With --json: what each wave does at each clock. Long.")
@options.kernel
@options.grid
@options.block
@options.arguments
@options.buffers
@options.dynamic_lds
@click.option("--flops", type=click.FloatRange(0), metavar="N", help="Operations that FILE's kernel has to do.")
@click.option(
    "--bytes", "nbytes", type=click.FloatRange(0), metavar="N", help="Bytes it has to move to and from memory."
)
@options.as_json
def profile(
    names: tuple[str, ...],
    shapes: tuple[str, ...],
    slices: int | None,
    arch: str | None,
    cus: int | None,
    generated: Path,
    hot: int | None,
    html: Path | None,
    timeline: bool,
    kernel: str | None,
    grid: str,
    block: str,
    arguments: tuple[str, ...],
    buffers: tuple[str, ...],
    dynamic_lds: int,
    flops: float | None,
    nbytes: float | None,
    as_json: bool,
) -> None:
    """Model how long built kernels take on a GPU, and why: rooflines, stalls, hottest instructions.

    NAMES are built kernels, each at every --shape; globs work, and several stand side by side. Or one FILE, a .hsaco
    of anyone's making, launched as petitgen emulate launches it: --kernel, --grid, --block, --arg, --buffer; the help
    of petitgen emulate has the SPECs. No GPU is needed and nothing is measured: docs/profiler.md says what is modelled
    and how wrong it may be.

    The exit status is 1 when a kernel is not built or does not take a shape.

    \b
    Examples:
      petitgen profile gemm_nvfp4_bf16__gfx942_m16n64k512_w1x2x2 --shape 16,8192,8192
      petitgen profile 'gemm_nvfp4_bf16__gfx942_*' --shape 16,8192,8192 --html profile.html
      petitgen profile 'gemm_nvfp4_fp16__gfx90a_*' --shape 4096,8192,8192 --cus 104 --json
      petitgen profile k.hsaco --grid 1216 --block 256 --arg 'x:f32[1048576]' --arg i32=1048576 --bytes 4194304
    """
    from petitgen.cli.profile_run import FileLaunch, Request, profile_built, profile_file, shapeless

    if timeline and not as_json:
        raise click.UsageError("--timeline is for --json; --html draws the timeline by itself")
    if html is not None:
        _check_page(html)
    request = Request(slices, cus, timeline or html is not None)
    launch = FileLaunch(kernel, arch, grid, block, arguments, buffers, dynamic_lds, flops, nbytes)
    file = _file(names, shapes, slices, launch)
    if file is None and not shapes:
        shapeless(names, arch, generated)
        raise click.UsageError("--shape M,N,K is missing: how long a kernel takes depends on the problem")
    failed: Sequence[Failed] = ()
    if file is not None:
        entries = [profile_file(file, launch, request)]
    else:
        entries, failed = profile_built(names, shapes, arch, generated, request)
    if html is not None and entries:
        _write_page(html, entries)
    _print(entries, failed, hot, timeline, as_json)
    for one in failed:
        click.echo(f"petitgen: {one.error}", err=True)
    if failed:
        sys.exit(1)


def _file(names: Sequence[str], shapes: Sequence[str], slices: int | None, launch: FileLaunch) -> Path | None:
    """The code object file that is named; None if kernels are. UsageError for a mixture."""
    files = [name for name in names if name.endswith(CODE_OBJECTS) or "/" in name]
    if not files:
        if launch.given:
            raise click.UsageError(
                "--kernel, --grid, --block, --arg, --buffer, --dynamic-lds, --flops and --bytes are for a FILE"
            )
        return None
    if len(names) > 1:
        raise click.UsageError("one FILE, and nothing beside it; several kernels can only be named if they are built")
    if shapes or slices:
        raise click.UsageError("--shape and --slices are for built kernels; a FILE is launched with --grid and --arg")
    return Path(files[0])


def _print(entries: Sequence[Entry], failed: Sequence[Failed], hot: int | None, timeline: bool, as_json: bool) -> None:
    from petitgen.cli.profile_report import text
    from petitgen.profiler.report import as_data

    if as_json:
        shown = [one if timeline else replace(one, profile=replace(one.profile, timeline=())) for one in entries]
        click.echo(json.dumps(as_data(shown, failed), indent=1))
    elif entries:
        click.echo(text(entries, hot))


def _check_page(file: Path) -> None:
    """Before the work rather than after it."""
    if file.is_dir():
        raise ProfileError(f"--html {file}: is a directory; name the file to write")
    if not file.parent.is_dir():
        raise ProfileError(f"--html {file}: {file.parent} is no directory")


def _write_page(file: Path, entries: Sequence[Entry]) -> None:
    from petitgen.profiler.html import page

    try:
        file.write_text(page(entries), encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"--html {file}: cannot be written: {error.strerror}") from None
