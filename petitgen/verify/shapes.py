"""Which problem sizes a kernel is verified at, from the facts of its tile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, product

from petitgen.errors import VerifyError
from runtime.formats import BRICK_K

VECTOR = 8  # elements of C that a kernel may store at once when N and ldc allow it
BLOCK = 16  # K values that share one NVFP4 scale: the smallest K


@dataclass(frozen=True, slots=True)
class Shape:
    """C[m, n] = A[m, k] x W[n, k]^T, all in elements.

    pad_a, pad_c  elements of gap after each row of A and C (the pitch is rounded up to what the kernel takes)
    """

    m: int
    n: int
    k: int
    pad_a: int = 0
    pad_c: int = 0

    def lda(self, multiple: int = 1) -> int:
        """Row pitch of A."""
        return _round_up(self.k + self.pad_a, multiple)

    def ldc(self, multiple: int = 1) -> int:
        """Row pitch of C."""
        return _round_up(self.n + self.pad_c, multiple)

    def __str__(self) -> str:
        pads = f"+{self.pad_a},{self.pad_c}" if self.pad_a or self.pad_c else ""
        return f"{self.m}x{self.n}x{self.k}{pads}"


def parse_shape(text: str) -> Shape:
    """A shape from 'M,N,K'. Raises VerifyError when the text is no shape NVFP4 can have."""
    try:
        m, n, k = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise VerifyError(f"shape {text!r}: three integers M,N,K are needed, e.g. 17,128,272") from None
    if m < 1 or n < 1 or k < 1 or k % BLOCK:
        raise VerifyError(f"shape {text!r}: M and N must be at least 1 and K a positive multiple of {BLOCK}")
    return Shape(m, n, k)


def default_shapes(tile: Mapping[str, int], k_multiple: int = BLOCK) -> tuple[Shape, ...]:
    """M = N = 1; one below, at and above the tile in M and N, K from one block; row gaps; several tiles.

    tile: the manifest's: m, n, k (depth of A in one step) and stages (of weights in flight).
    """
    depths = cycle(_depths(tile, k_multiple))
    edges = [Shape(m, n, next(depths)) for m, n in product(_around(tile["m"]), _around(tile["n"]))]
    ragged = _round_up(tile["k"] + 1, k_multiple)
    return (
        Shape(1, 1, k_multiple),
        *edges,
        Shape(tile["m"] + 1, tile["n"] + 1, ragged, pad_a=24, pad_c=5),
        Shape(tile["m"] + 1, tile["n"] + VECTOR, ragged, pad_a=8, pad_c=VECTOR),
        Shape(2 * tile["m"] + 1, 2 * tile["n"] + 1, _pipeline(tile) + ragged),
    )


def _around(size: int) -> tuple[int, ...]:
    return tuple(value for value in (size - 1, size, size + 1) if value >= 1)


def _depths(tile: Mapping[str, int], k_multiple: int) -> list[int]:
    """K values: one block, then near one stage, two and the whole weight pipeline, multiples or not."""
    pipeline = _pipeline(tile)
    wanted = (
        k_multiple,
        pipeline - k_multiple,
        tile["k"],
        tile["k"] + k_multiple,
        2 * k_multiple,
        pipeline + k_multiple,
        tile["k"] - k_multiple,
        2 * pipeline + 3 * k_multiple,
        pipeline,
    )
    return list(dict.fromkeys(_round_up(depth, k_multiple) for depth in wanted if depth >= k_multiple))


def _pipeline(tile: Mapping[str, int]) -> int:
    """K of all weight stages in flight, one turn of a kernel's loop. A stage is one brick at least."""
    return tile["stages"] * max(tile["k"], BRICK_K)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
