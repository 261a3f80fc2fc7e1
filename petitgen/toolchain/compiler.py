"""One compiler that can be run: command, environment, and an identity free of machine paths."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from petitgen.errors import CodeObjectError, ToolchainError
from petitgen.isa import unbundle
from petitgen.toolchain.flags import compile_flags

EM_AMDGPU = 224

# Variables that change what a compiler makes behind our back: output would depend on the caller's shell.
UNWANTED = (
    "HIPCC_COMPILE_FLAGS_APPEND",
    "HIPCC_LINK_FLAGS_APPEND",
    "HIPCC_VERBOSE",
    "HCC_AMDGPU_TARGET",
    "HIP_COMPILER",
    "HIP_RUNTIME",
    "CCC_OVERRIDE_OPTIONS",
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "COMPILER_PATH",
    "CLANG_CONFIG_FILE_USER_DIR",
)


class CompileError(ToolchainError):
    """A compiler ran and refused. `command` can be pasted into a shell, `output` is what it said."""

    def __init__(self, name: str, command: str, output: str) -> None:
        super().__init__(f"{name}: the compiler failed\n  command: {command}\n{output}")
        self.name = name
        self.command = command
        self.output = output

    def __reduce__(self) -> tuple[type[CompileError], tuple[str, str, str]]:
        return type(self), (self.name, self.command, self.output)  # from a worker process, whole


@dataclass(frozen=True, slots=True)
class Compiler:
    """A way to compile HIP for AMD GPUs.

    route        where it was found: "--hipcc", "$HIPCC", "$ROCM_PATH", "PATH", "ziglang"
    name         "hipcc", "clang" or "ziglang"; goes into the manifest, with `version`
    command      argv prefix, absolute (machine specific, never in a manifest)
    environment  variables set on top of the caller's
    detail       one line for people: the path, and what drives what
    version      first line of the compiler's own version text; "" until probed
    """

    route: str
    name: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    detail: str = ""
    version: str = ""

    def run(
        self, arguments: Sequence[str], cwd: Path | None = None, timeout: float = 600.0
    ) -> tuple[int, str]:
        """Exit status and combined output. ToolchainError if it cannot be started or does not end."""
        argv = [*self.command, *arguments]
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=self._environ(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ToolchainError(
                f"{self.detail}: no answer in {timeout:.0f} s to {shlex.join(argv)}"
            ) from error
        except OSError as error:
            raise ToolchainError(f"{self.detail}: cannot be run: {error.strerror or error}") from error
        return done.returncode, done.stdout.decode("utf-8", "replace").strip()

    def compile(self, source: Path, arch: str) -> bytes:
        """The raw ELF code object made from `source`; what the compiler wrote stays beside it as NAME.hsaco.

        Runs in the source's directory with relative names: nothing of the path can reach the output, and
        hipcc's shell quoting of odd directory names does not matter.
        """
        output = source.with_suffix(".hsaco")
        arguments = (*compile_flags(arch), source.name, "-o", output.name)
        status, text = self.run(arguments, cwd=source.parent)
        if status != 0 or not output.exists():
            text = text or f"(no output, exit status {status})"
            raise CompileError(source.stem, self.shell_command(arguments), text)
        return self._elf(output.read_bytes(), arch)

    def _elf(self, data: bytes, arch: str) -> bytes:
        """What the compiler wrote as raw ELF; some wrap it in an offload bundle whatever the flags say."""
        try:
            code = unbundle(data, arch)
        except CodeObjectError as error:
            raise ToolchainError(f"{self.detail}: {error}") from error
        machine = int.from_bytes(code[18:20], "little")
        if not code.startswith(b"\x7fELF") or machine != EM_AMDGPU:
            what = f"an ELF for machine {machine}" if code.startswith(b"\x7fELF") else f"{code[:8]!r}..."
            raise ToolchainError(f"{self.detail}: wrote no AMDGPU code object but {what}")
        return code

    def shell_command(self, arguments: Sequence[str]) -> str:
        """What a person types to run this compiler as we do."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment]
        return " ".join([*variables, shlex.join([*self.command, *arguments])])

    @property
    def identity(self) -> dict[str, str]:
        """Name and version, for manifest and cache key."""
        return {"name": self.name, "version": self.version}

    def _environ(self, base: Mapping[str, str]) -> dict[str, str]:
        environ = {name: value for name, value in base.items() if name not in UNWANTED}
        return {**environ, "LC_ALL": "C", **dict(self.environment)}
