"""Which deleted lines matter, decided without the sanitizer: from assembly text and the paths that waves take.

A wait is needed if some wave, on its way through the kernel without it, names a register in an instruction while
a load into that register is unfinished, or comes to an s_barrier with unfinished LDS instructions. Two loads into
one register need no wait between them where the unit returns in order. A barrier is needed where it is executed:
the kernels here have no superfluous ones. An s_nop is needed unless it parts two memory instructions: that is how
compilers end a clause, which matters to the replay of page faults (XNACK) alone and is no wait state.

source: CDNA3 ISA 4.4 "Data Dependency Resolution": vector memory returns in order, so do LDS instructions, and
scalar loads in any order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from petitgen.emulator import Observer

from .mutations import Line

Path = tuple[int, ...]  # positions of the instructions that a wave executes, in order

_REGISTER = re.compile(r"\b([vas])(\d+)\b|\b([vas])\[(\d+):(\d+)\]|\b(vcc|m0)\b")
_VECTOR = ("buffer_", "global_", "scratch_", "flat_")
_SCALAR = ("s_load_", "s_buffer_load_")
_LANES = ("ds_bpermute_", "ds_permute_", "ds_swizzle_")


@cache
def registers(text: str) -> frozenset[str]:
    """Every register that an operand text names: v[2:3] is v2 and v3."""
    found = set()
    for one, number, many, first, last, name in _REGISTER.findall(text):
        if name:
            found.add(name)
        elif one:
            found.add(one + number)
        else:
            found |= {f"{many}{n}" for n in range(int(first), int(last) + 1)}
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Access:
    """A memory instruction in flight: its unit, and the registers that it will write."""

    unit: str  # "vector", "lds" or "scalar"
    loads: frozenset[str]


@cache
def access(text: str) -> Access | None:
    """What an instruction leaves in flight."""
    mnemonic, _, operands = text.partition(" ")
    first = registers(operands.split(",")[0])
    if mnemonic.startswith(_SCALAR):
        return Access("scalar", first)
    if mnemonic.startswith("ds_"):
        loads = "_read" in mnemonic or "_rtn_" in mnemonic or mnemonic.startswith(_LANES)
        return Access("lds", first if loads else frozenset())
    if mnemonic.startswith(_VECTOR) and "_inv" not in mnemonic and "_wb" not in mnemonic:
        returns = bool(re.search(r"\b(glc|sc0)\b", operands))
        loads = "_load_" in mnemonic or ("_atomic_" in mnemonic and returns)
        return Access("vector", first if loads else frozenset())
    return None


@dataclass(slots=True)
class Wave:
    """What a wave has in flight, oldest first."""

    vector: list[Access] = field(default_factory=list)
    lgkm: list[Access] = field(default_factory=list)

    def wait(self, text: str) -> None:
        for counter, number in re.findall(r"(vmcnt|lgkmcnt)\((\d+)\)", text):
            count = int(number)
            if counter == "vmcnt":
                del self.vector[: max(len(self.vector) - count, 0)]
            elif not count:
                self.lgkm.clear()
            elif all(one.unit == "lds" for one in self.lgkm):
                del self.lgkm[: max(len(self.lgkm) - count, 0)]

    def goes_wrong(self, text: str) -> bool:
        """Execute an instruction: does it come too early?"""
        mnemonic, _, operands = text.partition(" ")
        if mnemonic == "s_waitcnt":
            self.wait(operands)
            return False
        if mnemonic == "s_barrier":
            return any(one.unit == "lds" for one in self.lgkm)
        issued = access(text)
        named = registers(operands)
        for one in (*self.vector, *self.lgkm):
            touched = named & one.loads
            if issued and issued.unit == one.unit != "scalar":  # overwriting in order is no fault, reading is
                touched &= registers(operands.partition(",")[2])
            if touched:
                return True
        if issued:
            (self.vector if issued.unit == "vector" else self.lgkm).append(issued)
        return False


def goes_wrong(path: Iterable[int], lines: Sequence[Line], leave_out: int = -1) -> bool:
    """Does a wave that takes this path come too early anywhere?"""
    wave = Wave()
    return any(wave.goes_wrong(lines[position].text) for position in path if position != leave_out)


def needed(line: Line, lines: Sequence[Line], paths: Iterable[Path]) -> bool:
    """Is a line needed on any of these paths?"""
    if line.mnemonic == "s_waitcnt":
        return any(goes_wrong(path, lines, line.position) for path in paths if line.position in path)
    if line.mnemonic == "s_nop":
        around = [access(lines[line.position + step].text) for step in (-1, 1)]
        return not all(one is not None and one.unit == around[0].unit for one in around if around[0])
    return True


class Recorder(Observer):
    """Notes the path of every wave."""

    def __init__(self, entry: int, positions: dict[int, int]) -> None:
        self._entry = entry
        self._positions = positions  # by byte offset from the entry
        self._taken: dict[tuple[int, int], list[int]] = {}

    def instruction(self, group: Any, instruction: Any) -> None:
        """See Observer."""
        position = self._positions[instruction.pc - self._entry]
        for wave in group.index:
            self._taken.setdefault((int(group.batch.numbers[0]), int(wave)), []).append(position)

    def paths(self) -> set[Path]:
        """The different ones."""
        return {tuple(path) for path in self._taken.values()}


def executed(paths: Iterable[Path]) -> Iterator[int]:
    """Positions that any wave comes to."""
    yield from {position for path in paths for position in path}
