"""Places in the code of a kernel, in words: source line, function, offset."""

from __future__ import annotations

from functools import cached_property

from petitgen.emulator.sanitizer.lines import LineTable
from petitgen.isa import CodeObject, Kernel


class Locator:
    """Names places in the code of a kernel and of what it calls."""

    def __init__(self, code: CodeObject, kernel: Kernel) -> None:
        self._code, self._kernel = code, kernel

    @cached_property
    def _lines(self) -> LineTable:
        return LineTable(self._code.elf)

    def __call__(self, pc: int) -> str:
        """ "file:line: function+offset" of a virtual address, the line where the code object knows it."""
        function = self._code.function_at(pc)
        name, start = (function.name, function.address) if function else (self._kernel.name, self._kernel.entry)
        source = self._lines.at(pc)
        return f"{source + ': ' if source else ''}{name}+{pc - start:#x}"
