"""Atomic read-modify-write operations, right also where lanes meet at one address.

Lanes that meet are served in the order of wave and lane, as if they came one after the other. source: CDNA3
ISA 12.12 (DS), 12.13 (MUBUF), 12.15 (FLAT): "tmp = MEM[addr]; MEM[addr] = f(tmp, data); return tmp".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Atomic:
    """function(old, *data) -> new on arrays of `dtype`; `operands` data values of the size of the memory
    word; `at`: a ufunc whose .at() does the same when no lane wants the old value."""

    dtype: type
    function: Callable[..., Array]
    operands: int = 1
    at: np.ufunc | None = None

    @property
    def size(self) -> int:
        return np.dtype(self.dtype).itemsize


def apply(
    words: Array, index: Array, data: tuple[Array, ...], atomic: Atomic, want_old: bool
) -> Array | None:
    """Run `atomic` on words[index] for 1-D `index` and 1-D `data`; the old values if wanted."""
    typed: Array = words.view(atomic.dtype)
    values: tuple[Array, ...] = tuple(np.ascontiguousarray(d).view(atomic.dtype) for d in data)
    if atomic.at is not None and not want_old:
        atomic.at.at(typed, index, *values)
        return None
    old: Array = np.empty(index.size, atomic.dtype)
    order = np.argsort(index, kind="stable")
    for lanes in _rounds(index[order], order):
        where = index[lanes]
        before = typed[where]
        old[lanes] = before
        typed[where] = atomic.function(before, *(v[lanes] for v in values))
    return old.view(words.dtype)


def _rounds(sorted_index: Array, order: Array) -> list[Array]:
    """Lanes in rounds without a repeated address: round r takes the r-th lane at every address."""
    if sorted_index.size == 0:
        return []
    starts = np.flatnonzero(np.concatenate(([True], sorted_index[1:] != sorted_index[:-1])))
    if starts.size == sorted_index.size:
        return [order]
    lengths = np.diff(np.append(starts, sorted_index.size))
    rank = np.arange(sorted_index.size) - np.repeat(starts, lengths)
    by_rank = np.argsort(rank, kind="stable")
    return np.split(order[by_rank], np.cumsum(np.bincount(rank))[:-1])


def _inc(old: Array, limit: Array) -> Array:
    return np.where(old >= limit, 0, old + 1).astype(old.dtype)


def _dec(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - 1).astype(old.dtype)


def _compare_swap(old: Array, new: Array, expected: Array) -> Array:
    return np.where(old == expected, new, old)


def _mask_or(old: Array, clear: Array, bits: Array) -> Array:
    return (old & ~clear) | bits


def _wrap(old: Array, minus: Array, plus: Array) -> Array:
    """source: CDNA3 ISA 12.12 DS_WRAP_RTN_B32: tmp >= data ? tmp - data : tmp + data2."""
    return np.where(old >= minus, old - minus, old + plus)


def _conditional_exchange(old: Array, data: Array) -> Array:
    """source: CDNA3 ISA 12.12 DS_CONDXCHG32_RTN_B64: each dword is replaced where bit 31 of its data is
    set."""
    pairs, new = old.view(np.uint32).reshape(-1, 2), data.view(np.uint32).reshape(-1, 2)
    return np.where(new >> 31, new & 0x7FFFFFFF, pairs).astype(np.uint32).reshape(-1).view(np.uint64)


def _float_min(old: Array, data: Array) -> Array:
    return np.where(np.isnan(old) | (data < old), data, old)


def _float_max(old: Array, data: Array) -> Array:
    return np.where(np.isnan(old) | (data > old), data, old)


def _packed_add_f16(old: Array, data: Array) -> Array:
    return (old.view(np.float16) + data.view(np.float16)).view(np.uint32)


def _packed_add_bf16(old: Array, data: Array) -> Array:
    """Each half is widened to f32, added, and rounded to nearest even."""
    halves = []
    for shift in (0, 16):
        a = ((old >> np.uint32(shift)) << np.uint32(16)).view(np.float32)
        b = ((data >> np.uint32(shift)) << np.uint32(16)).view(np.float32)
        total = a + b
        bits = total.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        halves.append(np.where(np.isnan(total), (bits >> np.uint32(16)) | np.uint32(0x40), rounded))
    return (halves[0] | (halves[1] << np.uint32(16))).astype(np.uint32)


def _second(old: Array, data: Array) -> Array:
    return data


def _reverse_subtract(old: Array, data: Array) -> Array:
    return data - old


def _integers(bits: int) -> dict[str, Atomic]:
    unsigned, signed = (np.uint32, np.int32) if bits == 32 else (np.uint64, np.int64)
    return {
        "swap": Atomic(unsigned, _second),
        "cmpswap": Atomic(unsigned, _compare_swap, operands=2),
        "add": Atomic(unsigned, np.add, at=np.add),
        "sub": Atomic(unsigned, np.subtract, at=np.subtract),
        "rsub": Atomic(unsigned, _reverse_subtract),
        "smin": Atomic(signed, np.minimum, at=np.minimum),
        "umin": Atomic(unsigned, np.minimum, at=np.minimum),
        "smax": Atomic(signed, np.maximum, at=np.maximum),
        "umax": Atomic(unsigned, np.maximum, at=np.maximum),
        "and": Atomic(unsigned, np.bitwise_and, at=np.bitwise_and),
        "or": Atomic(unsigned, np.bitwise_or, at=np.bitwise_or),
        "xor": Atomic(unsigned, np.bitwise_xor, at=np.bitwise_xor),
        "inc": Atomic(unsigned, _inc),
        "dec": Atomic(unsigned, _dec),
        "mskor": Atomic(unsigned, _mask_or, operands=2),
    }


_B32, _B64 = _integers(32), _integers(64)
_FLOATS = {
    "add_f32": Atomic(np.float32, np.add, at=np.add),
    "min_f32": Atomic(np.float32, _float_min),
    "max_f32": Atomic(np.float32, _float_max),
    "add_f64": Atomic(np.float64, np.add, at=np.add),
    "min_f64": Atomic(np.float64, _float_min),
    "max_f64": Atomic(np.float64, _float_max),
    "cmpswap_f32": Atomic(np.float32, _compare_swap, operands=2),
    "cmpswap_f64": Atomic(np.float64, _compare_swap, operands=2),
    "pk_add_f16": Atomic(np.uint32, _packed_add_f16),
    "pk_add_bf16": Atomic(np.uint32, _packed_add_bf16),
}

# After the family prefix and `atomic_`: BUFFER, FLAT, GLOBAL and scalar atomics.
ATOMICS: dict[str, Atomic] = {**_B32, **{f"{name}_x2": a for name, a in _B64.items()}, **_FLOATS}

# After `ds_`, without `rtn_`. DS compares first and swaps second, and spells signs in the type.
_DS_NAMES = {"min_i": "smin", "max_i": "smax", "min_u": "umin", "max_u": "umax", "add_u": "add",
    "sub_u": "sub",
             "rsub_u": "rsub", "inc_u": "inc", "dec_u": "dec", "and_b": "and", "or_b": "or", "xor_b": "xor",
             "mskor_b": "mskor", "wrxchg_b": "swap"}  # fmt: skip


def _compare_first(old: Array, expected: Array, new: Array) -> Array:
    return np.where(old == expected, new, old)


DS_ATOMICS: dict[str, Atomic] = {
    **{
        f"{ds}{bits}": table[name]
        for ds, name in _DS_NAMES.items()
        for bits, table in ((32, _B32), (64, _B64))
    },
    **{f"{kind}_{t}": _FLOATS[f"{kind}_{t}"] for kind in ("add", "min", "max") for t in ("f32", "f64")},
    "pk_add_f16": _FLOATS["pk_add_f16"],
    "pk_add_bf16": _FLOATS["pk_add_bf16"],
    "cmpst_b32": Atomic(np.uint32, _compare_first, operands=2),
    "cmpst_b64": Atomic(np.uint64, _compare_first, operands=2),
    "cmpst_f32": Atomic(np.float32, _compare_first, operands=2),
    "cmpst_f64": Atomic(np.float64, _compare_first, operands=2),
    "wrap_b32": Atomic(np.uint32, _wrap, operands=2),
    "condxchg32_b64": Atomic(np.uint64, _conditional_exchange),
}
