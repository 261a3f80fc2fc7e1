"""Where findings are: their functions, and their source lines from a code object's .debug_line section (compile with
-gline-tables-only)."""

from __future__ import annotations

import bisect
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from petitgen.emulator.sanitizer.findings import Finding
from petitgen.isa import CodeObject, Kernel

# What pyelftools raises on debug information that is damaged or of a version it does not know.
_FAULTS = (
    ELFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    UnicodeDecodeError,
)


# How the messages of findings name another instruction: by its offset from the kernel.
_OTHER = re.compile(r"(?<= at )\+(-?0x[0-9a-f]+)")


class LineTable:
    """Where in the source the instructions come from. Empty where the code object does not say."""

    def __init__(self, elf: bytes) -> None:
        try:
            rows = sorted(
                _rows(elf), key=lambda row: (row[0], row[1] != "")
            )  # an end before what starts there
        except _FAULTS:
            rows = []  # findings are worth more than their lines
        self._addresses = [address for address, _ in rows]
        self._places = [place for _, place in rows]

    def __len__(self) -> int:
        return len(self._addresses)

    def at(self, address: int) -> str:
        """ "file:line" of the instruction at a virtual address, "" if it is not known."""
        index = bisect.bisect_right(self._addresses, address) - 1
        return self._places[index] if index >= 0 else ""


def with_sources(findings: Iterable[Finding], code: CodeObject, kernel: Kernel) -> tuple[Finding, ...]:
    """The findings of a kernel with `source` and `place` filled in, and other functions named in their messages."""
    listed = tuple(findings)
    if not listed:
        return ()
    table = LineTable(code.elf)

    def other(match: re.Match[str]) -> str:
        return _function_place(code, kernel, int(match[1], 16)) or match[0]

    return tuple(
        replace(
            finding,
            source=table.at(kernel.entry + finding.pc),
            place=_function_place(code, kernel, finding.pc),
            message=_OTHER.sub(other, finding.message),
        )
        for finding in listed
    )


def _function_place(code: CodeObject, kernel: Kernel, offset: int) -> str:
    """ "symbol+offset" of an offset from the kernel that is in another function, else ""."""
    function = code.function_at(kernel.entry + offset)
    if function is None or function.address == kernel.entry:
        return ""
    return f"{function.name}+{kernel.entry + offset - function.address:#x}"


def _rows(elf: bytes) -> Iterator[tuple[int, str]]:
    """(address, "file:line"), and (address, "") where a sequence ends.

    A line 0, the compiler's way to say that an instruction is of no line in particular, is left out: it
    counts to the line before.
    """
    file = ELFFile(io.BytesIO(elf))
    if not file.has_dwarf_info():
        return
    dwarf = file.get_dwarf_info()
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        names = _file_names(program.header)
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if state.end_sequence:
                yield state.address, ""
            elif state.line and state.file in names:
                yield state.address, f"{names[state.file]}:{state.line}"


def _file_names(header: Any) -> dict[int, str]:
    """Names by the number that line rows use: from 1 before DWARF 5, from 0 since."""
    first = 0 if header.version >= 5 else 1
    names = (entry.name.decode("utf-8", "replace") for entry in header.file_entry)
    return {number: PurePosixPath(name).name for number, name in enumerate(names, first)}
