"""Rows sorted by expert, in blocks of one expert each: what a grouped GEMM reads, as AITER's moe_sorting makes it.

    ids      int32 [rows]            token + slot * 2^24 of each sorted row; slot: which of the token's experts it is for
    experts  int32 [rows / block]    expert of each block
    valid    int32 [1 or more]       the first says how many sorted rows count
    weights  float32 [rows]          routing weight of each sorted row

Blocks are filled up with ids whose token or slot there is none of: AITER's are tokens + topk * 2^24. Their rows of x read
zero, and nothing is stored for them. Nor is anything for blocks of an expert that is not there (below 0, or beyond the stack).
Source: ROCm/aiter, moe_sorting (sorted_token_ids, sorted_expert_ids, num_valid_ids, sorted_weights).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.errors import OperandError

BLOCK = 32  # rows of a block, as AITER and Petit have them
TOKEN_BITS = 24
MOST_TOKENS, MOST_SLOTS = 1 << TOKEN_BITS, 255
_LARGE_BLOCKS = ((1024, 128), (20, 64))  # rows an expert -> rows of a block, by the timing model: docs/runtime.md


@dataclass(frozen=True, slots=True, eq=False)
class Sorting:
    """Sorted rows of `tokens` tokens with `topk` experts each: arrays of the kind that x is of, on its device.

    weights  None: none
    """

    ids: Any
    experts: Any
    valid: Any
    weights: Any
    tokens: int
    topk: int
    block: int = BLOCK


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
    block           rows of a block; None: by how many rows an expert has on average
    weights         routing weights of the shape of expert_indices

    The result has as many rows as can be needed, so nothing waits for the device. OperandError for other operands.
    """
    shape = tuple(expert_indices.shape)
    if len(shape) not in (1, 2) or (len(shape) == 2 and not 1 <= shape[1] <= MOST_SLOTS):
        raise OperandError(f"expert_indices has shape {list(shape)}: [tokens], or [tokens, topk] with a topk of at most"
                           f" {MOST_SLOTS} is needed")  # fmt: skip
    tokens, topk = shape[0], shape[1] if len(shape) == 2 else 1
    if tokens >= MOST_TOKENS:
        raise OperandError(f"{tokens} tokens: {MOST_TOKENS - 1} at the most have ids; split them")
    if weights is not None and tuple(weights.shape) != shape:
        raise OperandError(f"weights have shape {list(weights.shape)}, expert_indices {list(shape)}: both have to be alike")
    block = block or block_of(tokens * topk, experts)
    rows = most_blocks(tokens * topk, experts, block) * block
    sort = _sort_numpy if isinstance(expert_indices, np.ndarray) else _sort_torch
    return Sorting(*sort(expert_indices, weights, experts, block, rows), tokens, topk, block)


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
        sorted_weights[place] = weights.reshape(-1)[order]
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
    ids = flat.new_full((rows + 1,), topk << TOKEN_BITS | tokens).scatter_(0, place, packed)
    sorted_weights = None
    if weights is not None:
        chosen = weights.reshape(-1).float()[order]
        sorted_weights = chosen.new_zeros(rows + 1).scatter_(0, place, chosen)[:rows]
    blocks = torch.searchsorted(ends, torch.arange(0, rows, block, device=flat.device), right=True)
    return ids[:rows].to(torch.int32), blocks.to(torch.int32), ends[-1:].to(torch.int32), sorted_weights
