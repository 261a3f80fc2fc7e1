"""AMD-FP4 with the signatures and results of the conversions that AMD's training code has (AMD-AGI/ALTO)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from runtime.errors import OperandError
from runtime.memory import number
from runtime.quantize import scales as block_scales
from runtime.quantize.blocks import Blocks
from runtime.quantize.tensors import (
    DTYPES,
    Quantized,
    axis_of,
    checked,
    coded,
    format_of,
    from_codes,
    given_outer,
    is_outer,
    random_words,
    to_codes,
    wide,
)

if TYPE_CHECKING:
    from runtime.library import Library

_FORMAT = "amdfp4"


def convert_to_amdfp4(
    data_hp: Tensor,
    block_size: int = 16,
    axis: int = -1,
    is_2d_block: bool = False,
    outer_scale: Tensor | None = None,
    update_outer_scale: bool = True,
    use_sr: bool = False,
    philox_seed: int | None = None,
    philox_offset: int | None = None,
    library: Library | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes, uint8, two a byte along `axis`; scales, float32 values of UE5M3, one a block, without the outer scale.

    outer_scale         float32 of one element
    update_outer_scale  write the outer scale of data_hp to outer_scale, and use that. Without a tensor to write to it
                        is used and forgotten. False: outer_scale as it is; without one, blocks have their own scale alone
    use_sr              round elements at random; seed and offset are drawn from torch's generator where None
    library             of kernels that do it, blocks of 16 of bfloat16 or float16; None: torch does

    The rest as runtime.quantize.quantize, whose numbers these are. Raises OperandError.
    """
    axis = checked(data_hp, axis, is_2d_block)
    blocks = _blocks(block_size, is_2d_block)
    drawn = (_drawn(philox_seed), _drawn(philox_offset)) if use_sr else None
    if library is not None:
        q = _by_kernels(library, data_hp, axis, blocks, outer_scale, update_outer_scale, drawn)
        return q.codes, block_scales.values("ue5m3", q.scales)
    outer = _outer(data_hp, outer_scale, update_outer_scale)
    words = random_words(data_hp, *drawn) if drawn else None
    codes, found = to_codes(format_of(_FORMAT), data_hp, axis, blocks, outer, words)
    return codes, block_scales.values("ue5m3", found)


def convert_from_amdfp4(
    data_lp: Tensor,
    scales: Tensor,
    output_dtype: torch.dtype = torch.float32,
    block_size: int = 16,
    axis: int = -1,
    is_2d_block: bool = False,
    outer_scale: Tensor | None = None,
    library: Library | None = None,
) -> Tensor:
    """The values of what convert_to_amdfp4 gave. scales may be UE5M3 codes, uint8, too. Raises OperandError.

    library  of kernels that do it, to bfloat16 or float16, in blocks of 16; scales are then codes
    """
    coded("codes", data_lp)
    axis = axis_of(axis, tuple(data_lp.shape), is_2d_block)
    if not isinstance(scales, Tensor) or scales.dtype not in (torch.uint8, *DTYPES):
        shown = scales.dtype if isinstance(scales, Tensor) else type(scales).__name__
        raise OperandError(f"scales are {shown}: a torch tensor of float32 is needed, or of codes, uint8")
    if library is not None:
        return _back_by_kernels(library, data_lp, scales, output_dtype, _blocks(block_size, is_2d_block), axis, outer_scale)
    steps = block_scales.values("ue5m3", scales) if scales.dtype == torch.uint8 else scales.to(torch.float32)
    if outer_scale is not None:
        steps = steps * given_outer(outer_scale, steps.device)
    return from_codes(data_lp, steps, axis, _blocks(block_size, is_2d_block), output_dtype)


def _by_kernels(
    library: Library,
    x: Tensor,
    axis: int,
    blocks: Blocks,
    given: Tensor | None,
    update: bool,
    drawn: tuple[int, int] | None,
) -> Quantized:
    if blocks.size != format_of(_FORMAT).block:
        raise OperandError(f"block_size is {blocks.size}: kernels have blocks of {format_of(_FORMAT).block}; leave library out")
    _check_outer(given if update else None)
    outer = None if update else 1.0 if given is None else given
    random = {} if drawn is None else {"rounding": "stochastic", "seed": drawn[0], "offset": drawn[1]}
    q = library.quantize(_FORMAT, x, axis=axis, block_2d=blocks.square, outer_scale=outer, **random)
    if update and given is not None:
        given.copy_(q.outer.reshape(given.shape))
    return q


def _back_by_kernels(
    library: Library, codes: Tensor, scales: Tensor, dtype: torch.dtype, blocks: Blocks, axis: int, outer: Tensor | None
) -> Tensor:
    if blocks.size != format_of(_FORMAT).block or scales.dtype != torch.uint8:
        raise OperandError(f"block_size is {blocks.size} and scales are {scales.dtype}: kernels take blocks of"
                           f" {format_of(_FORMAT).block} and codes, uint8; leave library out")  # fmt: skip
    shape = tuple(2 * size if i == axis else size for i, size in enumerate(codes.shape))
    given = given_outer(1.0 if outer is None else outer, codes.device)
    return library.dequantize(Quantized(_FORMAT, codes, scales, given, axis, shape, blocks.square), dtype)


def _check_outer(given: Tensor | None) -> None:
    if given is not None and not is_outer(given):
        shown = f"{given.dtype} {list(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
        raise OperandError(f"outer_scale is {shown}: a tensor of float32 of one element is needed")


def _blocks(size: int, square: bool) -> Blocks:
    size = number(size, "block_size")
    if size < 2 or size % 2:
        raise OperandError(f"block_size is {size}: a positive even number is needed")
    return Blocks(size, square)


def _outer(x: Tensor, given: Tensor | None, update: bool) -> Tensor:
    if not update:
        return given_outer(1.0 if given is None else given, x.device)
    outer = block_scales.outer_of(wide(x), "ue5m3")
    _check_outer(given)
    if given is not None:
        given.copy_(outer.reshape(given.shape))
    return outer


def _drawn(value: int | None) -> int:
    return int(torch.randint(0, 2**31 - 1, ())) if value is None else value
