"""Which problem sizes a kernel is verified at, from the facts of its tile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product

from petitgen.errors import VerifyError
from runtime.epilogue import NONE, Epilogue
from runtime.formats import BRICK_K

VECTOR = 8  # elements of C that a kernel may store at once when N and ldc allow it
BLOCK = 16  # K values that share a scale in the format with the smallest blocks: the smallest K
MAX_PITCH = 1 << 22  # row pitch in elements where a kernel names no limit; rows are then 8 MiB apart
FAR = 1 << 16  # elements
FAR_ROWS = 5  # at that pitch 32 MiB and more: no offset of fewer than 25 bits reaches the last row


@dataclass(frozen=True, slots=True)
class Shape:
    """C[m, n] = A[m, k] x W[n, k]^T, all in elements.

    pad_a, pad_c  elements of gap after each row of A and C (the pitch is rounded up to what the kernel takes)
    lone          A has exactly one subnormal number in each `lone` rows; 0: rows of every kind
    slices        workgroups that share a tile along K
    options       of the epilogue; SwiGLU takes an even n
    """

    m: int
    n: int
    k: int
    pad_a: int = 0
    pad_c: int = 0
    lone: int = 0
    slices: int = 1
    options: Epilogue = NONE

    @property
    def work(self) -> int:
        return self.m * self.n * self.k

    def lda(self, multiple: int = 1) -> int:
        """Row pitch of A."""
        return _round_up(self.k + self.pad_a, multiple)

    def ldc(self, multiple: int = 1) -> int:
        """Row pitch of C."""
        return _round_up(self.options.columns(self.n) + self.pad_c, multiple)

    def __str__(self) -> str:
        pads = f"+{self.pad_a},{self.pad_c}" if self.pad_a or self.pad_c else ""
        lone = f", a subnormal in {self.lone} rows" if self.lone else ""
        slices = f" in {self.slices} slices" if self.slices > 1 else ""
        options = f", {self.options.name}" if self.options else ""
        return f"{self.m}x{self.n}x{self.k}{pads}{slices}{lone}{options}"


def parse_shape(text: str) -> Shape:
    """A shape from 'M,N,K'. Raises VerifyError when the text is no shape that any format can have."""
    try:
        m, n, k = (int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise VerifyError(f"shape {text!r}: three integers M,N,K are needed, e.g. 17,128,272") from None
    if m < 1 or n < 1 or k < 1 or k % BLOCK:
        raise VerifyError(f"shape {text!r}: M and N must be at least 1 and K a positive multiple of {BLOCK}")
    return Shape(m, n, k)


def default_shapes(tile: Mapping[str, int], k_multiple: int = BLOCK, max_pitch: int = MAX_PITCH) -> tuple[Shape, ...]:
    """M or N = 1; one below, at and above the tile in M and N, K from one block; row gaps; many tiles; far rows.

    tile: the manifest's: m, n, k (depth of A in one step) and stages (of weights in flight). max_pitch: the
    largest row pitch that the kernel takes, in elements.
    """
    depths = cycle(_depths(tile, k_multiple))
    edges = [Shape(m, n, next(depths)) for m, n in product(_around(tile["m"]), _around(tile["n"]))]
    ragged = _round_up(tile["k"] + 1, k_multiple)
    single = (Shape(1, 1, k_multiple), Shape(1, tile["n"] + 1, ragged), Shape(tile["m"] + 1, 1, ragged))
    return (*single, *edges, *_gaps(tile, ragged, max_pitch), *_many(tile, k_multiple, ragged))


def in_slices(shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Every third of these shapes, and the last of all, with three or two workgroups a tile by turns; for small K these are
    more than have work. Rows that are far apart are so in one slice as in several, and cost memory."""
    near = [shape for shape in shapes if max(shape.pad_a, shape.pad_c) < FAR]
    chosen = [*near[1::3], near[-1]]
    return tuple(replace(shape, slices=count) for shape, count in zip(chosen, cycle((3, 2)), strict=False))


EPILOGUES = (
    Epilogue.BIAS,
    Epilogue.RESIDUAL,
    Epilogue.BIAS | Epilogue.SILU,
    Epilogue.BIAS | Epilogue.GELU | Epilogue.RESIDUAL,
    Epilogue.GELU_TANH,
    Epilogue.SWIGLU,
    Epilogue.BIAS | Epilogue.SWIGLU | Epilogue.RESIDUAL,
)


def in_epilogues(tile: Mapping[str, int], k_multiple: int = BLOCK) -> tuple[Shape, ...]:
    """Each of EPILOGUES at a ragged shape of more than a tile; a pitch of C that lets four be stored at once by turns, and
    columns of which eight are all inside; the last in slices."""
    k = _round_up(tile["k"] // 2 + 1, k_multiple)
    gaps = cycle((0, 3, 8))
    shapes = [
        Shape(tile["m"] + 1, tile["n"] + (2 if i % 2 else 8), k, pad_c=gap, options=options)
        for i, (options, gap) in enumerate(zip(EPILOGUES, gaps, strict=False))
    ]
    return (*shapes, replace(shapes[-1], n=tile["n"] + 8, pad_c=0, slices=2))


def _gaps(tile: Mapping[str, int], k: int, max_pitch: int) -> Iterator[Shape]:
    """Pitches beyond the row: N and ldc multiples of four, both or only one of them; rows as far as can be."""
    m, n = tile["m"] + 1, tile["n"] + 1
    yield Shape(m, n, k, pad_a=24, pad_c=_round_up(n, 4) - n)
    yield Shape(m, n + 1, k, pad_c=4)
    yield Shape(m, tile["n"] + VECTOR, k, pad_a=8, pad_c=VECTOR)
    yield Shape(FAR_ROWS, n + 1, k, pad_a=max_pitch - k, pad_c=max_pitch - n - 1)


def _many(tile: Mapping[str, int], k_multiple: int, ragged: int) -> Iterator[Shape]:
    """Several tiles in every direction, then more than eight along N and along M: ids of four bits."""
    pipeline = _pipeline(tile)
    yield Shape(2 * tile["m"] + 1, 2 * tile["n"] + 1, pipeline + ragged)
    yield Shape(min(tile["m"], 3), 8 * tile["n"] + 1, ragged)
    yield Shape(8 * tile["m"] + 1, min(tile["n"], 12), pipeline - pipeline % k_multiple, lone=tile["m"])


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
    return tile.get("stages", 1) * max(tile["k"], BRICK_K)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
