"""Options that several commands share, so that they look and act alike."""

from __future__ import annotations

from pathlib import Path

import click

from petitgen.errors import EmulationError

names = click.argument("names", nargs=-1)
arch = click.option("--arch", metavar="ARCH", help="Only kernels for this architecture, e.g. gfx942.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs to read.")
generated = click.option(
    "--generated",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("generated"),
    show_default=True,
    envvar="PETITGEN_GENERATED",
    help="Directory of built kernels, one folder an architecture.",
)
configs = click.option(
    "--configs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Specs to use in place of petitgen's own.",
)
jobs = click.option("-j", "--jobs", type=click.IntRange(1), help="Processes.  [default: one a core]")
dask = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Run on the Dask cluster with this scheduler, tcp://HOST:PORT, and not here. Its workers need petitgen and "
    "the same files at the same paths.",
)
hipcc = click.option(
    "--hipcc",
    metavar="PROGRAM",
    help="Compiler to use and no other: a hipcc or clang, or the word ziglang. Default: $HIPCC, "
    "$ROCM_PATH/bin/hipcc, hipcc on PATH, the clang of the ziglang package.",
)

# A launch of a kernel of any code object: emulate, profile.
kernel = click.option("--kernel", metavar="NAME", help="Kernel to run; not needed where there is only one.")
grid = click.option("--grid", metavar="X[,Y[,Z]]", help="Workgroups.  [default: 1]", default="1")
block = click.option("--block", metavar="X[,Y[,Z]]", help="Work-items a workgroup.  [default: 64]", default="64")
arguments = click.option(
    "--arg", "arguments", multiple=True, metavar="SPEC", help="A kernel argument, in order; petitgen emulate --help has the SPECs."
)
buffers = click.option("--buffer", "buffers", multiple=True, metavar="SPEC", help="A buffer for ptr= and rsrc=.")
dynamic_lds = click.option(
    "--dynamic-lds", default=0, metavar="BYTES", help="LDS beyond what the kernel declares."
)


def numbers(text: str, option: str) -> tuple[int, ...]:
    """One to three numbers from X[,Y[,Z]]. EmulationError that names the option."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not 1 <= len(found) <= 3 or min(found) < 1:
        raise EmulationError(f"{option} {text}: one to three numbers with commas between, each at least 1")
    return found
