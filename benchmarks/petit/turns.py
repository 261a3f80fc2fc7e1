"""One turn of a kernel's main loop as its first wave runs it, loops inside it unrolled by running them."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import loops
import numpy as np

from petit.problems import DTYPES
from petit.wheel import Entry, Kind, Tile
from petitgen.emulator import launch
from petitgen.emulator.state import Group, Observer
from petitgen.isa import Instruction

STEPS = 12  # of the tile along K: five turns of two, and the rest


class FirstWave(Observer):
    """What wave 0 executes."""

    def __init__(self) -> None:
        self.executed: list[Instruction] = []

    def instruction(self, group: Group, instruction: Instruction) -> None:
        """See Observer."""
        if group.index[0] == 0:
            self.executed.append(instruction)

    def access(self, *_: Any) -> None:
        """See Observer; not of interest."""

    def out_of_range(self, *_: Any) -> None:
        """See Observer; not of interest."""


def measure(entry: Entry, kind: Kind, tile: Tile, mca: bool = True) -> loops.Figures:
    """Figures of Petit's main loop, which makes two steps a turn and has loops inside it for some tiles."""
    watch = FirstWave()
    n, k = math.lcm(tile.n, 64), STEPS * tile.k
    buffers = [np.zeros((tile.m, n), DTYPES[kind.activations]), np.zeros((tile.m, k), DTYPES[kind.activations])]
    buffers += [np.zeros(n * k // 2, np.uint8), np.zeros(n * k // 16, np.uint8), np.zeros(1, np.float32)]
    sizes = [np.uint32(value) for value in (tile.m, n, k)]
    launch(entry.code, entry.symbol, 1, tile.block, [*buffers, *sizes], observer=watch)
    found = loops.measure(entry.code, entry.symbol, tile.m // tile.waves_m, mca, longest_turn(watch.executed))
    if found is None:
        raise ValueError(f"{entry.symbol}: no loop")
    return found


def longest_turn(executed: Sequence[Instruction]) -> list[Instruction]:
    """What is executed between two passes of one backward branch; of all branches the longest that repeats itself.

    Where it starts in the turn depends on the branch.
    """
    taken: dict[int, list[int]] = defaultdict(list)
    for i, (one, following) in enumerate(itertools.pairwise(executed)):
        if one.mnemonic.startswith(("s_branch", "s_cbranch")) and following.pc <= one.pc:
            taken[one.pc].append(i)
    best: Sequence[Instruction] = []
    for places in taken.values():
        turns = [executed[a + 1 : b + 1] for a, b in itertools.pairwise(places)]
        for turn, again in itertools.pairwise(turns):
            same = [one.pc for one in turn] == [one.pc for one in again]
            best = turn if same and len(turn) > len(best) else best
    return list(best)
