"""Which problems a grouped kernel is verified at, from the facts of its tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from petitgen.verify.shapes import BLOCK, MAX_PITCH, Shape
from runtime.epilogue import NONE, Epilogue

SMALLEST_BLOCK = 32  # sorted rows that have their expert in common, as MoE layers sort them
FAR_BYTES = 1 << 32  # experts from here on are beyond what 32 bits reach
WRAPS = 256  # a pitch in elements at which rows of a token's number below 2^24 come round in 32 bits


@dataclass(frozen=True, slots=True)
class GroupedShape:
    """C[token * topk + slot] = A[token, or token * topk + slot] x W[expert]^T, W [experts, n, k].

    block     sorted rows that have their expert in common
    slots     rows of A of each token: 1 or topk
    crowded   every token goes to one expert; else to any but the second, which stays empty
    strangers  some of the experts that tokens go to are not there
    spare     sorted rows beyond those that count
    far       the last expert lies more than 4 GiB behind the first
    pad_a, pad_c, slices, options  as those of a Shape
    """

    tokens: int
    topk: int
    experts: int
    n: int
    k: int
    block: int = SMALLEST_BLOCK
    slots: int = 1
    crowded: bool = False
    strangers: bool = False
    spare: int = 0
    far: bool = False
    pad_a: int = 0
    pad_c: int = 0
    slices: int = 1
    options: Epilogue = NONE

    @property
    def m(self) -> int:
        """Rows of C."""
        return self.tokens * self.topk

    @property
    def work(self) -> int:
        """Multiply-adds of one row a token and slot."""
        return self.m * self.n * self.k

    @property
    def columns(self) -> int:
        """Of C."""
        return self.options.columns(self.n)

    @property
    def plain(self) -> Shape:
        """A GEMM with this A, one expert's W and these pitches."""
        return Shape(self.tokens * self.slots, self.n, self.k, self.pad_a, self.pad_c, options=self.options)

    def __str__(self) -> str:
        said = {"on one expert": self.crowded, "with strangers": self.strangers, "far apart": self.far}
        words = "".join(f" {text}" for text, so in said.items() if so)
        options = f", {self.options.name}" if self.options else ""
        slices = f" in {self.slices} slices" if self.slices > 1 else ""
        pads = f"+{self.pad_a},{self.pad_c}" if self.pad_a or self.pad_c else ""
        return (f"{self.tokens} tokens x {self.topk} on {self.experts} experts{words}, blocks of {self.block},"
                f" {self.m}x{self.n}x{self.k}{pads}{slices}{options}")  # fmt: skip


def default_shapes(
    tile: Mapping[str, int], k_multiple: int = BLOCK, max_pitch: int = MAX_PITCH
) -> tuple[GroupedShape, ...]:
    """One row; both GEMMs of a layer with tails of N and K; all tokens on one expert; experts that are not there, and more
    rows than count; gate and up; experts more than 4 GiB apart; rows far apart. tile: the manifest's."""
    m, n = tile["m"], tile["n"]
    block = max(SMALLEST_BLOCK, m)
    ragged = -(-(tile["k"] // 2 + 1) // k_multiple) * k_multiple
    deep = -(-(tile["unit"] + tile["k"] + 1) // k_multiple) * k_multiple
    bias, routed, residual, swiglu = Epilogue.BIAS, Epilogue.ROUTED, Epilogue.RESIDUAL, Epilogue.SWIGLU
    return (
        GroupedShape(1, 1, 1, 1, k_multiple, block),
        GroupedShape(m + 3, 2, 4, n + 1, deep, block, pad_a=24),
        GroupedShape(7, 3, 5, n + 8, ragged, block, slots=3, pad_a=8, pad_c=8, slices=2, options=routed),
        GroupedShape(2 * m + 5, 1, 3, 12, deep, 2 * block, crowded=True, pad_c=WRAPS - 12),
        GroupedShape(19, 2, 3, 9, ragged, block, slots=2, strangers=True, spare=m + 3, pad_c=WRAPS - 9),
        GroupedShape(5, 2, 3, n + 2, ragged, block, spare=5, options=bias | swiglu | routed),
        GroupedShape(9, 2, 3, 2 * n + 8, deep, block, slots=2, slices=3, options=bias | Epilogue.SILU | routed | residual),
        GroupedShape(6, 2, 3, 33, ragged, block, far=True, options=bias),
        GroupedShape(3, 1, 2, 5, ragged, block, pad_a=max_pitch - ragged, pad_c=max_pitch - 5),
    )


def grouped(shapes: Sequence[Shape]) -> tuple[GroupedShape, ...]:
    """Each shape as tokens that go to four experts."""
    return tuple(
        GroupedShape(s.m, 1, 4, s.n, s.k, 128, pad_a=s.pad_a, pad_c=s.pad_c, slices=s.slices) for s in shapes
    )


def with_slices(shapes: Sequence[GroupedShape], slices: Sequence[int]) -> tuple[GroupedShape, ...]:
    """Each shape with each number of slices."""
    return tuple(replace(shape, slices=count) for shape in shapes for count in slices)
