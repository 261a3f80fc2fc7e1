"""The petitgen command. Commands are imported when they are called: --help and completion stay quick."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from petitgen import __version__
from petitgen.errors import PetitgenError
from runtime.errors import RuntimeLibraryError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "build": ("petitgen.cli.build:build", "Build kernels into generated/<arch>/."),
    "list": ("petitgen.cli.listing:list_", "List the kernels there are, and which are built and verified."),
    "show": ("petitgen.cli.listing:show", "Show the spec of kernels, or the HIP source rendered from it."),
    "inspect": (
        "petitgen.cli.inspect:inspect",
        "Read built code objects: resources, instructions, assembly.",
    ),
    "verify": ("petitgen.verify.command:verify", "Run built kernels on the emulator against float64."),
    "tune": ("petitgen.cli.tune:tune", "Find the fastest kernel for each problem, on the model or a device."),
    "profile": ("petitgen.cli.profile:profile", "Model how long kernels take on a GPU, and why."),
    "emulate": (
        "petitgen.cli.emulate:emulate",
        "Run any gfx90a or gfx942 code object on the emulated device.",
    ),
    "virtual": (
        "petitgen.cli.virtual:virtual",
        "Run a program with emulated gfx90a and gfx942 devices as its HIP devices.",
    ),
    "doctor": ("petitgen.cli.doctor:doctor", "Say what this machine has, what is missing and what to do."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and help line, and imports one when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (PetitgenError, RuntimeLibraryError) as error:
            raise Failure(str(error)) from error


class Failure(click.ClickException):
    """An error the user can act on: its message on stderr, exit status 1."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"petitgen: {self.message}", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="petitgen")
def main() -> None:
    """Ahead-of-time FP4/FP8 GEMM kernels for AMD gfx90a and gfx942.

    \b
    Examples:
      petitgen build --arch gfx942
      petitgen list 'gemm_nvfp4_*__gfx942_*'
      petitgen verify --arch gfx90a
      petitgen doctor

    NAMES are kernel names; globs work (quote them).
    """
