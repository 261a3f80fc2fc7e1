"""Rows sorted by expert, in blocks of one expert each: what a grouped GEMM reads, as AITER's moe_sorting makes it.

    ids      int32 [rows]            token + slot * 2^24 of each sorted row; slot: which of the token's experts it is for
    experts  int32 [rows / block]    expert of each block
    valid    int32 [1 or more]       the first says how many sorted rows count; a kernel reads it as uint32
    weights  float32 [rows]          routing weight of each sorted row

Blocks are filled up with ids whose token or slot there is none of: AITER's are tokens + topk * 2^24. Their rows of x read
zero, and nothing is stored for them. Nor is anything for blocks of an expert that is not there (below 0, or beyond the stack).
Source: ROCm/aiter, moe_sorting (sorted_token_ids, sorted_expert_ids, num_valid_ids, sorted_weights).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import OperandError
from runtime.memory import number

BLOCK = 32  # rows of a block, as AITER and Petit have them
MOST_BLOCK = MOST_EXPERTS = 1 << 16  # more than any layer has; bounds the memory that sorting takes
TOKEN_BITS = 24
MOST_TOKENS, MOST_SLOTS = 1 << TOKEN_BITS, 255
_LARGE_BLOCKS = ((1024, 128), (20, 64))  # rows an expert -> rows of a block, by the timing model: docs/runtime.md


@dataclass(frozen=True, slots=True, eq=False)
class Sorting:
    """Sorted rows of `tokens` tokens with `topk` experts each: arrays of the kind that x is of, on its device.

    weights     None: none
    experts_of  how many experts the rows were sorted for, which the stack has to have; None: any number
    """

    ids: Any
    experts: Any
    valid: Any
    weights: Any
    tokens: int
    topk: int
    block: int = BLOCK
    experts_of: int | None = None


def block_of(rows: int, experts: int) -> int:
    """A size for the blocks of `rows` rows: 32, or as large as the tiles that experts with many rows are best served with."""
    return next((block for least, block in _LARGE_BLOCKS if rows >= least * experts), BLOCK)


def most_blocks(rows: int, experts: int, block: int) -> int:
    """How many blocks `rows` rows take at the most, wherever they go."""
    return min(rows, (rows + experts * (block - 1)) // block)


def sort_by_expert(expert_indices: Any, experts: int, block: int | None = None, weights: Any = None) -> Sorting:
    """Sort rows by their expert.

    expert_indices  integers [tokens] or [tokens, topk], numpy array or torch tensor. Rows of an expert that is not from 0 to
                    `experts` - 1 are left out
    experts         how many the stack has
    block           rows of a block; None: by how many rows an expert has on average
    weights         routing weights of the shape of expert_indices, of a floating-point type: they become float32

    The result has as many rows as can be needed, so nothing waits for the device. OperandError for other operands.
    """
    shape, experts = _shape_of("expert_indices", expert_indices, _is_integer), number(experts, "experts")
    if len(shape) not in (1, 2) or (len(shape) == 2 and not 1 <= shape[1] <= MOST_SLOTS):
        raise OperandError(f"expert_indices has shape {list(shape)}: [tokens], or [tokens, topk] with a topk of at most"
                           f" {MOST_SLOTS} is needed")  # fmt: skip
    tokens, topk = shape[0], shape[1] if len(shape) == 2 else 1
    if tokens >= MOST_TOKENS:
        raise OperandError(f"{tokens} tokens: {MOST_TOKENS - 1} at the most have ids; split them")
    if weights is not None:
        _check_weights(weights, expert_indices, shape)
    block = block_of(tokens * topk, experts) if block is None else number(block, "block")
    if not 1 <= experts <= MOST_EXPERTS or not 1 <= block <= MOST_BLOCK:
        raise OperandError(f"{experts} experts, blocks of {block}: both are from 1 to {MOST_EXPERTS}")
    rows = most_blocks(tokens * topk, experts, block) * block
    sort = _sort_numpy if isinstance(expert_indices, np.ndarray) else _sort_torch
    return Sorting(*sort(expert_indices, weights, experts, block, rows), tokens, topk, block, experts)


def _shape_of(name: str, array: Any, right: Callable[[Any], bool]) -> tuple[int, ...]:
    """The shape of a numpy array or dense torch tensor of the `right` numbers."""
    if not (isinstance(array, np.ndarray) or hasattr(array, "new_full")):
        raise OperandError(f"{name} is a {type(array).__name__}: a numpy array or a torch tensor is needed")
    if not right(array):
        wanted = "float16, bfloat16, float32 or float64 is"
        if right is _is_integer:
            wanted = "integers (are topk_ids and topk_weights swapped?) are"
        raise OperandError(f"{name} has dtype {array.dtype}: {wanted} needed")
    if not isinstance(array, np.ndarray) and str(array.layout) != "torch.strided":
        raise OperandError(f"{name} is a {array.layout} tensor: {name}.to_dense() makes one that can be sorted")
    return tuple(array.shape)


def _is_integer(array: Any) -> bool:
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "iu"
    return not (array.dtype.is_floating_point or array.dtype.is_complex or str(array.dtype) == "torch.bool" or array.is_quantized)


def _is_real(array: Any) -> bool:
    """float16, bfloat16, float32 or float64."""
    if isinstance(array, np.ndarray):
        return array.dtype.kind == "f" or array.dtype.name == "bfloat16"  # ml_dtypes' is of kind V
    return bool(array.dtype.is_floating_point and array.dtype.itemsize > 1)


def _check_weights(weights: Any, indices: Any, shape: tuple[int, ...]) -> None:
    own = _shape_of("weights", weights, _is_real)
    if own != shape:
        raise OperandError(f"weights have shape {list(own)}, expert_indices {list(shape)}: both have to be alike")
    if isinstance(weights, np.ndarray) != isinstance(indices, np.ndarray):
        raise OperandError(f"weights are a {type(weights).__name__}, expert_indices a {type(indices).__name__}: both have to be"
                           " of one kind")  # fmt: skip
    if not isinstance(weights, np.ndarray) and weights.device != indices.device:
        raise OperandError(f"weights are on {weights.device}, expert_indices on {indices.device}: both have to be on one device")


def _sort_numpy(indices: Any, weights: Any, experts: int, block: int, rows: int) -> tuple[Any, Any, Any, Any]:
    tokens, topk = indices.shape if indices.ndim == 2 else (indices.shape[0], 1)
    flat = indices.reshape(-1).astype(np.int64)
    known = np.where((flat >= 0) & (flat < experts), flat, experts)
    order = np.argsort(known, kind="stable")
    counts = np.bincount(known, minlength=experts + 1)[:experts]
    ends = np.cumsum(-(-counts // block) * block)
    # What is behind the rows is for those without an expert, and cut off.
    starts = np.append(ends + counts // -block * block, rows)
    firsts = np.append(0, np.cumsum(counts))
    expert = known[order]
    place = np.minimum(starts[expert] + np.arange(flat.size) - firsts[expert], rows)
    ids = np.full(rows + 1, topk << TOKEN_BITS | tokens, np.int64)
    ids[place] = order // topk | order % topk << TOKEN_BITS
    sorted_weights = None
    if weights is not None:
        sorted_weights = np.zeros(rows + 1, np.float32)
        sorted_weights[place] = weights.reshape(-1).astype(np.float32)[order]
        sorted_weights = sorted_weights[:rows]
    blocks = np.searchsorted(ends, np.arange(0, rows, block), side="right").astype(np.int32)
    valid = ends[-1:].astype(np.int32)
    return ids[:rows].astype(np.uint32).view(np.int32), blocks, valid, sorted_weights


def _sort_torch(indices: Any, weights: Any, experts: int, block: int, rows: int) -> tuple[Any, Any, Any, Any]:
    import torch

    tokens, topk = indices.shape if indices.dim() == 2 else (indices.shape[0], 1)
    flat = indices.reshape(-1).long()
    known = torch.where((flat >= 0) & (flat < experts), flat, experts)
    expert, order = torch.sort(known, stable=True)
    counts = flat.new_zeros(experts + 1).scatter_add_(0, known, torch.ones_like(known))
    padded = (counts + block - 1).div(block, rounding_mode="floor") * block
    ends = padded[:experts].cumsum(0)
    starts = torch.cat([ends - padded[:experts], flat.new_full((1,), rows)])
    firsts = counts.cumsum(0) - counts
    place = (starts[expert] + torch.arange(flat.numel(), device=flat.device) - firsts[expert]).clamp(max=rows)
    packed = order.div(topk, rounding_mode="floor") | order % topk << TOKEN_BITS
    ids = flat.new_full((rows + 1,), (topk << TOKEN_BITS) + tokens).scatter_(0, place, packed)
    sorted_weights = None
    if weights is not None:
        chosen = weights.reshape(-1).float()[order]
        sorted_weights = chosen.new_zeros(rows + 1).scatter_(0, place, chosen)[:rows]
    blocks = torch.searchsorted(ends, torch.arange(0, rows, block, device=flat.device), right=True)
    return ids[:rows].to(torch.int32), blocks.to(torch.int32), ends[-1:].to(torch.int32), sorted_weights
