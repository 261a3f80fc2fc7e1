"""Codes from one order of their bits to another: table lookups on 16 bits at a time, nothing is computed a bit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import OperandError
from runtime.formats import BYTES, CODE_BITS, HOST_ORDER, ORDER_SHAPES, ORDERS, WINDOW_SCALES

_WORDS_AT_ONCE = 1 << 17  # 1 MiB of codes: bounds the working memory, and what is looked up stays in the cache


def reorder(codes: NDArray[np.uint8], order: str, given: str = HOST_ORDER) -> NDArray[np.uint8]:
    """Packed codes [tiles k, tiles n, ...] of order `given` in another order, of the shape ORDER_SHAPES[order].

    The array itself where nothing changes, as with 8-bit codes, else a new one; working memory of a few MiB beside it.
    """
    if codes.shape[2:] == ORDER_SHAPES[BYTES]:
        return codes
    _check(order, given)
    shape = (*codes.shape[:2], *ORDER_SHAPES[order])
    if order == given:
        return codes.reshape(shape)
    words = np.ascontiguousarray(codes).reshape(-1).view("<u8")
    halves, out = words.view("<u2").reshape(-1, 4), np.empty_like(words)
    tables = _pair_tables(given, order)
    for first in range(0, words.size, _WORDS_AT_ONCE):
        part, into = halves[first : first + _WORDS_AT_ONCE], out[first : first + _WORDS_AT_ONCE]
        np.take(tables[0], part[:, 0], out=into)
        for half in range(1, 4):
            into |= tables[half][part[:, half]]
        if order == "fnuz":
            _clear_zeros(into)
    return out.view(np.uint8).reshape(shape)


def _clear_zeros(words: NDArray[np.uint64]) -> None:
    """Takes the sign from zeros, in order fnuz: bytes with a magnitude in the lower half and its sign on top, and the same
    in a dword that is rotated right by 4."""
    dwords = words.view("<u4")
    dwords &= ~_signs_of_zeros(dwords)
    turned = _signs_of_zeros(dwords >> np.uint32(4) | dwords << np.uint32(28))
    dwords &= ~(turned << np.uint32(4) | turned >> np.uint32(28))


def _signs_of_zeros(dwords: NDArray[np.uint32]) -> NDArray[np.uint32]:
    some = (dwords | dwords >> np.uint32(1) | dwords >> np.uint32(2)) & np.uint32(0x01010101)
    return np.uint32(0x80808080) & ~(some << np.uint32(7))


def rescale(scales: NDArray[np.uint8], format: str, order: str, given: str = HOST_ORDER) -> NDArray[np.uint8]:
    """Packed scale bytes of order `given` as those of another order: the array itself where nothing changes, else a new one."""
    if not scales.size:  # of 8-bit codes
        return scales
    _check(order, given)
    if format != "nvfp4" or (order == "window") == (given == "window"):
        return scales
    return _window_tables()[given == "window"][scales]


def _check(*orders: str) -> None:
    for name in orders:
        if name not in ORDERS:
            raise OperandError(f"no code order {name!r}: known are {', '.join(ORDERS)}")


@lru_cache(maxsize=1)
def _window_tables() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """From E4M3 bytes to those of order window, and back: uint8 [256], zero for bytes that do not occur."""
    there, back = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    window = np.frombuffer(WINDOW_SCALES, np.uint8)
    there[: window.size] = window
    back[window] = np.arange(window.size)
    return there, back


def order_of(codes_shape: tuple[int, ...]) -> str:
    """The order that codes of this shape are in. OperandError for a shape that no packed codes have."""
    for order, tail in ORDER_SHAPES.items():
        if tuple(codes_shape[2:]) == tail:
            return order
    shapes = " or ".join(f"[.., .., {', '.join(map(str, tail))}] ({name})" for name, tail in ORDER_SHAPES.items())
    raise OperandError(f"codes has shape {list(codes_shape)}, which tells the order of its codes: {shapes} is needed")


def scatter_bits(low: NDArray[np.uint16], high: NDArray[np.uint16]) -> NDArray[np.uint32]:
    """Dwords of the host order from the codes of g = 0 and g = 1, four nibbles each, lowest k in the lowest nibble."""
    table = _dword_tables()[0]
    return table[0][low] | table[1][high]


def gather_bits(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The inverse: eight nibbles in order of k from dwords of the host order."""
    table = _dword_tables()[1]
    return table[0][words & 0xFFFF] | table[1][words >> 16]


@lru_cache(maxsize=1)
def _dword_tables() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The bit permutation CODE_BITS and its inverse, each as two tables over 16-bit halves: uint32 [2, 65536]."""
    place = [bits[3 - bit] for bits in CODE_BITS for bit in range(4)]  # natural bit 4 i + b -> kernel bit
    inverse = [place.index(bit) for bit in range(32)]
    return _half_tables(place, np.uint32), _half_tables(inverse, np.uint32)


@lru_cache(maxsize=len(ORDERS))
def _pair_tables(given: str, order: str) -> NDArray[np.uint64]:
    """From one order of a pair of dwords to another: uint64 [4, 65536]."""
    moves = {old: new for here, there in zip(ORDERS[given], ORDERS[order], strict=True)
             for old, new in zip(here, there, strict=True)}  # fmt: skip
    return _half_tables([moves[bit] for bit in range(64)], np.uint64)


def _half_tables(place: list[int], kind: type[np.uint32] | type[np.uint64]) -> NDArray[Any]:
    """Bit i goes to place[i]: one table for each 16 bits of the input, whose results are to be OR-ed."""
    values: NDArray[Any] = np.arange(1 << 16, dtype=kind)
    tables: NDArray[Any] = np.zeros((len(place) // 16, 1 << 16), kind)
    for bit, to in enumerate(place):
        tables[bit // 16] |= ((values >> kind(bit % 16)) & kind(1)) << kind(to)
    return tables
