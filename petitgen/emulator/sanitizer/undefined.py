"""The registers' shadow: what in them was never given a value.

Vector registers are followed by byte and lane, scalar ones by bit, as memcheck does with memory: an undefined value may
be copied and computed with, and only what depends on it matters. Bytes of a lane are `Bytes`, uint64 (n, 4): bit l of
column b is set where byte b of lane l is undefined. Lanes are `Lanes`, uint64 (n,), one bit a lane.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from petitgen.emulator.sanitizer.footprint import AGPR, EXEC, SGPR
from petitgen.emulator.state import LANES, POISON, Batch, Group

Bytes = NDArray[np.uint64]
Lanes = NDArray[np.uint64]
Bits = NDArray[np.uint32]

ALL = np.uint64((1 << 64) - 1)
NONE = np.uint64(0)
WORD = np.uint32(0xFFFFFFFF)
SCALARS = 129  # 0-127 by encoding, 128 scc
_PLACES = np.uint64(1) << np.arange(LANES, dtype=np.uint64)


class Shadow:
    """What is undefined in the registers of a batch.

    vector  (512, W, 4): Bytes of every wave
    scalar  (129, W): undefined bits; row 128 is scc (bit 0)
    dirty   rows, numbered as in Footprint, in which anything is undefined
    A register that holds POISON in every wave at entry was not written by the dispatch.
    """

    def __init__(self, batch: Batch) -> None:
        self.vector = np.zeros((2 * AGPR, batch.waves, 4), np.uint64)
        self.scalar = np.zeros((SCALARS, batch.waves), np.uint32)
        vector = np.flatnonzero((batch.vgpr[:, 0, 0] == POISON) & (batch.vgpr[:, -1, -1] == POISON))
        scalar = np.flatnonzero((batch.sgpr == POISON).all(axis=0))
        self.vector[vector] = ALL
        self.scalar[scalar] = WORD
        self.dirty: set[int] = {int(row) for row in vector} | {SGPR + int(row) for row in scalar}


class View:
    """The shadow of the waves of a group. What it returns may be a view: not to be changed."""

    __slots__ = ("group", "shadow", "where")

    def __init__(self, shadow: Shadow, group: Group) -> None:
        self.shadow = shadow
        self.group = group
        self.where = group.where

    @property
    def exec(self) -> Lanes:
        """The lanes that are on."""
        return self.group.su64[EXEC - SGPR]

    def vector(self, row: int) -> Bytes:
        """Undefined bytes of a vector register."""
        return self.shadow.vector[row][self.where]

    def scalar(self, row: int) -> Bits:
        """Undefined bits of a scalar register or of scc; `row` as in Footprint."""
        return self.shadow.scalar[row - SGPR][self.where]

    def pair(self, row: int) -> NDArray[np.uint64]:
        """Undefined bits of two scalar registers."""
        high = self.scalar(row + 1).astype(np.uint64)
        return self.scalar(row).astype(np.uint64) | high << np.uint64(32)

    def bytes_of(self, row: int) -> Bytes:
        """Undefined bytes of any register as a vector instruction reads it: a scalar is the same in all lanes."""
        if row < SGPR:
            return self.vector(row)
        parts = self.scalar(row)[:, None] >> np.arange(0, 32, 8, dtype=np.uint32) & np.uint32(0xFF)
        return np.where(parts != 0, ALL, NONE)

    def set_vector(self, row: int, new: Bytes, lanes: Lanes | None) -> None:
        """Write a vector register in `lanes` (None: all)."""
        file = self.shadow.vector[row]
        if lanes is not None:
            chosen = lanes[:, None]
            new = (file[self.where] & ~chosen) | (new & chosen)
        file[self.where] = new
        self._mark(row, new, file)

    def set_scalar(self, row: int, new: Bits) -> None:
        """Write a scalar register or scc."""
        file = self.shadow.scalar[row - SGPR]
        file[self.where] = new
        self._mark(row, new, file)

    def set_pair(self, row: int, new: NDArray[np.uint64]) -> None:
        """Write two scalar registers."""
        self.set_scalar(row, (new & np.uint64(0xFFFFFFFF)).astype(np.uint32))
        self.set_scalar(row + 1, (new >> np.uint64(32)).astype(np.uint32))

    def define(self, row: int, lanes: Lanes | None) -> None:
        """The register, or these lanes of a vector register, have a value now."""
        if row not in self.shadow.dirty:
            return
        if row >= SGPR:
            self.set_scalar(row, np.zeros(self.group.n, np.uint32))
        else:
            self.set_vector(row, np.zeros((self.group.n, 4), np.uint64), lanes)

    def _mark(self, row: int, new: NDArray, file: NDArray) -> None:
        if new.any() or (self.group.n < len(file) and file.any()):
            self.shadow.dirty.add(row)
        else:
            self.shadow.dirty.discard(row)


def packed(lanes: NDArray[np.bool_]) -> Lanes:
    """Bool (n, 64) as Lanes."""
    return np.packbits(np.ascontiguousarray(lanes), axis=1, bitorder="little").view(np.uint64)[:, 0]


def unpacked(lanes: Lanes) -> NDArray[np.bool_]:
    """Lanes as bool (n, 64)."""
    return (lanes[:, None] & _PLACES) != 0


def moved(values: Bytes, source: NDArray[np.int64]) -> Bytes:
    """`values` with lane i taken from lane source[i], (64,) or (n, 64)."""
    where = np.broadcast_to(source, (len(values), LANES))
    columns = [packed(np.take_along_axis(unpacked(values[:, b]), where, axis=1)) for b in range(4)]
    return np.stack(columns, axis=1)


def spread(lanes: Lanes) -> Bytes:
    """All four bytes of these lanes."""
    return np.repeat(lanes[:, None], 4, axis=1)
