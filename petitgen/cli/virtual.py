"""petitgen virtual"""

from __future__ import annotations

import os
import shutil

import click

from petitgen.driver.activate import child_environment
from petitgen.errors import DriverError

ARCHES = ("gfx90a", "gfx942")


def start_log(path: str) -> None:
    """Make the log, empty, if there is none. DriverError where it cannot be written."""
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise DriverError(f"--log {path}: cannot be written: {error.strerror}") from None


@click.command(
    short_help="Run a program with emulated gfx90a and gfx942 devices as its HIP devices.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    type=click.Choice(ARCHES),
    help="A device; give it again for more.  [default: gfx942]",
)
@click.option("--memory", metavar="BYTES", help="Of each device: 8G, 512M.  [default: 16G]")
@click.option(
    "--log",
    type=click.Path(dir_okay=False, resolve_path=True),
    help="Write what goes wrong here, not to standard error.",
)
@click.option("--sanitize", is_flag=True, help="Watch every launch for faults that results do not show (slow).")
@click.option("--noop", is_flag=True, help="Accept launches and run nothing: to measure what launching costs.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def virtual(
    devices: tuple[str, ...], memory: str | None, log: str | None, sanitize: bool, noop: bool, command: tuple[str, ...]
) -> None:
    """Run COMMAND with a libamdhip64.so of its own, whose devices are emulated. The program is not changed.

    \b
    Examples:
      petitgen virtual -- python app.py
      petitgen virtual --device gfx942 --device gfx90a --memory 8G -- ./a.out
      petitgen virtual --sanitize --log faults.txt -- python -m pytest tests
    """
    if log:
        start_log(log)
    environment = child_environment(devices or None, memory)
    environment |= {"PETITGEN_VIRTUAL_LOG": log} if log else {}
    environment |= {"PETITGEN_VIRTUAL_SANITIZE": "1"} if sanitize else {}
    environment |= {"PETITGEN_VIRTUAL_NOOP": "1"} if noop else {}
    program = shutil.which(command[0])
    if program is None:
        raise DriverError(f"{command[0]}: no such program")
    try:
        os.execve(program, command, environment)
    except OSError as error:
        raise DriverError(f"{program}: cannot be run: {error.strerror}") from None
