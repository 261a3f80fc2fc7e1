"""What a sanitizer found, and the collection of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from petitgen.emulator.state import Batch
from petitgen.isa.model import Instruction


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault at one instruction.

    check        wait, hazard, race, barrier, undefined, out-of-range, misaligned, scratch
    message      what is wrong: the register, counter, address or wait states, and the other instruction involved
    kernel       symbol
    pc           byte offset of the instruction from the entry of the kernel (negative in functions before it)
    text         its disassembly
    wave         first wave that met it, numbered in its workgroup; workgroup: number in the grid, x fastest
    lanes        64-bit mask of the lanes concerned; all ones where lanes play no part
    count        how often it was met (waves)
    source       "file:line" where the code object has line info, else ""
    place        "symbol+offset" in the function that the instruction is in, if it is not the kernel, else ""
    """

    check: str
    message: str
    kernel: str
    pc: int
    text: str
    workgroup: int
    wave: int
    lanes: int
    count: int
    source: str = ""
    place: str = ""

    def __str__(self) -> str:
        lanes = "" if self.lanes == (1 << 64) - 1 else f", lanes {self.lanes:#018x}"
        source = f"{self.source}: " if self.source else ""
        place = f"{self.place} (called from {self.kernel})" if self.place else f"{self.kernel}+{self.pc:#x}"
        return (
            f"{self.check}: {source}{place} `{self.text}`: {self.message} "
            f"(workgroup {self.workgroup}, wave {self.wave}{lanes}; met {self.count} times)"
        )


@dataclass(slots=True)
class _Entry:
    instruction: Instruction
    workgroup: int
    wave: int
    lanes: int
    count: int


class Findings:
    """Findings of a launch, one for each (check, pc, message)."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int, str], _Entry] = {}

    def add(
        self,
        check: str,
        message: str,
        instruction: Instruction,
        workgroup: int,
        wave: int,
        lanes: int = (1 << 64) - 1,
        count: int = 1,
    ) -> None:
        """Note a fault; a repeated one only counts. `workgroup` and `wave` as in Finding."""
        key = check, instruction.pc, message
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(instruction, workgroup, wave, lanes, count)
        else:
            entry.count += count
            entry.lanes |= lanes

    def __len__(self) -> int:
        return len(self._entries)

    def named(self, kernel: str, base: int) -> Iterator[Finding]:
        """As Finding objects, by pc; `base` is the kernel's entry, subtracted from every pc."""
        for (check, pc, message), e in sorted(self._entries.items(), key=lambda item: (item[0][1], item[0][0], item[0][2])):
            yield Finding(check, message, kernel, pc - base, e.instruction.text, e.workgroup, e.wave, e.lanes, e.count)


def place(batch: Batch, wave: int) -> tuple[int, int]:
    """(workgroup in the grid, wave in its workgroup) of a wave of a batch, as Findings.add wants them."""
    first = int(np.searchsorted(batch.workgroup, batch.workgroup[wave]))
    return batch.workgroup_name(wave), wave - first
