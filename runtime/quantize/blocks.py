"""Where blocks lie in a tensor: along its last axis, or squares of its last two. The last block may be a part of one."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True, slots=True)
class Blocks:
    """size: elements along an axis. square: blocks are size by size, else 1 by size."""

    size: int
    square: bool

    def largest(self, x: Tensor) -> Tensor:
        """The largest magnitude in each block, NaN where there is one: [..., L] -> [..., ceil(L/size)]."""
        result = self._largest(x.abs())
        return self._largest(result.mT).mT if self.square else result

    def _largest(self, magnitudes: Tensor) -> Tensor:
        padded = pad(magnitudes, (0, -magnitudes.shape[-1] % self.size))
        return padded.unflatten(-1, (-1, self.size)).amax(-1)

    def scales_shape(self, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Of the scales of a tensor of this shape. axis: along which blocks lie, from 0."""
        axes = range(len(shape))[-2:] if self.square else (axis,)
        return tuple(-(-length // self.size) if i in axes else length for i, length in enumerate(shape))

    def spread(self, scales: Tensor, shape: tuple[int, ...]) -> Tensor:
        """For each element of a tensor of this shape what its block has in `scales`."""
        result = scales.repeat_interleave(self.size, -1)[..., : shape[-1]]
        return self.to_rows(result, shape[-2]) if self.square else result

    def to_rows(self, scales: Tensor, rows: int) -> Tensor:
        """Scales of square blocks for each row: [..., ceil(rows/size), n] -> [..., rows, n]."""
        return scales.repeat_interleave(self.size, -2)[..., :rows, :]
