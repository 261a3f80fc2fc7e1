"""A trace: what each step executed, a line an instruction."""

from __future__ import annotations

from collections.abc import Callable

from petitgen.emulator.state import Array, Group, Observer
from petitgen.isa.model import Instruction


class Trace(Observer):
    """Writes `offset  waves  first wave  instruction` for every step of a group of waves.

    offset      of the instruction from `entry` (the kernel's first instruction), in bytes
    waves       how many execute it together
    first wave  workgroup.wave of the first of them
    """

    HEADER = "offset   waves  first wave  instruction"

    def __init__(self, write: Callable[[str], object], entry: int) -> None:
        self._write = write
        self._entry = entry

    def instruction(self, group: Group, instruction: Instruction) -> None:
        """See Observer."""
        batch, first = group.batch, int(group.index[0])
        in_group = first - int((batch.workgroup < batch.workgroup[first]).sum())
        place = f"{batch.workgroup_name(first)}.{in_group}"
        offset = instruction.pc - self._entry
        self._write(f"{offset:#8x} {group.n:5}  {place:10}  {instruction.text}")

    def access(
        self,
        group: Group,
        instruction: Instruction,
        space: str,
        kind: str,
        addresses: Array,
        size: int,
        active: Array,
    ) -> None:
        """See Observer; the instruction says it all."""

    def out_of_range(self, group: Group, instruction: Instruction, lanes: Array) -> None:
        """See Observer."""
