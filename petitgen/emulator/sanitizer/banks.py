"""LDS bank conflicts: how many cycles an access takes beyond what its width needs.

LDS has 32 banks of 4 bytes, which serve one dword each a cycle (lanes that want the same dword share it). So a wave is
served in groups of lanes: 32 lanes for up to 4 bytes, 16 for 8, 8 for 12 and 16. Groups are consecutive lanes, but for
reads of 16 bytes. A group takes as many cycles as the most dwords that it wants from one bank.
source: ROCm documentation, CK Tile, "Understanding AMD GPU LDS and Bank Conflicts": 32 banks, ds_write_b128 in eight
groups of consecutive lanes, ds_read_b128 in 0-3 with 20-23, 4-7 with 16-19, 8-11 with 28-31, 12-15 with 24-27 and the
same in the upper half. The groups of 16 lanes for 8 bytes follow from the 128 bytes a cycle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.compiled import loops
from petitgen.emulator.state import LANES, Array, Group
from petitgen.isa.model import Instruction

BANKS = 32
_CONSECUTIVE = np.arange(LANES)
_READ_128 = np.array(
    [
        half + lane
        for half in (0, 32)
        for low, high in ((0, 20), (4, 16), (8, 28), (12, 24))
        for first in (low, high)
        for lane in range(first, first + 4)
    ]
)


@loops
def extra_cycles(addresses: Any, active: Any, dwords: Any, order: Any, width: Any) -> Any:
    """Cycles beyond one for each group of `width` lanes, summed over groups and waves.

    addresses, active  (n, 64); dwords: that a lane wants; order: lanes, group after group
    """
    total = 0
    wanted = np.empty((BANKS, 64), np.int64)  # by bank: the dwords wanted
    counts = np.zeros(BANKS, np.int64)
    for i in range(addresses.shape[0]):
        for group in range(0, 64, width):
            counts[:] = 0
            most = 1
            for lane in order[group : group + width]:
                if not active[i, lane]:
                    continue
                first = addresses[i, lane] >> 2
                for dword in range(first, first + dwords):
                    bank = dword & 31
                    count = counts[bank]
                    known = False
                    for k in range(count):
                        if wanted[bank, k] == dword:
                            known = True
                            break
                    if not known:
                        wanted[bank, count] = dword
                        counts[bank] = count + 1
                        most = max(most, count + 1)
            total += most - 1
    return total


def groups(size: int, kind: str) -> tuple[int, NDArray[np.int64]]:
    """Lanes of a group, and the order of the lanes, for an access of `size` bytes a lane."""
    if size <= 4:
        return 32, _CONSECUTIVE
    if size <= 8:
        return 16, _CONSECUTIVE
    return 8, _READ_128 if kind == "load" else _CONSECUTIVE


class BankCount:
    """Counts bank conflicts by instruction.

    conflicts  pc -> [text, wave-instructions, extra cycles]; an instruction with two addresses counts each
    """

    def __init__(self) -> None:
        self.conflicts: dict[int, list[Any]] = {}

    def access(
        self, group: Group, ins: Instruction, space: str, kind: str, addresses: Array, size: int, active: Array
    ) -> None:
        """One component of a memory access."""
        if space != "lds":
            return
        width, order = groups(size, kind)
        entry = self.conflicts.setdefault(ins.pc, [ins.text, 0, 0])
        entry[1] += group.n
        entry[2] += int(extra_cycles(addresses, active, -(-size // 4), order, width))

    def result(self, base: int) -> dict[int, tuple[str, int, int]]:
        """By offset from `base`: disassembly, wave-instructions, extra cycles."""
        return {pc - base: (text, count, extra) for pc, (text, count, extra) in sorted(self.conflicts.items())}
