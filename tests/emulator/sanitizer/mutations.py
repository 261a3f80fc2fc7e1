"""Assembly with one line left out: compile to text, delete, assemble, link."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from petitgen.toolchain import Compiler, choose
from petitgen.toolchain.flags import compile_flags

DELETED = ("s_waitcnt", "s_barrier", "s_nop")
_INSTRUCTION = re.compile(r"\t([a-z]\w+)(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Tools:
    """One compiler, and the assembler and linker that go with it."""

    name: str
    arch: str
    compiler: Compiler
    assembler: tuple[str, ...]
    linker: tuple[str, ...]

    def assembly(self, source: Path) -> str:
        """What the compiler makes of a HIP file, as text."""
        output = source.with_suffix(".s")
        flags = [*compile_flags(self.arch), "-S", source.name, "-o", output.name]
        status, text = self.compiler.run(flags, cwd=source.parent)
        assert status == 0, text
        return output.read_text()

    def link(self, assembly: str, folder: Path) -> bytes:
        """The code object of assembly text."""
        (folder / "mutant.s").write_text(assembly)
        for command in (
            [*self.assembler, "mutant.s", "-o", "mutant.o"],
            [*self.linker, "mutant.o", "-o", "mutant.hsaco"],
        ):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return (folder / "mutant.hsaco").read_bytes()


def tools(name: str, arch: str) -> Tools:
    """clang19 (Debian's LLVM 19) or ziglang."""
    if name == "clang19":
        assembler = ("llvm-mc-19", "-triple=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-filetype=obj")
        return Tools(name, arch, Compiler("test", "clang", ("clang-19",)), assembler, ("ld.lld-19", "-shared"))
    compiler = choose(arch, "ziglang").selected
    zig = compiler.command[0]
    assembler = (zig, "clang", "--target=amdgcn-amd-amdhsa", f"-mcpu={arch}", "-c")
    return Tools(name, arch, compiler, assembler, (zig, "ld.lld", "-shared"))


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction of a kernel in assembly text: number of its line, its place among the kernel's instructions."""

    number: int
    position: int
    text: str

    @property
    def mnemonic(self) -> str:
        return self.text.split()[0]


def body(assembly: str, kernel: str) -> list[Line | str]:
    """The instructions of a kernel, and the labels between them."""
    lines = assembly.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{kernel}:"))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith(".Lfunc_end"))
    found: list[Line | str] = []
    position = 0
    for number in range(start + 1, end):
        if match := re.match(r"(\.L\w+):", lines[number]):
            found.append(match[1])
        elif _INSTRUCTION.match(lines[number]):
            found.append(Line(number, position, lines[number].split(";")[0].strip()))
            position += 1
    return found


def without(assembly: str, line: Line) -> str:
    """The text with a line left out."""
    lines = assembly.splitlines()
    del lines[line.number]
    return "\n".join(lines) + "\n"


def candidates(lines: list[Line | str]) -> Iterator[Line]:
    """The lines to leave out."""
    yield from (line for line in lines if isinstance(line, Line) and line.mnemonic in DELETED)
