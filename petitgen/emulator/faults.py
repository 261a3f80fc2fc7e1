"""Words for what stops a kernel: the instruction, its place, and the waves and lanes concerned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.state import Batch, Group
from petitgen.isa.model import Instruction


def named(batch: Batch, ins: Instruction) -> str:
    """The instruction: where it is, disassembled, and its bytes."""
    words = " ".join(f"{word:08x}" for word in ins.raw)
    if batch.locate is None:
        return f"{ins.mnemonic} at pc {ins.pc:#x} ({words}, {ins.arch})"
    return f"{batch.locate(ins.pc)} `{ins.text or ins.mnemonic}` ({words}, pc {ins.pc:#x})"


def wave_of(s: Group, row: int) -> str:
    """The wave in a row of the group, numbered in its workgroup."""
    wave = int(s.index[row])
    first = int(np.searchsorted(s.batch.workgroup, s.batch.workgroup[wave]))
    return f"wave {wave - first} of workgroup {s.batch.workgroup_name(wave)}"


def place(s: Group, ins: Instruction, bad: NDArray[Any]) -> tuple[str, tuple[int, int]]:
    """Words for the first wave with a bad lane, and the (row, lane) of that lane in the group.

    bad  bool (n, 64), or (n, dwords) of a scalar instruction, which has no lanes to name
    """
    row, lane = (int(i) for i in np.argwhere(bad)[0])
    words = f"{named(s.batch, ins)}, {wave_of(s, row)}"
    if ins.encoding != "SMEM":
        mask = sum(1 << int(i) for i in np.flatnonzero(bad[row]))
        others = int(bad.any(axis=1).sum()) - 1
        plural = "s" if others > 1 else ""
        words += f", lanes {mask:#018x}" + (f" (and in {others} other wave{plural})" if others else "")
        words += f", first lane {lane}"
    return words, (row, lane)
