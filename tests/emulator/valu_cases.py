"""Operands for the tests of vector operations, and a harness that runs an op on them and a scalar expectation
beside it.

An expectation is a function of Python numbers: unsigned integers for u and b types, signed ones for i types,
bit patterns (integers) for f types, tuples for packed ones. It returns the same, or a tuple in the order of
the destinations.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from petitgen.emulator import registry
from petitgen.isa import tables

W = 6
ROWS = {row.mnemonic: row for row in tables.rows() if row.mnemonic.startswith("v_")}
UNSIGNED = {16: np.uint16, 32: np.uint32, 64: np.uint64}
F_EDGES = {
    16: [
        0, 1, 0x3FF, 0x400, 0x3C00, 0x3C01, 0x3BFF, 0x4000, 0x3800, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x5BFF,
        0x1400,
    ],
    32: [
        0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x3F800001, 0x3F7FFFFF, 0x40000000, 0x3F000000, 0x7F7FFFFF,
        0x7F800000, 0x7F800001, 0x7FC00000, 0x4B000001, 0x4F000000, 0x33800000, 0x477FE000, 0x477FF000,
        0x00800001, 0x3EFFFFFF,
    ],
    64: [
        0, 1, 0xFFFFFFFFFFFFF, 0x10000000000000, 0x3FF0000000000000, 0x3FF0000000000001, 0x3FEFFFFFFFFFFFFF,
        0x4000000000000000, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000,
        0x41DFFFFFFFC00000, 0x41F0000000000000,
    ],
}  # fmt: skip


def bits_of(kind: str) -> int:
    return int(kind.removeprefix("pk_")[1:])


def edges(kind: str) -> list[int]:
    """Bit patterns worth trying for an element type."""
    bits = bits_of(kind)
    if kind.removeprefix("pk_")[0] == "f":
        return F_EDGES[bits] + [pattern | 1 << (bits - 1) for pattern in F_EDGES[bits]]
    top = 1 << bits
    small = [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF]
    half = 1 << bits // 2
    return [*small, top // 2 - 1, top // 2, top // 2 + 1, top - 1, top - 2, half - 1, half]


def patterns(kind: str, count: int, generator: np.random.Generator) -> np.ndarray:
    """Bit patterns of a type, a third of them edges, a third small in magnitude, the rest random."""
    bits = bits_of(kind)
    random = np.frombuffer(generator.bytes(count * bits // 8), UNSIGNED[bits]).copy()
    if kind.removeprefix("pk_")[0] == "f":  # exponents near each other, so that sums and products meet
        mantissa = {16: 10, 32: 23, 64: 52}[bits]
        bias = (1 << (bits - 2 - mantissa)) - 1
        exponent = generator.integers(bias - 5, bias + 6, count).astype(UNSIGNED[bits]) << UNSIGNED[bits](
            mantissa
        )
        near = (random & UNSIGNED[bits]((1 << mantissa) - 1 | 1 << (bits - 1))) | exponent
    else:
        near = random >> generator.integers(0, bits, count).astype(UNSIGNED[bits])
    pick = generator.integers(0, 3, count)
    edge = generator.choice(np.array(edges(kind), UNSIGNED[bits]), count)
    return np.where(pick == 0, edge, np.where(pick == 1, near, random)).astype(UNSIGNED[bits])


def operand(kind: str, generator: np.random.Generator) -> np.ndarray:
    """An operand as the executor would give it."""
    if kind in ("mask", "vcc"):
        return generator.integers(0, 2, (W, 64)).astype(bool)
    if kind == "mix":
        return patterns("f32", W * 64, generator).reshape(W, 64)
    if kind == "b128":
        return patterns("b32", 4 * W * 64, generator).reshape(4, W, 64)
    dtype = {"f": "f", "i": "i"}.get(kind.removeprefix("pk_")[0], "u") + str(bits_of(kind) // 8)
    if kind in ("pk_f32", "pk_b32"):
        return patterns(kind, 2 * W * 64, generator).view(dtype).reshape(2, W, 64)
    if kind.startswith("pk_"):
        return patterns(kind, 2 * W * 64, generator).view(dtype).reshape(W, 64, 2)
    return patterns(kind, W * 64, generator).view(dtype).reshape(W, 64)


# One, infinity, a signalling and a quiet NaN.
MARKS = {
    16: (0x3C00, 0x7C00, 0x7C01, 0x7E00),
    32: (0x3F800000, 0x7F800000, 0x7F800001, 0x7FC00000),
    64: (0x3FF0000000000000, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000),
}


def telling(kind: str) -> list[int]:
    """The ten bit patterns of a type that tell most."""
    bits = bits_of(kind)
    sign = 1 << (bits - 1)
    if kind.removeprefix("pk_")[0] == "f":
        one, infinity, signalling, quiet = MARKS[bits]
        return [0, sign, 1, sign | 1, one, sign | one, infinity, sign | infinity, signalling, quiet]
    return [0, sign, 1, sign | 1, (1 << bits) - 1, sign - 1, 2, 3, sign // 2, 0x80]


def meet(sources: list[np.ndarray], kinds: list[str]) -> list[np.ndarray]:
    """The same operands, but in the first lanes the ten telling values of each type meet in every pair."""
    lanes = np.arange(100)
    turns = lanes // 10, lanes % 10, (lanes * 7 + lanes // 10) % 10, lanes % 7
    met = []
    for array, kind, turn in zip(sources, kinds, turns, strict=False):
        copy = array.copy()
        if array.dtype.kind != "b" and kind not in ("mix", "b128"):
            values = np.array(telling(kind), UNSIGNED[bits_of(kind)])[turn].view(array.dtype)
            if kind in ("pk_f32", "pk_b32"):
                copy.reshape(2, -1)[:, :100] = values
            elif kind.startswith("pk_"):
                copy.reshape(-1, 2)[:100] = values[:, None]
            else:
                copy.reshape(-1)[:100] = values
        met.append(copy)
    return met


def numbers(kind: str, array: np.ndarray) -> list[Any]:
    """The W * 64 values of an operand or a result as an expectation sees them."""
    array = np.ascontiguousarray(np.broadcast_to(array, array.shape))
    if array.dtype.kind == "f":
        array = array.view(UNSIGNED[array.dtype.itemsize * 8])
    if kind in ("pk_f32", "pk_b32", "b128"):
        return list(zip(*array.reshape(len(array), -1).tolist(), strict=True))
    if kind.startswith("pk_"):
        return [tuple(pair) for pair in array.reshape(-1, 2).tolist()]
    return array.reshape(-1).tolist()


def run(mnemonic: str, seed: int, clamp: bool = False, mods: dict[str, int] | None = None) -> Iterator[tuple]:
    """(operands, results) of every lane, as numbers."""
    row, op = ROWS[mnemonic], registry.lookup(mnemonic)
    generator = np.random.default_rng(seed)
    kinds = [row.dst[0] if kind in ("dst", "literal") else kind.split(":")[-1] for kind in row.src]
    sources = meet([operand(kind, generator) for kind in kinds], kinds)
    known = {"mods": mods or {}, "arch": row.archs[0]}
    function = op.clamped if clamp else op.function
    with np.errstate(all="ignore"):
        result = function(*sources, **{name: known[name] for name in op.keywords})
    results = result if isinstance(result, tuple) else (result,)
    columns = [numbers(kind, value) for kind, value in zip(kinds, sources, strict=True)]
    found = [numbers(kind.split(":")[-1], value) for kind, value in zip(row.dst, results, strict=False)]
    yield from zip(zip(*columns, strict=True), zip(*found, strict=True), strict=True)


def check(
    mnemonic: str,
    expected: Callable[..., Any],
    clamp: bool = False,
    same: Callable[[Any, Any], bool] = operator.eq,
    **options: Any,
) -> None:
    """Every lane's result is the `same` as the expectation of its operands."""
    for arguments, found in run(mnemonic, seed=sum(mnemonic.encode()), clamp=clamp, **options):
        want = expected(*arguments)
        want = want if isinstance(want, tuple) and len(found) > 1 else (want,)
        assert all(map(same, found, want)), (
            f"{mnemonic}{tuple(map(shown, arguments))} = {shown(found)}, expected {shown(want)}"
        )


def shown(value: Any) -> Any:
    """Numbers in hexadecimal for messages."""
    if isinstance(value, (tuple, list)):
        return tuple(map(shown, value))
    return value if isinstance(value, bool) or not isinstance(value, int) else hex(value)
