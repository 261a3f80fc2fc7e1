"""Tensors to a quantized form and back. docs/quantization.md defines every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime.errors import OperandError
from runtime.formats import FORMATS, WeightFormat
from runtime.memory import number
from runtime.quantize import elements, philox, scales
from runtime.quantize.blocks import Blocks

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BLOCKED = tuple(name for name, fmt in FORMATS.items() if fmt.block)
_ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A tensor in a block-scaled 4-bit format.

    format    one of runtime.formats.FORMATS
    codes     uint8, `shape` with half as many along `axis`: two E2M1 codes a byte, the lower nibble is the even one
    scales    uint8, `shape` with ceil(length / block) along `axis`, and along the other of the last two axes if
              block_2d: E4M3FN, E8M0 or UE5M3 codes
    outer     float32 [] that multiplies the scales; None for MXFP4
    axis      along which blocks lie, from 0
    shape     of the tensor that was quantized
    block_2d  blocks are squares of the last two axes
    """

    format: str
    codes: Tensor
    scales: Tensor
    outer: Tensor | None
    axis: int
    shape: tuple[int, ...]
    block_2d: bool


def quantize(
    format: str,
    x: Tensor,
    *,
    axis: int = -1,
    block_2d: bool = False,
    outer_scale: float | Tensor | None = None,
    rounding: str = "nearest",
    seed: int | None = None,
    offset: int = 0,
) -> Quantized:
    """Quantize x, float32, bfloat16 or float16 of any shape on any device, in blocks along `axis`.

    format       "nvfp4", "mxfp4" or "amdfp4"
    block_2d     one scale for 16 by 16 elements (MXFP4: 32 by 32) of the last two axes, one of which is `axis`
    outer_scale  a positive number, or a tensor of one; None: from the largest magnitude of x. MXFP4 has none
    rounding     of elements: "nearest", ties to even, or "stochastic", which needs a seed. Scales: always the nearest
    seed         0 to 2^64 - 1. The same seed and offset give the same bits, on every device
    offset       0 to 2^64 - 1, counts fours of elements: x takes numel / 4 of them, rounded up

    The length along `axis` is even, and need not be a multiple of the block: the last block is what is there.
    Raises OperandError. What is computed: docs/quantization.md.
    """
    fmt = format_of(format)
    axis = checked(x, axis, block_2d)
    words = _words(x, rounding, seed, offset)
    blocks = Blocks(fmt.block, block_2d)
    outer = None
    if fmt.outer_scale:
        outer = scales.outer_of(wide(x), fmt.scale) if outer_scale is None else given_outer(outer_scale, x.device)
    elif outer_scale is not None:
        raise OperandError(
            f"outer_scale is given, but {fmt.name} has no scale beside those of the blocks: leave it out"
        )
    codes, found = to_codes(fmt, x, axis, blocks, outer, words)
    return Quantized(fmt.name, codes, found, outer, axis, tuple(x.shape), block_2d)


def dequantize(q: Quantized, dtype: torch.dtype = torch.float32) -> Tensor:
    """The values of q in `dtype`: float32, bfloat16 or float16. OperandError for another one, or a q that is none."""
    fmt = complete(q)
    steps = scales.values(fmt.scale, q.scales)
    if q.outer is not None:
        steps = steps * q.outer.reshape(())
    return from_codes(q.codes, steps, q.axis, Blocks(fmt.block, q.block_2d), dtype)


def checkpoint(q: Quantized) -> tuple[Tensor, Tensor, Tensor | None]:
    """weight, weight_scale and weight_scale_2 as checkpoints have them: runtime.pack(q.format, *checkpoint(q)).

    uint8 [..., N, K/2], uint8 [..., N, K/block], float32 [] or None, K being q.axis. Each row has scales of its own:
    those of 2D blocks are repeated. For packing, K is a multiple of the block.
    """
    block = complete(q).block
    weight, found = (t.movedim(q.axis, -1) for t in (q.codes, q.scales))
    if q.block_2d:
        found = Blocks(block, True).to_rows(found, weight.shape[-2])
    return weight.contiguous(), found.contiguous(), q.outer


def to_codes(
    fmt: WeightFormat, x: Tensor, axis: int, blocks: Blocks, outer: Tensor | None, words: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Codes, two a byte along `axis`, and block scales, both uint8. words: as elements.encode, for rounding at random."""
    x = wide(x).movedim(axis, -1)
    largest = blocks.largest(x)
    if outer is None:
        found = scales.exponents(largest)
        quotients = x * blocks.spread(scales.inverse(found), x.shape)
    else:
        found = scales.inner(largest, outer, fmt.scale)
        quotients = x / blocks.spread(scales.values(fmt.scale, found) * outer, x.shape)
        zero = scales.MINIFLOATS[fmt.scale].zero
        if zero is not None:
            found = torch.where(largest == 0, zero, found).to(torch.uint8)
    codes = elements.encode(quotients, None if words is None else words.movedim(axis, -1))
    return elements.to_bytes(codes).movedim(-1, axis).contiguous(), found.movedim(-1, axis).contiguous()


def from_codes(codes: Tensor, steps: Tensor, axis: int, blocks: Blocks, dtype: torch.dtype) -> Tensor:
    """Values from codes, two a byte along `axis`, and what an element of 1 is in each block, float32."""
    if dtype not in DTYPES:
        raise OperandError(f"dtype is {dtype}: float32, bfloat16 or float16 is needed")
    values = elements.decode(elements.from_bytes(codes.movedim(axis, -1)))
    steps = steps.movedim(axis, -1)
    if steps.shape != (wanted := blocks.scales_shape(values.shape, values.ndim - 1)):
        raise OperandError(f"scales have shape {list(steps.shape)}, with axis {axis} last: {list(wanted)} is needed")
    return (values * blocks.spread(steps, values.shape)).to(dtype).movedim(-1, axis).contiguous()


def wide(x: Tensor) -> Tensor:
    return x.detach().to(torch.float32)


def format_of(format: Any) -> WeightFormat:
    if not isinstance(format, str) or format not in BLOCKED:
        raise OperandError(f"no format {format!r:.60}: known are {', '.join(BLOCKED)}; lib.quantize_rows makes FP8")
    return FORMATS[format]


def complete(q: Any) -> WeightFormat:
    """The format of q. OperandError where its tensors are not what its shape, axis and format ask for: anybody can make one."""
    if not isinstance(q, Quantized):
        raise OperandError(f"q is {type(q).__name__}: what quantize gives is needed")
    fmt = format_of(q.format)
    shape = tuple(q.shape)
    if axis_of(q.axis, shape, q.block_2d) != q.axis or shape[q.axis] % 2 or 0 in shape:
        raise OperandError(f"axis is {q.axis} of shape {list(shape)}: an axis from 0 of even length is needed, and elements")
    steps = Blocks(fmt.block, q.block_2d).scales_shape(shape, q.axis)
    for name, tensor, wanted in (("codes", q.codes, halved(shape, q.axis)), ("scales", q.scales, steps)):
        coded(name, tensor)
        if tuple(tensor.shape) != wanted or tensor.device != q.codes.device:
            raise OperandError(f"{name} have shape {list(tensor.shape)} on {tensor.device}: {list(wanted)} is needed for shape"
                               f" {list(shape)}, all on one device")  # fmt: skip
    outer = q.outer
    if (outer is None) == fmt.outer_scale or not (outer is None or is_outer(outer)):
        shown = f"{outer.dtype} {list(outer.shape)}" if isinstance(outer, Tensor) else type(outer).__name__
        raise OperandError(f"outer of {q.format} is {shown}: {'one float32' if fmt.outer_scale else 'None'} is needed")
    return fmt


def coded(name: str, tensor: Any) -> None:
    """OperandError for what cannot be codes."""
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.uint8:
        shown = f"have dtype {tensor.dtype}" if isinstance(tensor, Tensor) else f"are {type(tensor).__name__}"
        raise OperandError(f"{name} {shown}: a torch tensor of uint8 is needed")


def is_outer(outer: Any) -> bool:
    return isinstance(outer, Tensor) and outer.dtype == torch.float32 and outer.numel() == 1


def halved(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Of the codes of a tensor of this shape."""
    return (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])


def checked(x: Any, axis: int, block_2d: bool) -> int:
    """`axis` counted from 0. OperandError for a tensor that cannot be quantized along it."""
    if not isinstance(x, Tensor) or x.dtype not in DTYPES:
        what = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise OperandError(f"x is {what}: a torch tensor of float32, bfloat16 or float16 is needed")
    axis = axis_of(axis, tuple(x.shape), block_2d)
    if x.numel() == 0:
        raise OperandError(f"x has shape {list(x.shape)}: nothing to quantize")
    if x.shape[axis] % 2:
        raise OperandError(f"x has {x.shape[axis]} elements along axis {axis}: two go into a byte. Pad it with zeros")
    return axis


def axis_of(axis: Any, shape: tuple[int, ...], block_2d: bool) -> int:
    """`axis` counted from 0. OperandError for one that a tensor of this shape has not, or no squares lie along."""
    axis, axes = number(axis, "axis"), len(shape)
    if not -axes <= axis < axes:
        raise OperandError(f"axis is {axis}, but x has shape {list(shape)}")
    axis %= axes
    if block_2d and axis < axes - 2:
        raise OperandError(f"block_2d blocks lie in the last two axes, but axis is {axis} of shape {list(shape)}")
    if block_2d and axes < 2:
        raise OperandError(f"block_2d needs two axes, x has shape {list(shape)}")
    return axis


def given_outer(outer_scale: Any, device: torch.device) -> Tensor:
    """float32 [] on the device. OperandError for what is no positive number."""
    kind = outer_scale.dtype if isinstance(outer_scale, Tensor) else type(outer_scale)
    if kind in (bool, complex, torch.bool) or not isinstance(outer_scale, int | float | np.generic | np.ndarray | Tensor):
        raise OperandError(f"outer_scale is {outer_scale!r:.60}: one positive float32 number is needed")
    outer = torch.as_tensor(outer_scale, device=device).detach().to(torch.float32)
    if outer.numel() != 1 or not bool(outer.isfinite() & (outer > 0)):
        shown = outer.item() if outer.numel() == 1 else f"of shape {list(outer.shape)}"
        raise OperandError(f"outer_scale is {shown}: one positive float32 number is needed")
    return outer.reshape(())


def _words(x: Tensor, rounding: str, seed: int | None, offset: int) -> Tensor | None:
    return random_words(x, seed, offset) if rounding_of(rounding, seed) and seed is not None else None


def rounding_of(rounding: str, seed: int | None) -> bool:
    """Whether elements are rounded at random. OperandError for another word, or where a seed is missing."""
    if rounding not in _ROUNDINGS:
        raise OperandError(f"rounding is {rounding!r}: {' or '.join(_ROUNDINGS)} is needed")
    if rounding != "nearest" and seed is None:
        raise OperandError("seed is missing: stochastic rounding is a function of a seed and an offset")
    return rounding != "nearest"


def numbers_of(seed: Any, offset: Any) -> tuple[int, int]:
    """Both, as ints. OperandError for what is no seed or no offset."""
    found = number(seed, "seed"), number(offset, "offset")
    for name, value in zip(("seed", "offset"), found, strict=True):
        if not 0 <= value < 1 << 64:
            raise OperandError(f"{name} is {value}: a number from 0 to 2^64 - 1 is needed")
    return found


def random_words(x: Tensor, seed: int, offset: int) -> Tensor:
    """A random word for each element of x, by its place in the flattened tensor."""
    return philox.words(*numbers_of(seed, offset), x.numel(), x.device).reshape(x.shape)
