"""Options that several commands share, so that they look and act alike."""

from __future__ import annotations

from pathlib import Path

import click

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
hipcc = click.option(
    "--hipcc",
    metavar="PROGRAM",
    help="Compiler to use and no other: a hipcc or clang, or the word ziglang. Default: $HIPCC, "
    "$ROCM_PATH/bin/hipcc, hipcc on PATH, the clang of the ziglang package.",
)
