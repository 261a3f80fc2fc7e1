"""Kernels that quantize and dequantize: what they can be asked for, and the sizes of what they read and write."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class Conversion(IntFlag):
    """Bits of their argument `options`. Source: docs/quantization.md.

    STOCHASTIC  elements are rounded at random
    AMAX        the buffer `outer` has the largest finite magnitude of the tensor, of which the outer scale is computed
    SQUARE      blocks are squares of the last two axes
    IN_ROWS     two codes of a byte are neighbours along the last axis, and not the one before it; blocks that are no squares
                lie along the same axis
    """

    STOCHASTIC = 1
    AMAX = 2
    SQUARE = 4
    IN_ROWS = 8


class RowConversion(IntFlag):
    """Bits of the argument `options` of kernels that quantize rows to FP8.

    NORM      RMSNorm first
    RESIDUAL  before that a residual is added
    """

    NORM = 1
    RESIDUAL = 2


PLAIN = Conversion(0)
EIGHT = 8  # elements of a row that a work-item has
ROWS = 4  # and rows, if blocks lie along them
WAVE = 64


@dataclass(frozen=True, slots=True)
class View:
    """A contiguous tensor [slabs, rows, columns], quantized in blocks of `block` as `options` say."""

    slabs: int
    rows: int
    columns: int
    block: int
    options: Conversion

    @property
    def size(self) -> int:
        """Elements."""
        return self.slabs * self.rows * self.columns

    @property
    def codes(self) -> tuple[int, int, int]:
        """Shape of the codes, in bytes."""
        if self.options & Conversion.IN_ROWS:
            return self.slabs, self.rows, self.columns // 2
        return self.slabs, self.rows // 2, self.columns

    @property
    def scales(self) -> tuple[int, int, int]:
        """Shape of the scales."""
        down, across = -(-self.rows // self.block), -(-self.columns // self.block)
        if self.options & Conversion.SQUARE:
            return self.slabs, down, across
        return (self.slabs, self.rows, across) if self.options & Conversion.IN_ROWS else (self.slabs, down, self.columns)

    @property
    def axis(self) -> int:
        """tile.axis of the kernel that quantizes it: 3 for blocks that lie along rows, 2 for others."""
        return 3 if self.options & Conversion.IN_ROWS and not self.options & Conversion.SQUARE else 2

    def dimensions(self, op: str) -> dict[str, int]:
        """Of the grid: work-items and waves that take part."""
        down, across = -(-self.rows // self.block), -(-self.columns // self.block)
        if op == "dequantize":
            return {"items": self.codes[0] * self.codes[1] * -(-self.columns // EIGHT)}
        wide = EIGHT * WAVE * ROWS // self.block  # columns of a wave
        items = self.slabs * self.rows * across * (self.block // EIGHT)
        return {"items": items, "waves": self.slabs * down * -(-self.columns // wide)}
