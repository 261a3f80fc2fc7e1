"""Philox4x32-10, a random function of a counter and a key.

Source: Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3. SC'11.
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_AT_ONCE = 1 << 18  # counters; bounds the working memory

Counter = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Counter, key: tuple[int, int]) -> Counter:
    """Four 32-bit words for each counter of four 32-bit words and a key of two; tensors are int64, 0 to 2^32 - 1."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """Upper and lower word. In halves of a: int64 has no room for 64 unsigned bits."""
    lower, upper = (a & 0xFFFF) * b, (a >> 16) * b
    return (lower >> 16) + upper >> 16, lower + ((upper & 0xFFFF) << 16) & _MASK


def words(seed: int, offset: int, count: int, device: torch.device) -> Tensor:
    """Word i % 4 of counter offset + i // 4 for each i below `count`: int64 [count], 0 to 2^32 - 1.

    seed    key, its lower 32 bits first
    offset  of a counter of 64 bits that wraps, its lower 32 bits first; the counter's upper two words are 0
    """
    key = seed & _MASK, seed >> 32
    result = torch.empty(-(-count // 4), 4, dtype=torch.int64, device=device)
    for first in range(0, len(result), _AT_ONCE):
        part = result[first : first + _AT_ONCE]
        low = (offset & _MASK) + torch.arange(first, first + len(part), device=device)
        zero = torch.zeros_like(low)
        counter = low & _MASK, ((offset >> 32) + (low >> 32)) & _MASK, zero, zero
        torch.stack(philox4x32(counter, key), dim=-1, out=part)
    return result.flatten()[:count]
