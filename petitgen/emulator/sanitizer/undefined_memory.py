"""Undefined bytes of memory: gathered and scattered for the lanes of a memory instruction.

`shadow` has a byte for each byte of a memory, not 0 where it is undefined. A lane touches `size` bytes at
address + start, its dwords `step` bytes apart (4, but 256 in the interleaved scratch).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from petitgen.emulator.compiled import loops


@loops
def gather(shadow: Any, start: Any, addresses: Any, active: Any, size: Any, step: Any, out: Any) -> Any:
    """Add the undefined bytes of each lane to out (dwords, n, 4) uint64. True if there is any."""
    words = shadow.view(np.uint32)
    found = False
    for i in range(addresses.shape[0]):
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            begin, bit = addresses[i, lane] + start[i], np.uint64(1) << np.uint64(lane)
            for k in range((size + 3) // 4):
                at = begin + k * step
                count = min(size - 4 * k, 4)
                if count == 4 and at & 3 == 0 and words[at >> 2] == 0:
                    continue
                for b in range(count):
                    if shadow[at + b] != 0:
                        out[k, i, b] |= bit
                        found = True
    return found


@loops
def scatter(shadow: Any, start: Any, addresses: Any, active: Any, size: Any, step: Any, values: Any) -> None:
    """Mark what is stored: undefined as values (dwords, n, 4) uint64 say."""
    for i in range(addresses.shape[0]):
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            begin, shift = addresses[i, lane] + start[i], np.uint64(lane)
            for k in range((size + 3) // 4):
                for b in range(min(size - 4 * k, 4)):
                    undefined = values[k, i, b] >> shift & np.uint64(1)
                    shadow[begin + k * step + b] = 255 if undefined else 0


@loops
def define(shadow: Any, start: Any, addresses: Any, active: Any, size: Any, step: Any) -> None:
    """Mark what is stored as defined."""
    words = shadow.view(np.uint32)
    for i in range(addresses.shape[0]):
        for lane in range(addresses.shape[1]):
            if not active[i, lane]:
                continue
            begin = addresses[i, lane] + start[i]
            for k in range((size + 3) // 4):
                at = begin + k * step
                count = min(size - 4 * k, 4)
                if count == 4 and at & 3 == 0:
                    words[at >> 2] = 0
                else:
                    for b in range(count):
                        shadow[at + b] = 0
